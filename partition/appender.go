package partition

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/braid-go/braid/log"
)

const (
	// A frame is ended at this size. Larger ones would cost a reader of a single record more, smaller
	// ones have more header.
	frameBytes = 128 << 10
	// One round takes at most this much from the queue.
	roundRecords = 16 << 10
	roundBytes   = 1 << 20
	// A buffer that a large record has made larger than this is not kept.
	keepBuffer = 4 << 20
)

// appender is the goroutine that drains a lane.
type appender struct {
	p       *Partition
	ln      *lane
	builder *log.Builder
	batch   []*Request
	gather  int // requests in the last round

	timer  *time.Timer
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
	a := &appender{p: p, ln: ln, builder: log.NewBuilder(0), timer: time.NewTimer(p.cfg.MarkAfter)}
	defer a.timer.Stop()
	q := ln.queue
	for {
		a.wait()
		if a.batch = q.Take(a.batch[:0], roundRecords, roundBytes); len(a.batch) > 0 {
			a.round()
			clear(a.batch)
			continue
		}
		a.gather = 0
		if q.Drained() {
			_ = p.log.Release() // a failure stays in the log
			p.ended(ln)
			return
		}
		if !q.Park() {
			continue
		}
		select {
		case <-q.Wake():
		case <-a.timer.C:
			a.idle()
		}
	}
}

// wait gathers: publishers that the last round has woken are on their way back.
func (a *appender) wait() {
	limit := a.p.cfg.Scheduler.opts.Gather
	if a.gather < 2 || limit <= 0 || a.ln.queue.Len() >= a.gather {
		return
	}
	for begin := time.Now(); time.Since(begin) < limit && a.ln.queue.Len() < a.gather; {
		runtime.Gosched()
	}
}

// idle marks a log that has been idle for a while, and after a longer while lets the lane go.
func (a *appender) idle() {
	switch {
	case a.active:
		a.active = false
		a.timer.Reset(a.p.cfg.MarkAfter)
	case !a.marked:
		_ = a.p.log.Mark() // a failure stays in the log
		a.marked = true
		a.timer.Reset(a.p.cfg.ReleaseAfter)
	default:
		a.p.letGo(a.ln)
	}
}

// round stores a batch.
func (a *appender) round() {
	p := a.p
	p.rounds.Add(1)
	if a.marked {
		a.marked = false
		a.timer.Reset(p.cfg.MarkAfter)
	}
	a.active = true
	a.gather = len(a.batch)
	a.begin()
	if err := a.refusal(); err != nil {
		a.finish(err)
		return
	}
	a.encode()
	for _, r := range a.batch {
		r.state.Store(stateEncoded)
	}
	err := p.cfg.Scheduler.commit(p, a.builder)
	if err != nil && errors.Is(err, log.ErrFailed) {
		err = fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	}
	a.finish(err)
	a.builder.Reset(0)
	a.builder.Shrink(keepBuffer)
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

// begin takes the requests from their publishers. Those that have been withdrawn are counted already and fall
// out of the batch: from here on, whatever ends a request ends it for the first time.
func (a *appender) begin() {
	kept := a.batch[:0]
	for _, r := range a.batch {
		if r.state.CompareAndSwap(stateQueued, stateEncoding) {
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
		for j := range r.records {
			if !open {
				meta = a.p.log.Meta(b)
				meta.Codec = a.p.cfg.Codec()
				b.Begin(meta)
				open = true
			}
			if j == 0 {
				r.base, r.time = meta.Base+int64(b.FrameRecords()), meta.AppendTime
			}
			if err := r.src.AppendTo(b, j, meta.AppendTime); err != nil {
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
