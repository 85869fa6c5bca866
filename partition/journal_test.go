package partition

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/braid-go/braid/checkpoint"
	"github.com/braid-go/braid/internal/vfs"
	"github.com/braid-go/braid/log"
)

// fakeJournal keeps what it is given, invites frames always, and fails when it is told to.
type fakeJournal struct {
	*checkpoint.Memory
	mu     sync.Mutex
	kept   map[uint64][][]byte
	before func() error // before anything is prepared
	after  func() error // instead of telling that it is durable
}

func newFakeJournal() *fakeJournal {
	return &fakeJournal{Memory: checkpoint.NewMemory(checkpoint.MemoryOptions{}), kept: map[uint64][][]byte{}}
}

func (j *fakeJournal) Busy() bool    { return true }
func (j *fakeJournal) Crowded() bool { return false }

func (j *fakeJournal) CommitFrames(ctx context.Context, b *checkpoint.Batch, c checkpoint.Carrier) (checkpoint.Revision, error) {
	j.mu.Lock()
	before, after := j.before, j.after
	j.mu.Unlock()
	if before != nil {
		if err := before(); err != nil {
			return 0, err
		}
	}
	rev, err := j.Memory.CommitFrames(ctx, b, &spyCarrier{c, j, after != nil})
	if err == nil && after != nil {
		err = after()
	}
	return rev, err
}

// meddle sets what is done before and after the commits that begin from now on.
func (j *fakeJournal) meddle(before, after func() error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.before, j.after = before, after
}

// spyCarrier keeps a copy of the frames, and drops the news that they are durable if the journal is to fail.
type spyCarrier struct {
	checkpoint.Carrier
	j    *fakeJournal
	mute bool
}

func (c *spyCarrier) Prepare(seq uint64, dst []checkpoint.Frames) ([]checkpoint.Frames, error) {
	frames, err := c.Carrier.Prepare(seq, dst)
	if err != nil {
		return frames, err
	}
	size := 0
	c.j.mu.Lock()
	defer c.j.mu.Unlock()
	for _, f := range frames {
		size += len(f.Data)
		c.j.kept[f.Owner] = append(c.j.kept[f.Owner], slices.Clone(f.Data))
	}
	if size > c.Bound() {
		panic(fmt.Sprintf("%d bytes of frames, bound %d", size, c.Bound()))
	}
	return frames, nil
}

func (c *spyCarrier) Durable() {
	if !c.mute {
		c.Carrier.Durable()
	}
}

// house is some partitions with a journal.
type house struct {
	s     *Scheduler
	parts []*Partition
}

func newHouse(t testing.TB, fsys vfs.FS, mode log.Mode, j Journal, n int) *house {
	t.Helper()
	h := &house{s: NewScheduler(SchedulerOptions{Mode: mode})}
	if j != nil {
		h.s.SetJournal(j)
	}
	for i := range n {
		p, err := Create(Config{FS: fsys, Dir: fmt.Sprint("p", i), Mode: mode, Scheduler: h.s}, log.Birth{PartitionID: uint64(i + 1)}, 0)
		if err != nil {
			t.Fatal(err)
		}
		h.parts = append(h.parts, p)
	}
	t.Cleanup(func() { h.close(t) })
	return h
}

