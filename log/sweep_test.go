package log

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/braid-go/braid/internal/vfs"
)

// A recovery leaves nothing in the segment whose frames it writes anew, in front of one of the same base. When retention has taken that out of the manifest and is
// killed before it is removed, what it holds is in a segment that has been sealed since.
func TestASegmentWhoseFramesWereWrittenAnewMayBeLeftByRetention(t *testing.T) {
	mem := vfs.NewMem()
	cfg := testConfig(mem)
	l := create(t, cfg)
	if err := put(l, false, "not proven"); err != nil {
		t.Fatal(err)
	}
	killed := cfg
	killed.FS = vfs.NewFault(mem, vfs.FailFrom(1, syscall.EIO, func(op vfs.Op) bool {
		return op.Kind == vfs.OpRemove && strings.HasSuffix(op.Name, segmentSuffix)
	}))
	l, report := reopen(t, killed) // as after a kill: nothing has closed the other
	if report.Rewritten != 1 {
		t.Fatalf("%+v", report)
	}
	for len(l.Segments()) < 3 {
		mustPut(t, l, filler("more"))
	}
	if s := l.Segments(); s[0].Base != s[1].Base || s[0].End != s[0].Base || !s[1].Sealed {
		t.Fatalf("%+v", s)
	}
	if _, err := l.Retain(Retention{MaxBytes: l.Size() - 1}); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	want, _ := contents(t, l)
	l, report = reopen(t, cfg)
	defer l.Close()
	if got, problems := contents(t, l); len(got) != len(want) || got[0] != "not proven" || len(problems) > 0 || len(report.Removed) == 0 {
		t.Errorf("%d of %d records, %v, %+v", len(got), len(want), problems, report)
	}
}

// Zeros that are being written when the power fails may be anything afterwards; a frame, damaged or not, is something else.
func TestALogThatWasBeingMadeIsEmptyWhateverIsWhereItsZerosWere(t *testing.T) {
	mem := vfs.NewMem()
	cfg := testConfig(mem)
	l := create(t, cfg)
	if err := l.Ready(100_000); err != nil {
		t.Fatal(err)
	}
	file := cfg.Dir + "/" + l.Segments()[0].Name
	write := func(at int64, b []byte) {
		t.Helper()
		f, err := mem.OpenReadWrite(file)
		if err == nil {
			_, err = f.WriteAt(b, at)
		}
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	empty := func(want bool, what string) {
		t.Helper()
		if got, err := Empty(mem, cfg.Dir); err != nil || got != want {
			t.Errorf("%s: empty is %v, %v", what, got, err)
		}
	}
	empty(true, "zeros")
	write(segmentHeaderSize, []byte(strings.Repeat("garbage", 1000)))
	write(90_000, []byte("garbage"))
	empty(true, "garbage")
	write(chunk+segmentHeaderSize-2, magicBytes) // over the edge of what is read at a time
	empty(false, "the beginning of a frame")
	l.Close()
}
