package partition

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/braid-go/braid/backpressure"
	"github.com/braid-go/braid/internal/vfs"
	"github.com/braid-go/braid/log"
)

// Of the bubble's time.
const (
	writeTime = time.Millisecond
	syncTime  = 10 * time.Millisecond
)

// slowDisk is a file system whose writes and syncs take their time.
func slowDisk() vfs.FS {
	return vfs.NewFault(vfs.NewMem(), vfs.InjectorFunc(func(op vfs.Op) vfs.Outcome {
		switch op.Kind {
		case vfs.OpWrite:
			time.Sleep(writeTime)
		case vfs.OpDatasync:
			time.Sleep(syncTime)
		}
		return vfs.Outcome{}
	}))
}

// acked is a record that was acknowledged.
type acked struct {
	at      time.Time
	offset  int64
	reduced bool
}

func TestAReducedAcknowledgementIsFollowedByASyncSoon(t *testing.T) {
	for _, strategy := range []backpressure.Strategy{backpressure.DegradeQuality, backpressure.Adaptive} {
		t.Run(strategy.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := testPartition(t, slowDisk(), log.ModeFsync)
				// Adaptive begins to degrade soon, and does not come to refuse.
				policy := backpressure.Policy{Strategy: strategy, ReduceAck: true, MaxRecords: 10, Warning: 0.1, Critical: 0.2, Shedding: 1}
				if err := p.SetPressure(policy); err != nil {
					t.Fatal(err)
				}
				type seen struct {
					at  time.Time
					end int64
				}
				var visible []seen
				changes := make(chan struct{}, 1)
				stop := p.Log().Notify(func() {
					select {
					case changes <- struct{}{}:
					default:
					}
				})
				var watch sync.WaitGroup
				watch.Go(func() {
					for range changes {
						visible = append(visible, seen{time.Now(), p.Log().VisibleEnd()})
					}
				})
				acks := publishMany(t, p)
				synctest.Wait()
				time.Sleep(time.Second)
				stop()
				close(changes)
				watch.Wait()
				reduced, latest := 0, time.Duration(0)
				for _, a := range acks {
					if !a.reduced {
						continue
					}
					reduced++
					for _, v := range visible {
						if v.end > a.offset {
							latest = max(latest, v.at.Sub(a.at))
							break
						}
					}
				}
				// The first of what is unsynced waits for reduceFor, the round that is under way then, which may have to make a stretch of the file ready
				// (a write and a sync), and the next one with its sync.
				if most := reduceFor + (writeTime + syncTime) + 2*writeTime + syncTime; latest > most || latest < reduceFor/2 {
					t.Errorf("visible %v after the acknowledgement at the latest, want about %v", latest, most)
				}
				s := p.Stats()
				if reduced < len(acks)/2 || s.Syncs > s.Rounds/10 {
					t.Errorf("%d of %d acknowledgements were reduced, %d syncs in %d rounds", reduced, len(acks), s.Syncs, s.Rounds)
				}
				if end := p.Log().VisibleEnd(); end != int64(len(acks)) || p.Log().DurableEnd() != p.Log().AssignedEnd() {
					t.Errorf("%d of %d records are visible when all is quiet", end, len(acks))
				}
			})
		})
	}
}

// publishMany has 32 publishers publish 6,400 records, and returns how they were acknowledged.
func publishMany(t *testing.T, p *Partition) []acked {
	t.Helper()
	var mu sync.Mutex
	var out []acked
	var all sync.WaitGroup
	for i := range 32 {
		all.Go(func() {
			for j := range 200 {
				r := request(p, fmt.Sprint(i, " ", j))
				if err := errors.Join(p.Enqueue(context.Background(), r), r.Wait(context.Background())); err != nil {
					t.Error(err)
				}
				mu.Lock()
				out = append(out, acked{time.Now(), r.Base(), r.Reduced()})
				mu.Unlock()
				r.Release()
			}
		})
	}
	all.Wait()
	return out
}

