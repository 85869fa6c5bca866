package vfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// eachFS holds every implementation to the same test. Names are to be put below
// root, an existing empty directory.
func eachFS(t *testing.T, test func(t *testing.T, fsys FS, root string)) {
	t.Helper()
	t.Run("OS", func(t *testing.T) { test(t, OS, filepath.ToSlash(t.TempDir())) })
	t.Run("Background", func(t *testing.T) { test(t, Background, filepath.ToSlash(t.TempDir())) })
	t.Run("Mem", func(t *testing.T) { test(t, NewMem(), "/") })
	t.Run("Volatile", func(t *testing.T) { test(t, NewVolatile(), ".") })
	t.Run("Fault", func(t *testing.T) {
		test(t, NewFault(NewMem(), nil), "/")
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got %v, want %v", what, err, want)
		return
	}
	var pathErr *fs.PathError
	var linkErr *os.LinkError
	if !errors.As(err, &pathErr) && !errors.As(err, &linkErr) {
		t.Errorf("%s: %T names neither operation nor file", what, err)
	}
}

func create(t *testing.T, fsys FS, name, content string) File {
	t.Helper()
	f, err := fsys.Create(name)
	must(t, err)
	t.Cleanup(func() { _ = f.Close() }) // a test may have closed it
	if content != "" {
		write(t, f, content, 0)
	}
	return f
}

func write(t *testing.T, f File, content string, off int64) {
	t.Helper()
	n, err := f.WriteAt([]byte(content), off)
	if err != nil || n != len(content) {
		t.Fatalf("WriteAt: %d, %v", n, err)
	}
}

func wantSize(t *testing.T, f File, want int64) {
	t.Helper()
	if got, err := f.Size(); err != nil || got != want {
		t.Errorf("Size: %d, %v; want %d", got, err, want)
	}
}

func contentOf(t *testing.T, fsys FS, name string) string {
	t.Helper()
	data, err := ReadFile(fsys, name, 1<<30)
	must(t, err)
	return string(data)
}

func names(t *testing.T, fsys FS, dir string) []string {
	t.Helper()
	infos, err := fsys.List(dir)
	must(t, err)
	list := []string{}
	for _, info := range infos {
		list = append(list, info.Name())
	}
	return list
}

func wantNames(t *testing.T, fsys FS, dir string, want ...string) {
	t.Helper()
	if got := names(t, fsys, dir); !slices.Equal(got, want) {
		t.Errorf("names in %s: got %q, want %q", dir, got, want)
	}
}

func TestBytesWrittenAreReadBack(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS, root string) {
		f := create(t, fsys, root+"/a", "hello")
		write(t, f, "J", 0)
		write(t, f, "far", 200_000) // leaves a hole over several chunks
		must(t, f.Sync())
		must(t, f.Datasync())
		want := "Jello" + strings.Repeat("\x00", 200_000-5) + "far"
		if got := contentOf(t, fsys, root+"/a"); got != want {
			t.Errorf("got %d bytes %.10q..., want %d", len(got), got, len(want))
		}
		wantSize(t, f, 200_003)
		p := bytes.Repeat([]byte("dirt"), 40_000)
		if _, err := f.ReadAt(p, 5); err != nil || strings.Trim(string(p), "\x00") != "" {
			t.Errorf("a hole does not overwrite the reader's buffer with zeros: %v", err)
		}
	})
}

func TestReadAtReportsTheEndOfTheFile(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS, root string) {
		f := create(t, fsys, root+"/a", "hello")
		for _, c := range []struct {
			off  int64
			len  int
			want string
			err  error
		}{
			{0, 5, "hello", nil},
			{2, 2, "ll", nil},
			{3, 5, "lo", io.EOF},
			{5, 1, "", io.EOF},
			{1 << 40, 1, "", io.EOF},
			{9, 0, "", nil},
		} {
			p := make([]byte, c.len)
			n, err := f.ReadAt(p, c.off)
			if string(p[:n]) != c.want || err != c.err {
				t.Errorf("ReadAt(%d, %d): %q, %v; want %q, %v", c.len, c.off, p[:n], err, c.want, c.err)
			}
		}
		if _, err := f.ReadAt(make([]byte, 1), -1); err == nil || err == io.EOF {
			t.Errorf("ReadAt before the start: %v", err)
		}
		if _, err := f.WriteAt(make([]byte, 1), -1); err == nil {
			t.Error("WriteAt before the start succeeded")
		}
	})
}

