package checkpoint

import (
	"bytes"
	"context"
	"iter"
	"math"
	"slices"
)

// state is what a store holds after some commit. Copies made with freeze are immutable.
type state struct {
	keys  tree
	bytes int64  // what the live keys count towards MaxBytes
	seq   uint64 // of the last commit, and of everything else that has taken a number
}

func (s *state) freeze() *state {
	return &state{keys: s.keys.freeze(), bytes: s.bytes, seq: s.seq}
}

func cost(key, value []byte) int64 { return int64(len(key) + len(value) + EntryOverhead) }

// size returns the number of keys and what they count; a store that is closed holds none.
func (s *state) size() (keys int, bytes int64) {
	if s == nil {
		return 0, 0
	}
	return s.keys.n, s.bytes
}

// put sets a key.
func (s *state) put(it *item) {
	if old := s.keys.put(it); old != nil {
		s.bytes -= cost(old.key, old.value)
	}
	s.bytes += cost(it.key, it.value)
}

// remove deletes a key if it is there.
func (s *state) remove(key []byte) {
	if old := s.keys.get(key); old != nil {
		s.bytes -= cost(old.key, old.value)
		s.keys.delete(key)
	}
}

// commit carries out a batch under the next sequence number, or leaves s as
// it was: after *ConflictError or *LimitError.
func (s *state) commit(b *Batch, maxBytes int64) error {
	if err := s.check(b, maxBytes); err != nil {
		return err
	}
	if b.writes > 0 {
		s.apply(b)
	}
	return nil
}

// check returns why a batch cannot be carried out, or nil.
func (s *state) check(b *Batch, maxBytes int64) error {
	for o, a := range b.all {
		if o.kind != opExpect {
			continue
		}
		var actual Revision
		if it := s.keys.get(a.key); it != nil {
			actual = it.rev
		}
		if actual != o.rev {
			return &ConflictError{bytes.Clone(a.key), o.rev, actual}
		}
	}
	if b.writes == 0 {
		return nil
	}
	return s.fits(b, maxBytes)
}

// apply carries out a checked batch, which takes a sequence number even if it writes nothing.
func (s *state) apply(b *Batch) {
	s.seq++
	for o, a := range b.all {
		switch o.kind {
		case opPut:
			s.put(newItem(a.key, a.value, Revision(s.seq)))
		case opDelete:
			s.remove(a.key)
		}
	}
}

// fits refuses a batch that makes the state larger than maxBytes. What does not
// make it larger always passes, so that a full store can be emptied.
func (s *state) fits(b *Batch, maxBytes int64) error {
	most := s.bytes // if every put were a new key
	for o, a := range b.all {
		if o.kind == opPut {
			most += cost(a.key, a.value)
		}
	}
	if most <= maxBytes {
		return nil
	}
	// Close to the limit it takes an exact count, which a copy gives.
	trial := *s
	trial.keys.own = nil // Every node is another's: s stays as it is.
	for o, a := range b.all {
		switch o.kind {
		case opPut:
			trial.put(&item{key: a.key, value: a.value})
		case opDelete:
			trial.remove(a.key)
		}
	}
	if trial.bytes > maxBytes && trial.bytes > s.bytes {
		return &LimitError{"bytes of live keys and values", trial.bytes, maxBytes}
	}
	return nil
}

func (s *state) get(ctx context.Context, key []byte) ([]byte, Revision, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	it := s.keys.get(key)
	if it == nil {
		return nil, 0, nil
	}
	return append([]byte{}, it.value...), it.rev, nil
}

// scanCheck is how many entries a scan yields between two looks at its context.
const scanCheck = 256

// scan yields what is in the state that view returns when the iteration begins.
func scan(ctx context.Context, prefix []byte, view func() (*state, error)) iter.Seq2[Entry, error] {
	prefix = slices.Clone(prefix)
	return func(yield func(Entry, error) bool) {
		s, err := view()
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			yield(Entry{}, err)
			return
		}
		n := 0
		s.keys.ascend(prefix, func(it *item) bool {
			if !bytes.HasPrefix(it.key, prefix) {
				return false
			}
			if n++; n%scanCheck == 0 && ctx.Err() != nil {
				yield(Entry{}, ctx.Err())
				return false
			}
			own := newItem(it.key, it.value, it.rev)
			return yield(Entry{own.key, own.value, own.rev}, nil)
		})
	}
}

func resolveMaxBytes(n int64) int64 {
	switch {
	case n == 0:
		return DefaultMaxBytes
	case n < 0:
		return math.MaxInt64
	}
	return n
}
