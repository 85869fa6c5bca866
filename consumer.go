package braid

import (
	"context"
	"errors"
	"runtime/debug"
	"sync"
	"time"
)

// consumer is a member of Consume.
//
// One goroutine, run, polls, follows the group and commits. Concurrency workers handle. Records wait in lanes, one for each key: a lane is with one worker at
// most, or is ready, or waits for its next attempt. A claim follows the records of a partition from delivery to commit.
type consumer struct {
	t      *Topic
	opts   ConsumeOptions
	dead   *Topic
	handle Handler
	sub    *Subscription

	ctx    context.Context // of the handlers
	cancel context.CancelFunc

	mu     sync.Mutex // guards the fields below and everything that hangs on them
	begin  *sync.Cond // ready has grown, or draining has begun
	ended  *sync.Cond // a handler has returned
	lanes  map[string]*lane
	empty  []*lane // to be used again
	ready  []*lane
	claims map[*subPartition]*claim
	held   int // records in claims
	done   int // of them, those that are done
	enough int // done records that are worth a commit before it is due
	drains bool
	wake   chan struct{} // receives when held has shrunk, or enough is done

	workers sync.WaitGroup
}

// lane are the records of one key that wait, in their order; the first may be at work.
type lane struct {
	key         string
	own         bool // of one record without a key; not in lanes
	first, last *task
}

func (l *lane) add(w *task) {
	if l.first == nil {
		l.first = w
	} else {
		l.last.next = w
	}
	l.last = w
}

// task is a record on its way. Those of one delivery are one piece of memory, so whoever is through with one lets go of its record.
type task struct {
	rec      *Record
	claim    *claim
	next     *task // of the lane
	attempts int
	done     bool
	reason   error // not nil when done: it goes to the dead letters
}

func newConsumer(ctx context.Context, t *Topic, groupName string, opts ConsumeOptions, dead *Topic, handle Handler) (*consumer, error) {
	c := &consumer{
		t: t, opts: opts, dead: dead, handle: handle,
		lanes: map[string]*lane{}, claims: map[*subPartition]*claim{}, wake: make(chan struct{}, 1),
	}
	c.wantMore()
	c.begin, c.ended = sync.NewCond(&c.mu), sync.NewCond(&c.mu)
	c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	var err error
	c.sub, err = t.Subscribe(ctx, groupName, SubscribeOptions{
		From: opts.From, OnGap: opts.OnGap, OnRevoked: c.revoked, OnLost: c.lost,
		Assignor: opts.Assignor, MaxPollInterval: opts.MaxPollInterval, RebalanceTimeout: opts.RebalanceTimeout,
	})
	if err != nil {
		c.cancel()
		return nil, err
	}
	return c, nil
}

// run polls until ctx ends or something fails, then drains.
func (c *consumer) run(ctx context.Context) error {
	for range c.opts.Concurrency {
		c.workers.Go(c.work)
	}
	err := c.poll(ctx)
	if errors.Is(err, ctx.Err()) {
		err = nil
	}
	if late := c.drain(); err == nil {
		err = late
	}
	if last := c.commit(context.Background()); err == nil {
		err = last
	}
	return errors.Join(err, c.sub.Close())
}

// poll takes records in and commits, until ctx ends or something fails.
func (c *consumer) poll(ctx context.Context) error {
	due := time.Now().Add(c.opts.CommitInterval)
	for {
		if time.Until(due) <= 0 || c.worthIt() {
			switch err := c.commit(ctx); {
			case errors.Is(err, ErrNoSpace):
				c.mu.Lock()
				c.wantMore()
				c.mu.Unlock()
			case err != nil:
				return err
			}
			due = time.Now().Add(c.opts.CommitInterval)
		}
		recs, err := c.next(ctx, due)
		switch {
		case err == nil:
			c.take(recs)
		case ctx.Err() != nil:
			return ctx.Err()
		case !errors.Is(err, context.DeadlineExceeded): // that is due
			return err
		}
	}
}

// next returns records, as soon as there is room for some. While there is none it follows the group.
func (c *consumer) next(ctx context.Context, due time.Time) ([]*Record, error) {
	c.mu.Lock()
	room, busy := c.opts.Prefetch-c.held, c.held > 0
	c.mu.Unlock()
	if busy { // otherwise there is nothing to commit
		var done context.CancelFunc
		ctx, done = context.WithDeadline(ctx, due)
		defer done()
	}
	if room > 0 {
		return c.sub.Poll(ctx, min(room, defaultPoll))
	}
	return nil, c.sub.idle(ctx, c.wake)
}

// worthIt reports whether so much is done that a commit does not wait until it is due: it would be in the way of further records.
func (c *consumer) worthIt() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done >= c.enough
}

