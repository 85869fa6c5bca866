package bench

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/braid-go/braid"
)

// BenchmarkMembers has members join a group one after the other and leave again, each join with its fence in the store, over as many partitions.
func BenchmarkMembers(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("members=%d", n), func(b *testing.B) {
			topic := openTopic(b, braid.Options{}, braid.TopicConfig{Partitions: n})
			subs := make([]*braid.Subscription, n)
			round := 0
			for b.Loop() {
				round++
				for i := range subs {
					var err error
					if subs[i], err = topic.Subscribe(context.Background(), fmt.Sprint("g", round), braid.SubscribeOptions{}); err != nil {
						b.Fatal(err)
					}
				}
				for _, s := range subs {
					if err := s.Close(); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(2*n), "ns/change")
		})
	}
}

// BenchmarkCommit commits the position behind one record, in topics of few and of many partitions.
func BenchmarkCommit(b *testing.B) {
	for _, n := range []int{10, 1000, 10000} {
		b.Run(fmt.Sprintf("partitions=%d", n), func(b *testing.B) {
			topic := openTopic(b, braid.Options{}, braid.TopicConfig{Partitions: n})
			sub, err := topic.Subscribe(context.Background(), "g", braid.SubscribeOptions{})
			if err != nil {
				b.Fatal(err)
			}
			defer sub.Close()
			publish := make([]*braid.Record, 10_000)
			for i := range publish {
				publish[i] = &braid.Record{Key: []byte("k"), Value: []byte("v")}
			}
			var recs []*braid.Record
			for b.Loop() {
				b.StopTimer()
				for len(recs) == 0 {
					ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
					recs, _ = sub.Poll(ctx, 0)
					cancel()
					if len(recs) == 0 {
						if err := topic.Publish(context.Background(), publish...); err != nil {
							b.Fatal(err)
						}
					}
				}
				b.StartTimer()
				if err := sub.Commit(context.Background(), recs[0]); err != nil {
					b.Fatal(err)
				}
				recs = recs[1:]
			}
		})
	}
}
