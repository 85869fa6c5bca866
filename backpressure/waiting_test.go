package backpressure

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// arrive has j put by a goroutine of its own and returns when that goroutine is in
// the line or done. The channel receives what Put returned. For use in a bubble.
func arrive(ctx context.Context, q *Queue[job], j job) <-chan error {
	result := make(chan error, 1)
	go func() { result <- q.Put(ctx, j) }()
	synctest.Wait()
	return result
}

// state says how a Put that arrived is doing.
func state(result <-chan error) string {
	synctest.Wait()
	select {
	case err := <-result:
		if err != nil {
			return err.Error()
		}
		return "queued"
	default:
		return "waiting"
	}
}

func wantState(t *testing.T, what string, result <-chan error, want string) {
	t.Helper()
	if got := state(result); got != want {
		t.Errorf("%s: %s, want %s", what, got, want)
	}
}

// fill queues n items of producer 0.
func fill(t *testing.T, q *Queue[job], n int) {
	t.Helper()
	for i := range n {
		if err := q.TryPut(one(0, i)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWaitingProducersAreLetInInOrderOfArrival(t *testing.T) {
	const producers = 64
	for name, opts := range map[string]Options{
		"records": {MaxRecords: 4},
		"bytes":   {MaxBytes: 4},
		"slots":   {Slots: 4},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := newQueue(t, opts)
				fill(t, q, 4)
				var want []int
				for p := range producers {
					arrive(t.Context(), q, one(p, 0))
					want = append(want, p)
				}
				if got := q.Take(nil, 4, 4); len(got) != 4 {
					t.Fatalf("took %d items of 4", len(got))
				}
				var got []int
				for len(got) < producers {
					batch := q.Take(nil, 3, 3) // without a pause, so that nobody who is told gets to run
					if len(batch) == 0 {
						t.Fatalf("nothing to take after %d of %d", len(got), producers)
					}
					for _, j := range batch {
						got = append(got, j.producer)
					}
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

func TestNobodyOvertakesAProducerThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t, Options{MaxRecords: 10})
		fill(t, q, 10)
		first := arrive(t.Context(), q, one(1, 0))
		q.Take(nil, 1, 1) // room for one, but not below 70 %
		late := arrive(t.Context(), q, one(2, 0))
		if err := q.TryPut(one(3, 0)); !errors.Is(err, ErrFull) {
			t.Errorf("TryPut past the line = %v, want ErrFull", err)
		}
		wantState(t, "first", first, "waiting")
		q.Take(nil, 9, 9)
		wantState(t, "first", first, "queued")
		wantState(t, "late", late, "queued")
		if got := q.Take(nil, 9, 9); len(got) != 2 || got[0].producer != 1 || got[1].producer != 2 {
			t.Errorf("took %+v, want producers 1, 2", got)
		}
		if err := q.TryPut(one(3, 0)); err != nil {
			t.Errorf("TryPut when the line is empty again = %v", err)
		}
	})
}

func TestWaitingProducersGoOnBelowWarningAndUpToTheLimit(t *testing.T) {
	for name, opts := range map[string]Options{
		"records": {MaxRecords: 16},
		"bytes":   {MaxBytes: 16},
		"slots":   {Slots: 16},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := newQueue(t, opts)
				fill(t, q, 16)
				var results []<-chan error
				for p := range 6 {
					results = append(results, arrive(t.Context(), q, one(p, 0)))
				}
				for range 4 { // 70 % of 16 is 11.2
					q.Take(nil, 1, 1)
				}
				wantState(t, "at 12 of 16", results[0], "waiting")
				q.Take(nil, 1, 1)
				for _, r := range results[:5] {
					wantState(t, "when 11 of 16 had been reached", r, "queued")
				}
				wantState(t, "the one beyond the limit", results[5], "waiting")
				if q.Len() != 16 {
					t.Errorf("Len = %d, want 16", q.Len())
				}
				q.Close()
			})
		})
	}
}

