package braid

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/braid-go/braid/log"
	"github.com/braid-go/braid/partition"
)

// Publish stores records and returns when they are as safe as the broker's Durability says:
// by default, covered by an fsync. It fills in their Topic, Partition, Offset and Ack.
//
// Records with the same key go to the same partition and keep their order: within
// a call, and from one call to the next that begins after it returned. Records
// without a key go, all of one call together, to the partitions in turn. One call with
// many records is far cheaper than many calls.
//
// Publishing is not atomic over several records. With one record the error
// is that record's; with several it is a [*PublishError] that says which are not stored.
// Before anything is stored, records that cannot be published are refused with a
// [*RecordError] (ErrInvalidRecord, ErrRecordTooLarge), and then nothing of the call is stored.
//
// When a partition's queue is full, what happens is the topic's choice (TopicConfig.Backpressure): by default Publish waits, in the order of arrival; or the record is
// refused, an [*OverloadError], or earlier ones are dropped, whose publishers are told ErrDropped. A ctx whose deadline comes before the record could be
// stored, by what is queued and how fast the disk was of late, is an OverloadError at once. If ctx ends while
// a record is still queued, the error is ctx's and the record is certainly not stored; if its
// writing has begun, the error is ErrOutcomeUnknown. Other errors, all "certainly not
// stored" but the first: ErrOutcomeUnknown (the disk failed under the record),
// ErrPartitionFailed (it failed earlier), ErrNoSpace, ErrLimit (more records for one partition
// than Limits.MaxQueueDepth), ErrTopicNotFound (the topic was deleted), ErrClosed, ErrReadOnly.
//
// If ctx cannot end, as context.Background, and nobody else is publishing to the partition, the calling goroutine writes the records itself, which saves two hand-overs
// to another one: a microsecond and more a call.
//
// It is safe for concurrent use. The records and their memory belong to the caller
// again when Publish returns, whatever it returns.
func (t *Topic) Publish(ctx context.Context, recs ...*Record) error {
	if len(recs) == 0 {
		return nil
	}
	t.enrich(recs)
	c := newCall(t, recs)
	defer c.free()
	if err := c.prepare(); err != nil {
		t.failed.Add(int64(len(recs)))
		return err
	}
	began := time.Now()
	for i := range c.parts {
		c.parts[i].queue(ctx, len(c.parts) == 1)
	}
	failed := false
	for i := range c.parts {
		failed = c.parts[i].wait(ctx) != nil || failed
	}
	for _, p := range c.moved {
		failed = p.wait(ctx) != nil || failed
	}
	t.latency.note(began, time.Since(began))
	if failed {
		return c.err(len(recs))
	}
	return nil
}

// queue queues a part of a Publish. If it is alone, nothing else is to be queued before waiting.
func (p *callPart) queue(ctx context.Context, alone bool) {
	req := p.to.live.NewRequest(p, len(p.recs), p.bytes, nil)
	if alone {
		p.err = p.to.live.Submit(ctx, req)
	} else {
		p.err = p.to.live.Enqueue(ctx, req)
	}
	if p.err == nil {
		p.req = req
		return
	}
	req.Release()
	if !errors.Is(p.err, partition.ErrSealed) {
		return
	}
	var parts []*callPart
	if parts, p.err = p.divideAgain(ctx); p.err != nil {
		return
	}
	p.recs = nil
	for _, q := range parts {
		p.c.moved = append(p.c.moved, q)
		q.queue(ctx, len(parts) == 1)
	}
}

// wait waits until a part that has been queued is stored, or is not.
func (p *callPart) wait(ctx context.Context) error {
	if p.req != nil {
		if p.err = p.req.Wait(ctx); p.err == nil {
			at := p.storedAt(p.req)
			for i, rec := range p.recs {
				at.fill(rec, i)
			}
		}
		p.req.Release()
		p.req = nil
	}
	if p.err != nil {
		p.c.t.failed.Add(int64(len(p.recs)))
		p.err = p.c.t.publishError(p.to.id, p.err)
	}
	return p.err
}

