package backpressure

import (
	"math/bits"
	"sync/atomic"
)

// MaxSlots is the largest number of slots a Ring has.
const MaxSlots = 1 << 24

// closedBit is set in the word of the enqueue index when the ring is closed. The
// index itself would need 2^63 pushes to reach it.
const closedBit = 1 << 63

// pad keeps its neighbours off each other's cache line: two lines of 64 bytes,
// because x86 prefetches lines in pairs and some arm64 lines are 128 bytes.
type pad [128]byte

// PushResult says what became of a Push.
type PushResult uint8

const (
	Pushed PushResult = iota // the value is in the ring
	Full                     // every slot was taken; nothing was stored
	Closed                   // the ring is closed; nothing was stored
)

// Ring is a bounded lock-free queue for many pushers and one popper at a time.
//
// Every slot carries a sequence number that says whose turn it is. A slot with
// index i of a ring with c slots starts with sequence i. The push with position p
// may use slot p mod c when its sequence is p, and sets it to p+1 once the value
// is stored. The pop with position p may read it when its sequence is p+1, and
// sets it to p+c, which is the turn of the push one lap later. So pushers contend
// on the enqueue index alone, and pushers and the popper meet only in slots.
//
// The algorithm is Dmitry Vyukov's bounded MPMC queue
// (https://www.1024cores.net/home/lock-free-algorithms/queues/bounded-mpmc-queue),
// with a popper that needs no compare-and-swap and a closed bit in the word of the
// enqueue index: a claim is a compare-and-swap of that word from an open value, so
// none can succeed after Close.
//
// A pusher that is descheduled between claiming a slot and storing its value hides
// that slot and the ones behind it from the popper until it runs again.
//
// A Ring must not be copied. All methods but Pop are safe for concurrent use;
// calls of Pop must be serialised by the caller.
type Ring[T any] struct {
	slots []slot[T]
	mask  uint64

	_    pad
	tail atomic.Uint64 // position of the next push, and closedBit
	_    pad
	head atomic.Uint64 // position of the next pop; written by the popper
	_    pad
}

type slot[T any] struct {
	seq   atomic.Uint64
	value T
}

// NewRing returns an empty ring. The number of slots is rounded up to a power of
// two and kept between 2 and MaxSlots. (With one slot the sequences of "stored"
// and of "free for the next lap" would be the same number.)
func NewRing[T any](slots int) *Ring[T] {
	r := new(Ring[T])
	r.init(roundSlots(slots))
	return r
}

func roundSlots(slots int) int {
	if slots <= 2 {
		return 2
	}
	return 1 << bits.Len(uint(min(slots, MaxSlots)-1))
}

// init makes a Ring of n slots, a power of two.
func (r *Ring[T]) init(n int) {
	r.slots, r.mask = make([]slot[T], n), uint64(n-1)
	for i := range r.slots {
		r.slots[i].seq.Store(uint64(i))
	}
}

// Push adds v unless the ring is full or closed. It never blocks. Full is exact:
// losing a race against another pusher retries, and Full is returned only if at
// some moment during the call every slot held a value that no Pop had freed.
func (r *Ring[T]) Push(v T) PushResult {
	for {
		pos := r.tail.Load()
		if pos&closedBit != 0 {
			return Closed
		}
		s := &r.slots[pos&r.mask]
		switch turn := s.seq.Load(); {
		case turn == pos:
			if r.tail.CompareAndSwap(pos, pos+1) {
				s.value = v
				s.seq.Store(pos + 1)
				return Pushed
			}
		case turn < pos:
			// The push of the lap before is still there, so the pop of position
			// pos-c has not happened, and had not when pos was loaded either.
			return Full
		}
		// Otherwise somebody else took this position since it was loaded.
	}
}

// Pop removes and returns the oldest value. It reports false when there is none,
// also when the oldest has been claimed but not stored yet. The slot is zeroed, so
// the ring keeps nothing alive that was popped.
func (r *Ring[T]) Pop() (v T, ok bool) {
	p := r.peek()
	if p == nil {
		return v, false
	}
	v = *p
	r.discard()
	return v, true
}

// peek returns the oldest value in place, or nil where Pop would report false. The
// value may be read until the next Pop or discard. The popper's side.
func (r *Ring[T]) peek() *T {
	pos := r.head.Load()
	s := &r.slots[pos&r.mask]
	if s.seq.Load() != pos+1 {
		return nil
	}
	return &s.value
}

// discard removes the value that peek returned. The popper's side.
func (r *Ring[T]) discard() {
	var zero T
	pos := r.head.Load()
	s := &r.slots[pos&r.mask]
	s.value = zero
	// The index first: a pusher that uses the slot again then never makes the ring
	// look longer than it is.
	r.head.Store(pos + 1)
	s.seq.Store(pos + uint64(len(r.slots)))
}

// Close refuses further pushes. When it returns, no Push can claim a slot any
// more; pushes that claimed one before finish, and their values become poppable
// shortly after. What is in the ring stays poppable. Close is idempotent.
func (r *Ring[T]) Close() { r.tail.Or(closedBit) }

func (r *Ring[T]) closed() bool { return r.tail.Load()&closedBit != 0 }

// Len returns how many slots are claimed and not popped yet. While others push and
// pop it is an approximation between 0 and Cap.
func (r *Ring[T]) Len() int {
	head := r.head.Load() // first, so that the difference is never negative
	tail := r.tail.Load() &^ closedBit
	return int(min(tail-head, uint64(len(r.slots))))
}

// Drained reports whether the ring is closed and every claimed slot has been
// popped. Once true it stays true.
func (r *Ring[T]) Drained() bool {
	tail := r.tail.Load()
	return tail&closedBit != 0 && tail&^closedBit == r.head.Load()
}

// Cap returns the number of slots.
func (r *Ring[T]) Cap() int { return len(r.slots) }
