package checkpoint

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
)

// Revision says which commit last wrote a key: its sequence number. 0 means that the key is absent.
type Revision uint64

// Entry is a key with its value.
type Entry struct {
	Key, Value []byte
	Revision   Revision
}

// Store keeps keys and values durably. Implementations are safe for concurrent use.
type Store interface {
	// Commit carries out a batch: wholly, and durably when it returns nil, or not at all. It returns the revision
	// that the keys put have from now on. If an expectation is not met the error is a *ConflictError and nothing
	// happens. ctx bounds the wait for the commit's turn; once it has been submitted ctx has no say, and the
	// outcome is waited for. The batch may be used again after it.
	//
	// Other errors: ErrClosed, ErrLimit, ErrNoSpace, ErrFailed, with which nothing happened; ErrOutcomeUnknown.
	Commit(ctx context.Context, b *Batch) (Revision, error)
	// Get returns a key's value, which the caller must not change, and its revision; nil and 0 if it is absent.
	Get(ctx context.Context, key []byte) (value []byte, rev Revision, err error)
	// Scan iterates over the keys with a prefix, in order, as they were when the iteration began. The entries'
	// memory must not be changed.
	Scan(ctx context.Context, prefix []byte) iter.Seq2[Entry, error]
	// Close releases the store. What was committed stays committed.
	Close() error
}

const (
	// MaxKeyBytes bounds a key.
	MaxKeyBytes = 4 << 10
	// MaxBatchBytes bounds the keys and values of a batch together.
	MaxBatchBytes = 4 << 20
	// DefaultMaxBytes bounds the keys and values of a store together, if its options do not.
	DefaultMaxBytes = 256 << 20
	// keyOverhead is counted for each key, beside its bytes and its value's.
	keyOverhead = 64
)

// The kinds of error, for errors.Is.
var (
	ErrConflict       = errors.New("checkpoint: conflict")
	ErrClosed         = errors.New("checkpoint: closed")
	ErrCorrupt        = errors.New("checkpoint: corrupt")
	ErrMissingData    = errors.New("checkpoint: missing data")
	ErrLimit          = errors.New("checkpoint: limit exceeded")
	ErrNoSpace        = errors.New("checkpoint: no space left on device")
	ErrOutcomeUnknown = errors.New("checkpoint: outcome unknown")
	// ErrFailed: an earlier write or sync failed; nothing is committed any more until the store is opened again.
	ErrFailed = errors.New("checkpoint: failed")
)

// ConflictError says which expectation of a batch was not met.
type ConflictError struct {
	Key              []byte
	Expected, Actual Revision
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("checkpoint: key %.64q has revision %d, expected was %d", e.Key, e.Actual, e.Expected)
}

// Is reports whether target is [ErrConflict].
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

// CorruptError reports stored bytes that are not what was written.
type CorruptError struct {
	Path   string
	Pos    int64
	Reason string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("checkpoint: %s is corrupt at %d: %s", e.Path, e.Pos, e.Reason)
}

// Is reports whether target is [ErrCorrupt].
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

// MissingDataError reports that something stored is no longer there.
type MissingDataError struct {
	Path   string
	Reason string
}

func (e *MissingDataError) Error() string {
	return fmt.Sprintf("checkpoint: %s: %s", e.Path, e.Reason)
}

// Is reports whether target is [ErrMissingData].
func (e *MissingDataError) Is(target error) bool { return target == ErrMissingData }

// Batch collects changes that happen together. The zero Batch is empty. What it is given it copies. It is not
// safe for concurrent use.
type Batch struct {
	ops     []op
	expects []expectation
	bytes   int
}

// op puts a key, or deletes it.
type op struct {
	key, value []byte
	delete     bool
}

type expectation struct {
	key []byte
	rev Revision
}

// Put sets a key. A nil value is stored as an empty one.
func (b *Batch) Put(key, value []byte) {
	b.ops = append(b.ops, op{key: bytes.Clone(key), value: append([]byte{}, value...)})
	b.bytes += len(key) + len(value) + keyOverhead
}

// Delete removes a key, if it is there.
func (b *Batch) Delete(key []byte) {
	b.ops = append(b.ops, op{key: bytes.Clone(key), delete: true})
	b.bytes += len(key) + keyOverhead
}

// Expect makes the whole batch depend on a key's revision; 0: that it is absent.
func (b *Batch) Expect(key []byte, rev Revision) {
	b.expects = append(b.expects, expectation{bytes.Clone(key), rev})
}

// Len returns the number of puts and deletes.
func (b *Batch) Len() int { return len(b.ops) }

// Reset empties the batch.
func (b *Batch) Reset() { *b = Batch{} }

// check refuses a batch that no store can take.
func (b *Batch) check() error {
	if b.bytes > MaxBatchBytes {
		return fmt.Errorf("%w: a batch of %d bytes, at most %d", ErrLimit, b.bytes, MaxBatchBytes)
	}
	for _, o := range b.ops {
		if len(o.key) == 0 || len(o.key) > MaxKeyBytes {
			return fmt.Errorf("%w: a key of %d bytes, must be 1 to %d", ErrLimit, len(o.key), MaxKeyBytes)
		}
	}
	return nil
}