// PublishAsync queues records and returns without waiting for the disk. For each of them done is called
// once, with the record and nil when it is as safe as the broker's Durability says
// and its Topic, Partition, Offset and Ack are filled in, or with the record and the
// error that Publish would have given. If PublishAsync itself returns an error, done is not called
// at all and nothing is stored.
//
// While a queue is full it waits, bounded by ctx; ctx has no say over a record once it is queued.
// The records and their memory belong to the broker until done has been called.
//
// Of one partition, calls of done come one at a time in the order of the offsets, on a goroutine of their
// own. They should be quick: those behind them wait. Inside one, Flush and Close fail
// with ErrBusy, and so does a PublishAsync or Publish that would have to wait for room in the queue. A nil done is allowed: errors are then lost.
func (t *Topic) PublishAsync(ctx context.Context, done func(*Record, error), recs ...*Record) error {
	if len(recs) == 0 {
		return nil
	}
	if done == nil {
		done = func(*Record, error) {}
	}
	t.enrich(recs)
	c := newCall(t, recs)
	if err := c.prepare(); err != nil {
		t.failed.Add(int64(len(recs)))
		c.free()
		return err
	}
	c.done = done
	c.left.Store(int32(len(c.parts)))
	for i := range c.parts {
		p := &c.parts[i]
		err := p.queueAsync(ctx)
		if err == nil {
			continue
		}
		if i == 0 {
			t.failed.Add(int64(len(recs)))
			c.free()
			return err
		}
		rest := make([]*callPart, 0, len(c.parts)-i)
		for ; i < len(c.parts); i++ {
			rest = append(rest, &c.parts[i])
		}
		c.refuse(rest, err)
		break
	}
	return nil
}

// queueAsync queues a part of a PublishAsync. After an error nothing of it is, and done will not be called for it.
func (p *callPart) queueAsync(ctx context.Context) error {
	req := p.to.live.NewRequest(p, len(p.recs), p.bytes, complete)
	err := p.to.live.Enqueue(ctx, req)
	if err == nil {
		return nil
	}
	req.Release()
	if !errors.Is(err, partition.ErrSealed) {
		return p.c.t.publishError(p.to.id, err)
	}
	parts, err := p.divideAgain(ctx)
	if err != nil {
		return p.c.t.publishError(p.to.id, err)
	}
	more := int32(len(parts) - 1) // they take the place of p
	p.c.left.Add(more)
	for i, q := range parts {
		err := q.queueAsync(ctx)
		switch {
		case err == nil:
		case i == 0:
			p.c.left.Add(-more)
			return err
		default:
			p.c.refuse(parts[i:], err)
			return nil
		}
	}
	return nil
}

// refuse calls done for the records of parts that could not be queued although earlier ones of the same call were.
func (c *call) refuse(parts []*callPart, err error) {
	c.t.b.spawn(func() {
		for _, p := range parts {
			p.tell(err)
		}
	})
}

// complete resolves a part of a PublishAsync; the partition calls it on its callback goroutine.
func complete(req *partition.Request) {
	p := req.Source().(*callPart)
	if err := req.Err(); err != nil {
		req.Release()
		p.tell(p.c.t.publishError(p.to.id, err))
		return
	}
	at := p.storedAt(req)
	req.Release()
	for i, rec := range p.recs { // one after the other, so that each is in the cache when its callback looks at it
		at.fill(rec, i)
		p.c.done(rec, nil)
	}
	p.told()
}

// tell calls done with an error for each record of the part.
func (p *callPart) tell(err error) {
	c := p.c
	c.t.failed.Add(int64(len(p.recs)))
	for _, rec := range p.recs {
		c.done(rec, err)
	}
	p.told()
}

// told frees the call after its last part.
func (p *callPart) told() {
	if p.c.left.Add(-1) == 0 {
		p.c.free()
	}
}

// Flush waits until everything accepted before it, by Publish and PublishAsync of any goroutine, is
// resolved, its callbacks have returned, and, whatever the Durability, it has been synced. The error is
// the first of a partition's; ctx bounds the waiting. Inside a callback it is ErrBusy.
func (t *Topic) Flush(ctx context.Context) error {
	if err := t.b.check(); err != nil {
		return err
	}
	if t.b.sched.InCallback() {
		return fmt.Errorf("%w: Flush inside a callback", ErrBusy)
	}
	parts := t.table.Load().all
	return inParallel(len(parts), func(i int) error {
		if err := parts[i].live.Flush(ctx); err != nil {
			return t.publishError(parts[i].id, err)
		}
		return nil
	})
}