// wantMore has the next commit that comes before it is due wait until half of the room that is left for records is taken up by some that are done: while the
// other half is at work. What is done now stays in the way. The caller holds mu.
func (c *consumer) wantMore() { c.enough = c.done + max(1, (c.opts.Prefetch-c.done)/2) }

// finish notes that a record is done. The caller holds mu.
func (c *consumer) finish(w *task) {
	w.done = true
	if c.claims[w.claim.part] != w.claim {
		return // it is somebody else's
	}
	if c.done++; c.done == c.enough {
		c.poke()
	}
}

// take puts records into their lanes.
func (c *consumer) take(recs []*Record) {
	tasks := make([]task, len(recs))
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, rec := range recs {
		part := rec.origin.part
		cl := c.claims[part]
		if cl == nil {
			cl = &claim{part: part}
			cl.ctx, cl.cancel = context.WithCancel(c.ctx)
			c.claims[part] = cl
		}
		w := &tasks[i]
		w.rec, w.claim = rec, cl
		cl.tasks = append(cl.tasks, w)
		c.held++
		l, waits := (*lane)(nil), false
		if rec.Key == nil {
			l = c.lane()
			l.own = true
		} else if l, waits = c.lanes[string(rec.Key)]; !waits {
			l = c.lane()
			l.key = string(rec.Key)
			c.lanes[l.key] = l
		}
		l.add(w)
		if !waits {
			c.ready = append(c.ready, l)
			c.begin.Signal()
		}
	}
}

// lane returns one in which there is nothing.
func (c *consumer) lane() *lane {
	n := len(c.empty)
	if n == 0 {
		return new(lane)
	}
	l := c.empty[n-1]
	c.empty = c.empty[:n-1]
	return l
}

// work handles the first record of a ready lane, again and again.
func (c *consumer) work() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		for len(c.ready) == 0 && !c.drains {
			c.begin.Wait()
		}
		if c.drains {
			return
		}
		l := c.ready[0]
		c.ready = c.ready[1:]
		if w := l.first; w.claim.stops || !c.attempt(w) {
			c.leaveLane(l)
		} else {
			time.AfterFunc(c.opts.backoff(w.attempts), func() { c.again(l) })
		}
	}
}

// attempt calls the handler once, without mu, and reports whether the record is to be tried again later.
func (c *consumer) attempt(w *task) (again bool) {
	w.claim.running++
	c.mu.Unlock()
	err := c.try(w)
	c.mu.Lock()
	w.claim.running--
	c.ended.Broadcast()
	switch {
	case err == nil:
		c.finish(w)
	case w.claim.ctx.Err() != nil: // that may be why; whoever has the partition next tries again
	case c.opts.MaxAttempts > 0 && w.attempts >= c.opts.MaxAttempts:
		w.reason = err
		c.finish(w)
	case c.drains || w.claim.stops: // no more attempts here
	default:
		return true
	}
	return false
}

// again makes a lane ready whose first record has waited.
func (c *consumer) again(l *lane) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ready = append(c.ready, l)
	c.begin.Signal()
}

// leaveLane takes the first record out of a lane. The next one is ready at once.
func (c *consumer) leaveLane(l *lane) {
	if w := l.first; w.next != nil {
		l.first, w.next = w.next, nil
		c.ready = append(c.ready, l)
		c.begin.Signal()
		return
	}
	if !l.own {
		delete(c.lanes, l.key)
	}
	*l = lane{}
	c.empty = append(c.empty, l) // no more than there were records at a time
}

// try calls the handler and tells of a failure.
func (c *consumer) try(w *task) (err error) {
	w.attempts++
	defer func() {
		if p := recover(); p != nil {
			err = &PanicError{Value: p, Stack: debug.Stack()}
		}
		switch {
		case err == nil:
		case c.opts.OnError != nil:
			c.opts.OnError(w.rec, w.attempts, err)
		default:
			c.t.b.opts.Logger.Warn("a record could not be handled", "topic", c.t.name, "group", c.sub.group,
				"partition", w.rec.origin.part.part.id, "offset", w.rec.originOffset, "attempts", w.attempts, "error", err)
		}
	}()
	rec := *w.rec // what the handler does to its fields stays there
	return c.handle(w.claim.ctx, &rec)
}

// drain lets the running handlers finish and begins nothing new.
func (c *consumer) drain() error {
	c.mu.Lock()
	c.drains = true
	c.begin.Broadcast()
	c.mu.Unlock()
	finished := make(chan struct{})
	go func() {
		c.workers.Wait()
		close(finished)
	}()
	timer := time.NewTimer(c.opts.DrainTimeout)
	defer timer.Stop()
	defer c.cancel()
	select {
	case <-finished:
		return nil
	case <-timer.C:
		return errDrain
	}
}
