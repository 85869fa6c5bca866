package bench

import (
	"testing"

	"github.com/braid-go/braid"
	"github.com/braid-go/braid/backpressure"
)

// BenchmarkStrategy publishes as W1 does, one record and ten records a call, with each backpressure strategy, while there is no pressure: none may
// cost more than 3 % over block-producer, which is the default. What they do under pressure is shown by the command in bench/pressure.
func BenchmarkStrategy(b *testing.B) {
	for s := range backpressure.Adaptive + 1 {
		config := braid.TopicConfig{Backpressure: backpressure.Policy{Strategy: s, ReduceAck: true}}
		b.Run(s.String()+"/batch=1", func(b *testing.B) { benchPublish(b, config, braid.OS, 100, 1, 1) })
		b.Run(s.String()+"/batch=10", func(b *testing.B) { benchPublish(b, config, braid.OS, 100, 10, 2) })
	}
}