// publishError gives an error of publishing its meaning for the caller.
func (t *Topic) publishError(id PartitionID, err error) error {
	if t.deleted.Load() && errors.Is(err, partition.ErrClosed) {
		return fmt.Errorf("%w: %s was deleted", ErrTopicNotFound, t.name)
	}
	return publishError(t.name, id, err)
}

// call is one Publish or PublishAsync under way. Calls are pooled, so that publishing allocates
// nothing in steady state.
type call struct {
	t      *Topic
	recs   []*Record // the caller's, grouped by partition after prepare
	order  []int32   // recs[i] was the caller's record order[i]
	route  []int32   // for the caller's record i, the index of its partition among the active ones
	shares []share   // for each active partition, what it gets
	parts  []callPart
	moved  []*callPart // of Publish: what takes the place of parts whose partition was sealed

	done func(*Record, error) // PublishAsync
	left atomic.Int32         // parts that have not been completed
}

// share is what an active partition gets of a call.
type share struct {
	records int32
	next    int32 // where the next of them goes in call.recs
	bytes   int64
}

// callPart is the part of a call that goes to one partition. It is the partition's
// source of records.
type callPart struct {
	c     *call
	to    *topicPartition
	recs  []*Record
	first int   // index of recs[0] in call.recs
	at    []int // or, of a part that takes another's place, the indices of all
	bytes int64
	req   *partition.Request
	err   error
	sum   int // of prefetch
}

var calls = sync.Pool{New: func() any { return new(call) }}

func newCall(t *Topic, recs []*Record) *call {
	c := calls.Get().(*call)
	c.t = t
	c.recs = append(c.recs[:0], recs...)
	return c
}

// free gives the call back to the pool, without pointers to the caller's memory.
func (c *call) free() {
	clear(c.recs)
	clear(c.parts)
	c.t, c.done, c.moved = nil, nil, nil
	c.recs, c.parts = c.recs[:0], c.parts[:0]
	calls.Put(c)
}

// prepare refuses what cannot be published and divides the rest among the partitions.
func (c *call) prepare() error {
	if err := c.t.b.check(); err != nil {
		return fmt.Errorf("publish to %s: %w", c.t.name, err)
	}
	if c.t.deleted.Load() {
		return fmt.Errorf("%w: %s was deleted", ErrTopicNotFound, c.t.name)
	}
	limit := c.t.b.Limits().MaxRecordBytes
	tab := c.t.table.Load()
	if len(tab.active) > 1 && len(c.recs) > 1 {
		return c.divide(tab, limit)
	}
	var bytes int64
	for i, rec := range c.recs {
		n, err := checkRecord(rec, limit)
		if err != nil {
			err.Index = i
			return err
		}
		bytes += int64(n)
	}
	c.order = c.order[:0]
	c.addPart(tab.active[c.routeOne(tab, c.recs[0])], 0, len(c.recs), bytes)
	return nil
}

// checkRecord returns the size of a record in the queue, or why it is refused.
func checkRecord(rec *Record, limit int) (int, *RecordError) {
	invalid := func(field, reason string) (int, *RecordError) {
		return 0, &RecordError{Field: field, Reason: reason, Err: ErrInvalidRecord}
	}
	switch {
	case rec == nil:
		return invalid("", "nil")
	case rec.Key != nil && len(rec.Key) == 0:
		return invalid("Key", "empty; use nil for a record without a key")
	case rec.Value == nil:
		return invalid("Value", "nil; use an empty slice for a record without content")
	case !rec.Time.IsZero() && !storable(rec.Time):
		return invalid("Time", fmt.Sprintf("%v cannot be stored in nanoseconds", rec.Time))
	}
	size := len(rec.Key) + len(rec.Value)
	for i := range rec.Headers {
		size += len(rec.Headers[i].Key) + len(rec.Headers[i].Value) + headerCost
	}
	if size > limit {
		return 0, &RecordError{Reason: fmt.Sprintf("%d bytes of key, value and headers, more than the limit of %d", size, limit), Err: ErrRecordTooLarge}
	}
	return size + recordCost, nil
}

