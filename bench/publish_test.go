package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/braid-go/braid"
)

// frameOverhead is about what a record takes on disk beside its value: key, lengths, time.
const frameOverhead = 14

// BenchmarkPublish publishes from some goroutines, some records a call, and waits for each call: W1 and W2. Beside it, as
// "limit", the same bytes in the same batches by write(2), with an fdatasync each where the durability has one.
func BenchmarkPublish(b *testing.B) {
	for _, durability := range []braid.Durability{braid.Fsync, braid.Interval, braid.OS} {
		for _, size := range []int{100, 1024} {
			for _, n := range []int{1, 1000} {
				for _, publishers := range []int{1, 2, 4} {
					b.Run(fmt.Sprintf("durability=%v/size=%d/batch=%d/publishers=%d", durability, size, n, publishers), func(b *testing.B) {
						benchPublish(b, braid.TopicConfig{}, durability, size, n, publishers)
					})
				}
				b.Run(fmt.Sprintf("durability=%v/size=%d/batch=%d/limit=write", durability, size, n), func(b *testing.B) {
					limitPublish(b, durability == braid.Fsync, size, n)
				})
			}
		}
	}
}

func benchPublish(b *testing.B, config braid.TopicConfig, durability braid.Durability, size, n, publishers int) {
	t := openTopic(b, braid.Options{Durability: durability}, config)
	ctx := context.Background()
	batches := make([][]*braid.Record, publishers)
	for i := range batches {
		batches[i] = batch(n, size, i*n)
	}
	if err := t.Publish(ctx, batches[0]...); err != nil { // the queue and the buffers come into being
		b.Fatal(err)
	}
	before := memStats()
	calls := int64(0)
	if publishers == 1 {
		for b.Loop() {
			if err := t.Publish(ctx, batches[0]...); err != nil {
				b.Fatal(err)
			}
			calls++
			t.count(int64(n * (size + frameOverhead)))
		}
	} else {
		// Between two looks at the volume the publishers run by themselves.
		perRound := max(1, min(200, (16<<20)/(n*(size+frameOverhead))))
		for b.Loop() {
			var wg sync.WaitGroup
			for i := range publishers {
				wg.Go(func() {
					for range perRound {
						if err := t.Publish(ctx, batches[i]...); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			calls += int64(publishers * perRound)
			t.count(int64(publishers * perRound * n * (size + frameOverhead)))
		}
	}
	report(b, calls*int64(n), before)
}

func limitPublish(b *testing.B, sync bool, size, n int) {
	zeroed := int64(0)
	if sync && n == 1 {
		zeroed = 4 << 20
	}
	r := openRaw(b, zeroed)
	p := make([]byte, n*(size+frameOverhead))
	before := memStats()
	calls := int64(0)
	for b.Loop() {
		r.write(p, sync)
		calls++
	}
	report(b, calls*int64(n), before)
}

// BenchmarkPublishSynced publishes single records, each call waiting for its fsync, from 64 goroutines to some
// partitions: W3.
func BenchmarkPublishSynced(b *testing.B) {
	const publishers = 64
	for _, partitions := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("publishers=%d/partitions=%d", publishers, partitions), func(b *testing.B) {
			t := openTopic(b, braid.Options{}, braid.TopicConfig{Partitions: partitions})
			ctx := context.Background()
			recs := batch(publishers, 100, 0)
			var left atomic.Int64
			before := memStats()
			total := int64(0)
			for b.Loop() {
				const round = publishers * 50
				left.Store(round)
				var wg sync.WaitGroup
				for i := range publishers {
					wg.Go(func() {
						for left.Add(-1) >= 0 {
							if err := t.Publish(ctx, recs[i]); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				total += round
			}
			report(b, total, before)
		})
	}
}

// BenchmarkPublishAsync publishes in bulk without waiting for each call; in the durability Fsync every callback comes after an fsync. Beside it, as "limit", the same bytes
// by write(2) in 256 KiB, with an fdatasync every 4 MiB, and without one.
func BenchmarkPublishAsync(b *testing.B) {
	for _, size := range []int{100, 1024} {
		for _, durability := range []braid.Durability{braid.Fsync, braid.OS} {
			b.Run(fmt.Sprintf("durability=%v/size=%d/batch=1000", durability, size), func(b *testing.B) { benchPublishAsync(b, durability, size) })
		}
		b.Run(fmt.Sprintf("size=%d/limit=write-sync-4MiB", size), func(b *testing.B) { limitPublishAsync(b, size, 16) })
		b.Run(fmt.Sprintf("size=%d/limit=write", size), func(b *testing.B) { limitPublishAsync(b, size, 1<<62) })
	}
}

func benchPublishAsync(b *testing.B, durability braid.Durability, size int) {
	t := openTopic(b, braid.Options{Durability: durability}, braid.TopicConfig{})
	ctx := context.Background()
	const window = 32 // batches that may be on their way
	var batches [window][]*braid.Record
	free := make(chan int, window)
	for i := range batches {
		batches[i] = batch(1000, size, 0)
		free <- i
	}
	wait := func() { // for all that is on its way
		for range window {
			<-free
		}
		for i := range window {
			free <- i
		}
	}
	before := memStats()
	calls := int64(0)
	for b.Loop() {
		i := <-free
		left := atomic.Int32{}
		left.Store(1000)
		err := t.PublishAsync(ctx, func(_ *braid.Record, err error) {
			if err != nil {
				b.Error(err)
			}
			if left.Add(-1) == 0 {
				free <- i
			}
		}, batches[i]...)
		if err != nil {
			b.Fatal(err)
		}
		if calls++; t.written+int64(1000*(size+frameOverhead)) >= volume {
			wait()
		}
		t.count(int64(1000 * (size + frameOverhead)))
	}
	wait()
	report(b, calls*1000, before)
}

func limitPublishAsync(b *testing.B, size int, every int64) {
	r := openRaw(b, 0)
	p := make([]byte, 256<<10)
	before := memStats()
	calls := int64(0)
	for b.Loop() {
		calls++
		r.write(p, calls%every == 0)
	}
	report(b, calls*int64(len(p)/(size+frameOverhead)), before)
}
