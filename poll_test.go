package braid

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// Asking for more says that what came before is finished, in whichever partition and however the reading has moved: also when a frame is delivered in pieces, over a gap, and by Seek.
func TestAskingForMoreFinishesWhatCameBefore(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, reuse := range []bool{false, true} {
		topic := ensure(t, openMemory(t), "t", TopicConfig{Partitions: 5})
		sub := subscribe(t, topic, "g", SubscribeOptions{ReuseBuffers: reuse})
		moved := 0
		for range 5000 {
			var err error
			switch rng.IntN(8) {
			case 0:
				recs := make([]*Record, 1+rng.IntN(60))
				for i := range recs {
					recs[i] = &Record{Key: fmt.Append(nil, rng.IntN(40)), Value: []byte{}}
				}
				err = topic.Publish(t.Context(), recs...)
			case 1:
				err = sub.Seek(t.Context(), []Position{FromEarliest(), FromLatest()}[rng.IntN(2)])
			case 2:
				err = sub.Rewind()
			default: // as Poll does
				want := make([]int64, len(sub.parts))
				for i, p := range sub.parts {
					if want[i] = max(p.finished, p.next); want[i] > p.finished {
						moved++
					}
				}
				err = sub.begin(t.Context())
				for i, p := range sub.parts {
					if p.finished != want[i] {
						t.Fatalf("partition %d is finished below %d, want %d", p.part.id, p.finished, want[i])
					}
				}
				if err == nil {
					_, err = sub.collect(1 + rng.IntN(30))
					sub.end()
				}
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if moved < 100 {
			t.Errorf("the reading moved %d times only", moved)
		}
	}
}
