package history

import (
	"cmp"
	"maps"
	"slices"
)

// groups follows the groups through a history.
type groups struct {
	c     *checker
	parts map[share]*progress
	// first is, for a group and a key, how far in the key's chain it has been delivered.
	first map[chain]*record
	// floors are, for a member, the positions that were committed when it was assigned the partition.
	floors map[seat]int64
}

// share is a group in a partition.
type share struct {
	group     Group
	partition uint64
}

// seat is a member with a partition.
type seat struct {
	share
	client uint32
}

type chain struct {
	group Group
	key   uint64
}

// progress is how far a group is in a partition.
type progress struct {
	delivered []bool // the stored records, by index
	highest   int64  // offset of a record delivered, or -1
	passed    int    // how many of the stored records are behind a position
	committed int64  // by commits that have ended, outside of transactions
	moved     int64  // by transactions
	seen      int64  // the highest position that a member was assigned it at
	top       int64  // the highest position that anybody tried to commit
	topCommit *commit
	owner     uint32 // who was assigned the partition last
	told      Seq    // when
	owned     Seq    // the same, but 0 if it has it no longer, or perhaps not
}

// acked is the position that the group has at least.
func (p *progress) acked() int64 { return max(p.committed, p.moved, p.seen) }

func newGroups(c *checker) *groups {
	return &groups{c: c, parts: map[share]*progress{}, first: map[chain]*record{}, floors: map[seat]int64{}}
}

func (g *groups) of(group Group, partition uint64) *progress {
	s := share{group, partition}
	p := g.parts[s]
	if p == nil {
		p = &progress{highest: -1, delivered: make([]bool, len(g.c.final.Records[partition]))}
		g.parts[s] = p
	}
	return p
}

// check follows all events, and looks at the positions in the end.
func (g *groups) check() {
	for i := range g.c.events {
		g.event(&g.c.events[i])
	}
	for group, positions := range g.c.final.Positions {
		for partition := range positions {
			g.of(group, partition)
		}
	}
	for _, s := range g.shares() {
		p := g.parts[s]
		positions, judged := g.c.final.Positions[s.group]
		if !judged {
			continue
		}
		at := positions[s.partition]
		if floor := max(p.committed, p.seen); at < floor {
			g.c.find(Backwards, "group %d is at %v in the end, and had been at %d", s.group, Place{s.partition, at}, floor)
		}
		g.seen(s, p, at)
	}
}

// shares lists what groups have read, in an order that does not change from one Check to the next.
func (g *groups) shares() []share {
	return slices.SortedFunc(maps.Keys(g.parts), func(x, y share) int {
		return cmp.Or(cmp.Compare(x.group, y.group), cmp.Compare(x.partition, y.partition))
	})
}

func (g *groups) event(e *Event) {
	switch e.Kind {
	case Delivered:
		g.deliver(e)
	case Assigned:
		g.assign(e)
	case Released:
		if p := g.of(e.Group, e.Place.Partition); p.owner == e.Client {
			p.owned = 0
		}
	case Sought, Crash, Reopened: // a member's floors are of one assignment; nobody has anything after a reopening
		g.forget(e)
	case Commit:
		if m := g.c.commits[e.Seq]; m.txn == nil {
			g.begin(m, e.Seq)
		}
	case Committing:
		if t := g.c.txns[e.Op]; t != nil {
			for _, m := range t.positions {
				g.begin(m, e.Seq)
			}
		}
	case Ended:
		if m := g.c.commits[e.Op]; m != nil {
			g.end(m)
		} else if t := g.c.txns[e.Op]; t != nil {
			for _, m := range t.positions {
				g.end(m)
			}
		}
	}
}

// assign takes note of a partition's new owner. If another member was told the same while the Poll was under way, nobody can say which of
// the two took it over first, and which has lost it again without knowing.
func (g *groups) assign(e *Event) {
	s := share{e.Group, e.Place.Partition}
	p := g.of(s.group, s.partition)
	seat := seat{s, e.Client}
	unclear := p.owner != e.Client && p.told > e.Op
	p.owner, p.told = e.Client, e.Seq
	if unclear {
		p.owned = 0
		delete(g.floors, seat)
	} else {
		p.owned = e.Seq
		g.floors[seat] = p.acked()
		if e.Place.Offset < p.acked() {
			g.c.find(Backwards, "client %d was assigned %v of group %d (#%d), which had been at %d", e.Client, e.Place, e.Group, e.Seq, p.acked())
		}
	}
	g.seen(s, p, e.Place.Offset)
}

