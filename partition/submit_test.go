package partition

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/braid-go/braid/backpressure"
	"github.com/braid-go/braid/internal/vfs"
	"github.com/braid-go/braid/log"
)

// traced is a text that remembers which goroutine encoded it.
type traced struct {
	text
	by *uint64
}

func (s traced) AppendTo(b *log.Builder, i int, now int64) error {
	*s.by = goroutineID()
	return s.text.AppendTo(b, i, now)
}

// submit submits one record, and reports whether its publisher did the round. The outcome is what Wait returns.
func submit(ctx context.Context, p *Partition, value string) (bool, error) {
	var by uint64
	r := p.NewRequest(traced{text{value}, &by}, 1, int64(len(value)), nil)
	defer r.Release()
	if err := p.Submit(ctx, r); err != nil {
		return false, err
	}
	done := r.state.Load() == stateDone
	err := r.Wait(ctx)
	if by == goroutineID() && !done {
		return true, errors.New("Submit returned before the round was over")
	}
	return by == goroutineID(), err
}

// atRest waits until the appender can be borrowed.
func atRest(t testing.TB, p *Partition) {
	t.Helper()
	for begin := time.Now(); ; runtime.Gosched() {
		if ln := p.lane.Load(); ln != nil && len(ln.resting) > 0 {
			return
		}
		if time.Since(begin) > tooLong {
			t.Fatal("the appender does not come to rest")
		}
	}
}

func TestAPublisherDoesTheRoundItselfWhileTheAppenderRests(t *testing.T) {
	for _, mode := range []log.Mode{log.ModeFsync, log.ModeInterval, log.ModeOS} {
		mem := vfs.NewMem()
		p := testPartition(t, mem, mode)
		if here, err := submit(context.Background(), p, "0"); here || err != nil {
			t.Errorf("there was no appender: %v, %v", here, err)
		}
		atRest(t, p)
		for i := range 3 {
			if here, err := submit(context.Background(), p, fmt.Sprint(i+1)); !here || err != nil {
				t.Errorf("here %v, error %v", here, err)
			}
		}
		if here, err := submit(t.Context(), p, "4"); here || err != nil {
			t.Errorf("with a context that may end: here %v, error %v", here, err)
		}
		if diff := cmp.Diff([]string{"0", "1", "2", "3", "4"}, stored(t, p)); diff != "" {
			t.Error(diff)
		}
		if s := p.Stats(); s.Accepted != 5 || s.Stored != 5 || s.Rounds != 5 {
			t.Errorf("%+v, want 5 stored in 5 rounds", s)
		}
		if mode == log.ModeFsync {
			wantReopened(t, mem, 5)
		}
	}
}

// The appender has been woken for what is queued, and has not got to it yet.
func TestAPublisherPassesNothingThatIsQueued(t *testing.T) {
	p := testPartition(t, vfs.NewMem(), log.ModeOS)
	q, err := backpressure.NewQueue(backpressure.Options{}, func(r *Request) backpressure.Weight { return backpressure.Weight{Records: r.records} })
	if err != nil {
		t.Fatal(err)
	}
	ln := &lane{queue: q, resting: make(chan *appender, 1)}
	ln.resting <- &appender{}
	if ln.borrow() == nil {
		t.Fatal("it could not be borrowed")
	}
	ln.resting <- &appender{}
	if err := q.TryPut(request(p, "queued")); err != nil {
		t.Fatal(err)
	}
	if ln.borrow() != nil || len(ln.resting) != 1 {
		t.Error("it was borrowed although something is queued, or not given back")
	}
	q.Take(nil, 1, 1)
	q.Close()
	if ln.borrow() != nil || len(ln.resting) != 1 {
		t.Error("it was borrowed although the queue is closed, or not given back")
	}
}

