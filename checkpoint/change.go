package checkpoint

import (
	"errors"
	"math"
	"slices"

	"github.com/braid-go/braid/internal/vfs"
)

// change is the replacing of a generation that has grown large by the next one, while
// commits go on. The committer owns it; what needs many syncs (making the new generation, switching
// CURRENT, removing the old one) is done by a goroutine that reports to result.
//
//  1. in the background: make the next generation and list both in CURRENT
//  2. the committer: write to the next one from now on; freeze the state
//  3. every round takes a chunk of the frozen state along; without commits, rounds of chunks only
//  4. in the background: have the old one's frames settled; the committer copies those that cannot be
//  5. in the background: list the new one alone in CURRENT, remove the old one
type change struct {
	full    int64       // the size of the generation at which the next change begins
	result  chan result // nil unless a background goroutine is at work
	old     *generation // from 2 to 5
	settled bool        // 4 is done
	snap    *snapshot   // in 3
	stalled bool        // in 3, the disk is full: chunks wait for the next commit
	retryAt int64       // in 5, after the disk was full: the size at which it is tried again
	number  uint64      // the highest that a generation has had
}

func (c *change) copying() bool { return c.snap != nil }

// result is what a background step ends with.
type result struct {
	next *generation // of step 1
	err  error
	// noSpace: err is a full disk, or a want of descriptors, and nothing has changed.
	noSpace bool
	// settled: step 4 has been done in the background, and these frames have to be copied.
	settled bool
	keep    kept
}

// retryBytes is how much the log grows between two attempts while the disk is full.
const retryBytes = 1 << 20

// setFull says when the next change begins: when the entries behind the snapshot have become as large as it.
func (w *WAL) setFull() {
	w.change.full = w.gen.size + max(w.opts.GenerationBytes, w.gen.snapshot)
	w.change.number = max(w.change.number, w.gen.number)
}

// listed returns what CURRENT has to list.
func (w *WAL) listed() []uint64 {
	if w.change.old != nil {
		return []uint64{w.change.old.number, w.gen.number}
	}
	return []uint64{w.gen.number}
}

// advance starts what is due after a round.
func (w *WAL) advance() {
	c := &w.change
	select {
	case res := <-c.result: // nil, and so never ready, unless a step is under way
		w.changed(res)
	default:
	}
	switch {
	case c.result != nil:
	case c.snap != nil:
		if c.snap.finished {
			c.snap = nil
			w.setFull()
			w.startDrop()
		}
	case c.old != nil:
		if w.gen.size >= c.retryAt {
			w.startDrop()
		}
	case w.gen.size >= c.full:
		w.startNext()
	}
}

// startNext does step 1 in the background.
func (w *WAL) startNext() {
	c := &w.change
	done := make(chan result, 1)
	c.result = done
	c.number++
	number, before := c.number, w.listed()
	w.opts.background(func() {
		g, err := createGeneration(w.dir, number, &w.opts)
		listing := err == nil
		if listing {
			err = w.list(append(slices.Clone(before), number))
		}
		res := result{next: g, err: err}
		if err != nil {
			if g != nil {
				res.next, err = nil, errors.Join(err, g.close())
			}
			if res.noSpace = (noSpace(err) || vfs.NoDescriptors(err)) && (!listing || w.lists(before)); res.noSpace {
				// What is left of it is never listed; the next opening removes it, if this does not.
				_ = removeGeneration(w.dir, number, &w.opts)
			}
		}
		done <- res
	})
}

// list writes CURRENT.
func (w *WAL) list(generations []uint64) error {
	return writeCurrent(w.dir, &current{id: w.opts.ID, proven: w.durable.Load(), generations: generations}, &w.opts)
}

// lists reports whether CURRENT still lists these generations and no others.
func (w *WAL) lists(generations []uint64) bool {
	cur, err := readCurrent(w.dir, w.opts.ID)
	return err == nil && slices.Equal(cur.generations, generations)
}

// startDrop does step 4 or step 5 in the background.
func (w *WAL) startDrop() {
	c := &w.change
	done := make(chan result, 1)
	c.result = done
	before, keep, old, settled := w.listed(), w.gen.number, c.old, c.settled || w.opts.Settle == nil
	w.opts.background(func() {
		if !settled {
			done <- w.settle(old.number)
			return
		}
		err := w.list([]uint64{keep})
		if err != nil {
			// Nothing is removed before this succeeds, so that it does not matter whether one that could open no file has got so far.
			done <- result{err: err, noSpace: noSpace(err) && w.lists(before) || vfs.NoDescriptors(err)}
			return
		}
		// From here on the old one means nothing. The next opening removes what is left.
		_ = old.close()
		_ = removeGeneration(w.dir, old.number, &w.opts)
		done <- result{}
	})
}

// settle does step 4. Everything that the old generation carries has been answered long since.
func (w *WAL) settle(old uint64) result {
	res := result{settled: true}
	if owners := w.opts.Settle(); len(owners) > 0 {
		res.keep, res.err = framesOf(w.dir, old, w.opts.ID, owners)
	}
	return res
}

// copyForward writes the frames that could not be settled to the new generation, and reports whether they are durable there.
func (w *WAL) copyForward(frames kept) bool {
	for _, f := range frames {
		r := &request{carrier: kept{f}, carried: kept{f}.Bound(), done: make(chan struct{}, 1)}
		if w.round([]*request{r}); r.err != nil {
			return false // a full disk: later; or the store has failed
		}
	}
	return true
}

// changed takes note of what a background step has come to.
func (w *WAL) changed(res result) {
	c := &w.change
	c.result = nil
	starting := c.old == nil
	switch {
	case res.noSpace && starting:
		c.full = w.gen.size + retryBytes
	case res.noSpace:
		c.retryAt = w.gen.size + retryBytes
	case res.settled:
		c.retryAt = math.MaxInt64 // nothing else begins meanwhile
		c.settled = res.err == nil && w.copyForward(res.keep)
		if c.retryAt = w.gen.size + retryBytes; c.settled {
			c.retryAt = 0
			w.startDrop()
		}
	case res.err != nil:
		w.fail(res.err)
	case !starting:
		c.old, c.settled = nil, false
	case w.failure() != nil:
		_ = res.next.close() // It is listed, and empty.
	default:
		w.moveTo(res.next)
	}
}

// moveTo is step 2.
func (w *WAL) moveTo(next *generation) {
	// The new one's entries follow the last of the old one, which may be a mark that was not synced.
	if err := w.opts.sync(w.gen.file.Datasync); err != nil {
		w.fail(errors.Join(err, next.close()))
		return
	}
	w.durable.Store(w.work.seq)
	w.change.old, w.gen = w.gen, next
	w.change.snap, w.change.stalled = newSnapshot(w.work.freeze()), false
}

// finish ends the committer's work: it lets a background step end, notes that all is durable, and closes
// the files.
func (w *WAL) finish() error {
	for w.change.result != nil {
		w.changed(<-w.change.result)
	}
	err := w.failure()
	if err == nil {
		if err = w.gen.trim(); err == nil {
			w.durable.Store(w.work.seq)
			err = w.list(w.listed())
		}
	}
	err = errors.Join(err, w.gen.close())
	if w.change.old != nil {
		err = errors.Join(err, w.change.old.close())
	}
	return err
}
