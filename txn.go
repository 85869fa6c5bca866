package braid

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/braid-go/braid/checkpoint"
	"github.com/braid-go/braid/log"
	"github.com/braid-go/braid/partition"
)

// Txn is a transaction: records for any topics, positions of groups, and changes of the application's own state, which
// Commit makes durable in one step. They happen wholly or not at all, across a killed process and a power cut, and
// nobody sees a part of them.
//
// Everything is kept in memory until Commit, bounded by Limits.MaxTxnBytes. A Txn belongs to one goroutine at a time, and
// ends with Commit or Rollback; nothing is held open on disk, so one that is simply dropped costs nothing.
type Txn struct {
	b       *Broker
	ended   bool
	bytes   int
	outputs []*Record            // copies
	topics  []*Topic             // of the outputs, in parallel
	state   map[string]*txnValue // nil until it is used
	keys    []string             // of state, in the order of their first use
	offsets []*txnOffsets
	parts   []*topicPartition // that have been written to
}

// txnValue is what a transaction knows of a key of the state.
type txnValue struct {
	value   []byte // nil: absent
	read    bool
	rev     checkpoint.Revision // when it was read
	written bool
}

// Begin begins a transaction. It does no I/O and cannot fail; a broker that is closed or read-only refuses the Commit.
func (b *Broker) Begin() *Txn { return &Txn{b: b} }

// Publish adds records to a topic. They are copied; Outputs returns the copies, which Commit gives their places. They are checked as
// Topic.Publish does, and all of one call refused if one of them is. Within a transaction, records of one partition keep their
// order, with nobody else's between them. The topic may be one that is being read.
//
// Errors: [RecordError], ErrLimit when the transaction becomes larger than Limits.MaxTxnBytes, ErrTxnEnded, and for a topic of another broker
// ErrTopicNotFound.
func (tx *Txn) Publish(t *Topic, recs ...*Record) error {
	if tx.ended {
		return ErrTxnEnded
	}
	if t.b != tx.b {
		return fmt.Errorf("%w: %s is another broker's", ErrTopicNotFound, t.name)
	}
	size := 0
	for i, rec := range recs {
		n, err := checkRecord(rec, tx.b.Limits().MaxRecordBytes)
		if err != nil {
			err.Index = i
			return err
		}
		size += n
	}
	if err := tx.grow(size); err != nil {
		return err
	}
	for _, rec := range recs {
		c := rec.Clone()
		c.origin, c.Topic, c.Partition, c.Offset, c.Ack = nil, t.name, 0, 0, AckNone
		tx.outputs = append(tx.outputs, c)
		tx.topics = append(tx.topics, t)
	}
	return nil
}

// Outputs returns the transaction's copies of the records published, in the order of the calls. After a Commit that returned nil they have
// Partition, Offset and Ack. They must not be changed before.
func (tx *Txn) Outputs() []*Record { return tx.outputs }

// grow counts n bytes more.
func (tx *Txn) grow(n int) error {
	if limit := tx.b.Limits().MaxTxnBytes; tx.bytes+n > limit {
		return fmt.Errorf("%w: a transaction of %d bytes, Limits.MaxTxnBytes is %d", ErrLimit, tx.bytes+n, limit)
	}
	tx.bytes += n
	return nil
}

// Get returns the value of a key of the application's state, and whether there is one: what this transaction has put, else what is committed. A key
// that was read counts: if somebody else changes it before Commit, Commit gives ErrConflict and nothing happens. Reading it
// again gives the same. The value belongs to the caller. It does no I/O.
func (tx *Txn) Get(key string) (value []byte, ok bool, err error) {
	if tx.ended {
		return nil, false, ErrTxnEnded
	}
	v := tx.state[key]
	if v == nil {
		if err := tx.b.check(); err != nil {
			return nil, false, err
		}
		stored, rev, err := tx.b.store.Get(context.Background(), stateKey(key))
		if err != nil {
			return nil, false, storeError(err)
		}
		if v, err = tx.use(key, 0); err != nil {
			return nil, false, err
		}
		v.value, v.read, v.rev = stored, true, rev
	}
	return bytes.Clone(v.value), v.value != nil, nil
}

// use returns what the transaction knows of a key, counting n bytes of a value.
func (tx *Txn) use(key string, n int) (*txnValue, error) {
	v := tx.state[key]
	if v != nil {
		return v, tx.grow(n)
	}
	if len(key) > maxStateKey {
		return nil, fmt.Errorf("%w: a key of %d bytes, at most %d", ErrLimit, len(key), maxStateKey)
	}
	if err := tx.grow(n + len(key) + stateCost); err != nil {
		return nil, err
	}
	if tx.state == nil {
		tx.state = map[string]*txnValue{}
	}
	v = &txnValue{}
	tx.state[key] = v
	tx.keys = append(tx.keys, key)
	return v, nil
}

