package checkpoint_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/braid-go/braid/checkpoint"
)

// hookedStore is a store that says what it is asked, and lets a test step in.
type hookedStore struct {
	*checkpoint.Memory
	afterGet  func(key string)                                                                 // the answer is known, and not yet given
	commit    func(b *checkpoint.Batch, store *checkpoint.Memory) (checkpoint.Revision, error) // instead of Commit
	closeWith error
}

func newHooked() *hookedStore {
	return &hookedStore{Memory: checkpoint.NewMemory(checkpoint.MemoryOptions{})}
}

func (s *hookedStore) Get(ctx context.Context, key []byte) ([]byte, checkpoint.Revision, error) {
	value, rev, err := s.Memory.Get(ctx, key)
	if s.afterGet != nil {
		s.afterGet(string(key))
	}
	return value, rev, err
}

func (s *hookedStore) Commit(ctx context.Context, b *checkpoint.Batch) (checkpoint.Revision, error) {
	if s.commit != nil {
		return s.commit(b, s.Memory)
	}
	return s.Memory.Commit(ctx, b)
}

func (s *hookedStore) Close() error { return errors.Join(s.Memory.Close(), s.closeWith) }

func mustGet(t testing.TB, s checkpoint.Store, key string) (string, checkpoint.Revision) {
	t.Helper()
	value, rev, err := s.Get(context.Background(), []byte(key))
	if err != nil {
		t.Fatalf("get %q: %v", key, err)
	}
	if (value == nil) != (rev == 0) {
		t.Errorf("key %q has the value %v at revision %d", key, value, rev)
	}
	return string(value), rev
}

func mustPut(t testing.TB, s checkpoint.Store, pairs ...string) checkpoint.Revision {
	t.Helper()
	rev, err := s.Commit(context.Background(), putting(pairs...))
	if err != nil {
		t.Fatalf("put %q: %v", pairs, err)
	}
	return rev
}

func putting(pairs ...string) *checkpoint.Batch {
	var b checkpoint.Batch
	for i := 0; i < len(pairs); i += 2 {
		b.Put([]byte(pairs[i]), []byte(pairs[i+1]))
	}
	return &b
}

// wantHits checks that each key is answered from memory, as the store would.
func wantHits(t *testing.T, c *checkpoint.Cache, bare checkpoint.Store, keys ...string) {
	t.Helper()
	wantAnswers(t, c, bare, 1, keys)
}

// wantMisses checks that the store is asked for each key.
func wantMisses(t *testing.T, c *checkpoint.Cache, bare checkpoint.Store, keys ...string) {
	t.Helper()
	wantAnswers(t, c, bare, 0, keys)
}

func wantAnswers(t *testing.T, c *checkpoint.Cache, bare checkpoint.Store, hits int64, keys []string) {
	t.Helper()
	for _, key := range keys {
		before := c.Stats()
		value, rev := mustGet(t, c, key)
		after := c.Stats()
		if after.Hits-before.Hits != hits || after.Misses-before.Misses != 1-hits {
			t.Errorf("key %q: %d hits and %d misses, want %d hits of one", key, after.Hits-before.Hits, after.Misses-before.Misses, hits)
		}
		if truth, trueRev := mustGet(t, bare, key); value != truth || rev != trueRev {
			t.Errorf("key %q is %q at %d, in the store it is %q at %d", key, value, rev, truth, trueRev)
		}
	}
}

func TestAnswersAreRememberedAlsoThatAKeyIsAbsent(t *testing.T) {
	store := newHooked()
	mustPut(t, store, "k", "v", "empty", "")
	c := newCache(t, store, checkpoint.CacheOptions{})
	keys := []string{"k", "empty", "absent", ""}
	wantMisses(t, c, store.Memory, keys...)
	wantHits(t, c, store.Memory, keys...)
	want := checkpoint.CacheStats{Entries: 4, Bytes: 4*checkpoint.EntryOverhead + 13, Hits: 4, Misses: 4}
	if diff := cmp.Diff(want, c.Stats()); diff != "" || c.Stats().HitRate() != 0.5 {
		t.Errorf("hit rate %v, stats (-want +got):\n%s", c.Stats().HitRate(), diff)
	}
	if rate := (checkpoint.CacheStats{}).HitRate(); rate != 0 {
		t.Errorf("without a Get the hit rate is %v", rate)
	}
}

