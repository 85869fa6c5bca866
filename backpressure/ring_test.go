package backpressure

import (
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/leanovate/gopter/gen"
	"github.com/leanovate/gopter/prop"
)

func TestRingRoundsSlotsUpToAPowerOfTwo(t *testing.T) {
	for _, c := range []struct{ asked, want int }{
		{-1, 2}, {0, 2}, {1, 2}, {2, 2}, {3, 4}, {4, 4}, {5, 8}, {1000, 1024}, {1024, 1024}, {1025, 2048},
	} {
		if got := NewRing[struct{}](c.asked).Cap(); got != c.want {
			t.Errorf("NewRing(%d).Cap() = %d, want %d", c.asked, got, c.want)
		}
	}
}

// ringModel is what a Ring does, said with a slice.
type ringModel struct {
	values []int
	cap    int
	closed bool
}

func (m *ringModel) push(v int) PushResult {
	switch {
	case m.closed:
		return Closed
	case len(m.values) == m.cap:
		return Full
	}
	m.values = append(m.values, v)
	return Pushed
}

func (m *ringModel) pop() (int, bool) {
	if len(m.values) == 0 {
		return 0, false
	}
	v := m.values[0]
	m.values = m.values[1:]
	return v, true
}

func TestRingUsedByOneGoroutineIsABoundedFIFO(t *testing.T) {
	props := properties(t, 500)
	props.Property("ring and model agree", prop.ForAll(func(slots int, ops []int) string {
		r := NewRing[int](slots)
		m := ringModel{cap: r.Cap()}
		for i, op := range ops {
			switch {
			case op < 55:
				if got, want := r.Push(i), m.push(i); got != want {
					return fmt.Sprintf("step %d: Push = %v, want %v", i, got, want)
				}
			case op < 99:
				got, gotOK := r.Pop()
				want, wantOK := m.pop()
				if got != want || gotOK != wantOK {
					return fmt.Sprintf("step %d: Pop = %v, %v, want %v, %v", i, got, gotOK, want, wantOK)
				}
			default:
				r.Close()
				m.closed = true
			}
			if r.Len() != len(m.values) || r.Drained() != (m.closed && len(m.values) == 0) {
				return fmt.Sprintf("step %d: Len = %d, Drained = %v, model %+v", i, r.Len(), r.Drained(), m)
			}
		}
		return ""
	}, gen.IntRange(0, 20), gen.SliceOf(gen.IntRange(0, 99))))
	props.TestingRun(t)
}

func TestRingLosesAndInventsNothingAndKeepsEachPushersOrder(t *testing.T) {
	const producers, each = 4, 20_000
	for _, slots := range []int{2, 64, 4096} {
		t.Run(fmt.Sprint(slots), func(t *testing.T) {
			r := NewRing[job](slots)
			var wg sync.WaitGroup
			for p := range producers {
				wg.Go(func() {
					for n := range each {
						for r.Push(one(p, n)) != Pushed {
							runtime.Gosched()
						}
					}
				})
			}
			got := make([]job, 0, producers*each)
			for len(got) < producers*each {
				if j, ok := r.Pop(); ok {
					got = append(got, j)
				} else {
					runtime.Gosched()
				}
			}
			wg.Wait()
			if _, ok := r.Pop(); ok || r.Len() != 0 {
				t.Errorf("after the last value: Pop = %v, Len = %d", ok, r.Len())
			}
			checkPerProducer(t, got, []int{each, each, each, each})
		})
	}
}

// neverFull has pushers each hold one of as many tokens as there are slots; a token comes back only after its value was popped. So there is always room, and Full would be
// a lie, for instance about a compare-and-swap lost to another pusher.
func neverFull(t *testing.T, slots, each int, q interface {
	Push(int) PushResult
	Close()
	Drained() bool
}, pop func() (int, bool)) {
	t.Helper()
	const producers = 4
	tokens := make(chan struct{}, slots)
	for range slots {
		tokens <- struct{}{}
	}
	var wg sync.WaitGroup
	for range producers {
		wg.Go(func() {
			for n := range each {
				<-tokens
				if got := q.Push(n); got != Pushed {
					t.Errorf("Push = %v with a free slot", got)
				}
			}
		})
	}
	go func() {
		wg.Wait()
		q.Close()
	}()
	for !q.Drained() {
		if _, ok := pop(); ok {
			tokens <- struct{}{}
		} else {
			runtime.Gosched()
		}
	}
}

func TestRingIsNeverFullWhileASlotIsFree(t *testing.T) {
	const slots = 4
	r := NewRing[int](slots)
	observed := make(chan struct{})
	go func() {
		defer close(observed)
		for !r.Drained() {
			if n := r.Len(); n < 0 || n > slots {
				t.Errorf("Len = %d of %d slots", n, slots)
			}
			runtime.Gosched()
		}
	}()
	neverFull(t, slots, 20_000, r, r.Pop)
	<-observed
}

func TestRingCloseLetsNoLaterPushClaim(t *testing.T) {
	const producers = 4
	for round := range 300 {
		r := NewRing[job](1024)
		counts := make([]int, producers)
		var wg sync.WaitGroup
		start := make(chan struct{})
		for p := range producers {
			wg.Go(func() {
				<-start
				for {
					switch r.Push(one(p, counts[p])) {
					case Pushed:
						counts[p]++
					case Closed:
						return
					case Full:
						runtime.Gosched()
					}
				}
			})
		}
		var got []job
		pop := func() {
			if j, ok := r.Pop(); ok {
				got = append(got, j)
			} else {
				runtime.Gosched()
			}
		}
		close(start)
		for range round * 10 {
			pop()
		}
		r.Close()
		claimed := r.tail.Load()
		for !r.Drained() {
			pop()
		}
		wg.Wait()
		if now := r.tail.Load(); now != claimed {
			t.Fatalf("round %d: the enqueue word went from %#x to %#x after Close", round, claimed, now)
		}
		if !r.Drained() {
			t.Fatalf("round %d: drained, and then not", round)
		}
		checkPerProducer(t, got, counts)
	}
}

func TestRingHidesASlotThatIsClaimedAndNotStored(t *testing.T) {
	r := NewRing[string](4)
	pos := r.tail.Add(1) - 1 // a pusher that is descheduled after its claim
	if r.Push("behind") != Pushed {
		t.Fatal("a push behind it failed")
	}
	r.Close()
	if v, ok := r.Pop(); ok {
		t.Fatalf("Pop = %q before the value was stored", v)
	}
	if r.Len() != 2 || r.Drained() {
		t.Fatalf("Len = %d, Drained = %v with two claimed slots", r.Len(), r.Drained())
	}
	r.slots[pos].value = "first"
	r.slots[pos].seq.Store(pos + 1)
	for _, want := range []string{"first", "behind"} {
		if v, ok := r.Pop(); !ok || v != want {
			t.Errorf("Pop = %q, %v, want %q", v, ok, want)
		}
	}
	if !r.Drained() {
		t.Error("not drained")
	}
}

func TestRingKeepsNothingAliveThatWasPopped(t *testing.T) {
	r := NewRing[*job](4)
	for range 10 {
		for range 3 {
			r.Push(&job{})
		}
		for range 3 {
			r.Pop()
		}
	}
	for i := range r.slots {
		if r.slots[i].value != nil {
			t.Errorf("slot %d still holds a value", i)
		}
	}
}
