package checkpoint_test

import (
	"errors"
	"testing"

	"github.com/braid-go/braid/checkpoint"
	"github.com/braid-go/braid/checkpoint/storetest"
)

func TestMemoryConforms(t *testing.T) {
	storetest.TestStore(t, func(*testing.T) checkpoint.Store {
		return checkpoint.NewMemory(checkpoint.MemoryOptions{})
	}, storetest.Features{Bounded: true})
}

func TestAFullMemoryStoreRefusesGrowthAndCanBeEmptied(t *testing.T) {
	fullStore(t, checkpoint.NewMemory(checkpoint.MemoryOptions{MaxBytes: 2000}), 2000)
}

// fullStore fills a store of bounded size and checks what it refuses then.
func fullStore(t *testing.T, s checkpoint.Store, maxBytes int) {
	t.Helper()
	commit := func(fill func(*checkpoint.Batch)) error {
		var b checkpoint.Batch
		fill(&b)
		_, err := s.Commit(t.Context(), &b)
		return err
	}
	exact := make([]byte, maxBytes-checkpoint.EntryOverhead-1)
	if err := commit(func(b *checkpoint.Batch) { b.Put([]byte("k"), exact) }); err != nil {
		t.Fatalf("what just fits: %v", err)
	}
	var limit *checkpoint.LimitError
	err := commit(func(b *checkpoint.Batch) { b.Put([]byte("l"), nil) })
	if !errors.Is(err, checkpoint.ErrLimit) || !errors.As(err, &limit) || limit.Max != int64(maxBytes) {
		t.Errorf("one key more: error %v, want a *LimitError of %d", err, maxBytes)
	}
	if err := commit(func(b *checkpoint.Batch) { b.Put([]byte("k"), append(exact, 0)) }); !errors.Is(err, checkpoint.ErrLimit) {
		t.Errorf("one byte more: error %v, want ErrLimit", err)
	}
	if err := commit(func(b *checkpoint.Batch) { b.Put([]byte("k"), exact) }); err != nil {
		t.Errorf("the same again: %v", err)
	}
	if err := commit(func(b *checkpoint.Batch) { b.Delete([]byte("k")); b.Put([]byte("l"), exact) }); err != nil {
		t.Errorf("one for another: %v", err)
	}
	if err := commit(func(b *checkpoint.Batch) { b.Delete([]byte("l")) }); err != nil {
		t.Errorf("deleting: %v", err)
	}
	for range s.Scan(t.Context(), nil) {
		t.Error("something is left")
	}
}
