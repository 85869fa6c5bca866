package braid

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/braid-go/braid/partition"
)

// ReadOptions configures a Read. The zero value reads everything there is, once.
type ReadOptions struct {
	// From is where to begin. Default: the earliest record.
	From Position
	// Follow goes on when the end is reached, waiting for more until ctx ends. Without
	// it reading stops at what was visible when it began.
	Follow bool
	// Partitions to read. Default: all.
	Partitions []PartitionID
	// ReuseBuffers reuses the record and its memory for the next one: faster, and what is
	// to be kept must be cloned.
	ReuseBuffers bool
	// OnGap decides what happens at records that cannot be had: true skips them, false, the
	// default, ends the reading with the error. It is called on the reader's goroutine.
	OnGap func(Gap) bool
}

// Read iterates over the topic's records without a group: in order within each partition, the
// partitions in turn. It ends after the first error, which comes with a nil record: ctx's, if Follow
// waits when ctx ends; ErrClosed; ErrTopicNotFound when the topic is deleted; and for records that cannot be had a
// [*CorruptError], [*MissingDataError] or [*OffsetOutOfRangeError], whose Next says where to go on, unless
// OnGap says so itself.
//
// Each range over the result is a reading of its own. Any number may run at a time.
func (t *Topic) Read(ctx context.Context, opts ReadOptions) iter.Seq2[*Record, error] {
	return func(yield func(*Record, error) bool) {
		f, err := t.startRead(ctx, opts)
		if err != nil {
			yield(nil, err)
			return
		}
		defer f.close()
		var memory slab
		rec := new(Record)
		for n := 0; ; {
			s, err := f.open()
			if err == nil && s == nil && opts.Follow {
				if err = f.wait(ctx, nil); err == nil {
					continue
				}
			}
			for ; err == nil && s != nil && s.run > 0; n++ {
				if n%checkEvery == 0 && ctx.Err() != nil {
					err = ctx.Err()
					break
				}
				if !opts.ReuseBuffers {
					rec = memory.take(s.run, slabRecords)
				}
				if err = s.load(rec); err == nil && !yield(rec, nil) {
					return
				}
			}
			if s != nil {
				f.pass(s, err)
			}
			if err != nil {
				yield(nil, err)
			}
			if err != nil || s == nil {
				return
			}
		}
	}
}

// checkEvery is after how many records a reader that never waits looks at its context.
const checkEvery = 256

// startRead checks the options and opens the partitions' readers.
func (t *Topic) startRead(ctx context.Context, opts ReadOptions) (*feed, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if t.b.closed.Load() {
		return nil, ErrClosed
	}
	if err := opts.From.check("ReadOptions.From"); err != nil {
		return nil, err
	}
	tab := t.table.Load()
	parts, err := tab.choose(t.name, "ReadOptions.Partitions", opts.Partitions)
	if err != nil {
		return nil, err
	}
	f := newFeed(t)
	f.reuse = opts.ReuseBuffers
	if opts.Follow && len(opts.Partitions) == 0 {
		f.tab = tab
	}
	for _, p := range parts {
		from, err := opts.From.resolve(p.id, p.log)
		if err != nil {
			f.close()
			return nil, logError(t.name, p.id, err)
		}
		info, _ := tab.layout.Lookup(p.id)
		src := newSource(t.name, p, from, opts.ReuseBuffers)
		f.follow(src, info.Parents) // which have smaller ids
		if info.State == partition.StateSealed {
			src.end = info.End
		}
		f.add(src)
	}
	f.onGap = opts.OnGap
	if !opts.Follow {
		for _, s := range f.sources {
			s.end = max(s.part.log.VisibleEnd(), 0)
		}
	}
	return f, nil
}

// choose returns the partitions of the ids, or all of them for none.
func (tab *table) choose(topic, field string, ids []PartitionID) ([]*topicPartition, error) {
	all := tab.all
	if len(ids) == 0 {
		return all, nil
	}
	out := make([]*topicPartition, 0, len(ids))
	for _, id := range ids {
		i := slices.IndexFunc(all, func(p *topicPartition) bool { return p.id == id })
		if i < 0 {
			return nil, &OptionError{Field: field, Value: id,
				Reason: fmt.Sprintf("topic %s has no such partition", topic)}
		}
		out = append(out, all[i])
	}
	return out, nil
}
