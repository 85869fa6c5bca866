package checkpoint

import (
	"cmp"
	"errors"
	"fmt"
	"runtime"
	"time"
)

const (
	// maxRoundBytes bounds what the batches of one round have together, unless a
	// single one has more.
	maxRoundBytes = 4 << 20
	// A round waits for as many commits as may come, but never longer than half of what the last one took, since that would cost more than
	// it saves, and never longer than this.
	maxGather = 200 * time.Microsecond
	// idleMark is after how much quiet the last commit is marked as durable in the log. Readers
	// beside a writer see a commit when a later entry says that it is durable.
	idleMark = 20 * time.Millisecond
)

// committer is what belongs to the committing goroutine alone.
type committer struct {
	work state // visible, plus the round that is being made
	gen  *generation
	enc  encoder
	// expected is how many commits the next round may have: those that the last one had, whose callers are about to
	// come again, and those that came meanwhile. patience is how long it waits for them.
	expected int
	patience time.Duration
	// unmarked: the last entry is durable, and no entry says so.
	unmarked bool
	change   change
	frames   []Frames // reused
}

// run is the committer: it makes rounds of what is queued until the store is closed.
func (w *WAL) run() {
	defer close(w.done)
	after := cmp.Or(w.opts.hooks.quiet, idleMark)
	quiet := time.NewTimer(after)
	defer quiet.Stop()
	for {
		round, closing := w.take()
		switch {
		case len(round) > 0:
			w.rounds(round)
			w.working.Store(false)
		case closing:
			w.closeErr = w.finish()
			return
		case w.change.copying() && !w.change.stalled:
			w.round(nil)
		default:
			quiet.Reset(after)
			w.wait(quiet.C)
		}
	}
}

// wait waits until there is something to do.
func (w *WAL) wait(quiet <-chan time.Time) {
	select {
	case <-w.wake:
	case res := <-w.change.result:
		w.changed(res)
	case <-quiet:
		_ = w.mark() // What stands in its way meets the next commit too.
		select {
		case <-w.wake:
		case res := <-w.change.result:
			w.changed(res)
		}
	}
}