func TestAnItemThatNeedsAnEmptyQueueGetsIn(t *testing.T) {
	for name, big := range map[string]Weight{
		"all records":    {10, 1},
		"all bytes":      {1, 10},
		"above MaxBytes": {1, 1000},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := newQueue(t, Options{MaxRecords: 10, MaxBytes: 10})
				fill(t, q, 2)
				result := arrive(t.Context(), q, job{weight: big})
				behind := arrive(t.Context(), q, one(1, 0))
				q.Take(nil, 1, 1)
				wantState(t, "beside another", result, "waiting")
				q.Take(nil, 1, 1)
				wantState(t, "alone", result, "queued")
				wantState(t, "behind it", behind, "waiting")
				q.Take(nil, 1, 1)
				wantState(t, "behind it", behind, "queued")
			})
		})
	}
}

func TestAPutWhoseContextEndsLeavesNothingBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t, Options{MaxRecords: 4})
		fill(t, q, 4)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var gone []<-chan error
		before := arrive(t.Context(), q, one(0, 4))
		for range 3 {
			gone = append(gone, arrive(ctx, q, one(1, 0)))
		}
		after := arrive(t.Context(), q, one(0, 5))
		time.Sleep(time.Minute) // the bubble's clock
		for _, r := range gone {
			wantState(t, "expired", r, context.DeadlineExceeded.Error())
		}
		wantState(t, "before", before, "waiting")
		if want := (Weight{4, 4}); q.Depth() != want || q.Len() != 4 {
			t.Errorf("Depth = %+v, Len = %d, want %+v, 4", q.Depth(), q.Len(), want)
		}
		got := q.Take(nil, 4, 4)
		wantState(t, "before", before, "queued")
		wantState(t, "after", after, "queued")
		checkPerProducer(t, q.Take(got, 4, 4), []int{6})
		if q.Depth() != (Weight{}) {
			t.Errorf("Depth = %+v at the end", q.Depth())
		}
		fill(t, q, 4) // the line is empty, so nobody bars the way
	})
}

func TestAPutWithAContextThatHasEndedQueuesNothing(t *testing.T) {
	q := newQueue(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := q.Put(ctx, one(0, 0)); !errors.Is(err, context.Canceled) || q.Len() != 0 {
		t.Errorf("Put = %v, Len = %d", err, q.Len())
	}
}

func TestAProducerThatGivesUpPassesItsTurnOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t, Options{MaxRecords: 10})
		fill(t, q, 5)
		ctx, cancel := context.WithCancel(t.Context())
		big := arrive(ctx, q, job{weight: Weight{10, 1}})
		small := arrive(t.Context(), q, one(1, 0))
		wantState(t, "behind a big one", small, "waiting")
		cancel()
		wantState(t, "big", big, context.Canceled.Error())
		wantState(t, "with nobody in front", small, "queued")
	})
}

// A producer that claimed depth without the lock and then found no slot gives its
// claim back. If that claim was all that kept the front of the line out, nobody
// else will look.
func TestAClaimThatIsGivenUpLetsTheLineGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t, Options{MaxRecords: 10})
		claim := pack(1, 1)
		if _, ok := q.gauge.claim(claim, waitingBit); !ok {
			t.Fatal("no room in an empty queue")
		}
		result := arrive(t.Context(), q, job{weight: Weight{10, 1}})
		wantState(t, "beside the claim", result, "waiting")
		q.withdraw(claim)
		wantState(t, "after the claim was given up", result, "queued")
	})
}

