package checkpoint

import (
	"context"
	"iter"
	"sync"
)

// MemoryOptions configures a Memory.
type MemoryOptions struct {
	// MaxBytes bounds keys and values together. Default 256 MiB.
	MaxBytes int64
}

// Memory is a Store that keeps everything in memory, and nothing after Close.
type Memory struct {
	mu     sync.RWMutex
	state  *state
	seq    Revision
	closed bool
}

// NewMemory returns an empty store.
func NewMemory(opts MemoryOptions) *Memory { return &Memory{state: newState(opts.MaxBytes)} }

// Commit implements Store.
func (m *Memory) Commit(ctx context.Context, b *Batch) (Revision, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if err := b.check(); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return 0, ErrClosed
	}
	if err := m.state.overlay().admit(b, m.seq+1); err != nil {
		return 0, err
	}
	if len(b.ops) == 0 {
		return m.seq, nil
	}
	m.seq++
	m.state.apply(b.ops, m.seq)
	return m.seq, nil
}

// Get implements Store.
func (m *Memory) Get(ctx context.Context, key []byte) ([]byte, Revision, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.closed {
		return nil, 0, ErrClosed
	}
	value, rev := m.state.get(key)
	return value, rev, nil
}

// Scan implements Store.
func (m *Memory) Scan(ctx context.Context, prefix []byte) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		m.mu.RLock()
		var entries []Entry
		var err error
		if m.closed {
			err = ErrClosed
		} else {
			entries = m.state.entries(prefix)
		}
		m.mu.RUnlock()
		sequence(ctx, entries, err)(yield)
	}
}

// Close implements Store.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed, m.state = true, nil
	return nil
}
