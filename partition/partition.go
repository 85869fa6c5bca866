package partition

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/braid-go/braid/backpressure"
	"github.com/braid-go/braid/internal/vfs"
	"github.com/braid-go/braid/log"
)

// Config says where a partition is and how it works.
type Config struct {
	FS           vfs.FS
	Dir          string
	Mode         log.Mode // as the scheduler's
	SegmentBytes int64    // see log.Config
	// Codec says how the next frame is compressed. Default: not.
	Codec func() log.Codec
	// Pressure is what the queue does under pressure; SetPressure changes it. Where it degrades the quality, rounds wait up to 2 ms for more from Warning on. With
	// ReduceAck, in log.ModeFsync and while the queue is Shedding, requests are stored when they are written, and synced, which makes them visible, within 50 ms or by the next round.
	Pressure backpressure.Policy
	// OnPressure is told how full the queue is when that changes, in order. It must be fast, and must not call the partition. It may be nil.
	OnPressure func(from, to backpressure.State, depth backpressure.Weight)
	// OnDropped is told how many records have been dropped. It must be fast, and must not call the partition. It may be nil.
	OnDropped func(records int)
	// Backlog is the first SetBacklog's; 0: none.
	Backlog int64
	// OnHeld is told when the appender begins to hold back, and when it ends to. It must not call the partition. It may be nil.
	OnHeld func(bool)
	// Budget bounds what this partition's queue and others hold together. It may be nil.
	Budget    *backpressure.Budget
	Scheduler *Scheduler
	// MarkAfter is how long a partition is idle before the log's manifest is told how far it is durable. Default 1 s.
	MarkAfter time.Duration
	// ReleaseAfter is how much longer it is idle before queue, buffers, file and goroutine are let go. Default 30 s.
	ReleaseAfter time.Duration
	// Windows are what Load averages over. Default: the package's.
	Windows Windows
	// Now tells the time of appending. Default time.Now.
	Now func() time.Time
}