const (
	maxStateKey = checkpoint.MaxKeyBytes - 1
	// stateCost is counted for each key beside its bytes.
	stateCost = 64
)

// Put sets a key of the application's state. The value is copied; nil is an empty one. Errors: ErrLimit, ErrTxnEnded.
func (tx *Txn) Put(key string, value []byte) error {
	if len(value) > checkpoint.MaxValueBytes {
		return fmt.Errorf("%w: a value of %d bytes, at most %d", ErrLimit, len(value), checkpoint.MaxValueBytes)
	}
	return tx.write(key, append([]byte{}, value...))
}

// Delete removes a key of the application's state, if it is there. Errors: ErrLimit, ErrTxnEnded.
func (tx *Txn) Delete(key string) error { return tx.write(key, nil) }

func (tx *Txn) write(key string, value []byte) error {
	if tx.ended {
		return ErrTxnEnded
	}
	v, err := tx.use(key, len(value))
	if err != nil {
		return err
	}
	v.value, v.written = value, true
	return nil
}

// Rollback ends the transaction without a trace. After Commit it does nothing.
func (tx *Txn) Rollback() { tx.ended = true }

// Commit makes everything durable in one step, or does nothing. It returns nil when all of it is durable and visible. The transaction is ended, whatever Commit
// returns.
//
// Certainly nothing has happened after ErrConflict (a key that was read has been changed), [FencedError] (a partition whose
// position was to be committed belongs to another member now), ErrNoSpace, ErrPartitionFailed, ErrLimit, ErrTopicNotFound, ErrClosed, ErrReadOnly, ErrStoreFailed,
// ErrTxnEnded, and ctx's error. ctx counts until the transaction is on its way to the disk. ErrOutcomeUnknown means that the disk failed under it: the
// broker then takes no more commits, and reopening finds out.
func (tx *Txn) Commit(ctx context.Context) error {
	if tx.ended {
		return ErrTxnEnded
	}
	tx.ended = true
	if err := tx.b.check(); err != nil {
		return fmt.Errorf("commit transaction: %w", err)
	}
	for {
		err := tx.commit(ctx)
		if again := errors.Is(err, errMoved); !again {
			return err
		}
		for _, t := range tx.topics {
			if err := t.settledLayout(ctx); err != nil {
				return fmt.Errorf("commit transaction: %w", err)
			}
		}
	}
}

// errMoved: a topic's layout has changed while a transaction was being committed.
var errMoved = errors.New("braid: layout has changed")

// commit tries once.
func (tx *Txn) commit(ctx context.Context) error {
	batch := batches.Get().(*checkpoint.Batch)
	defer func() {
		if tx.bytes <= keptBatch {
			batch.Reset()
			batches.Put(batch)
		}
	}()
	outs, err := tx.stage(batch)
	if err != nil {
		return err
	}
	release, err := tx.stageOffsets(batch)
	if err != nil {
		return err
	}
	var rev checkpoint.Revision
	if len(outs) > 0 {
		rev, err = tx.b.sched.Transact(ctx, batch, outs)
	} else {
		rev, err = tx.b.store.Commit(ctx, batch)
	}
	if err = release(rev, err); err != nil {
		return tx.explain(err)
	}
	tx.place(outs)
	return nil
}

// batches are those of transactions that are not under way: stores keep nothing of them.
var batches = sync.Pool{New: func() any { return new(checkpoint.Batch) }}

// keptBatch bounds the transactions whose batch is used again.
const keptBatch = 64 << 10

// stage adds the changes of the state to the batch, and returns the outputs by partition.
func (tx *Txn) stage(batch *checkpoint.Batch) ([]*partition.Output, error) {
	for _, key := range tx.keys {
		v, k := tx.state[key], stateKey(key)
		if v.read {
			batch.Expect(k, v.rev)
		}
		switch {
		case !v.written:
		case v.value == nil:
			batch.Delete(k)
		default:
			batch.Put(k, v.value)
		}
	}
	var outs []*partition.Output
	var tables few[*Topic, *table]
	var parts few[*topicPartition, *txnPart]
	tx.parts = tx.parts[:0]
	for i, rec := range tx.outputs {
		t := tx.topics[i]
		if t.deleted.Load() {
			return nil, fmt.Errorf("%w: %s was deleted", ErrTopicNotFound, t.name)
		}
		tab := tables.get(t)
		if tab == nil {
			tab = t.table.Load()
			tables.put(t, tab)
			batch.Expect(layoutKey(t.id), tab.rev)
			t.turn.Add(1) // records without a key go to one partition in a call
		}
		to := tab.active[tab.route(rec, t)]
		p := parts.get(to)
		if p == nil {
			p = &txnPart{to: to, recs: tx.outputs[i : i : i+1]} // the first one stands there already
			p.out = partition.Output{Partition: to.live, Source: p}
			parts.put(to, p)
			outs = append(outs, &p.out)
			tx.parts = append(tx.parts, to)
		}
		p.recs = append(p.recs, rec)
		size, _ := checkRecord(rec, math.MaxInt)
		p.out.Bytes += int64(size)
		p.out.Records++
	}
	return outs, nil
}

