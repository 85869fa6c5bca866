package braid

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/braid-go/braid/checkpoint"
	"github.com/braid-go/braid/partition"
)

// Split divides a partition's range of key hashes between two new partitions, so that each has half of the load of late, while records are published and
// consumed. It returns their ids, the lower range's first.
//
// What was published before is in the old partition, which takes no more, and what is published after it in the new ones: consumers read a
// key's old partition to its end before its new one, so its records keep their order. Publishers wait for a moment, without an error. The layout changes in
// one durable step: a crash leaves the old one or the new one.
//
// Errors, all "nothing has changed": [OptionError] for a partition that is not one of the topic's active ones, [*partition.IndivisibleError] if one key has nearly all
// of the load, ErrLimit
// beyond Limits.MaxPartitions, ctx's, ErrPartitionFailed, ErrNoSpace, ErrTopicNotFound, ErrClosed, ErrReadOnly. After ErrOutcomeUnknown the disk has failed
// under the change; the partition takes no records until the broker has been reopened.
func (t *Topic) Split(ctx context.Context, id PartitionID) ([]PartitionID, error) {
	return t.split(ctx, id, byHand, func(info partition.Info, p *topicPartition) (uint64, error) {
		return p.live.Load().SplitPoint(info.Range)
	})
}

// byHand is why partitions change that somebody who called Split or Merge has changed.
const byHand = "by hand"

// split splits a partition in front of the hash that at finds.
func (t *Topic) split(ctx context.Context, id PartitionID, why string, at func(partition.Info, *topicPartition) (uint64, error)) ([]PartitionID, error) {
	children, err := t.change(ctx, "split", func(tab *table) (change, error) {
		info, err := tab.activeInfo(id)
		if err != nil {
			return change{}, err
		}
		i := slices.IndexFunc(tab.active, func(p *topicPartition) bool { return p.id == id })
		upper, err := at(info, tab.active[i])
		if err != nil {
			return change{}, err
		}
		lo, hi := info.Range.Lo, info.Range.Hi
		if upper <= lo || upper > hi {
			return change{}, &OptionError{"partition", id, "cannot be divided there"}
		}
		return change{[]PartitionID{id}, []partition.Range{{Lo: lo, Hi: upper - 1}, {Lo: upper, Hi: hi}}, why}, nil
	})
	if err != nil {
		return nil, fmt.Errorf("split partition %d of %s: %w", id, t.name, err)
	}
	return children, nil
}

// Merge has one new partition take the ranges of two neighbours. It returns its id. Everything else is as for Split.
func (t *Topic) Merge(ctx context.Context, a, b PartitionID) (PartitionID, error) {
	return t.merge(ctx, a, b, byHand)
}

func (t *Topic) merge(ctx context.Context, a, b PartitionID, why string) (PartitionID, error) {
	children, err := t.change(ctx, "merge", func(tab *table) (change, error) {
		x, err := tab.activeInfo(a)
		if err != nil {
			return change{}, err
		}
		y, err := tab.activeInfo(b)
		if err != nil {
			return change{}, err
		}
		if y.Range.Lo < x.Range.Lo {
			x, y = y, x
		}
		if a == b || x.Range.Hi+1 != y.Range.Lo {
			return change{}, &OptionError{"partition", b, fmt.Sprintf("is not a neighbour of %d", a)}
		}
		// By id, as the layout has them: the child's files tell what it continues, and must tell the same.
		return change{[]PartitionID{min(a, b), max(a, b)}, []partition.Range{{Lo: x.Range.Lo, Hi: y.Range.Hi}}, why}, nil
	})
	if err != nil {
		return 0, fmt.Errorf("merge partitions %d and %d of %s: %w", a, b, t.name, err)
	}
	return children[0], nil
}

// change is a change of a layout: parents are sealed, and children have the ranges.
type change struct {
	parents  []PartitionID
	children []partition.Range
	why      string
}

// activeInfo returns an active partition.
func (tab *table) activeInfo(id PartitionID) (partition.Info, error) {
	info, ok := tab.layout.Lookup(id)
	if !ok || info.State != partition.StateActive {
		return info, &OptionError{"partition", id, "is not an active partition of the topic"}
	}
	return info, nil
}

// moving is a change of a topic's layout that is under way.
type moving struct{ done chan struct{} }

// change carries out what plan finds for the present layout.
func (t *Topic) change(ctx context.Context, what string, plan func(*table) (change, error)) ([]PartitionID, error) {
	b := t.b
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b.changing.Lock()
	defer b.changing.Unlock()
	if err := b.check(); err != nil {
		return nil, err
	}
	if t.deleted.Load() {
		return nil, fmt.Errorf("%w: %s was deleted", ErrTopicNotFound, t.name)
	}
	if err := t.stuckErr(); err != nil {
		return nil, err
	}
	tab := t.table.Load()
	c, err := plan(tab)
	if err != nil {
		return nil, err
	}
	more := len(c.children) - len(c.parents)
	if n, most := len(tab.active)+more, b.Limits().MaxPartitions; more > 0 && n > most {
		return nil, fmt.Errorf("%w: %d partitions, Limits.MaxPartitions is %d", ErrLimit, n, most)
	}
	ids, err := t.relayout(ctx, tab, c)
	if err != nil {
		b.opts.Logger.Warn("the partitions stay as they are", "topic", t.name, "to", what, "parents", c.parents, "error", err)
		return nil, err
	}
	b.opts.Logger.Info("partitions changed", "topic", t.name, "by", what, "why", c.why, "parents", c.parents, "children", ids)
	return ids, nil
}