func TestTruncateCutsAndGrowsWithZeros(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS, root string) {
		f := create(t, fsys, root+"/a", strings.Repeat("x", 100_000))
		must(t, f.Truncate(70_000))
		must(t, f.Truncate(100))
		must(t, f.Truncate(90_000))
		want := strings.Repeat("x", 100) + strings.Repeat("\x00", 90_000-100)
		if got := contentOf(t, fsys, root+"/a"); got != want {
			t.Error("bytes that were cut off came back, or kept ones changed")
		}
		if err := f.Truncate(-1); err == nil {
			t.Error("a negative size was accepted")
		}
	})
}

func TestRandomOperationsOnAFileMatchASlice(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS, root string) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		rnd := rand.New(rand.NewPCG(seed, 0))
		f := create(t, fsys, root+"/a", "")
		const limit = 300_000
		var model []byte
		resize := func(n int) {
			for len(model) < n {
				model = append(model, 0)
			}
			model = model[:n]
		}
		for range 300 {
			off := rnd.IntN(limit)
			switch rnd.IntN(6) {
			case 0:
				must(t, f.Truncate(int64(off)))
				if off < len(model) {
					clear(model[off:])
				}
				resize(off)
			case 1:
				must(t, f.Datasync())
			default:
				p := make([]byte, rnd.IntN(1<<rnd.IntN(18)))
				for i := range p {
					p[i] = byte(rnd.Uint32())
				}
				write(t, f, string(p), int64(off))
				if len(p) > 0 {
					resize(max(len(model), off+len(p)))
					copy(model[off:], p)
				}
			}
		}
		if got := contentOf(t, fsys, root+"/a"); got != string(model) {
			t.Fatal("the file and the slice differ")
		}
	})
}

func TestReserveChangesNoSize(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS, root string) {
		f := create(t, fsys, root+"/a", "x")
		must(t, f.Reserve(0, 1<<20))
		must(t, f.Reserve(0, 0))
		wantSize(t, f, 1)
		wantErr(t, "negative offset", f.Reserve(-1, 1), syscall.EINVAL)
		wantErr(t, "negative length", f.Reserve(1, -1), syscall.EINVAL)
	})
}

func TestFilesAndDirectoriesHaveNarrowPermissions(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS, root string) {
		if os.PathSeparator != '/' {
			t.Skip("this system has no permission bits")
		}
		create(t, fsys, root+"/f", "abc")
		must(t, fsys.Mkdir(root+"/d"))
		f, err := fsys.Stat(root + "/f")
		must(t, err)
		if f.Mode() != 0o600 || f.Size() != 3 || f.Name() != "f" || f.IsDir() || f.ModTime().IsZero() {
			t.Errorf("file: %v", f)
		}
		d, err := fsys.Stat(root + "/d/")
		must(t, err)
		if d.Mode() != fs.ModeDir|0o700 || d.Name() != "d" || !d.IsDir() {
			t.Errorf("directory: %v", d)
		}
	})
}

func TestListIsInTheOrderOfNames(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS, root string) {
		wantNames(t, fsys, root)
		for _, name := range []string{"c", "a", "b"} {
			create(t, fsys, root+"/"+name, name)
		}
		must(t, fsys.Mkdir(root+"/aa"))
		wantNames(t, fsys, root, "a", "aa", "b", "c")
		wantNames(t, fsys, root+"/aa")
	})
}

