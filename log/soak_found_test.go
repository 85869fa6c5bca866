package log

import (
	"errors"
	"fmt"
	"math/rand/v2"
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

// A recovery had copied to a new segment what was in the page cache only, and the power failed: the copies, of which the rest of the log knew nothing any more, were taken
// for records of a later manifest, and the log did not open.
func TestThePowerFailsWhileAKilledLogIsRecovered(t *testing.T) {
	seen := map[string]bool{}
	for k := int64(1); ; k++ {
		mem := vfs.NewMem()
		killed := create(t, testConfig(mem)) // nothing closes it
		for _, v := range []string{"one", "two", "three"} {
			mustPut(t, killed, v)
		}
		if err := put(killed, false, "not acknowledged"); err != nil {
			t.Fatal(err)
		}
		trigger := vfs.FailFrom(k, syscall.EIO, nil)
		var left []*vfs.Mem
		spy := vfs.InjectorFunc(func(op vfs.Op) vfs.Outcome {
			out := trigger.Inject(op)
			if out.Err != nil && left == nil {
				left = append(left, mem, mem.CrashClone(vfs.CrashOptions{}))
				for seed := range uint64(20) {
					left = append(left, mem.CrashClone(vfs.RandomCrash(rand.New(rand.NewPCG(uint64(k), seed)))))
				}
			}
			return out
		})
		l, _, err := Open(testConfig(vfs.NewFault(mem, spy)), &testBirth, Proof{})
		if err == nil {
			_ = l.Close()
		}
		for i, fsys := range left[min(1, len(left)):] {
			wantRecovered(t, fsys, fmt.Sprintf("operation %d, the power fails, %d", k, i), seen)
		}
		wantRecovered(t, mem, fmt.Sprintf("operation %d", k), seen)
		if !trigger.Fired() {
			break
		}
	}
	if len(seen) != 2 {
		t.Errorf("what was not acknowledged was always there, or never: %v", seen)
	}
}

// wantRecovered opens the log of TestThePowerFailsWhileAKilledLogIsRecovered: for reading, for writing, and once more.
func wantRecovered(t *testing.T, fsys vfs.FS, what string, seen map[string]bool) {
	t.Helper()
	for _, open := range []func() (*Log, *Report, error){
		func() (*Log, *Report, error) { return OpenReadOnly(testConfig(fsys), &testBirth, ReadOnlyOptions{}) },
		func() (*Log, *Report, error) { return Open(testConfig(fsys), &testBirth, Proof{}) },
		func() (*Log, *Report, error) { return Open(testConfig(fsys), &testBirth, Proof{}) },
	} {
		l, report, err := open()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		got, problems := contents(t, l)
		if len(report.Problems)+len(problems) > 0 || got[0] != "one" || got[1] != "two" || got[2] != "three" || got[3] != "" && got[3] != "not acknowledged" {
			t.Fatalf("%s: %v, %v, %+v", what, got, problems, report)
		}
		seen[got[3]] = true
		if err := l.Close(); err != nil {
			t.Fatalf("%s: close: %v", what, err)
		}
	}
}
