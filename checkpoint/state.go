package checkpoint

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
)

// state is the live keys. Its owner guards it.
type state struct {
	keys  map[string]item
	bytes int64 // of keys and values, with the overhead counted for each
	limit int64
}

type item struct {
	value []byte
	rev   Revision
}

func newState(limit int64) *state {
	if limit == 0 {
		limit = DefaultMaxBytes
	}
	return &state{keys: map[string]item{}, limit: limit}
}

func cost(key string, value []byte) int64 { return int64(len(key) + len(value) + keyOverhead) }

// overlay is a state with changes that are not applied yet: what a batch sees that is to be committed together with
// earlier ones.
type overlay struct {
	s       *state
	changed map[string]Revision // 0: deleted
	values  map[string]int      // sizes of what is put
	bytes   int64
}

func (s *state) overlay() *overlay {
	return &overlay{s: s, changed: map[string]Revision{}, values: map[string]int{}, bytes: s.bytes}
}

func (o *overlay) revision(key []byte) Revision {
	if rev, ok := o.changed[string(key)]; ok {
		return rev
	}
	return o.s.keys[string(key)].rev
}

// admit checks a batch's expectations and the limit, and adds its changes under a revision.
func (o *overlay) admit(b *Batch, rev Revision) error {
	for _, e := range b.expects {
		if actual := o.revision(e.key); actual != e.rev {
			return &ConflictError{Key: bytes.Clone(e.key), Expected: e.rev, Actual: actual}
		}
	}
	if grown := o.bytes + int64(b.bytes); grown > o.s.limit && b.puts() {
		return fmt.Errorf("%w: %d bytes of keys and values, at most %d", ErrLimit, grown, o.s.limit)
	}
	for _, op := range b.ops {
		o.change(op, rev)
	}
	return nil
}

func (b *Batch) puts() bool { return slices.ContainsFunc(b.ops, func(o op) bool { return !o.delete }) }

func (o *overlay) change(op op, rev Revision) {
	key := string(op.key)
	if size, ok := o.values[key]; ok {
		o.bytes -= int64(size)
	} else if old, ok := o.s.keys[key]; ok && !o.touched(key) {
		o.bytes -= cost(key, old.value)
	}
	delete(o.values, key)
	if op.delete {
		o.changed[key] = 0
		return
	}
	o.changed[key] = rev
	o.values[key] = int(cost(key, op.value))
	o.bytes += cost(key, op.value)
}

func (o *overlay) touched(key string) bool {
	_, ok := o.changed[key]
	return ok
}

// apply carries out a batch that has been admitted.
func (s *state) apply(ops []op, rev Revision) {
	for _, o := range ops {
		key := string(o.key)
		if old, ok := s.keys[key]; ok {
			s.bytes -= cost(key, old.value)
			delete(s.keys, key)
		}
		if !o.delete {
			s.set(key, o.value, rev)
		}
	}
}

func (s *state) set(key string, value []byte, rev Revision) {
	s.keys[key] = item{value, rev}
	s.bytes += cost(key, value)
}

func (s *state) get(key []byte) ([]byte, Revision) {
	it := s.keys[string(key)]
	return it.value, it.rev
}

// entries returns the keys with a prefix, in order.
func (s *state) entries(prefix []byte) []Entry {
	var out []Entry
	for key, it := range s.keys {
		if strings.HasPrefix(key, string(prefix)) {
			out = append(out, Entry{Key: []byte(key), Value: it.value, Revision: it.rev})
		}
	}
	slices.SortFunc(out, func(a, b Entry) int { return bytes.Compare(a.Key, b.Key) })
	return out
}

// sequence iterates over entries until ctx ends.
func sequence(ctx context.Context, entries []Entry, err error) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for _, e := range entries {
			if err = ctx.Err(); err != nil {
				break
			}
			if !yield(e, nil) {
				return
			}
		}
		if err != nil {
			yield(Entry{}, err)
		}
	}
}
