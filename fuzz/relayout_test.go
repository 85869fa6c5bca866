package fuzz

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/braid-go/braid"
	"github.com/braid-go/braid/partition"
)

// Producers with skewed keys, members that join, leave, commit and transact, and restarts in the middle of it, while partitions are split and merged
// without a pause: of each key the order is kept over all partitions, nothing is lost or there twice, no partition has two owners, and after every split and merge the
// ranges of those that take records cover the space exactly once.
func TestSplitsAndMergesBesideEverythingElseHaveACorrectHistory(t *testing.T) {
	for _, tc := range []struct {
		name  string
		opts  braid.Options
		calls int // of each producer in a phase
		cuts  int
		hurry bool
	}{
		{name: "memory", opts: braid.Options{InMemory: true}, calls: 1000, hurry: true},
		{name: "fsync", calls: 200, cuts: 2},
		{name: "os, hurried", opts: braid.Options{Durability: braid.OS}, calls: 1000, cuts: 2, hurry: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRun(t, tc.opts, tc.hurry)
			r.in.Partitions, r.Skewed = 1, true
			splits, merges := 0, 0
			r.beside = func(ctx context.Context) {
				rng := r.Random()
				for range 8 {
					merged, err := r.relay(ctx, rng)
					if err != nil {
						if !errors.Is(err, braid.ErrClosed) && ctx.Err() == nil {
							t.Error(err)
						}
						return
					}
					if merged {
						merges++
					} else {
						splits++
					}
				}
			}
			r.open()
			for range tc.cuts {
				r.phase(tc.calls, true)
			}
			r.phase(tc.calls, false)
			r.phase(tc.calls, false)
			for _, p := range r.In.Partitions() { // by id, so that parents come first
				if len(p.Parents) > 0 {
					var parents []uint64
					for _, id := range p.Parents {
						parents = append(parents, uint64(id))
					}
					r.Recorder.Merge(uint64(p.ID), parents...)
				}
			}
			r.finish()
			if splits < 3 || merges < 3 {
				t.Errorf("not worth checking: %d splits and %d merges", splits, merges)
			}
			t.Logf("%d splits, %d merges", splits, merges)
		})
	}
}

// mostActive is how many partitions take records at most.
const mostActive = 6

// relay splits a partition or merges two, and checks that the space is covered.
func (r *run) relay(ctx context.Context, rng *rand.Rand) (merged bool, err error) {
	active := r.active()
	i := rng.IntN(len(active))
	merged = i > 0 && (rng.IntN(2) == 0 || len(active) >= mostActive)
	switch {
	case merged:
		_, err = r.In.Merge(ctx, active[i-1].ID, active[i].ID)
	case len(active) < mostActive:
		_, err = r.In.Split(ctx, active[i].ID)
	}
	if indivisible := (*partition.IndivisibleError)(nil); errors.As(err, &indivisible) {
		err = nil
	}
	r.active()
	return merged, err
}

// active returns the partitions that take records, in the order of their ranges, which must cover the space exactly once.
func (r *run) active() []braid.PartitionInfo {
	active := slices.DeleteFunc(r.In.Partitions(), func(p braid.PartitionInfo) bool { return p.Sealed })
	slices.SortFunc(active, func(x, y braid.PartitionInfo) int {
		if x.KeyRange.Lo < y.KeyRange.Lo {
			return -1
		}
		return 1
	})
	next := uint64(0)
	for i, p := range active {
		if p.KeyRange.Lo != next || p.KeyRange.Hi < p.KeyRange.Lo || i == len(active)-1 && p.KeyRange.Hi != math.MaxUint64 {
			r.t.Errorf("the ranges do not cover the space exactly once: partition %d has %x to %x, want it to begin at %x; there are %d", p.ID, p.KeyRange.Lo, p.KeyRange.Hi, next, len(active))
		}
		next = p.KeyRange.Hi + 1
	}
	if len(active) == 0 {
		r.t.Error("no partition takes records")
	}
	return active
}
