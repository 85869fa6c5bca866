package backpressure

import (
	"sync"
	"sync/atomic"
	"testing"
)

func newGauge(records, bytes uint64) *gauge {
	g := new(gauge)
	g.maxRecords.Store(records)
	g.maxBytes.Store(bytes)
	return g
}

// With room for one record, the gauge is a lock that is tried.
func TestGaugeNeverAdmitsTwoWhereOneFits(t *testing.T) {
	const goroutines, each = 4, 100_000
	g := newGauge(1, 100)
	w := pack(1, 1)
	var inside atomic.Int32
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for range each {
				if _, ok := g.claim(w, waitingBit); !ok {
					continue
				}
				if n := inside.Add(1); n != 1 {
					t.Errorf("%d inside", n)
				}
				inside.Add(-1)
				g.release(w)
			}
		})
	}
	wg.Wait()
	if g.word.Load() != 0 {
		t.Errorf("gauge %#x at the end", g.word.Load())
	}
}

func TestGaugeKeepsRecordsBytesAndFlagApart(t *testing.T) {
	g := newGauge(LargestMaxRecords, LargestMaxBytes)
	all := pack(LargestMaxRecords, LargestMaxBytes)
	if _, ok := g.claim(all, waitingBit); !ok {
		t.Fatal("the largest limits do not hold their own weight")
	}
	g.setWaiting()
	if got, want := g.held().weight(), (Weight{LargestMaxRecords, LargestMaxBytes}); got != want {
		t.Errorf("held %+v, want %+v", got, want)
	}
	if !g.release(all) {
		t.Error("release does not see the flag")
	}
	if _, ok := g.claim(pack(1, 0), waitingBit); ok {
		t.Error("claimed past the flag")
	}
	g.clearWaiting()
	if g.word.Load() != 0 {
		t.Errorf("gauge %#x at the end", g.word.Load())
	}
}
