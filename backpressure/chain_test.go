package backpressure

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"unsafe"

	"github.com/leanovate/gopter/gen"
	"github.com/leanovate/gopter/prop"
)

func newChain[T any](slots int) *chain[T] {
	c := new(chain[T])
	c.init(slots)
	return c
}

func pop[T any](c *chain[T]) (v T, ok bool) {
	if p := c.peek(); p != nil {
		v, ok = *p, true
		c.discard()
	}
	return v, ok
}

func TestAChainUsedByOneGoroutineIsABoundedFIFO(t *testing.T) {
	props := properties(t, 300)
	props.Property("chain and model agree", prop.ForAll(func(slots int, bursts []int) string {
		c := newChain[int](slots)
		m := ringModel{cap: c.Cap()}
		next := 0
		for i, burst := range bursts {
			for range max(burst, 0) {
				next++
				if got, want := c.Push(next), m.push(next); got != want {
					return fmt.Sprintf("burst %d: Push = %v, want %v, with %d of %d", i, got, want, len(m.values), m.cap)
				}
			}
			for range max(-burst, 0) {
				got, gotOK := pop(c)
				want, wantOK := m.pop()
				if got != want || gotOK != wantOK {
					return fmt.Sprintf("burst %d: pop = %v, %v, want %v, %v", i, got, gotOK, want, wantOK)
				}
			}
			if burst == 0 {
				c.Close()
				m.closed = true
			}
			if c.Len() != len(m.values) || c.Drained() != (m.closed && len(m.values) == 0) || c.closed() != m.closed {
				return fmt.Sprintf("burst %d: Len = %d, Drained = %v, closed = %v, model %d, %v", i, c.Len(), c.Drained(), c.closed(), len(m.values), m.closed)
			}
		}
		return ""
	}, gen.OneConstOf(2, 64, 128, 1000, 4096), gen.SliceOf(gen.Weighted([]gen.WeightedGen{
		{Weight: 30, Gen: gen.IntRange(1, 400)}, {Weight: 25, Gen: gen.IntRange(-400, -1)}, {Weight: 1, Gen: gen.Const(0)},
	}))))
	props.TestingRun(t)
}

func TestAChainIsAsLargeAsWhatItHolds(t *testing.T) {
	size := func(c *chain[entry[*job]]) (bytes uintptr) {
		for l := c.head.Load(); l != nil; l = l.next.Load() {
			bytes += uintptr(len(l.slots)) * unsafe.Sizeof(l.slots[0])
		}
		return bytes
	}
	c := newChain[entry[*job]](DefaultSlots)
	if got := size(c); got > 2<<10 {
		t.Errorf("%d bytes before anything is pushed", got)
	}
	for range 10 * firstSlots {
		for range firstSlots {
			if c.Push(entry[*job]{}) != Pushed {
				t.Fatal("full")
			}
		}
		for range firstSlots {
			pop(c)
		}
	}
	if got := size(c); got > 2<<10 {
		t.Errorf("%d bytes though it never held more than %d", got, firstSlots)
	}
	for c.Push(entry[*job]{}) == Pushed {
	}
	if c.Len() != DefaultSlots {
		t.Errorf("full with %d of %d", c.Len(), DefaultSlots)
	}
	for range c.Len() {
		pop(c)
	}
	if got, want := size(c), DefaultSlots*unsafe.Sizeof(c.head.Load().slots[0]); got != want {
		t.Errorf("%d bytes when it is empty again, want the largest ring's %d", got, want)
	}
}

func TestAChainLosesAndInventsNothingAndKeepsEachPushersOrderWhileItGrows(t *testing.T) {
	const producers, each = 4, 3_000
	for round := range 40 {
		c := newChain[job](4096)
		var wg sync.WaitGroup
		counts := make([]int, producers)
		for p := range producers {
			wg.Go(func() {
				for {
					switch c.Push(one(p, counts[p])) {
					case Pushed:
						counts[p]++
					case Full:
						runtime.Gosched()
					case Closed:
						return
					}
					if counts[p] == each/2 && p == 0 && round%2 == 0 {
						c.Close()
					}
					if counts[p] == each {
						return
					}
				}
			})
		}
		done := make(chan struct{})
		go func() {
			wg.Wait()
			c.Close()
			close(done)
		}()
		var got []job
		for !c.Drained() {
			if n := c.Len(); n < 0 || n > c.Cap() {
				t.Fatalf("Len = %d of %d", n, c.Cap())
			}
			if j, ok := pop(c); ok {
				got = append(got, j)
				continue
			}
			runtime.Gosched()
		}
		<-done
		checkPerProducer(t, got, counts)
	}
}

// Also while several rings hold items.
func TestAChainIsNeverFullWhileThereIsRoom(t *testing.T) {
	const slots = 4 * firstSlots
	for range 300 {
		c := newChain[int](slots)
		neverFull(t, slots, slots, c, func() (int, bool) { return pop(c) })
	}
}

// Nobody pops, so that what is pushed altogether is what the chain holds.
func TestAChainNeverHoldsMoreThanItsSlots(t *testing.T) {
	const producers, slots = 4, 16 * firstSlots
	for range 100 {
		c := newChain[int](slots)
		counts := make([]int, producers)
		var wg sync.WaitGroup
		for p := range producers {
			wg.Go(func() {
				for c.Push(0) == Pushed {
					counts[p]++
				}
			})
		}
		wg.Wait()
		if got := counts[0] + counts[1] + counts[2] + counts[3]; got != slots {
			t.Fatalf("it took %d, and has %d slots", got, slots)
		}
	}
}

func TestAChainDoesNotPassByWhatIsBeingStored(t *testing.T) {
	c := newChain[int](DefaultSlots)
	small := c.newest.Load()
	for i := range firstSlots - 1 {
		c.Push(i)
	}
	pos := small.tail.Add(1) - 1 // a pusher that is descheduled after its claim of the last slot
	if c.Push(firstSlots) != Pushed || c.newest.Load() == small {
		t.Fatal("it has not gone on in a larger ring")
	}
	for i := range firstSlots - 1 {
		if v, ok := pop(c); !ok || v != i {
			t.Fatalf("pop = %d, %v, want %d", v, ok, i)
		}
	}
	if v, ok := pop(c); ok {
		t.Fatalf("pop = %d though something before it is being stored", v)
	}
	small.slots[pos].value = firstSlots - 1
	small.slots[pos].seq.Store(pos + 1)
	for _, want := range []int{firstSlots - 1, firstSlots} {
		if v, ok := pop(c); !ok || v != want {
			t.Errorf("pop = %d, %v, want %d", v, ok, want)
		}
	}
}

// A ring that is full is closed when a larger one takes its place. Nobody may take that for the end: a publisher would be told that the queue is closed.
func TestAChainThatGrowsIsNotTakenForClosed(t *testing.T) {
	for range 2000 {
		c := newChain[int](DefaultSlots)
		var wg sync.WaitGroup
		done := make(chan struct{})
		for range 2 {
			wg.Go(func() {
				for {
					if c.closed() {
						t.Error("closed while it grows")
						return
					}
					select {
					case <-done:
						return
					default:
					}
				}
			})
		}
		for c.Push(0) == Pushed {
		}
		close(done)
		wg.Wait()
		c.Close()
		if !c.closed() {
			t.Fatal("not closed though it was")
		}
	}
}
