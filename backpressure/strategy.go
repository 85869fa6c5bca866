package backpressure

import (
	"fmt"
	"time"
)

// Strategy says what Put does when the queue is full.
type Strategy uint8

const (
	// BlockProducer has the producer wait, in order of arrival. The default.
	BlockProducer Strategy = iota
	// DropOldest drops the oldest queued items, the fewest that make room.
	DropOldest
	// ShedLoad refuses the new item at once with an *OverloadError.
	ShedLoad
	// DegradeQuality waits as BlockProducer does. What is done less well, from Warning on,
	// is the owner's, who asks for the State.
	DegradeQuality
	// Adaptive goes by the moving average of the depth and picks among the others: it is
	// BlockProducer, from Policy.Critical on DegradeQuality, and from Policy.Shedding on
	// ShedLoad, and goes back when the average is 5 points below. While producers wait the
	// queue counts as full, though the drainer is at work already, and while it is Normal as
	// empty. See Queue.Picked.
	Adaptive

	strategies
)

func (s Strategy) String() string {
	switch s {
	case BlockProducer:
		return "block-producer"
	case DropOldest:
		return "drop-oldest"
	case ShedLoad:
		return "shed-load"
	case DegradeQuality:
		return "degrade-quality"
	case Adaptive:
		return "adaptive"
	}
	return fmt.Sprintf("strategy(%d)", uint8(s))
}

// MarshalText makes a Strategy readable in JSON and flags.
func (s Strategy) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (s *Strategy) UnmarshalText(b []byte) (err error) {
	*s, err = ParseStrategy(string(b))
	return err
}

// ParseStrategy is the inverse of Strategy.String.
func ParseStrategy(s string) (Strategy, error) {
	for v := range strategies {
		if v.String() == s {
			return v, nil
		}
	}
	return 0, fmt.Errorf("backpressure: no strategy is called %q", s)
}

// OverloadError is what Put and Admit return for an item that is refused because of what is
// queued already: Put under ShedLoad and Adaptive when the queue is full, Admit when ctx
// would end before the drainer could be done with the item. It is an ErrFull for errors.Is.
type OverloadError struct {
	Depth Weight // what was queued when the item was refused
	// Late: ctx would have ended first.
	Late bool
	// RetryAfter is how long the drainer needs, at the rate of the last second or so
	// of pressure, until the queue is below 70 % of every limit; of a drainer that has
	// got stuck since, it grows. It is between 1 ms and 30 s, and 100 ms as long as no
	// rate has been measured.
	RetryAfter time.Duration
}

func (e *OverloadError) Error() string {
	why := ErrFull.Error()
	if e.Late {
		why = "backpressure: the context would end before the item is done"
	}
	return fmt.Sprintf("%s: %d records, %d bytes queued: retry after %v", why, e.Depth.Records, e.Depth.Bytes, e.RetryAfter)
}

func (e *OverloadError) Unwrap() error { return ErrFull }

// makeRoom lets the whole line in, dropping the oldest items one by one until each
// fits. The flag that somebody waits keeps others from the room that is made, so no
// more are dropped than are needed. What is only claimed as yet cannot be dropped:
// then the rest of the line stays until that is taken or somebody puts again. The
// caller holds mu.
func (q *Queue[T]) makeRoom() {
	for q.line.front != nil {
		q.admit()
		if q.line.front == nil || !q.dropOne() {
			return
		}
	}
}

// dropOne drops the oldest item, if there is one that is stored. The caller holds mu.
func (q *Queue[T]) dropOne() bool {
	next := q.oldest()
	if next == nil {
		return false
	}
	e := *next
	q.ring.discard()
	q.gauge.release(e.weight)
	q.owner.Dropped(e.value)
	return true
}

// overload says that the queue is full. The caller holds mu.
func (q *Queue[T]) overload() *OverloadError {
	held := q.gauge.held()
	if q.held {
		return &OverloadError{Depth: held.weight(), RetryAfter: unknownRetry}
	}
	limits := q.Limits()
	excess := amounts{
		float64(held.records()) - resumePercent/100.0*float64(limits.MaxRecords),
		float64(held.bytes()) - resumePercent/100.0*float64(limits.MaxBytes),
		float64(q.ring.Len()) - resumePercent/100.0*float64(limits.Slots),
	}
	rest, need := q.drain.until(time.Now(), excess)
	return &OverloadError{Depth: held.weight(), RetryAfter: max(rest, need)} // nothing is taken before rest is over
}
