package bench

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/braid-go/braid"
)

// BenchmarkCatchUp reads a million records of 100 bytes from the page cache: W4. Beside it, as "limit", the
// same files by pread(2) in calls of 256 KiB.
func BenchmarkCatchUp(b *testing.B) {
	records := 1_000_000
	if testing.Short() {
		records = 20_000
	}
	ctx := context.Background()
	t := openTopic(b, braid.Options{Durability: braid.OS}, braid.TopicConfig{})
	recs := batch(1000, 100, 0)
	for range records / 1000 {
		if err := t.Publish(ctx, recs...); err != nil {
			b.Fatal(err)
		}
	}
	for _, reuse := range []bool{true, false} {
		memory := "owned"
		if reuse {
			memory = "reused"
		}
		b.Run(fmt.Sprintf("memory=%s/by=Read", memory), func(b *testing.B) {
			catchUp(b, records, func() int {
				n := 0
				for _, err := range t.Read(ctx, braid.ReadOptions{ReuseBuffers: reuse}) {
					if err != nil {
						b.Fatal(err)
					}
					n++
				}
				return n
			})
		})
		run := 0
		subscribe := func(b *testing.B) *braid.Subscription {
			run++
			sub, err := t.Subscribe(ctx, fmt.Sprintf("group-%s-%d", memory, run), braid.SubscribeOptions{ReuseBuffers: reuse})
			if err != nil {
				b.Fatal(err)
			}
			return sub
		}
		b.Run(fmt.Sprintf("memory=%s/by=Records", memory), func(b *testing.B) {
			catchUp(b, records, func() int {
				sub := subscribe(b)
				defer sub.Close()
				n := 0
				for _, err := range sub.Records(ctx) {
					if err != nil {
						b.Fatal(err)
					}
					if n++; n == records {
						break
					}
				}
				return n
			})
		})
		b.Run(fmt.Sprintf("memory=%s/by=Poll", memory), func(b *testing.B) {
			catchUp(b, records, func() int {
				sub := subscribe(b)
				defer sub.Close()
				n := 0
				for n < records {
					recs, err := sub.Poll(ctx, 1000)
					if err != nil {
						b.Fatal(err)
					}
					n += len(recs)
				}
				return n
			})
		})
	}
	b.Run("limit=pread", func(b *testing.B) {
		files, err := filepath.Glob(filepath.Join(t.broker.Dir(), "partitions", "*", "*.seg"))
		if err != nil || len(files) == 0 {
			b.Fatal(files, err)
		}
		buf := make([]byte, 256<<10)
		catchUp(b, records, func() int {
			for _, name := range files {
				f, err := os.Open(name)
				if err != nil {
					b.Fatal(err)
				}
				for {
					if _, err := f.Read(buf); err == io.EOF {
						break
					} else if err != nil {
						b.Fatal(err)
					}
				}
				f.Close()
			}
			return records
		})
	})
}

func catchUp(b *testing.B, records int, read func() int) {
	before := memStats()
	total := int64(0)
	for b.Loop() {
		if n := read(); n != records {
			b.Fatalf("%d records, want %d", n, records)
		}
		total += int64(records)
	}
	report(b, total, before)
}