func TestWrongNamesAndTypesAreRefused(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS, root string) {
		create(t, fsys, root+"/f", "old")
		must(t, fsys.Mkdir(root+"/d"))
		create(t, fsys, root+"/d/inner", "")
		second := func(_ any, err error) error { return err }
		long := strings.Repeat("n", 300)
		for _, c := range []struct {
			what string
			err  error
			want error
		}{
			{"create taken", second(fsys.Create(root + "/f")), fs.ErrExist},
			{"create over directory", second(fsys.Create(root + "/d")), fs.ErrExist},
			{"create in nothing", second(fsys.Create(root + "/no/f")), fs.ErrNotExist},
			{"create in a file", second(fsys.Create(root + "/f/f")), syscall.ENOTDIR},
			{"create empty name", second(fsys.Create("")), fs.ErrNotExist},
			{"create NUL", second(fsys.Create(root + "/a\x00b")), syscall.EINVAL},
			{"create long name", second(fsys.Create(root + "/" + long)), syscall.ENAMETOOLONG},
			{"open nothing", second(fsys.Open(root + "/no")), fs.ErrNotExist},
			{"open empty name", second(fsys.Open("")), fs.ErrNotExist},
			{"open directory", second(fsys.Open(root + "/d")), ErrNotRegular},
			{"open directory for writing", second(fsys.OpenReadWrite(root + "/d")), ErrNotRegular},
			{"list nothing", second(fsys.List(root + "/no")), fs.ErrNotExist},
			{"list file", second(fsys.List(root + "/f")), syscall.ENOTDIR},
			{"stat nothing", second(fsys.Stat(root + "/no")), fs.ErrNotExist},
			{"sync nothing", fsys.SyncDir(root + "/no"), fs.ErrNotExist},
			{"sync file as directory", fsys.SyncDir(root + "/f"), syscall.ENOTDIR},
			{"mkdir taken", fsys.Mkdir(root + "/d"), fs.ErrExist},
			{"mkdir over file", fsys.Mkdir(root + "/f"), fs.ErrExist},
			{"mkdir in nothing", fsys.Mkdir(root + "/no/d"), fs.ErrNotExist},
			{"remove nothing", fsys.Remove(root + "/no"), fs.ErrNotExist},
			{"remove full directory", fsys.Remove(root + "/d"), syscall.ENOTEMPTY},
			{"rename nothing", fsys.Rename(root+"/no", root+"/f"), fs.ErrNotExist},
			{"rename into nothing", fsys.Rename(root+"/f", root+"/no/f"), fs.ErrNotExist},
			{"rename file over directory", fsys.Rename(root+"/f", root+"/d"), fs.ErrExist},
			{"rename directory over file", fsys.Rename(root+"/d", root+"/f"), syscall.ENOTDIR},
			{"rename directory into itself", fsys.Rename(root+"/d", root+"/d/e"), syscall.EINVAL},
		} {
			wantErr(t, c.what, c.err, c.want)
		}
		wantNames(t, fsys, root, "d", "f")
		if got := contentOf(t, fsys, root+"/f"); got != "old" {
			t.Errorf("a refused operation changed the file to %q", got)
		}
	})
}

func TestRenameReplacesAFileAndMovesBetweenDirectories(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS, root string) {
		create(t, fsys, root+"/new", "new")
		create(t, fsys, root+"/old", "old")
		must(t, fsys.Rename(root+"/new", root+"/old"))
		must(t, fsys.Rename(root+"/old", root+"/old"))
		must(t, fsys.Mkdir(root+"/d"))
		must(t, fsys.Rename(root+"/d", root+"/e"))
		must(t, fsys.Rename(root+"/old", root+"/e/moved"))
		must(t, fsys.SyncDir(root))
		must(t, fsys.SyncDir(root+"/e/"))
		wantNames(t, fsys, root, "e")
		if got := contentOf(t, fsys, root+"/e/moved"); got != "new" {
			t.Errorf("got %q", got)
		}
	})
}

