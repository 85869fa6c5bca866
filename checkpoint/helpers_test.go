package checkpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var testID = [16]byte{0xb, 0xa, 0xd, 1}

// quick are the options of a store that does not wait for the disk.
func quick(create bool) WALOptions {
	return WALOptions{ID: testID, Create: create, GenerationBytes: 4 << 10, hooks: hooks{unsynced: true, quiet: time.Hour}}
}

func mustOpen(t testing.TB, dir string, opts WALOptions) *WAL {
	t.Helper()
	w, err := OpenWAL(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func mustClose(t testing.TB, w *WAL) {
	t.Helper()
	if err := w.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

func putBatch(pairs ...string) *Batch {
	var b Batch
	for i := 0; i < len(pairs); i += 2 {
		b.Put([]byte(pairs[i]), []byte(pairs[i+1]))
	}
	return &b
}

func mustCommit(t testing.TB, s Store, b *Batch) Revision {
	t.Helper()
	rev, err := s.Commit(t.Context(), b)
	if err != nil {
		t.Fatalf("commit: %v", err)
	}
	return rev
}

// source is what contents reads: a store or a view.
type source interface{ view() (*state, error) }

func (v *View) view() (*state, error) { return v.state, nil }

// contents renders all that a store holds, revisions included.
func contents(t testing.TB, s source) string {
	t.Helper()
	st, err := s.view()
	if err != nil {
		t.Fatal(err)
	}
	return render(st)
}

func render(st *state) string {
	var out strings.Builder
	st.keys.ascend(nil, func(it *item) bool {
		fmt.Fprintf(&out, "%s=%x@%d\n", it.key, it.value, it.rev)
		return true
	})
	return out.String()
}

// files is a directory tree: relative path to content.
type files map[string]string

func readFiles(t testing.TB, dir string) files {
	t.Helper()
	f := files{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		f[rel] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// write makes a new directory of it. base is reused by callers that make thousands.
func (f files) write(t testing.TB, base string) string {
	t.Helper()
	if err := os.RemoveAll(base); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(base, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(f)) {
		path := filepath.Join(base, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(f[name]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return base
}

// with returns a copy in which one file has other content.
func (f files) with(name, content string) files {
	c := maps.Clone(f)
	c[name] = content
	return c
}

func (f files) without(name string) files {
	c := maps.Clone(f)
	delete(c, name)
	return c
}

// segment returns the name of the only generation's file.
func (f files) segment(t testing.TB) string {
	t.Helper()
	var names []string
	for name := range f {
		if strings.HasSuffix(name, fmt.Sprintf("%020d", 1)) {
			names = append(names, name)
		}
	}
	if len(names) != 1 {
		t.Fatalf("%d generations: %v", len(names), names)
	}
	return names[0]
}

// typed reports whether an error is of a kind that damage may be answered with.
func typed(err error) bool {
	var corrupt *CorruptError
	var missing *MissingDataError
	return errors.As(err, &corrupt) && errors.Is(err, ErrCorrupt) || errors.As(err, &missing) && errors.Is(err, ErrMissingData)
}

// goroutines returns the stacks of this package's goroutines.
func goroutines() (out []string) {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	for _, g := range strings.Split(string(buf), "\n\n") {
		if strings.Contains(g, "checkpoint.(*WAL)") {
			out = append(out, g)
		}
	}
	return out
}

// noLeaks checks, at the test's end, that no goroutine of this package and no descriptor is left.
func noLeaks(t *testing.T) {
	t.Helper()
	before := descriptors(t)
	t.Cleanup(func() {
		left := goroutines()
		for deadline := time.Now().Add(5 * time.Second); len(left) > 0 && time.Now().Before(deadline); left = goroutines() {
			runtime.Gosched() // one that has been waited for may still be on its way out
		}
		for _, g := range left {
			t.Errorf("a goroutine is left:\n%s", g)
		}
		if diff := cmp.Diff(before, descriptors(t)); diff != "" {
			t.Errorf("descriptors are left (-before +after):\n%s", diff)
		}
	})
}

// descriptors lists open regular files and directories.
func descriptors(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil // not Linux: only goroutines are checked
	}
	names := []string{}
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(to, os.TempDir()) {
			names = append(names, to)
		}
	}
	slices.Sort(names)
	return names
}
