package partition

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/braid-go/braid/internal/vfs"
	"github.com/braid-go/braid/log"
)

func TestReplaceSealsParentsAndGivesTheirRangesToChildren(t *testing.T) {
	l, err := NewLayout(1, 1)
	if err != nil {
		t.Fatal(err)
	}
	half := ^uint64(0) / 2
	split, err := l.Replace(map[ID]int64{1: 10}, Info{ID: 2, Range: Range{0, half}}, Info{ID: 3, Range: Range{half + 1, ^uint64(0)}})
	if err != nil {
		t.Fatal(err)
	}
	merged, err := split.Replace(map[ID]int64{2: 5, 3: 0}, Info{ID: 4, Range: Range{0, ^uint64(0)}})
	if err != nil {
		t.Fatal(err)
	}
	p1, _ := merged.Lookup(1)
	p4, _ := merged.Lookup(4)
	if len(split.Active()) != 2 || len(merged.Active()) != 1 || p1.End != 10 || p1.State != StateSealed || len(p4.Parents) != 2 {
		t.Errorf("%+v", merged.All())
	}
	for name, bad := range map[string]struct {
		ends     map[ID]int64
		children []Info
	}{
		"a gap":             {map[ID]int64{4: 1}, []Info{{ID: 5, Range: Range{0, half}}}},
		"an overlap":        {map[ID]int64{4: 1}, []Info{{ID: 5, Range: Range{0, half}}, {ID: 6, Range: Range{half, ^uint64(0)}}}},
		"a sealed parent":   {map[ID]int64{1: 1}, []Info{{ID: 5, Range: Range{0, ^uint64(0)}}}},
		"an unknown parent": {map[ID]int64{9: 1}, nil},
		"an old id":         {map[ID]int64{4: 1}, []Info{{ID: 3, Range: Range{0, ^uint64(0)}}}},
	} {
		if _, err := merged.Replace(bad.ends, bad.children...); !errors.Is(err, ErrLayout) {
			t.Errorf("%s: error %v, want ErrLayout", name, err)
		}
	}
	if a, _ := merged.MarshalBinary(); len(a) == 0 {
		t.Error("not encoded")
	} else if back, err := DecodeLayout(a); err != nil || len(back.All()) != 4 {
		t.Errorf("decoded %v, %v", back, err)
	}
}

// Everything that was accepted is stored in front of the seal, everything else is refused and can go on when the seal is taken back.
func TestASealComesBehindAllThatWasAccepted(t *testing.T) {
	for _, mode := range []log.Mode{log.ModeFsync, log.ModeInterval, log.ModeOS} {
		p := testPartition(t, vfs.NewMem(), mode)
		for round := range 5 {
			var accepted atomic.Int64
			var publishers sync.WaitGroup
			begun := make(chan struct{}, 8)
			for range 8 {
				publishers.Go(func() {
					for n := 0; ; n++ {
						if n == 1 {
							begun <- struct{}{}
						}
						if _, err := publish(context.Background(), p, "x"); err != nil {
							if !errors.Is(err, ErrSealed) {
								t.Errorf("error %v, want ErrSealed", err)
							}
							return
						}
						accepted.Add(1)
					}
				})
			}
			for range 8 {
				<-begun
			}
			before := p.Log().Start()
			end, err := p.Seal(t.Context())
			publishers.Wait()
			if err != nil || before > end || p.Log().DurableEnd() != end {
				t.Fatalf("sealed at %d, %v; durable up to %d", end, err, p.Log().DurableEnd())
			}
			if n := int64(len(stored(t, p))); n != end {
				t.Errorf("round %d: %d records, sealed at %d", round, n, end)
			}
			if err := p.Flush(t.Context()); err != nil {
				t.Errorf("flush: %v", err)
			}
			p.Unseal()
		}
		if s := p.Stats(); s.Accepted != s.Stored || s.Stored != p.Log().VisibleEnd() {
			t.Errorf("%+v", s)
		}
	}
}

