package log

import (
	"errors"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/braid-go/braid/internal/vfs"
)

// tellsNothing is a file system whose writes can be short, and do then not say how many bytes they have written, as those of package os.
type tellsNothing struct {
	vfs.FS
	short *int // bytes that the next write writes; negative: all
}

type tellsNothingFile struct {
	vfs.File
	short *int
}

func (f tellsNothing) OpenReadWrite(name string) (vfs.File, error) {
	file, err := f.FS.OpenReadWrite(name)
	return tellsNothingFile{file, f.short}, err
}

func (f tellsNothingFile) WriteAt(b []byte, off int64) (int, error) {
	if *f.short < 0 || *f.short >= len(b) {
		return f.File.WriteAt(b, off)
	}
	n := *f.short
	*f.short = -1
	if _, err := f.File.WriteAt(b[:n], off); err != nil {
		return 0, err
	}
	return 0, syscall.ENOSPC
}

// A write is cut short by a full disk, wherever that is, and does not say how much it has written. What the caller was told is not stored is not found when the process is
// killed there.
func TestAShortWriteThatDoesNotSayHowLongItWasIsTakenBack(t *testing.T) {
	for cut := 0; ; cut += 37 {
		short := -1
		mem := vfs.NewMem()
		syncs := 0
		spy := vfs.InjectorFunc(func(op vfs.Op) vfs.Outcome {
			if op.Kind == vfs.OpDatasync {
				syncs++
			}
			return vfs.Outcome{}
		})
		cfg := tortureConfig(tellsNothing{vfs.NewFault(mem, spy), &short})
		cfg.Mode = ModeOS // nothing is made ahead, so that the first write is that of the frames
		l := create(t, cfg)
		w := newWorkload(l)
		if err := w.write(0, 1); err != nil {
			t.Fatal(err)
		}
		short, syncs = cut, 0
		err := w.write(0, 3, 3, 3)
		if err == nil {
			if cut < 300 {
				t.Fatalf("only %d bytes were written", cut)
			}
			return
		}
		if !errors.Is(err, ErrNoSpace) {
			t.Fatalf("cut at byte %d: error %v, want ErrNoSpace", cut, err)
		}
		if syncs != 1 {
			t.Fatalf("cut at byte %d: %d syncs of what takes it back, want 1", cut, syncs)
		}
		cfg.FS = mem // the process was killed
		l, report, err := Open(cfg, &testBirth, Proof{})
		if err != nil {
			t.Fatal(err)
		}
		got, problems := contents(t, l)
		if diff := cmp.Diff(w.acked, got); diff != "" || len(problems)+len(report.Problems) > 0 {
			t.Fatalf("cut at byte %d: %s %v %v", cut, diff, problems, report.Problems)
		}
		l.Close()
	}
}
