package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/braid-go/braid"
)

// BenchmarkBatch publishes some records a call, of 100 bytes, from one goroutine: what a larger batch is worth.
func BenchmarkBatch(b *testing.B) {
	for _, durability := range []braid.Durability{braid.Fsync, braid.OS} {
		for _, n := range []int{1, 10, 100, 1000, 10_000} {
			b.Run(fmt.Sprintf("durability=%v/batch=%d", durability, n), func(b *testing.B) {
				benchPublish(b, braid.TopicConfig{}, durability, 100, n, 1)
			})
		}
	}
}

// BenchmarkSegmentBytes publishes in bulk to segments of some size.
func BenchmarkSegmentBytes(b *testing.B) {
	for _, durability := range []braid.Durability{braid.Fsync, braid.OS} {
		for _, mib := range []int64{1, 8, 64, 256} {
			b.Run(fmt.Sprintf("durability=%v/segment=%dMiB", durability, mib), func(b *testing.B) {
				benchPublish(b, braid.TopicConfig{SegmentBytes: mib << 20}, durability, 100, 1000, 1)
			})
		}
	}
}

// BenchmarkCompression publishes records that look like small JSON documents, and reads them, with each compression: how fast, and how many bytes a record has
// on disk. The order of things is the same in all of them.
func BenchmarkCompression(b *testing.B) {
	for _, c := range []braid.Compression{braid.NoCompression, braid.S2, braid.Zstd} {
		for _, n := range []int{10, 1000} {
			b.Run(fmt.Sprintf("publish/%v/batch=%d", c, n), func(b *testing.B) {
				t := openTopic(b, braid.Options{Durability: braid.OS}, braid.TopicConfig{Compression: c})
				recs := documents(n)
				before := memStats()
				calls := int64(0)
				for b.Loop() {
					if err := t.Publish(context.Background(), recs...); err != nil {
						b.Fatal(err)
					}
					calls++
					t.count(int64(n * len(recs[0].Value)))
				}
				report(b, calls*int64(n), before)
			})
		}
		b.Run(fmt.Sprintf("read/%v", c), func(b *testing.B) {
			t := openTopic(b, braid.Options{Durability: braid.OS}, braid.TopicConfig{Compression: c})
			records := 200_000
			if testing.Short() {
				records = 5000
			}
			recs := documents(1000)
			for range records / len(recs) {
				if err := t.Publish(context.Background(), recs...); err != nil {
					b.Fatal(err)
				}
			}
			catchUp(b, records, func() (n int) {
				for _, err := range t.Read(context.Background(), braid.ReadOptions{ReuseBuffers: true}) {
					if err != nil {
						b.Fatal(err)
					}
					n++
				}
				return n
			})
			b.ReportMetric(float64(t.Partitions()[0].Bytes)/float64(records), "B/record")
		})
	}
}

// documents makes records that have much in common, as those of one producer do.
func documents(n int) []*braid.Record {
	rng := rand.New(rand.NewPCG(1, 2))
	recs := make([]*braid.Record, n)
	for i := range recs {
		recs[i] = &braid.Record{
			Key: fmt.Appendf(nil, "customer-%d", rng.IntN(10_000)),
			Value: fmt.Appendf(nil, `{"order":"%016x","customer":"customer-%d","item":"lamp","count":%d,"price":%d.%02d,"currency":"EUR"}`,
				rng.Uint64(), rng.IntN(10_000), rng.IntN(9)+1, rng.IntN(200), rng.IntN(100)),
		}
	}
	return recs
}
