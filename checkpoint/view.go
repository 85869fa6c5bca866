package checkpoint

import (
	"context"
	"fmt"
	"iter"
	"math"
	"slices"
)

// LoadOptions are the options of [LoadWAL].
type LoadOptions struct {
	// ID is the store's identity, as in WALOptions.
	ID [16]byte
	// WriterLive: somebody has the store open for writing. Then the view ends with the last
	// commit that something in the directory proves durable: what is behind it may be
	// only in memory yet. Otherwise it has everything that opening for writing would find.
	WriterLive bool
}

// View is a store as it was on disk at one moment. It has no resources to close, and is
// safe for concurrent use.
type View struct {
	state  *state
	torn   []TornTail
	frames map[uint64][][]byte
}

// maxReloads bounds how often a load begins again because the writer has changed generations meanwhile; each
// change takes the writer many commits.
const maxReloads = 100

// LoadWAL reads the store in a directory beside whoever may be writing it: it takes no
// lock and changes nothing. Errors: ErrCorrupt, ErrMissingData, ErrVersion, and the file system's.
func LoadWAL(dir string, opts LoadOptions) (*View, error) {
	var last error
	live := opts.WriterLive
	for range maxReloads {
		cur, err := readCurrent(dir, opts.ID)
		if err != nil {
			return nil, fmt.Errorf("load store %s: %w", dir, err)
		}
		v, err := loadListed(dir, cur, live)
		if err == nil {
			return v, nil
		}
		last = err
		// A writer that has listed other generations may have removed these.
		again, rerr := readCurrent(dir, opts.ID)
		if rerr == nil && slices.Equal(again.generations, cur.generations) {
			if live {
				break
			}
			live = true // Somebody may have begun to write. If not, reading again finds the same.
		}
	}
	return nil, fmt.Errorf("load store %s: %w", dir, last)
}

// loadListed reads what CURRENT lists. Beside a live writer it reads twice: first to
// learn what is proven durable, then what is. The bytes of the second reading were all there when
// it began, so damage in it is damage and no race.
func loadListed(dir string, cur *current, live bool) (*View, error) {
	through, proven := uint64(math.MaxUint64), cur.proven
	if live {
		gens, err := readGenerations(dir, cur)
		if err != nil {
			return nil, err
		}
		for _, g := range gens {
			proven = max(proven, g.proven())
		}
		through = proven
	}
	gens, err := readGenerations(dir, cur)
	if err != nil {
		return nil, err
	}
	r, err := recoverState(gens, proven, through)
	if err != nil {
		return nil, err
	}
	return r.view(), nil
}

func (r *recovered) view() *View { return &View{r.state.freeze(), r.torn, r.frames} }

// Frames returns the frames that commits have carried for an owner, in no particular order and some perhaps more than
// once. They must not be changed.
func (v *View) Frames(owner uint64) [][]byte { return v.frames[owner] }

// Sequence returns the last sequence number in the view.
func (v *View) Sequence() uint64 { return v.state.seq }

// Torn lists what opening for writing would set aside. Beside a live writer it is empty.
func (v *View) Torn() []TornTail { return slices.Clone(v.torn) }

// Get is as [Store].Get.
func (v *View) Get(ctx context.Context, key []byte) ([]byte, Revision, error) {
	return v.state.get(ctx, key)
}

// Scan is as [Store].Scan.
func (v *View) Scan(ctx context.Context, prefix []byte) iter.Seq2[Entry, error] {
	return scan(ctx, prefix, func() (*state, error) { return v.state, nil })
}
