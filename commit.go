package braid

import (
	"context"
	"errors"
	"fmt"

	"github.com/braid-go/braid/checkpoint"
	"github.com/braid-go/braid/group"
)

// Commit moves the group's positions behind the given records, durably: in each partition
// behind the one with the highest offset, and never backwards. It commits
// all before them too, whether they are among the given or not. All partitions move or none does. Only where a record was
// delivered counts, not what its fields say now; a record that this subscription did not deliver is
// ErrNotDelivered. No records: nothing happens.
//
// Once the commit is on its way to the disk ctx no longer bounds it. If the disk fails then, the
// error is ErrOutcomeUnknown, and so no position can be committed until the broker is reopened.
func (s *Subscription) Commit(ctx context.Context, recs ...*Record) error {
	if s.closed() {
		return ErrClosed
	}
	s.committing.Lock()
	defer s.committing.Unlock()
	want := map[*subPartition]int64{}
	s.mu.Lock()
	for i, rec := range recs {
		if rec == nil || rec.origin == nil || rec.origin.sub != s {
			s.mu.Unlock()
			return fmt.Errorf("%w: record %d of the call", ErrNotDelivered, i)
		}
		p := rec.origin.part
		position := rec.originOffset + 1
		if rec.originOffset == p.last {
			position = p.delivered() // with a gap behind it
		}
		want[p] = max(want[p], position)
	}
	s.mu.Unlock()
	return s.commit(ctx, want)
}

// CommitDelivered commits everything that Poll and Records have delivered so far. Otherwise it is as
// Commit.
func (s *Subscription) CommitDelivered(ctx context.Context) error {
	if s.closed() {
		return ErrClosed
	}
	return s.commitAt(ctx, (*subPartition).delivered)
}

// commitFinished commits what is finished.
func (s *Subscription) commitFinished(ctx context.Context) error {
	return s.commitAt(ctx, func(p *subPartition) int64 { return p.finished })
}

func (s *Subscription) commitAt(ctx context.Context, position func(*subPartition) int64) error {
	s.committing.Lock()
	defer s.committing.Unlock()
	want := map[*subPartition]int64{}
	s.mu.Lock()
	for _, p := range s.parts {
		want[p] = position(p)
	}
	s.mu.Unlock()
	return s.commit(ctx, want)
}

// commit makes one batch of the positions that move forward. The caller holds committing.
func (s *Subscription) commit(ctx context.Context, want map[*subPartition]int64) error {
	var batch checkpoint.Batch
	for p, offset := range want {
		if offset <= p.committed {
			delete(want, p)
			continue
		}
		key := s.key(p.part.id)
		value, err := group.Position{Offset: offset}.MarshalBinary()
		if err != nil {
			return err
		}
		batch.Expect(key, p.rev)
		batch.Put(key, value)
	}
	if len(want) == 0 {
		return nil
	}
	rev, err := s.t.b.store.Commit(ctx, &batch)
	if errors.Is(err, checkpoint.ErrConflict) && s.t.deleted.Load() {
		return fmt.Errorf("%w: %s was deleted", ErrTopicNotFound, s.t.name)
	}
	if err != nil {
		return fmt.Errorf("commit positions of group %s in %s: %w", s.group, s.t.name, storeError(err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, offset := range want {
		p.committed, p.rev = offset, rev
	}
	return nil
}

// Seek moves the reading in all partitions; committed positions stay until the next commit, and never move
// backwards. Records delivered before count as delivered no more, but can still be
// committed. ctx is only checked.
func (s *Subscription) Seek(ctx context.Context, to Position) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := to.check("position"); err != nil {
		return err
	}
	return s.move(func(p *subPartition) (int64, error) { return to.resolve(p.part.id, p.part.log) })
}

// Rewind moves the reading back to the committed positions, so that what was delivered but not
// committed is delivered again.
func (s *Subscription) Rewind() error {
	return s.move(func(p *subPartition) (int64, error) { return p.committed, nil })
}

// move sets the offset that each partition delivers next; all or none.
func (s *Subscription) move(to func(*subPartition) (int64, error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed() {
		return ErrClosed
	}
	offsets := make([]int64, len(s.parts))
	for i, p := range s.parts {
		var err error
		if offsets[i], err = to(p); err != nil {
			return logError(s.t.name, p.part.id, err)
		}
	}
	for i, p := range s.parts {
		p.seek(offsets[i])
		p.last = -1
	}
	s.current = nil
	select {
	case s.feed.wake <- struct{}{}: // a Poll that waits may now have something
	default:
	}
	return nil
}

// Committed returns the group's committed positions: for each partition the offset of the next record wanted.
func (s *Subscription) Committed() map[PartitionID]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[PartitionID]int64, len(s.parts))
	for _, p := range s.parts {
		out[p.part.id] = p.committed
	}
	return out
}
