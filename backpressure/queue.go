package backpressure

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// resumePercent is the depth, in percent of each limit, below which waiting
// producers are let in again.
const resumePercent = 70

// storeSpins bounds how often Take looks again at a slot that is claimed and not
// stored: about 100 ns, ten times what a producer that is running needs.
const storeSpins = 100

// Queue is a Ring that grows with what it holds, counts that in records and bytes, and lets
// producers wait in order of arrival while it is full. Many goroutines put, one
// drains:
//
//	for {
//		if batch = q.Take(batch[:0], n, size); len(batch) > 0 {
//			... // work on it
//		} else if q.Drained() {
//			return
//		} else if q.Park() {
//			<-q.Wake()
//		}
//	}
//
// A Queue must not be copied. Take and Park belong to the drainer, one goroutine
// at a time; all else is safe for concurrent use.
//
// # No lost wake-up of a producer
//
// mu serialises joining the line, letting in, taking (pop and release) and
// closing. Letting in stops with somebody left in the line only because the depth
// is at or above 70 %, because the front item does not fit, or because the ring is
// full. Each means that depth is held: by items in the ring, or by producers that
// claimed depth without mu and are on their way in. The first kind is released by
// a later Take, which looks at the line before it gives mu back. The second kind
// becomes the first, or, if the ring turns out full or closed, is released by its
// producer with an atomic operation on the word that holds the waiting flag. A
// joining producer sets the flag before it reads the depth, so either that release
// sees the flag and then looks at the line under mu, or the joining producer saw
// the depth without the claim. So every release that comes after letting in
// stopped is followed by another look at the line, and the last release leaves an
// empty queue, into which any admissible item is let.
//
// # No lost wake-up of the drainer
//
// A producer stores its item, then reads parked. Park sets parked, then looks for
// a stored item. Go's atomics are sequentially consistent, so at least one of the
// two sees the other. A producer that has claimed a slot and not stored it yet is
// no reason to stay awake, since it reads parked after it has stored. Close sets
// the closed bit, then reads parked, and Park looks for it in the same way.
type Queue[T any] struct {
	ring   chain[entry[T]]
	weight func(T) Weight
	budget *Budget // nil: none
	wake   chan struct{}
	idle   sync.Pool // *waiter[T] between two waits

	_      pad
	gauge  gauge
	_      pad
	parked atomic.Bool // the drainer is about to wait on wake, or does
	_      pad

	mu   sync.Mutex // the ring's popping end, and line; held for memory operations only
	line line[T]
	// Guarded by mu too: looked at when the queue is full, when its state changes, and by the drainer.
	policy  Policy
	owner   Owner[T]
	drain   drainRate
	average average
	// peak is the largest depth seen since settling began; settling says that a timer runs that will look whether the state has ended.
	peak     float64
	settling bool
	// reserved is the queue's part of budget; starved says that it needed more since it was last drained, and got nothing.
	reserved int64
	starved  bool
	held     bool // by Hold

	state  atomic.Uint32 // a State; written under mu
	picked atomic.Uint32 // a Strategy; written under mu
	// degrades says that it is one under which the owner does less; written under mu.
	degrades atomic.Bool
}

// entry is an item with what was claimed for it, so that exactly that is released.
type entry[T any] struct {
	value  T
	weight packed
}

// NewQueue returns an empty queue. weight says what an item counts for; it is
// called once for each item, by the goroutine that puts it, and must be fast and
// free of side effects. An invalid option is an *OptionError.
func NewQueue[T any](opts Options, weight func(T) Weight) (*Queue[T], error) {
	opts, err := opts.resolve()
	if err != nil {
		return nil, err
	}
	q := &Queue[T]{
		weight: weight,
		budget: opts.Budget,
		wake:   make(chan struct{}, 1),
	}
	q.ring.init(opts.Slots)
	policy, err := Policy{MaxRecords: opts.MaxRecords, MaxBytes: opts.MaxBytes}.Resolve()
	if err != nil {
		return nil, err
	}
	q.apply(policy)
	q.idle.New = func() any { return &waiter[T]{done: make(chan error, 1)} }
	return q, nil
}

// Put queues v. While the queue is full it does what the strategy says, by default
// wait; see Policy. Producers that wait are let in in the order in which they
// began to, and nobody overtakes them. Under DropOldest a producer waits only if
// what it would have to drop is being stored by others just then.
//
// It returns ctx.Err() when ctx is done before v is queued, ErrClosed when the
// queue is or becomes closed before, an *OverloadError when the strategy refuses it
// (for that ctx would end too soon, ask Admit first), and ErrTooLarge, without waiting, when v has
// more records than MaxRecords or more bytes than LargestMaxBytes. A v of more than
// MaxBytes is let in when nothing else is queued. After an error nothing is
// queued; after nil v is, and belongs to the drainer.
func (q *Queue[T]) Put(ctx context.Context, v T) error { return q.put(ctx, v, false) }

