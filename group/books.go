package group

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/braid-go/braid/internal/sorting"
)

// books are what settling needs so that it costs as much as moves. They are kept while the partitions are Sticky's to divide and all are alike: each that is not
// finished may go to anybody, nobody is away, and nothing has been delivered to its end. Whatever may change that closes them.
//
// With them, a partition's target is its owner unless it is nobody's or its owner is asked to hand it over.
type books struct {
	partitions int // that are not finished
	members    int // that are active
	// shelves are the active members by how many partitions they own, on each by place.
	shelves map[int][]*member
	moved   []*member // those that may stand on the wrong one
	orphans []*part   // nobody's, by id
	asked   []*part   // whose owners are asked, by id
}

// openBooks begins to keep them, after everything has been looked at, if that is possible.
func (g *Group) openBooks() {
	if _, sticky := g.cfg.Assignor.(Sticky); !sticky {
		return
	}
	b := &books{shelves: map[int][]*member{}}
	for _, p := range g.parts {
		if p.finished {
			continue
		}
		if _, anybody := g.follower(p); !anybody || p.delivered {
			return
		}
		b.partitions++
		if p.owner == nil {
			b.orphans = append(b.orphans, p)
		}
		if p.asked() {
			b.asked = append(b.asked, p)
		}
	}
	for _, m := range g.members {
		if m.state == away {
			return
		}
	}
	g.books = b
	for _, m := range g.members {
		m.shelf, m.moved = -1, false
		g.move(m)
	}
}

// move notes that a member has become active, or is no longer, or owns more or fewer partitions.
func (g *Group) move(m *member) {
	if g.books != nil && !m.moved {
		m.moved = true
		g.books.moved = append(g.books.moved, m)
	}
}

// putInPlace puts the members that have moved where they belong.
func (b *books) putInPlace() {
	for _, m := range b.moved {
		m.moved = false
		if m.shelf >= 0 {
			at, _ := slices.BinarySearchFunc(b.shelves[m.shelf], m.place, byPlace)
			b.put(m.shelf, slices.Delete(b.shelves[m.shelf], at, at+1))
			m.shelf = -1
			b.members--
		}
		if m.state == active {
			m.shelf = len(m.owned)
			at, _ := slices.BinarySearchFunc(b.shelves[m.shelf], m.place, byPlace)
			b.put(m.shelf, slices.Insert(b.shelves[m.shelf], at, m))
			b.members++
		}
	}
	b.moved = b.moved[:0]
}

func (b *books) put(n int, shelf []*member) {
	if b.shelves[n] = shelf; len(shelf) == 0 {
		delete(b.shelves, n)
	}
}

// settleMoves does what Sticky and settleAll would do, and looks only at what moves.
func (g *Group) settleMoves(now time.Time) {
	b := g.books
	b.putInPlace()
	before := slices.Clone(b.asked)
	for _, p := range before {
		p.target = p.owner
	}
	if b.members == 0 {
		return // nobody owns anything
	}
	given, takers := b.uneven()
	moving := slices.Concat(b.orphans, given)
	slices.SortFunc(moving, func(p, q *part) int { return cmp.Compare(p.ID, q.ID) })
	next := 0
	for _, p := range moving {
		for takers[next].takes == 0 {
			next++
		}
		p.target = takers[next].member
		takers[next].takes--
	}
	for _, p := range append(before, given...) {
		g.askOrNot(p, now)
	}
	g.grant(moving)
}

type taker struct {
	*member
	takes int
}

// uneven returns what Sticky takes from members that have more than their share, and who gets it, by place. The shares are equal but for a rest of one each, which goes
// to those that have the most and are first.
func (b *books) uneven() (given []*part, takers []taker) {
	base, rest := b.partitions/b.members, b.partitions%b.members
	for _, has := range slices.Backward(slices.Sorted(maps.Keys(b.shelves))) {
		shelf := b.shelves[has]
		more := min(rest, len(shelf)) // so many of them have a share of base + 1
		rest -= more
		for i, part := range [][]*member{shelf[:more], shelf[more:]} {
			share := base + 1 - i
			if has == share {
				continue
			}
			for _, m := range part {
				if has > share {
					given = append(given, m.owned[share:]...)
				} else {
					takers = append(takers, taker{m, share - has})
				}
			}
		}
	}
	sorting.Func(takers, func(a, b taker) int { return cmp.Compare(a.place, b.place) })
	return given, takers
}

// mayBeNobodys returns partitions, by id, and among them all that are nobody's and should not be.
func (g *Group) mayBeNobodys() []*part {
	if g.books == nil {
		return g.parts
	}
	return slices.Clone(g.books.orphans)
}
