package checkpoint

import (
	"errors"
	"path/filepath"
	"testing"
)

// Two stores that have done the same number of things differ in nothing but what they hold and their ids. The file of the one, put in the other's place, is
// none of its generations, also where every sequence number fits.
func TestAGenerationOfAnotherStoreIsNotTakenForOnesOwn(t *testing.T) {
	made := func(id [16]byte, value string) files {
		dir := t.TempDir()
		opts := quick(true)
		opts.ID = id
		w := mustOpen(t, dir, opts)
		mustCommit(t, w, putBatch("k", value))
		mustClose(t, w)
		return readFiles(t, dir)
	}
	own, other := made(testID, "own"), made([16]byte{9}, "other")
	name := own.segment(t)
	if name != other.segment(t) {
		t.Fatal("the two stores have different generations")
	}
	mixed := own.with(name, other[name])
	dir := mixed.write(t, filepath.Join(t.TempDir(), "mixed"))
	if w, err := OpenWAL(dir, quick(false)); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrMissingData) {
		t.Errorf("opened with %q, %v", contents(t, w), err)
		mustClose(t, w)
	}
	if v, err := LoadWAL(dir, LoadOptions{ID: testID}); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrMissingData) {
		t.Errorf("loaded with %q, %v", contents(t, v), err)
	}
}