func TestWhatCannotBeARoundOfItsOwnIsQueued(t *testing.T) {
	p := testPartition(t, vfs.NewMem(), log.ModeOS)
	if _, err := publish(t.Context(), p, "first"); err != nil {
		t.Fatal(err)
	}
	atRest(t, p)
	tooMany := p.NewRequest(text(make([]string, 1<<20)), 1<<20, 1<<20, nil)
	defer tooMany.Release()
	if err := p.Submit(context.Background(), tooMany); !errors.Is(err, ErrTooLarge) {
		t.Errorf("error %v, want ErrTooLarge", err)
	}
	p.SetBacklog(1)
	late := request(p, "held back")
	defer late.Release()
	if err := p.Submit(context.Background(), late); err != nil {
		t.Fatal(err)
	}
	if late.state.Load() != stateQueued {
		t.Error("it was stored although the backlog is full")
	}
	p.SetBacklog(0)
	if err := late.Wait(t.Context()); err != nil {
		t.Error(err)
	}
}

// One goroutine's records, some of them asynchronous and some not, among others': its order is kept, and nothing is counted twice.
func TestRoundsOfPublishersAndOfTheAppenderKeepTheOrder(t *testing.T) {
	for name, j := range map[string]Journal{"direct": nil, "journal": newFakeJournal()} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, vfs.NewMem(), log.ModeFsync, j, 1)
			p := h.parts[0]
			const publishers, each = 4, 600
			var wg sync.WaitGroup
			for i := range publishers {
				wg.Go(func() {
					for n := range each {
						r := request(p, fmt.Sprint(i, " ", n))
						if n%3 == 0 {
							r.done = func(r *Request) {
								if r.err != nil {
									t.Error(r.err)
								}
								r.Release()
							}
							if err := p.Enqueue(context.Background(), r); err != nil {
								t.Error(err)
							}
							continue
						}
						if err := p.Submit(context.Background(), r); err != nil {
							t.Error(err)
						}
						if err := r.Wait(context.Background()); err != nil {
							t.Error(err)
						}
						r.Release()
						if n%5 == 0 {
							runtime.Gosched()
						}
					}
				})
			}
			wg.Wait()
			if err := p.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			next := map[int]int{}
			for _, v := range stored(t, p) {
				var i, n int
				fmt.Sscan(v, &i, &n)
				if next[i] != n {
					t.Fatalf("publisher %d: %d where %d was next", i, n, next[i])
				}
				next[i]++
			}
			if s := p.Stats(); s.Stored != publishers*each || s.Accepted != s.Stored {
				t.Errorf("%+v, want %d stored", s, publishers*each)
			}
		})
	}
}

// What is queued while a publisher is at it, is stored by the appender afterwards.
func TestWhatIsQueuedWhileAPublisherDoesARoundIsStoredAfterIt(t *testing.T) {
	g := newGate(vfs.OpDatasync)
	p := testPartition(t, vfs.NewFault(vfs.NewMem(), g), log.ModeFsync)
	if _, err := publish(t.Context(), p, "first"); err != nil {
		t.Fatal(err)
	}
	atRest(t, p)
	g.close()
	held := make(chan error)
	go func() {
		here, err := submit(context.Background(), p, "held")
		if !here {
			err = errors.New("the appender did it")
		}
		held <- err
	}()
	<-g.held
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := publish(ctx, p, "never"); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want Canceled: nobody waits for a publisher's round but the appender", err)
	}
	next := request(p, "next")
	defer next.Release()
	if err := p.Submit(context.Background(), next); err != nil || next.state.Load() != stateQueued {
		t.Errorf("state %d, error %v, want it queued", next.state.Load(), err)
	}
	g.open()
	if err := errors.Join(<-held, next.Wait(t.Context())); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"first", "held", "next"}, stored(t, p)); diff != "" {
		t.Error(diff)
	}
}

