package partition

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/braid-go/braid/backpressure"
	"github.com/braid-go/braid/internal/vfs"
	"github.com/braid-go/braid/log"
)

// gate is an injector that holds operations of a kind while it is shut.
type gate struct {
	kind vfs.OpKind
	mu   sync.Mutex
	shut chan struct{} // nil: open
	held chan struct{} // receives when an operation is held
	ops  atomic.Int64
}

func newGate(kind vfs.OpKind) *gate { return &gate{kind: kind, held: make(chan struct{}, 100)} }

func (g *gate) Inject(op vfs.Op) vfs.Outcome {
	if op.Kind != g.kind {
		return vfs.Outcome{}
	}
	g.ops.Add(1)
	g.mu.Lock()
	shut := g.shut
	g.mu.Unlock()
	if shut != nil {
		g.held <- struct{}{}
		<-shut
	}
	return vfs.Outcome{}
}

func (g *gate) close() { g.mu.Lock(); g.shut = make(chan struct{}); g.mu.Unlock() }
func (g *gate) open()  { g.mu.Lock(); close(g.shut); g.shut = nil; g.mu.Unlock() }

func TestPublishersThatComeTogetherShareASync(t *testing.T) {
	g := newGate(vfs.OpDatasync)
	p := testPartition(t, vfs.NewFault(vfs.NewMem(), g), log.ModeFsync)
	if _, err := publish(t.Context(), p, "first"); err != nil {
		t.Fatal(err)
	}
	g.close()
	first := make(chan error)
	go func() { _, err := publish(context.Background(), p, "held"); first <- err }()
	<-g.held
	const n = 200
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if _, err := publish(context.Background(), p, fmt.Sprint(i)); err != nil {
				t.Error(err)
			}
		})
	}
	for p.Stats().QueuedRecords < n {
		runtime.Gosched()
	}
	before := g.ops.Load()
	g.open()
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if syncs := g.ops.Load() - before; syncs > 2 {
		t.Errorf("%d publishers took %d syncs, want one, and perhaps one for zeros", n, syncs)
	}
	if got := len(stored(t, p)); got != n+2 {
		t.Errorf("%d records, want %d", got, n+2)
	}
}

func TestAFailureStaysInItsPartition(t *testing.T) {
	s := NewScheduler(SchedulerOptions{})
	defer s.Close()
	mem := vfs.NewMem()
	var broken atomic.Bool
	fsys := vfs.NewFault(mem, vfs.InjectorFunc(func(op vfs.Op) vfs.Outcome {
		if broken.Load() && op.Kind == vfs.OpDatasync && op.Name[0] == 'a' {
			return vfs.Outcome{Err: syscall.EIO}
		}
		return vfs.Outcome{}
	}))
	var parts []*Partition
	for _, dir := range []string{"a", "b"} {
		p, err := Create(Config{FS: fsys, Dir: dir, Scheduler: s}, log.Birth{PartitionID: 1}, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close(context.Background())
		parts = append(parts, p)
		if _, err := publish(t.Context(), p, "before"); err != nil {
			t.Fatal(err)
		}
	}
	broken.Store(true)
	if _, err := publish(t.Context(), parts[0], "x"); !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, syscall.EIO) {
		t.Errorf("error %v, want ErrOutcomeUnknown with EIO", err)
	}
	if _, err := publish(t.Context(), parts[0], "y"); !errors.Is(err, ErrFailed) || errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("error %v, want ErrFailed", err)
	}
	if _, err := publish(t.Context(), parts[1], "z"); err != nil {
		t.Errorf("the other partition: %v", err)
	}
	if st := parts[0].Stats(); st.Accepted != 2 || st.Stored != 1 || st.Unknown != 1 || st.Rejected != 1 {
		t.Errorf("%+v, want 2 accepted, 1 stored, 1 unknown, 1 rejected", st)
	}
}

