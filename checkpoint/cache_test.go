package checkpoint_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/braid-go/braid/checkpoint"
	"github.com/braid-go/braid/checkpoint/storetest"
)

func newCache(t testing.TB, s checkpoint.Store, opts checkpoint.CacheOptions) *checkpoint.Cache {
	t.Helper()
	c, err := checkpoint.NewCache(s, opts)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestACacheConforms(t *testing.T) {
	for _, entries := range []int{0, 1, 3} {
		t.Run(fmt.Sprint(entries, " entries"), func(t *testing.T) {
			storetest.TestStore(t, func(t *testing.T) checkpoint.Store {
				return newCache(t, checkpoint.NewMemory(checkpoint.MemoryOptions{}), checkpoint.CacheOptions{MaxEntries: entries})
			}, storetest.Features{Bounded: true})
		})
	}
}

// foreign is a store as somebody outside would write it, with nothing but what the package exports.
type foreign struct {
	mu     sync.Mutex
	last   checkpoint.Revision
	m      map[string]checkpoint.Entry
	closed bool
	gets   int
	gate   func(what string) // called with what is about to happen, and after
}

func (f *foreign) at(what string) {
	if f.gate != nil {
		f.gate(what)
	}
}

func (f *foreign) usable(ctx context.Context) error {
	if f.closed {
		return checkpoint.ErrClosed
	}
	return ctx.Err()
}

func (f *foreign) Commit(ctx context.Context, b *checkpoint.Batch) (checkpoint.Revision, error) {
	f.at("before commit")
	defer f.at("after commit")
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.usable(ctx); err != nil {
		return 0, err
	}
	writes := false
	for op := range b.Ops() {
		writes = writes || op.Kind != checkpoint.OpExpect
		if now := f.m[string(op.Key)].Revision; op.Kind == checkpoint.OpExpect && now != op.Revision {
			return 0, &checkpoint.ConflictError{Key: bytes.Clone(op.Key), Expected: op.Revision, Actual: now}
		}
	}
	if !writes {
		return f.last, nil
	}
	f.last++
	for op := range b.Ops() {
		switch op.Kind {
		case checkpoint.OpPut:
			f.m[string(op.Key)] = checkpoint.Entry{Key: bytes.Clone(op.Key), Value: append([]byte{}, op.Value...), Revision: f.last}
		case checkpoint.OpDelete:
			delete(f.m, string(op.Key))
		}
	}
	return f.last, nil
}

func (f *foreign) Get(ctx context.Context, key []byte) ([]byte, checkpoint.Revision, error) {
	f.mu.Lock()
	if err := f.usable(ctx); err != nil {
		f.mu.Unlock()
		return nil, 0, err
	}
	f.gets++
	e := f.m[string(key)]
	f.mu.Unlock()
	f.at("after get")
	return bytes.Clone(e.Value), e.Revision, nil
}

func (f *foreign) Scan(ctx context.Context, prefix []byte) iter.Seq2[checkpoint.Entry, error] {
	return func(yield func(checkpoint.Entry, error) bool) {
		f.mu.Lock()
		err := f.usable(ctx)
		var found []checkpoint.Entry
		for k, e := range f.m {
			if strings.HasPrefix(k, string(prefix)) {
				found = append(found, checkpoint.Entry{Key: bytes.Clone(e.Key), Value: append([]byte{}, e.Value...), Revision: e.Revision})
			}
		}
		f.mu.Unlock()
		if err != nil {
			yield(checkpoint.Entry{}, err)
			return
		}
		slices.SortFunc(found, func(a, b checkpoint.Entry) int { return bytes.Compare(a.Key, b.Key) })
		for _, e := range found {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func (f *foreign) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	return nil
}

func newForeign() *foreign { return &foreign{m: map[string]checkpoint.Entry{}} }

func TestAStoreWrittenOutsideConforms(t *testing.T) {
	storetest.TestStore(t, func(*testing.T) checkpoint.Store { return newForeign() }, storetest.Features{})
	storetest.TestStore(t, func(t *testing.T) checkpoint.Store { return newCache(t, newForeign(), checkpoint.CacheOptions{}) }, storetest.Features{})
}

func put(t testing.TB, s checkpoint.Store, key, value string) checkpoint.Revision {
	t.Helper()
	var b checkpoint.Batch
	b.Put([]byte(key), []byte(value))
	rev, err := s.Commit(t.Context(), &b)
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func wantValue(t testing.TB, s checkpoint.Store, key, want string) {
	t.Helper()
	if v, _, err := s.Get(t.Context(), []byte(key)); err != nil || string(v) != want {
		t.Errorf("%s is %q, %v; want %q", key, v, err, want)
	}
}

func TestACacheAnswersWithoutTheStoreAndIsBounded(t *testing.T) {
	f := newForeign()
	c := newCache(t, f, checkpoint.CacheOptions{MaxEntries: 2})
	put(t, c, "a", "1")
	put(t, c, "b", "2")
	wantValue(t, c, "a", "1")
	wantValue(t, c, "b", "2")
	if f.gets != 0 {
		t.Errorf("%d Gets went to the store", f.gets)
	}
	wantValue(t, c, "absent", "") // takes the place of a
	wantValue(t, c, "absent", "")
	wantValue(t, c, "b", "2")
	wantValue(t, c, "a", "1")
	if s := c.Stats(); f.gets != 2 || s.Entries != 2 || s.Hits != 4 || s.Misses != 2 || s.Evictions != 2 || s.HitRate() != 4.0/6 {
		t.Errorf("%d Gets, %+v", f.gets, s)
	}
	small := newCache(t, newForeign(), checkpoint.CacheOptions{MaxBytes: 200})
	put(t, small, "big", strings.Repeat("x", 300))
	put(t, small, "a", strings.Repeat("x", 100))
	put(t, small, "b", strings.Repeat("y", 100))
	if s := small.Stats(); s.Entries != 1 || s.Bytes > 200 {
		t.Errorf("%+v", s)
	}
	wantValue(t, small, "big", strings.Repeat("x", 300))
	if _, err := checkpoint.NewCache(f, checkpoint.CacheOptions{MaxEntries: -1}); !errors.Is(err, checkpoint.ErrLimit) {
		t.Errorf("error %v, want ErrLimit", err)
	}
}

func TestAConflictEmptiesTheCacheOfWhatWasExpected(t *testing.T) {
	f := newForeign()
	c := newCache(t, f, checkpoint.CacheOptions{})
	put(t, c, "k", "old")
	put(t, f, "k", "behind its back")
	var b checkpoint.Batch
	b.Expect([]byte("k"), 1)
	b.Put([]byte("other"), nil)
	if _, err := c.Commit(t.Context(), &b); !errors.Is(err, checkpoint.ErrConflict) {
		t.Fatalf("error %v, want ErrConflict", err)
	}
	wantValue(t, c, "k", "behind its back")
}

// A Get that has read the old value, and is overtaken by a commit, must not leave the old value behind.
func TestAnOvertakenGetLeavesNothingBehind(t *testing.T) {
	f := newForeign()
	c := newCache(t, f, checkpoint.CacheOptions{})
	put(t, f, "k", "old")
	read, goOn := make(chan struct{}), make(chan struct{})
	var held atomic.Bool
	f.gate = func(what string) {
		if what == "after get" && held.CompareAndSwap(false, true) {
			close(read)
			<-goOn
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		wantValue(t, c, "k", "old")
	}()
	<-read
	put(t, c, "k", "new")
	close(goOn)
	<-done
	wantValue(t, c, "k", "new")
}

// Of two commits of a key that are under way at once, the one that returns last need not be the one that came last.
func TestCommitsThatOvertakeEachOtherLeaveTheLastValue(t *testing.T) {
	f := newForeign()
	c := newCache(t, f, checkpoint.CacheOptions{})
	committed, goOn := make(chan struct{}), make(chan struct{})
	var held atomic.Bool
	f.gate = func(what string) {
		if what == "after commit" && held.CompareAndSwap(false, true) {
			close(committed)
			<-goOn
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		put(t, c, "k", "first") // is in the store, and has not returned
	}()
	<-committed
	put(t, c, "k", "second")
	close(goOn)
	<-done
	wantValue(t, c, "k", "second")
}

// Everything at once: a reader never sees a revision go back, and in the end cache and store agree.
func TestACacheNeverGoesBack(t *testing.T) {
	f := newForeign()
	c := newCache(t, f, checkpoint.CacheOptions{MaxEntries: 3})
	key := func() []byte { return []byte{byte('a' + rand.IntN(5))} }
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 2000 {
				var b checkpoint.Batch
				if rand.IntN(4) == 0 {
					b.Delete(key())
				}
				b.Put(key(), fmt.Append(nil, rand.IntN(100)))
				if _, err := c.Commit(t.Context(), &b); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			seen := map[string]checkpoint.Revision{}
			for range 4000 {
				k := key()
				_, rev, err := c.Get(t.Context(), k)
				if err != nil || rev != 0 && rev < seen[string(k)] {
					t.Errorf("%s: revision %d after %d, %v", k, rev, seen[string(k)], err)
				}
				seen[string(k)] = max(rev, seen[string(k)])
			}
		})
	}
	wg.Wait()
	for k := 'a'; k <= 'e'; k++ {
		want, _, _ := f.Get(t.Context(), []byte(string(k)))
		wantValue(t, c, string(k), string(want))
	}
}
