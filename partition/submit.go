package partition

import (
	"context"
	"fmt"
	"runtime/debug"

	"github.com/braid-go/braid/backpressure"
	"github.com/braid-go/braid/log"
)

// Submit is Enqueue for a publisher that has nothing else to do until r is done: nobody is called back for r, and Wait comes next. Where that is possible the publisher does
// the appender's work itself, and r is done when Submit returns. That saves two hand-overs between goroutines, which is more than a small record costs otherwise.
//
// It is possible while the appender rests: nothing is queued then, so nothing is passed by. And only if ctx cannot end, since what a publisher does itself it has to wait
// for. What is queued meanwhile is the appender's, as soon as the publisher is done.
func (p *Partition) Submit(ctx context.Context, r *Request) error {
	if ln := p.lane.Load(); ln != nil && p.mayPerform(ctx, ln, r) {
		if a := ln.borrow(); a != nil {
			a.perform(r)
			return nil
		}
		if p.sideBySide(r) {
			ln.crowded.Store(crowdFor)
		}
	}
	return p.Enqueue(ctx, r)
}

// crowdFor is how many large requests are queued after one that found the appender at work.
const crowdFor = 32

// sideBySide reports whether encoding r takes longest of all that is to be done with it. Where several publishers have such, they had better encode at the same time: see encodeAhead.
func (p *Partition) sideBySide(r *Request) bool {
	return r.bytes >= aheadFrom && p.cfg.Mode != log.ModeFsync
}

// mayPerform reports whether r may be a round of its own publisher. Where rounds are to be larger, or are told before they are synced, they are the appender's.
func (p *Partition) mayPerform(ctx context.Context, ln *lane, r *Request) bool {
	if ctx.Done() != nil || r.bytes > roundBytes || r.records > ln.queue.Limits().MaxRecords || p.backlog.Load() != 0 || ln.queue.Degrades(backpressure.Warning) {
		return false
	}
	if !p.sideBySide(r) || ln.crowded.Load() <= 0 {
		return true
	}
	ln.crowded.Add(-1)
	return false
}

// borrow returns the appender if it rests and nothing is queued, or nil. It is to be given back.
func (ln *lane) borrow() *appender {
	select {
	case a := <-ln.resting:
		if ln.queue.Len() == 0 && !ln.queue.Closed() {
			return a
		}
		ln.resting <- a
	default:
	}
	return nil
}

// perform does a round of one request, and of what joins it in the journal, and gives the appender back.
func (a *appender) perform(r *Request) {
	over := false
	defer func() {
		if !over {
			die(recover())
		}
	}()
	a.p.accepted.Add(int64(r.records))
	r.refs.Add(1) // the appender's
	a.batch = append(a.batch[:0], r)
	a.round()
	clear(a.batch)
	a.land()
	a.settle() // the queue may have filled up since
	if !a.soon && !a.p.pending.none() {
		a.alarm(applyAfter, true)
	}
	over = true
	a.ln.resting <- a
}

// die ends the program for a panic in a round, as it does on the appender's goroutine: a publisher might recover from it, and the partition would stand still.
func die(cause any) {
	stack := debug.Stack()
	go func() { panic(fmt.Sprintf("in a round of a partition: %v\n%s", cause, stack)) }()
	select {}
}