func (c Config) withDefaults() Config {
	if c.Codec == nil {
		c.Codec = func() log.Codec { return log.CodecNone }
	}
	if c.MarkAfter == 0 {
		c.MarkAfter = time.Second
	}
	if c.ReleaseAfter == 0 {
		c.ReleaseAfter = 30 * time.Second
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

func (c *Config) log() log.Config {
	return log.Config{FS: c.FS, Dir: c.Dir, Mode: c.Mode, SegmentBytes: c.SegmentBytes, Now: c.Now,
		ProvenSequence: c.Scheduler.provenSequence}
}

// Partition is a live partition. It is safe for concurrent use.
type Partition struct {
	cfg   Config
	log   *log.Log
	lane  atomic.Pointer[lane] // nil while idle
	dirty atomic.Bool          // the scheduler has it on its list

	// ordering is held by who decides what comes next in the log: to give frames their offsets, or, without the
	// commit log, until they are durable. writing is held by who writes to the log; ordering comes first.
	ordering, writing sync.Mutex
	sealed, shut      bool         // nothing more is sent, for now or because it is closed; guarded by ordering
	settled           bool         // sealed, and all of it is in the segments; guarded by ordering
	pending           pending      // assigned and not yet written
	txns              atomic.Int32 // transactions that are under way here
	touched           atomic.Bool  // written to by somebody else than the appender

	mu     sync.Mutex // guards making and letting go of lanes
	last   *lane      // the lane made last: the next one's appender waits for its end
	closed bool
	moving bool // sealed, or about to be
	policy backpressure.Policy
	reduce atomic.Bool // as policy says

	backlog atomic.Int64  // see SetBacklog
	floor   atomic.Int64  // see SetFloor
	nudged  chan struct{} // the appender that holds back is to look again

	callbacks callbacks
	load      *Load

	accepted, stored, dropped, unknown, rejected atomic.Int64
	rounds, syncs                                atomic.Int64
}

// lane is a partition at work: the queue and the appender that drains it.
type lane struct {
	queue    *backpressure.Queue[*Request]
	previous *lane          // whose appender ends first
	done     chan struct{}  // closed when the appender has ended
	resting  chan *appender // has it while its goroutine rests; whoever takes it out is the appender
	crowded  atomic.Int32   // so many of the next large requests are not their publishers' to store
	hasty    atomic.Bool    // closing: refuse what is still queued
}

// Create makes a new partition, durably. Its directory must not exist.
func Create(cfg Config, birth log.Birth, first int64) (*Partition, error) {
	p, logConfig := prepared(cfg)
	l, err := log.Create(logConfig, birth, first)
	if err != nil {
		return nil, err
	}
	return p.with(l), nil
}

// Open opens a partition; see log.Open.
func Open(cfg Config, want *log.Birth, proof log.Proof) (*Partition, *log.Report, error) {
	p, logConfig := prepared(cfg)
	l, report, err := log.Open(logConfig, want, proof)
	if err != nil {
		return nil, nil, err
	}
	return p.with(l), report, nil
}

// prepared returns a partition that has no log yet, and the log's configuration, which refers to it.
func prepared(cfg Config) (*Partition, log.Config) {
	p := &Partition{cfg: cfg.withDefaults(), policy: cfg.Pressure, nudged: make(chan struct{}, 1)}
	p.backlog.Store(cfg.Backlog)
	p.reduce.Store(reduces(cfg.Pressure))
	c := p.cfg.log()
	c.CatchUp = p.apply
	return p, c
}

func (p *Partition) with(l *log.Log) *Partition {
	p.log = l
	p.callbacks.limit = maxCallbacks
	p.load = NewLoad(p.cfg.Now())
	if p.cfg.Windows != (Windows{}) {
		p.load.SetWindows(p.cfg.Windows)
	}
	return p
}

// ID returns the partition's id.
func (p *Partition) ID() ID { return ID(p.log.Birth().PartitionID) }

// Log returns the partition's log, for reading.
func (p *Partition) Log() *log.Log { return p.log }

// Load tells what has been stored lately, and how it is spread over the keys, as far as the sources of requests tell: those that implement Keys.
func (p *Partition) Load() LoadSnapshot { return p.load.Snapshot(p.cfg.Now()) }

// SetWindows changes what Load averages over.
func (p *Partition) SetWindows(w Windows) { p.load.SetWindows(w) }

// Stats counts records since the partition was opened. Rejected ones were never accepted, or withdrawn again. Each of the
// others is one of Stored, Dropped, Unknown and, as long as it has no outcome, Pending. These are of one moment.
type Stats struct {
	Accepted, Stored, Dropped, Unknown, Rejected int64
	QueuedRecords                                int
	QueuedBytes                                  int64
	Rounds, Syncs                                int64 // group commits, and how many of them synced the partition's own segment
}

// Pending is what is accepted and has no outcome yet.
func (s Stats) Pending() int64 { return s.Accepted - s.Stored - s.Dropped - s.Unknown }

// Stats returns the counters.
func (p *Partition) Stats() Stats {
	s := Stats{Rejected: p.rejected.Load(), Rounds: p.rounds.Load(), Syncs: p.syncs.Load()}
	s.Stored, s.Dropped, s.Unknown = p.outcomes()
	for {
		s.Accepted = p.accepted.Load()
		stored, dropped, unknown := p.outcomes()
		if stored == s.Stored && dropped == s.Dropped && unknown == s.Unknown {
			break // they only grow, so all were so when accepted was read
		}
		s.Stored, s.Dropped, s.Unknown = stored, dropped, unknown
	}
	if ln := p.lane.Load(); ln != nil {
		d := ln.queue.Depth()
		s.QueuedRecords, s.QueuedBytes = d.Records, d.Bytes
	}
	return s
}

func (p *Partition) outcomes() (stored, dropped, unknown int64) {
	return p.stored.Load(), p.dropped.Load(), p.unknown.Load()
}

// refused counts records that had been accepted and are certainly not stored.
func (p *Partition) refused(records int) {
	p.accepted.Add(-int64(records))
	p.rejected.Add(int64(records))
}

// Enqueue queues a request that was made by this partition's NewRequest, waiting while the queue is full, in order of arrival. After an error it is certainly not stored:
// ctx's, ErrClosed, ErrSealed, ErrFailed, ErrTooLarge, a [*backpressure.OverloadError], or, inside a callback, ErrWouldBlock. Later, under
// DropOldest, it may end with ErrDropped.
func (p *Partition) Enqueue(ctx context.Context, r *Request) error {
	if r.done != nil {
		if err := p.callbacks.reserve(ctx, p.cfg.Scheduler); err != nil {
			return err
		}
	}
	err := p.enqueue(ctx, r)
	if err != nil {
		p.refused(r.records)
		if r.done != nil {
			p.callbacks.unreserve()
		}
	}
	return err
}

func (p *Partition) enqueue(ctx context.Context, r *Request) error {
	p.accepted.Add(int64(r.records))
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := p.log.Err(); err != nil {
			return fmt.Errorf("%w: %w", ErrFailed, err)
		}
		ln := p.lane.Load()
		if ln == nil {
			var err error
			if ln, err = p.startLane(); err != nil {
				return err
			}
		}
		r.encodeAhead(ln)
		r.refs.Add(1) // the appender's
		err := p.offer(ctx, ln, r)
		if err == nil {
			return nil
		}
		r.refs.Add(-1)
		switch {
		case errors.Is(err, backpressure.ErrTooLarge):
			return fmt.Errorf("%w: %d records", ErrTooLarge, r.records)
		case !errors.Is(err, backpressure.ErrClosed):
			return err
		}
		// The lane was let go, or the partition closed: startLane tells.
		p.lane.CompareAndSwap(ln, nil)
	}
}

// offer puts a request into a queue; inside a callback it does not wait. One without records is a barrier: nothing
// makes room for it, and nothing refuses it.
func (p *Partition) offer(ctx context.Context, ln *lane, r *Request) error {
	if r.records > 0 {
		if err := ln.queue.Admit(ctx); err != nil {
			return err
		}
	}
	err := ln.queue.TryPut(r)
	if !errors.Is(err, backpressure.ErrFull) {
		return err
	}
	if p.cfg.Scheduler.InCallback() {
		return ErrWouldBlock
	}
	if r.records == 0 {
		return ln.queue.Wait(ctx, r)
	}
	return ln.queue.Put(ctx, r)
}

// SetPressure changes what the queue does under pressure, also while others publish. After a [*backpressure.OptionError] nothing has changed.
func (p *Partition) SetPressure(policy backpressure.Policy) error {
	if _, err := policy.Resolve(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.policy = policy
	p.reduce.Store(reduces(policy))
	if ln := p.lane.Load(); ln != nil {
		return ln.queue.SetPolicy(policy, p.owner())
	}
	return nil
}

// reduces reports whether rounds may be stored before they are synced.
func reduces(policy backpressure.Policy) bool {
	return policy.ReduceAck && (policy.Strategy == backpressure.DegradeQuality || policy.Strategy == backpressure.Adaptive)
}

// Pressure tells how full the queue is.
func (p *Partition) Pressure() (state backpressure.State, depth backpressure.Weight) {
	if ln := p.lane.Load(); ln != nil {
		return ln.queue.State(), ln.queue.Depth()
	}
	return state, depth
}

// Degrades reports whether the queue is in a state or a worse one, and its policy has what is done for each record be less then.
func (p *Partition) Degrades(from backpressure.State) bool {
	ln := p.lane.Load()
	return ln != nil && ln.queue.Degrades(from)
}

func (p *Partition) owner() backpressure.Owner[*Request] {
	return backpressure.Owner[*Request]{Dropped: p.drop, Changed: p.cfg.OnPressure}
}

// drop ends the life of a request that was queued and is dropped.
func (p *Partition) drop(r *Request) {
	if r.state.CompareAndSwap(stateQueued, stateEncoding) {
		if p.cfg.OnDropped != nil && r.records > 0 {
			p.cfg.OnDropped(r.records)
		}
		p.resolve(r, ErrDropped)
	} else {
		r.Release() // withdrawn
	}
}

// startLane returns the lane, making one if there is none.
func (p *Partition) startLane() (*lane, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch ln := p.lane.Load(); {
	case p.closed:
		return nil, ErrClosed
	case p.moving:
		return nil, ErrSealed
	case ln != nil:
		return ln, nil
	}
	q, err := backpressure.NewQueue(backpressure.Options{Budget: p.cfg.Budget}, func(r *Request) backpressure.Weight {
		return backpressure.Weight{Records: r.records, Bytes: r.bytes}
	})
	if err == nil {
		err = q.SetPolicy(p.policy, p.owner())
	}
	if err != nil {
		return nil, err
	}
	ln := &lane{queue: q, previous: p.last, done: make(chan struct{}), resting: make(chan *appender, 1)}
	p.last = ln
	p.lane.Store(ln)
	go p.append(ln)
	return ln, nil
}

// closeLane has a lane, if there is one, take nothing more.
func (p *Partition) closeLane(ln *lane) {
	if ln != nil {
		ln.queue.Close()
		p.nudge()
	}
}

// letGo closes an idle lane. What was claimed in its queue before is still to be drained.
func (p *Partition) letGo(ln *lane) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closeLane(ln)
	p.lane.CompareAndSwap(ln, nil)
}

// ended forgets a lane, and with it the memory of its queue, when its appender is done with the log.
func (p *Partition) ended(ln *lane) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last == ln {
		p.last = nil
	}
}

