package partition

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/braid-go/braid/backpressure"
	"github.com/braid-go/braid/checkpoint"
	"github.com/braid-go/braid/log"
)

const (
	// A frame is ended at this size. Larger ones would cost a reader of a single record more, smaller
	// ones have more header.
	frameBytes = 128 << 10
	// One round takes at most this much from the queue.
	roundRecords = 16 << 10
	roundBytes   = 512 << 10
	// A buffer that a large record has made larger than this is not kept.
	keepBuffer = 4 << 20
)

// appender is what the goroutine that drains a lane works with. While that rests, a publisher may borrow it: see Submit.
type appender struct {
	p        *Partition
	ln       *lane
	builder  *log.Builder // during a round
	batch    []*Request
	gather   int           // requests in the last round
	patience time.Duration // how long it is worth waiting for as many
	parcel   parcel
	room     int64 // made sure of for the round
	refused  error // why the batch was refused when the journal asked for it
	reduced  bool  // the round is acknowledged before it is synced

	flights

	unsynced time.Time // when the first round was written that is stored and not synced; zero: there is none

	timer  *time.Timer
	soon   bool // the timer was set for what the journal has
	active bool // something was done since the timer was set
	marked bool // the log has been marked since it was last active
}

// append drains a lane until it is let go or closed.
func (p *Partition) append(ln *lane) {
	defer close(ln.done)
	if ln.previous != nil {
		<-ln.previous.done
		p.mu.Lock()
		ln.previous = nil
		p.mu.Unlock()
	}
	a := &appender{p: p, ln: ln, timer: time.NewTimer(p.cfg.MarkAfter)}
	defer a.timer.Stop()
	q := ln.queue
	for {
		a.wait()
		if a.batch = q.Take(a.batch[:0], a.allowed(), roundBytes); len(a.batch) > 0 {
			a.round()
			clear(a.batch)
			continue
		}
		if a.flying() && !q.Drained() {
			a.cruise()
			continue
		}
		a.gather = 0
		a.land()
		a.settle()
		if q.Drained() {
			p.rested()
			p.ended(ln)
			return
		}
		if q.Park() {
			a.rest()
		}
	}
}

// rest waits until something is queued, or until it is time for what is done when nothing is. Meanwhile the appender can be borrowed.
func (a *appender) rest() {
	if !a.p.pending.none() {
		a.alarm(applyAfter, true)
	}
	a.ln.resting <- a
	select {
	case <-a.ln.queue.Wake():
		<-a.ln.resting
	case <-a.timer.C:
		<-a.ln.resting
		if !a.soon {
			a.idle()
			return
		}
		a.p.apply()
		a.alarm(a.p.cfg.MarkAfter, false)
	}
}

// alarm sets the timer: soon, for what the journal has to be written to the segment, or later, for what is done when nothing is to be done.
func (a *appender) alarm(after time.Duration, soon bool) {
	a.soon = soon
	a.timer.Reset(after)
}

// wait gathers: publishers that the last round has woken are on their way back.
func (a *appender) wait() {
	if a.unsynced.IsZero() && a.ln.queue.Degrades(backpressure.Warning) { // what is not synced yet must not wait
		a.linger()
	}
	if a.flying() || a.gather < 2 || a.patience <= 0 || a.ln.queue.Len() >= a.gather {
		return
	}
	begin := time.Now()
	for turns := 0; turns < gatherTurns && time.Since(begin) < a.patience && a.ln.queue.Len() < a.gather; turns++ {
		runtime.Gosched()
	}
}

const (
	// lingerFor is how long a round waits at most for more to be queued, if the quality may be degraded.
	lingerFor = 2 * time.Millisecond
	// lingerStep is how often it looks whether there is more.
	lingerStep = 200 * time.Microsecond
)

// linger has rounds grow, and so the device do less for each record: as long as more is being queued, and what is queued is neither a full frame nor half
// of what the queue may hold.
func (a *appender) linger() {
	q := a.ln.queue
	limits := q.Limits()
	for begin, before := time.Now(), q.Depth(); time.Since(begin) < lingerFor; {
		if before.Records == 0 || before.Bytes >= frameBytes || 2*before.Records >= limits.MaxRecords || 2*before.Bytes >= limits.MaxBytes || q.Closed() {
			return
		}
		time.Sleep(lingerStep)
		now := q.Depth()
		if now.Records <= before.Records {
			return
		}
		before = now
	}
}

// gatherTurns bounds waiting where the clock stands still as long as somebody is busy: in a bubble of testing/synctest.
const gatherTurns = 10_000

