package vfs

import (
	"math"
	"slices"
	"sync/atomic"
)

// OpKind says which operation of FS or File an Op is.
type OpKind uint8

// The operations of FS, then those of File.
const (
	OpCreate OpKind = iota + 1
	OpOpen
	OpOpenReadWrite
	OpRemove
	OpRename
	OpMkdir
	OpList
	OpStat
	OpSyncDir
	OpRead
	OpWrite
	OpClose
	OpSize
	OpTruncate
	OpSync
	OpDatasync
	OpReserve
)

var opNames = [...]string{
	OpCreate:        "create",
	OpOpen:          "open",
	OpOpenReadWrite: "open-read-write",
	OpRemove:        "remove",
	OpRename:        "rename",
	OpMkdir:         "mkdir",
	OpList:          "list",
	OpStat:          "stat",
	OpSyncDir:       "sync-dir",
	OpRead:          "read",
	OpWrite:         "write",
	OpClose:         "close",
	OpSize:          "size",
	OpTruncate:      "truncate",
	OpSync:          "sync",
	OpDatasync:      "datasync",
	OpReserve:       "reserve",
}

// String returns the name of the operation: "create", "sync-dir", ...
func (k OpKind) String() string {
	if int(k) < len(opNames) && opNames[k] != "" {
		return opNames[k]
	}
	return "unknown"
}

// Op is one operation that is about to happen.
type Op struct {
	Kind OpKind
	// Name is the name as it was given: for an operation on a file, to the call
	// that opened it; for a rename, the old one.
	Name string
	// NewName is the new name of a rename.
	NewName string
	// Offset is where Read, Write and Reserve begin, and the size that Truncate sets.
	Offset int64
	// Length is the number of bytes that Read, Write and Reserve ask for.
	Length int64
}

// Effect says how much of a failing operation takes place.
type Effect uint8

const (
	// EffectNone: nothing happens.
	EffectNone Effect = iota
	// EffectWhole: everything happens, and the error comes all the same.
	EffectWhole
	// EffectPart: Read and Write move the first Outcome.Bytes bytes; of any other
	// operation nothing happens.
	EffectPart
	// EffectDrop: Sync and Datasync of a file in a tracked Mem leave its unsynced
	// bytes clean and readable but not on disk, so that no later sync can bring
	// them there: what Linux may do when an fsync fails. Of any other operation,
	// and on any other file system, nothing happens.
	EffectDrop
)

// Outcome says what becomes of an operation. With a nil Err, as in the zero
// value, it goes on undisturbed.
type Outcome struct {
	Err    error
	Effect Effect
	Bytes  int // for EffectPart
}

// Injector decides what becomes of each operation of a Fault. Inject runs before
// the operation, on the goroutine that asked for it, and may block, as a slow
// disk does. It is called by many goroutines at once.
type Injector interface {
	Inject(Op) Outcome
}

// InjectorFunc is a function that is an Injector.
type InjectorFunc func(Op) Outcome

// Inject implements Injector.
func (f InjectorFunc) Inject(op Op) Outcome { return f(op) }

// OneOf asks the injectors in their order and takes the first failure. Those
// behind it do not see the operation.
func OneOf(injectors ...Injector) Injector {
	return InjectorFunc(func(op Op) Outcome {
		for _, inj := range injectors {
			if out := inj.Inject(op); out.Err != nil {
				return out
			}
		}
		return Outcome{}
	})
}

// OpIs returns a match function for operations of these kinds.
func OpIs(kinds ...OpKind) func(Op) bool {
	return func(op Op) bool { return slices.Contains(kinds, op.Kind) }
}

// Trigger is an Injector that counts the operations that match and fails one,
// or all from one on. To visit each operation of a piece of work, run it with
// k = 1, 2, 3, ... until a run ends with Fired false.
//
// It is safe for concurrent use once it is in use; After, Short and Dropping
// configure it before.
type Trigger struct {
	first, last int64 // the matching operations to fail, counted from 1
	match       func(Op) bool
	out         Outcome
	count       atomic.Int64
	fired       atomic.Bool
}

// FailAt fails the k-th operation that matches, once, with err; nothing of it
// happens. A nil match matches all; a k below 1 only counts.
func FailAt(k int64, err error, match func(Op) bool) *Trigger {
	return &Trigger{first: k, last: k, match: match, out: Outcome{Err: err}}
}

// FailFrom fails the k-th operation that matches and all that match after it; a
// k below 1 fails them all.
func FailFrom(k int64, err error, match func(Op) bool) *Trigger {
	t := FailAt(k, err, match)
	t.last = math.MaxInt64
	return t
}

// After lets the operation happen before it fails, and returns t.
func (t *Trigger) After() *Trigger { return t.with(EffectWhole, 0) }

// Short lets a read or a write move n bytes before it fails, and returns t.
func (t *Trigger) Short(n int) *Trigger { return t.with(EffectPart, n) }

// Dropping makes a sync fail with EffectDrop, and returns t.
func (t *Trigger) Dropping() *Trigger { return t.with(EffectDrop, 0) }

func (t *Trigger) with(effect Effect, bytes int) *Trigger {
	t.out.Effect, t.out.Bytes = effect, bytes
	return t
}

// Inject implements Injector.
func (t *Trigger) Inject(op Op) Outcome {
	if t.match != nil && !t.match(op) {
		return Outcome{}
	}
	n := t.count.Add(1)
	if n < t.first || n > t.last {
		return Outcome{}
	}
	t.fired.Store(true)
	return t.out
}

// Fired reports whether an operation has been failed.
func (t *Trigger) Fired() bool { return t.fired.Load() }

// Count returns how many operations have matched.
func (t *Trigger) Count() int64 { return t.count.Load() }
