package partition

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/braid-go/braid/backpressure"
	"github.com/braid-go/braid/internal/vfs"
	"github.com/braid-go/braid/log"
)

// At every moment what is pending is what publishers wait for: each of 8 has one record under way at most.
func TestTheAccountIsExactAtEveryMoment(t *testing.T) {
	const publishers = 8
	p := testPartition(t, vfs.NewMem(), log.ModeOS)
	if err := p.SetPressure(backpressure.Policy{Strategy: backpressure.DropOldest, MaxRecords: 4}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var all, readers sync.WaitGroup
	var told atomic.Int64 // outcomes
	for range publishers {
		all.Go(func() {
			for ctx.Err() == nil {
				r := request(p, "x")
				if err := p.Enqueue(context.Background(), r); err != nil {
					t.Error(err)
				} else if err := r.Wait(context.Background()); err != nil && !errors.Is(err, ErrDropped) {
					t.Error(err)
				}
				r.Release()
				told.Add(1)
			}
		})
	}
	for range 16 { // so many that some are interrupted between reading one counter and the next
		readers.Go(func() {
			var last Stats
			for begin := told.Load(); told.Load() < begin+20_000; {
				before := told.Load()
				s := p.Stats()
				if s.Pending() < 0 || s.Pending() > publishers {
					t.Errorf("%+v, %d pending", s, s.Pending())
					return
				}
				if s.Stored+s.Dropped < before || s.Stored < last.Stored || s.Dropped < last.Dropped {
					t.Errorf("%+v after %+v and %d outcomes", s, last, before)
					return
				}
				last = s
			}
		})
	}
	readers.Wait()
	cancel()
	all.Wait()
	if s := p.Stats(); s.Pending() != 0 || s.Stored+s.Dropped != told.Load() {
		t.Errorf("%+v after %d outcomes", s, told.Load())
	}
}
