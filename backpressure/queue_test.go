package backpressure

import (
	"context"
	"errors"
	"math"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
)

func TestOptionsDefaultsAreTheDocumentedOnes(t *testing.T) {
	want := Options{MaxRecords: 65536, MaxBytes: 64 << 20, Slots: 4096}
	if diff := cmp.Diff(want, newQueue(t, Options{}).Limits()); diff != "" {
		t.Error(diff)
	}
	if got := newQueue(t, Options{Slots: 33}).Limits().Slots; got != 64 {
		t.Errorf("33 slots became %d, want 64", got)
	}
}

func TestOptionsThatAQueueCannotHaveAreRefused(t *testing.T) {
	for _, c := range []struct {
		opts  Options
		field string
	}{
		{Options{MaxRecords: -1}, "MaxRecords"},
		{Options{MaxRecords: LargestMaxRecords + 1}, "MaxRecords"},
		{Options{MaxBytes: -1}, "MaxBytes"},
		{Options{MaxBytes: LargestMaxBytes + 1}, "MaxBytes"},
		{Options{Slots: -1}, "Slots"},
		{Options{Slots: 1}, "Slots"},
		{Options{Slots: MaxSlots + 1}, "Slots"},
	} {
		_, err := NewQueue(c.opts, jobWeight)
		var oe *OptionError
		if !errors.As(err, &oe) || oe.Field != c.field {
			t.Errorf("NewQueue(%+v) = %v, want an OptionError of %s", c.opts, err, c.field)
		}
	}
	largest := Options{MaxRecords: LargestMaxRecords, MaxBytes: LargestMaxBytes}
	if _, err := NewQueue(largest, jobWeight); err != nil {
		t.Errorf("NewQueue(%+v) = %v", largest, err)
	}
}

func TestEachLimitAloneMakesTheQueueFull(t *testing.T) {
	for _, c := range []struct {
		name string
		opts Options
		item Weight
		fits int
	}{
		{"records", Options{MaxRecords: 10}, Weight{Records: 3, Bytes: 1}, 3},
		{"bytes", Options{MaxBytes: 10}, Weight{Records: 1, Bytes: 5}, 2},
		{"slots", Options{Slots: 4}, Weight{Records: 1, Bytes: 1}, 4},
		{"records of weightless items", Options{MaxRecords: 5}, Weight{}, 5},
		{"records of items with a negative weight", Options{MaxRecords: 5}, Weight{-7, -7}, 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := newQueue(t, c.opts)
			fits := 0
			for q.TryPut(job{weight: c.item}) == nil {
				fits++
			}
			if fits != c.fits {
				t.Errorf("%d items fit, want %d", fits, c.fits)
			}
			counted := Weight{max(c.item.Records, 1), max(c.item.Bytes, 0)}
			want := Weight{fits * counted.Records, int64(fits) * counted.Bytes}
			if q.Depth() != want || q.Len() != fits {
				t.Errorf("Depth = %+v, Len = %d, want %+v, %d", q.Depth(), q.Len(), want, fits)
			}
			if err := q.TryPut(job{weight: c.item}); !errors.Is(err, ErrFull) {
				t.Errorf("TryPut = %v, want ErrFull", err)
			}
			q.Take(nil, math.MaxInt, math.MaxInt64)
			if q.Depth() != (Weight{}) {
				t.Errorf("Depth = %+v when all is taken", q.Depth())
			}
		})
	}
}

func TestAnItemThatCanNeverFitIsTooLarge(t *testing.T) {
	q := newQueue(t, Options{MaxRecords: 10, MaxBytes: 10})
	for _, w := range []Weight{{11, 1}, {math.MaxInt, 1}, {1, LargestMaxBytes + 1}, {1, math.MaxInt64}} {
		if err := q.TryPut(job{weight: w}); !errors.Is(err, ErrTooLarge) {
			t.Errorf("TryPut of %+v = %v, want ErrTooLarge", w, err)
		}
		if err := q.Put(t.Context(), job{weight: w}); !errors.Is(err, ErrTooLarge) {
			t.Errorf("Put of %+v = %v, want ErrTooLarge", w, err)
		}
	}
	if q.Depth() != (Weight{}) || q.Len() != 0 {
		t.Errorf("Depth = %+v, Len = %d, want nothing", q.Depth(), q.Len())
	}
}

