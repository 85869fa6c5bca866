package checkpoint

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write testdata anew")

// goldenStore makes the store that testdata/v1 has: one that was created, committed to, and closed.
func goldenStore(t *testing.T) files {
	t.Helper()
	dir := t.TempDir()
	w := mustOpen(t, dir, quick(true))
	mustCommit(t, w, putBatch("alpha", "1", "beta", "", "\x00\xff", "bytes"))
	b := putBatch("gamma", "3")
	b.Delete([]byte("beta"))
	mustCommit(t, w, b)
	mustClose(t, w)
	w = mustOpen(t, dir, quick(false)) // with a snapshot that has something in it
	if _, err := w.CommitFrames(t.Context(), putBatch("alpha", "4"), load(7, "frames")); err != nil {
		t.Fatal(err)
	}
	mustClose(t, w)
	return readFiles(t, dir)
}

const goldenContents = "\x00\xff=6279746573@2\nalpha=34@5\ngamma=33@3\n"

func TestVersion1IsReadAsItWasWritten(t *testing.T) {
	dir := filepath.Join("testdata", "v1")
	made := goldenStore(t)
	if *update {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		made.write(t, dir)
	}
	stored := readFiles(t, dir)
	if diff := cmp.Diff(slices.Sorted(maps.Keys(stored)), slices.Sorted(maps.Keys(made))); diff != "" {
		t.Fatalf("files (-stored +written now):\n%s", diff)
	}
	for name := range stored {
		if stored[name] != made[name] {
			t.Errorf("%s is written otherwise now: the format has changed, and needs a new version\n%x\n%x", name, stored[name], made[name])
		}
	}
	v, err := LoadWAL(dir, LoadOptions{ID: testID})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(goldenContents, contents(t, v)); diff != "" {
		t.Errorf("contents (-want +got):\n%s", diff)
	}
	if got := loaded(v, 7); len(got) != 1 || got[0] != "frames" {
		t.Errorf("frames %v", got)
	}
}
