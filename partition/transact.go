package partition

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/braid-go/braid/checkpoint"
	"github.com/braid-go/braid/log"
)

// Output is the part of a transaction that goes to one partition.
type Output struct {
	Partition *Partition
	Source    Source
	Records   int
	Bytes     int64 // about how many, as for a request

	base, time int64
	room       int64
	builder    *log.Builder // from Prepare on, until the journal is done with it
	parcel     parcel
}

// Base returns the offset of the first record, once Transact has returned nil. The others follow, with none of anybody else's
// between them.
func (o *Output) Base() int64 { return o.base }

// Time returns the append time in nanoseconds since 1970.
func (o *Output) Time() int64 { return o.time }

// KeyHash implements Keys.
func (o *Output) KeyHash(i int) (uint64, bool) {
	if keys, ok := o.Source.(Keys); ok {
		return keys.KeyHash(i)
	}
	return 0, false
}

// Transact commits a batch to the scheduler's journal together with records for several partitions, of which each may
// be named once: all of it or nothing. On nil everything is durable and visible. The records pass the partitions' queues by, and come behind
// everything that has been stored before. A partition in which other writing is under way makes it wait
// for that, at most one round.
//
// Errors: the store's (checkpoint.ErrConflict and so on), ErrClosed, ErrFailed, log.ErrNoSpace, and those of encoding a record mean that
// certainly nothing happened; checkpoint.ErrOutcomeUnknown that only reopening will tell, and the partitions have failed. If a
// partition fails while the transaction is under way, the transaction stands, and opening completes it. ctx counts until the
// journal has it.
func (s *Scheduler) Transact(ctx context.Context, b *checkpoint.Batch, outs []*Output) (checkpoint.Revision, error) {
	// In the order of their ids, as everybody who holds several takes them.
	slices.SortFunc(outs, func(x, y *Output) int { return int(min(1, max(-1, int64(x.Partition.ID())-int64(y.Partition.ID())))) })
	for i, o := range outs {
		if err := o.announce(); err != nil {
			for _, o := range outs[:i] {
				o.Partition.refused(o.Records)
			}
			withdraw(outs[:i])
			return 0, fmt.Errorf("partition %d: %w", o.Partition.ID(), err)
		}
	}
	rev, err := s.transact(ctx, b, outs)
	withdraw(outs)
	return rev, err
}

// announce makes sure that the output can be written, and makes the partition's appender take the journal's way too.
func (o *Output) announce() error {
	p := o.Partition
	if _, err := p.startLane(); err != nil { // who looks after the partition when it is idle again
		return err
	}
	p.txns.Add(1)
	p.accepted.Add(int64(o.Records))
	o.room = 2*o.Bytes + int64(o.Records)*32 + 2*log.FrameHeaderSize
	o.room += o.room / frameBytes * log.FrameHeaderSize
	if err := p.makeRoom(o.room); err != nil {
		p.refused(o.Records)
		p.txns.Add(-1)
		return storeFailed(err)
	}
	return nil
}

func withdraw(outs []*Output) {
	for _, o := range outs {
		o.Partition.pending.announce(-o.room)
		o.Partition.txns.Add(-1)
		if o.builder != nil {
			o.Partition.cfg.Scheduler.builders.put(o.builder)
			o.builder = nil
		}
	}
}

func (s *Scheduler) transact(ctx context.Context, b *checkpoint.Batch, outs []*Output) (checkpoint.Revision, error) {
	c := carriage(outs)
	for {
		rev, err := s.commitFrames(ctx, b, c)
		switch {
		case err == nil:
			c.settle(func(o *Output) { o.Partition.stored.Add(int64(o.Records)) })
			return rev, nil
		case errors.Is(err, checkpoint.ErrOutcomeUnknown):
			c.settle(func(o *Output) {
				o.Partition.lost(err)
				o.Partition.unknown.Add(int64(o.Records))
			})
			return 0, err
		case !errors.Is(err, errUnsynced):
			c.settle(func(o *Output) { o.Partition.refused(o.Records) })
			return 0, err
		}
		// In the weaker modes what comes before is made durable now. From here on the appender takes the journal's way, so
		// this is soon over.
		for _, o := range outs {
			if err := o.Partition.log.Sync(); err != nil {
				c.settle(func(o *Output) { o.Partition.refused(o.Records) })
				return 0, storeFailed(err)
			}
		}
	}
}

