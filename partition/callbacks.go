package partition

import (
	"bytes"
	"context"
	"runtime"
	"slices"
	"strconv"
	"sync"
)

// maxCallbacks is how many requests with a callback a partition may have accepted and not called back: beyond, Enqueue waits.
const maxCallbacks = 16 << 10

// callbacks calls requests back, one at a time and in order, on a goroutine that it has while there is something
// to do. The appender only ever adds to the list; who waits when callbacks are slow is the next publisher.
type callbacks struct {
	mu      sync.Mutex
	limit   int
	held    int             // requests between reserve and the return of their callback
	list    []*Request      // done, in order
	running bool            // there is a goroutine at it
	waiting []chan struct{} // Enqueue calls that wait for room, in order
	ended   chan struct{}   // closed when the goroutine is done, if somebody waits for that
}

// reserve makes room for a callback, waiting for it if need be.
func (c *callbacks) reserve(ctx context.Context, s *Scheduler) error {
	c.mu.Lock()
	if c.held < c.limit {
		c.held++
		c.mu.Unlock()
		return nil
	}
	c.mu.Unlock()
	if s.InCallback() {
		return ErrWouldBlock
	}
	for {
		c.mu.Lock()
		if c.held < c.limit {
			c.held++
			c.mu.Unlock()
			return nil
		}
		room := make(chan struct{}, 1)
		c.waiting = append(c.waiting, room)
		c.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			c.leave(room)
			return ctx.Err()
		}
	}
}

// leave takes one that waits off the list; if its turn has come already, it is the next one's.
func (c *callbacks) leave(room chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(c.waiting, room); i >= 0 {
		c.waiting = slices.Delete(c.waiting, i, i+1)
		return
	}
	c.wakeOne()
}

func (c *callbacks) unreserve() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held--
	c.wakeOne()
}

// wakeOne lets the one that waits longest look again. The caller holds mu.
func (c *callbacks) wakeOne() {
	if len(c.waiting) > 0 {
		c.waiting[0] <- struct{}{}
		c.waiting = c.waiting[1:]
	}
}

// push adds a request that is done.
func (c *callbacks) push(r *Request, s *Scheduler) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, r)
	if !c.running {
		c.running = true
		s.runners.start(c)
	}
}

// run calls back what is on the list until it is empty. A panic in a callback is not caught: it ends the
// program, as in any goroutine.
func (c *callbacks) run() {
	var batch []*Request
	for {
		c.mu.Lock()
		c.held -= len(batch)
		for range batch {
			c.wakeOne()
		}
		clear(batch)
		if batch, c.list = c.list, batch[:0]; len(batch) == 0 {
			c.end()
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		for _, r := range batch {
			r.done(r)
			r.Release() // the appender's
		}
	}
}

// keptList is the capacity up to which an empty list is kept for the next time.
const keptList = 16

// end says that the goroutine is done. The caller holds mu.
func (c *callbacks) end() {
	c.running = false
	if cap(c.list) > keptList {
		c.list = nil
	}
	if c.ended != nil {
		close(c.ended)
		c.ended = nil
	}
}

func (c *callbacks) idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.held == 0
}

// wait waits until the goroutine is done; nothing may be pushed any more.
func (c *callbacks) wait() {
	c.mu.Lock()
	if !c.running {
		c.mu.Unlock()
		return
	}
	if c.ended == nil {
		c.ended = make(chan struct{})
	}
	ended := c.ended
	c.mu.Unlock()
	<-ended
}

// runners are the goroutines that run callbacks. A partition has one to itself while it has something to call back, so that a callback that takes long holds nobody else up; then
// the goroutine waits for another partition, since it costs a microsecond to find out what its number is.
type runners struct {
	callers sync.Map // numbers of the goroutines

	mu     sync.Mutex
	idle   []chan *callbacks // the one that has run last comes first; each has room for one
	closed bool
	wg     sync.WaitGroup
}

// idleRunners is how many goroutines wait at most.
const idleRunners = 64

// start has a goroutine run c.
func (r *runners) start(c *callbacks) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.idle); n > 0 {
		r.idle[n-1] <- c
		r.idle = r.idle[:n-1]
		return
	}
	r.wg.Go(func() { r.run(c) })
}

// run runs one after the other until there are goroutines enough that wait.
func (r *runners) run(c *callbacks) {
	id := goroutineID()
	r.callers.Store(id, struct{}{})
	defer r.callers.Delete(id)
	next := make(chan *callbacks, 1)
	for c != nil {
		c.run()
		if !r.rest(next) {
			return
		}
		c = <-next
	}
}

// rest reports whether a goroutine is to wait.
func (r *runners) rest(next chan *callbacks) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || len(r.idle) == idleRunners {
		return false
	}
	r.idle = append(r.idle, next)
	return true
}

// close ends the goroutines. Nothing may be started any more.
func (r *runners) close() {
	r.mu.Lock()
	r.closed = true
	for _, next := range r.idle {
		close(next)
	}
	r.idle = nil
	r.mu.Unlock()
	r.wg.Wait()
}

// InCallback reports whether the calling goroutine is running a callback of any of the scheduler's partitions. It is
// slow, and asked only by who is about to wait.
func (s *Scheduler) InCallback() bool {
	_, yes := s.runners.callers.Load(goroutineID())
	return yes
}

// goroutineID returns the number of the calling goroutine, which the runtime prints at the head of its stack
// and nowhere else.
func goroutineID() uint64 {
	var buf [64]byte
	b := bytes.TrimPrefix(buf[:runtime.Stack(buf[:], false)], []byte("goroutine "))
	id, _ := strconv.ParseUint(string(b[:bytes.IndexByte(b, ' ')]), 10, 64)
	return id
}
