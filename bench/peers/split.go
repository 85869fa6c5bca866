package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	splitStreams = 4                         // at the beginning
	rateStep     = 5 * time.Millisecond      // between two looks at how much has been published
	rateWindow   = 4                         // steps over which a rate is taken
	rateBack     = 0.8                       // of the rate before: it is back
	rateWait     = 1500 * time.Millisecond   // for it to be back
	rateSteady   = 30 * rateStep             // over which the rate before is measured
	splitKeys    = 64 * concurrentPublishers // keys that are published
)

// span is when a call began and ended.
type span struct{ from, to time.Duration }

// splitting measures what a split does to publishers: concurrentPublishers goroutines publish one record after the other, over and over all
// keys, while streams are split. It returns, in microseconds, the wait that a split adds to a publisher, and the time until the
// throughput is back.
//
// The wait of a publisher in a split is the longest of its calls that were under way during it, less the median of the calls at other times; of all
// publishers in all splits the 99th percentile counts. Throughput is back when for rateWindow steps it has been rateBack of what it was
// before the split began; of all splits the longest time counts.
func splitting(ctx context.Context, store io.Closer, sc scale) ([]float64, error) {
	p, ok := store.(concurrentPublisher)
	s, ok2 := store.(splitter)
	if !ok || !ok2 {
		return nil, errCannot
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	begin := time.Now()
	var published atomic.Int64
	spans := make([][]span, concurrentPublishers)
	errs := make([]error, concurrentPublishers)
	var wg sync.WaitGroup
	runtime.GC()
	var stop atomic.Bool
	for i := range concurrentPublishers {
		wg.Go(func() {
			r := newRecord()
			for n := i; !stop.Load() && errs[i] == nil; n += concurrentPublishers {
				binary.BigEndian.PutUint64(r.Key, uint64(n%splitKeys))
				from := time.Since(begin)
				errs[i] = p.PublishConcurrent(ctx, 0, r)
				spans[i] = append(spans[i], span{from, time.Since(begin)})
				published.Add(1)
			}
		})
	}
	var splits []span
	longest := time.Duration(0)
	err := sleep(ctx, rateSteady) // the split point is found in what has been published
	for i := 0; i < sc.Splits && err == nil; i++ {
		var back time.Duration
		var split span
		split, back, err = splitOnce(ctx, s, begin, &published)
		splits = append(splits, split)
		longest = max(longest, back)
	}
	stop.Store(true)
	wg.Wait()
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	return []float64{inMicroseconds(addedWait(spans, splits)), inMicroseconds(longest)}, nil
}

func inMicroseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// splitOnce measures the throughput, splits, and waits until the throughput is back, which it returns the time of.
func splitOnce(ctx context.Context, s splitter, begin time.Time, published *atomic.Int64) (split span, back time.Duration, err error) {
	was, from := published.Load(), time.Now()
	if err := sleep(ctx, rateSteady); err != nil {
		return span{}, 0, err
	}
	before := float64(published.Load()-was) / time.Since(from).Seconds()
	split.from = time.Since(begin)
	if err := s.Split(ctx); err != nil {
		return span{}, 0, fmt.Errorf("split: %w", err)
	}
	split.to = time.Since(begin)
	type look struct {
		at time.Time
		n  int64
	}
	looks := []look{{time.Now(), published.Load()}}
	for {
		if err := sleep(ctx, rateStep); err != nil {
			return span{}, 0, err
		}
		looks = append(looks, look{time.Now(), published.Load()})
		now := looks[len(looks)-1]
		back = now.at.Sub(begin) - split.from
		then := looks[max(0, len(looks)-1-rateWindow)]
		rate := float64(now.n-then.n) / now.at.Sub(then.at).Seconds()
		if len(looks) > rateWindow && rate >= rateBack*before || back > rateWait {
			return split, back, nil
		}
	}
}

// addedWait returns the 99th percentile of the publishers' waits in the splits.
func addedWait(spans [][]span, splits []span) time.Duration {
	var other, longest []time.Duration
	for _, calls := range spans {
		worst := make([]time.Duration, len(splits))
		for _, c := range calls {
			during := false
			for i, s := range splits {
				if c.from < s.to && c.to > s.from {
					worst[i], during = max(worst[i], c.to-c.from), true
				}
			}
			if !during {
				other = append(other, c.to-c.from)
			}
		}
		longest = append(longest, worst...)
	}
	if len(other) == 0 || len(longest) == 0 {
		return 0
	}
	slices.Sort(other)
	slices.Sort(longest)
	return max(0, longest[(len(longest)-1)*99/100]-other[len(other)/2])
}
