package checkpoint

import (
	"context"
	"iter"
	"sync"
	"sync/atomic"
)

// MemoryOptions are the options of [NewMemory]. The zero value is ready to use.
type MemoryOptions struct {
	// MaxBytes bounds live keys and values, EntryOverhead for each included: 0 means
	// DefaultMaxBytes, negative no bound.
	MaxBytes int64
}

// Memory is a [Store] that lives as long as the process. Commits take no I/O.
type Memory struct {
	maxBytes int64

	mu   sync.Mutex // serialises commits
	work state

	visible atomic.Pointer[state] // nil once closed
}

var _ Store = (*Memory)(nil)

// NewMemory returns an empty store.
func NewMemory(opts MemoryOptions) *Memory {
	m := &Memory{maxBytes: resolveMaxBytes(opts.MaxBytes)}
	m.visible.Store(&state{})
	return m
}

// Commit implements [Store].
func (m *Memory) Commit(ctx context.Context, b *Batch) (Revision, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if err := b.check(); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.visible.Load() == nil {
		return 0, ErrClosed
	}
	if err := m.work.commit(b, m.maxBytes); err != nil {
		return 0, err
	}
	m.visible.Store(m.work.freeze())
	return Revision(m.work.seq), nil
}

// Size returns how many keys the store holds and what they count towards MaxBytes.
func (m *Memory) Size() (keys int, bytes int64) { return m.visible.Load().size() }

// CommitFrames is as [WAL].CommitFrames, but the frames are forgotten at once: what they are for is in memory too.
func (m *Memory) CommitFrames(ctx context.Context, b *Batch, c Carrier) (Revision, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if b == nil {
		b = new(Batch)
	}
	if err := b.check(); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.visible.Load() == nil {
		return 0, ErrClosed
	}
	if err := m.work.check(b, m.maxBytes); err != nil {
		return 0, err
	}
	if _, err := c.Prepare(m.work.seq+1, nil); err != nil {
		return 0, err
	}
	m.work.apply(b)
	c.Durable()
	m.visible.Store(m.work.freeze())
	return Revision(m.work.seq), nil
}

// Busy reports false: there is no sync to share.
func (m *Memory) Busy() bool { return false }

// Crowded reports true: nothing is gained by sending frames that need not be.
func (m *Memory) Crowded() bool { return true }

// Sequence returns the number of the last commit.
func (m *Memory) Sequence() uint64 {
	if s := m.visible.Load(); s != nil {
		return s.seq
	}
	return 0
}

func (m *Memory) view() (*state, error) {
	if s := m.visible.Load(); s != nil {
		return s, nil
	}
	return nil, ErrClosed
}

// Get implements [Store].
func (m *Memory) Get(ctx context.Context, key []byte) ([]byte, Revision, error) {
	s, err := m.view()
	if err != nil {
		return nil, 0, err
	}
	return s.get(ctx, key)
}

// Scan implements [Store].
func (m *Memory) Scan(ctx context.Context, prefix []byte) iter.Seq2[Entry, error] {
	return scan(ctx, prefix, m.view)
}

// Close implements [Store]. It forgets everything and returns nil.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.visible.Store(nil)
	m.work = state{}
	return nil
}
