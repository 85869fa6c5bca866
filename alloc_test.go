//go:build !race

// The race detector makes sync.Pool forget at random, so allocations are counted without it.

package braid

import (
	"context"
	"fmt"
	"testing"
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
