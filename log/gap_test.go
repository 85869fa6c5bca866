package log

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/braid-go/braid/internal/vfs"
)

// filler is a value that leaves no room for a second of its kind in a segment of testConfig.
func filler(s string) string { return s + strings.Repeat(".", 3000) }

// putAt writes and syncs one record at an offset, with a declared gap in front of it if there is room for one.
func putAt(l *Log, off int64, value string) error {
	b := NewBuilder(0)
	l.Begin(b)
	m := l.Meta(b)
	m.Base = off
	b.Begin(m)
	return errors.Join(b.Append(0, nil, []byte(value), nil), b.End(), l.Write(b), l.Sync())
}

func names(got map[int64]string) map[int64]string {
	for off, v := range got {
		got[off] = strings.TrimRight(v, ".")
	}
	return got
}

// A gap in front of the first frame of a segment was taken for damage, and the frame lost.
func TestAGapDeclaredWhereTheLogRollsLosesNothing(t *testing.T) {
	for _, how := range []string{"closed", "killed"} {
		cfg := testConfig(vfs.NewMem())
		l := create(t, cfg)
		for _, off := range []int64{0, 10, 20} {
			if err := putAt(l, off, filler("v")); err != nil {
				t.Fatal(err)
			}
		}
		if how == "closed" {
			l.Close()
		}
		l, report := reopen(t, cfg)
		got, problems := contents(t, l)
		want := map[int64]string{0: "v", 10: "v", 20: "v"}
		if diff := cmp.Diff(want, names(got)); diff != "" || len(problems)+len(report.Problems)+len(report.Torn) > 0 {
			t.Errorf("%s: %s %v %+v", how, diff, problems, report)
		}
		l.Close()
	}
}

// The same where it is a committed position that has raised the next offset, and the log rolls, or is recovered, before the first
// frame behind it.
func TestAGapBeforeACommittedPositionLosesNothingWhenTheLogRolls(t *testing.T) {
	for _, first := range []string{"a", filler("a")} {
		cfg := testConfig(vfs.NewMem())
		l := create(t, cfg)
		mustPut(t, l, first)
		for round, how := range []string{"with the gap still at the end", "with a frame behind it", "again"} {
			var err error
			if l, _, err = Open(cfg, &testBirth, Proof{MinNext: 10}); err != nil { // the one before was not closed
				t.Fatal(err)
			}
			if round == 0 {
				mustPut(t, l, filler("b"))
			}
			got, problems := contents(t, l)
			want := map[int64]string{0: "a", 10: "b"}
			if diff := cmp.Diff(want, names(got)); diff != "" || len(problems) > 0 {
				t.Fatalf("%s: %s %v", how, diff, problems)
			}
			if r, err := l.Verify(t.Context(), nil); err != nil || len(r.Problems) > 0 {
				t.Fatalf("%s: %v %v", how, r.Problems, err)
			}
		}
		l.Close()
	}
}

// The base of a new segment was that of a frame which was then refused; the next one, without its gap, lay below it.
func TestAFrameRefusedBehindARollDoesNotMoveTheSegmentsBase(t *testing.T) {
	mem := vfs.NewMem()
	full := false
	cfg := testConfig(vfs.NewFault(mem, vfs.InjectorFunc(func(op vfs.Op) vfs.Outcome {
		if full && op.Kind == vfs.OpWrite && op.Length > segmentHeaderSize && strings.HasSuffix(op.Name, segmentSuffix) {
			return vfs.Outcome{Err: syscall.ENOSPC}
		}
		return vfs.Outcome{}
	})))
	l := create(t, cfg)
	mustPut(t, l, filler("a"))
	full = true
	if err := putAt(l, 10, filler("refused")); !errors.Is(err, ErrNoSpace) {
		t.Fatalf("error %v, want ErrNoSpace", err)
	}
	full = false
	mustPut(t, l, filler("b"))
	for _, how := range []string{"at once", "opened again"} {
		got, problems := contents(t, l)
		if diff := cmp.Diff(map[int64]string{0: "a", 1: "b"}, names(got)); diff != "" || len(problems) > 0 {
			t.Errorf("%s: %s %v", how, diff, problems)
		}
		l, _ = reopen(t, testConfig(mem))
	}
	l.Close()
}

