package partition

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/braid-go/braid/log"
)

var (
	// ErrClosed: the partition was closed; the request is certainly not stored.
	ErrClosed = errors.New("partition: closed")
	// ErrFailed: an earlier write or sync of the partition failed; the request is certainly not stored.
	ErrFailed = errors.New("partition: failed")
	// ErrOutcomeUnknown: the request may be stored and it may not.
	ErrOutcomeUnknown = errors.New("partition: outcome unknown")
	// ErrDropped: the request was queued, and dropped to make room for a later one; it is certainly not stored.
	ErrDropped = errors.New("partition: dropped from the queue")
	// ErrTooLarge: the request has more records than the queue can ever hold.
	ErrTooLarge = errors.New("partition: request is too large for the queue")
	// ErrWouldBlock: a callback enqueued a request and would have had to wait.
	ErrWouldBlock = errors.New("partition: a callback must not wait")
)

// Source gives the records of a request.
type Source interface {
	// AppendTo appends the i-th record to b; now is the time of appending, in nanoseconds since 1970.
	// It is called by the appender while the request is encoding, possibly more than once.
	AppendTo(b *log.Builder, i int, now int64) error
}

// AheadSource is a source whose records may be encoded by the publisher before they are queued: see encodeAhead.
type AheadSource interface {
	Source
	// EncodeAhead appends all records to a, and returns nil; or it does not, because they can only be encoded when the append time is known. Then, and after an error,
	// AppendTo is asked.
	EncodeAhead(a *log.Ahead) (ok bool, err error)
}

// The states of a request.
const (
	stateQueued uint32 = iota
	stateWithdrawn
	stateEncoding
	stateEncoded
	stateDone
)

// Request is the part of a publish that goes to one partition. Requests are pooled: NewRequest takes one, Release gives it back.
type Request struct {
	pool    *requestPool
	src     Source
	records int
	bytes   int64
	done    func(*Request)
	ahead   *log.Ahead // the records encoded, or nil

	state    atomic.Uint32
	refs     atomic.Int32  // the publisher's, and the appender's while it has the request
	resolved chan struct{} // receives once when the request is done and nobody is called back
	part     *Partition

	base, time int64
	reduced    bool // stored, and not synced yet
	err        error
}

// requestPool keeps requests. Each scheduler has one, and not the package: a request has a channel, and one made in a
// testing/synctest bubble must not be used outside it.
type requestPool struct{ sync.Pool }

func (p *requestPool) get() *Request {
	if r, ok := p.Get().(*Request); ok {
		return r
	}
	return &Request{pool: p, resolved: make(chan struct{}, 1)}
}

// NewRequest returns a request for the records of src: how many, and about how many bytes. With
// done nil its publisher calls Wait; otherwise done is called on the partition's callback goroutine, in
// the order of the offsets. Whoever calls Wait, or done, calls Release after it; so does
// a publisher whose Enqueue has failed.
func (p *Partition) NewRequest(src Source, records int, bytes int64, done func(*Request)) *Request {
	r := p.cfg.Scheduler.requests.get()
	r.part = p
	r.src, r.records, r.bytes, r.done = src, records, bytes, done
	r.state.Store(stateQueued)
	r.refs.Store(1)
	r.base, r.time, r.reduced, r.err = 0, 0, false, nil
	return r
}

// Release gives the request back. It must not be used after it.
func (r *Request) Release() {
	if r.refs.Add(-1) > 0 {
		return
	}
	select {
	case <-r.resolved: // nobody waited for it
	default:
	}
	r.dropAhead()
	r.src, r.done, r.part = nil, nil, nil
	r.pool.Put(r)
}

// Source returns what NewRequest was given.
func (r *Request) Source() Source { return r.src }

// Base returns the offset of the request's first record; the others follow. It is valid when the request is stored.
func (r *Request) Base() int64 { return r.base }

// Time returns the append time in nanoseconds since 1970. It is valid when the request is stored.
func (r *Request) Time() int64 { return r.time }

// Reduced reports whether a request that is stored has not been synced yet, although the mode says so: see Config.Pressure.
func (r *Request) Reduced() bool { return r.reduced }

// Err returns how a request with a callback ended, nil if it is stored.
func (r *Request) Err() error { return r.err }

// Wait waits until the request is done and returns nil if it is stored. If ctx ends before its encoding
// has begun, the request is withdrawn: the error is ctx's, and it is certainly not stored. If ctx ends later
// the error is ErrOutcomeUnknown. After Wait has returned the source is not touched again.
func (r *Request) Wait(ctx context.Context) error {
	if ctx.Done() == nil {
		<-r.resolved
		return r.err
	}
	select {
	case <-r.resolved:
		return r.err
	case <-ctx.Done():
	}
	if r.state.CompareAndSwap(stateQueued, stateWithdrawn) {
		r.part.refused(r.records)
		return fmt.Errorf("withdrawn from the queue: %w", ctx.Err())
	}
	for r.state.Load() == stateEncoding { // memory only, and somebody is at it
		runtime.Gosched()
	}
	if r.state.Load() == stateDone { // the outcome is known, and the token on its way
		<-r.resolved
		return r.err
	}
	return fmt.Errorf("%w: %w", ErrOutcomeUnknown, ctx.Err())
}