// relayout makes the children's directories, seals the parents, and changes the layout. The caller holds changing.
//
// A crash before the commit leaves empty directories, which the next Open sets aside, and one after it the new layout. In between the parents are sealed
// only in memory, so an error takes it back; an unknown outcome cannot be taken back.
func (t *Topic) relayout(ctx context.Context, tab *table, c change) ([]PartitionID, error) {
	next := t.b.counters
	children := make([]partition.Info, len(c.children))
	ids := make([]PartitionID, len(c.children))
	for i, r := range c.children {
		ids[i] = next.Partition
		children[i] = partition.Info{ID: ids[i], Range: r, Parents: c.parents}
		next.Partition++
	}
	t.b.counters = next // also if this fails: ids are not tried twice
	made := make([]*topicPartition, len(children))
	parents := slices.DeleteFunc(slices.Clone(tab.all), func(p *topicPartition) bool { return !slices.Contains(c.parents, p.id) })
	busy := slices.ContainsFunc(parents, func(p *topicPartition) bool { return p.live.Busy() })
	err := inParallel(len(children), func(i int) (err error) {
		if made[i], err = t.createPartition(children[i]); err != nil {
			return err
		}
		made[i].making = newMaking(c.why)
		if busy { // publishers will be waiting
			err = t.publishError(ids[i], made[i].live.Warm())
		}
		return err
	})
	if err == nil {
		_ = inParallel(len(parents), func(i int) error { parents[i].live.Approach(); return nil })
		m := &moving{done: make(chan struct{})}
		t.moving.Store(m)
		err = t.seal(ctx, tab, parents, children, made)
		t.moving.Store(nil)
		close(m.done)
	}
	if err != nil {
		t.b.abandonPartitions(t, made, err)
		return nil, err
	}
	for _, p := range parents {
		if err := p.live.Rest(); err != nil { // all of it is durable, and the layout says so
			t.b.opts.Logger.Warn("a partition that takes nothing more has failed", "topic", t.name, "partition", p.id, "error", err)
		}
	}
	t.b.announce()
	t.b.tellGroups(t)
	return ids, nil
}

// seal seals the parents, commits the new layout and publishes it. Publishers wait meanwhile: what can be done before or after is not done here.
func (t *Topic) seal(ctx context.Context, tab *table, parents []*topicPartition, children []partition.Info, made []*topicPartition) error {
	ends := make([]int64, len(parents))
	sealed := make([]bool, len(parents))
	unseal := func() {
		for i, p := range parents {
			if sealed[i] {
				p.live.Unseal()
			}
		}
	}
	err := inParallel(len(parents), func(i int) (err error) {
		ends[i], err = parents[i].live.Seal(ctx)
		sealed[i] = err == nil || errors.Is(err, partition.ErrFailed) // then it refuses by itself
		return t.publishError(parents[i].id, err)
	})
	if err != nil {
		unseal()
		return err
	}
	at := make(map[PartitionID]int64, len(parents))
	for i, p := range parents {
		at[p.id] = ends[i]
	}
	layout, err := tab.layout.Replace(at, children...)
	if err != nil {
		unseal()
		return err
	}
	rev, err := t.b.commitLayout(ctx, t, tab.rev, layout, made)
	if errors.Is(err, ErrOutcomeUnknown) {
		err = fmt.Errorf("%w: %w: the change of the layout of %s", ErrPartitionFailed, err, t.name)
		t.stuck.Store(&err)
		return err
	}
	if err != nil {
		unseal()
		return err
	}
	t.setPartitions(layout, rev, append(slices.Clone(tab.all), made...))
	return nil
}

// commitLayout is the moment at which a layout changes.
func (b *Broker) commitLayout(ctx context.Context, t *Topic, was checkpoint.Revision, layout *partition.Layout, made []*topicPartition) (checkpoint.Revision, error) {
	encoded, err := layout.MarshalBinary()
	if err != nil {
		return 0, err
	}
	var batch checkpoint.Batch
	batch.Expect(layoutKey(t.id), was)
	batch.Put(layoutKey(t.id), encoded)
	if err := putJSON(&batch, countersKey(), b.counters); err != nil {
		return 0, err
	}
	for _, p := range made {
		if err := putJSON(&batch, makingKey(t.id, p.id), p.making); err != nil {
			return 0, err
		}
	}
	rev, err := b.store.Commit(ctx, &batch)
	return rev, storeError(err)
}

// stuckErr is why the topic's layout cannot be told any more, or nil.
func (t *Topic) stuckErr() error {
	if err := t.stuck.Load(); err != nil {
		return *err
	}
	return nil
}

// settledLayout waits for a change of the layout that is under way.
func (t *Topic) settledLayout(ctx context.Context) error {
	m := t.moving.Load()
	if m == nil {
		return t.stuckErr()
	}
	if t.b.sched.InCallback() {
		return ErrBusy
	}
	select {
	case <-m.done:
		return t.stuckErr()
	case <-ctx.Done():
		return ctx.Err()
	case <-t.b.done:
		return ErrClosed
	}
}
