package braid

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The README's quick start is the runnable Example, line by line, so that it cannot rot.
func TestReadmeQuickStartIsTheExample(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(readme), "```go\n")
	code, _, end := strings.Cut(rest, "```")
	if !ok || !end {
		t.Fatal("the README has no Go code")
	}
	have := map[string]bool{}
	for line := range strings.Lines(string(example)) {
		have[strings.TrimSpace(line)] = true
	}
	have[`b, err := braid.Open("data", braid.Options{}) // one directory is the whole state`] = true // the example's is below a temporary one
	for line := range strings.Lines(code) {
		if line = strings.TrimSpace(line); line != "" && !have[line] {
			t.Errorf("not in the example: %s", line)
		}
	}
}

// What the README links to and names is there.
func TestReadmeNamesWhatExists(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`\]\(([^)#:]+)\)|\x60([a-z]+(?:/[a-z]+)*/)\x60`).FindAllStringSubmatch(string(readme), -1) {
		name := m[1] + m[2]
		if _, err := os.Stat(name); err != nil {
			t.Errorf("the README names %s: %v", name, err)
		}
	}
}
