package checkpoint

import (
	"bytes"
	"errors"
	"fmt"
	"math"
)

// TornTail is the end of a generation that nothing proves was durable, and that is
// not whole: what a crash leaves of a commit that was under way.
type TornTail struct {
	// Path is the file in which it is kept, "" for a [View].
	Path string
	// Generation, Offset and Length tell where it was.
	Generation     uint64
	Offset, Length int64
	// After is the last sequence number before it.
	After uint64
	// Reason tells what is wrong with it.
	Reason string
}

// recovered is what the listed generations amount to.
type recovered struct {
	state *state
	torn  []TornTail
	tails [][]byte // their bytes
	// proven is the highest sequence that something proves durable.
	proven uint64
	frames map[uint64][][]byte // by owner
	chain  *chain
	listed []uint64 // the generations that CURRENT lists
}

// place is where the entry after the last good one should have been.
type place struct {
	gen    *scanned
	at     int64
	reason error // nil: there is nothing there
}

// recoverState puts together what the scanned generations hold, in their order, through
// at most the given sequence. proven is what is known from elsewhere to be durable:
// less than that is an error.
func recoverState(gens []*scanned, proven, through uint64) (*recovered, error) {
	r := &recovered{state: &state{}, proven: proven}
	for _, g := range gens {
		r.proven = max(r.proven, g.proven())
	}
	r.proven = min(r.proven, through)
	chain, stop, err := follow(gens, through)
	if err != nil {
		return nil, err
	}
	last := chain.last
	if last < r.proven {
		return nil, stop.lost(last, r.proven)
	}
	if err := chain.replay(r.state); err != nil {
		return nil, err
	}
	r.chain, r.frames = chain, chain.frames()
	if through == math.MaxUint64 {
		r.setAside(chain, last)
	}
	return r, nil
}

// lost makes the error about a sequence that was durable and is not here.
func (p place) lost(last, proven uint64) error {
	if p.reason == nil {
		return &MissingDataError{p.gen.path, fmt.Sprintf("it ends at byte %d with sequence %d, but %d was durable", p.at, last, proven)}
	}
	length := int64(-1)
	if len(p.gen.behind) > 0 {
		length = p.gen.behind[0].at - p.at
	}
	return &CorruptError{p.gen.path, p.at, length, fmt.Sprintf("sequence %d was durable and is not here: %v", last+1, p.reason)}
}

// chain is an unbroken run of entries: for each generation how many of its entries, and how many of these repeat what earlier generations say.
type chain struct {
	gens     []*scanned
	kept     []int
	repeated []int
	last     uint64
}

// entries returns what a generation adds to the chain.
func (c *chain) entries(i int) []located { return c.gens[i].entries[c.repeated[i]:c.kept[i]] }

// follow walks the entries as long as sequences have no gap, and tells where that ends.
func follow(gens []*scanned, through uint64) (*chain, place, error) {
	c := &chain{gens: gens, kept: make([]int, len(gens)), repeated: make([]int, len(gens))}
	stop := place{gen: gens[0]}
	started := false
	for i, g := range gens {
		n, err := c.repeats(i)
		if err != nil {
			return nil, stop, err
		}
		fresh := g.entries[n:]
		if started && len(fresh) > 0 && fresh[0].first != c.last+1 {
			return c, stop, nil
		}
		c.repeated[i], c.kept[i] = n, n
		for _, e := range fresh {
			if started && e.first != c.last+1 {
				return nil, stop, &CorruptError{g.path, e.at, e.end - e.at, fmt.Sprintf("sequence %d follows %d", e.first, c.last)}
			}
			if e.last() > through {
				return c, stop, nil
			}
			c.last, started = e.last(), true
			c.kept[i]++
			stop = place{gen: g, at: e.end}
		}
		if i == 0 || g.damage != nil || len(g.entries) > 0 {
			stop = place{g, g.end, g.damage}
		}
		if !started {
			return c, stop, nil
		}
	}
	return c, stop, nil
}

