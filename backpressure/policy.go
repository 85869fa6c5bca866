package backpressure

import (
	"context"
	"fmt"
	"math"
	"time"
)

// State says how full a queue is: the worst of its records, bytes and slots, in shares of
// their limits. That slots are used up is noticed when the drainer takes, and when they are all used.
type State uint8

const (
	Normal   State = iota
	Warning        // at Policy.Warning
	Critical       // at Policy.Critical
	Shedding       // at Policy.Shedding
)

func (s State) String() string {
	if s > Shedding {
		return fmt.Sprintf("state(%d)", uint8(s))
	}
	return [...]string{"normal", "warning", "critical", "shedding"}[s]
}

// Defaults of a Policy.
const (
	DefaultWarning   = 0.70
	DefaultCritical  = 0.85
	DefaultShedding  = 0.95
	DefaultSmoothing = time.Second
	DefaultSettle    = 100 * time.Millisecond
)

// hysteresis is how far below a state's threshold the depth must stay, for
// Policy.Settle, for the state to end: 5 points. A drainer empties a queue all at once
// and producers fill it again; so what counts is how full it was at most. State changes
// at most once upwards through each threshold and once downwards in that time.
const hysteresis = 0.05

// Policy is what a queue does under pressure. The zero value of a field is its
// default. It can be changed at any time.
type Policy struct {
	Strategy   Strategy // default BlockProducer
	MaxRecords int      // as in Options
	MaxBytes   int64    // as in Options
	// Shares of the limits at which the states begin: defaults 0.70, 0.85 and 0.95; each
	// above the one before, at least 0.1 and at most 1.
	Warning, Critical, Shedding float64
	// Smoothing is the time constant of the moving average of the depth by which
	// Adaptive goes; default 1 s, at least 1 ms and at most an hour.
	Smoothing time.Duration
	// Settle is how long the depth must stay below a state for it to end, which it then does within as long again; default 100 ms, at least 1 ms and at most a minute.
	Settle time.Duration
	// ReduceAck allows the owner, under DegradeQuality and Adaptive and while the queue is Shedding, to acknowledge what is written
	// and not synced yet; see braid.TopicConfig. A Queue does nothing with it. Default: never.
	ReduceAck bool
	// Late lets in also what would be too late: by default Admit refuses an item at once
	// whose context would end, by the depth and the measured drain rate, before the
	// drainer could be done with it.
	Late bool
}

// Resolve fills in the defaults, or returns an *OptionError.
func (p Policy) Resolve() (Policy, error) {
	o, err := Options{MaxRecords: p.MaxRecords, MaxBytes: p.MaxBytes}.resolve()
	if err != nil {
		return Policy{}, err
	}
	p.MaxRecords, p.MaxBytes = o.MaxRecords, o.MaxBytes
	orDefault(&p.Warning, DefaultWarning)
	orDefault(&p.Critical, DefaultCritical)
	orDefault(&p.Shedding, DefaultShedding)
	orDefault(&p.Smoothing, DefaultSmoothing)
	orDefault(&p.Settle, DefaultSettle)
	percent := func(f float64) int64 { return int64(100 * f) }
	switch {
	case p.Strategy >= strategies:
		return Policy{}, &OptionError{"Strategy", int64(p.Strategy), "unknown"}
	case !(p.Warning >= 0.1):
		return Policy{}, &OptionError{"Warning", percent(p.Warning), "percent: must be at least 10"}
	case !(p.Critical > p.Warning):
		return Policy{}, &OptionError{"Critical", percent(p.Critical), fmt.Sprintf("percent: must be above Warning, which is %d", percent(p.Warning))}
	case !(p.Shedding > p.Critical && p.Shedding <= 1):
		return Policy{}, &OptionError{"Shedding", percent(p.Shedding), fmt.Sprintf("percent: must be above Critical, which is %d, and at most 100", percent(p.Critical))}
	case p.Smoothing < time.Millisecond || p.Smoothing > time.Hour:
		return Policy{}, &OptionError{"Smoothing", int64(p.Smoothing), "nanoseconds: must be between a millisecond and an hour"}
	case p.Settle < time.Millisecond || p.Settle > time.Minute:
		return Policy{}, &OptionError{"Settle", int64(p.Settle), "nanoseconds: must be between a millisecond and a minute"}
	}
	return p, nil
}

