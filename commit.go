package braid

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

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
	origins := make([]origin, len(recs))
	for i, rec := range recs {
		o, err := s.originOf(rec)
		if err != nil {
			return fmt.Errorf("%w: record %d of the call", err, i)
		}
		origins[i] = o
	}
	s.committing.Lock()
	defer s.committing.Unlock()
	return s.commit(ctx, s.behind(origins))
}

// origin is where a record was delivered.
type origin struct {
	part   *subPartition
	offset int64
}

// originOf returns where this subscription delivered a record.
func (s *Subscription) originOf(rec *Record) (origin, error) {
	if rec == nil || rec.origin == nil || rec.origin.sub != s {
		return origin{}, ErrNotDelivered
	}
	return origin{rec.origin.part, rec.originOffset}, nil
}

// behind returns the positions behind delivered records. The caller holds committing, and has no use for them afterwards.
func (s *Subscription) behind(origins []origin) map[*subPartition]int64 {
	if s.wanted == nil {
		s.wanted = map[*subPartition]int64{}
	}
	want := s.wanted
	clear(want)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range origins {
		position := o.offset + 1
		if o.offset == o.part.last {
			position = o.part.delivered() // with a gap behind it
		}
		want[o.part] = max(want[o.part], position)
	}
	return want
}

// CommitDelivered commits everything that Poll and Records have delivered so far. Otherwise it is as
// Commit.
func (s *Subscription) CommitDelivered(ctx context.Context) error {
	if s.closed() {
		return ErrClosed
	}
	return s.commitAt(ctx, (*subPartition).delivered)
}

// commitFinished commits what is finished. What has gone to others meanwhile is left out: they will be delivered it again.
func (s *Subscription) commitFinished(ctx context.Context) error {
	var lost []PartitionID
	for {
		err := s.commitAt(ctx, func(p *subPartition) int64 {
			if slices.Contains(lost, p.part.id) {
				return 0
			}
			return p.finished
		})
		var fenced *FencedError
		if !errors.As(err, &fenced) {
			return err
		}
		lost = append(lost, fenced.Partitions...)
	}
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
	if err := s.stage(want, &batch); err != nil || len(want) == 0 {
		return err
	}
	rev, err := s.t.b.store.Commit(ctx, &batch)
	if err == nil {
		s.moved(want, rev)
		return nil
	}
	if lost := s.commitError(err, want); lost != nil {
		return lost
	}
	return fmt.Errorf("commit positions of group %s in %s: %w", s.group, s.t.name, storeError(err))
}

// stage adds the positions that move forward to a batch, and takes the others out of want. Partitions that the subscription has
// no longer are a FencedError. The caller holds committing until it has called moved, or will not.
func (s *Subscription) stage(want map[*subPartition]int64, batch *checkpoint.Batch) error {
	var lost []PartitionID
	s.ancestors(want)
	for p, offset := range want {
		if offset <= p.committed {
			delete(want, p)
			continue
		}
		if p.gone {
			lost = append(lost, p.part.id)
			continue
		}
		s.scratch = group.AppendKey(s.scratch[:0], s.t.id, s.group, uint64(p.part.id))
		n := len(s.scratch)
		var err error
		if s.scratch, err = (group.Position{Offset: offset, Epoch: p.epoch}).AppendBinary(s.scratch); err != nil {
			return err
		}
		key, value := s.scratch[:n], s.scratch[n:]
		batch.Expect(key, p.rev)
		batch.Put(key, value)
	}
	if len(lost) > 0 {
		return s.fenced(lost)
	}
	return nil
}

// ancestors adds the ends of what the partitions in want continue: whoever is done with a record is done with all before it.
func (s *Subscription) ancestors(want map[*subPartition]int64) {
	if !hasParents(want) {
		return
	}
	seen := map[*subPartition]bool{}
	var add func(p *subPartition)
	add = func(p *subPartition) {
		for _, parent := range p.parents {
			q := parent.sub
			if seen[q] {
				continue
			}
			seen[q] = true
			if !q.finishes() {
				want[q] = q.end
			}
			add(q) // also of one that has no records: there may be some before it
		}
	}
	for p, offset := range maps.Clone(want) {
		if offset > p.committed {
			add(p)
		}
	}
}