// The same as a race: claims come and are given up all the time while an item that
// fits only without them is put, taken and put again.
func TestNoProducerIsLeftInTheLineByAClaimThatIsGivenUp(t *testing.T) {
	const claims = 200_000
	synctest.Test(t, func(t *testing.T) { // a producer that is left is a deadlock
		q := newQueue(t, Options{MaxRecords: 10})
		var over atomic.Bool
		go func() {
			defer over.Store(true)
			w := pack(1, 1)
			for range claims {
				if _, ok := q.gauge.claim(w, waitingBit); ok {
					q.withdraw(w)
				}
			}
		}()
		for !over.Load() {
			if err := q.Put(t.Context(), job{weight: Weight{10, 1}}); err != nil {
				t.Fatal(err)
			}
			q.Take(nil, 10, 10)
		}
	})
}

func TestCloseTurnsWaitingProducersAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t, Options{MaxRecords: 4})
		fill(t, q, 4)
		var results []<-chan error
		for range 5 {
			results = append(results, arrive(t.Context(), q, one(1, 0)))
		}
		q.Close()
		for _, r := range results {
			wantState(t, "waiting at Close", r, ErrClosed.Error())
		}
		checkPerProducer(t, q.Take(nil, 4, 4), []int{4, 0})
		if !q.Drained() || q.Depth() != (Weight{}) {
			t.Errorf("Drained = %v, Depth = %+v", q.Drained(), q.Depth())
		}
	})
}

// Contexts end while the drainer lets producers in: each item is either queued and
// its Put returned nil, or not queued and its Put returned the context's error.
func TestCancellingAgainstLettingInIsExact(t *testing.T) {
	const producers, each = 8, 2000
	src := uint64(seed(t))
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t, Options{MaxRecords: 6, MaxBytes: 9, Slots: 4})
		queued := make([][]int, producers)
		var wg sync.WaitGroup
		for p := range producers {
			rng := rand.New(rand.NewPCG(src, uint64(p)))
			wg.Go(func() {
				for n := range each {
					ctx, cancel := context.WithCancel(t.Context())
					if rng.IntN(2) == 0 {
						go cancel()
					}
					err := q.Put(ctx, job{p, n, Weight{1 + rng.IntN(6), rng.Int64N(12)}})
					cancel()
					if err == nil {
						queued[p] = append(queued[p], n)
					} else if !errors.Is(err, context.Canceled) {
						t.Error(err)
					}
				}
			})
		}
		go func() {
			wg.Wait()
			q.Close()
		}()
		taken := make([][]int, producers)
		for _, j := range drain(q, 4) {
			taken[j.producer] = append(taken[j.producer], j.n)
		}
		if diff := cmp.Diff(queued, taken); diff != "" {
			t.Errorf("queued (-) and taken (+) differ:\n%s", diff)
		}
		if q.Depth() != (Weight{}) || q.line.front != nil || q.gauge.word.Load() != 0 {
			t.Errorf("at the end: gauge %#x, line %v", q.gauge.word.Load(), q.line.front)
		}
	})
}

func TestAmong64BlockedProducersNoneWaitsThreeTimesTheMedian(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const producers, each = 64, 50
		q := newQueue(t, Options{MaxRecords: 32})
		waits := make([][]time.Duration, producers)
		var all sync.WaitGroup
		for p := range producers {
			all.Go(func() {
				for n := range each {
					begin := time.Now()
					if err := q.Put(context.Background(), one(p, n)); err != nil {
						t.Error(err)
					}
					waits[p] = append(waits[p], time.Since(begin))
				}
			})
		}
		go func() {
			all.Wait()
			q.Close()
		}()
		for !q.Drained() {
			time.Sleep(time.Millisecond) // of the bubble
			q.Take(nil, 16, 16)
		}
		var flat []time.Duration
		for _, w := range waits {
			flat = append(flat, w[1:len(w)-1]...) // the first finds room, and at the end fewer and fewer compete
		}
		slices.Sort(flat)
		if median, longest := flat[len(flat)/2], flat[len(flat)-1]; median == 0 || longest > 3*median {
			t.Errorf("the median producer waited %v, and the unluckiest %v", median, longest)
		}
	})
}
