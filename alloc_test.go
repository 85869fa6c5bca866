//go:build !race

// The race detector makes sync.Pool forget at random, so allocations are counted without it.

package braid

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"testing"
	"unsafe"
)

func TestPublishAllocatesNothingPerRecord(t *testing.T) {
	topic := ensure(t, open(t, t.TempDir(), Options{Durability: OS}), "t", TopicConfig{Partitions: 2})
	recs := make([]*Record, 200)
	for i := range recs {
		recs[i] = &Record{Key: fmt.Appendf(nil, "key-%d", i), Value: make([]byte, 100)}
	}
	ctx := context.Background()
	perCall := testing.AllocsPerRun(200, func() {
		if err := topic.Publish(ctx, recs...); err != nil {
			t.Fatal(err)
		}
	})
	if perRecord := perCall / float64(len(recs)); perRecord >= 0.05 {
		t.Errorf("%.3f allocations per record in calls of %d, want none", perRecord, len(recs))
	}
	perCall = testing.AllocsPerRun(500, func() {
		if err := topic.Publish(ctx, recs[0]); err != nil {
			t.Fatal(err)
		}
	})
	if perCall >= 1 {
		t.Errorf("%.2f allocations per call with one record, want none", perCall)
	}
}

// leastAllocated returns how many bytes f allocates, at least: something else may be at work meanwhile.
func leastAllocated(rounds int, before, f func()) uint64 {
	least := uint64(math.MaxUint64)
	for range rounds {
		before()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		had := m.TotalAlloc
		f()
		runtime.ReadMemStats(&m)
		least = min(least, m.TotalAlloc-had)
	}
	return least
}

func TestAPollAllocatesForWhatItDeliversAndNotForWhatWasAskedFor(t *testing.T) {
	const each = uint64(unsafe.Sizeof(Record{}) + unsafe.Sizeof(&Record{}))
	topic := ensure(t, openMemory(t), "t", TopicConfig{})
	sub := subscribe(t, topic, "g", SubscribeOptions{})
	one := func(max int) func() {
		return func() {
			if recs, err := sub.Poll(t.Context(), max); err != nil || len(recs) != 1 {
				t.Fatalf("%d records, %v", len(recs), err)
			}
		}
	}
	publish(t, topic, numbered("r", 100)...)
	poll(t, sub, 1) // reads the frame
	if got := leastAllocated(99, func() {}, one(1)); got > 2*each {
		t.Errorf("Poll(1) among many records allocates %d bytes, want about the %d of one", got, each)
	}
	if got := leastAllocated(20, func() { publish(t, topic, "r") }, one(500)); got > 4*each {
		t.Errorf("Poll(500) with one record there allocates %d bytes, want about the %d of one and its frame", got, each)
	}
	got := leastAllocated(20, func() {
		for i := range 300 { // each a frame of its own
			publish(t, topic, fmt.Sprint("r", i))
		}
	}, func() {
		if recs, err := sub.Poll(t.Context(), 500); err != nil || len(recs) != 300 {
			t.Fatalf("%d records, %v", len(recs), err)
		}
	})
	if most := 300 * 3 * each; got > most {
		t.Errorf("Poll(500) of 300 frames of one record allocates %d bytes, want at most %d", got, most)
	}
}

// What a transaction of one record in, its position, and one record out allocates is what its caller keeps of it (the record delivered, the transaction and its copy of the
// record), what the store keeps, and little more.
func TestATransactionAllocatesLittle(t *testing.T) {
	b := open(t, t.TempDir(), Options{Durability: OS})
	in, out := ensure(t, b, "in", TopicConfig{}), ensure(t, b, "out", TopicConfig{})
	ctx := context.Background()
	recs := make([]*Record, 300)
	for i := range recs {
		recs[i] = &Record{Key: fmt.Appendf(nil, "key-%d", i), Value: make([]byte, 100)}
	}
	if err := in.Publish(ctx, recs...); err != nil {
		t.Fatal(err)
	}
	sub, err := in.Subscribe(ctx, "g", SubscribeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	answer := &Record{Key: []byte("key"), Value: make([]byte, 100)}
	perTxn := testing.AllocsPerRun(len(recs)-10, func() {
		got, err := sub.Poll(ctx, 1)
		if err != nil {
			t.Fatal(err)
		}
		tx := b.Begin()
		if err := errors.Join(tx.Offsets(sub, got...), tx.Publish(out, answer), tx.Commit(ctx)); err != nil {
			t.Fatal(err)
		}
	})
	if perTxn > 25 {
		t.Errorf("%.1f allocations for a transaction, want about 20", perTxn)
	}
}