func TestAnAcknowledgementIsReducedOnlyWhereThatIsAllowed(t *testing.T) {
	for name, policy := range map[string]backpressure.Policy{
		"not asked for":     {Strategy: backpressure.DegradeQuality},
		"another strategy":  {Strategy: backpressure.BlockProducer, ReduceAck: true},
		"never so crowded":  {Strategy: backpressure.DegradeQuality, ReduceAck: true, MaxRecords: 100},
		"nothing to reduce": {Strategy: backpressure.Adaptive, MaxRecords: 100},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := testPartition(t, slowDisk(), log.ModeFsync)
				if policy.MaxRecords == 0 {
					policy.MaxRecords = 10
				}
				policy.Smoothing = time.Hour
				if err := p.SetPressure(policy); err != nil {
					t.Fatal(err)
				}
				for _, a := range publishMany(t, p) {
					if a.reduced {
						t.Fatalf("offset %d", a.offset)
					}
				}
			})
		})
	}
}

func TestFlushWaitsForWhatWasAcknowledgedBeforeItsSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := testPartition(t, slowDisk(), log.ModeFsync)
		if err := p.SetPressure(backpressure.Policy{Strategy: backpressure.DegradeQuality, ReduceAck: true, MaxRecords: 10}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		ends := make(chan int64, 1)
		for range 32 {
			all.Go(func() {
				for ctx.Err() == nil {
					r := request(p, "x")
					if p.Enqueue(ctx, r) == nil && r.Wait(context.Background()) == nil && r.Reduced() && p.Log().VisibleEnd() <= r.Base() {
						select {
						case ends <- r.Base():
						default:
						}
					}
					r.Release()
				}
			})
		}
		base := <-ends
		if err := p.Flush(ctx); err != nil {
			t.Error(err)
		}
		if end := p.Log().VisibleEnd(); end <= base {
			t.Errorf("flushed, and visible up to %d: %d was acknowledged before", end, base)
		}
		cancel()
		all.Wait()
	})
}

// A burst brings the queue to Warning, and then a record comes every 100 µs, so that it stays far below: with each sync the device does 2 ms of work, whatever there is to be
// synced.
func TestFromWarningOnRoundsWaitForMoreSoThatFramesGrow(t *testing.T) {
	for _, tc := range []struct {
		strategy backpressure.Strategy
		warning  float64
		lingers  bool
	}{
		{backpressure.DegradeQuality, 0.5, true},
		{backpressure.DegradeQuality, 0.8, false},
		{backpressure.BlockProducer, 0.5, false},
	} {
		t.Run(fmt.Sprintf("%v from %v on", tc.strategy, tc.warning), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := vfs.NewFault(vfs.NewMem(), vfs.InjectorFunc(func(op vfs.Op) vfs.Outcome {
					if op.Kind == vfs.OpDatasync {
						time.Sleep(400 * time.Microsecond)
					}
					return vfs.Outcome{}
				}))
				p := testPartition(t, disk, log.ModeFsync)
				policy := backpressure.Policy{Strategy: tc.strategy, MaxRecords: 100, Warning: tc.warning, Critical: 0.9, Settle: time.Minute}
				if err := p.SetPressure(policy); err != nil {
					t.Fatal(err)
				}
				var longest atomic.Int64
				put := func() {
					began := time.Now()
					r := p.NewRequest(text{"x"}, 1, 1, func(r *Request) {
						longest.Store(max(longest.Load(), int64(time.Since(began)))) // callbacks come one at a time
						r.Release()
					})
					if err := p.Enqueue(context.Background(), r); err != nil {
						t.Fatal(err)
					}
				}
				put()
				synctest.Wait() // its sync is under way, so that all that come now are queued
				for range 60 {
					put()
				}
				time.Sleep(time.Second)
				before := p.Stats().Rounds
				for range 10_000 {
					put()
					time.Sleep(100 * time.Microsecond)
				}
				rounds := int(p.Stats().Rounds - before)
				// A sync lets four in, and lingering twenty more.
				if low, high := 10_000/30, 10_000/20; tc.lingers && (rounds < low || rounds > high) || !tc.lingers && rounds < 10_000/5 {
					t.Errorf("%d rounds for 10,000 records; %d to %d if they linger: %v", rounds, low, high, tc.lingers)
				}
				if most, longest := 2*400*time.Microsecond+2*lingerFor, time.Duration(longest.Load()); longest > most {
					t.Errorf("a record waited %v, want %v at most", longest, most)
				}
				if err := p.Flush(context.Background()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