func TestWhatACommitWritesIsRemembered(t *testing.T) {
	store := newHooked()
	c := newCache(t, store, checkpoint.CacheOptions{})
	b := putting("k", "old", "k", "new", "gone", "x")
	b.Delete([]byte("gone"))
	b.Delete([]byte("never"))
	b.Expect([]byte("expected"), 0)
	if _, err := c.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	wantHits(t, c, store.Memory, "k", "gone", "never")
	wantMisses(t, c, store.Memory, "expected")
	mustPut(t, c, "k", "newer", "never", "after all")
	wantHits(t, c, store.Memory, "k", "never")
}

func TestValuesAreSharedWithNobody(t *testing.T) {
	for name, remember := range map[string]func(*testing.T, *hookedStore, *checkpoint.Cache){
		"by a get": func(t *testing.T, store *hookedStore, _ *checkpoint.Cache) { mustPut(t, store, "k", "value") },
		"by a commit": func(t *testing.T, _ *hookedStore, c *checkpoint.Cache) {
			b := putting("k", "value")
			if _, err := c.Commit(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			b.Reset()
			b.Put([]byte("x"), []byte("xxxxx"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			store := newHooked()
			c := newCache(t, store, checkpoint.CacheOptions{})
			remember(t, store, c)
			for range 3 {
				key := []byte("k")
				value, rev, err := c.Get(t.Context(), key)
				if string(value) != "value" || rev != 1 || err != nil {
					t.Fatalf("%q at %d, error %v", value, rev, err)
				}
				copy(key, "x")
				copy(value, "xxxxx")
				_ = append(value, "xxxxx"...)
			}
		})
	}
}

func TestAfterAnyOtherErrorAllKeysOfTheBatchAreAskedForAgain(t *testing.T) {
	for _, failure := range []error{
		checkpoint.ErrOutcomeUnknown, checkpoint.ErrNoSpace, checkpoint.ErrLimit, context.Canceled, errors.New("of a driver"),
		errors.Join(checkpoint.ErrConflict, checkpoint.ErrOutcomeUnknown),
	} {
		for _, done := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v, done: %t", failure, done), func(t *testing.T) {
				store := newHooked()
				c := newCache(t, store, checkpoint.CacheOptions{})
				rev := mustPut(t, c, "put", "1", "deleted", "1", "expected", "1", "other", "1")
				store.commit = func(b *checkpoint.Batch, m *checkpoint.Memory) (checkpoint.Revision, error) {
					if done {
						m.Commit(t.Context(), b)
					}
					return 0, failure
				}
				b := putting("put", "2")
				b.Delete([]byte("deleted"))
				b.Expect([]byte("expected"), rev)
				if _, err := c.Commit(t.Context(), b); !errors.Is(err, failure) {
					t.Fatalf("error %v, want %v", err, failure)
				}
				wantHits(t, c, store.Memory, "other")
				wantMisses(t, c, store.Memory, "put", "deleted", "expected")
				wantHits(t, c, store.Memory, "put", "deleted", "expected")
			})
		}
	}
}

// cancellingStore is asked for a key when its caller loses patience.
type cancellingStore struct {
	*hookedStore
	cancel func()
}

func (s *cancellingStore) Get(ctx context.Context, key []byte) ([]byte, checkpoint.Revision, error) {
	s.cancel()
	return s.hookedStore.Get(ctx, key)
}

func TestAnErrorOfAGetIsNotRemembered(t *testing.T) {
	store := newHooked()
	ctx, cancel := context.WithCancel(t.Context())
	c := newCache(t, &cancellingStore{store, cancel}, checkpoint.CacheOptions{})
	if _, _, err := c.Get(ctx, []byte("k")); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v, want context.Canceled", err)
	}
	wantMisses(t, c, store.Memory, "k")
	wantHits(t, c, store.Memory, "k")
	if _, _, err := c.Get(ctx, []byte("k")); !errors.Is(err, context.Canceled) {
		t.Errorf("of a remembered key: error %v, want context.Canceled", err)
	}
}
