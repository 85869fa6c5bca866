package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/braid-go/braid/checkpoint"
)

// modelSeed is the seed of the random test: a fixed one, so that a failure can be replayed.
const modelSeed = 20

// model commits random batches to a store and to a map, and compares.
func model(t *testing.T, s suite) {
	st := s.open(t)
	rng := rand.New(rand.NewPCG(modelSeed, 0))
	held := map[string]pair{}
	for round := range 600 {
		b, after, conflicting := randomBatch(rng, held)
		rev, err := st.Commit(t.Context(), b)
		switch {
		case conflicting:
			if !errors.Is(err, checkpoint.ErrConflict) {
				t.Fatalf("seed %d, round %d: error %v, want ErrConflict", modelSeed, round, err)
			}
		case err != nil:
			t.Fatalf("seed %d, round %d: %v", modelSeed, round, err)
		default:
			for key, p := range after {
				if p.Rev == 0 {
					p.Rev = rev
					after[key] = p
				}
			}
			held = after
		}
		if round%100 == 99 && s.features.Reopen != nil {
			st = s.features.Reopen(t, st)
		}
		if round%20 != 19 {
			continue
		}
		expected := slices.SortedFunc(maps.Values(held), func(a, b pair) int { return strings.Compare(a.Key, b.Key) })
		if diff := cmp.Diff(append([]pair{}, expected...), scan(t, st, "")); diff != "" {
			t.Fatalf("seed %d, round %d (-want +got):\n%s", modelSeed, round, diff)
		}
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
}

// randomBatch returns a batch and what the map becomes with it, new keys with revision 0;
// or that it must conflict.
func randomBatch(rng *rand.Rand, held map[string]pair) (b *checkpoint.Batch, after map[string]pair, conflicting bool) {
	b, after = new(checkpoint.Batch), maps.Clone(held)
	shrink := rng.IntN(4) == 0
	for range 1 + rng.IntN(40) {
		key := fmt.Sprintf("%x", rng.IntN(1000))
		switch n := rng.IntN(10); {
		case n == 0:
			rev := held[key].Rev
			if rng.IntN(20) == 0 {
				rev++
				conflicting = true
			}
			b.Expect([]byte(key), rev)
		case n < 4 || shrink:
			b.Delete([]byte(key))
			delete(after, key)
		default:
			value := strconv.Itoa(rng.Int())
			b.Put([]byte(key), []byte(value))
			after[key] = pair{key, value, 0}
		}
	}
	b.Put([]byte("always"), nil)
	after["always"] = pair{"always", "", 0}
	return b, after, conflicting
}

// increments has many goroutines add 1 to one key, each repeating what conflicts.
func increments(t *testing.T, s suite) {
	st := s.start(t)
	const workers, each = 8, 25
	var wg sync.WaitGroup
	revs := make([][]checkpoint.Revision, workers)
	for w := range workers {
		wg.Go(func() {
			for len(revs[w]) < each {
				value, rev, err := st.Get(t.Context(), []byte("n"))
				if err != nil {
					t.Error(err)
					return
				}
				n, _ := strconv.Atoi(string(value))
				var b checkpoint.Batch
				b.Expect([]byte("n"), rev)
				b.Put([]byte("n"), []byte(strconv.Itoa(n+1)))
				rev, err = st.Commit(t.Context(), &b)
				if errors.Is(err, checkpoint.ErrConflict) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				revs[w] = append(revs[w], rev)
			}
		})
	}
	wg.Wait()
	all := slices.Concat(revs...)
	slices.Sort(all)
	if distinct := slices.Compact(slices.Clone(all)); len(distinct) != workers*each || len(all) != workers*each {
		t.Fatalf("%d increments have %d revisions, want %d", len(all), len(distinct), workers*each)
	}
	want(t, st, "n", strconv.Itoa(workers*each), all[len(all)-1])
}

// wholeCommits has writers keep two keys equal, and readers look.
func wholeCommits(t *testing.T, s suite) {
	st := s.start(t)
	const writers, each = 4, 50
	done := make(chan struct{})
	var writing, reading sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := range each {
				value := fmt.Appendf(nil, "%d-%d", w, i)
				var b checkpoint.Batch
				b.Put([]byte("left"), value)
				b.Put([]byte("right"), value)
				rev, err := st.Commit(t.Context(), &b)
				if err != nil {
					t.Error(err)
					return
				}
				if _, now, err := st.Get(t.Context(), []byte("left")); err != nil || now < rev {
					t.Errorf("after committing %d, a get finds %d, error %v", rev, now, err)
				}
			}
		})
	}
	reading.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			var seen []pair
			for e, err := range st.Scan(t.Context(), nil) {
				if err != nil {
					t.Error(err)
					return
				}
				seen = append(seen, pair{string(e.Key), string(e.Value), e.Revision})
			}
			if len(seen) != 0 && (len(seen) != 2 || seen[0].Value != seen[1].Value || seen[0].Rev != seen[1].Rev) {
				t.Errorf("half a commit is visible: %v", seen)
				return
			}
		}
	})
	writing.Wait()
	close(done)
	reading.Wait()
}

// closeDuringCommits closes a store while it is in use: each commit is done or refused.
func closeDuringCommits(t *testing.T, s suite) {
	st := s.open(t)
	const workers = 8
	acked := make([]int, workers)
	var wg sync.WaitGroup
	busy := make(chan struct{}, workers)
	for w := range workers {
		wg.Go(func() {
			for i := 1; ; i++ {
				_, err := st.Commit(context.Background(), put(strconv.Itoa(w), strconv.Itoa(i)))
				if errors.Is(err, checkpoint.ErrClosed) {
					return
				}
				if err != nil {
					t.Errorf("commit during close: %v", err)
					return
				}
				if acked[w] = i; i == 3 {
					busy <- struct{}{}
				}
			}
		})
	}
	for range workers {
		<-busy
	}
	if s.features.Reopen == nil {
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		return
	}
	again := s.features.Reopen(t, st)
	wg.Wait()
	for w := range workers {
		value, _, err := again.Get(t.Context(), []byte(strconv.Itoa(w)))
		if err != nil || string(value) != strconv.Itoa(acked[w]) {
			t.Errorf("worker %d was told of %d commits, the store has %q, error %v", w, acked[w], value, err)
		}
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}
