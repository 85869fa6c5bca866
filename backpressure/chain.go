package backpressure

import (
	"sync"
	"sync/atomic"
)

const (
	// firstSlots is what a chain begins with: 1.5 KB, and as many as the goroutines that commonly publish one at a time.
	firstSlots = 64
	// growFactor is how much larger the next ring is than one that was full.
	growFactor = 4
)

// chain is a Ring whose memory grows with what it holds: it begins with a few slots, and when they are full it goes on in a larger ring, up to max slots. Most queues
// never hold many items, and there may be thousands of queues.
//
// When a ring is full, the larger one becomes the newest, and then the ring is closed. So whoever finds a ring closed finds its successor, unless the chain is closed. The
// popper empties a ring before it looks at the next, hence items keep their order. Until it has come to the newest ring pushes are serialised, so that no more than max items
// are ever held together; from then on pushers go there at once.
//
// It does not shrink. What is said of a Ring about concurrency holds for it.
type chain[T any] struct {
	fast   atomic.Pointer[link[T]] // where pushers try first: the newest, or one that is closed; written under mu
	head   atomic.Pointer[link[T]] // where is popped; written by the popper
	newest atomic.Pointer[link[T]] // written under mu
	max    int
	mu     sync.Mutex // held for memory operations only
}

type link[T any] struct {
	next atomic.Pointer[link[T]] // written before the ring is closed, unless the chain is
	Ring[T]
}

// init makes an empty chain that holds up to slots items, rounded as by NewRing.
func (c *chain[T]) init(slots int) {
	c.max = roundSlots(slots)
	l := new(link[T])
	l.init(min(c.max, firstSlots))
	c.fast.Store(l)
	c.head.Store(l)
	c.newest.Store(l)
}

// Push adds v unless the chain is full or closed; see Ring.
func (c *chain[T]) Push(v T) PushResult {
	if c.fast.Load().Push(v) == Pushed {
		return Pushed
	}
	return c.push(v)
}

// push is Push where the popper may not have come to the newest ring yet.
func (c *chain[T]) push(v T) PushResult {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		l := c.newest.Load()
		if c.fast.Load() != l && !l.closed() && c.Len() >= c.max {
			return Full
		}
		result := l.Push(v)
		if result != Full || l.Cap() >= c.max {
			return result
		}
		next := new(link[T])
		next.init(min(l.Cap()*growFactor, c.max))
		l.next.Store(next)
		c.newest.Store(next)
		l.Close()
	}
}

// peek returns the oldest value in place, or nil where there is none or it is not stored yet; see Ring. The popper's side.
func (c *chain[T]) peek() *T {
	for {
		l := c.head.Load()
		if v := l.peek(); v != nil {
			return v
		}
		next := l.next.Load()
		if next == nil || !l.Drained() {
			return nil
		}
		c.goOn(next)
	}
}

// goOn has the popper go on to the next ring.
func (c *chain[T]) goOn(next *link[T]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.head.Store(next)
	if next == c.newest.Load() {
		c.fast.Store(next)
	}
}

// discard removes the value that peek returned. The popper's side.
func (c *chain[T]) discard() { c.head.Load().discard() }

// Close refuses further pushes; see Ring.
func (c *chain[T]) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.newest.Load().Close()
}

// closed reports whether Close has been called. The newest ring may have been closed since it was the newest, because it was full; then it has a successor.
func (c *chain[T]) closed() bool {
	for {
		l := c.newest.Load()
		if !l.closed() {
			return false
		}
		if l.next.Load() == nil {
			return true
		}
	}
}

// Len returns how many slots are claimed and not popped yet; see Ring.
func (c *chain[T]) Len() int {
	n := 0
	for l := c.head.Load(); l != nil; l = l.next.Load() {
		n += l.Len()
	}
	return min(n, c.max)
}

// Drained reports whether the chain is closed and everything has been popped. Once true it stays true.
func (c *chain[T]) Drained() bool {
	for l := c.head.Load(); l.Drained(); {
		next := l.next.Load()
		if next == nil {
			return true
		}
		l = next
	}
	return false
}

// Cap returns how many items the chain holds at most.
func (c *chain[T]) Cap() int { return c.max }