const (
	// headerCost is counted for each header beside its name and value, so that
	// very many empty ones are not free.
	headerCost = 2
	// recordCost is counted for each record in a queue, so that empty ones are not free.
	recordCost = 16
)

// storable reports whether a time fits into 64 bits of nanoseconds since 1970.
func storable(t time.Time) bool {
	sec := t.Unix()
	return sec > math.MinInt64/int64(time.Second) && sec < math.MaxInt64/int64(time.Second)
}

// routeOne says which active partition a record goes to.
func (c *call) routeOne(tab *table, rec *Record) int {
	if len(tab.active) == 1 {
		return 0
	}
	if rec.Key == nil {
		return int(c.t.turn.Add(1) % uint32(len(tab.active)))
	}
	return tab.layout.Route(partition.Hash(rec.Key))
}

// divide checks the records and groups them by partition, keeping their order within each: a counting sort. It looks at each record once, since they may be many more than a
// processor's cache holds.
func (c *call) divide(tab *table, limit int) error {
	keyless := int32(c.t.turn.Add(1) % uint32(len(tab.active)))
	c.route = slices.Grow(c.route[:0], len(c.recs))[:len(c.recs)]
	c.shares = slices.Grow(c.shares[:0], len(tab.active))[:len(tab.active)]
	clear(c.shares)
	for i, rec := range c.recs {
		n, err := checkRecord(rec, limit)
		if err != nil {
			err.Index = i
			return err
		}
		to := keyless
		if rec.Key != nil {
			to = int32(tab.layout.Route(partition.Hash(rec.Key)))
		}
		c.route[i] = to
		c.shares[to].records++
		c.shares[to].bytes += int64(n)
	}
	c.regroup(tab)
	return nil
}

// regroup brings recs into the order of their partitions and makes the parts.
func (c *call) regroup(tab *table) {
	n := len(c.recs)
	c.recs = append(c.recs, c.recs...) // the second half is the caller's order
	c.order = slices.Grow(c.order[:0], n)[:n]
	begin := int32(0)
	for to := range c.shares {
		s := &c.shares[to]
		if s.records > 0 {
			c.addPart(tab.active[to], int(begin), int(begin+s.records), s.bytes)
		}
		s.next = begin
		begin += s.records
	}
	for i, to := range c.route {
		at := &c.shares[to].next
		c.recs[*at], c.order[*at] = c.recs[n+i], int32(i)
		*at++
	}
	clear(c.recs[n:])
	c.recs = c.recs[:n]
}

// addPart adds the part recs[begin:end].
func (c *call) addPart(to *topicPartition, begin, end int, bytes int64) {
	c.parts = append(c.parts, callPart{c: c, to: to, recs: c.recs[begin:end], first: begin, bytes: bytes})
}

// AppendTo encodes the i-th record; the partition's appender calls it.
func (p *callPart) AppendTo(b *log.Builder, i int, now int64) error {
	if i%prefetched == 0 && len(p.recs) >= prefetched {
		p.sum += prefetch(p.recs[i:min(i+prefetched, len(p.recs))])
	}
	return appendRecord(b, p.recs[i], now)
}

// prefetched is how many records are prefetched together. Some ten cache lines can be on their way to a processor at a time.
const prefetched = 16

// prefetch reads a little of each of recs. Where many records are on their way to many partitions none is in a processor's cache any more when it is encoded; so they come
// there side by side, instead of each when its turn has come. The sum is there so that the compiler does not leave the reading out.
func prefetch(recs []*Record) (sum int) {
	for _, rec := range recs {
		sum += len(rec.Key) + rec.Time.Nanosecond() + int(rec.Ack) // in each of its cache lines
	}
	for _, rec := range recs {
		if len(rec.Key) > 0 {
			sum += int(rec.Key[0])
		}
		if n := len(rec.Value); n > 0 {
			sum += int(rec.Value[n-1])
		}
	}
	return sum
}

