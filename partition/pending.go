package partition

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/braid-go/braid/log"
)

// errUnsynced: what comes before in the log is neither durable nor in the journal.
var errUnsynced = errors.New("partition: earlier records are not durable")

const (
	// Frames that the journal has are written to the segment when there are so many of them, or after so long, or
	// when a reader comes, so that many small rounds cost one write.
	applyBytes = 64 << 10
	applyAfter = 2 * time.Millisecond
)

// pending are the frames of a partition that have their offsets and are not in its segment: they are on their way through the
// journal, or in it. Whoever comes first writes those that are in it to the segment.
type pending struct {
	mu     sync.Mutex
	data   []byte
	frames []log.FrameInfo
	spare  pendingFrames // of the last write, to be used again
	taken  bool          // what the journal has is being written to the segment

	durable       int // bytes in front that the journal has
	durableFrames int
	since         time.Time  // when the first of them came
	room          int64      // made sure of in the segment, for these and those still to come
	empty         *sync.Cond // made by who waits for it
}

type pendingFrames struct {
	data   []byte
	frames []log.FrameInfo
}

func (q *pending) none() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.frames) == 0
}

// settled reports whether everything is in the segment, and nothing on its way there.
func (q *pending) settled() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.frames) == 0 && !q.taken
}

// announce adds to the room that is needed, and returns all of it.
func (q *pending) announce(bytes int64) int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.room += bytes
	return q.room
}

// add takes frames whose offsets have just been given, and returns how much they are.
func (q *pending) add(b *log.Builder) parcel {
	q.mu.Lock()
	defer q.mu.Unlock()
	at := len(q.data)
	q.data = append(q.data, b.Bytes()...)
	for _, f := range b.Frames() {
		f.Pos += at
		q.frames = append(q.frames, f)
	}
	return parcel{len(b.Bytes()), len(b.Frames())}
}

// parcel is frames that went through the journal together.
type parcel struct{ bytes, frames int }

// arrived notes that the journal has the next parcel.
func (q *pending) arrived(c parcel, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.durable == 0 {
		q.since = now
	}
	q.durable += c.bytes
	q.durableFrames += c.frames
}

// take takes what the journal has.
func (q *pending) take() pendingFrames {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.durable == 0 {
		return pendingFrames{}
	}
	out := pendingFrames{q.data[:q.durable], q.frames[:q.durableFrames]}
	rest := pendingFrames{append(q.spare.data[:0], q.data[q.durable:]...), append(q.spare.frames[:0], q.frames[q.durableFrames:]...)}
	for i := range rest.frames {
		rest.frames[i].Pos -= q.durable
	}
	q.data, q.frames, q.spare = rest.data, rest.frames, pendingFrames{}
	q.durable, q.durableFrames = 0, 0
	q.taken = true
	return out
}

// done gives back what take gave, when it is in the segment.
func (q *pending) done(f pendingFrames) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.taken && cap(f.data) <= keepBuffer {
		q.spare = pendingFrames{f.data[:0], f.frames[:0]}
	}
	q.taken = false
	q.told()
}

// forget drops everything, and the memory.
func (q *pending) forget() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.data, q.frames, q.spare = nil, nil, pendingFrames{}
	q.durable, q.durableFrames = 0, 0
	q.told()
}

// told wakes who waits for there to be nothing. The caller holds mu.
func (q *pending) told() {
	if len(q.frames) == 0 && q.empty != nil {
		q.empty.Broadcast()
	}
}

// due reports whether enough is there, or for long enough, to be written.
func (q *pending) due(now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.durable >= applyBytes || q.durable > 0 && now.Sub(q.since) >= applyAfter
}

// traveling reports whether frames are on their way through the journal.
func (q *pending) traveling() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.frames) > q.durableFrames
}

// wait waits until nothing is on its way through the journal.
func (q *pending) wait() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.empty == nil {
		q.empty = sync.NewCond(&q.mu)
	}
	for len(q.frames) > q.durableFrames {
		q.empty.Wait()
	}
}

// makeRoom makes sure that so many bytes of frames can be written to the segment. On nil, undo it with
// p.pending.announce(-bytes).
func (p *Partition) makeRoom(bytes int64) error {
	total := p.pending.announce(bytes)
	p.writing.Lock()
	err := p.log.Room(total)
	p.writing.Unlock()
	if err != nil {
		p.pending.announce(-bytes)
	}
	return err
}

// sendable returns why nothing can be given the next offset and be sent through the journal. The caller holds
// ordering.
func (p *Partition) sendable() error {
	switch err := p.log.Err(); {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrFailed, err)
	case p.shut:
		return ErrClosed
	case p.sealed:
		return ErrSealed
	case p.pending.settled() && p.log.DurableEnd() < p.log.AssignedEnd():
		return errUnsynced
	}
	return nil
}

// send fixes the place of frames that are about to be written to the journal. The caller holds ordering.
func (p *Partition) send(b *log.Builder) parcel {
	p.log.Assign(b)
	p.cfg.Scheduler.carries(p)
	return p.pending.add(b)
}

// arrived notes that the journal has a parcel, and tells readers to come for it.
func (p *Partition) arrived(c parcel) {
	p.pending.arrived(c, time.Now())
	p.touched.Store(true)
	p.log.Announce()
}

// apply writes what the journal has to the segment, where readers find it. An error stays in the log, which
// takes no more then; what the journal has stands all the same, and opening finds it.
func (p *Partition) apply() {
	p.writing.Lock()
	defer p.writing.Unlock()
	p.applyHeld()
}

// applyHeld is apply with writing held.
func (p *Partition) applyHeld() {
	n := p.log.Announced()
	f := p.pending.take()
	if len(f.frames) > 0 {
		_ = p.log.Apply(f.data, f.frames)
	}
	p.log.Caught(n)
	p.pending.done(f)
}

// lost fails the partition after the journal has failed under a parcel: whether it is there is unknown, so nothing
// else may ever have its offsets.
func (p *Partition) lost(err error) {
	p.apply() // what came before stands
	p.log.Fail(err)
	p.pending.forget()
}
