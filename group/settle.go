package group

import (
	"slices"
	"time"
)

// Settle divides the partitions among the members as they are now, if anything has changed since the last time: joins and leaves that
// arrive together are settled together. Partitions that are nobody's go to their new owners at once; of the others the owners
// are asked. With Sticky, as long as any partition may go to anybody, it costs as much as is on the move, however much there is; else everything
// is looked at.
func (g *Group) Settle(now time.Time) {
	if !g.dirty {
		return
	}
	g.dirty = false
	g.generation++
	if g.books != nil {
		g.settleMoves(now)
		return
	}
	g.settleAll(now)
	g.openBooks()
}

func (g *Group) settleAll(now time.Time) {
	free := g.fixed()
	members := make([]Member, 0, len(g.members))
	load := make([]int, 0, len(g.members))
	for _, m := range g.members {
		if m.state == active {
			members = append(members, m.handle)
			load = append(load, m.load)
		}
	}
	if len(members) > 0 {
		current := make([]Member, len(free))
		for i, p := range free {
			if p.owner != nil && p.owner.state == active {
				current[i] = p.owner.handle
			}
		}
		for i, to := range g.cfg.Assignor.Assign(members, load, current) {
			free[i].target = g.byHandle[to]
		}
	}
	for _, p := range g.parts {
		if p.owner != nil && p.owner.state == away && p.owner != p.target && !p.asked() {
			g.free(p) // nobody is there to be asked
		}
		g.askOrNot(p, now)
	}
	g.grant(g.parts)
}

// askOrNot has a partition's owner be asked to hand it over if it is to be another's, and only then.
func (g *Group) askOrNot(p *part, now time.Time) {
	switch {
	case p.owner == nil || p.asked() == (p.owner != p.target):
	case p.asked():
		g.unask(p)
		g.tell(p.owner)
	default:
		g.ask(p, now.Add(g.cfg.RebalanceTimeout))
		g.tell(p.owner)
	}
}

// fixed gives the partitions about which there is no choice their targets, counts them as their members' load, and returns the others.
//
// The reading order: a partition may be given to anybody when all its parents are finished. As long as some are not, it may only
// go to the member that was delivered all of each of these, and only while that member has them: what comes after is then
// processed after what came before by the same member, and its commit finishes the parents in the same step.
func (g *Group) fixed() (free []*part) {
	for _, m := range g.members {
		m.load = 0
	}
	for _, p := range g.parts { // parents come first
		p.target = nil
		if p.finished {
			continue
		}
		switch m, anybody := g.follower(p); {
		case anybody && p.owner != nil && (p.owner.state == away || p.delivered && p.owner.state == active):
			p.target = p.owner // it waits for its owner; or its owner is about to finish it, and may have gone on to what follows
			p.owner.load++
		case anybody:
			free = append(free, p)
		case m != nil:
			p.target = m
			m.load++
		}
	}
	return free
}

// follower returns who may read a partition: anybody, one member, or nobody yet.
func (g *Group) follower(p *part) (m *member, anybody bool) {
	for _, id := range p.Parents {
		parent := g.byID[id]
		switch {
		case parent == nil || parent.finished:
		case !parent.delivered || parent.owner == nil || parent.owner != parent.target || m != nil && m != parent.owner:
			return nil, false
		default:
			m = parent.owner
		}
	}
	return m, m == nil
}

// grant gives those of some partitions, by id, that are nobody's to the members that should have them. One that is continued by others, which somebody reads
// because it was delivered all of it, waits until they have been handed over too: what comes after must not be committed
// by one who is not sure to have finished what came before.
func (g *Group) grant(parts []*part) {
	for _, p := range parts {
		if p.owner != nil || p.target == nil || p.target.state != active {
			continue
		}
		if _, anybody := g.follower(p); !anybody && !g.follows(p) {
			continue // what it follows has been taken away meanwhile
		}
		if !ahead(p) {
			g.give(p, p.target)
		}
	}
}

// ahead reports whether somebody reads what continues a partition.
func ahead(p *part) bool {
	return slices.ContainsFunc(p.children, func(c *part) bool { return c.owner != nil || !c.finished && ahead(c) })
}

// follows reports whether a partition's target is the member that may read it.
func (g *Group) follows(p *part) bool {
	m, _ := g.follower(p)
	return m != nil && m == p.target
}
