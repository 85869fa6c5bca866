package partition

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/braid-go/braid/internal/vfs"
	"github.com/braid-go/braid/log"
)

// callBack enqueues a record whose callback is done.
func callBack(t *testing.T, p *Partition, done func()) {
	t.Helper()
	r := p.NewRequest(text{"x"}, 1, 1, func(r *Request) {
		done()
		r.Release()
	})
	if err := p.Enqueue(t.Context(), r); err != nil {
		t.Fatal(err)
	}
}

func TestCallbacksOfOnePartitionHoldUpNoOther(t *testing.T) {
	const parts = 2 * idleRunners
	h := newHouse(t, vfs.NewMem(), log.ModeOS, nil, parts)
	for round := range 3 { // from the second one on there are goroutines that wait
		inside, release := make(chan struct{}), make(chan struct{})
		var left atomic.Int32
		for _, p := range h.parts {
			left.Add(1)
			callBack(t, p, func() {
				if !h.s.InCallback() {
					t.Error("a callback is not known as one")
				}
				inside <- struct{}{}
				<-release
				left.Add(-1)
			})
		}
		for i := range parts {
			select {
			case <-inside:
			case <-time.After(tooLong):
				t.Fatalf("round %d: of %d callbacks %d have begun", round, parts, i)
			}
		}
		close(release)
		for _, p := range h.parts {
			if err := p.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if n := left.Load(); n > 0 {
			t.Fatalf("round %d: %d callbacks have not returned", round, n)
		}
	}
	if h.s.InCallback() {
		t.Error("who is no callback is taken for one")
	}
	h.s.runners.mu.Lock()
	defer h.s.runners.mu.Unlock()
	if n := len(h.s.runners.idle); n > idleRunners {
		t.Errorf("%d goroutines wait, want %d at most", n, idleRunners)
	}
}

func TestNoGoroutineIsLeftForCallbacksWhenTheSchedulerIsClosed(t *testing.T) {
	h := newHouse(t, vfs.NewMem(), log.ModeOS, nil, 10)
	for _, p := range h.parts {
		callBack(t, p, func() {})
	}
	h.close(t)
	h.s.runners.callers.Range(func(id, _ any) bool {
		t.Errorf("goroutine %d is left", id)
		return true
	})
}