func hasParents(want map[*subPartition]int64) bool {
	for p := range want {
		if len(p.parents) > 0 {
			return true
		}
	}
	return false
}

func (s *Subscription) fenced(lost []PartitionID) error {
	slices.Sort(lost)
	return &FencedError{Topic: s.t.name, Group: s.group, Partitions: lost}
}

// moved takes note of a commit that has happened.
func (s *Subscription) moved(want map[*subPartition]int64, rev checkpoint.Revision) {
	finished := false
	s.mu.Lock()
	for p, offset := range want {
		p.committed, p.rev = offset, rev
		finished = finished || p.finishes()
	}
	s.mu.Unlock()
	if finished {
		s.reportSealed()
	}
	s.t.b.backlog.changed()
}

// commitError gives an error of a commit the meaning that it has for this subscription's positions, or nil if it is about something else.
func (s *Subscription) commitError(err error, want map[*subPartition]int64) error {
	var conflict *checkpoint.ConflictError
	if !errors.As(err, &conflict) || !bytes.HasPrefix(conflict.Key, group.Prefix(s.t.id, s.group)) {
		return nil
	}
	if s.t.deleted.Load() {
		return fmt.Errorf("%w: %s was deleted", ErrTopicNotFound, s.t.name)
	}
	_, _, id, err := group.ParseKey(conflict.Key)
	if err != nil {
		return err
	}
	lost := []PartitionID{PartitionID(id)}
	for p := range want {
		if p.part.id == lost[0] {
			continue
		}
		if _, rev, err := s.t.b.store.Get(context.Background(), s.key(p.part.id)); err == nil && rev != p.rev {
			lost = append(lost, p.part.id)
		}
	}
	return s.fenced(lost)
}

// Seek moves the reading in all partitions; committed positions stay until the next commit, and never move
// backwards. Records delivered before count as delivered no more, but can still be
// committed. It goes back over splits and merges, but not into partitions that take no more records and that the group has committed to their ends by then: that
// takes a reset (Group.PlanReset). ctx is only checked.
func (s *Subscription) Seek(ctx context.Context, to Position) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := to.check("position"); err != nil {
		return err
	}
	if !s.closed() {
		s.reportSealed() // what is committed to its end by now is not gone back into
	}
	return s.move(func(p *subPartition) (int64, error) { return to.resolve(p.part.id, p.part.log) })
}

// Rewind moves the reading back to the committed positions, so that what was delivered but not
// committed is delivered again.
func (s *Subscription) Rewind() error {
	return s.move(func(p *subPartition) (int64, error) { return p.committed, nil })
}

// rewindTo moves the reading back to the first of some records in each partition that they are from.
func (s *Subscription) rewindTo(recs []*Record) error {
	first := map[*subPartition]int64{}
	for _, rec := range recs {
		o, err := s.originOf(rec)
		if err != nil {
			continue // the application has put something else in its place
		}
		if at, seen := first[o.part]; !seen || o.offset < at {
			first[o.part] = o.offset
		}
	}
	return s.move(func(p *subPartition) (int64, error) {
		if at, moves := first[p]; moves {
			return at, nil
		}
		return p.next, nil
	})
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
		if offsets[i] == p.next {
			continue
		}
		p.seek(offsets[i])
		p.last = -1
	}
	for _, p := range s.parts {
		p.through, p.run = false, 0
	}
	s.current = nil
	s.feed.nudge() // a Poll that waits may now have something
	return nil
}

// Committed returns the group's committed positions in the partitions that this member has: for each the offset of the next
// record wanted.
func (s *Subscription) Committed() map[PartitionID]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[PartitionID]int64, len(s.parts))
	for _, p := range s.parts {
		out[p.part.id] = p.committed
	}
	return out
}
