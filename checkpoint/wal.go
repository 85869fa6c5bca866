package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"sync"
	"syscall"

	"github.com/tidwall/wal"
)

const (
	// DefaultGenerationBytes is the size at which a generation is replaced, if its options do not say.
	DefaultGenerationBytes = 16 << 20
	// reserveBytes is how much space is reserved ahead at a time.
	reserveBytes = 1 << 20
	// A round is not made larger than this, so that the entries stay small.
	maxRoundBytes = 8 << 20
)

// WALOptions configures a WAL.
type WALOptions struct {
	// ID is the broker's: a store of another one is not opened.
	ID [16]byte
	// Create makes a new store where there is none. Without it a store that is not there is ErrMissingData.
	Create bool
	// GenerationBytes is how large a generation grows, beyond its snapshot, before it is replaced. Default 16 MiB.
	GenerationBytes int64
	// MaxBytes bounds the keys and values together, all of which are kept in memory. Default 256 MiB.
	MaxBytes int64
	// ProvenSequence: every commit up to this one had been durable.
	ProvenSequence uint64
}

// WAL is a Store on disk. Commits that come together share one sync.
type WAL struct {
	dir  string
	opts WALOptions

	// The leader's: the goroutine that set leading.
	files
	seq  uint64 // of the last commit
	full int64  // the size at which the generation is replaced

	mu      sync.Mutex // guards the fields below
	queue   []*commit
	leading bool
	quiet   *sync.Cond // signalled when leading becomes false
	closed  bool
	failure error // sticky

	stateMu sync.RWMutex // guards state; held for memory operations only
	state   *state

	report WALReport
}

// files is a generation that is being written.
type files struct {
	log        *wal.Log
	file       *os.File // the same file, to reserve space in
	generation uint64
	index      uint64 // of the last entry
	size       int64  // of the file, at most
	reserved   int64
}

// close closes the files. The library keeps its own open if its last sync fails; that cannot be helped.
func (f *files) close() error { return errors.Join(f.log.Close(), f.file.Close()) }

// commit is a Commit or a Prove under way.
type commit struct {
	batch *Batch
	prove bool
	done  chan verdict // receives the outcome, or once before it that the commit has to lead
}

type verdict struct {
	lead bool
	rev  Revision
	err  error
}

// Report tells what opening found and did.
func (w *WAL) Report() WALReport { return w.report }

// Commit implements Store. The first of several committers that come together writes for all of them.
func (w *WAL) Commit(ctx context.Context, b *Batch) (Revision, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if err := b.check(); err != nil {
		return 0, err
	}
	return w.submit(&commit{batch: b})
}

// Prove records in CURRENT that everything committed so far is durable, so that readers beside this writer see the last
// commit too. It costs some syncs and is meant for changes that are rare.
func (w *WAL) Prove() error {
	_, err := w.submit(&commit{batch: &Batch{}, prove: true})
	return err
}

func (w *WAL) submit(c *commit) (Revision, error) {
	c.done = make(chan verdict, 1)
	w.mu.Lock()
	if err := w.refusal(); err != nil {
		w.mu.Unlock()
		return 0, err
	}
	w.queue = append(w.queue, c)
	lead := !w.leading
	w.leading = true
	w.mu.Unlock()
	for {
		if lead {
			w.lead()
		}
		v := <-c.done
		if !v.lead {
			return v.rev, v.err
		}
		lead = true
	}
}

// refusal returns why nothing can be committed. The caller holds mu.
func (w *WAL) refusal() error {
	if w.closed {
		return ErrClosed
	}
	if w.failure != nil {
		return fmt.Errorf("%w: %w", ErrFailed, w.failure)
	}
	return nil
}

// lead writes what is queued as one entry, tells everybody, and hands over to the first of those who have come
// meanwhile.
func (w *WAL) lead() {
	w.mu.Lock()
	round := w.takeRound()
	w.mu.Unlock()
	w.round(round)
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) > 0 {
		w.queue[0].done <- verdict{lead: true}
		return
	}
	w.leading = false
	w.quiet.Broadcast()
}

// takeRound takes what is queued, up to a size. The caller holds mu.
func (w *WAL) takeRound() []*commit {
	n, bytes := 0, 0
	for n < len(w.queue) && (n == 0 || bytes+w.queue[n].batch.bytes <= maxRoundBytes) {
		bytes += w.queue[n].batch.bytes
		n++
	}
	round := w.queue[:n:n]
	w.queue = w.queue[n:]
	return round
}