// forget ends what was known of a member, or of all of them.
func (g *groups) forget(e *Event) {
	if e.Kind != Sought {
		clear(g.floors)
		for _, p := range g.parts {
			p.owned = 0
		}
		return
	}
	for s := range g.parts {
		if s.group == e.Group {
			delete(g.floors, seat{s, e.Client})
		}
	}
}

// deliver looks at a record that a member was given.
func (g *groups) deliver(e *Event) {
	p := g.of(e.Group, e.Place.Partition)
	if p.owned != 0 && p.owned <= e.Op && p.owner != e.Client {
		g.c.find(TwoOwners, "client %d was delivered %v of group %d (#%d) by a poll begun after #%d, when client %d had been assigned the partition (#%d)",
			e.Client, e.Place, e.Group, e.Seq, e.Op, p.owner, p.owned)
	}
	if floor := g.floors[seat{share{e.Group, e.Place.Partition}, e.Client}]; e.Place.Offset < floor {
		g.c.find(Backwards, "client %d was delivered %v of group %d (#%d), which was at %d when it was assigned the partition",
			e.Client, e.Place, e.Group, e.Seq, floor)
	}
	p.highest = max(p.highest, e.Place.Offset)
	s, is := g.c.at[e.Place]
	if !is || p.delivered[s.index] {
		return
	}
	if s.rec != nil && s.rec.ID != e.Record.ID && e.Seq < g.c.forgiven {
		return // what was there has been taken back by a power cut
	}
	p.delivered[s.index] = true
	r := s.rec
	if r == nil || r.Key == 0 || r.stored > 1 || r.home != e.Place {
		return
	}
	in := chain{e.Group, r.Key}
	if before := g.first[in]; before != nil && before.chain > r.chain {
		g.c.find(Reordered, "group %d was delivered %s from %v (#%d) only after %s, which is stored behind it at %v", e.Group, r, e.Place, e.Seq, before, before.home)
		return
	}
	g.first[in] = r
}

// begin looks at a commit that begins.
func (g *groups) begin(m *commit, at Seq) {
	if m.outcome == Refused {
		return
	}
	s := share{m.group, m.position.Partition}
	p := g.of(s.group, s.partition)
	m.stale = p.owned != 0 && p.owned < at && p.owner != m.client
	switch {
	case m.position.Offset > p.top:
		p.top, p.topCommit = m.position.Offset, m
	case m.position.Offset == p.top:
		p.topCommit = nil
	}
	if m.outcome == OK {
		g.pass(s, p, m.position.Offset)
	}
}

// end takes note of a commit that has ended.
func (g *groups) end(m *commit) {
	if m.outcome != OK {
		return
	}
	p := g.of(m.group, m.position.Partition)
	if m.stale && p.topCommit == m {
		g.c.find(TwoOwners, "client %d moved group %d to %v by a commit begun (#%d) when client %d had been assigned the partition",
			m.client, m.group, m.position, m.op, p.owner)
	}
	if m.txn != nil {
		p.moved = max(p.moved, m.position.Offset)
	} else {
		p.committed = max(p.committed, m.position.Offset)
	}
}

// seen takes note of a position that the group has.
func (g *groups) seen(s share, p *progress, at int64) {
	if at > p.top {
		g.c.find(Beyond, "group %d is at %v, and nobody tried to commit more than %d", s.group, Place{s.partition, at}, p.top)
		p.top = at
		return // what it skips is of no further interest
	}
	p.seen = max(p.seen, at)
	g.pass(s, p, at)
}

// pass looks at the records that a position goes over.
func (g *groups) pass(s share, p *progress, position int64) {
	reads := g.c.final.Records[s.partition]
	for ; p.passed < len(reads) && reads[p.passed].Offset < position; p.passed++ {
		if p.delivered[p.passed] {
			continue
		}
		here := Place{s.partition, reads[p.passed].Offset}
		if here.Offset > p.highest {
			g.c.find(Beyond, "group %d is at %d, over %v, and had been delivered records up to %d", s.group, position, here, p.highest)
		} else {
			g.c.find(Skipped, "group %d is at %d, over %v, which no member was delivered", s.group, position, here)
		}
	}
}
