package bench

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/braid-go/braid"
)

// timedCall is a call of a publisher: when it began and when it ended, since the beginning.
type timedCall struct{ began, ended time.Duration }

// interval is a change of the layout.
type interval struct{ began, ended time.Duration }

// BenchmarkChangeUnderLoad splits and merges a partition over and over while publishers are at full speed, each with one call under way: W9.
//
// split-wait-p50-ms, -p99-ms and -max-ms are over the longest wait that each publisher had during each split, merge-wait the same of merges, and
// usual-wait over the longest wait that each had during as long a stretch shortly before. So the first less the last is what a change adds. took-p50-ms is the
// change itself; back-max-ms is how long after it, at most, until the throughput of a stretch of 20 ms is 90 % of the median of the stretches without a change.
//
// Publishers with one call each under way make no call that a pacemaker would have made meanwhile, but of each only the longest counts.
func BenchmarkChangeUnderLoad(b *testing.B) {
	for _, load := range []struct {
		durability        braid.Durability
		publishers, batch int
	}{
		{braid.Fsync, 64, 1},
		{braid.Fsync, 8, 1000},
		{braid.OS, 64, 1},
		{braid.OS, 8, 1000},
	} {
		b.Run(fmt.Sprintf("durability=%v/publishers=%d/batch=%d", load.durability, load.publishers, load.batch), func(b *testing.B) {
			benchChange(b, load.durability, load.publishers, load.batch)
		})
	}
}

// pause is between two changes; usually is how long before a change the stretch begins with which it is compared.
const (
	pause   = 200 * time.Millisecond
	usually = 150 * time.Millisecond
)

func benchChange(b *testing.B, durability braid.Durability, publishers, batchSize int) {
	changes := 40
	if testing.Short() {
		changes = 2
	}
	t := openTopic(b, braid.Options{Durability: durability}, braid.TopicConfig{RetentionBytes: volume})
	ctx := context.Background()
	for b.Loop() { // the measuring is one iteration, whatever its length
		var stop atomic.Bool
		seen := make([][]timedCall, publishers)
		var wg sync.WaitGroup
		begin := time.Now()
		for i := range publishers {
			recs := batch(batchSize, 100, i*batchSize)
			wg.Go(func() {
				for !stop.Load() {
					began := time.Since(begin)
					if err := t.Publish(ctx, recs...); err != nil {
						b.Error(err)
						break
					}
					seen[i] = append(seen[i], timedCall{began, time.Since(begin)})
				}
			})
		}
		at := map[string][]interval{}
		time.Sleep(pause)
		for range changes {
			began := time.Since(begin)
			what, err := change(ctx, t.Topic)
			if err != nil {
				b.Fatal(err)
			}
			at[what] = append(at[what], interval{began, time.Since(begin)})
			time.Sleep(pause)
		}
		stop.Store(true)
		wg.Wait()
		reportChanges(b, seen, at, time.Since(begin), batchSize)
	}
	b.ReportMetric(0, "ns/op")
}

// change splits the topic's partition, or merges the two that there are.
func change(ctx context.Context, t *braid.Topic) (string, error) {
	var active []braid.PartitionID
	for _, p := range t.Partitions() {
		if !p.Sealed {
			active = append(active, p.ID)
		}
	}
	if len(active) == 1 {
		_, err := t.Split(ctx, active[0])
		return "split", err
	}
	_, err := t.Merge(ctx, active[0], active[1])
	return "merge", err
}

// longest returns the longest call of a publisher that was under way during a stretch of time.
func longest(calls []timedCall, during interval) (wait time.Duration) {
	i, _ := slices.BinarySearchFunc(calls, during.began, func(c timedCall, t time.Duration) int { return cmp.Compare(c.ended, t) })
	for ; i < len(calls) && calls[i].began < during.ended; i++ {
		wait = max(wait, calls[i].ended-calls[i].began)
	}
	return wait
}

// reportChanges reports the waits during each kind of change, and what they usually are.
func reportChanges(b *testing.B, seen [][]timedCall, changes map[string][]interval, whole time.Duration, batchSize int) {
	const stretch = 20 * time.Millisecond
	rate := make([]float64, whole/stretch+1)
	for _, calls := range seen {
		for _, call := range calls {
			rate[call.ended/stretch]++
		}
	}
	var free []float64
	for s, r := range rate[:len(rate)-1] {
		touched := false
		for _, all := range changes {
			touched = touched || slices.ContainsFunc(all, func(i interval) bool {
				return i.began/stretch <= time.Duration(s) && time.Duration(s) <= i.ended/stretch
			})
		}
		if !touched {
			free = append(free, r)
		}
	}
	slices.Sort(free)
	normal := free[len(free)/2]
	percentiles := func(what string, all []time.Duration, of ...float64) {
		slices.Sort(all)
		for _, p := range of {
			name := fmt.Sprintf("%s-p%.0f-ms", what, 100*p)
			if p == 1 {
				name = what + "-max-ms"
			}
			b.ReportMetric(float64(all[int(float64(len(all)-1)*p)])/float64(time.Millisecond), name)
		}
	}
	var usual []time.Duration
	for what, all := range changes {
		var took, back, waits []time.Duration
		for _, i := range all {
			before := interval{i.began - usually, min(i.ended-usually, i.began-usually/3)}
			for _, calls := range seen {
				waits = append(waits, longest(calls, i))
				usual = append(usual, longest(calls, before))
			}
			took = append(took, i.ended-i.began)
			s := int(i.ended/stretch) + 1
			for s < len(rate)-1 && rate[s] < 0.9*normal {
				s++
			}
			back = append(back, max(0, time.Duration(s)*stretch-i.ended))
		}
		percentiles(what+"-wait", waits, 0.5, 0.99, 1)
		percentiles(what+"-took", took, 0.5)
		percentiles(what+"-back", back, 0.5, 1)
	}
	percentiles("usual-wait", usual, 0.5, 0.99, 1)
	b.ReportMetric(normal*float64(batchSize)/stretch.Seconds(), "records/s")
}