// What the weaker modes have not synced is synced before a seal, and holds up nobody: the log rolls meanwhile.
func TestApproachingASealHoldsUpNoPublisher(t *testing.T) {
	for _, mode := range []log.Mode{log.ModeInterval, log.ModeOS} {
		g := newGate(vfs.OpDatasync)
		s := NewScheduler(SchedulerOptions{Mode: mode, SyncInterval: time.Hour})
		p, err := Create(Config{FS: vfs.NewFault(vfs.NewMem(), g), Dir: "p", Mode: mode, SegmentBytes: 64 << 10, Scheduler: s}, log.Birth{PartitionID: 1}, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := publish(t.Context(), p, "before"); err != nil {
			t.Fatal(err)
		}
		g.close()
		approached := make(chan struct{})
		go func() { p.Approach(); close(approached) }()
		<-g.held
		roll := mode == log.ModeOS // which does not sync to roll
		for n := 0; n < 3 || roll && len(p.Log().Segments()) < 3; n++ {
			if _, err := publish(t.Context(), p, strings.Repeat("x", 20_000)); err != nil {
				t.Fatal(err)
			}
		}
		g.open()
		<-approached
		if end, err := p.Seal(t.Context()); err != nil || end != p.Log().DurableEnd() {
			t.Errorf("sealed at %d, durable up to %d, %v", end, p.Log().DurableEnd(), err)
		}
		if err := errors.Join(p.Rest(), p.Close(t.Context())); err != nil {
			t.Error(err)
		}
		s.Close()
	}
}

func TestAWarmPartitionMakesNoSpaceForItsFirstRecord(t *testing.T) {
	g := newGate(vfs.OpDatasync)
	p := testPartition(t, vfs.NewFault(vfs.NewMem(), g), log.ModeFsync)
	if p.Busy() {
		t.Error("new, and busy")
	}
	if err := p.Warm(); err != nil || !p.Busy() {
		t.Errorf("busy: %v, %v", p.Busy(), err)
	}
	before := g.ops.Load()
	if _, err := publish(t.Context(), p, "first"); err != nil {
		t.Fatal(err)
	}
	if n := g.ops.Load() - before; n != 1 {
		t.Errorf("%d syncs for the first record, want 1", n)
	}
}

func TestASealThatTakesTooLongIsTakenBack(t *testing.T) {
	g := newGate(vfs.OpDatasync)
	p := testPartition(t, vfs.NewFault(vfs.NewMem(), g), log.ModeFsync)
	if _, err := publish(t.Context(), p, "before"); err != nil {
		t.Fatal(err)
	}
	g.close()
	done := make(chan error, 1)
	go func() {
		_, err := publish(context.Background(), p, "under way")
		done <- err
	}()
	<-g.held
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Seal(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	g.open()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := publish(t.Context(), p, "after"); err != nil {
		t.Error(err)
	}
}

func TestTransactionsAreRefusedBehindASeal(t *testing.T) {
	j := newFakeJournal()
	h := newHouse(t, vfs.NewMem(), log.ModeFsync, j, 2)
	if _, err := h.s.Transact(t.Context(), put("k", "v"), []*Output{output(h.parts[0], "in front")}); err != nil {
		t.Fatal(err)
	}
	end, err := h.parts[0].Seal(t.Context())
	if err != nil || end != 1 {
		t.Fatalf("sealed at %d, %v", end, err)
	}
	if _, err := h.s.Transact(t.Context(), put("k", "w"), []*Output{output(h.parts[1], "x"), output(h.parts[0], "late")}); !errors.Is(err, ErrSealed) {
		t.Errorf("error %v, want ErrSealed", err)
	}
	if n := len(stored(t, h.parts[1])); n != 0 {
		t.Errorf("%d records of it are visible", n)
	}
	h.close(t)
}

// What the journal carries is not synced in the segments. Publishers do not wait for that to be done when it comes to a seal, nor for the log to be marked and its file let go.
func TestASealSyncsLittleThatTheJournalHasCarried(t *testing.T) {
	var data, names atomic.Int64 // syncs of the segment, and of anything else
	mem := vfs.NewMem()
	h := newHouse(t, vfs.NewFault(mem, vfs.InjectorFunc(func(op vfs.Op) vfs.Outcome {
		switch {
		case op.Kind == vfs.OpDatasync && strings.HasSuffix(op.Name, ".seg"):
			data.Add(1)
		case op.Kind == vfs.OpDatasync || op.Kind == vfs.OpSync || op.Kind == vfs.OpSyncDir:
			names.Add(1)
		}
		return vfs.Outcome{}
	})), log.ModeFsync, newFakeJournal(), 1)
	p := h.parts[0]
	for range 3 {
		if _, err := h.s.Transact(t.Context(), put("k", "v"), []*Output{output(p, "transacted")}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := publish(t.Context(), p, "queued"); err != nil { // there is an appender
		t.Fatal(err)
	}
	data.Store(0)
	p.Approach()
	if data.Load() == 0 {
		t.Error("approaching has synced nothing")
	}
	names.Store(0)
	end, err := p.Seal(t.Context())
	if err != nil || end != 4 || p.Log().SyncedEnd() != 4 {
		t.Fatalf("sealed at %d, synced up to %d, %v", end, p.Log().SyncedEnd(), err)
	}
	if n := names.Load(); n > 0 {
		t.Errorf("publishers waited for %d syncs of names and of the manifest", n)
	}
	if err := p.Rest(); err != nil || names.Load() == 0 {
		t.Errorf("%d syncs of the manifest afterwards, %v", names.Load(), err)
	}
	wantReopenedIn(t, mem, "p0", 4)
}