// A large round is synced later than it is written if more is queued behind it; the publisher's own must not be left to others.
func TestALargeRoundOfAPublisherIsSyncedBeforeItGoesOn(t *testing.T) {
	g := newGate(vfs.OpWrite)
	p := testPartition(t, vfs.NewFault(vfs.NewMem(), g), log.ModeFsync)
	if _, err := publish(t.Context(), p, "first"); err != nil {
		t.Fatal(err)
	}
	atRest(t, p)
	g.close()
	held := make(chan error)
	go func() {
		here, err := submit(context.Background(), p, strings.Repeat("x", directBytes))
		if !here {
			err = errors.Join(err, errors.New("the appender did it"))
		}
		held <- err
	}()
	<-g.held
	next := request(p, "next")
	defer next.Release()
	if err := p.Enqueue(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	g.open()
	if err := errors.Join(<-held, next.Wait(t.Context())); err != nil {
		t.Error(err)
	}
}

func TestClosingAndSealingWaitForAPublishersRound(t *testing.T) {
	for name, end := range map[string]func(p *Partition) error{
		"close": func(p *Partition) error { return p.Close(context.Background()) },
		"hurry": func(p *Partition) error {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			return p.Close(ctx)
		},
		"seal": func(p *Partition) error {
			end, err := p.Seal(context.Background())
			if end != 2 {
				err = errors.Join(err, fmt.Errorf("sealed at %d", end))
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate(vfs.OpDatasync)
			p := testPartition(t, vfs.NewFault(vfs.NewMem(), g), log.ModeFsync)
			if _, err := publish(t.Context(), p, "first"); err != nil {
				t.Fatal(err)
			}
			atRest(t, p)
			g.close()
			held, ended := make(chan error), make(chan error)
			go func() { _, err := submit(context.Background(), p, "held"); held <- err }()
			<-g.held
			ln := p.lane.Load()
			go func() { ended <- end(p) }()
			for !ln.queue.Closed() {
				runtime.Gosched()
			}
			select {
			case err := <-ended:
				t.Errorf("it did not wait, error %v", err)
			default:
			}
			g.open()
			if err := errors.Join(<-held, <-ended); err != nil {
				t.Error(err)
			}
			if here, err := submit(context.Background(), p, "late"); here || !errors.Is(err, ErrClosed) && !errors.Is(err, ErrSealed) {
				t.Errorf("afterwards: here %v, error %v", here, err)
			}
		})
	}
}

func TestAPublisherWhoseSyncFailsIsToldAndThePartitionFails(t *testing.T) {
	broken := false
	p := testPartition(t, vfs.NewFault(vfs.NewMem(), vfs.InjectorFunc(func(op vfs.Op) vfs.Outcome {
		if broken && op.Kind == vfs.OpDatasync {
			return vfs.Outcome{Err: syscall.EIO}
		}
		return vfs.Outcome{}
	})), log.ModeFsync)
	if _, err := publish(t.Context(), p, "first"); err != nil {
		t.Fatal(err)
	}
	atRest(t, p)
	broken = true
	if here, err := submit(context.Background(), p, "x"); !here || !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, syscall.EIO) {
		t.Errorf("here %v, error %v, want ErrOutcomeUnknown with EIO", here, err)
	}
	broken = false
	if _, err := submit(context.Background(), p, "y"); !errors.Is(err, ErrFailed) || errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("error %v, want ErrFailed", err)
	}
	if s := p.Stats(); s.Accepted != 2 || s.Stored != 1 || s.Unknown != 1 || s.Rejected != 1 {
		t.Errorf("%+v, want 2 accepted, 1 stored, 1 unknown, 1 rejected", s)
	}
}

func TestWhatAPublisherHasBroughtToTheJournalReachesTheSegmentSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, vfs.NewMem(), log.ModeFsync, newFakeJournal(), 1)
		p := h.parts[0]
		if _, err := publish(t.Context(), p, "first"); err != nil {
			t.Fatal(err)
		}
		for range 2 { // also when the timer has been set to be idle again
			time.Sleep(2 * applyAfter)
			synctest.Wait()
			if here, err := submit(context.Background(), p, "second"); !here || err != nil {
				t.Errorf("here %v, error %v", here, err)
			}
			if p.pending.none() {
				t.Error("it did not go through the journal")
			}
			time.Sleep(2 * applyAfter)
			synctest.Wait()
			if !p.pending.none() {
				t.Error("it is not in the segment yet")
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if p.lane.Load() != nil {
			t.Error("the lane is kept")
		}
	})
}

// A publisher's round is work like any other: what was idle is not, and is marked again later.
func TestAPartitionIsNotIdleWhilePublishersDoItsRounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := testPartition(t, vfs.NewMem(), log.ModeFsync)
		if _, err := publish(t.Context(), p, "first"); err != nil {
			t.Fatal(err)
		}
		for range 200 {
			time.Sleep(time.Second)
			synctest.Wait()
			if here, err := submit(context.Background(), p, "x"); !here || err != nil {
				t.Fatalf("here %v, error %v", here, err)
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if p.lane.Load() != nil {
			t.Error("the lane is kept")
		}
	})
}