// Flush waits until every request accepted before it is done and its callback has returned, and syncs,
// whatever the mode. It must not be called by a callback, for which it would wait for ever.
func (p *Partition) Flush(ctx context.Context) error {
	if p.lane.Load() != nil || !p.callbacks.idle() {
		if err := p.barrier(ctx); errors.Is(err, ErrSealed) {
			p.mu.Lock()
			last := p.last
			p.mu.Unlock()
			if err := p.drained(ctx, last); err != nil {
				return err
			}
			p.callbacks.wait()
		} else if err != nil {
			return err
		}
	}
	if p.log.Err() == nil && p.log.DurableEnd() >= p.log.VisibleEnd() {
		return nil // perhaps by way of the journal
	}
	if err := p.log.Sync(); err != nil {
		return fmt.Errorf("%w: %w", ErrFailed, err)
	}
	return nil
}

// barrier sends an empty request through queue and callbacks and waits for it to come out.
func (p *Partition) barrier(ctx context.Context) error {
	for {
		passed := make(chan error, 1)
		r := p.NewRequest(nil, 0, 0, func(r *Request) {
			passed <- r.err
			r.Release()
		})
		if err := p.Enqueue(ctx, r); err != nil {
			r.Release()
			return err
		}
		select {
		case err := <-passed:
			if !errors.Is(err, ErrDropped) { // what came before may still be under way
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// hurry makes the appenders that are still at work refuse what is queued.
func (p *Partition) hurry(last *lane) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for ln := last; ln != nil; ln = ln.previous {
		ln.hasty.Store(true)
	}
}

// Close refuses new requests, stores what is queued, waits for callbacks, and closes the log
// cleanly. If ctx ends first, what is still queued is refused with ErrClosed instead of stored; what the disk
// is working on is waited for. No goroutine of its own and no descriptor is left. Closing again does nothing.
func (p *Partition) Close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	last := p.last
	p.lane.Store(nil)
	p.closeLane(last)
	p.mu.Unlock()
	if last != nil {
		select {
		case <-last.done:
		case <-ctx.Done():
			p.hurry(last)
			<-last.done
		}
	}
	p.callbacks.wait()
	p.ordering.Lock()
	p.shut = true
	p.ordering.Unlock()
	p.pending.wait() // for transactions
	p.writing.Lock()
	defer p.writing.Unlock()
	p.applyHeld()
	return p.log.Close()
}