// take takes the queue, after giving it a moment to fill.
func (w *WAL) take() (round []*request, closing bool) {
	if n := w.waiting.Load(); n > 0 && int(n) < w.expected {
		for start := time.Now(); int(w.waiting.Load()) < w.expected && time.Since(start) < w.patience; {
			runtime.Gosched()
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	round, w.queue = w.queue, nil
	w.waiting.Store(0)
	return round, w.closing
}

// rounds cuts what was queued into rounds of bounded size; proofs come after all commits.
func (w *WAL) rounds(all []*request) {
	var proofs []*request
	commits := all[:0]
	for _, r := range all {
		if r.prove {
			proofs = append(proofs, r)
		} else {
			commits = append(commits, r)
		}
	}
	answered, start := len(commits), time.Now()
	for len(commits) > 0 {
		n, size := 0, 0
		for n < len(commits) && (n == 0 || size+commits[n].bound() <= maxRoundBytes) {
			size += commits[n].bound()
			n++
		}
		w.working.Store(true)
		w.round(commits[:n])
		commits = commits[n:]
	}
	w.expected = answered + int(w.waiting.Load())
	w.patience = min(time.Since(start)/2, maxGather)
	if len(proofs) > 0 {
		err := w.mark()
		w.working.Store(false)
		deliver(proofs, err)
	}
}

// round commits several batches, and the frames that come with them, with one entry and one sync. Whoever's expectations
// hold is in it. While a snapshot is being written, a chunk of it comes along.
func (w *WAL) round(reqs []*request) {
	if err := w.failure(); err != nil {
		deliver(reqs, err)
		return
	}
	first, withChunk := w.work.seq+1, w.change.copying()
	w.enc.begin()
	var before snapshot
	if withChunk {
		before = *w.change.snap
		w.change.snap.next(&w.enc)
	}
	if err := w.gen.room(w.bound(reqs)); err != nil { // before anything is decided that could not be taken back
		if withChunk {
			*w.change.snap = before
		}
		w.noRoom(reqs, withChunk, err)
		return
	}
	for _, r := range reqs {
		w.admit(r)
	}
	if w.enc.payload() == 0 {
		deliver(reqs, nil)
		return
	}
	w.work.seq = first + uint64(w.enc.count()) - 1
	entry := w.enc.seal(w.gen.salt, first, w.durable.Load())
	if err := w.write(entry); err != nil {
		w.fail(err)
		w.work = *w.visible.Load()
		for _, r := range reqs {
			w.unknown(r, err)
		}
		deliver(reqs, nil)
		return
	}
	w.unmarked = true
	w.durable.Store(w.work.seq)
	w.visible.Store(w.work.freeze())
	told := false
	for _, r := range reqs {
		if r.carrier != nil && r.written {
			told = told || r.batch == nil // who comes with frames alone tells others
			r.carrier.Durable()
		}
	}
	if !told { // whoever is answered now and goes on alone would share nothing with what is left to do here
		w.working.Store(false)
	}
	deliver(reqs, nil)
	if withChunk {
		w.change.stalled = false
		w.gen.snapshot += int64(len(entry))
	}
	w.advance()
	w.crowd()
}

// bound is the most bytes that the entry under way has when the requests are in it.
func (w *WAL) bound(reqs []*request) int {
	n := headerBytes + w.enc.payload()
	for _, r := range reqs {
		n += r.bound()
	}
	return n
}

// admit has one request take effect and be in the entry, or says in it why not.
func (w *WAL) admit(r *request) {
	if r.written = false; r.batch != nil {
		if r.err = w.work.check(r.batch, w.opts.MaxBytes); r.err != nil {
			return
		}
	}
	numbered := r.batch != nil && (r.batch.writes > 0 || r.carrier != nil)
	if r.carrier != nil {
		seq := w.work.seq
		if numbered {
			seq++
		}
		if r.err = w.prepare(r, seq); r.err != nil {
			return
		}
	}
	if numbered {
		w.work.apply(r.batch)
		w.enc.commit(r.batch)
	}
	r.written = numbered || r.carrier != nil
	r.rev = Revision(w.work.seq)
}

// write appends an entry and makes it durable.
func (w *WAL) write(entry []byte) error {
	if err := w.opts.step("append"); err != nil {
		return err
	}
	if err := w.gen.append(entry); err != nil {
		return fmt.Errorf("append to generation %d: %w", w.gen.number, err)
	}
	if err := w.opts.step("sync"); err != nil {
		return err
	}
	if err := w.opts.sync(w.gen.file.Datasync); err != nil {
		return fmt.Errorf("sync generation %d: %w", w.gen.number, err)
	}
	return nil
}

// noRoom answers a round that does not fit on the disk: the chunk is left out, then each commit tries on
// its own, so that a large one does not take the small ones with it. Nothing was written.
func (w *WAL) noRoom(reqs []*request, withChunk bool, err error) {
	switch {
	case !errors.Is(err, ErrNoSpace):
		w.fail(err)
		deliver(reqs, w.failure())
	case withChunk:
		// The snapshot waits for the next commit before it tries again.
		snap := w.change.snap
		w.change.snap, w.change.stalled = nil, true
		if len(reqs) > 0 {
			w.round(reqs)
		}
		w.change.snap = snap
	case len(reqs) > 1:
		for i := range reqs {
			w.round(reqs[i : i+1])
		}
	default:
		deliver(reqs, err)
	}
}

// unknown gives a commit of a round that failed midway its answer. One that had been refused, or only
// checked, has certainly done nothing; what it was compared with may be undone, so it is not told that.
func (w *WAL) unknown(r *request, cause error) {
	if r.err != nil || !r.written {
		r.rev, r.err = 0, w.failure()
		return
	}
	r.rev, r.err = 0, fmt.Errorf("%w: %w", ErrOutcomeUnknown, cause)
}

// deliver answers a round: with err, if it is not nil.
func deliver(reqs []*request, err error) {
	for _, r := range reqs {
		if err != nil {
			r.rev, r.err = 0, err
		}
		if r.err != nil {
			r.rev = 0
		}
		r.done <- struct{}{}
	}
}

// mark writes an entry that says only that everything before it is durable, unless one
// does already. It is not synced: it is for readers beside this writer.
func (w *WAL) mark() error {
	if err := w.failure(); err != nil || !w.unmarked {
		return err
	}
	w.enc.begin()
	entry := w.enc.seal(w.gen.salt, w.work.seq+1, w.durable.Load())
	if err := w.gen.room(len(entry)); err != nil {
		if !errors.Is(err, ErrNoSpace) {
			w.fail(err)
		}
		return err
	}
	// The number is taken even if a later round is undone.
	w.work.seq++
	w.visible.Store(w.work.freeze())
	if err := w.gen.append(entry); err != nil {
		w.fail(fmt.Errorf("append to generation %d: %w", w.gen.number, err))
		return w.failure()
	}
	w.unmarked = false
	return nil
}

func (w *WAL) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed
}

// fail makes the store refuse all further commits, those in the queue too.
func (w *WAL) fail(cause error) {
	w.mu.Lock()
	if w.failed == nil {
		w.failed = &FailedError{cause}
	}
	queue, err := w.queue, w.failed
	w.queue = nil
	w.crowded.Store(true)
	w.waiting.Store(0)
	w.mu.Unlock()
	deliver(queue, err)
}
