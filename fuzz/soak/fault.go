package main

import (
	"errors"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/braid-go/braid"
	"github.com/braid-go/braid/internal/vfs"
)

// fault is something that a disk does: of the operations of a kind it fails so many, from a first one on.
type fault struct {
	Kind  string // a key of faultKinds
	First int64  // counted from 1
	Count int64
	Bytes int // that a short write writes
}

// faultKind is what can go wrong.
type faultKind struct {
	concerns func(vfs.Op) bool
	outcome  vfs.Outcome
}

var (
	changes = vfs.OpIs(vfs.OpCreate, vfs.OpRemove, vfs.OpRename, vfs.OpMkdir, vfs.OpSyncDir, vfs.OpWrite, vfs.OpTruncate, vfs.OpSync, vfs.OpDatasync)
	looks   = vfs.OpIs(vfs.OpOpen, vfs.OpOpenReadWrite, vfs.OpList, vfs.OpStat, vfs.OpRead, vfs.OpSize)
)

var faultKinds = map[string]faultKind{
	"changes fail":                     {changes, vfs.Outcome{Err: syscall.EIO}},
	"changes happen and fail":          {changes, vfs.Outcome{Err: syscall.EIO, Effect: vfs.EffectWhole}},
	"syncs fail":                       {vfs.OpIs(vfs.OpSync, vfs.OpDatasync, vfs.OpSyncDir), vfs.Outcome{Err: syscall.EIO}},
	"writes are short":                 {vfs.OpIs(vfs.OpWrite), vfs.Outcome{Err: syscall.EIO, Effect: vfs.EffectPart}},
	"reads fail":                       {looks, vfs.Outcome{Err: syscall.EIO}},
	"the disk is full":                 {vfs.OpIs(vfs.OpCreate, vfs.OpMkdir, vfs.OpWrite, vfs.OpReserve), vfs.Outcome{Err: syscall.ENOSPC, Effect: vfs.EffectPart}},
	"there is no space to be reserved": {vfs.OpIs(vfs.OpReserve), vfs.Outcome{Err: syscall.ENOSPC}},
}

// kindsOfFaults are the keys of faultKinds, in an order that does not change.
var kindsOfFaults = slices.Sorted(maps.Keys(faultKinds))

// randomFault chooses one: early or late, that lasts for one operation, for some, or for ever.
func randomFault(rng *rand.Rand) fault {
	f := fault{Kind: kindsOfFaults[rng.IntN(len(kindsOfFaults))], First: int64(math.Pow(300, rng.Float64())), Count: 1, Bytes: rng.IntN(300)}
	switch rng.IntN(3) {
	case 0:
		f.Count = 1 + rng.Int64N(100)
	case 1:
		f.Count = math.MaxInt32
	}
	return f
}

// failingDisk is an injector with one fault.
type failingDisk struct {
	fault
	said  func() // is called when it begins
	once  sync.Once
	n     atomic.Int64
	begun atomic.Bool
}

// Inject implements vfs.Injector.
func (d *failingDisk) Inject(op vfs.Op) vfs.Outcome {
	kind := faultKinds[d.Kind]
	if !kind.concerns(op) {
		return vfs.Outcome{}
	}
	if n := d.n.Add(1); n < d.First || n >= d.First+d.Count {
		return vfs.Outcome{}
	}
	d.begun.Store(true)
	d.once.Do(d.said)
	out := kind.outcome
	out.Bytes = d.Bytes
	return out
}

// excuses reports whether an error is what the fault gives the right to, and it has begun.
func (d *failingDisk) excuses(err error) bool {
	if !d.begun.Load() {
		return false
	}
	for _, typed := range []error{braid.ErrPartitionFailed, braid.ErrOutcomeUnknown, braid.ErrStoreFailed, braid.ErrNoSpace, syscall.EIO, syscall.ENOSPC} {
		if errors.Is(err, typed) {
			return true
		}
	}
	return false
}