func (h *house) close(t testing.TB) {
	t.Helper()
	for _, p := range h.parts {
		if err := p.Close(context.Background()); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	h.s.Close()
}

func output(p *Partition, values ...string) *Output {
	n := int64(0)
	for _, v := range values {
		n += int64(len(v))
	}
	return &Output{Partition: p, Source: text(values), Records: len(values), Bytes: n}
}

func put(key, value string) *checkpoint.Batch {
	b := &checkpoint.Batch{}
	b.Put([]byte(key), []byte(value))
	return b
}

func TestARoundInTheJournalIsVisibleWhenItIsDurableAndNotBefore(t *testing.T) {
	j := newFakeJournal()
	var h *house
	look := func() error {
		if end := h.parts[0].Log().VisibleEnd(); end != 0 {
			t.Errorf("visible to %d before the journal has it", end)
		}
		return nil
	}
	h = newHouse(t, vfs.NewMem(), log.ModeFsync, j, 1)
	j.meddle(look, nil)
	// Another partition at work has this one share.
	h.s.active.Add(1)
	defer h.s.active.Add(-1)
	if _, err := publish(t.Context(), h.parts[0], "a", "b"); err != nil {
		t.Fatal(err)
	}
	if end := h.parts[0].Log().VisibleEnd(); end != 2 {
		t.Errorf("visible to %d when Publish has returned, want 2", end)
	}
	if diff := cmp.Diff([]string{"a", "b"}, stored(t, h.parts[0])); diff != "" || len(j.kept[1]) != 1 {
		t.Errorf("%s, %d pieces in the journal", diff, len(j.kept[1]))
	}
	if s := h.parts[0].Stats(); s.Stored != 2 || s.Syncs != 0 {
		t.Errorf("%+v, want 2 stored without a sync of the segment", s)
	}
}

// Somebody else is about to write it to the segment: a reader waits for that.
func TestAReaderSeesWhatIsDurableWhileItIsBeingWrittenToTheSegment(t *testing.T) {
	g := newGate(vfs.OpWrite)
	h := newHouse(t, vfs.NewFault(vfs.NewMem(), g), log.ModeFsync, newFakeJournal(), 1)
	defer h.close(t)
	p := h.parts[0]
	g.close()
	done := make(chan error, 1)
	go func() {
		_, err := h.s.Transact(context.Background(), put("k", "v"), []*Output{output(p, "x")})
		done <- err
	}()
	<-g.held // it is durable, and on its way to the segment
	looked := make(chan int64, 1)
	go func() { looked <- p.Log().VisibleEnd() }()
	select {
	case end := <-looked:
		t.Errorf("a reader sees the end %d", end)
		g.open()
	case <-time.After(10 * time.Millisecond):
		g.open()
		if end := <-looked; end != 1 {
			t.Errorf("a reader sees the end %d, want 1", end)
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// What was on its way from the journal to the segment counted as not durable, so that a transaction that met it synced the segment and began anew.
func TestWhatIsOnItsWayToTheSegmentNeedsNoSync(t *testing.T) {
	g := newGate(vfs.OpWrite)
	h := newHouse(t, vfs.NewFault(vfs.NewMem(), g), log.ModeFsync, newFakeJournal(), 1)
	p := h.parts[0]
	g.close()
	done := make(chan error, 1)
	go func() {
		_, err := h.s.Transact(context.Background(), put("k", "v"), []*Output{output(p, "x")})
		done <- err
	}()
	<-g.held
	p.ordering.Lock()
	err := p.sendable()
	p.ordering.Unlock()
	g.open()
	if err != nil {
		t.Errorf("the next frames cannot be sent: %v", err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestOnePartitionAloneSyncsItsSegment(t *testing.T) {
	j := newFakeJournal()
	h := newHouse(t, vfs.NewMem(), log.ModeFsync, idle{j}, 2)
	for _, p := range h.parts {
		if _, err := publish(t.Context(), p, "x"); err != nil {
			t.Fatal(err)
		}
	}
	if len(j.kept) > 0 {
		t.Error("frames went into the journal")
	}
}

// idle is a journal with nothing to do.
type idle struct{ *fakeJournal }

func (idle) Busy() bool { return false }

func TestRoundsMixWithDirectOnesAndTransactionsInOrder(t *testing.T) {
	for _, mode := range []log.Mode{log.ModeFsync, log.ModeInterval, log.ModeOS} {
		j := newFakeJournal()
		mem := vfs.NewMem()
		h := newHouse(t, mem, mode, j, 3)
		var wg sync.WaitGroup
		const publishers, each = 40, 50
		for i := range publishers {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(uint64(i), 1))
				for k := range each {
					p := h.parts[i%3]
					if i%4 == 0 {
						outs := []*Output{output(p, fmt.Sprint(i, " ", k)), output(h.parts[(i+1)%3], "other")}
						if _, err := h.s.Transact(t.Context(), put(fmt.Sprint("k", i), fmt.Sprint(k)), outs); err != nil {
							t.Error(err)
						}
						continue
					}
					value := fmt.Sprint(i, " ", k)
					if rnd.IntN(10) == 0 { // large ones go their own way
						value += strings.Repeat(" ", directBytes)
					}
					if _, err := publish(t.Context(), p, value); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		next := map[int]int{}
		others := 0
		for _, p := range h.parts {
			for _, v := range stored(t, p) {
				if v == "other" {
					others++
					continue
				}
				var i, k int
				fmt.Sscan(v, &i, &k)
				if next[i] != k {
					t.Fatalf("mode %d, publisher %d: %d follows %d", mode, i, k, next[i]-1)
				}
				next[i]++
			}
			if s := p.Stats(); s.Accepted != s.Stored || s.Unknown+s.Rejected != 0 {
				t.Errorf("%+v", s)
			}
			for p.pending.announce(0) != 0 || p.txns.Load() != 0 { // all that was announced is taken back, or this hangs
				runtime.Gosched()
			}
		}
		if len(next) != publishers || others != publishers/4*each {
			t.Errorf("%d publishers, %d others", len(next), others)
		}
		// What the journal has is enough, whatever the segments have lost since they were last synced.
		if mode == log.ModeFsync {
			checkRedo(t, mem.CrashClone(vfs.CrashOptions{}), j.kept, h)
		}
	}
}

// checkRedo opens what a crash has left and wants it to be as it was.
func checkRedo(t *testing.T, crashed *vfs.Mem, kept map[uint64][][]byte, h *house) {
	t.Helper()
	s := NewScheduler(SchedulerOptions{})
	defer s.Close()
	for i, p := range h.parts {
		want := stored(t, p)
		again, _, err := Open(Config{FS: crashed, Dir: fmt.Sprint("p", i), Scheduler: s}, nil, log.Proof{Logged: kept[uint64(p.ID())]})
		if err != nil {
			t.Fatal(err)
		}
		if got := stored(t, again); !slices.Equal(got, want) {
			t.Errorf("partition %d has %d records after the crash, want %d", p.ID(), len(got), len(want))
		}
		if err := again.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestATransactionHappensWhollyOrNotAtAll(t *testing.T) {
	h := newHouse(t, vfs.NewMem(), log.ModeFsync, newFakeJournal(), 3)
	outs := []*Output{output(h.parts[2], "c1", "c2"), output(h.parts[0], "a")}
	if _, err := h.s.Transact(t.Context(), put("k", "1"), outs); err != nil {
		t.Fatal(err)
	}
	conflict := put("k", "2")
	conflict.Expect([]byte("k"), 77)
	_, err := h.s.Transact(t.Context(), conflict, []*Output{output(h.parts[0], "no"), output(h.parts[1], "no")})
	if !errors.Is(err, checkpoint.ErrConflict) {
		t.Errorf("error %v, want ErrConflict", err)
	}
	bad := &Output{Partition: h.parts[1], Source: stubborn{}, Records: 1, Bytes: 1}
	if _, err := h.s.Transact(t.Context(), put("k", "3"), []*Output{output(h.parts[0], "no"), bad}); !errors.Is(err, errStubborn) {
		t.Errorf("error %v, want that of encoding", err)
	}
	twice := []*Output{output(h.parts[0], "no"), output(h.parts[0], "no")}
	if _, err := h.s.Transact(t.Context(), new(checkpoint.Batch), twice); err == nil {
		t.Error("a partition named twice was accepted")
	}
	for _, p := range h.parts {
		if _, err := publish(t.Context(), p, "after"); err != nil {
			t.Fatal(err)
		}
	}
	got := [][]string{stored(t, h.parts[0]), stored(t, h.parts[1]), stored(t, h.parts[2])}
	if diff := cmp.Diff([][]string{{"a", "after"}, {"after"}, {"c1", "c2", "after"}}, got); diff != "" {
		t.Errorf("what failed has left something, a gap among it:\n%s", diff)
	}
	for _, o := range outs {
		if o.Base() != 0 || o.Time() == 0 {
			t.Errorf("base %d, time %d", o.Base(), o.Time())
		}
	}
}

func TestAJournalThatFailsUnderARoundFailsThePartitionAndNoOther(t *testing.T) {
	j := newFakeJournal()
	h := newHouse(t, vfs.NewMem(), log.ModeFsync, j, 3)
	for _, p := range h.parts {
		if _, err := publish(t.Context(), p, "before"); err != nil {
			t.Fatal(err)
		}
	}
	broken := fmt.Errorf("%w: %w", checkpoint.ErrOutcomeUnknown, syscall.EIO)
	j.meddle(nil, func() error { return broken })
	if _, err := publish(t.Context(), h.parts[0], "lost?"); !errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("error %v, want ErrOutcomeUnknown", err)
	}
	if _, err := h.s.Transact(t.Context(), put("k", "v"), []*Output{output(h.parts[1], "lost?")}); !errors.Is(err, checkpoint.ErrOutcomeUnknown) {
		t.Errorf("error %v, want ErrOutcomeUnknown", err)
	}
	j.meddle(func() error { return &checkpoint.FailedError{Cause: syscall.EIO} }, nil)
	for i, p := range h.parts {
		_, err := publish(t.Context(), p, "after")
		if want := i < 2; errors.Is(err, ErrFailed) != want || !want && err != nil {
			t.Errorf("partition %d: error %v", i, err)
		}
		if got := stored(t, p); got[0] != "before" || len(got) != map[bool]int{true: 1, false: 2}[i < 2] {
			t.Errorf("partition %d: %v", i, got)
		}
	}
	for i, p := range h.parts {
		if s := p.Stats(); s.Accepted != s.Stored+s.Unknown || s.Unknown != int64(map[bool]int{true: 1, false: 0}[i < 2]) {
			t.Errorf("%+v", s)
		}
	}
	if _, err := h.s.Transact(t.Context(), put("k", "v"), []*Output{output(h.parts[2], "no")}); !errors.Is(err, checkpoint.ErrFailed) {
		t.Errorf("error %v, want ErrFailed", err)
	}
}

func TestAPartitionThatCannotBeSyncedKeepsItsFramesInTheJournal(t *testing.T) {
	var broken atomic.Bool
	fsys := vfs.NewFault(vfs.NewMem(), vfs.InjectorFunc(func(op vfs.Op) vfs.Outcome {
		if broken.Load() && op.Kind == vfs.OpDatasync && strings.HasPrefix(op.Name, "p1/") {
			return vfs.Outcome{Err: syscall.EIO}
		}
		return vfs.Outcome{}
	}))
	h := newHouse(t, fsys, log.ModeFsync, newFakeJournal(), 3)
	h.s.active.Add(1)
	defer h.s.active.Add(-1)
	for _, p := range h.parts {
		if _, err := publish(t.Context(), p, "x"); err != nil {
			t.Fatal(err)
		}
	}
	broken.Store(true)
	for range 2 { // it stays so
		if keep := h.s.Settle(); !slices.Equal(keep, []uint64{2}) {
			t.Errorf("frames of %v are to be kept, want those of 2", keep)
		}
	}
	if got := stored(t, h.parts[1]); !slices.Equal(got, []string{"x"}) {
		t.Errorf("what was visible is %v", got)
	}
}

func TestAWithdrawnRequestDoesNotGoIntoTheJournal(t *testing.T) {
	j := newFakeJournal()
	h := newHouse(t, vfs.NewMem(), log.ModeFsync, j, 1)
	h.s.active.Add(1)
	defer h.s.active.Add(-1)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	once := sync.OnceFunc(func() { cancel(); <-ended })
	j.meddle(func() error { once(); return nil }, nil)
	go func() {
		defer close(ended)
		_, err := publish(ctx, h.parts[0], "withdrawn")
		if !errors.Is(err, context.Canceled) || errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("error %v, want a withdrawal", err)
		}
	}()
	<-ended
	if _, err := publish(t.Context(), h.parts[0], "stored"); err != nil {
		t.Fatal(err)
	}
	if got := stored(t, h.parts[0]); !slices.Equal(got, []string{"stored"}) {
		t.Errorf("%v", got)
	}
}

func TestRequestsThatComeWhileARoundWaitsJoinIt(t *testing.T) {
	j := newFakeJournal()
	h := newHouse(t, vfs.NewMem(), log.ModeFsync, j, 1)
	h.s.active.Add(1)
	defer h.s.active.Add(-1)
	p := h.parts[0]
	var wg sync.WaitGroup
	once := sync.OnceFunc(func() {
		for i := range 20 {
			wg.Go(func() {
				if _, err := publish(context.Background(), p, fmt.Sprint(i)); err != nil {
					t.Error(err)
				}
			})
		}
		for p.Stats().QueuedRecords < 20 {
			runtime.Gosched()
		}
	})
	j.meddle(func() error { once(); return nil }, nil)
	if _, err := publish(t.Context(), p, "first"); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if s := p.Stats(); s.Stored != 21 || s.Rounds != 1 || len(j.kept[1]) != 1 {
		t.Errorf("%+v, %d pieces in the journal: want one round of 21", s, len(j.kept[1]))
	}
}

func TestWhatTheJournalHasReachesTheSegmentSoonAndIsMarkedWhenIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem()
		j := newFakeJournal()
		h := newHouse(t, mem, log.ModeFsync, j, 1)
		p := h.parts[0]
		if _, err := h.s.Transact(t.Context(), put("k", "v"), []*Output{output(p, "by a transaction")}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * applyAfter)
		synctest.Wait()
		if !p.pending.none() {
			t.Error("it is not in the segment yet")
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		s := NewScheduler(SchedulerOptions{})
		defer s.Close()
		again, report, err := Open(Config{FS: mem.CrashClone(vfs.CrashOptions{}), Dir: "p0", Scheduler: s}, nil, log.Proof{})
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close(t.Context())
		if got := stored(t, again); len(got) != 1 || report.Recovered {
			t.Errorf("%v, %+v: idle, it was not synced and marked", got, report)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if p.lane.Load() != nil {
			t.Error("the lane is kept")
		}
	})
}

func TestClosingWaitsForTransactionsAndRefusesLaterOnes(t *testing.T) {
	j := newFakeJournal()
	h := newHouse(t, vfs.NewMem(), log.ModeFsync, j, 1)
	p := h.parts[0]
	if err := p.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := h.s.Transact(t.Context(), put("k", "v"), []*Output{output(p, "late")}); !errors.Is(err, ErrClosed) {
		t.Errorf("error %v, want ErrClosed", err)
	}
	if v, _, _ := j.Get(t.Context(), []byte("k")); v != nil {
		t.Error("the transaction has happened")
	}
}

// A transaction that had looked whether the partition is open when it was closed.
func TestATransactionThatMeetsAClosedLogSaysClosed(t *testing.T) {
	h := newHouse(t, vfs.NewMem(), log.ModeFsync, newFakeJournal(), 1)
	p := h.parts[0]
	if _, err := p.startLane(); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := storeFailed(p.makeRoom(100)); !errors.Is(err, ErrClosed) {
		t.Errorf("error %v, want ErrClosed", err)
	}
}

func TestATransactionThatOnePartitionRefusesIsAccountedForInTheOthers(t *testing.T) {
	h := newHouse(t, vfs.NewMem(), log.ModeFsync, newFakeJournal(), 2)
	if err := h.parts[1].Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := h.s.Transact(t.Context(), put("k", "v"), []*Output{output(h.parts[0], "a"), output(h.parts[1], "b")}); !errors.Is(err, ErrClosed) {
		t.Errorf("error %v, want ErrClosed", err)
	}
	for i, p := range h.parts {
		if s := p.Stats(); s.Pending() != 0 || s.Accepted != 0 || s.Rejected != int64(1-i) {
			t.Errorf("partition %d: %+v", i, s)
		}
	}
}
