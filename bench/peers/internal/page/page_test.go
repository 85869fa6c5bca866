package page

import (
	"os"
	"path/filepath"
	"testing"
)

func TestOnlyWhatIsBetweenTheMarksIsReplaced(t *testing.T) {
	file := filepath.Join(t.TempDir(), "page.md")
	write := func(s string) {
		if err := os.WriteFile(file, []byte(s), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const page = "# Title\n<!-- a: begin -->\nold\n<!-- a: end -->\nmiddle\n<!-- b: begin -->\n<!-- b: end -->\nend\n"
	write(page)
	for _, r := range [][2]string{{"a", "new\n"}, {"b", "newer\n"}, {"a", "newest\n"}} {
		if err := Replace(file, r[0], []byte(r[1])); err != nil {
			t.Fatal(err)
		}
	}
	const want = "# Title\n<!-- a: begin -->\nnewest\n<!-- a: end -->\nmiddle\n<!-- b: begin -->\nnewer\n<!-- b: end -->\nend\n"
	if got, err := os.ReadFile(file); err != nil || string(got) != want {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	for _, bad := range []string{"", "<!-- a: begin -->\n", "<!-- a: end -->\n<!-- a: begin -->\n"} {
		write(bad)
		if err := Replace(file, "a", []byte("new\n")); err == nil {
			t.Errorf("%q was replaced", bad)
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != bad {
			t.Errorf("%q has become %q, %v", bad, got, err)
		}
	}
}