// Wait is as Put under BlockProducer, whatever the strategy: v is never refused, and
// nothing is dropped for it.
func (q *Queue[T]) Wait(ctx context.Context, v T) error { return q.put(ctx, v, true) }

func (q *Queue[T]) put(ctx context.Context, v T, patient bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	e, ok := q.weigh(v)
	if !ok {
		return ErrTooLarge
	}
	switch q.offer(e) {
	case Pushed:
		return nil
	case Closed:
		return ErrClosed
	}
	return q.wait(ctx, e, patient)
}

// TryPut queues v if that is possible without waiting, without dropping anything,
// whatever the strategy, and without overtaking a producer that waits. Otherwise it returns ErrFull, ErrClosed or ErrTooLarge, with
// nothing queued.
func (q *Queue[T]) TryPut(v T) error {
	e, ok := q.weigh(v)
	if !ok {
		return ErrTooLarge
	}
	switch q.offer(e) {
	case Pushed:
		return nil
	case Closed:
		return ErrClosed
	}
	return ErrFull
}

// weigh reports false for an item that this queue can never hold.
func (q *Queue[T]) weigh(v T) (entry[T], bool) {
	w := q.weight(v)
	if w.Records > int(q.gauge.maxRecords.Load()) || w.Bytes > LargestMaxBytes {
		return entry[T]{}, false
	}
	return entry[T]{v, pack(uint64(max(w.Records, 1)), uint64(max(w.Bytes, 0)))}, true
}

// offer is the way in that takes no lock but to reserve more of a Budget.
func (q *Queue[T]) offer(e entry[T]) PushResult {
	held, ok := q.gauge.claim(e.weight, waitingBit)
	if !ok && q.tryGrow(e.weight) {
		held, ok = q.gauge.claim(e.weight, waitingBit)
	}
	if !ok {
		if q.ring.closed() {
			return Closed
		}
		return Full
	}
	result := q.ring.Push(e)
	if result != Pushed {
		q.withdraw(e.weight)
		return result
	}
	q.wakeDrainer()
	if q.gauge.alarmed(held) {
		q.mu.Lock()
		q.look()
		q.mu.Unlock()
	}
	return result
}

// withdraw gives up a claim made without mu. It may be what kept the front of the
// line out.
func (q *Queue[T]) withdraw(w packed) {
	if q.gauge.release(w) {
		q.mu.Lock()
		q.resume()
		q.mu.Unlock()
	}
}

// wait is what the strategy says for a full queue: it sheds, or it joins the line,
// for which DropOldest makes room, and stays until it is let in, ctx is done or q is
// closed.
func (q *Queue[T]) wait(ctx context.Context, e entry[T], patient bool) error {
	w := q.idle.Get().(*waiter[T])
	w.item = e
	defer func() {
		w.item = entry[T]{}
		q.idle.Put(w)
	}()

	q.mu.Lock()
	if q.ring.closed() {
		q.mu.Unlock()
		return ErrClosed
	}
	if e.weight.records() > q.gauge.maxRecords.Load() { // the limit has been lowered meanwhile
		q.mu.Unlock()
		return ErrTooLarge
	}
	q.look()
	if q.refuses() && !patient {
		err := q.overload()
		q.mu.Unlock()
		return err
	}
	q.line.join(w)
	q.gauge.setWaiting()
	if q.policy.Strategy == DropOldest && !patient {
		q.makeRoom()
	} else if q.line.front == w {
		q.admit() // room may have come since the queue was found full
	}
	q.mu.Unlock()

	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
	}
	q.mu.Lock()
	if !w.inLine {
		q.mu.Unlock()
		return <-w.done // it was decided first
	}
	q.line.leave(w)
	q.resume() // those behind it may fit where it did not
	q.mu.Unlock()
	return ctx.Err()
}

// resume lets waiters in if the queue has fallen far enough. The caller holds mu.
func (q *Queue[T]) resume() {
	if q.line.front == nil {
		q.bar()
	} else if !q.pressed() {
		q.admit()
	}
}

// bar has producers stop and look if some wait already, or if they are to be refused. The caller holds mu.
func (q *Queue[T]) bar() {
	if q.line.front != nil || q.held && (q.policy.Strategy == ShedLoad || q.policy.Strategy == Adaptive) {
		q.gauge.setWaiting()
	} else {
		q.gauge.clearWaiting()
	}
}

// Hold tells the queue that nothing will be taken until Hold(false): it is Shedding, whatever it holds, and refuses what it would refuse if it were full. Producers
// that would wait if it were full go on putting until it is.
func (q *Queue[T]) Hold(on bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.held = on
	q.bar()
	q.look()
}

// pressed reports whether the queue is at 70 % of a limit or above.
func (q *Queue[T]) pressed() bool {
	return !q.gauge.below(resumePercent) || q.ring.Len()*100 >= q.ring.Cap()*resumePercent
}