// idle marks a log that has been idle for a while, and after a longer while lets the lane go.
func (a *appender) idle() {
	switch {
	case a.active || a.p.touched.Swap(false):
		a.active, a.marked = false, false
		a.alarm(a.p.cfg.MarkAfter, false)
	case !a.marked:
		a.p.writing.Lock()
		a.p.applyHeld()
		_ = a.p.log.Mark() // a failure stays in the log
		a.p.writing.Unlock()
		a.marked = true
		a.alarm(a.p.cfg.ReleaseAfter, false)
	default:
		a.p.letGo(a.ln)
	}
}

// rested lets the log's file go, unless somebody waits for the lane to end in order to seal the partition: then that is for Rest, since it takes syncs that
// publishers would wait for.
func (p *Partition) rested() {
	p.mu.Lock()
	moving := p.moving
	p.mu.Unlock()
	if !moving {
		p.release()
	}
}

// release lets the log's file go.
func (p *Partition) release() {
	p.writing.Lock()
	defer p.writing.Unlock()
	p.applyHeld()
	if p.pending.none() {
		_ = p.log.Release() // a failure stays in the log
	}
	p.load.Release()
}

// round stores a batch.
func (a *appender) round() {
	p, s := a.p, a.p.cfg.Scheduler
	p.rounds.Add(1)
	if a.marked {
		a.marked = false
		a.alarm(p.cfg.MarkAfter, false)
	}
	a.active = true
	a.gather = len(a.batch)
	a.builder = s.builders.get()
	s.active.Add(1)
	err := a.storeTimed()
	s.active.Add(-1)
	s.builders.put(a.builder)
	a.builder = nil
	if a.written {
		a.depart()
	} else {
		a.land() // what was stored before is told before
		a.finish(err)
	}
}

// storeTimed is store, and takes note of how long that takes where it is asked for.
func (a *appender) storeTimed() error {
	gather := a.p.cfg.Scheduler.opts.Gather
	if gather <= 0 {
		return a.store()
	}
	begin := time.Now()
	err := a.store()
	a.patience = min(time.Since(begin)/2, gather)
	return err
}

// store makes a batch as safe as the mode says, one way or the other.
func (a *appender) store() error {
	bytes := a.bound()
	for {
		var err error
		var other bool // the other way has to be taken
		if reduced := a.reduces(); !reduced && a.p.cfg.Scheduler.shared(a.p, bytes, a.flying()) {
			err, other = a.share(bytes)
		} else {
			err, other = a.direct(reduced)
		}
		if !other {
			return err
		}
	}
}

// direct writes and syncs the partition's own segment. Frames that are on their way through the journal must be in the segment
// before, so it may have to be the other way. A large round, and one behind which is not synced yet, is written only: then a.written says so.
//
// A reduced round is not synced: a later one is, before reduceFor is over, or settle does it when nothing more is queued. Its records are visible then.
func (a *appender) direct(reduced bool) (err error, other bool) {
	p, size := a.p, a.size()
	p.ordering.Lock()
	defer p.ordering.Unlock()
	if p.pending.traveling() {
		return nil, true
	}
	a.reduced = reduced
	err = a.write()
	a.reduced = false
	if err != nil {
		return err, false
	}
	switch s := p.cfg.Scheduler; {
	case reduced:
		for _, r := range a.batch {
			r.reduced = true
		}
		if a.unsynced.IsZero() {
			a.unsynced = p.cfg.Now()
		}
	case s.opts.Mode == log.ModeFsync && (size >= directBytes || a.flying()):
		a.unsynced, a.written = time.Time{}, true
	default:
		a.unsynced = time.Time{}
		return unknownIfFailed(s.commit(p)), false
	}
	return nil, false
}

// write encodes the batch and writes it. The caller holds ordering.
func (a *appender) write() error {
	p := a.p
	if err := a.prepare(); err != nil {
		return err
	}
	p.writing.Lock()
	defer p.writing.Unlock()
	p.applyHeld()
	return unknownIfFailed(p.log.Write(a.builder))
}

// unknownIfFailed says of an error that came when records were written, or synced, what it means for them.
func unknownIfFailed(err error) error {
	if errors.Is(err, log.ErrFailed) {
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	}
	return err
}

// reduceFor is how long a stored round may stay unsynced.
const reduceFor = 50 * time.Millisecond

