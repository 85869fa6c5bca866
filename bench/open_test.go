package bench

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/braid-go/braid"
)

// BenchmarkOpen opens a broker whose only topic has one log of some size: W8. The log was closed, so that only its manifest and its newest
// segment are looked at.
func BenchmarkOpen(b *testing.B) {
	sizes := []int64{1 << 20, 100 << 20, 1 << 30}
	if testing.Short() {
		sizes = sizes[:1]
	}
	for _, size := range sizes {
		b.Run(fmt.Sprintf("log=%dMiB", size>>20), func(b *testing.B) {
			dir := b.TempDir()
			if err := fillLog(dir, size); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				br, err := braid.Open(dir, braid.Options{Durability: braid.OS})
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := br.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

// fillLog makes a broker with one log and closes it.
func fillLog(dir string, size int64) (err error) {
	br, err := braid.Open(dir, braid.Options{Durability: braid.OS})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, br.Close()) }()
	t, err := br.CreateTopic(context.Background(), "bench", braid.TopicConfig{})
	if err != nil {
		return err
	}
	recs := batch(1000, 100, 0)
	for written := int64(0); written < size; written += int64(len(recs) * (100 + frameOverhead)) {
		if err := t.Publish(context.Background(), recs...); err != nil {
			return err
		}
	}
	return nil
}