// round commits several batches: those whose expectations are met go into one entry.
func (w *WAL) round(round []*commit) {
	o := w.state.overlay()
	var admitted, proofs []*commit
	b := beginEntry(nil, kindCommits, w.seq+1, w.seq)
	for _, c := range round {
		rev := Revision(w.seq + 1 + uint64(len(admitted)))
		err := o.admit(c.batch, rev)
		switch {
		case err != nil:
			c.done <- verdict{err: err}
		case c.prove:
			proofs = append(proofs, c)
		case c.batch.Len() == 0:
			c.done <- verdict{rev: rev - 1}
		default:
			b = appendCommit(b, c.batch.ops)
			admitted = append(admitted, c)
		}
	}
	if len(admitted) > 0 {
		w.store(endEntry(b, w.opts.ID), admitted)
	}
	if len(proofs) > 0 {
		w.prove(proofs)
	}
}

// prove writes CURRENT.
func (w *WAL) prove(proofs []*commit) {
	err := writeCurrent(w.dir, current{id: w.opts.ID, proven: w.seq, generation: w.generation})
	for _, c := range proofs {
		c.done <- verdict{err: err}
	}
}

// store writes an entry with the changes of some commits, applies them, and tells their callers.
func (w *WAL) store(data []byte, admitted []*commit) {
	if err := w.write(data); err != nil {
		for _, c := range admitted {
			c.done <- verdict{err: err}
		}
		return
	}
	first := w.seq + 1
	w.seq += uint64(len(admitted))
	w.stateMu.Lock()
	for i, c := range admitted {
		w.state.apply(c.batch.ops, Revision(first+uint64(i)))
	}
	w.stateMu.Unlock()
	for i, c := range admitted {
		c.done <- verdict{rev: Revision(first + uint64(i))}
	}
	if w.size > w.full {
		if err := w.replaceGeneration(); err != nil {
			w.fail(err)
		}
	}
}

// write appends an entry and syncs it. ErrNoSpace comes before anything is written; after any other error the
// outcome is unknown and the store has failed.
func (w *WAL) write(data []byte) error {
	w.mu.Lock()
	err := w.failure
	w.mu.Unlock()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFailed, err)
	}
	size := int64(len(data)) + 10 // and its length
	if w.size+size > w.reserved {
		if err := reserve(w.file, w.size, size+reserveBytes); err != nil {
			if errors.Is(err, syscall.ENOSPC) {
				return fmt.Errorf("%w: %w", ErrNoSpace, err)
			}
			w.fail(err)
			return fmt.Errorf("%w: reserve space: %w", ErrFailed, err)
		}
		w.reserved = w.size + size + reserveBytes
	}
	if err := w.log.Write(w.index+1, data); err != nil {
		w.fail(err)
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	}
	w.index++
	w.size += size
	return nil
}

func (w *WAL) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failure == nil {
		w.failure = err
	}
}

// Get implements Store. It shows only what is durable.
func (w *WAL) Get(ctx context.Context, key []byte) ([]byte, Revision, error) {
	if err := w.readable(ctx); err != nil {
		return nil, 0, err
	}
	w.stateMu.RLock()
	defer w.stateMu.RUnlock()
	value, rev := w.state.get(key)
	return value, rev, nil
}

func (w *WAL) readable(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return ErrClosed
	}
	return nil
}

// Scan implements Store.
func (w *WAL) Scan(ctx context.Context, prefix []byte) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if err := w.readable(ctx); err != nil {
			yield(Entry{}, err)
			return
		}
		w.stateMu.RLock()
		entries := w.state.entries(prefix)
		w.stateMu.RUnlock()
		sequence(ctx, entries, nil)(yield)
	}
}

// Close waits for commits under way, records that everything is durable, and closes the files. After a
// failure it only closes them.
func (w *WAL) Close() error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return nil
	}
	w.closed = true
	for w.leading {
		w.quiet.Wait()
	}
	failure := w.failure
	w.mu.Unlock()
	err := w.files.close()
	if failure != nil {
		return nil // it has been told
	}
	if err == nil {
		err = writeCurrent(w.dir, current{id: w.opts.ID, proven: w.seq, generation: w.generation})
	}
	return err
}