// repeats counts the entries at the beginning of a generation that are in those before it: see WAL.secure.
func (c *chain) repeats(i int) (n int, err error) {
	g := c.gens[i]
	for ; i > 0 && n < len(g.entries) && g.entries[n].last() <= c.last; n++ {
		if !c.has(i, g.raw(g.entries[n])) {
			e := g.entries[n]
			return 0, &CorruptError{g.path, e.at, e.end - e.at, fmt.Sprintf("sequence %d again, and it is not what it was", e.first)}
		}
	}
	return n, nil
}

// has reports whether one of the first generations has an entry, but for its hash.
func (c *chain) has(generations int, raw []byte) bool {
	for j, g := range c.gens[:generations] {
		for _, e := range c.entries(j) {
			if same := g.raw(e); bytes.Equal(same[:hashAt], raw[:hashAt]) && bytes.Equal(same[headerBytes:], raw[headerBytes:]) {
				return true
			}
		}
	}
	return false
}

// replay makes the state that the chain's entries leave.
func (c *chain) replay(s *state) error {
	if err := c.loadSnapshot(s); err != nil {
		return err
	}
	for i := range c.gens {
		for _, e := range c.entries(i) {
			for j, commit := range e.commits {
				rev := Revision(e.first + uint64(j))
				err := eachWrite(commit, func(kind opKind, key, value []byte) {
					if kind == opPut {
						s.put(newItem(key, value, rev))
					} else {
						s.remove(key)
					}
				})
				if err != nil {
					return err
				}
			}
		}
	}
	s.seq = c.last
	return nil
}

// loadSnapshot loads the snapshot of the first generation, which must be complete. Those
// of later ones repeat what the entries before them say.
func (c *chain) loadSnapshot(s *state) error {
	g := c.gens[0]
	if c.kept[0] == 0 {
		return &MissingDataError{g.path, "it holds no entry"}
	}
	base := g.entries[0].first - 1
	var next uint32
	for _, e := range g.entries[:c.kept[0]] {
		for _, ch := range e.chunks {
			if ch.base != base || ch.index != next {
				return c.badSnapshot(e, fmt.Sprintf("chunk %d of the snapshot after sequence %d, expected chunk %d of %d", ch.index, ch.base, next, base))
			}
			next++
			newest := Revision(0)
			err := eachItem(ch.items, func(key, value []byte, rev Revision) {
				newest = max(newest, rev)
				s.put(newItem(key, value, rev))
			})
			if err != nil {
				return err
			}
			if uint64(newest) > base {
				return c.badSnapshot(e, fmt.Sprintf("a key of revision %d in the snapshot after sequence %d", newest, base))
			}
			if !ch.final {
				continue
			}
			if uint64(s.keys.n) != ch.total {
				return c.badSnapshot(e, fmt.Sprintf("the snapshot has %d keys, not %d", s.keys.n, ch.total))
			}
			return nil
		}
	}
	return &MissingDataError{g.path, fmt.Sprintf("the snapshot ends after chunk %d", next)}
}

func (c *chain) badSnapshot(e located, reason string) error {
	return &CorruptError{c.gens[0].path, e.at, e.end - e.at, reason}
}

// setAside notes what stands behind the chain.
func (r *recovered) setAside(c *chain, last uint64) {
	for i, g := range c.gens {
		at := int64(0)
		if n := c.kept[i]; n > 0 {
			at, last = g.entries[n-1].end, g.entries[n-1].last()
		}
		tail := bytes.TrimRight(g.data[at:], "\x00")
		if len(tail) == 0 {
			continue
		}
		reason := g.damage
		if reason == nil {
			reason = errors.New("entries before it are missing")
		}
		r.torn = append(r.torn, TornTail{Generation: g.number, Offset: at, Length: int64(len(tail)), After: last, Reason: reason.Error()})
		r.tails = append(r.tails, tail)
	}
}
