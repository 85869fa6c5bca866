package bench

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/braid-go/braid"
)

// BenchmarkConsume handles records that are there already, by a handler that does nothing: what Consume adds.
func BenchmarkConsume(b *testing.B) {
	for _, concurrency := range []int{1, 8} {
		for _, prefetch := range []int{1000, 4000} {
			b.Run(fmt.Sprintf("concurrency=%d/prefetch=%d", concurrency, prefetch), func(b *testing.B) {
				benchConsume(b, braid.ConsumeOptions{Concurrency: concurrency, Prefetch: prefetch})
			})
		}
	}
}

func benchConsume(b *testing.B, opts braid.ConsumeOptions) {
	t := openTopic(b, braid.Options{Durability: braid.OS}, braid.TopicConfig{Partitions: 4})
	records := 100_000
	if testing.Short() {
		records = 2000
	}
	recs := batch(1000, 100, 0)
	for range records / len(recs) {
		if err := t.Publish(context.Background(), recs...); err != nil {
			b.Fatal(err)
		}
	}
	before := memStats()
	total := int64(0)
	for b.Loop() {
		ctx, cancel := context.WithCancel(context.Background())
		left := atomic.Int64{}
		left.Store(int64(records))
		err := t.Consume(ctx, fmt.Sprint("g", total), opts, func(context.Context, *braid.Record) error {
			if left.Add(-1) == 0 {
				cancel()
			}
			return nil
		})
		cancel()
		if err != nil || left.Load() > 0 {
			b.Fatal(err, left.Load())
		}
		total += int64(records)
	}
	report(b, total, before)
}
