package bench

import (
	"context"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/braid-go/braid"
)

// BenchmarkLatency measures from the moment at which a record was to be published until a subscriber has it: W5. One record every
// interval, paced by busy-waiting, which takes one processor; a publisher that falls behind is not forgiven.
func BenchmarkLatency(b *testing.B) {
	for _, durability := range []braid.Durability{braid.OS, braid.Fsync} {
		interval := 100 * time.Microsecond
		if durability == braid.Fsync {
			interval = 500 * time.Microsecond // longer than an fsync takes
		}
		b.Run(fmt.Sprintf("durability=%v/every=%v", durability, interval), func(b *testing.B) {
			t := openTopic(b, braid.Options{Durability: durability}, braid.TopicConfig{})
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			sub, err := t.Subscribe(ctx, "latency", braid.SubscribeOptions{ReuseBuffers: true})
			if err != nil {
				b.Fatal(err)
			}
			defer sub.Close()
			rec := &braid.Record{Value: make([]byte, 100)}
			measure(b, interval, func(seq, due int64) {
				binary.LittleEndian.PutUint64(rec.Value, uint64(seq))
				binary.LittleEndian.PutUint64(rec.Value[8:], uint64(due))
				if err := t.Publish(context.Background(), rec); err != nil {
					b.Error(err)
				}
			}, func(deliver func(seq, due int64)) {
				for rec, err := range sub.Records(ctx) {
					if err != nil {
						return
					}
					deliver(int64(binary.LittleEndian.Uint64(rec.Value)), int64(binary.LittleEndian.Uint64(rec.Value[8:])))
				}
			}, cancel)
		})
	}
	b.Run("limit=channel/every=100µs", func(b *testing.B) {
		ch := make(chan [2]int64, 1024)
		measure(b, 100*time.Microsecond, func(seq, due int64) { ch <- [2]int64{seq, due} }, func(deliver func(seq, due int64)) {
			for m := range ch {
				deliver(m[0], m[1])
			}
		}, func() { close(ch) })
	})
}

// measure publishes samples at their times and reports percentiles of what delivery took.
func measure(b *testing.B, interval time.Duration, publish func(seq, due int64), consume func(func(seq, due int64)), stop func()) {
	samples := 20_000
	if testing.Short() {
		samples = 500
	}
	warm := samples / 10
	begin := time.Now()
	now := func() int64 { return int64(time.Since(begin)) }
	took := make([]int64, 0, samples)
	all := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		consume(func(seq, due int64) {
			if seq >= int64(warm) {
				took = append(took, now()-due)
			}
			if seq == int64(samples+warm-1) {
				close(all)
			}
		})
	}()
	for b.Loop() { // the measuring is one iteration, whatever its length
		if len(took) > 0 {
			break
		}
		start := now()
		for seq := range int64(samples + warm) {
			due := start + seq*int64(interval)
			for now() < due {
				runtime.Gosched()
			}
			publish(seq, due)
		}
		<-all
	}
	stop()
	<-done
	reportLatency(b, took)
}

// reportLatency reports percentiles of so many nanoseconds.
func reportLatency(b *testing.B, took []int64) {
	slices.Sort(took)
	for _, p := range []struct {
		name string
		at   float64
	}{{"p50-us", 0.50}, {"p99-us", 0.99}, {"p999-us", 0.999}, {"p9999-us", 0.9999}, {"max-us", 1}} {
		b.ReportMetric(float64(took[int(float64(len(took)-1)*p.at)])/1000, p.name)
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkWaits has 64 publishers publish one synced record after the other to 16 partitions, for some seconds, and reports how long they waited. The longest waits come when the commit
// log goes on in another file and the partitions are synced, some twice a second.
func BenchmarkWaits(b *testing.B) {
	const publishers, partitions = 64, 16
	long := 5 * time.Second
	if testing.Short() {
		long = 50 * time.Millisecond
	}
	t := openTopic(b, braid.Options{}, braid.TopicConfig{Partitions: partitions})
	var took [publishers][]int64
	for b.Loop() { // the measuring is one iteration, whatever its length
		var wg sync.WaitGroup
		begin := time.Now()
		for i := range publishers {
			rec := &braid.Record{Key: make([]byte, 8), Value: make([]byte, 100)}
			wg.Go(func() {
				for n, now := 0, time.Now(); now.Sub(begin) < long; n++ {
					binary.LittleEndian.PutUint64(rec.Key, uint64(n*publishers+i))
					if err := t.Publish(context.Background(), rec); err != nil {
						b.Error(err)
						return
					}
					from := now
					now = time.Now()
					took[i] = append(took[i], int64(now.Sub(from)))
				}
			})
		}
		wg.Wait()
	}
	reportLatency(b, slices.Concat(took[:]...))
}