// Where there is no sync to wait for, encoding side by side is worth more than a round of one's own.
func TestLargeRequestsAreQueuedWhereSeveralPublishersHaveThem(t *testing.T) {
	for _, mode := range []log.Mode{log.ModeFsync, log.ModeOS} {
		p := testPartition(t, vfs.NewMem(), mode)
		if _, err := publish(t.Context(), p, "first"); err != nil {
			t.Fatal(err)
		}
		atRest(t, p)
		large := strings.Repeat("x", aheadFrom)
		if here, err := submit(context.Background(), p, large); !here || err != nil {
			t.Errorf("mode %d: alone: here %v, error %v", mode, here, err)
		}
		a := <-p.lane.Load().resting // another publisher has it
		r := request(p, large)
		if err := p.Submit(context.Background(), r); err != nil {
			t.Fatal(err)
		}
		p.lane.Load().resting <- a
		if err := r.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.Release()
		queued := 0
		for range crowdFor + 1 {
			atRest(t, p)
			if here, err := submit(context.Background(), p, "small"); !here || err != nil {
				t.Errorf("mode %d: a small one: here %v, error %v", mode, here, err)
			}
			here, err := submit(context.Background(), p, large)
			if err != nil {
				t.Fatal(err)
			}
			if !here {
				queued++
			}
		}
		if want := map[log.Mode]int{log.ModeFsync: 0, log.ModeOS: crowdFor}[mode]; queued != want {
			t.Errorf("mode %d: %d large ones were queued, want %d", mode, queued, want)
		}
	}
}

// Its publishers are told when it is written, which they would not be by a round of their own.
func TestAPublisherLeavesItToTheAppenderWhileTheQualityIsLess(t *testing.T) {
	p := testPartition(t, vfs.NewMem(), log.ModeFsync)
	if err := p.SetPressure(backpressure.Policy{Strategy: backpressure.DegradeQuality, MaxRecords: 1000, ReduceAck: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := publish(t.Context(), p, "first"); err != nil {
		t.Fatal(err)
	}
	atRest(t, p)
	p.lane.Load().queue.Hold(true)
	if here, err := submit(context.Background(), p, "x"); here || err != nil {
		t.Errorf("here %v, error %v", here, err)
	}
	p.lane.Load().queue.Hold(false)
}

// The timer may have been set for a log that has been idle.
func TestWhatAPublisherHasBroughtToTheJournalReachesTheSegmentSoonAlsoWhenTheLogWasMarked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, vfs.NewMem(), log.ModeFsync, newFakeJournal(), 1)
		p := h.parts[0]
		if _, err := publish(t.Context(), p, "first"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		ln := p.lane.Load()
		a := <-ln.resting
		a.marked, a.soon = true, true // idle, and then something was on its way
		ln.resting <- a
		if here, err := submit(context.Background(), p, "second"); !here || err != nil || p.pending.none() {
			t.Errorf("here %v, error %v, in the segment %v", here, err, p.pending.none())
		}
		time.Sleep(2 * applyAfter)
		synctest.Wait()
		if !p.pending.none() {
			t.Error("it is not in the segment yet")
		}
	})
}

// fatal is a source that panics.
type fatal struct{}

func (fatal) AppendTo(*log.Builder, int, int64) error { panic("a bug") }

// A publisher that recovers must not leave a partition behind that takes nothing any more.
func TestAPanicInAPublishersRoundEndsTheProgram(t *testing.T) {
	if os.Getenv("BRAID_PANIC") == "" {
		cmd := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.timeout", "20s")
		cmd.Env = append(os.Environ(), "BRAID_PANIC=1")
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "in a round of a partition: a bug") {
			t.Errorf("error %v, output %.500s", err, out)
		}
		return
	}
	defer func() { _ = recover() }()
	p := testPartition(t, vfs.NewMem(), log.ModeOS)
	if _, err := publish(t.Context(), p, "first"); err != nil {
		t.Fatal(err)
	}
	atRest(t, p)
	_ = p.Submit(context.Background(), p.NewRequest(fatal{}, 1, 1, nil))
}
