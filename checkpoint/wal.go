package checkpoint

import (
	"context"
	"iter"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/braid-go/braid/internal/vfs"
)

// DefaultGenerationBytes is the size at which a generation is replaced, if the options
// do not say.
const DefaultGenerationBytes = 16 << 20

// WALOptions are the options of [OpenWAL].
type WALOptions struct {
	// ID is the store's identity, the broker's id. A directory with another one is
	// ErrMissingData.
	ID [16]byte
	// Create allows a new store to be made in a directory that has none, and the directory
	// too. Without it that is ErrMissingData.
	Create bool
	// GenerationBytes is how many bytes a generation takes beyond its snapshot before it is
	// replaced in the background; one that has a larger snapshot takes as much as that.
	// 0 means DefaultGenerationBytes.
	GenerationBytes int64
	// MaxBytes bounds live keys and values, EntryOverhead for each included: 0 means
	// DefaultMaxBytes, negative no bound. What is stored already always loads.
	MaxBytes int64
	// ProvenSequence is the highest sequence number that the caller can prove was durable. A
	// store that ends below it is ErrCorrupt.
	ProvenSequence uint64

	// Redo is called when the store has been read and before anything builds upon it: the caller
	// brings what the store's frames belong to in order, and makes it durable. Afterwards the frames are gone. After
	// an error opening fails with it and they stay. It is not called for a new store.
	Redo func(*View) error
	// Settle makes durable, where they belong, all frames whose commits have been answered, and returns the owners for
	// which it cannot; theirs stay in the log. It is called in the background, before a generation is
	// dropped. A store that is given frames needs it, or they are gone with their generation.
	Settle func() (keep []uint64)

	hooks hooks
}

// hooks are for tests.
type hooks struct {
	// before is called before each step that changes files; an error stops there.
	before func(step string) error
	// unsynced leaves out syncs and fills little ahead, for tests that open thousands of stores.
	unsynced bool
	// foreground has what is done in the background done by the committer, so that steps have one order.
	foreground bool
	// quiet replaces idleMark, if it is not 0.
	quiet time.Duration
	// synced is called after each sync that has succeeded.
	synced func()
}

func (o *WALOptions) step(name string) error {
	if o.hooks.before == nil {
		return nil
	}
	return o.hooks.before(name)
}

func (o *WALOptions) background(do func()) {
	if o.hooks.foreground {
		do()
		return
	}
	go do()
}

func (o *WALOptions) sync(do func() error) error {
	if o.hooks.unsynced {
		return nil
	}
	err := do()
	if err == nil && o.hooks.synced != nil {
		o.hooks.synced()
	}
	return err
}

// WALReport tells what OpenWAL found and did.
type WALReport struct {
	// Created: there was nothing, and a new store was made.
	Created bool
	// Clean: the store was closed by Close, and nothing has changed since.
	Clean bool
	// Generations are those that were read.
	Generations []uint64
	// Sequence is the last sequence number found; Keys and Bytes count what is live.
	Sequence uint64
	Keys     int
	Bytes    int64
	// Frames counts the pieces of frames found, and FrameBytes their bytes.
	Frames     int
	FrameBytes int64
	// Leftover lists directories that no longer count and could not be removed.
	Leftover []string
	// Torn lists what was set aside: writing that was cut short by a crash, and that nothing
	// proves had been durable.
	Torn []TornTail
}

// WAL is a [Store] in a directory. See the package comment for its format and for what it
// does about crashes. One goroutine, the committer, writes; Close ends it.
type WAL struct {
	dir    string
	opts   WALOptions
	report WALReport

	// visible is what is durable. Reads take no lock.
	visible atomic.Pointer[state]
	durable atomic.Uint64 // the highest sequence number that is
	ended   atomic.Bool   // Close has returned, or is about to

	// requests is a pool of *request. It is the store's own: a channel that was made in a bubble
	// of testing/synctest must not be used outside.
	requests sync.Pool

	mu      sync.Mutex // guards queue, closing, failed
	queue   []*request
	closing bool
	failed  error // a *FailedError, sticky

	waiting  atomic.Int64 // len(queue)
	working  atomic.Bool  // the committer is at a round
	crowded  atomic.Bool
	wake     chan struct{} // has room for one: the queue or closing has changed
	done     chan struct{} // closed when the committer has ended
	closeErr error         // what Close returns; written before done is closed

	committer
}

