package braid

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/braid-go/braid/checkpoint"
	"github.com/braid-go/braid/group"
	"github.com/braid-go/braid/internal/sorting"
	"github.com/braid-go/braid/log"
	"github.com/braid-go/braid/partition"
)

// Retention runs this often.
const retentionInterval = 15 * time.Second

// runRetention applies the topics' retention until the broker closes.
func (b *Broker) runRetention() {
	ticker := time.NewTicker(retentionInterval)
	defer ticker.Stop()
	for {
		select {
		case <-b.done:
			return
		case <-ticker.C:
		}
		for _, t := range b.Topics() {
			if err := errors.Join(t.retain(), t.dropDrained(context.Background())); err != nil {
				b.opts.Logger.Error("retention failed", "topic", t.name, "error", err)
			}
		}
	}
}

// retain applies the topic's retention. Bytes are counted over the whole topic: of all
// partitions' closed segments the ones written to longest ago go first. All segments of a sealed
// partition are closed.
func (t *Topic) retain() error {
	config := t.Config()
	tab := t.table.Load()
	parts := tab.all
	spare := tab.spareBytes(config.RetentionBytes)
	var errs []error
	for i, p := range parts {
		policy := log.Retention{MaxAge: config.RetentionAge, MaxBytes: Unlimited}
		if spare[i] > 0 {
			policy.MaxBytes = max(1, p.log.Size()-spare[i])
		}
		if policy.MaxAge == Unlimited && policy.MaxBytes == Unlimited {
			continue
		}
		if _, err := p.live.Retain(policy); err != nil && !errors.Is(err, log.ErrClosed) {
			errs = append(errs, logError(t.name, p.id, err))
		}
	}
	return errors.Join(errs...)
}

// spareBytes says how many bytes each partition has to give for the topic to fit into limit.
func (tab *table) spareBytes(limit int64) []int64 {
	spare := make([]int64, len(tab.all))
	if limit == Unlimited {
		return spare
	}
	type candidate struct {
		part int
		seg  log.SegmentInfo
	}
	var total int64
	var candidates []candidate
	for i, p := range tab.all {
		finished := tab.isSealed(p.id)
		total += p.log.Size()
		for _, s := range p.log.Segments() {
			if s.Sealed || finished && s.End > s.Base {
				candidates = append(candidates, candidate{i, s})
			}
		}
	}
	sorting.StableFunc(candidates, func(x, y candidate) int {
		return int(min(1, max(-1, x.seg.LastAppend-y.seg.LastAppend)))
	})
	for _, c := range candidates {
		if total <= limit {
			break
		}
		spare[c.part] += c.seg.Bytes
		total -= c.seg.Bytes
	}
	return spare
}

// isSealed reports whether a partition has been split or merged.
func (tab *table) isSealed(id PartitionID) bool {
	info, _ := tab.layout.Lookup(id)
	return info.State == partition.StateSealed
}

// drained returns the partitions that have been split or merged and hold nothing any more.
func (tab *table) drained() map[PartitionID]partition.Info {
	out := map[PartitionID]partition.Info{}
	for _, p := range tab.all {
		if info, _ := tab.layout.Lookup(p.id); info.State == partition.StateSealed && p.log.Start() >= info.End {
			out[p.id] = info
		}
	}
	return out
}

