package checkpoint

import "context"

// MaxCarriedBytes bounds the frames of one commit, those of all logs together.
const MaxCarriedBytes = 64 << 20

// Frames are encoded frames that the commit log carries for somebody else's log.
type Frames struct {
	Owner uint64 // whose they are
	Data  []byte
}

// Carrier makes the frames that go into the commit log with a commit. The committer calls it, so it must be
// quick and must not wait for anything that waits for a commit.
type Carrier interface {
	// Bound returns the most bytes that the frames can have together. Space is made sure of before Prepare.
	Bound() int
	// Prepare appends the frames to dst. It is called when the expectations of the commit hold and nothing but a failing
	// disk can keep it from happening any more, in the order in which commits take effect; so what has an order of its own, as offsets
	// have, is decided in it. seq is the commit's sequence number, or, of frames without a commit, of the entry's last commit. After an error the
	// commit fails with it, and nothing of it happens. The frames must not change until Commit returns.
	Prepare(seq uint64, dst []Frames) ([]Frames, error)
	// Durable is called when the frames are, before anybody is told of it, in the order of Prepare. It is not called after a failure.
	Durable()
}

// CommitFrames is Commit with frames that are durable with the batch, in the same entry: all of it or nothing. A nil batch has frames only
// and takes no revision. Errors are Commit's, and those of c.Prepare.
//
// What the frames are for is the caller's: WALOptions.Redo is given those that a store holds when it is opened, and
// WALOptions.Settle says when they are not needed any more.
func (w *WAL) CommitFrames(ctx context.Context, b *Batch, c Carrier) (Revision, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if n := c.Bound(); n > MaxCarriedBytes {
		return 0, &LimitError{"bytes of frames", int64(n), MaxCarriedBytes}
	}
	if b != nil {
		if err := b.check(); err != nil {
			return 0, err
		}
	}
	return w.do(b, c)
}

// Busy reports whether commits are waiting or being written: whoever has something to sync shares their sync by
// committing it now.
func (w *WAL) Busy() bool { return w.waiting.Load() > 0 || w.working.Load() }

// Crowded reports whether the log has grown so far beyond its size that frames had better be made durable elsewhere until a
// generation has been dropped, and whether it has failed.
func (w *WAL) Crowded() bool { return w.crowded.Load() }

// bound is the most bytes that a request adds to an entry.
func (r *request) bound() int {
	n := 0
	if r.batch != nil {
		n += sectionBytes + len(r.batch.buf) + len(r.batch.ops)*maxOpHead
	}
	if r.carrier != nil {
		n += r.carried + maxCarriedHeads
	}
	return n
}

const (
	maxOpHead       = 1 + 2*5 // kind and two lengths
	framesHead      = 8       // owner
	maxCarriedHeads = 1 << 10 // of the sections of a commit's frames: see Carrier.Bound
)

// prepare has a request's frames made and adds them to the entry.
func (w *WAL) prepare(r *request, seq uint64) error {
	frames, err := r.carrier.Prepare(seq, w.frames[:0])
	if err != nil {
		return err
	}
	for _, f := range frames {
		w.enc.frames(f)
	}
	clear(frames)
	w.frames = frames[:0]
	return nil
}

// kept is a Carrier of frames that are in the log already.
type kept []Frames

func (k kept) Bound() (n int) {
	for _, f := range k {
		n += len(f.Data) + sectionBytes + framesHead
	}
	return n
}

func (k kept) Prepare(_ uint64, dst []Frames) ([]Frames, error) { return append(dst, k...), nil }
func (k kept) Durable()                                         {}

// framesOf returns the frames of some owners that a generation holds.
func framesOf(dir string, number uint64, id [16]byte, owners []uint64) (kept, error) {
	g, err := readGeneration(dir, number, id)
	if err != nil {
		return nil, err
	}
	wanted := make(map[uint64]bool, len(owners))
	for _, o := range owners {
		wanted[o] = true
	}
	var out kept
	for _, e := range g.entries {
		for _, f := range e.frames {
			if wanted[f.Owner] {
				out = append(out, f)
			}
		}
	}
	return out, nil
}

// frames collects what the kept entries of a chain carry, by owner.
func (c *chain) frames() map[uint64][][]byte {
	out := map[uint64][][]byte{}
	for i := range c.gens {
		for _, e := range c.entries(i) {
			for _, f := range e.frames {
				out[f.Owner] = append(out[f.Owner], f.Data)
			}
		}
	}
	return out
}

// crowd says whether there is room for frames, after every round.
func (w *WAL) crowd() {
	full := w.change.full
	if w.change.old != nil || w.change.result != nil {
		full += w.opts.GenerationBytes
	}
	w.crowded.Store(w.failure() != nil || w.gen.size >= full)
}
