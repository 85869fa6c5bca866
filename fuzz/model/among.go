package model

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"time"

	"github.com/braid-go/braid"
)

// seen is something that a member has seen or done in a burst. The model hears of it afterwards, in the order in which it was noted, when it knows which records
// there are: a commit is noted before and after, so that what it leads to is noted in between.
type seen struct {
	s              *sub
	assigned, gone []braid.PartitionID
	recs           []*braid.Record
	begun          []*braid.Record // to be committed, with all before them
	all            bool            // everything delivered is
	done           bool            // what was begun
}

// consume has a member poll and commit.
func (b *bursting) consume(rng *rand.Rand, s *sub, n int) error {
	for range n {
		recs, err := b.poll(s, 1+rng.IntN(20))
		if err != nil {
			return err
		}
		switch {
		case rng.IntN(3) == 0:
			err = b.commit(seen{s: s, all: true}, func() error { return s.CommitDelivered(context.Background()) })
		case len(recs) > 0 && rng.IntN(2) == 0:
			rec := recs[rng.IntN(len(recs))]
			err = b.commit(seen{s: s, begun: []*braid.Record{rec}}, func() error { return s.Commit(context.Background(), rec) })
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// poll has a member poll.
func (b *bursting) poll(s *sub, most int) ([]*braid.Record, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
	defer cancel()
	recs, err := s.Poll(ctx, most)
	if s.err != nil {
		return nil, s.err
	}
	if err != nil && (ctx.Err() == nil || !errors.Is(err, ctx.Err())) {
		return nil, fmt.Errorf("poll in a burst: %w", err)
	}
	// Who has seen a record has it acknowledged.
	b.ack(append(stored(recs), acknowledged{seen: &seen{s: s, recs: recs}})...)
	return recs, nil
}

// commit carries out a commit.
func (b *bursting) commit(what seen, do func() error) error {
	b.ack(acknowledged{seen: &what})
	if err := do(); err != nil {
		return fmt.Errorf("commit in a burst: %w", err)
	}
	b.ack(acknowledged{seen: &seen{s: what.s, done: true}})
	return nil
}

// revoked has a member commit in OnRevoked, or not, and lose partitions.
func (b *bursting) revoked(s *sub, ids []braid.PartitionID, commits bool) {
	if commits && s.err == nil {
		s.err = b.commit(seen{s: s, all: true}, func() error { return s.CommitDelivered(context.Background()) })
	}
	b.ack(acknowledged{seen: &seen{s: s, gone: ids}})
}

// replay tells the model what members have seen and done.
func (b *bursting) replay(what *seen) error {
	m := what.s.member
	m.assigned(what.assigned)
	m.gone(what.gone)
	for _, rec := range what.recs {
		if err := m.delivered(rec); err != nil {
			return err
		}
	}
	if what.all || what.begun != nil {
		m.pending = m.wants(what)
		for id, at := range m.pending {
			m.g.begun[id] = max(m.g.begun[id], at)
		}
	}
	if what.done {
		for id, at := range m.pending {
			m.g.at[id] = max(m.g.at[id], at)
		}
	}
	return nil
}

// wants returns the positions that a commit leads to: behind what is to be committed, and behind all that it continues.
func (m *member) wants(what *seen) map[braid.PartitionID]int64 {
	want := map[braid.PartitionID]int64{}
	for _, rec := range what.begun {
		want[rec.Partition] = rec.Offset + 1
	}
	if what.all {
		for id, r := range m.readers {
			want[id] = r.next
		}
	}
	var before func(id braid.PartitionID)
	before = func(id braid.PartitionID) {
		if p := m.g.t.parts[id]; p != nil {
			for _, parent := range p.parents {
				if of := m.g.t.parts[parent]; of != nil {
					want[parent] = of.end
					before(parent)
				}
			}
		}
	}
	for id, at := range maps.Clone(want) {
		if at > m.g.at[id] {
			before(id)
		} else {
			delete(want, id)
		}
	}
	return want
}

// heard tells the model all that members have seen and done before the first so many acknowledgements. Commits that were begun and of which the outcome is open have happened
// or not: it asks the broker.
func (b *bursting) heard(acked int) error {
	groups := map[*group]bool{}
	for _, a := range b.acked {
		if a.seen != nil {
			groups[a.seen.s.g] = true
			a.seen.s.g.begun = map[braid.PartitionID]int64{}
		}
	}
	for i, a := range b.acked {
		if a.seen == nil {
			continue
		}
		if i < acked {
			if err := b.replay(a.seen); err != nil {
				return fmt.Errorf("in a burst: %w", err)
			}
			continue
		}
		b.perhaps(a.seen)
	}
	for g := range groups {
		if acked < len(b.acked) {
			if err := b.between(g); err != nil {
				return err
			}
		}
		g.begun = nil
	}
	return nil
}

// perhaps tells the model of what may have happened before a crash or after it.
func (b *bursting) perhaps(what *seen) {
	m := what.s.member
	m.assigned(what.assigned)
	for _, rec := range what.recs {
		if r := m.readers[rec.Partition]; r != nil {
			r.next = rec.Offset + 1
		}
	}
	if what.all || what.begun != nil {
		for id, at := range m.wants(what) {
			m.g.begun[id] = max(m.g.begun[id], at)
		}
	}
}

// between takes over a group's positions after a crash: at least what was acknowledged, and at most what was begun.
func (b *bursting) between(g *group) error {
	positions, err := b.w.positions(g)
	if err != nil {
		return err
	}
	for id, at := range positions {
		if at < g.at[id] || at > max(g.at[id], g.begun[id]) {
			return fmt.Errorf("group %s of %s is at %d in partition %d, want from %d to %d", g.name, g.t.name, at, id, g.at[id], g.begun[id])
		}
		if at > g.at[id] {
			g.at[id] = at
			b.w.s.total.add("in a crash, positions of which the outcome was open", 1)
		}
	}
	return nil
}
