package vfs

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"
	"testing"
)

func eachMem(t *testing.T, test func(t *testing.T, m *Mem)) {
	t.Helper()
	t.Run("tracked", func(t *testing.T) { test(t, NewMem()) })
	t.Run("volatile", func(t *testing.T) { test(t, NewVolatile()) })
}

func TestAFullDiskTakesWhatFits(t *testing.T) {
	eachMem(t, func(t *testing.T, m *Mem) {
		m.SetCapacity(100_000)
		f := create(t, m, "/a", strings.Repeat("x", 99_990))
		n, err := f.WriteAt([]byte("y"), 200_000)
		if n != 0 {
			t.Errorf("wrote %d bytes far beyond the end", n)
		}
		wantErr(t, "WriteAt beyond", err, syscall.ENOSPC)
		wantErr(t, "Truncate", f.Truncate(100_001), syscall.ENOSPC)
		wantErr(t, "Reserve", f.Reserve(0, 100_001), syscall.ENOSPC)
		wantSize(t, f, 99_990) // and what failed has taken no space
		n, err = f.WriteAt([]byte(strings.Repeat("y", 70_000)), 99_980)
		if n != 20 {
			t.Errorf("wrote %d bytes, 20 fit", n)
		}
		wantErr(t, "WriteAt", err, syscall.ENOSPC)
		wantSize(t, f, 100_000)
		wantErr(t, "Truncate", f.Truncate(100_001), syscall.ENOSPC)
		wantErr(t, "Reserve", f.Reserve(0, 100_001), syscall.ENOSPC)
		wantSize(t, f, 100_000)
		write(t, f, strings.Repeat("z", 100_000), 0) // overwriting needs no space
		must(t, f.Truncate(50))
		create(t, m, "/b", strings.Repeat("b", 99_950))
		m.SetCapacity(-1)
		write(t, f, strings.Repeat("x", 100_000), 50)
	})
}

func TestReservedSpaceIsThereWhenTheDiskIsFull(t *testing.T) {
	eachMem(t, func(t *testing.T, m *Mem) {
		m.SetCapacity(1000)
		f := create(t, m, "/a", "")
		must(t, f.Reserve(0, 600))
		must(t, f.Reserve(100, 500)) // the same space
		g := create(t, m, "/b", "")
		wantErr(t, "Reserve", g.Reserve(0, 401), syscall.ENOSPC)
		must(t, g.Reserve(0, 400))
		write(t, f, strings.Repeat("x", 600), 0)
		write(t, g, strings.Repeat("x", 400), 0)
		n, err := g.WriteAt([]byte("x"), 400)
		if n != 0 {
			t.Error("a byte more was written")
		}
		wantErr(t, "WriteAt", err, syscall.ENOSPC)
	})
}

func TestSpaceComesBackWhenTheLastHandleOfARemovedFileCloses(t *testing.T) {
	eachMem(t, func(t *testing.T, m *Mem) {
		m.SetCapacity(1000)
		f := create(t, m, "/a", strings.Repeat("x", 1000))
		reader, err := m.Open("/a")
		must(t, err)
		must(t, f.Close())
		must(t, m.Remove("/a"))
		g := create(t, m, "/b", "")
		wantErr(t, "while it is open", g.Reserve(0, 1), syscall.ENOSPC)
		must(t, reader.Close())
		must(t, g.Reserve(0, 1000))
		must(t, g.Close())
		create(t, m, "/c", "")
		must(t, m.Rename("/c", "/b"))
		create(t, m, "/d", strings.Repeat("x", 1000))
	})
}

func TestACloneHasTheCapacityAndHoldsWhatItsFilesTake(t *testing.T) {
	m := NewMem()
	m.SetCapacity(1000)
	f := synced(t, m, "/a", strings.Repeat("x", 300))
	must(t, f.Reserve(0, 1000))
	clone := m.CrashClone(CrashOptions{})
	g := create(t, clone, "/b", "")
	wantErr(t, "Reserve", g.Reserve(0, 701), syscall.ENOSPC)
	must(t, g.Reserve(0, 700))
}

