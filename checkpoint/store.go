package checkpoint

import (
	"context"
	"iter"
)

// Bounds that hold for every built-in store. What exceeds one is refused with a
// [LimitError] and stores nothing.
const (
	MaxKeyBytes   = 64 << 10
	MaxValueBytes = 16 << 20
	// MaxBatchBytes bounds keys and values of one batch, expectations included.
	MaxBatchBytes = 64 << 20
	// MaxBatchLen bounds puts, deletes and expectations of one batch, together.
	MaxBatchLen = 1 << 20

	// DefaultMaxBytes bounds live keys and values where the options say nothing.
	DefaultMaxBytes = 256 << 20
	// EntryOverhead is what each live key counts beside its own and its value's
	// bytes: about what it takes in memory.
	EntryOverhead = 64
)

// Revision tells one version of a key from another: the sequence number of the
// commit that last wrote it. Later commits have higher ones. 0 means that the key
// is absent.
type Revision uint64

// Entry is a live key.
type Entry struct {
	Key, Value []byte
	Revision   Revision
}

// Store is durable, atomic key-value state. All methods may be called concurrently.
type Store interface {
	// Commit carries out a batch: all of it or nothing, durable when it returns nil. It
	// returns the revision that every key put by the batch now has. Commits take
	// effect one after the other; the expectations of a batch are checked against
	// the outcome of all commits before it. A batch that writes nothing only
	// checks, and returns the revision of the last commit so far.
	//
	// ErrConflict (a [ConflictError]), ErrLimit (a [LimitError]), ErrNoSpace,
	// ErrClosed and ErrFailed mean that certainly nothing happened.
	// ErrOutcomeUnknown means that only reopening the store will tell.
	//
	// A context that has ended before the batch is handed over gives ctx.Err() and
	// certainly nothing happens; from then on Commit waits for the outcome whatever
	// becomes of ctx, as long as one write and sync of the disk take.
	//
	// The batch must not be changed until Commit returns; afterwards the store
	// keeps nothing of it.
	Commit(ctx context.Context, b *Batch) (Revision, error)

	// Get returns a key's value and revision: nil, 0 and nil if it is absent. The value
	// of a present key is never nil, and belongs to the caller. It does no I/O.
	Get(ctx context.Context, key []byte) (value []byte, rev Revision, err error)

	// Scan yields all keys that begin with prefix in the order of their bytes, as they
	// stand at one moment, the one at which the iteration begins. Entries belong to the
	// caller. An error is yielded once, as the last pair.
	Scan(ctx context.Context, prefix []byte) iter.Seq2[Entry, error]

	// Close waits for the commits that are under way and releases everything. Other
	// calls then fail with ErrClosed; closing again does nothing.
	Close() error
}

// Batch collects what one commit does. The zero value is empty and ready to use. It
// is not safe for concurrent use.
//
// Keys and values are copied: the caller keeps its memory. Of several writes of one
// key in a batch the last one counts. Expectations are about the state before the
// batch, wherever they stand in it; all of them must hold.
type Batch struct {
	buf    []byte // keys and values, back to back
	ops    []op
	writes int // of ops, those that are no expectation
}

type opKind uint8

const (
	opPut opKind = iota + 1
	opDelete
	opExpect
)

// op is one operation; its key and value end at the given places of the batch's
// buffer and begin where what comes before ends.
type op struct {
	kind     opKind
	keyEnd   int
	valueEnd int
	rev      Revision // of an expectation
}

// Put sets a key. A nil value is an empty one.
func (b *Batch) Put(key, value []byte) {
	b.writes++
	b.add(opPut, key, value, 0)
}

// Delete removes a key. Removing an absent key is no error.
func (b *Batch) Delete(key []byte) {
	b.writes++
	b.add(opDelete, key, nil, 0)
}

// Expect makes the commit fail with ErrConflict unless the key has this revision: 0
// for "absent".
func (b *Batch) Expect(key []byte, rev Revision) { b.add(opExpect, key, nil, rev) }

// Inlined in all that uses batches, it would be 9 KB of instructions.
//
//go:noinline
func (b *Batch) add(kind opKind, key, value []byte, rev Revision) {
	b.buf = append(b.buf, key...)
	keyEnd := len(b.buf)
	b.buf = append(b.buf, value...)
	b.ops = append(b.ops, op{kind, keyEnd, len(b.buf), rev})
}

// Len returns the number of puts, deletes and expectations.
func (b *Batch) Len() int { return len(b.ops) }

// Reset empties the batch and keeps its memory for reuse.
func (b *Batch) Reset() {
	b.buf, b.ops, b.writes = b.buf[:0], b.ops[:0], 0
}

// OpKind says what an operation of a batch does.
type OpKind uint8

const (
	OpPut    = OpKind(opPut)
	OpDelete = OpKind(opDelete)
	OpExpect = OpKind(opExpect)
)

// Op is an operation of a batch, as a store sees it. Key and Value are the batch's own memory and must not be changed or kept.
type Op struct {
	Kind       OpKind
	Key, Value []byte   // Value of a put, never nil
	Revision   Revision // that is expected
}

// Ops yields the operations in the order in which they were added, for whoever implements Store.
func (b *Batch) Ops() iter.Seq[Op] {
	return func(yield func(Op) bool) {
		for o, a := range b.all {
			op := Op{Kind: OpKind(o.kind), Key: a.key, Revision: o.rev}
			if o.kind == opPut {
				op.Value = a.value
			}
			if !yield(op) {
				return
			}
		}
	}
}

// args are an operation's key and value: the batch's own memory.
type args struct{ key, value []byte }

// all yields the operations.
func (b *Batch) all(yield func(op, args) bool) {
	start := 0
	for _, o := range b.ops {
		if !yield(o, args{b.buf[start:o.keyEnd:o.keyEnd], b.buf[o.keyEnd:o.valueEnd:o.valueEnd]}) {
			return
		}
		start = o.valueEnd
	}
}

// check refuses a batch that no store takes.
func (b *Batch) check() error {
	switch {
	case len(b.buf) > MaxBatchBytes:
		return &LimitError{"bytes of a batch", int64(len(b.buf)), MaxBatchBytes}
	case len(b.ops) > MaxBatchLen:
		return &LimitError{"operations of a batch", int64(len(b.ops)), MaxBatchLen}
	}
	for _, a := range b.all {
		if len(a.key) > MaxKeyBytes {
			return &LimitError{"bytes of a key", int64(len(a.key)), MaxKeyBytes}
		}
		if len(a.value) > MaxValueBytes {
			return &LimitError{"bytes of a value", int64(len(a.value)), MaxValueBytes}
		}
	}
	return nil
}