var _ Store = (*WAL)(nil)

// request is a Commit or a Prove under way.
type request struct {
	batch   *Batch // nil: none
	carrier Carrier
	carried int  // its bound
	written bool // it is in the entry under way
	prove   bool
	rev     Revision
	err     error
	done    chan struct{} // receives one value when rev and err are set
}

// Report tells what opening found and did.
func (w *WAL) Report() WALReport {
	r := w.report
	r.Generations, r.Leftover, r.Torn = slices.Clone(r.Generations), slices.Clone(r.Leftover), slices.Clone(r.Torn)
	return r
}

// Sequence returns the highest sequence number that is durable. Every commit takes one; some others are
// taken by the store itself.
func (w *WAL) Sequence() uint64 { return w.durable.Load() }

// Size returns how many keys the store holds and what they count towards MaxBytes. All of it is in memory.
func (w *WAL) Size() (keys int, bytes int64) { return w.visible.Load().size() }

// Commit implements [Store]. Commits that come together share one sync.
func (w *WAL) Commit(ctx context.Context, b *Batch) (Revision, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if err := b.check(); err != nil {
		return 0, err
	}
	return w.do(b, nil)
}

// do hands a commit to the committer and waits for its outcome.
func (w *WAL) do(b *Batch, c Carrier) (Revision, error) {
	r := w.requests.Get().(*request)
	defer w.requests.Put(r)
	r.batch, r.carrier, r.carried, r.prove, r.rev, r.err = b, c, 0, false, 0, nil
	if c != nil {
		r.carried = c.Bound()
	}
	if err := w.submit(r); err != nil {
		return 0, err
	}
	<-r.done
	r.batch, r.carrier = nil, nil
	return r.rev, r.err
}

// Prove notes in the log that everything committed so far is durable, so that a reader beside this
// writer sees the last commit at once instead of after some milliseconds of quiet. It
// writes a few bytes and syncs nothing. Errors: ErrClosed, ErrFailed, ErrNoSpace.
func (w *WAL) Prove() error {
	r := w.requests.Get().(*request)
	defer w.requests.Put(r)
	r.batch, r.carrier, r.prove, r.rev, r.err = nil, nil, true, 0, nil
	if err := w.submit(r); err != nil {
		return err
	}
	<-r.done
	return r.err
}

func (w *WAL) submit(r *request) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.closing:
		return ErrClosed
	case w.failed != nil:
		return w.failed
	}
	w.queue = append(w.queue, r)
	w.waiting.Store(int64(len(w.queue)))
	w.signal()
	return nil
}

// signal wakes the committer.
func (w *WAL) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *WAL) view() (*state, error) {
	if w.ended.Load() {
		return nil, ErrClosed
	}
	return w.visible.Load(), nil
}

// Get implements [Store]. It goes on after a failure.
func (w *WAL) Get(ctx context.Context, key []byte) ([]byte, Revision, error) {
	s, err := w.view()
	if err != nil {
		return nil, 0, err
	}
	return s.get(ctx, key)
}

// Scan implements [Store]. It goes on after a failure.
func (w *WAL) Scan(ctx context.Context, prefix []byte) iter.Seq2[Entry, error] {
	return scan(ctx, prefix, w.view)
}

// Close implements [Store]: it lets commits under way finish, notes in CURRENT that
// everything is durable, and closes the files. An error means that the note is missing; what was
// committed is safe all the same. After a failure it returns that: a [FailedError].
func (w *WAL) Close() error {
	w.mu.Lock()
	first := !w.closing
	w.closing = true
	w.mu.Unlock()
	w.signal()
	<-w.done
	w.ended.Store(true)
	if !first {
		return nil
	}
	return w.closeErr
}

// writeCurrent replaces CURRENT durably.
func writeCurrent(dir string, c *current, opts *WALOptions) error {
	if err := opts.step("write CURRENT"); err != nil {
		return err
	}
	if opts.hooks.unsynced {
		return writeUnsynced(filepath.Join(dir, currentName), c.encode())
	}
	return vfs.WriteFileAtomic(vfs.Background, filepath.Join(dir, currentName), c.encode())
}