// reduces reports whether the round is stored when it is written: if the policy allows it, the queue is Shedding, and nobody waits for a sync. What travels
// through the journal comes first.
func (a *appender) reduces() bool {
	p := a.p
	if !p.reduce.Load() || p.cfg.Mode != log.ModeFsync || !a.ln.queue.Degrades(backpressure.Shedding) {
		return false
	}
	if p.txns.Load() > 0 || !p.pending.none() || !a.unsynced.IsZero() && p.cfg.Now().Sub(a.unsynced) >= reduceFor {
		return false
	}
	return !slices.ContainsFunc(a.batch, func(r *Request) bool { return r.records == 0 }) // a barrier: somebody flushes
}

// settle syncs what is stored and not synced, before the appender rests.
func (a *appender) settle() {
	if a.unsynced.IsZero() {
		return
	}
	a.unsynced = time.Time{}
	a.p.syncs.Add(1)
	_ = a.p.log.Sync() // a failure stays in the log, and the next publish tells
}

// share makes the batch durable with others in the journal. Its publishers are told by Durable; the segment follows.
func (a *appender) share(bytes int64) (err error, other bool) {
	p := a.p
	a.land()
	a.room, a.parcel, a.refused = max(bytes, shareRoom), parcel{}, nil
	if err := p.makeRoom(a.room); err != nil {
		a.take()
		return storeFailed(err), false
	}
	_, err = p.cfg.Scheduler.commitFrames(context.Background(), nil, a)
	if p.pending.due(time.Now()) {
		p.apply()
	}
	p.pending.announce(-a.room)
	switch {
	case err == nil:
		a.gather = 0 // the journal does that
		return nil, false
	case errors.Is(err, checkpoint.ErrOutcomeUnknown):
		p.lost(err)
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err), false
	case errors.Is(err, errUnsynced):
		if err := p.log.Sync(); err != nil {
			a.take()
			return storeFailed(err), false
		}
		return nil, true
	case a.refused != nil:
		return a.refused, false
	}
	// The journal is full, or has failed before it saw the batch: the partition goes its own way if it can.
	if p.txns.Load() == 0 && !p.pending.traveling() {
		return a.direct(false)
	}
	a.take()
	return journalError(err), false
}

// shareRoom is the least room that a round in the journal has, so that requests that come while it waits find some.
const shareRoom = 16 << 10

// storeFailed says of an error that came before anything was written that the records are certainly not stored.
func storeFailed(err error) error {
	switch {
	case errors.Is(err, log.ErrFailed):
		return fmt.Errorf("%w: %w", ErrFailed, err)
	case errors.Is(err, log.ErrClosed): // by a Close that came in between
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return err
}

func journalError(err error) error {
	if errors.Is(err, checkpoint.ErrNoSpace) {
		return fmt.Errorf("%w: %w", log.ErrNoSpace, err)
	}
	return fmt.Errorf("%w: %w", ErrFailed, err)
}

// size is about how many bytes the batch's frames have.
func (a *appender) size() int64 {
	n := int64(0)
	for _, r := range a.batch {
		n += r.bytes
	}
	return n
}

// bound is the most bytes that the batch's frames have.
func (a *appender) bound() int64 {
	n := int64(2 * log.FrameHeaderSize)
	for _, r := range a.batch {
		n += r.bound()
	}
	return n + n/frameBytes*log.FrameHeaderSize
}

// bound is the most bytes that a request has in a frame: what it says it weighs, twice because lengths and headers weigh more when
// encoded.
func (r *Request) bound() int64 { return 2*r.bytes + int64(r.records)*32 }

// Bound implements checkpoint.Carrier.
func (a *appender) Bound() int { return int(a.room) }

// Prepare implements checkpoint.Carrier: the journal calls it when the round that the batch will be in is about to be written. Until
// then requests may be withdrawn, and others may join.
func (a *appender) Prepare(_ uint64, dst []checkpoint.Frames) ([]checkpoint.Frames, error) {
	p := a.p
	p.ordering.Lock()
	defer p.ordering.Unlock()
	if err := p.sendable(); errors.Is(err, errUnsynced) {
		return dst, err
	}
	a.join()
	if a.refused = a.prepare(); a.refused != nil {
		return dst, a.refused
	}
	data := a.builder.Bytes()
	if len(data) == 0 {
		return dst, nil
	}
	a.parcel = p.send(a.builder)
	return append(dst, checkpoint.Frames{Owner: uint64(p.ID()), Data: data}), nil
}

// join takes what has been queued meanwhile, if there is room for it. The appender waits for the journal, so the journal may
// drain the queue in its place.
func (a *appender) join() {
	d := a.ln.queue.Depth()
	if d.Records > 0 && a.p.backlog.Load() == 0 && 2*d.Bytes+32*int64(d.Records) <= a.room-a.bound() {
		a.batch = a.ln.queue.Take(a.batch, d.Records, d.Bytes)
	}
}

// Durable implements checkpoint.Carrier: the publishers are told at once.
func (a *appender) Durable() {
	if a.parcel.frames > 0 {
		a.p.arrived(a.parcel)
	}
	a.finish(nil)
	clear(a.batch)
	a.batch = a.batch[:0]
}

// prepare takes the batch from its publishers and encodes it. The caller holds ordering.
func (a *appender) prepare() error {
	a.take()
	if err := a.refusal(); err != nil {
		return err
	}
	a.encode()
	a.observe()
	for _, r := range a.batch {
		r.dropAhead()
		r.state.Store(stateEncoded)
	}
	return nil
}

// observe measures the batch, as long as its records are there to be sampled.
func (a *appender) observe() {
	records, bytes := 0, int64(0)
	for _, r := range a.batch {
		records += r.records
		bytes += r.bytes
	}
	a.p.load.Observe(a.p.cfg.Now(), records, bytes, a)
}

// KeyHash implements Keys for the batch.
func (a *appender) KeyHash(i int) (uint64, bool) {
	for _, r := range a.batch {
		if i >= r.records {
			i -= r.records
			continue
		}
		if keys, ok := r.src.(Keys); ok {
			return keys.KeyHash(i)
		}
		break
	}
	return 0, false
}

// refusal returns why nothing can be stored any more, or nil.
func (a *appender) refusal() error {
	if err := a.p.log.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrFailed, err)
	}
	if a.ln.hasty.Load() {
		return ErrClosed
	}
	return nil
}

