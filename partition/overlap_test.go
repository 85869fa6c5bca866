package partition

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/braid-go/braid/internal/vfs"
	"github.com/braid-go/braid/log"
)

// large is a request of several frames, numbered from a first record on; they may be too large to be encoded from one on.
type large struct {
	first, records int
	bad            int // the index of a record that cannot be encoded, if not 0
}

const (
	largeRecord = 32 << 10
	aWhile      = 200 * time.Millisecond
	tooLong     = 10 * time.Second // for something that happens at once if it does at all
)

func (l large) value(i int) string {
	return fmt.Sprintf("%d %s", l.first+i, strings.Repeat("x", largeRecord))
}

func (l large) AppendTo(b *log.Builder, i int, now int64) error {
	if l.bad > 0 && i == l.bad {
		return errStubborn
	}
	return b.Append(now, nil, []byte(l.value(i)), nil)
}

func (l large) request(p *Partition, done func(*Request)) *Request {
	return p.NewRequest(l, l.records, int64(l.records*largeRecord), done)
}

func (l large) publish(p *Partition) error {
	r := l.request(p, nil)
	defer r.Release()
	if err := p.Enqueue(context.Background(), r); err != nil {
		return err
	}
	return r.Wait(context.Background())
}

// wantNumbers checks that a partition holds records of these numbers, in this order and whole.
func wantNumbers(t *testing.T, p *Partition, want ...int) {
	t.Helper()
	got := stored(t, p)
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
	for i, n := range want {
		if got[i] != (large{first: n}).value(0) {
			t.Fatalf("record %d is %.20q, want %d", i, got[i], n)
		}
	}
}

func numbers(from, to int) (out []int) {
	for i := from; i < to; i++ {
		out = append(out, i)
	}
	return out
}

// waiting is large, and one of its records tells that it is being encoded, once, and waits for a signal.
type waiting struct {
	large
	at     int
	begun  chan struct{} // with room for one
	signal chan struct{}
}

func (w waiting) AppendTo(b *log.Builder, i int, now int64) error {
	if i == w.at {
		select {
		case w.begun <- struct{}{}:
		default:
		}
		select {
		case <-w.signal:
		case <-time.After(tooLong):
			return errors.New("it does not come")
		}
	}
	return w.large.AppendTo(b, i, now)
}

