package braid

import (
	"context"
	"iter"
	"path/filepath"

	"github.com/braid-go/braid/checkpoint"
)

// Get returns the value of a key of the application's state, and whether there is one. Transactions change it: see [Txn.Put]. The value belongs to the
// caller. It does no I/O, except on a read-only broker, which reads the store as it stands on the disk
// each time.
func (b *Broker) Get(ctx context.Context, key string) (value []byte, ok bool, err error) {
	r, err := b.stateReader()
	if err != nil {
		return nil, false, err
	}
	value, rev, err := r.Get(ctx, stateKey(key))
	return value, rev != 0, storeError(err)
}

// StateEntry is a key of the application's state.
type StateEntry struct {
	Key   string
	Value []byte
}

// Scan iterates over the keys of the application's state that begin with a prefix, in the order of their bytes, as they
// stand at the moment at which the loop begins. An error is yielded once, as the last pair. Entries belong to the caller.
func (b *Broker) Scan(ctx context.Context, prefix string) iter.Seq2[StateEntry, error] {
	return func(yield func(StateEntry, error) bool) {
		r, err := b.stateReader()
		if err != nil {
			yield(StateEntry{}, err)
			return
		}
		for e, err := range r.Scan(ctx, stateKey(prefix)) {
			if err != nil {
				yield(StateEntry{}, storeError(err))
				return
			}
			key, _ := parseStateKey(e.Key)
			if !yield(StateEntry{key, e.Value}, nil) {
				return
			}
		}
	}
}

// stateReader returns what the state is read from.
func (b *Broker) stateReader() (metaReader, error) {
	switch {
	case b.closed.Load():
		return nil, ErrClosed
	case b.store != nil:
		return b.store, nil
	}
	live, err := writerLive(b.dir)
	if err != nil {
		return nil, err
	}
	f, err := readFormat(b.dir)
	if err != nil {
		return nil, err
	}
	view, err := checkpoint.LoadWAL(filepath.Join(b.dir, storeName), checkpoint.LoadOptions{ID: f.id, WriterLive: live})
	return view, storeError(err)
}