func TestAnItemOfMoreThanMaxBytesIsLetInAlone(t *testing.T) {
	q := newQueue(t, Options{MaxBytes: 10})
	big := job{weight: Weight{1, LargestMaxBytes}}
	for range 2 {
		if err := q.TryPut(big); err != nil {
			t.Fatalf("TryPut into an empty queue = %v", err)
		}
		if err := q.TryPut(one(0, 0)); !errors.Is(err, ErrFull) {
			t.Errorf("TryPut beside it = %v, want ErrFull", err)
		}
		q.Take(nil, 1, 1)
		if err := q.TryPut(one(0, 0)); err != nil {
			t.Fatal(err)
		}
		if err := q.TryPut(big); !errors.Is(err, ErrFull) {
			t.Errorf("TryPut of it beside another = %v, want ErrFull", err)
		}
		q.Take(nil, 1, 1)
	}
}

func TestTakeStopsBeforeABoundAndTakesOneAtLeast(t *testing.T) {
	for _, c := range []struct {
		name       string
		maxRecords int
		maxBytes   int64
		want       int
	}{
		{"everything", math.MaxInt, math.MaxInt64, 4},
		{"records exactly", 4, math.MaxInt64, 2},
		{"records almost", 5, math.MaxInt64, 2},
		{"bytes exactly", math.MaxInt, 30, 3},
		{"bytes almost", math.MaxInt, 29, 2},
		{"first above records", 1, math.MaxInt64, 1},
		{"first above bytes", math.MaxInt, 1, 1},
		{"no room", 0, 0, 1},
		{"negative room", -1, -1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := newQueue(t, Options{})
			want := []job{{n: -1}}
			for n := range 4 {
				j := job{n: n, weight: Weight{2, 10}}
				if err := q.TryPut(j); err != nil {
					t.Fatal(err)
				}
				if n < c.want {
					want = append(want, j)
				}
			}
			got := q.Take([]job{{n: -1}}, c.maxRecords, c.maxBytes)
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(job{})); diff != "" {
				t.Error(diff)
			}
			left := 4 - c.want
			if want := (Weight{2 * left, int64(10 * left)}); q.Depth() != want {
				t.Errorf("Depth = %+v, want %+v", q.Depth(), want)
			}
		})
	}
}

func TestPutWithoutContentionAllocatesNothing(t *testing.T) {
	q := newQueue(t, Options{})
	batch := make([]job, 0, 16)
	ctx := t.Context()
	allocs := testing.AllocsPerRun(1000, func() {
		for n := range 8 {
			if err := q.Put(ctx, one(0, n)); err != nil {
				t.Error(err)
			}
		}
		if batch = q.Take(batch[:0], 8, 8); len(batch) != 8 {
			t.Errorf("took %d", len(batch))
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations for 8 puts and a take", allocs)
	}
}

func TestQueueIsExactUnderManyProducers(t *testing.T) {
	const producers, each = 4, 20_000
	for name, opts := range map[string]Options{
		"hardly ever full":     {},
		"full by records":      {MaxRecords: 5},
		"full by bytes":        {MaxBytes: 3},
		"full by slots":        {Slots: 2},
		"full by all together": {MaxRecords: 8, MaxBytes: 8, Slots: 8},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // a hang is a deadlock that is seen at once
				q := newQueue(t, opts)
				var wg sync.WaitGroup
				for p := range producers {
					wg.Go(func() {
						for n := range each {
							if err := q.Put(t.Context(), one(p, n)); err != nil {
								t.Error(err)
							}
						}
					})
				}
				go func() {
					wg.Wait()
					q.Close()
				}()
				checkPerProducer(t, drain(q, 3), []int{each, each, each, each})
				if q.Depth() != (Weight{}) || q.Len() != 0 {
					t.Errorf("Depth = %+v, Len = %d at the end", q.Depth(), q.Len())
				}
			})
		})
	}
}

func TestDepthNeverPassesTheLimits(t *testing.T) {
	const each = 20_000
	q := newQueue(t, Options{MaxRecords: 7, MaxBytes: 20, Slots: 4})
	var wg sync.WaitGroup
	for p := range 3 {
		wg.Go(func() {
			for n := range each {
				j := job{p, n, Weight{1 + (n+p)%3, int64(n % 7)}}
				if n%2 == 0 {
					for q.TryPut(j) != nil {
						runtime.Gosched()
					}
				} else if err := q.Put(context.Background(), j); err != nil {
					t.Error(err)
				}
			}
		})
	}
	go func() {
		wg.Wait()
		q.Close()
	}()
	var got []job
	for !q.Drained() {
		if d := q.Depth(); d.Records > 7 || d.Bytes > 20 || d.Records < 0 || d.Bytes < 0 {
			t.Fatalf("Depth = %+v", d)
		}
		before := len(got)
		if got = q.Take(got, 4, 10); len(got) == before {
			runtime.Gosched()
		}
	}
	checkPerProducer(t, got, []int{each, each, each})
	if q.Depth() != (Weight{}) {
		t.Errorf("Depth = %+v at the end", q.Depth())
	}
}
