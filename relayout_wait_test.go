package braid

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/braid-go/braid/internal/vfs"
)

// flatDisk takes a fixed time for a sync, and for each byte that has been written since the last one.
type flatDisk struct {
	sync  time.Duration
	speed float64 // bytes/s
	mu    sync.Mutex
	dirty map[string]int64
}

// Inject implements vfs.Injector.
func (d *flatDisk) Inject(op vfs.Op) vfs.Outcome {
	var cost time.Duration
	d.mu.Lock()
	switch op.Kind {
	case vfs.OpWrite:
		d.dirty[op.Name] += op.Length
	case vfs.OpSync, vfs.OpDatasync:
		cost = d.sync + time.Duration(float64(d.dirty[op.Name])/d.speed*float64(time.Second))
		d.dirty[op.Name] = 0
	case vfs.OpSyncDir:
		cost = d.sync
	}
	d.mu.Unlock()
	time.Sleep(cost)
	return vfs.Outcome{}
}

// On a disk that takes 1 ms for a sync and writes 200 MB/s, eight publishers are at work for a second, and then the topic is split, and merged after another.
// They wait only while the round under way and the last one are stored, the layout is committed (here without a sync), and the first round in the
// children is stored. All else is done before or after, 32 MB that OS has not synced included. Time is the bubble's, so that nothing else is measured.
//
// Now and then a partition makes space for records to come just then, which takes some milliseconds more with or without a change. So there are three changes of each kind, and the
// best one counts.
func TestASplitOrAMergeAddsAFewSyncsToAPublishersWait(t *testing.T) {
	// Not Interval: in a bubble, time stands still while its syncs and a seal wait for each other.
	for _, tc := range []struct {
		durability   Durability
		rest         time.Duration // of a publisher, between two calls: in Fsync, so long that no space is made just then
		split, merge time.Duration // the longest wait at most
	}{
		{Fsync, 10 * time.Millisecond, 4 * time.Millisecond, 4500 * time.Microsecond},
		{OS, time.Millisecond, 6 * time.Millisecond, 6 * time.Millisecond},
	} {
		t.Run(tc.durability.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := &flatDisk{sync: time.Millisecond, speed: 200e6, dirty: map[string]int64{}}
				b, err := Open("", Options{InMemory: true, Durability: tc.durability, fs: vfs.NewFault(vfs.NewVolatile(), disk)})
				if err != nil {
					t.Fatal(err)
				}
				topic := ensure(t, b, "t", TopicConfig{SegmentBytes: 1 << 30})
				ctx, stop := context.WithCancel(t.Context())
				var publishers sync.WaitGroup
				var longest atomic.Int64 // wait of any publisher
				for i := range 8 {
					publishers.Go(func() {
						for n := 0; ctx.Err() == nil; n++ {
							recs := make([]*Record, 4)
							for j := range recs {
								recs[j] = &Record{Key: fmt.Append(nil, i, n, j), Value: make([]byte, 1000)}
							}
							began := time.Now()
							if err := topic.Publish(context.Background(), recs...); err != nil {
								t.Error(err)
								return
							}
							for took := int64(time.Since(began)); ; {
								if was := longest.Load(); took <= was || longest.CompareAndSwap(was, took) {
									break
								}
							}
							time.Sleep(tc.rest)
						}
					})
				}
				wait := func(change func()) time.Duration {
					time.Sleep(time.Second)
					longest.Store(0)
					change()
					time.Sleep(20 * time.Millisecond) // until those that had to wait have come back
					return time.Duration(longest.Load())
				}
				one := PartitionID(1)
				var splits, merges []time.Duration
				for range 3 {
					var parts []PartitionID
					splits = append(splits, wait(func() { parts = split(t, topic, one) }))
					merges = append(merges, wait(func() { one = merge(t, topic, parts[0], parts[1]) }))
				}
				t.Logf("publishers waited for %v during splits, for %v during merges", splits, merges)
				if slices.Min(splits) > tc.split || slices.Min(merges) > tc.merge {
					t.Errorf("publishers waited for %v during splits, want at most %v; for %v during merges, want at most %v", splits, tc.split, merges, tc.merge)
				}
				stop()
				publishers.Wait()
				if err := b.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
