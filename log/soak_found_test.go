package log

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/braid-go/braid/internal/damage"
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

// What a killed process has left may be in the page cache only: frames, but names too. A recovery had copied frames to a new segment, and the power failed: the copies, of which
// the rest of the log knew nothing any more, were taken for records of a later manifest, and the log did not open. And a manifest that had been renamed, and its directory not
// synced, was built upon.
//
// So the process is killed at each operation, and at each operation of what comes after, recovery and more records, the power fails.
func TestThePowerFailsAfterAKill(t *testing.T) {
	kills, cuts := 0, 0
	for j := int64(1); ; j += int64(damage.Step(false, 1)) {
		mem := vfs.NewMem()
		trigger := vfs.FailFrom(j, syscall.EIO, nil)
		l, err := Create(tortureConfig(vfs.NewFault(mem, trigger)), testBirth, 0)
		if err != nil {
			continue // there was no log yet
		}
		w := newWorkload(l)
		_ = w.run()
		_ = l.Close()
		if !trigger.Fired() {
			break
		}
		kills++
		for _, c := range powerCuts(t, mem, w, j) {
			cuts++
			cfg := tortureConfig(c.mem)
			l, report, err := Open(cfg, &testBirth, Proof{})
			if err != nil || len(report.Problems) > 0 {
				t.Fatalf("%s: error %v, %+v", c.what, err, report)
			}
			c.w.goOn(t, cfg, l, c.what, false)
		}
	}
	t.Logf("%d kills, %d power cuts", kills, cuts)
}

// powerCut is what one leaves.
type powerCut struct {
	mem  *vfs.Mem
	w    *workload // up to then
	what string
}

// powerCuts opens what a process that was killed at operation j has left, goes on with it, and returns what a power cut before each operation leaves.
func powerCuts(t *testing.T, mem *vfs.Mem, w *workload, j int64) (all []powerCut) {
	t.Helper()
	w = w.clone()
	k := uint64(0)
	spy := vfs.InjectorFunc(func(op vfs.Op) vfs.Outcome {
		if op.Kind == vfs.OpRead || op.Kind == vfs.OpSize || op.Kind == vfs.OpStat || op.Kind == vfs.OpOpen || op.Kind == vfs.OpList {
			return vfs.Outcome{}
		}
		k++
		for i, opts := range []vfs.CrashOptions{{}, vfs.RandomCrash(rand.New(rand.NewPCG(uint64(j), k)))} {
			all = append(all, powerCut{mem.CrashClone(opts), w.clone(), fmt.Sprintf("a kill at operation %d, a power cut before operation %d (%v of %s), %d", j, k, op.Kind, op.Name, i)})
		}
		return vfs.Outcome{}
	})
	l, report, err := Open(tortureConfig(vfs.NewFault(mem, spy)), &testBirth, Proof{})
	if err != nil || len(report.Problems) > 0 {
		t.Fatalf("after a kill at operation %d: error %v, %+v", j, err, report)
	}
	w.l = l
	for _, step := range []func() error{
		func() error { return w.write(0, 2) },
		l.Mark,
		func() error { return w.write(0, 8, 8, 8) },
		func() error { return w.write(0, 8, 8, 8) }, // rolls
		func() error { _, err := l.Retain(Retention{MaxBytes: 3000}); return err },
		func() error { return w.write(0, 1) },
		l.Close,
	} {
		if err := step(); err != nil {
			t.Fatalf("after a kill at operation %d: %v", j, err)
		}
	}
	return all
}

// A log of which the caller had proven the end was taken for one whose manifest said so. So the manifest never did, and what was lost at the end after a clean close
// nobody reported.
func TestWhatTheCallerHasProvenTheManifestSaysAfterAClose(t *testing.T) {
	mem := vfs.NewMem()
	cfg := testConfig(mem)
	killed := create(t, cfg)
	for _, v := range []string{"one", "two", "three"} {
		mustPut(t, killed, v)
	}
	l, report, err := Open(cfg, &testBirth, Proof{Durable: 3})
	if err != nil || report.Recovered {
		t.Fatalf("error %v, %+v", err, report)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	name := cfg.path(l.Segments()[0].Name)
	whole, err := vfs.ReadFile(mem, name, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	f, err := mem.OpenReadWrite(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(int64(len(bytes.TrimRight(whole, "\x00")))-1), f.Close()); err != nil {
		t.Fatal(err)
	}
	l, report, err = OpenReadOnly(cfg, &testBirth, ReadOnlyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got, problems := contents(t, l); len(got) != 2 || !covered(slices.Concat(problems, report.Problems), 2) {
		t.Errorf("%v, %v, %+v", got, problems, report)
	}
}

func TestReadingTakesTheCallersWordForWhatWasDurable(t *testing.T) {
	cfg := testConfig(vfs.NewMem())
	killed := create(t, cfg)
	mustPut(t, killed, "one")
	l, report, err := OpenReadOnly(cfg, &testBirth, ReadOnlyOptions{Durable: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if !covered(report.Problems, 1) || !covered(report.Problems, 2) || covered(report.Problems, 0) {
		t.Errorf("%+v", report)
	}
}
