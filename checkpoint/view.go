package checkpoint

import (
	"context"
	"iter"
	"math"
)

// LoadOptions configures LoadWAL.
type LoadOptions struct {
	// ID is the broker's.
	ID [16]byte
	// WriterLive: another process may be writing the store. Then only commits that a later entry proves durable are shown.
	WriterLive bool
}

// View is a store as it was on disk at one moment. It is safe for concurrent use.
type View struct {
	state *state
	seq   Revision
}

// LoadWAL reads the store in a directory, without writing or repairing anything, also while another process
// writes it.
func LoadWAL(dir string, opts LoadOptions) (*View, error) {
	for {
		c, err := readCurrent(dir, opts.ID)
		if err != nil {
			return nil, err
		}
		g, err := scanGeneration(dir, c.generation, opts.ID, c.proven)
		if again, rerr := readCurrent(dir, opts.ID); rerr == nil && again != c {
			continue // a writer has changed generations: each time round there is a new one
		}
		if err != nil {
			return nil, err
		}
		through := uint64(math.MaxUint64)
		if opts.WriterLive {
			through = c.proven
			for _, e := range g.entries {
				through = max(through, e.synced)
			}
		}
		s, seq := replay(g, 0, through)
		return &View{state: s, seq: Revision(seq)}, nil
	}
}

// Sequence returns the sequence of the last commit in the view.
func (v *View) Sequence() Revision { return v.seq }

// Get is as Store.Get.
func (v *View) Get(ctx context.Context, key []byte) ([]byte, Revision, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	value, rev := v.state.get(key)
	return value, rev, nil
}

// Scan is as Store.Scan.
func (v *View) Scan(ctx context.Context, prefix []byte) iter.Seq2[Entry, error] {
	return sequence(ctx, v.state.entries(prefix), nil)
}