// A reader was sent back to where it was by the error for a lost segment with a gap behind it, and never came further.
func TestALostSegmentInFrontOfAGapLetsReadersPass(t *testing.T) {
	mem := vfs.NewMem()
	l := create(t, testConfig(mem))
	mustPut(t, l, filler("a"))
	l.Close()
	l, _, err := Open(testConfig(mem), &testBirth, Proof{MinNext: 10})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	mustPut(t, l, filler("b"))
	if err := mem.Remove("log/" + l.Segments()[0].Name); err != nil {
		t.Fatal(err)
	}
	got, problems := contents(t, l)
	if diff := cmp.Diff(map[int64]string{10: "b"}, names(got)); diff != "" || len(problems) != 1 || !covered(problems, 0) {
		t.Error(diff, problems)
	}
}

// A sync in the mode that never syncs by itself covered the active segment only, and called everything durable.
func TestASyncInAnUnsyncedModeLeavesNoHole(t *testing.T) {
	for _, between := range []struct {
		what string
		do   func(*Log) error
	}{
		{"a roll", func(*Log) error { return nil }},
		{"a release", (*Log).Release},
	} {
		t.Run(between.what, func(t *testing.T) {
			mem := vfs.NewMem()
			cfg := testConfig(mem)
			cfg.Mode, cfg.SegmentBytes = ModeOS, 4096
			l := create(t, cfg)
			for _, v := range []string{"a", "b", "c"} {
				if err := put(l, false, filler(v)); err != nil {
					t.Fatal(err)
				}
			}
			if len(l.Segments()) != 3 {
				t.Fatalf("%d segments, want one for each record", len(l.Segments()))
			}
			if err := between.do(l); err != nil {
				t.Fatal(err)
			}
			if err := l.Sync(); err != nil {
				t.Fatal(err)
			}
			if l.DurableEnd() != 3 {
				t.Errorf("durable through %d, want 3", l.DurableEnd())
			}
			cfg.FS = mem.CrashClone(vfs.CrashOptions{})
			after, _, err := Open(cfg, &testBirth, Proof{})
			if err != nil {
				t.Fatal(err)
			}
			defer after.Close()
			got, problems := contents(t, after)
			if diff := cmp.Diff(map[int64]string{0: "a", 1: "b", 2: "c"}, names(got)); diff != "" || len(problems) > 0 {
				t.Error(diff, problems)
			}
		})
	}
}

// Retention held the lock that guards the active segment, and asked for what the commit log has still to apply, for which that lock is needed where the segment is full: it waited for
// itself, and whoever wrote to the log waited for it.
func TestRetentionDoesNotWaitForItselfWhereFramesHaveStillToBeApplied(t *testing.T) {
	cfg := testConfig(vfs.NewMem())
	var l *Log
	var waiting loggedPut
	cfg.CatchUp = func() {
		if !l.gate.TryLock() {
			t.Fatal("asked to apply frames under the lock that this needs")
		}
		l.gate.Unlock()
		waiting.apply(t, l)
		l.Caught(l.Announced())
	}
	l = create(t, cfg)
	for range 5 {
		mustPut(t, l, filler("a"))
	}
	waiting = assign(t, l, filler("waits"))
	l.Announce()
	removed, err := l.Retain(Retention{MaxBytes: 7000})
	if err != nil || len(removed) == 0 {
		t.Errorf("%d segments removed, %v", len(removed), err)
	}
	if got, problems := contents(t, l); got[5] != filler("waits") || len(problems) > 0 {
		t.Errorf("%d records, %v; what was waiting is not among them", len(got), problems)
	}
	l.Close()
}