func TestARemovedFileLivesUntilItsHandlesClose(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS, root string) {
		if _, real := fsys.(osFS); real && os.PathSeparator != '/' {
			t.Skip("this system does not remove open files")
		}
		f := create(t, fsys, root+"/a", "first")
		must(t, fsys.Remove(root+"/a"))
		create(t, fsys, root+"/a", "second")
		write(t, f, "F", 0)
		p := make([]byte, 5)
		if _, err := f.ReadAt(p, 0); err != nil || string(p) != "First" {
			t.Errorf("through the old handle: %q, %v", p, err)
		}
		if got := contentOf(t, fsys, root+"/a"); got != "second" {
			t.Errorf("under the name: %q", got)
		}
		must(t, fsys.Mkdir(root+"/d"))
		must(t, fsys.Remove(root+"/d"))
		wantNames(t, fsys, root, "a")
	})
}

func TestAReadOnlyHandleChangesNothing(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS, root string) {
		create(t, fsys, root+"/a", "data")
		f, err := fsys.Open(root + "/a")
		must(t, err)
		defer f.Close()
		if n, err := f.WriteAt([]byte("x"), 0); n != 0 || err == nil {
			t.Errorf("WriteAt: %d, %v", n, err)
		}
		if err := f.Truncate(0); err == nil {
			t.Error("Truncate succeeded")
		}
		must(t, f.Sync())
		if got := contentOf(t, fsys, root+"/a"); got != "data" {
			t.Errorf("the file is %q now", got)
		}
		rw, err := fsys.OpenReadWrite(root + "/a")
		must(t, err)
		defer rw.Close()
		write(t, rw, "D", 0)
		if got := contentOf(t, fsys, root+"/a"); got != "Data" {
			t.Errorf("after writing for real: %q", got)
		}
	})
}

func TestAClosedFileRefusesEverything(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS, root string) {
		f := create(t, fsys, root+"/a", "data")
		must(t, f.Close())
		_, readErr := f.ReadAt(make([]byte, 1), 0)
		_, writeErr := f.WriteAt(make([]byte, 1), 0)
		_, sizeErr := f.Size()
		for what, err := range map[string]error{
			"ReadAt": readErr, "WriteAt": writeErr, "Size": sizeErr, "Truncate": f.Truncate(1),
			"Sync": f.Sync(), "Datasync": f.Datasync(), "Reserve": f.Reserve(0, 1), "Close": f.Close(),
		} {
			wantErr(t, what, err, fs.ErrClosed)
		}
	})
}

func TestReadersAndWritersOfOneFileDoNotDisturbEachOther(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS, root string) {
		const writers, rounds, size = 4, 40, 5000
		f := create(t, fsys, root+"/a", "")
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				p := bytes.Repeat([]byte{byte('a' + w)}, size)
				for r := range rounds {
					if _, err := f.WriteAt(p, int64((r*writers+w)*size)); err != nil {
						t.Error(err)
					}
					if err := f.Datasync(); err != nil {
						t.Error(err)
					}
				}
			})
			wg.Go(func() {
				p := make([]byte, size)
				for r := range rounds {
					n, err := f.ReadAt(p, int64((r*writers+w)*size))
					if err != nil && err != io.EOF {
						t.Error(err)
					}
					if i := bytes.IndexFunc(p[:n], func(c rune) bool { return c != 0 && c != rune('a'+w) }); i >= 0 {
						t.Errorf("byte %d is %q, which nobody wrote there", i, p[i])
					}
				}
			})
		}
		for i := range rounds {
			name := fmt.Sprintf("%s/n%d", root, i)
			wg.Go(func() {
				g, err := fsys.Create(name)
				if err == nil {
					err = errors.Join(g.Close(), fsys.SyncDir(root), fsys.Remove(name))
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		wantSize(t, f, writers*rounds*size)
		wantNames(t, fsys, root, "a")
	})
}