func TestAccountingIsExactWhenAllIsQuiet(t *testing.T) {
	p := testPartition(t, vfs.NewMem(), log.ModeFsync)
	var ok, withdrawn, unknown atomic.Int64
	var wg sync.WaitGroup
	for i := range 1000 {
		wg.Go(func() {
			for j := range 5 {
				ctx, cancel := context.WithCancel(context.Background())
				if (i+j)%3 == 0 {
					go cancel()
				}
				_, err := publish(ctx, p, "a", "b")
				switch {
				case err == nil:
					ok.Add(2)
				case errors.Is(err, ErrOutcomeUnknown):
					unknown.Add(2)
				default:
					withdrawn.Add(2)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if err := p.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := p.Stats()
	n := int64(len(stored(t, p)))
	if s.Accepted != s.Stored+s.Unknown || s.Stored != n || s.Rejected != withdrawn.Load() || n < ok.Load() || n > ok.Load()+unknown.Load() {
		t.Errorf("%+v; %d in the log; publishers saw %d stored, %d unknown, %d withdrawn", s, n, ok.Load(), unknown.Load(), withdrawn.Load())
	}
	if s.QueuedRecords != 0 || s.QueuedBytes != 0 {
		t.Errorf("%d records and %d bytes are counted as queued", s.QueuedRecords, s.QueuedBytes)
	}
}

// appenders counts the goroutines that drain lanes.
func appenders() int {
	buf := make([]byte, 1<<20)
	return strings.Count(string(buf[:runtime.Stack(buf, true)]), "partition.(*Partition).append(")
}

func TestAnIdlePartitionLetsEverythingGoAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opens := newGate(vfs.OpOpenReadWrite)
		closes := newGate(vfs.OpClose)
		mem := vfs.NewMem()
		s := NewScheduler(SchedulerOptions{})
		defer s.Close()
		p, err := Create(Config{FS: vfs.NewFault(mem, vfs.OneOf(opens, closes)), Dir: "p", Scheduler: s}, log.Birth{PartitionID: 1}, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close(t.Context())
		for round := range 3 {
			if _, err := publish(t.Context(), p, fmt.Sprint(round)); err != nil {
				t.Fatal(err)
			}
			closed := closes.ops.Load()
			time.Sleep(time.Minute) // of the test's own clock
			synctest.Wait()
			p.mu.Lock()
			if p.last != nil {
				t.Errorf("round %d: the queue's memory is held", round)
			}
			p.mu.Unlock()
			if n := appenders(); p.lane.Load() != nil || n > 0 || closes.ops.Load() == closed {
				t.Errorf("round %d: lane %v, %d appenders, file closed %v", round, p.lane.Load() != nil, n, closes.ops.Load() > closed)
			}
			if opens.ops.Load() != int64(round+1) {
				t.Errorf("round %d: the file was opened %d times", round, opens.ops.Load())
			}
		}
		if diff := cmp.Diff([]string{"0", "1", "2"}, stored(t, p)); diff != "" {
			t.Error(diff)
		}
	})
}

// Letting go races with publishers that have just claimed a slot, over and over.
func TestLettingGoLosesNobody(t *testing.T) {
	s := NewScheduler(SchedulerOptions{})
	defer s.Close()
	p, err := Create(Config{FS: vfs.NewMem(), Dir: "p", Scheduler: s, MarkAfter: time.Nanosecond, ReleaseAfter: time.Nanosecond}, log.Birth{PartitionID: 1}, 0)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	const publishers, each = 4, 500
	for i := range publishers {
		wg.Go(func() {
			for j := range each {
				if _, err := publish(context.Background(), p, fmt.Sprint(i, " ", j)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	next := map[int]int{}
	for _, v := range stored(t, p) {
		var i, j int
		fmt.Sscan(v, &i, &j)
		if next[i] != j {
			t.Fatalf("publisher %d: %d where %d was next", i, j, next[i])
		}
		next[i]++
	}
	for i := range publishers {
		if next[i] != each {
			t.Errorf("publisher %d: %d records, want %d", i, next[i], each)
		}
	}
	if err := p.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestIntervalSyncsFromTimeToTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewScheduler(SchedulerOptions{Mode: log.ModeInterval, SyncInterval: time.Second})
		p, err := Create(Config{FS: vfs.NewMem(), Dir: "p", Mode: log.ModeInterval, Scheduler: s}, log.Birth{PartitionID: 1}, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := publish(t.Context(), p, "a"); err != nil {
			t.Fatal(err)
		}
		if got := p.Log().DurableEnd(); got != 0 {
			t.Errorf("durable through %d at once, want 0", got)
		}
		time.Sleep(1100 * time.Millisecond) // of the test's own clock
		synctest.Wait()
		if got := p.Log().DurableEnd(); got != 1 {
			t.Errorf("durable through %d after the interval, want 1", got)
		}
		if err := p.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.Close()
	})
}

func TestSlowCallbacksHoldUpPublishersAndNotTheDisk(t *testing.T) {
	p := testPartition(t, vfs.NewMem(), log.ModeFsync)
	p.callbacks.limit = 3
	release := make(chan struct{})
	var order []int
	enqueue := func(ctx context.Context, i int) error {
		r := p.NewRequest(text{fmt.Sprint(i)}, 1, 1, func(r *Request) {
			<-release
			order = append(order, i)
			r.Release()
		})
		err := p.Enqueue(ctx, r)
		if err != nil {
			r.Release()
		}
		return err
	}
	for i := range 3 {
		if err := enqueue(t.Context(), i); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := enqueue(ctx, 99); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a fourth: %v, want context.DeadlineExceeded", err)
	}
	if _, err := publish(t.Context(), p, "synchronous ones go on"); err != nil {
		t.Fatal(err)
	}
	fourth := make(chan error)
	go func() { fourth <- enqueue(context.Background(), 3) }()
	close(release)
	if err := <-fourth; err != nil {
		t.Fatal(err)
	}
	if err := p.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{0, 1, 2, 3}, order); diff != "" {
		t.Error(diff)
	}
}

// stubborn is a source whose records cannot be encoded.
type stubborn struct{}

var errStubborn = errors.New("stubborn")

func (stubborn) AppendTo(*log.Builder, int, int64) error { return errStubborn }

func TestARequestThatCannotBeEncodedFailsAlone(t *testing.T) {
	g := newGate(vfs.OpDatasync)
	p := testPartition(t, vfs.NewFault(vfs.NewMem(), g), log.ModeFsync)
	g.close()
	held := make(chan error)
	go func() { _, err := publish(context.Background(), p, "held"); held <- err }()
	<-g.held
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			if _, err := publish(context.Background(), p, fmt.Sprint(i)); err != nil {
				t.Error(err)
			}
		})
	}
	bad := p.NewRequest(stubborn{}, 1, 1, nil)
	if err := p.Enqueue(t.Context(), bad); err != nil {
		t.Fatal(err)
	}
	for p.Stats().QueuedRecords < 11 {
		runtime.Gosched()
	}
	g.open()
	if err := bad.Wait(t.Context()); !errors.Is(err, errStubborn) {
		t.Errorf("error %v, want the source's own", err)
	}
	bad.Release()
	wg.Wait()
	<-held
	if got := len(stored(t, p)); got != 11 {
		t.Errorf("%d records, want 11", got)
	}
}

func TestTooLargeARequestIsRefused(t *testing.T) {
	s := NewScheduler(SchedulerOptions{})
	defer s.Close()
	p, err := Create(Config{FS: vfs.NewMem(), Dir: "p", Scheduler: s, Pressure: backpressure.Policy{MaxRecords: 4}}, log.Birth{PartitionID: 1}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := publish(t.Context(), p, "1", "2", "3", "4", "5"); !errors.Is(err, ErrTooLarge) {
		t.Errorf("error %v, want ErrTooLarge", err)
	}
	if _, err := publish(t.Context(), p, "1", "2", "3", "4"); err != nil {
		t.Error(err)
	}
	if err := p.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := publish(t.Context(), p, "x"); !errors.Is(err, ErrClosed) {
		t.Errorf("error %v, want ErrClosed", err)
	}
	if err := p.Close(t.Context()); err != nil {
		t.Errorf("closing again: %v", err)
	}
}

// Ten thousand idle partitions must cost next to nothing.
func TestAnIdlePartitionIsSmall(t *testing.T) {
	s := NewScheduler(SchedulerOptions{})
	defer s.Close()
	mem := vfs.NewVolatile()
	const n = 500
	parts := make([]*Partition, n)
	for i := range parts {
		p, err := Create(Config{FS: mem, Dir: fmt.Sprint(i), Scheduler: s}, log.Birth{PartitionID: 1}, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for i := range parts {
		var err error
		if parts[i], _, err = Open(Config{FS: mem, Dir: fmt.Sprint(i), Scheduler: s}, nil, log.Proof{}); err != nil {
			t.Fatal(err)
		}
	}
	each := (int64(heap()) - int64(before)) / n
	runtime.KeepAlive(parts)
	t.Logf("%d bytes of heap each", each)
	if each > 4096 {
		t.Errorf("an idle partition takes %d bytes of heap, want at most 4096", each)
	}
	for _, p := range parts {
		p.Close(t.Context())
	}
}

// The publisher had counted its withdrawal; the appender, which refuses what it finds in the queue of a failed partition, counted it again.
func TestAWithdrawalIsCountedOnceWhenThePartitionFails(t *testing.T) {
	var broken atomic.Bool
	g := newGate(vfs.OpDatasync)
	fsys := vfs.NewFault(vfs.NewMem(), vfs.InjectorFunc(func(op vfs.Op) vfs.Outcome {
		g.Inject(op)
		if broken.Load() && op.Kind == vfs.OpDatasync {
			return vfs.Outcome{Err: syscall.EIO}
		}
		return vfs.Outcome{}
	}))
	p := testPartition(t, fsys, log.ModeFsync)
	if _, err := publish(t.Context(), p, "stored"); err != nil {
		t.Fatal(err)
	}
	g.close()
	failing := make(chan error)
	go func() { _, err := publish(context.Background(), p, "unknown"); failing <- err }()
	<-g.held
	ctx, cancel := context.WithCancel(context.Background())
	withdrawn := make(chan error)
	go func() { _, err := publish(ctx, p, "withdrawn"); withdrawn <- err }()
	for p.Stats().QueuedRecords == 0 {
		runtime.Gosched()
	}
	cancel()
	if err := <-withdrawn; !errors.Is(err, context.Canceled) || errors.Is(err, ErrOutcomeUnknown) {
		t.Fatalf("error %v, want a withdrawal", err)
	}
	broken.Store(true)
	g.open()
	if err := <-failing; !errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("error %v, want ErrOutcomeUnknown", err)
	}
	if err := p.Close(t.Context()); err != nil { // waits for the appender
		t.Fatal(err)
	}
	want := Stats{Accepted: 2, Stored: 1, Unknown: 1, Rejected: 1}
	if s := p.Stats(); s.Accepted != want.Accepted || s.Stored != want.Stored || s.Unknown != want.Unknown || s.Rejected != want.Rejected {
		t.Errorf("%+v, want %+v", s, want)
	}
}

// The publisher said that the outcome was unknown while the appender was about to hand it over.
func TestAKnownOutcomeIsToldThoughTheContextHasEnded(t *testing.T) {
	p := testPartition(t, vfs.NewMem(), log.ModeFsync)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r := p.NewRequest(nil, 1, 1, nil)
	r.state.Store(stateDone)
	ended := make(chan error)
	go func() { ended <- r.Wait(ctx) }()
	runtime.Gosched()
	r.resolved <- struct{}{}
	if err := <-ended; err != nil {
		t.Errorf("error %v, want the outcome, which is nil", err)
	}
}