// held has a partition hold its appender at a record of its own, which is a round of its own, until all requests of a test are queued.
func held(t *testing.T, p *Partition, enqueue func()) {
	t.Helper()
	begun, signal := make(chan struct{}, 1), make(chan struct{})
	r := p.NewRequest(waiting{large{records: 1}, 0, begun, signal}, 1, 1, nil)
	if err := p.Enqueue(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	<-begun
	enqueue()
	close(signal)
	if err := r.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.Release()
}

func TestARequestThatCannotBeEncodedLeavesNoHoleInALargeRound(t *testing.T) {
	mem := vfs.NewMem()
	p := testPartition(t, mem, log.ModeFsync)
	a, bad, b := (large{first: 1, records: 8}).request(p, nil), (large{first: 100, records: 9, bad: 8}).request(p, nil), (large{first: 9, records: 8}).request(p, nil)
	held(t, p, func() {
		for _, r := range []*Request{a, bad, b} {
			if err := p.Enqueue(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
	})
	if err := bad.Wait(t.Context()); !errors.Is(err, errStubborn) {
		t.Errorf("error %v, want the source's", err)
	}
	if err := errors.Join(a.Wait(t.Context()), b.Wait(t.Context())); err != nil || a.Base() != 1 || b.Base() != 9 {
		t.Errorf("bases %d and %d, error %v", a.Base(), b.Base(), err)
	}
	wantNumbers(t, p, numbers(0, 17)...)
	wantReopened(t, mem, 17)
}

// wantReopened opens what a power cut would leave of a partition, and counts its records.
func wantReopened(t *testing.T, mem *vfs.Mem, want int) {
	t.Helper()
	wantReopenedIn(t, mem, "p", want)
}

func wantReopenedIn(t *testing.T, mem *vfs.Mem, dir string, want int) {
	t.Helper()
	s := NewScheduler(SchedulerOptions{})
	defer s.Close()
	p, report, err := Open(Config{FS: mem.CrashClone(vfs.CrashOptions{}), Dir: dir, Scheduler: s}, nil, log.Proof{})
	if err != nil || len(report.Problems) > 0 {
		t.Fatalf("error %v, %+v", err, report)
	}
	defer p.Close(context.Background())
	if got := stored(t, p); len(got) != want {
		t.Errorf("%d records after a power cut, want %d", len(got), want)
	}
}

// failNth fails the n-th operation of a kind on segments once it is armed.
type failNth struct {
	kind vfs.OpKind
	n    atomic.Int64 // 0: none
	err  error
	seen atomic.Int64
}

func (f *failNth) Inject(op vfs.Op) vfs.Outcome {
	if op.Kind != f.kind || f.n.Load() == 0 || !strings.HasSuffix(op.Name, ".seg") {
		return vfs.Outcome{}
	}
	if f.seen.Add(1) == f.n.Load() {
		return vfs.Outcome{Err: f.err, Effect: vfs.EffectPart, Bytes: 1000}
	}
	return vfs.Outcome{}
}

func (f *failNth) arm(n int64) { f.seen.Store(0); f.n.Store(n) }

func TestWantOfSpaceInALargeRoundLeavesNothingOfIt(t *testing.T) {
	mem := vfs.NewMem()
	full := &failNth{kind: vfs.OpWrite, err: syscall.ENOSPC}
	p := testPartition(t, vfs.NewFault(mem, full), log.ModeFsync)
	if err := (large{records: 1}).publish(p); err != nil {
		t.Fatal(err)
	}
	full.arm(1)
	if err := (large{first: 100, records: 16}).publish(p); !errors.Is(err, log.ErrNoSpace) || errors.Is(err, ErrOutcomeUnknown) {
		t.Fatalf("error %v", err)
	}
	wantReopened(t, mem, 1)
	if err := (large{first: 1, records: 16}).publish(p); err != nil {
		t.Fatalf("with space again: %v", err)
	}
	wantNumbers(t, p, numbers(0, 17)...)
	wantReopened(t, mem, 17)
	if st := p.Stats(); st.Stored != 17 || st.Rejected != 16 || st.Pending() != 0 {
		t.Errorf("%+v", st)
	}
}

func TestAFailedWriteOfALargeRoundFailsThePartition(t *testing.T) {
	mem := vfs.NewMem()
	broken := &failNth{kind: vfs.OpWrite, err: syscall.EIO}
	p := testPartition(t, vfs.NewFault(mem, broken), log.ModeFsync)
	if err := (large{records: 1}).publish(p); err != nil {
		t.Fatal(err)
	}
	broken.arm(1)
	if err := (large{first: 100, records: 16}).publish(p); !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, syscall.EIO) {
		t.Fatalf("error %v", err)
	}
	if err := (large{first: 200, records: 16}).publish(p); !errors.Is(err, ErrFailed) || errors.Is(err, ErrOutcomeUnknown) {
		t.Fatalf("afterwards: error %v", err)
	}
	wantNumbers(t, p, 0)
	wantReopened(t, mem, 1)
}

// overlapping publishes a record and, queued behind it, large requests, and returns, in the order in which their publishers are told, the number of each first record, or the error.
func overlapping(t *testing.T, p *Partition, n int) (told []int, failed []error) {
	t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	held(t, p, func() {
		for i := range n {
			wg.Add(1)
			r := (large{first: 16 * i, records: 16}).request(p, func(r *Request) {
				mu.Lock()
				defer mu.Unlock()
				if r.Err() != nil {
					failed = append(failed, r.Err())
				} else {
					told = append(told, r.Source().(large).first)
				}
				r.Release()
				wg.Done()
			})
			if err := p.Enqueue(context.Background(), r); err != nil {
				t.Fatal(err)
			}
		}
	})
	wg.Wait()
	return told, failed
}

func TestARoundIsSyncedWhileTheNextIsWritten(t *testing.T) {
	var syncing, overlapped atomic.Bool
	written := make(chan struct{}, 1)
	p := testPartition(t, vfs.NewFault(vfs.NewMem(), vfs.InjectorFunc(func(op vfs.Op) vfs.Outcome {
		switch {
		case op.Kind == vfs.OpDatasync && !overlapped.Load():
			syncing.Store(true)
			select { // not for ever: one that is alone is not overlapped
			case <-written:
				overlapped.Store(true)
			case <-time.After(aWhile):
			}
			syncing.Store(false)
		case op.Kind == vfs.OpWrite && syncing.Load():
			select {
			case written <- struct{}{}:
			default:
			}
		}
		return vfs.Outcome{}
	})), log.ModeFsync)
	if err := (large{first: 1000, records: 1}).publish(p); err != nil {
		t.Fatal(err)
	}
	told, failed := overlapping(t, p, 20)
	if len(failed) > 0 || len(told) != 20 {
		t.Fatalf("%d told, %v", len(told), failed)
	}
	for i, first := range told {
		if first != 16*i {
			t.Fatalf("told in the order %v", told)
		}
	}
	if !overlapped.Load() {
		t.Error("nothing was written during any sync")
	}
	wantNumbers(t, p, append([]int{1000, 0}, numbers(0, 320)...)...)
}

// moody is a journal that is busy when it is told to be.
type moody struct {
	*fakeJournal
	busy atomic.Bool
}

func (j *moody) Busy() bool { return j.busy.Load() }

// Also when the journal invites it: its own partition's sync would have to end before.
func TestALesserRoundIsWrittenWhileASyncIsUnderWayToo(t *testing.T) {
	j := &moody{fakeJournal: newFakeJournal()}
	var large2, done atomic.Bool // the second large request has been written; a sync has been held
	syncing, written := make(chan struct{}), make(chan struct{}, 1)
	h := newHouse(t, vfs.NewFault(vfs.NewMem(), vfs.InjectorFunc(func(op vfs.Op) vfs.Outcome {
		switch {
		case op.Kind == vfs.OpDatasync && large2.Load() && done.CompareAndSwap(false, true):
			close(syncing)
			select {
			case <-written:
			case <-time.After(tooLong):
				return vfs.Outcome{Err: errors.New("nothing was written during the sync")}
			}
		case op.Kind == vfs.OpWrite && op.Length > 60*largeRecord:
			large2.Store(true)
		case op.Kind == vfs.OpWrite && done.Load() && op.Length < directBytes:
			select {
			case written <- struct{}{}:
			default:
			}
		}
		return vfs.Outcome{}
	})), log.ModeFsync, j, 1)
	p := h.parts[0]
	// The first is written and, since there is more, not synced here. So the second is written, and the sync of both begins elsewhere, since there is a third, too large to be written together with the last.
	reqs := []*Request{large{first: 1, records: 10}.request(p, nil), large{first: 11, records: 61}.request(p, nil), large{first: 72, records: 15}.request(p, nil)}
	held(t, p, func() {
		for _, r := range reqs {
			if err := p.Enqueue(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
	})
	<-syncing
	j.busy.Store(true)
	lesser := large{first: 87, records: 3}.request(p, nil)
	if err := p.Enqueue(t.Context(), lesser); err != nil {
		t.Fatal(err)
	}
	for _, r := range append(reqs, lesser) {
		if err := r.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.Release()
	}
}

func TestAFailedSyncIsTheLastOneAlsoForWhatWasWrittenMeanwhile(t *testing.T) {
	mem := vfs.NewMem()
	broken := &failNth{kind: vfs.OpDatasync, err: syscall.EIO}
	p := testPartition(t, vfs.NewFault(mem, broken), log.ModeFsync)
	if err := (large{first: 1000, records: 1}).publish(p); err != nil {
		t.Fatal(err)
	}
	broken.arm(5) // the first are for the record in front: its space, and itself
	told, failed := overlapping(t, p, 40)
	if len(failed) == 0 || len(told) == 0 || len(told)+len(failed) != 40 {
		t.Fatalf("%d told, %d failed", len(told), len(failed))
	}
	for _, err := range failed {
		if !errors.Is(err, ErrFailed) && !errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("error %v", err)
		}
	}
	if n := broken.seen.Load(); n != 5 {
		t.Errorf("%d syncs, the fifth of which failed", n)
	}
	wantNumbers(t, p, append([]int{1000, 0}, numbers(0, 16*len(told))...)...) // what a sync has confirmed, and nothing else
	s := NewScheduler(SchedulerOptions{})
	defer s.Close()
	again, _, err := Open(Config{FS: mem.CrashClone(vfs.CrashOptions{}), Dir: "p", Scheduler: s}, nil, log.Proof{})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close(context.Background())
	if left := len(stored(t, again)); left < 2+16*len(told) { // a sync may take along what is being written
		t.Errorf("%d records after a power cut, %d had been told", left, 16*len(told))
	}
}

// Large rounds, small ones, transactions and flushes come as they like: everything is stored once, each publisher's in its order.
func TestLargeRoundsMixWithSmallOnesAndTransactions(t *testing.T) {
	j := newFakeJournal()
	h := newHouse(t, vfs.NewMem(), log.ModeFsync, j, 1)
	p := h.parts[0]
	var wg sync.WaitGroup
	const each = 30
	for range 2 {
		wg.Go(func() {
			for i := range each {
				if err := (large{first: i, records: 20}).publish(p); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for range each {
				if _, err := publish(context.Background(), p, "small"); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for range each {
				if _, err := h.s.Transact(context.Background(), put("k", "v"), []*Output{output(p, "transacted")}); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for range each {
				if err := p.Flush(context.Background()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	count := map[string]int{}
	for _, v := range stored(t, p) {
		count[strings.TrimRight(v, "x")]++
	}
	if count["small"] != 2*each || count["transacted"] != 2*each {
		t.Errorf("%d small, %d transacted", count["small"], count["transacted"])
	}
	if n := len(stored(t, p)); n != 2*each*(20+1+1) {
		t.Errorf("%d records", n)
	}
	if st := p.Stats(); st.Pending() != 0 || st.Stored != 2*each*22 {
		t.Errorf("%+v", st)
	}
}

func TestClosingWaitsForASyncThatIsUnderWay(t *testing.T) {
	g := newGate(vfs.OpDatasync)
	s := NewScheduler(SchedulerOptions{})
	defer s.Close()
	p, err := Create(Config{FS: vfs.NewFault(vfs.NewMem(), g), Dir: "p", Scheduler: s}, log.Birth{PartitionID: 1}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := (large{records: 1}).publish(p); err != nil {
		t.Fatal(err)
	}
	g.close()
	results := make(chan error, 10)
	for i := range 10 {
		r := (large{first: i, records: 16}).request(p, func(r *Request) { results <- r.Err(); r.Release() })
		if err := p.Enqueue(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	<-g.held
	closed := make(chan error)
	go func() { closed <- p.Close(context.Background()) }()
	g.open()
	for range 10 {
		if err := <-results; err != nil && !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}
