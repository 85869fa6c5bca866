package sorting_test

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/braid-go/braid/internal/sorting"
)

type element struct{ key, place int }

func byKey(a, b element) int { return cmp.Compare(a.key, b.key) }

// random returns elements in no order, many of the same key.
func random(r *rand.Rand) []element {
	s := make([]element, r.IntN(200))
	for i := range s {
		s[i] = element{r.IntN(20), i}
	}
	return s
}

func TestSortsAsPackageSlicesDoes(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		got := random(r)
		want := slices.Clone(got)
		sorting.StableFunc(got, byKey)
		slices.SortStableFunc(want, byKey)
		if !slices.Equal(got, want) {
			t.Fatalf("seed %d: stable: got %v, want %v", seed, got, want)
		}

		got = random(r)
		all := map[element]bool{}
		for _, e := range got {
			all[e] = true
		}
		sorting.Func(got, byKey)
		if !slices.IsSortedFunc(got, byKey) {
			t.Fatalf("seed %d: not in order: %v", seed, got)
		}
		for _, e := range got {
			delete(all, e)
		}
		if len(all) > 0 {
			t.Fatalf("seed %d: lost: %v", seed, all)
		}
	}
}
