package backpressure

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

func awake(q *Queue[job]) bool {
	select {
	case <-q.Wake():
		return true
	default:
		return false
	}
}

func TestOnlyAParkedDrainerIsWoken(t *testing.T) {
	q := newQueue(t, Options{})
	q.TryPut(one(0, 0))
	if awake(q) {
		t.Error("woken without having parked")
	}
	if q.Park() {
		t.Error("parked with an item queued")
	}
	q.TryPut(one(0, 1))
	if awake(q) {
		t.Error("woken though Park had said not to wait")
	}
	q.Take(nil, 2, 2)
	if !q.Park() {
		t.Fatal("did not park with nothing queued")
	}
	q.TryPut(one(0, 2))
	q.TryPut(one(0, 3))
	if !awake(q) {
		t.Error("not woken by the first item")
	}
	if awake(q) {
		t.Error("woken twice for one parking")
	}
}

func TestADrainerMayParkWhileAnItemIsBeingStored(t *testing.T) {
	q := newQueue(t, Options{})
	ring := q.ring.newest.Load()
	pos := ring.tail.Add(1) - 1 // a producer that is descheduled after its claim
	if got := q.Take(nil, 1, 1); got != nil {
		t.Fatalf("Take = %v before the item was stored", got)
	}
	if !q.Park() {
		t.Fatal("Park would have the drainer spin until the item is stored")
	}
	ring.slots[pos].seq.Store(pos + 1)
	q.wakeDrainer() // what offer does next
	if !awake(q) {
		t.Error("not woken when the item was stored")
	}
}

func TestCloseWakesTheDrainer(t *testing.T) {
	q := newQueue(t, Options{})
	if !q.Park() {
		t.Fatal("did not park")
	}
	q.Close()
	if !awake(q) {
		t.Error("not woken by Close")
	}
	if q.Park() {
		t.Error("parked though drained")
	}
}

func TestCloseRefusesItemsAndKeepsTheQueuedOnes(t *testing.T) {
	q := newQueue(t, Options{MaxRecords: 2})
	q.TryPut(one(0, 0))
	q.TryPut(one(0, 1))
	q.Close()
	q.Close()
	check := func() {
		t.Helper()
		if err := q.TryPut(one(0, 2)); !errors.Is(err, ErrClosed) {
			t.Errorf("TryPut = %v, want ErrClosed", err)
		}
		if err := q.Put(t.Context(), one(0, 2)); !errors.Is(err, ErrClosed) {
			t.Errorf("Put = %v, want ErrClosed", err)
		}
	}
	check() // full
	if q.Drained() {
		t.Error("drained with two items queued")
	}
	checkPerProducer(t, q.Take(nil, 10, 10), []int{2})
	if !q.Drained() {
		t.Error("not drained")
	}
	check() // with room
	if q.Depth() != (Weight{}) {
		t.Errorf("Depth = %+v at the end", q.Depth())
	}
}

func TestParkAnnouncesItselfBeforeItLooks(t *testing.T) {
	q := newQueue(t, Options{})
	q.mu.Lock() // holds Park up where it looks
	parked := make(chan bool)
	go func() { parked <- q.Park() }()
	waitFor(t, q.parked.Load)
	if err := q.TryPut(one(0, 0)); err != nil {
		t.Fatal(err)
	}
	if !awake(q) {
		t.Error("an item that came while Park was looking did not wake it")
	}
	q.mu.Unlock()
	if <-parked {
		t.Error("parked with an item queued")
	}
}

// The producer puts the next item when the last has come out, a little later each
// time, so that it meets the drainer at every point of its way to the wait. Both
// spin rather than block where they can, because the instants of interest are a few
// nanoseconds long.
func TestNoWakeUpIsLostBetweenAProducerAndAParkingDrainer(t *testing.T) {
	const items = 100_000
	q := newQueue(t, Options{})
	var taken atomic.Int64
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		var batch []job
		for {
			if batch = q.Take(batch[:0], 8, 8); len(batch) > 0 {
				taken.Add(int64(len(batch)))
			} else if q.Drained() {
				return
			} else if q.Park() {
				<-q.Wake()
			}
		}
	}()
	for n := range items {
		for delay := n % 256; delay > 0; delay-- {
			q.parked.Load()
		}
		if err := q.TryPut(one(0, n)); err != nil {
			t.Fatal(err)
		}
		waitFor(t, func() bool { return taken.Load() == int64(n+1) })
	}
	q.Close()
	<-drained
}

func TestCloseAgainstProducersLosesNothingThatWasAccepted(t *testing.T) {
	const producers = 4
	for range 300 {
		synctest.Test(t, func(t *testing.T) {
			q := newQueue(t, Options{MaxRecords: 16})
			counts := make([]int, producers)
			var wg sync.WaitGroup
			for p := range producers {
				wg.Go(func() {
					for {
						err := q.Put(t.Context(), one(p, counts[p]))
						if errors.Is(err, ErrClosed) {
							return
						} else if err != nil {
							t.Error(err)
							return
						}
						if counts[p]++; counts[p] == 50 {
							go q.Close()
						}
					}
				})
			}
			got := drain(q, 5)
			wg.Wait()
			checkPerProducer(t, got, counts)
			if q.Depth() != (Weight{}) {
				t.Errorf("Depth = %+v at the end", q.Depth())
			}
		})
	}
}