func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// threshold is the share at which a state begins.
func (p *Policy) threshold(s State) float64 {
	return [...]float64{0, p.Warning, p.Critical, p.Shedding}[s]
}

// rise is the state to which a depth raises s.
func (p *Policy) rise(s State, depth float64) State {
	for s < Shedding && depth >= p.threshold(s+1) {
		s++
	}
	return s
}

// fall is the state to which s falls when the depth has been no higher for Settle.
func (p *Policy) fall(s State, peak float64) State {
	for s > Normal && peak < p.threshold(s)-hysteresis {
		s--
	}
	return s
}

// Owner is who is told what a queue does. Its functions may be nil. They run on
// goroutines that put and take and hold a lock of the queue; so they must be fast,
// must not panic and must not call the queue.
type Owner[T any] struct {
	// Dropped owns each item that DropOldest drops from then on, as the drainer owns
	// what it takes: it is called once for each, oldest first, never for one that was
	// taken. An item that its producer has given up since is handed over like any other,
	// because only the owner knows: it is for Dropped to tell the two apart, as it is
	// for the drainer. Without it DropOldest is refused.
	Dropped func(T)
	// Changed is told each change of the state, in order.
	Changed func(from, to State, depth Weight)
}

// SetPolicy changes what the queue does, at any time, also while others put.
// Producers that wait keep their places, whatever the new strategy; those that now
// fit are let in, and with DropOldest room is made for all of them. What is queued
// stays, even if it is more than the new limits. An *OptionError changes nothing.
func (q *Queue[T]) SetPolicy(p Policy, owner Owner[T]) error {
	p, err := p.Resolve()
	if err != nil {
		return err
	}
	if p.Strategy == DropOldest && owner.Dropped == nil {
		return &OptionError{"Strategy", int64(p.Strategy), "needs an owner that takes what is dropped"}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.owner = owner
	q.apply(p)
	for w := q.line.front; w != nil; {
		next := w.next
		if w.item.weight.records() > uint64(p.MaxRecords) { // it would never fit
			q.line.leave(w)
			w.done <- ErrTooLarge
		}
		w = next
	}
	q.bar()
	q.look()
	if p.Strategy == DropOldest {
		q.makeRoom()
	} else {
		q.resume()
	}
	return nil
}

// Policy returns the policy in force, defaults filled in.
func (q *Queue[T]) Policy() Policy {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.policy
}

// State returns how full the queue is.
func (q *Queue[T]) State() State { return State(q.state.Load()) }

// apply puts a policy in force. The caller holds mu, or is making the queue.
func (q *Queue[T]) apply(p Policy) {
	if p.Strategy != q.policy.Strategy {
		q.average = average{} // nobody takes note of the depth meanwhile
	}
	q.policy = p
	q.pick()
	q.gauge.maxRecords.Store(uint64(p.MaxRecords))
	q.gauge.maxBytes.Store(uint64(p.MaxBytes))
	if q.budget == nil {
		q.gauge.granted.Store(uint64(p.MaxBytes))
	} else {
		q.setReserved(q.reserved)
	}
	q.setAlarm()
}

// setAlarm has a producer look that brings the depth to the next state. The caller holds mu.
func (q *Queue[T]) setAlarm() {
	s := q.State()
	if s == Shedding {
		q.gauge.alarmRecords.Store(math.MaxUint64)
		q.gauge.alarmBytes.Store(math.MaxUint64)
		return
	}
	at := q.policy.threshold(s + 1)
	q.gauge.alarmRecords.Store(uint64(math.Ceil(at * float64(q.policy.MaxRecords))))
	q.gauge.alarmBytes.Store(uint64(math.Ceil(at * float64(q.policy.MaxBytes))))
}

// depth is what is queued as a share of the limits.
func (q *Queue[T]) depth() float64 {
	if q.starved || q.held {
		return 1
	}
	held := q.gauge.held()
	return max(float64(held.records())/float64(q.policy.MaxRecords), float64(held.bytes())/float64(q.policy.MaxBytes),
		float64(q.ring.Len())/float64(q.ring.Cap()))
}

// look takes note of how full the queue is. The caller holds mu.
func (q *Queue[T]) look() {
	depth := q.depth()
	q.peak = max(q.peak, depth)
	if q.ring.Drained() {
		q.become(Normal)
		return
	}
	q.become(q.policy.rise(q.State(), depth))
	q.observe(depth)
	if q.State() != Normal && !q.settling {
		q.settling = true
		q.peak = depth
		time.AfterFunc(q.policy.Settle, q.settle)
	}
}

// observe has the average take note of the depth. While the queue is Normal that counts as nothing, so that there is no clock to be read. The caller holds mu.
func (q *Queue[T]) observe(depth float64) {
	if q.policy.Strategy != Adaptive {
		return
	}
	switch {
	case q.State() == Normal:
		depth = 0
	case q.line.front != nil: // it has been full, and is for those who wait
		depth = 1
	}
	if depth > 0 || q.average.depth > 0 {
		q.average.note(time.Now(), depth, &q.policy)
		q.pick()
	}
}

// settle ends states that have not been reached for a while. It runs once for each Settle for as long as the state is not Normal.
func (q *Queue[T]) settle() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.settling = false
	q.become(q.policy.fall(q.State(), q.peak))
	q.look()
}

