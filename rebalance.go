package braid

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/braid-go/braid/checkpoint"
	"github.com/braid-go/braid/group"
	"github.com/braid-go/braid/partition"
)

// tell lets the subscription look at what it has, soon.
func (s *Subscription) tell() {
	s.changed.Store(true)
	s.feed.nudge()
}

// rebalance follows the group if anything has changed. It runs inside Poll and Records, or in Subscribe before these.
func (s *Subscription) rebalance(ctx context.Context) error {
	if s.closed() {
		return ErrClosed
	}
	for s.changed.Swap(false) {
		if err := s.follow(ctx); err != nil {
			s.changed.Store(true) // the next call tries again
			return err
		}
	}
	return nil
}

// follow gives up what the member has no longer, hands over what it was asked for, and takes over what is new.
func (s *Subscription) follow(ctx context.Context) error {
	s.reportSealed()
	v := s.coordinator.view(s, true)
	owned := map[PartitionID]uint64{}
	for _, o := range v.Owned {
		owned[PartitionID(o.Partition)] = o.Epoch
	}
	var lost, revoked, news []PartitionID
	var begins []*subPartition
	for _, p := range s.assigned() {
		switch _, asked := slices.BinarySearch(v.Revoking, uint64(p.part.id)); {
		case owned[p.part.id] != p.epoch:
			s.drop(p)
			if p.announced && !p.over {
				lost = append(lost, p.part.id)
			}
		case asked:
			revoked = append(revoked, p.part.id)
			delete(owned, p.part.id)
		default:
			if !p.announced {
				begins = append(begins, p)
			}
			delete(owned, p.part.id)
		}
	}
	notify(s.opts.OnLost, lost)
	s.handOver(ctx, revoked)
	for _, id := range v.Revoking { // asked for before it was even taken over
		delete(owned, PartitionID(id))
	}
	s.coordinator.release(s, unread(v.Revoking, revoked))
	fresh, err := s.adopt(ctx, owned)
	if err != nil {
		return err // those that begin are told of when it succeeds: until then they deliver nothing
	}
	for _, p := range append(begins, fresh...) {
		p.announced = true
		news = append(news, p.part.id)
	}
	slices.Sort(news)
	notify(s.opts.OnAssigned, news)
	return nil
}

func notify(f func([]PartitionID), ids []PartitionID) {
	if f != nil && len(ids) > 0 {
		f(ids)
	}
}

// unread returns what of asked is not in revoked.
func unread(asked []uint64, revoked []PartitionID) []PartitionID {
	var out []PartitionID
	for _, id := range asked {
		if !slices.Contains(revoked, PartitionID(id)) {
			out = append(out, PartitionID(id))
		}
	}
	return out
}

// handOver commits what is finished, lets the application commit more, and gives partitions up. What is not committed by then, the next
// owner delivers again.
func (s *Subscription) handOver(ctx context.Context, ids []PartitionID) {
	if len(ids) == 0 {
		return
	}
	if s.opts.AutoCommit > 0 {
		if err := s.commitFinished(context.WithoutCancel(ctx)); err != nil {
			s.fail(err)
		}
	}
	notify(s.opts.OnRevoked, ids)
	for _, p := range s.assigned() {
		if slices.Contains(ids, p.part.id) {
			s.drop(p)
		}
	}
	s.coordinator.release(s, ids)
}

// assigned returns what the subscription reads.
func (s *Subscription) assigned() []*subPartition {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.parts)
}

// drop stops reading a partition. A commit that is under way comes first; none after. One that is forgotten, since every group has passed it and retention
// has removed it, is over, also if it was being read again: what continues it must not wait for that.
func (s *Subscription) drop(p *subPartition) {
	s.committing.Lock()
	defer s.committing.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	_, there := s.t.table.Load().layout.Lookup(p.part.id)
	p.gone, p.over = true, p.over || !there
	s.parts = slices.DeleteFunc(s.parts, func(o *subPartition) bool { return o == p })
	if s.current == p {
		s.current = nil
	}
	s.feed.remove(p.source)
}

// adopt takes over partitions: it writes the epoch of the ownership into the stored positions, so that no commit of an owner before
// succeeds any more, and begins to read at these positions. An owner after, whose epoch is higher, is left alone.
func (s *Subscription) adopt(ctx context.Context, epochs map[PartitionID]uint64) ([]*subPartition, error) {
	if len(epochs) == 0 {
		return nil, nil
	}
	for {
		tab := s.t.table.Load()
		parts, batch, err := s.fence(ctx, tab, epochs)
		if err != nil {
			return nil, err
		}
		rev, err := s.t.b.store.Commit(ctx, batch)
		if errors.Is(err, checkpoint.ErrConflict) { // by the owner before, or the layout
			if s.t.deleted.Load() {
				return nil, fmt.Errorf("%w: %s was deleted", ErrTopicNotFound, s.t.name)
			}
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("take over partitions of %s in group %s: %w", s.t.name, s.group, storeError(err))
		}
		return parts, s.take(parts, rev)
	}
}

