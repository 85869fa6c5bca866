package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/braid-go/braid"
	"github.com/braid-go/braid/backpressure"
)

// BenchmarkStrategy publishes as W1 does, one record and ten records a call, with each backpressure strategy, while there is no pressure. What they do
// under pressure is shown by the command in bench/pressure. BenchmarkStrategyRatio says how they compare.
func BenchmarkStrategy(b *testing.B) {
	for s := range backpressure.Adaptive + 1 {
		b.Run(s.String()+"/batch=1", func(b *testing.B) { benchPublish(b, strategyConfig(s), braid.OS, 100, 1, 1) })
		b.Run(s.String()+"/batch=10", func(b *testing.B) { benchPublish(b, strategyConfig(s), braid.OS, 100, 10, 2) })
	}
}

func strategyConfig(s backpressure.Strategy) braid.TopicConfig {
	return braid.TopicConfig{Backpressure: backpressure.Policy{Strategy: s, ReduceAck: true}}
}

// BenchmarkStrategyRatio publishes to one topic after the other, some calls to each in every round, and compares each strategy with a topic that chose none,
// in the same round: none may cost more than 3 % over that in the median. "again" is a second topic that chose none: what the comparison itself is worth.
// What else the machine does hits all of them alike. Ask for some thousand rounds: -benchtime 3000x.
func BenchmarkStrategyRatio(b *testing.B) {
	for _, n := range []int{1, 10} {
		b.Run(fmt.Sprintf("batch=%d", n), func(b *testing.B) {
			names, topics := []string{"none", "again"}, []*topic{openTopic(b, braid.Options{Durability: braid.OS}, braid.TopicConfig{}), openTopic(b, braid.Options{Durability: braid.OS}, braid.TopicConfig{})}
			for s := range backpressure.Adaptive + 1 {
				names = append(names, s.String())
				topics = append(topics, openTopic(b, braid.Options{Durability: braid.OS}, strategyConfig(s)))
			}
			recs := batch(n, 100, 0)
			ratios, rng := make([][]float64, len(topics)), rand.New(rand.NewPCG(1, 1))
			took := make([]time.Duration, len(topics))
			for b.Loop() {
				for _, i := range rng.Perm(len(topics)) {
					took[i] = strategyRound(topics[i], recs)
				}
				for i := range topics {
					ratios[i] = append(ratios[i], float64(took[i])/float64(took[0]))
				}
			}
			for i, name := range names[1:] {
				slices.Sort(ratios[i+1])
				b.ReportMetric(ratios[i+1][len(ratios[i+1])/2], name+"/none")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// strategyRound publishes for about a millisecond, and says how long it took.
func strategyRound(t *topic, recs []*braid.Record) time.Duration {
	const calls = 200
	began := time.Now()
	for range calls {
		if err := t.Publish(context.Background(), recs...); err != nil {
			t.b.Fatal(err)
		}
	}
	took := time.Since(began)
	t.count(int64(calls * len(recs) * (100 + frameOverhead)))
	return took
}