// dropDrained forgets the partitions that are drained and that every group has passed: they leave the
// layout, with all positions in them, in one durable step, and then the disk. A group that has not
// passed one keeps it, since it is to be told of what it has missed.
func (t *Topic) dropDrained(ctx context.Context) error {
	b := t.b
	if len(t.table.Load().drained()) == 0 || !b.changing.TryLock() { // whoever changes topics now: the next round comes
		return nil
	}
	defer b.changing.Unlock()
	if b.check() != nil || t.deleted.Load() || t.stuckErr() != nil {
		return nil
	}
	tab := t.table.Load()
	gone, batch, err := t.forgettable(ctx, tab)
	if err != nil || len(gone) == 0 {
		return err
	}
	layout, err := tab.layout.Without(slices.Collect(maps.Keys(gone))...)
	if err != nil {
		return err
	}
	encoded, err := layout.MarshalBinary()
	if err != nil {
		return err
	}
	batch.Expect(layoutKey(t.id), tab.rev)
	batch.Put(layoutKey(t.id), encoded)
	rev, err := b.store.Commit(ctx, batch)
	if errors.Is(err, checkpoint.ErrConflict) {
		return nil // a group has changed hands meanwhile; the next round comes
	}
	if err != nil {
		err = fmt.Errorf("forget drained partitions of %s: %w", t.name, storeError(err))
		if errors.Is(err, ErrOutcomeUnknown) {
			t.stuck.Store(&err)
		}
		return err
	}
	var stay, leave []*topicPartition
	for _, p := range tab.all {
		if _, leaves := gone[p.id]; leaves {
			p.dropped.Store(true)
			leave = append(leave, p)
		} else {
			stay = append(stay, p)
		}
	}
	t.setPartitions(layout, rev, stay)
	b.announce()
	b.tellGroups(t)
	b.reclaim(t.name, leave)
	return nil
}

// forgettable returns the drained partitions that every group has passed, with no parents but such, and a
// batch that removes their positions and leaves tombstones.
func (t *Topic) forgettable(ctx context.Context, tab *table) (map[PartitionID]partition.Info, *checkpoint.Batch, error) {
	gone := tab.drained()
	passed := map[string]map[PartitionID]checkpoint.Entry{} // by group
	has := map[string]map[PartitionID]bool{}                // where each has a position
	epochs := map[string]uint64{}
	for at, err := range positions(ctx, t.b.store, t.id, t.name) {
		if err != nil {
			return nil, nil, err
		}
		if passed[at.of] == nil {
			passed[at.of], has[at.of] = map[PartitionID]checkpoint.Entry{}, map[PartitionID]bool{}
		}
		has[at.of][at.part] = true
		epochs[at.of] = max(epochs[at.of], at.Epoch)
		if info, drained := gone[at.part]; drained && at.Offset >= info.End {
			passed[at.of][info.ID] = at.entry
		}
	}
	batch := &checkpoint.Batch{}
	for id := range gone {
		for _, of := range passed {
			if _, ok := of[id]; !ok {
				delete(gone, id)
			}
		}
	}
	for _, p := range tab.layout.All() { // parents before children: none goes before its parents
		if slices.ContainsFunc(p.Parents, func(id PartitionID) bool {
			_, goes := gone[id]
			_, there := tab.layout.Lookup(id)
			return there && !goes
		}) {
			delete(gone, p.ID)
		}
	}
	for id := range gone {
		for _, of := range passed {
			batch.Expect(of[id].Key, of[id].Revision)
			batch.Delete(of[id].Key)
		}
		batch.Delete(makingKey(t.id, id))
		batch.Put(tombstoneKey(id), []byte{})
	}
	for name, in := range has {
		for id := range gone {
			delete(in, id)
		}
		if len(in) == 0 && len(gone) > 0 {
			if err := t.keepGroup(tab, name, epochs[name], gone, batch); err != nil {
				return nil, nil, err
			}
		}
	}
	return gone, batch, nil
}

// keepGroup writes down where a group begins in the partitions that stay: one with no position would be a new group, and begin anew.
func (t *Topic) keepGroup(tab *table, name string, epoch uint64, gone map[PartitionID]partition.Info, batch *checkpoint.Batch) error {
	for _, p := range tab.layout.All() {
		if _, goes := gone[p.ID]; goes {
			continue
		}
		value, err := group.Position{Offset: p.First, Epoch: epoch}.MarshalBinary()
		if err != nil {
			return err
		}
		key := group.Key(t.id, name, uint64(p.ID))
		batch.Expect(key, 0)
		batch.Put(key, value)
	}
	return nil
}