// EncodeAhead encodes the records, unless one has a time of its own; the publisher calls it.
func (p *callPart) EncodeAhead(a *log.Ahead) (bool, error) {
	for _, rec := range p.recs {
		if !rec.Time.IsZero() {
			return false, nil
		}
		if err := a.Append(rec.Key, rec.Value, rec.Headers); err != nil {
			return false, err
		}
	}
	return true, nil
}

// KeyHash tells the hash of the i-th record's key, for measuring the load.
func (p *callPart) KeyHash(i int) (uint64, bool) { return keyHash(p.recs[i]) }

func keyHash(rec *Record) (uint64, bool) {
	if rec.Key == nil {
		return 0, false
	}
	return partition.Hash(rec.Key), true
}

// appendRecord encodes a record that is appended now.
func appendRecord(b *log.Builder, rec *Record, now int64) error {
	if !rec.Time.IsZero() {
		now = rec.Time.UnixNano()
	}
	return b.Append(now, rec.Key, rec.Value, rec.Headers)
}

// storedAt is where the records of a part are stored, and how safely.
type storedAt struct {
	topic     string
	partition PartitionID
	base      int64
	ack       Ack
}

// storedAt returns where a request of the part is stored.
func (p *callPart) storedAt(req *partition.Request) storedAt {
	at := storedAt{p.c.t.name, p.to.id, req.Base(), p.c.t.b.ack()}
	if req.Reduced() {
		at.ack = AckWritten
		p.c.t.reduced.Add(int64(len(p.recs)))
	}
	return at
}

// fill tells the i-th record where it is stored.
func (at *storedAt) fill(rec *Record, i int) {
	rec.Topic, rec.Partition, rec.Offset, rec.Ack = at.topic, at.partition, at.base+int64(i), at.ack
}

// ack is what a stored record's publish has waited for.
func (b *Broker) ack() Ack {
	switch {
	case b.opts.InMemory:
		return AckMemory
	case b.opts.Durability == Fsync:
		return AckDurable
	}
	return AckWritten
}

// divideAgain waits for the layout that takes the place of the one in which the part's partition has been sealed, and divides the part by it.
func (p *callPart) divideAgain(ctx context.Context) ([]*callPart, error) {
	t := p.c.t
	var tab *table
	for tab == nil {
		now := t.table.Load()
		if !slices.Contains(now.active, p.to) {
			tab = now
			break
		}
		if t.moving.Load() == nil && t.table.Load() == now { // it was taken back
			if err := t.stuckErr(); err != nil {
				return nil, err
			}
			tab = now
			break
		}
		if err := t.settledLayout(ctx); err != nil {
			return nil, err
		}
	}
	keyless := int(t.turn.Add(1) % uint32(len(tab.active)))
	var parts []*callPart
	index := map[int]*callPart{}
	for i, rec := range p.recs {
		to := keyless
		if rec.Key != nil {
			to = tab.layout.Route(partition.Hash(rec.Key))
		}
		q := index[to]
		if q == nil {
			q = &callPart{c: p.c, to: tab.active[to]}
			index[to] = q
			parts = append(parts, q)
		}
		size, _ := checkRecord(rec, math.MaxInt)
		q.bytes += int64(size)
		q.recs, q.at = append(q.recs, rec), append(q.at, p.place(i))
	}
	return parts, nil
}

// place returns the index in call.recs of the part's i-th record.
func (p *callPart) place(i int) int {
	if p.at != nil {
		return p.at[i]
	}
	return p.first + i
}

// err makes the error of a Publish of n records of which some are not stored.
func (c *call) err(n int) error {
	e := &PublishError{Errs: make([]error, n)}
	note := func(p *callPart) {
		for j := range p.recs {
			at := p.place(j)
			if len(c.order) > 0 {
				at = int(c.order[at])
			}
			e.Errs[at] = p.err
		}
	}
	for i := range c.parts {
		note(&c.parts[i])
	}
	for _, p := range c.moved {
		note(p)
	}
	if n == 1 {
		return e.Errs[0]
	}
	return e
}