// fence reads the positions of partitions, and makes the batch that changes their epochs.
func (s *Subscription) fence(ctx context.Context, tab *table, epochs map[PartitionID]uint64) ([]*subPartition, *checkpoint.Batch, error) {
	batch := &checkpoint.Batch{}
	batch.Expect(layoutKey(s.t.id), tab.rev) // a topic that is being deleted gets no positions
	var parts []*subPartition
	for _, id := range slices.Sorted(maps.Keys(epochs)) {
		at, there := slices.BinarySearchFunc(tab.all, id, func(p *topicPartition, id PartitionID) int { return cmp.Compare(p.id, id) })
		if !there {
			continue
		}
		part, epoch := tab.all[at], epochs[id]
		key := s.key(part.id)
		value, rev, err := s.t.b.store.Get(ctx, key)
		if err != nil {
			return nil, nil, storeError(err)
		}
		info, _ := tab.layout.Lookup(part.id)
		pos := group.Position{Offset: info.First} // a partition that has come after the group
		if rev != 0 {
			if err := pos.UnmarshalBinary(value); err != nil {
				return nil, nil, corruptMeta(fmt.Sprintf("position in partition %d", part.id), err)
			}
		}
		if pos.Epoch > epoch {
			continue // it has gone to another member before we came so far; we shall be told
		}
		pos.Epoch = epoch
		value, _ = pos.MarshalBinary()
		batch.Expect(key, rev)
		batch.Put(key, value)
		p := &subPartition{epoch: epoch, last: -1, committed: pos.Offset, finished: pos.Offset}
		p.source = newSource(s.t.name, part, pos.Offset, s.opts.ReuseBuffers)
		p.source.sub = p
		p.origin = &delivery{sub: s, part: p}
		parts = append(parts, p)
	}
	return parts, batch, nil
}

// reportSealed finds out which partitions have been sealed, and tells the group of which of these the member has been delivered everything, and
// which are finished: committed to their ends, and not being read again.
func (s *Subscription) reportSealed() {
	tab := s.t.table.Load()
	var delivered, finished []uint64
	s.mu.Lock()
	for _, p := range s.parts {
		if info, _ := tab.layout.Lookup(p.part.id); p.end < 0 && info.State == partition.StateSealed {
			p.end = info.End
			s.feed.nudge()
		}
		switch {
		case p.finishes() && p.next >= p.end && !slices.ContainsFunc(p.parents, func(q *source) bool { return !q.sub.over }):
			p.over = true
			s.feed.nudge()
			finished = append(finished, uint64(p.part.id))
		case p.reached() && !p.told:
			p.told = true
			delivered = append(delivered, uint64(p.part.id))
		}
	}
	s.mu.Unlock()
	if len(delivered)+len(finished) == 0 {
		return
	}
	s.coordinator.change(func(time.Time) {
		for _, id := range delivered {
			s.coordinator.g.Delivered(s.member, id)
		}
		for _, id := range finished {
			s.coordinator.g.Finished(id)
		}
	})
}

// take begins to read partitions that have been taken over.
func (s *Subscription) take(parts []*subPartition, rev checkpoint.Revision) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed() {
		return ErrClosed
	}
	for _, p := range parts {
		p.rev = rev
		s.feed.add(p.source)
	}
	tab := s.t.table.Load()
	for _, p := range parts {
		info, _ := tab.layout.Lookup(p.part.id)
		s.feed.follow(p.source, info.Parents)
		if info.State == partition.StateSealed {
			p.end = info.End
			s.changed.Store(true)
		}
	}
	s.parts = append(s.parts, parts...)
	slices.SortFunc(s.parts, func(a, b *subPartition) int { return int(min(1, max(-1, int64(a.part.id)-int64(b.part.id)))) })
	return nil
}

// Assigned returns the partitions that the member has, by id.
func (s *Subscription) Assigned() []PartitionID {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]PartitionID, len(s.parts))
	for i, p := range s.parts {
		ids[i] = p.part.id
	}
	return ids
}

// Pause has Poll and Records deliver nothing from partitions, until Resume or until they go to another member; nothing else changes. No partitions
// means all that the member has. One that it does not have is ErrNotAssigned, and then nothing of the call happens.
func (s *Subscription) Pause(partitions ...PartitionID) error { return s.setPaused(true, partitions) }

// Resume ends Pause, with the same arguments and errors.
func (s *Subscription) Resume(partitions ...PartitionID) error { return s.setPaused(false, partitions) }

func (s *Subscription) setPaused(paused bool, ids []PartitionID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed() {
		return ErrClosed
	}
	chosen := s.parts
	if len(ids) > 0 {
		chosen = nil
		for _, id := range ids {
			i := slices.IndexFunc(s.parts, func(p *subPartition) bool { return p.part.id == id })
			if i < 0 {
				return fmt.Errorf("%w: %d of %s", ErrNotAssigned, id, s.t.name)
			}
			chosen = append(chosen, s.parts[i])
		}
	}
	for _, p := range chosen {
		p.paused, p.run = paused, 0
	}
	s.feed.nudge()
	return nil
}
