package partition

import (
	"sync"

	"github.com/braid-go/braid/log"
)

// A request with much in it is encoded by its publisher, before it is queued: the records are in the cache of the processor that the publisher runs on, several
// publishers encode side by side, and the appender, which all of them share, only has to copy. A small one costs less if it is left to the appender, and so does one for which the
// appender's goroutine has nothing else to do than to wait.
const (
	aheadFrom = 8 << 10
	aheadTo   = 1 << 20
	// mostAhead bounds what all requests of a broker keep encoded: it is beside what the queues' limits bound.
	mostAhead = 8 << 20
)

var aheads = sync.Pool{New: func() any { return new(log.Ahead) }}

// encodeAhead encodes a request that is about to be queued, if that is worth it, and not if its publisher would wait for room in the queue with it. What is wrong with its records
// is for the appender to find.
func (r *Request) encodeAhead(ln *lane) {
	if r.ahead != nil || r.bytes < aheadFrom || r.bytes > aheadTo || ln.queue.Parked() {
		return
	}
	src, ok := r.src.(AheadSource)
	if !ok {
		return
	}
	if limits, depth := ln.queue.Limits(), ln.queue.Depth(); depth.Records+r.records > limits.MaxRecords || depth.Bytes+r.bytes > limits.MaxBytes {
		return
	}
	if r.part.cfg.Scheduler.ahead.Add(r.bytes) > mostAhead {
		r.part.cfg.Scheduler.ahead.Add(-r.bytes)
		return
	}
	r.ahead = aheads.Get().(*log.Ahead)
	r.ahead.Reset()
	r.ahead.Grow(int(r.bytes))
	if ok, err := src.EncodeAhead(r.ahead); !ok || err != nil {
		r.dropAhead()
	}
}

// dropAhead gives the memory of what was encoded ahead back.
func (r *Request) dropAhead() {
	if r.ahead == nil {
		return
	}
	if r.ahead.Cap() <= 2*aheadTo {
		aheads.Put(r.ahead)
	}
	r.ahead = nil
	r.part.cfg.Scheduler.ahead.Add(-r.bytes)
}

// pieces is the number of times that appendTo is to be called for the request.
func (r *Request) pieces() int {
	if r.ahead != nil {
		return r.ahead.Parts()
	}
	return r.records
}

// appendTo adds the j-th piece to the open frame.
func (r *Request) appendTo(b *log.Builder, j int, now int64) error {
	if r.ahead != nil {
		return b.AppendAhead(r.ahead, j)
	}
	return r.src.AppendTo(b, j, now)
}