// carriage carries a transaction's outputs.
type carriage []*Output

func (c carriage) settle(one func(*Output)) {
	for _, o := range c {
		one(o)
		if q := &o.Partition.pending; q.due(time.Now()) || !q.traveling() { // else whoever comes next does it
			o.Partition.apply()
		}
	}
}

// Bound implements checkpoint.Carrier.
func (c carriage) Bound() int {
	n := int64(0)
	for _, o := range c {
		n += o.room + frameSection
	}
	return int(min(n, checkpoint.MaxCarriedBytes+1))
}

// frameSection is more than the journal adds to each partition's frames.
const frameSection = 32

// Prepare implements checkpoint.Carrier. Either all outputs get their offsets, or none.
func (c carriage) Prepare(seq uint64, dst []checkpoint.Frames) ([]checkpoint.Frames, error) {
	held := 0
	defer func() {
		for _, o := range c[:held] {
			o.Partition.ordering.Unlock()
		}
	}()
	for i, o := range c {
		if i > 0 && o.Partition == c[i-1].Partition { // and we would wait for ourselves
			return dst, fmt.Errorf("partition %d is named twice", o.Partition.ID())
		}
		o.Partition.ordering.Lock()
		held++
		if err := o.Partition.sendable(); err != nil {
			return dst, err
		}
		if err := o.encode(seq); err != nil {
			return dst, fmt.Errorf("encode for partition %d: %w", o.Partition.ID(), err)
		}
	}
	for _, o := range c {
		o.Partition.load.Observe(o.Partition.cfg.Now(), o.Records, o.Bytes, o)
		o.parcel = o.Partition.send(o.builder)
		dst = append(dst, checkpoint.Frames{Owner: uint64(o.Partition.ID()), Data: o.builder.Bytes()})
	}
	return dst, nil
}

// Durable implements checkpoint.Carrier.
func (c carriage) Durable() {
	for _, o := range c {
		o.Partition.arrived(o.parcel)
	}
}

// encode encodes the records as they come next in the log.
func (o *Output) encode(seq uint64) error {
	l := o.Partition.log
	if o.builder == nil { // else this is another attempt
		o.builder = o.Partition.cfg.Scheduler.builders.get()
	}
	l.Begin(o.builder)
	for i := 0; i < o.Records; {
		meta := l.Meta(o.builder)
		meta.Codec, meta.TxnID = o.Partition.cfg.Codec(), seq
		if i == 0 {
			o.base, o.time = meta.Base, meta.AppendTime
		}
		o.builder.Begin(meta)
		for ; i < o.Records && o.builder.FrameBytes() < frameBytes; i++ {
			if err := o.Source.AppendTo(o.builder, i, meta.AppendTime); err != nil {
				return err
			}
		}
		if err := o.builder.End(); err != nil {
			return err
		}
	}
	return nil
}

// builderPool keeps builders, for a round or a transaction each. The one that was used last is given first: its memory is in a processor's cache, and partitions at work, of which there may be
// thousands, need none of their own.
type builderPool struct{ sync.Pool }

func (p *builderPool) get() *log.Builder {
	if b, ok := p.Get().(*log.Builder); ok {
		return b
	}
	return log.NewBuilder(0)
}

func (p *builderPool) put(b *log.Builder) {
	b.Reset(0)
	b.Shrink(keepBuffer)
	p.Put(b)
}