func TestSizesBeyondTheLimitAreRefused(t *testing.T) {
	eachMem(t, func(t *testing.T, m *Mem) {
		f := create(t, m, "/a", "")
		_, err := f.WriteAt([]byte("xx"), maxFileSize-1)
		wantErr(t, "WriteAt", err, syscall.EFBIG)
		wantErr(t, "Truncate", f.Truncate(maxFileSize+1), syscall.EFBIG)
		wantErr(t, "Reserve", f.Reserve(maxFileSize, 1), syscall.EFBIG)
		must(t, f.Truncate(maxFileSize)) // a hole
		must(t, f.Truncate(3))
		must(t, f.Sync())
		wantSize(t, f, 3)
	})
}

func TestTheRootIsThereToStay(t *testing.T) {
	eachMem(t, func(t *testing.T, m *Mem) {
		for _, root := range []string{"/", ".", "..", "//"} {
			if info, err := m.Stat(root); err != nil || !info.IsDir() {
				t.Errorf("Stat(%q): %v, %v", root, info, err)
			}
			wantErr(t, "Mkdir", m.Mkdir(root), fs.ErrExist)
			wantErr(t, "Remove", m.Remove(root), syscall.EBUSY)
		}
		create(t, m, "../../a", "")
		wantNames(t, m, "/", "a")
	})
}

func TestASmallFileTakesLittleMemoryAndAHoleNone(t *testing.T) {
	m := NewVolatile()
	f := create(t, m, "/a", strings.Repeat("x", 700))
	if got := len(f.(*memHandle).file.chunks[0]); got != 1024 {
		t.Errorf("700 bytes take %d", got)
	}
	write(t, f, "y", 10*chunkSize)
	taken := 0
	for _, chunk := range f.(*memHandle).file.chunks {
		taken += len(chunk)
	}
	if taken != 1024+chunkSize {
		t.Errorf("two ends and a hole take %d bytes", taken)
	}
}

func TestReadFileIsBounded(t *testing.T) {
	m := NewVolatile()
	create(t, m, "/a", "12345")
	if got, err := ReadFile(m, "/a", 5); err != nil || string(got) != "12345" {
		t.Errorf("at the bound: %q, %v", got, err)
	}
	_, err := ReadFile(m, "/a", 4)
	wantErr(t, "above the bound", err, ErrTooLarge)
	_, err = ReadFile(m, "/b", 4)
	wantErr(t, "no file", err, fs.ErrNotExist)
	failing := NewFault(m, FailAt(1, errors.ErrUnsupported, OpIs(OpRead)).Short(2))
	data, err := ReadFile(failing, "/a", 5)
	wantErr(t, "failing read", err, errors.ErrUnsupported)
	if data != nil {
		t.Errorf("part of the file was returned: %q", data)
	}
}

func BenchmarkVolatile64KiB(b *testing.B) {
	const file = 64 << 20
	p := make([]byte, 64<<10)
	open := func(b *testing.B) File {
		f, err := NewVolatile().Create("/a")
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(p)))
		b.ReportAllocs()
		return f
	}
	b.Run("append", func(b *testing.B) {
		f := open(b)
		off := int64(0)
		for b.Loop() {
			if off == file {
				if err := f.Truncate(0); err != nil {
					b.Fatal(err)
				}
				off = 0
			}
			if _, err := f.WriteAt(p, off); err != nil {
				b.Fatal(err)
			}
			off += int64(len(p))
		}
	})
	for name, op := range map[string]func(File) func([]byte, int64) (int, error){
		"overwrite": func(f File) func([]byte, int64) (int, error) { return f.WriteAt },
		"read":      func(f File) func([]byte, int64) (int, error) { return f.ReadAt },
	} {
		b.Run(name, func(b *testing.B) {
			f := open(b)
			for off := int64(0); off < file; off += int64(len(p)) {
				if _, err := f.WriteAt(p, off); err != nil {
					b.Fatal(err)
				}
			}
			run := op(f)
			off := int64(0)
			for b.Loop() {
				if _, err := run(p, off); err != nil {
					b.Fatal(err)
				}
				off = (off + int64(len(p))) % file
			}
		})
	}
}
