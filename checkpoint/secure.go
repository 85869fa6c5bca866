package checkpoint

import (
	"encoding/binary"
	"errors"
	"slices"
)

// secure makes durable what was found before anything builds upon it. What a killed process has written last, or a failed sync has left, may be in memory
// only. If frames of it were brought to where they belong, and the power failed then, they would be there and the
// commit that they are a part of would not.
//
// So the entries that nothing proves durable are written once more, as they are, to a generation that is listed behind the others. It is listed first, since one that
// is not and has commits is a sign of an old CURRENT; then they are written and synced; then CURRENT says that they are durable. A crash
// before that leaves any part of the copies: they repeat entries, or, where these are gone, stand for them.
func (w *WAL) secure(r *recovered) error {
	loose := r.chain.loose(r.proven)
	if len(loose) == 0 {
		return nil
	}
	number, err := w.clear(r)
	if err != nil {
		return err
	}
	g, err := createGeneration(w.dir, number, &w.opts)
	if err != nil {
		return err
	}
	cur := &current{id: w.opts.ID, proven: r.proven, generations: append(r.needed(), number)}
	if err = writeCurrent(w.dir, cur, &w.opts); err == nil {
		err = g.repeat(loose)
	}
	if err = errors.Join(err, g.close()); err != nil {
		return err
	}
	r.listed, cur.proven = cur.generations, r.state.seq
	return writeCurrent(w.dir, cur, &w.opts)
}

// needed returns the listed generations without those at the end that add nothing: so they do not become ever more if opening is cut short again and again.
func (r *recovered) needed() []uint64 {
	n := len(r.listed)
	for n > 1 && len(r.chain.entries(n-1)) == 0 {
		n--
	}
	return slices.Clone(r.listed[:n])
}

// loose returns the encodings of the entries behind what is proven durable, if any of them changes something.
func (c *chain) loose(proven uint64) (raw [][]byte) {
	changes := false
	for i, g := range c.gens {
		for _, e := range c.entries(i) {
			if e.last() > proven {
				raw = append(raw, g.raw(e))
				changes = changes || len(e.commits)+len(e.frames) > 0
			}
		}
	}
	if !changes {
		return nil
	}
	return raw
}

// repeat writes entries of another generation, durably.
func (g *generation) repeat(entries [][]byte) error {
	for _, raw := range entries {
		entry := slices.Clone(raw)
		binary.LittleEndian.PutUint64(entry[hashAt:], hashOf(g.salt, entry))
		if err := g.room(len(entry)); err != nil {
			return err
		}
		if err := g.opts.step("append copy"); err != nil {
			return err
		}
		if err := g.append(entry); err != nil {
			return err
		}
	}
	if err := g.opts.step("sync copy"); err != nil {
		return err
	}
	return g.trim()
}