// become changes the state. The caller holds mu.
func (q *Queue[T]) become(to State) {
	from := q.State()
	if to == from {
		return
	}
	q.state.Store(uint32(to))
	q.pick()
	q.setAlarm()
	if q.owner.Changed != nil {
		q.owner.Changed(from, to, q.gauge.held().weight())
	}
}

// refuses reports whether the strategy refuses an item for which there is no room. The caller holds mu.
func (q *Queue[T]) refuses() bool {
	return q.Picked() == ShedLoad
}

// Picked returns the strategy in force: the policy's, but under Adaptive the one that it has picked, which is BlockProducer, DegradeQuality or ShedLoad.
func (q *Queue[T]) Picked() Strategy { return Strategy(q.picked.Load()) }

// Degrades reports whether the owner is to do less for each item, as it does from a state on: the queue is in that state or a worse one, and the strategy
// is DegradeQuality, or Adaptive, which has picked that or even to refuse.
func (q *Queue[T]) Degrades(from State) bool { return q.degrades.Load() && q.State() >= from }

// pick puts a strategy in force. The caller holds mu, or is making the queue.
func (q *Queue[T]) pick() {
	s := q.policy.Strategy
	if s == Adaptive {
		s = BlockProducer
		if q.State() != Normal {
			s = [...]Strategy{Normal: s, Warning: s, Critical: DegradeQuality, Shedding: ShedLoad}[q.average.state]
		}
	}
	q.picked.Store(uint32(s))
	q.degrades.Store(s == DegradeQuality || s == ShedLoad && q.policy.Strategy == Adaptive)
}

// Admit returns an *OverloadError if ctx would end before the drainer could be done with
// an item that is put now: by what is queued, what it took last and is at work on, what waits in
// line not counted, and the drain rate. It says nothing while the queue is below 70 % of its limits or no rate has
// been measured, and under Policy.Late. The error's RetryAfter is when the queue is
// expected to be so empty that it would be in time.
func (q *Queue[T]) Admit(ctx context.Context) error {
	end, ends := ctx.Deadline()
	if !ends || !q.pressed() {
		return nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	held := q.gauge.held()
	left := time.Until(end)
	rest, need := q.drain.until(time.Now(), amounts{float64(held.records()), float64(held.bytes()), float64(q.ring.Len())})
	need += rest
	if q.policy.Late || !q.drain.known || need <= left {
		return nil
	}
	return &OverloadError{Depth: held.weight(), Late: true, RetryAfter: min(max(need-left, leastRetry), mostRetry)}
}

// average is the moving average of the depth, by which Adaptive goes.
type average struct {
	at    time.Time
	depth float64 // at that time
	value float64
	state State // of the value, with hysteresis
}

// note takes in a depth. Since the one before, the depth was as it was then.
func (a *average) note(now time.Time, depth float64, p *Policy) {
	if dt := now.Sub(a.at); !a.at.IsZero() && dt > 0 {
		a.value += (a.depth - a.value) * (1 - math.Exp(-dt.Seconds()/p.Smoothing.Seconds()))
	}
	a.at, a.depth = now, depth
	a.state = p.fall(p.rise(a.state, a.value), a.value)
}