// admit queues the items of the line from the front as far as they fit, and tells
// their producers. The caller holds mu.
func (q *Queue[T]) admit() {
	for w := q.line.front; w != nil && q.letIn(w.item); w = q.line.front {
		q.line.leave(w)
		w.done <- nil
	}
	if q.line.front == nil {
		q.bar()
	}
	q.wakeDrainer()
}

// letIn queues e past the waiting flag. The caller holds mu, so q is not closed.
func (q *Queue[T]) letIn(e entry[T]) bool {
	for {
		if _, ok := q.gauge.claim(e.weight, 0); ok {
			break
		}
		if !q.grow(e.weight) {
			return false
		}
	}
	if q.ring.Push(e) != Pushed {
		q.gauge.release(e.weight)
		return false
	}
	return true
}

// Take appends queued items to dst, oldest first, until the next one would exceed
// maxRecords or maxBytes, and returns the extended slice. It takes at least one
// item if there is any, whatever the bounds. It then releases their depth and, if
// that has fallen below 70 % of every limit, lets waiting producers in.
//
// Take does not wait. When the oldest item's producer has claimed its slot and not
// stored it yet, Take looks again for about 100 ns and then returns dst as it is;
// that producer will wake a drainer that has parked.
func (q *Queue[T]) Take(dst []T, maxRecords int, maxBytes int64) []T {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.look()
	q.starved = false
	pressed, before := q.pressed(), len(dst)
	var sum packed // at most what the gauge holds, so the fields stay in bounds
	for next := q.oldest(); next != nil; next = q.ring.peek() {
		w := (sum + next.weight).weight()
		if sum != 0 && (w.Records > maxRecords || w.Bytes > maxBytes) {
			break
		}
		sum += next.weight
		dst = append(dst, next.value)
		q.ring.discard()
	}
	if pressed && sum != 0 {
		q.drain.took(time.Now(), amounts{float64(sum.records()), float64(sum.bytes()), float64(len(dst) - before)})
	} else {
		q.drain.rest()
	}
	if sum != 0 && q.gauge.release(sum) {
		q.resume()
	}
	q.shrink()
	q.look()
	return dst
}

// oldest is ring.peek with some patience for a value that is being stored.
func (q *Queue[T]) oldest() *entry[T] {
	e := q.ring.peek()
	for i := 0; e == nil && i < storeSpins && q.ring.Len() > 0; i++ {
		e = q.ring.peek()
	}
	return e
}

// Park announces that the drainer is about to receive from Wake. It returns false,
// and the drainer must not wait, when an item can be taken or the queue is
// drained. After true, Wake receives as soon as an item can be taken or the queue
// is closed. A drainer that parked may turn to something else instead of waiting;
// a token that is left over wakes it once without need.
func (q *Queue[T]) Park() bool {
	q.parked.Store(true)
	q.mu.Lock()
	idle := q.ring.peek() == nil && !q.ring.Drained()
	q.mu.Unlock()
	if !idle {
		q.parked.Store(false)
	}
	return idle
}

// Wake returns the channel that wakes a parked drainer. It has room for one token
// and is never closed.
func (q *Queue[T]) Wake() <-chan struct{} { return q.wake }

// Parked reports whether the drainer has nothing to do, or had a moment ago.
func (q *Queue[T]) Parked() bool { return q.parked.Load() }

// wakeDrainer costs a producer one load of a rarely written word while the drainer
// is busy.
func (q *Queue[T]) wakeDrainer() {
	if q.parked.Load() && q.parked.CompareAndSwap(true, false) {
		select {
		case q.wake <- struct{}{}:
		default: // a token is left over and does as well
		}
	}
}

// Close refuses further items; producers that wait get ErrClosed. Items already
// queued stay takeable, and once they are taken the State is Normal. It wakes a parked drainer. Close is idempotent.
func (q *Queue[T]) Close() {
	q.mu.Lock()
	q.ring.Close()
	for w := q.line.front; w != nil; w = q.line.front {
		q.line.leave(w)
		w.done <- ErrClosed
	}
	q.gauge.clearWaiting()
	q.shrink()
	q.look()
	q.mu.Unlock()
	q.wakeDrainer()
}

// Closed reports whether Close has been called.
func (q *Queue[T]) Closed() bool { return q.ring.closed() }

// Drained reports whether the queue is closed and all of its items are taken, also
// those whose producers were storing them when it was closed. Once true it stays
// true.
func (q *Queue[T]) Drained() bool { return q.ring.Drained() }

// Depth returns what is queued or on its way in; what waits in the line is not
// counted. Records and bytes are of the same moment.
func (q *Queue[T]) Depth() Weight { return q.gauge.held().weight() }

// Len returns the number of queued items, with the precision of Ring.Len.
func (q *Queue[T]) Len() int { return q.ring.Len() }

// Limits returns the options in force, with defaults and rounding applied.
func (q *Queue[T]) Limits() Options {
	return Options{MaxRecords: int(q.gauge.maxRecords.Load()), MaxBytes: int64(q.gauge.maxBytes.Load()), Slots: q.ring.Cap()}
}
