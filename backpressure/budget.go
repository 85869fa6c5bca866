package backpressure

import "sync/atomic"

// Budget bounds the bytes that several queues hold together. Each queue reserves
// a part of it before it holds more than one item, in steps, so that putting costs
// nothing in between, and keeps what it has reserved until more than half of the
// budget is: then it gives back, whenever it is drained, what it does not need.
//
// A queue that gets nothing is full: it does what its Strategy says, and its State is
// Shedding. It is not stuck: it goes on with what it has, and an empty queue lets
// in one item without asking. So what is held may pass the budget by one item for each queue,
// and by one for each producer that was putting while its queue gave back.
//
// A Budget is safe for concurrent use.
type Budget struct{ max, reserved atomic.Int64 }

// NewBudget returns a budget of so many bytes.
func NewBudget(bytes int64) *Budget {
	b := &Budget{}
	b.SetMax(bytes)
	return b
}

// SetMax changes the budget. What is reserved already stays so until it is drained.
func (b *Budget) SetMax(bytes int64) { b.max.Store(bytes) }

// Reserved returns how many bytes the queues have reserved: what they hold, and what
// they have for what comes next.
func (b *Budget) Reserved() int64 { return b.reserved.Load() }

// reserve takes n bytes, all or none.
func (b *Budget) reserve(n int64) bool {
	for {
		was := b.reserved.Load()
		if n > b.max.Load()-was {
			return false
		}
		if b.reserved.CompareAndSwap(was, was+n) {
			return true
		}
	}
}

func (b *Budget) giveBack(n int64) { b.reserved.Add(-n) }

// scarce reports whether more than half is reserved.
func (b *Budget) scarce() bool { return b.reserved.Load() > b.max.Load()/2 }

// reserveStep is the least that a queue reserves: some hundred small records.
const reserveStep = 64 << 10

// grow reserves what e needs beyond what the queue has, and reports whether that may have made room.
// The caller holds mu.
func (q *Queue[T]) grow(w packed) bool {
	if q.budget == nil || q.ring.closed() {
		return false
	}
	held := q.gauge.held()
	need := int64(held.bytes() + w.bytes())
	if held.records()+w.records() > q.gauge.maxRecords.Load() || need > q.policy.MaxBytes || q.ring.Len() >= q.ring.Cap() {
		return false // it is not for want of budget
	}
	missing := need - q.reserved
	if missing <= 0 {
		return true // room has come since
	}
	step := max(missing, reserveStep)
	if more := max(step, q.reserved); q.budget.reserve(more) { // as much again: few steps
		q.setReserved(q.reserved + more)
		return true
	}
	if !q.budget.reserve(step) {
		q.starved = true
		return false
	}
	q.setReserved(q.reserved + step)
	return true
}

// tryGrow is grow for a producer that does not hold mu. It does nothing for one that would overtake others.
func (q *Queue[T]) tryGrow(w packed) bool {
	if q.budget == nil {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.line.front == nil && q.grow(w)
}

// shrink gives back what the queue does not need while others may. The caller holds mu.
func (q *Queue[T]) shrink() {
	switch {
	case q.budget == nil || q.reserved == 0:
	case q.ring.Drained():
		q.budget.giveBack(q.reserved)
		q.setReserved(0)
	case q.budget.scarce():
		had := q.reserved
		q.setReserved(q.needs())
		q.setReserved(max(q.reserved, q.needs())) // what was let in before the first of the two
		q.budget.giveBack(had - q.reserved)
	}
}

// needs is what the queue holds, in whole steps.
func (q *Queue[T]) needs() int64 {
	return min(q.reserved, (int64(q.gauge.held().bytes())+reserveStep-1)/reserveStep*reserveStep)
}

// setReserved says how much the queue may hold. The caller holds mu.
func (q *Queue[T]) setReserved(n int64) {
	q.reserved = n
	q.gauge.granted.Store(uint64(min(n, q.policy.MaxBytes)))
}
