package model

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/braid-go/braid"
)

// How long a member waits for records that there may be, and for those that there are.
const (
	short = time.Millisecond
	long  = 15 * time.Second
)

// join makes a member.
func join(w *world, c command) error {
	t, err := w.handle(c.topic())
	if err != nil {
		return err
	}
	sl := slots[c.slot]
	g := w.topics[sl.topic].group(sl.group)
	s := &sub{member: newMember(g)}
	opts := braid.SubscribeOptions{
		OnAssigned: func(ids []braid.PartitionID) {
			if s.in != nil {
				s.in.ack(acknowledged{seen: &seen{s: s, assigned: ids}})
				return
			}
			s.assigned(ids)
		},
		OnRevoked: func(ids []braid.PartitionID) {
			if s.in != nil {
				s.in.revoked(s, ids, sl.commits)
				return
			}
			if sl.commits && s.err == nil {
				s.err = w.commitRevoked(s)
			}
			s.gone(ids)
		},
		OnLost: func(ids []braid.PartitionID) {
			if s.in != nil {
				s.in.ack(acknowledged{seen: &seen{s: s, gone: ids}})
				return
			}
			s.gone(ids)
		},
		// Retention may have passed the group. What was lost otherwise is found missing.
		OnGap: func(gap braid.Gap) bool { return g.t.loses && errors.Is(gap.Err, braid.ErrOffsetOutOfRange) },
	}
	if sl.latest {
		opts.From = braid.FromLatest()
	}
	if s.Subscription, err = t.Subscribe(context.Background(), sl.group, opts); err != nil {
		return err
	}
	w.subs[c.slot] = s
	if !g.exists {
		g.exists = true
		for id, p := range g.t.parts {
			g.at[id] = p.start
			if sl.latest {
				g.at[id] = p.end
			}
		}
	}
	w.count(g)
	return nil
}

// count finds out who is alone in a group.
func (w *world) count(g *group) {
	var in []*sub
	for _, s := range w.subs {
		if s != nil && s.g == g {
			in = append(in, s)
		}
	}
	for _, s := range in {
		s.alone = len(in) == 1
	}
}

// commitRevoked commits what a member was delivered when partitions are about to be taken from it.
func (w *world) commitRevoked(s *sub) error {
	if err := s.CommitDelivered(context.Background()); err != nil {
		return fmt.Errorf("commit in OnRevoked: %w", err)
	}
	return w.committedDelivered(s)
}

// committedDelivered compares the positions after all was committed that a member was delivered of what it has.
func (w *world) committedDelivered(s *sub) error {
	positions, err := w.positions(s.g)
	if err != nil {
		return err
	}
	var all []delivery
	for _, d := range s.got {
		if r := s.readers[d.rec.Partition]; r == d.reader && d.rec.Offset < r.next && d.rec.Offset >= s.g.at[d.rec.Partition] {
			all = append(all, d)
		}
	}
	return s.committed(all, positions)
}

// leave ends a membership.
func leave(w *world, c command) error {
	s := w.subs[c.slot]
	w.subs[c.slot] = nil
	w.count(s.g)
	return s.Close()
}

// poll polls once. A member that is alone gets something if there is anything.
func poll(w *world, c command) error {
	s := w.subs[c.slot]
	wait := short
	if s.alone && s.waiting() > 0 {
		wait = long
	}
	_, err := w.poll(s, 1+c.n*c.n, wait)
	return err
}

// poll polls, and returns how many records have come.
func (w *world) poll(s *sub, most int, wait time.Duration) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	recs, err := s.Poll(ctx, most)
	switch {
	case s.err != nil:
		return 0, s.err
	case err != nil && (ctx.Err() == nil || !errors.Is(err, ctx.Err())):
		return 0, fmt.Errorf("poll: %w", err)
	case err != nil && wait == long:
		return 0, fmt.Errorf("poll delivers nothing, and there are %d records for the member", s.waiting())
	case len(recs) > most || err == nil && len(recs) == 0:
		return 0, fmt.Errorf("poll of up to %d delivers %d records", most, len(recs))
	}
	for _, rec := range recs {
		w.note("  delivered %q of key %q, %d of partition %d", head(string(rec.Value)), rec.Key, rec.Offset, rec.Partition)
		if err := s.delivered(rec); err != nil {
			return 0, err
		}
	}
	return len(recs), nil
}

