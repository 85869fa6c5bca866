package log

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/braid-go/braid/internal/vfs"
)

// A segment of which the file system cannot tell whether it is there was reported as missing, and the log opened without it.
func TestASealedSegmentThatCannotBeLookedAtIsNotMissing(t *testing.T) {
	mem := vfs.NewMem()
	broken := false
	cfg := testConfig(vfs.NewFault(mem, vfs.InjectorFunc(func(op vfs.Op) vfs.Outcome {
		if broken && op.Kind == vfs.OpStat && strings.HasSuffix(op.Name, segmentSuffix) {
			return vfs.Outcome{Err: syscall.EIO}
		}
		return vfs.Outcome{}
	})))
	l := create(t, cfg)
	for i := 0; len(l.Segments()) < 3; i++ {
		mustPut(t, l, fmt.Sprint(i), strings.Repeat("x", 500))
	}
	want, _ := contents(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for name, open := range map[string]func() (*Log, *Report, error){
		"for writing": func() (*Log, *Report, error) { return Open(cfg, &testBirth, Proof{}) },
		"for reading": func() (*Log, *Report, error) { return OpenReadOnly(cfg, &testBirth, ReadOnlyOptions{}) },
	} {
		t.Run(name, func(t *testing.T) {
			broken = true
			if _, report, err := open(); !errors.Is(err, syscall.EIO) || errors.Is(err, ErrMissingData) {
				t.Errorf("error %v, report %+v", err, report)
			}
			broken = false
			l, report, err := open()
			if err != nil || len(report.Problems) > 0 {
				t.Fatalf("when the cause is gone: error %v, report %+v", err, report)
			}
			if got, problems := contents(t, l); len(problems) > 0 || len(got) != len(want) {
				t.Errorf("%d records of %d, %v", len(got), len(want), problems)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
