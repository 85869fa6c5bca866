package backpressure

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

const kib = 1 << 10

func sized(n int, bytes int64) job { return job{n: n, weight: Weight{Records: 1, Bytes: bytes}} }

// stuff puts items of a size until one is refused, and returns how many were queued.
func stuff(t *testing.T, q *Queue[job], bytes int64) int {
	t.Helper()
	for n := 0; ; n++ {
		if err := q.TryPut(sized(n, bytes)); errors.Is(err, ErrFull) {
			return n
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func TestAQueueThatIsAloneMayUseTheWholeBudget(t *testing.T) {
	budget := NewBudget(1 << 20)
	q := newQueue(t, Options{Budget: budget, MaxBytes: 16 << 20})
	if n := stuff(t, q, kib); n != 1024 {
		t.Errorf("%d items of 1 KiB in a budget of 1 MiB", n)
	}
	if got := budget.Reserved(); got != 1<<20 {
		t.Errorf("%d bytes reserved", got)
	}
	if q.State() != Normal { // what was put without waiting has not been told
		q.Take(nil, 1, 1)
	}
	budget.SetMax(2 << 20)
	if n := stuff(t, q, kib); n != 1024 {
		t.Errorf("%d more items, after a second MiB was added", n)
	}
}

func TestAQueueStaysWithinItsOwnLimitWhateverTheBudget(t *testing.T) {
	budget := NewBudget(1 << 30)
	q := newQueue(t, Options{Budget: budget, MaxBytes: 100 * kib})
	if n := stuff(t, q, kib); n != 100 {
		t.Errorf("%d items of 1 KiB, want 100", n)
	}
}

func TestQueuesThatShareABudgetHoldNoMoreTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget := NewBudget(1 << 20)
		greedy, late := newQueue(t, Options{Budget: budget}), newQueue(t, Options{Budget: budget})
		stuff(t, greedy, kib)
		if err := late.TryPut(sized(0, 300*kib)); err != nil {
			t.Errorf("an empty queue takes one item without asking: %v", err)
		}
		second := make(chan error, 1)
		go func() { second <- late.Put(context.Background(), sized(1, kib)) }()
		wantState(t, "a second one", second, "waiting")
		if late.State() != Shedding {
			t.Errorf("a queue that gets nothing is %v", late.State())
		}
		late.Take(nil, 1, 1)
		wantState(t, "when its own queue is drained", second, "queued")
		greedy.Take(nil, 1024, 1<<30)
		if n := stuff(t, late, kib); n < 1000 {
			t.Errorf("%d items, though the other has been drained", n)
		}
		for _, q := range []*Queue[job]{greedy, late} {
			q.Close()
			drain(q, 100)
		}
		if got := budget.Reserved(); got != 0 {
			t.Errorf("%d bytes are still reserved by closed queues", got)
		}
	})
}

func TestWithoutBudgetLeftAQueueDoesWhatItsStrategySays(t *testing.T) {
	budget := NewBudget(128 * kib)
	stuff(t, newQueue(t, Options{Budget: budget}), kib)
	q := newQueue(t, Options{Budget: budget})
	dropped := 0
	owner := Owner[job]{Dropped: func(job) { dropped++ }}
	if err := q.Put(t.Context(), sized(0, kib)); err != nil {
		t.Fatal(err)
	}
	setPolicy(t, q, Policy{Strategy: ShedLoad}, owner)
	var over *OverloadError
	if err := q.Put(t.Context(), sized(1, kib)); !errors.As(err, &over) {
		t.Errorf("ShedLoad: %v", err)
	}
	setPolicy(t, q, Policy{Strategy: DropOldest}, owner)
	if err := q.Put(t.Context(), sized(2, kib)); err != nil || dropped != 1 {
		t.Errorf("DropOldest: %v, and %d dropped", err, dropped)
	}
}

func TestABudgetHoldsWhileManyPutAndTakeAndLosesNothing(t *testing.T) {
	const queues, producers, items, budgetBytes, largest = 8, 4, 2000, 1 << 20, 8 * kib
	budget := NewBudget(budgetBytes)
	var held, peak atomic.Int64
	var all sync.WaitGroup
	s := seed(t)
	for i := range queues {
		q := newQueue(t, Options{Budget: budget, MaxBytes: budgetBytes / 2})
		var put sync.WaitGroup
		for p := range producers {
			put.Go(func() {
				random := rand.New(rand.NewPCG(uint64(s), uint64(i*producers+p)))
				for n := range items {
					bytes := random.Int64N(largest)
					if err := q.Put(context.Background(), job{p, n, Weight{1, bytes}}); err != nil {
						t.Error(err)
					}
					now := held.Add(bytes)
					for was := peak.Load(); now > was && !peak.CompareAndSwap(was, now); was = peak.Load() {
					}
				}
			})
		}
		all.Go(func() { put.Wait(); q.Close() })
		all.Go(func() {
			counts := make([]int, producers)
			waitFor(t, func() bool { return peak.Load() >= budgetBytes/4 }) // there is to be pressure
			for !q.Drained() {
				for _, j := range q.Take(nil, 1, 1) {
					held.Add(-j.weight.Bytes)
					if j.n != counts[j.producer] {
						t.Errorf("producer %d: got %d, want %d", j.producer, j.n, counts[j.producer])
					}
					counts[j.producer]++
				}
				if q.Park() {
					<-q.Wake()
				}
			}
			for _, n := range counts {
				if n != items {
					t.Errorf("%d items came through, want %d", n, items)
				}
			}
		})
	}
	all.Wait()
	// One item for each queue and each producer more; and one for each queue that has been taken and is counted here until it has been looked at.
	if most := int64(budgetBytes + (2*queues+queues*producers)*largest); peak.Load() > most {
		t.Errorf("%d bytes were held at once, want %d at most", peak.Load(), most)
	}
	if got := budget.Reserved(); got != 0 {
		t.Errorf("%d bytes are still reserved", got)
	}
}