// commit commits some of what a member was delivered, or all of it.
func commit(w *world, c command) error {
	s, rng := w.subs[c.slot], c.random()
	if rng.IntN(3) == 0 {
		if err := s.CommitDelivered(context.Background()); err != nil {
			return err
		}
		return w.committedDelivered(s)
	}
	var some []delivery
	var recs []*braid.Record
	for range min(c.n, len(s.got)) {
		d := s.got[rng.IntN(len(s.got))]
		some, recs = append(some, d), append(recs, d.rec)
	}
	return w.commit(s, some, s.Commit(context.Background(), recs...))
}

// commit judges a commit of deliveries.
func (w *world) commit(s *sub, some []delivery, err error) error {
	if errors.Is(err, braid.ErrFenced) {
		if !s.stale(some) {
			return fmt.Errorf("commit of%s, which the member has: %w", list(some), err)
		}
		return nil // nothing has happened, as comparing shows
	}
	if err != nil {
		return fmt.Errorf("commit of%s: %w", list(some), err)
	}
	positions, err := w.positions(s.g)
	if err != nil {
		return err
	}
	w.note("  committed%s: %v", list(some), positions)
	if err := s.committed(some, positions); err != nil {
		return err
	}
	s.got = slices.DeleteFunc(s.got, func(d delivery) bool { return d.rec.Offset < s.g.at[d.rec.Partition] })
	return nil
}

// commitForeign commits a record that was never delivered to the member.
func commitForeign(w *world, c command) error {
	rec := w.record(c.random(), 0)
	return expect("commit of a record that was not delivered", w.subs[c.slot].Commit(context.Background(), rec), braid.ErrNotDelivered)
}

// rewind moves the reading back to what is committed.
func rewind(w *world, c command) error {
	s := w.subs[c.slot]
	if err := s.Rewind(); err != nil {
		return err
	}
	s.rewind(func(id braid.PartitionID) int64 { return s.g.at[id] })
	return nil
}

// seek moves the reading back to the beginning.
func seek(w *world, c command) error {
	s := w.subs[c.slot]
	has := s.Assigned()
	if slices.ContainsFunc(has, func(id braid.PartitionID) bool { return s.readers[id] == nil }) {
		return nil // it has not been told yet, and others may still have it back
	}
	through := map[braid.PartitionID]bool{}
	for id := range s.readers {
		if through[id] = s.through(id); !through[id] && !slices.Contains(has, id) {
			return fmt.Errorf("a member of group %s of %s has partition %d no longer, was not told so, and is not through with it", s.g.name, s.g.t.name, id)
		}
	}
	if err := s.Seek(context.Background(), braid.FromEarliest()); err != nil {
		return err
	}
	s.rewind(func(id braid.PartitionID) int64 {
		if through[id] {
			return s.readers[id].next
		}
		return s.g.t.parts[id].start
	})
	return nil
}

// drain has the members of a group read and commit everything.
func drain(w *world, c command) error {
	g := w.subs[c.slot].g
	for began := time.Now(); g.left() > 0; {
		if time.Since(began) > long {
			return fmt.Errorf("group %s of %s does not come to the end, and %d records are left: %s", g.name, g.t.name, g.left(), w.stuck(g))
		}
		for _, s := range w.subs {
			if s == nil || s.g != g {
				continue
			}
			if _, err := w.poll(s, 1000, short); err != nil {
				return err
			}
			if err := s.CommitDelivered(context.Background()); err != nil {
				return err
			}
			if err := w.committedDelivered(s); err != nil {
				return err
			}
		}
	}
	return nil
}

// stuck describes where a group is, and who has what.
func (w *world) stuck(g *group) string {
	var s strings.Builder
	for _, id := range slices.Sorted(maps.Keys(g.t.parts)) {
		if p := g.t.parts[id]; g.at[id] < p.end || !p.sealed {
			fmt.Fprintf(&s, "partition %d, sealed %v, continues %v, at %d of %d; ", id, p.sealed, p.parents, g.at[id], p.end)
		}
	}
	for i, m := range w.subs {
		if m != nil && m.g == g {
			fmt.Fprintf(&s, "member %d has %v; ", i, m.Assigned())
		}
	}
	return s.String()
}