// take takes the requests from their publishers. Those that have been withdrawn are counted already and fall
// out of the batch: from here on, whatever ends a request ends it for the first time. Taking again does nothing.
func (a *appender) take() {
	kept := a.batch[:0]
	for _, r := range a.batch {
		if r.state.CompareAndSwap(stateQueued, stateEncoding) || r.state.Load() > stateWithdrawn {
			kept = append(kept, r)
		} else {
			r.Release()
		}
	}
	clear(a.batch[len(kept):])
	a.batch = kept
}

// encode encodes all requests of the batch. One that cannot be encoded is refused, and the
// others are encoded again without it.
func (a *appender) encode() {
	for {
		a.p.log.Begin(a.builder)
		at, err := a.encodeAll()
		if err == nil {
			return
		}
		r := a.batch[at]
		a.batch = append(a.batch[:at], a.batch[at+1:]...)
		r.state.Store(stateEncoded)
		a.p.resolve(r, fmt.Errorf("encode: %w", err))
	}
}

// encodeAll encodes the batch, and says which request it failed at.
func (a *appender) encodeAll() (int, error) {
	b := a.builder
	var meta log.FrameMeta
	open := false
	for i, r := range a.batch {
		for j, n := 0, r.pieces(); j < n; j++ {
			if !open {
				meta = a.p.log.Meta(b)
				meta.Codec, meta.Early = a.p.cfg.Codec(), a.reduced
				b.Begin(meta)
				open = true
			}
			if j == 0 {
				r.base, r.time = meta.Base+int64(b.FrameRecords()), meta.AppendTime
			}
			if err := r.appendTo(b, j, meta.AppendTime); err != nil {
				return i, err
			}
			if b.FrameBytes() >= frameBytes {
				open = false
				if err := b.End(); err != nil {
					return i, err
				}
			}
		}
	}
	if !open {
		return 0, nil
	}
	return len(a.batch) - 1, b.End()
}

// finish resolves the whole batch.
func (a *appender) finish(err error) {
	for _, r := range a.batch {
		a.p.resolve(r, err)
	}
}

// resolve ends a request's life.
func (p *Partition) resolve(r *Request, err error) {
	switch {
	case err == nil:
		p.stored.Add(int64(r.records))
	case err == ErrDropped:
		p.dropped.Add(int64(r.records))
	case errors.Is(err, ErrOutcomeUnknown):
		p.unknown.Add(int64(r.records))
	default:
		p.refused(r.records)
	}
	r.err = err
	r.state.Store(stateDone)
	if r.done != nil {
		p.callbacks.push(r, p.cfg.Scheduler)
		return
	}
	r.resolved <- struct{}{}
	r.Release()
}