// few is a map that for one key, as most transactions have, needs no memory.
type few[K comparable, V any] struct {
	key  K
	val  V
	more map[K]V // all, if there are others
}

func (f *few[K, V]) get(k K) V {
	if f.more != nil || k != f.key {
		return f.more[k]
	}
	return f.val
}

func (f *few[K, V]) put(k K, v V) {
	var none K
	switch {
	case f.more != nil:
		f.more[k] = v
	case f.key == none:
		f.key, f.val = k, v
	default:
		f.more = map[K]V{f.key: f.val, k: v}
	}
}

// route says which active partition a record of a transaction goes to.
func (tab *table) route(rec *Record, t *Topic) int {
	switch {
	case len(tab.active) == 1:
		return 0
	case rec.Key == nil:
		return int(t.turn.Load() % uint32(len(tab.active)))
	}
	return tab.layout.Route(partition.Hash(rec.Key))
}

// txnPart is the part of a transaction that goes to one partition.
type txnPart struct {
	out  partition.Output
	to   *topicPartition
	recs []*Record
}

// AppendTo encodes the i-th record.
func (p *txnPart) AppendTo(b *log.Builder, i int, now int64) error {
	return appendRecord(b, p.recs[i], now)
}

// KeyHash tells the hash of the i-th record's key, for measuring the load.
func (p *txnPart) KeyHash(i int) (uint64, bool) { return keyHash(p.recs[i]) }

// place tells the outputs where they are stored.
func (tx *Txn) place(outs []*partition.Output) {
	ack := AckDurable
	if tx.b.opts.InMemory {
		ack = AckMemory
	}
	for _, o := range outs {
		part := o.Source.(*txnPart)
		for i, rec := range part.recs {
			rec.Partition, rec.Offset, rec.Ack = part.to.id, o.Base()+int64(i), ack
		}
	}
}

// explain gives an error of committing its meaning for the caller.
func (tx *Txn) explain(err error) error {
	if errors.Is(err, ErrFenced) || errors.Is(err, ErrTopicNotFound) {
		return fmt.Errorf("commit transaction: %w", err)
	}
	var conflict *checkpoint.ConflictError
	if errors.As(err, &conflict) {
		for _, t := range tx.topics {
			if !bytes.Equal(conflict.Key, layoutKey(t.id)) {
				continue
			}
			if t.deleted.Load() {
				return fmt.Errorf("%w: %s was deleted", ErrTopicNotFound, t.name)
			}
			return errMoved
		}
		if key, ok := parseStateKey(conflict.Key); ok {
			return &ConflictError{Key: key}
		}
	}
	switch {
	case errors.Is(err, partition.ErrSealed):
		return errMoved
	case errors.Is(err, partition.ErrFailed):
		return fmt.Errorf("commit transaction: %w: %w", ErrPartitionFailed, err)
	case errors.Is(err, partition.ErrClosed):
		for _, t := range tx.topics {
			if t.deleted.Load() {
				return fmt.Errorf("%w: %s was deleted", ErrTopicNotFound, t.name)
			}
		}
		return fmt.Errorf("commit transaction: %w: %w", ErrClosed, err)
	case errors.Is(err, log.ErrNoSpace):
		return fmt.Errorf("commit transaction: %w: %w", ErrNoSpace, err)
	}
	return fmt.Errorf("commit transaction: %w", storeError(err))
}

// Pending returns the partitions that failed while the transaction was being carried out, after a Commit that returned nil: the transaction stands, but its
// records in these partitions are visible only when the broker has been reopened. It is nil otherwise.
func (tx *Txn) Pending() []PartitionID {
	var out []PartitionID
	for _, rec := range tx.outputs {
		i := slices.IndexFunc(tx.parts, func(p *topicPartition) bool { return p.id == rec.Partition })
		if i >= 0 && tx.parts[i].log.VisibleEnd() <= rec.Offset && !slices.Contains(out, rec.Partition) {
			out = append(out, rec.Partition)
		}
	}
	return out
}
