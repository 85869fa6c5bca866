package partition

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
	"unsafe"
)

// hashes are the keys of some records, the same ones again and again.
type hashes []uint64

func (h hashes) KeyHash(i int) (uint64, bool) { return h[i%len(h)], true }

// none are records without a key.
type none struct{}

func (none) KeyHash(int) (uint64, bool) { return 0, false }

// drawn are records whose keys are drawn by a function.
type drawn func() (uint64, bool)

func (f drawn) KeyHash(int) (uint64, bool) { return f() }

var loadEpoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func after(seconds float64) time.Time {
	return loadEpoch.Add(time.Duration(seconds * float64(time.Second)))
}

// run observes a rate from one second to another, in ten batches a second.
func run(l *Load, from, to, perSecond int, bytes int64, keys Keys) {
	for second := from; second < to; second++ {
		for i := range 10 {
			l.Observe(after(float64(second)+float64(i)/10), perSecond/10, bytes*int64(perSecond)/10, keys)
		}
	}
}

func wantNear(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if math.IsNaN(got) || math.Abs(got-want) > tolerance {
		t.Errorf("%s is %.4g, want %.4g ± %.4g", what, got, want, tolerance)
	}
}

// random returns a source of numbers that is the same each time, and says how to run the test again.
func random(t *testing.T) *rand.Rand {
	const seed = 20260101
	t.Logf("seed %d, replay: go test -run '^%s$' ./partition", seed, t.Name())
	return rand.New(rand.NewPCG(seed, 0))
}

var whole = Range{0, math.MaxUint64}

func TestASteadyLoadHasTheSameRateInEveryWindowFromTheFirstSecondOn(t *testing.T) {
	l := NewLoad(loadEpoch)
	from := 0
	for _, seconds := range []int{1, 5, 30, 600} {
		run(l, from, seconds, 200, 50, hashes{1})
		from = seconds
		s := l.Snapshot(after(float64(seconds)))
		for _, r := range []Rate{s.Short, s.Medium, s.Long} {
			wantNear(t, fmt.Sprintf("records/s after %d s", seconds), r.Records, 200, 0.001)
			wantNear(t, fmt.Sprintf("bytes/s after %d s", seconds), r.Bytes, 10000, 0.01)
		}
		if s.Age != time.Duration(seconds)*time.Second {
			t.Errorf("age %s after %d s", s.Age, seconds)
		}
	}
}

func TestEachWindowFollowsAChangeAtItsOwnPace(t *testing.T) {
	l := NewLoad(loadEpoch)
	run(l, 0, 3600, 100, 1, hashes{1})
	run(l, 3600, 3610, 1100, 1, hashes{1})
	up := l.Snapshot(after(3610))
	wantNear(t, "short", up.Short.Records, 100+1000*(1-math.Exp(-1)), 1)
	wantNear(t, "medium", up.Medium.Records, 100+1000*(1-math.Exp(-1./6)), 1)
	wantNear(t, "long", up.Long.Records, 100+1000*(1-math.Exp(-1./30)), 1)
	quiet := l.Snapshot(after(3670))
	wantNear(t, "short after a silent minute", quiet.Short.Records, up.Short.Records*math.Exp(-6), 0.01)
	wantNear(t, "medium after a silent minute", quiet.Medium.Records, up.Medium.Records*math.Exp(-1), 0.01)
	wantNear(t, "long after a silent minute", quiet.Long.Records, up.Long.Records*math.Exp(-0.2), 0.01)
}

func TestALoadGoesOnFromWhatItIsWhenItsWindowsChange(t *testing.T) {
	l := NewLoad(loadEpoch)
	run(l, 0, 3600, 100, 1, hashes{1})
	l.SetWindows(Windows{Short: 2 * time.Second, Medium: 4 * time.Second, Long: 8 * time.Second})
	s := l.Snapshot(after(3600))
	wantNear(t, "long", s.Long.Records, 100, 0.01)
	s = l.Snapshot(after(3608))
	wantNear(t, "short after 8 silent seconds", s.Short.Records, 100*math.Exp(-4), 0.01)
	wantNear(t, "medium after 8 silent seconds", s.Medium.Records, 100*math.Exp(-2), 0.01)
	wantNear(t, "long after 8 silent seconds", s.Long.Records, 100*math.Exp(-1), 0.01)
	if s := l.Snapshot(after(3681)); l.meter != nil || s.Long.Records != 0 {
		t.Errorf("after ten times the longest window the meter is still there: %+v", s)
	}
}

func TestAClockThatGoesBackLosesNoRecord(t *testing.T) {
	l := NewLoad(loadEpoch)
	l.Observe(after(5), 100, 1000, none{})
	l.Observe(after(2), 100, 1000, none{})
	l.Observe(after(-9), 100, 1000, none{})
	s := l.Snapshot(after(6))
	wantNear(t, "records in 6 s", l.Snapshot(after(1)).Long.Records, 0, 0)
	part := (1 - math.Exp(-1./300)) / (1 - math.Exp(-6./300))
	wantNear(t, "records/s", s.Long.Records, 300*part, 0.001)
}

func TestAnIdlePartitionHoldsNothing(t *testing.T) {
	l := NewLoad(loadEpoch)
	if size := unsafe.Sizeof(*l); l.meter != nil || size > 64 {
		t.Fatalf("a new load has %d bytes and %v", size, l.meter)
	}
	l.Observe(after(0), 0, 0, none{})
	if l.meter != nil {
		t.Fatal("no records made a meter")
	}
	run(l, 0, 100, 1000, 1, hashes{1, 2, 3})
	l.Release()
	if l.meter.samples != nil {
		t.Fatal("the sample is still there")
	}
	if s := l.Snapshot(after(101)); s.Long.Records < 900 || s.Hottest(1) != nil {
		t.Fatalf("a released load tells %+v", s)
	}
	run(l, 101, 110, 1000, 1, hashes{1, 2, 3})
	if s := l.Snapshot(after(111)); len(s.Hottest(3)) != 3 {
		t.Fatalf("no sample after the release: %+v", s)
	}
	if s := l.Snapshot(after(110 + 3002)); l.meter != nil || s.Long.Records != 0 {
		t.Fatalf("the meter is still there: %+v", s)
	}
}

func TestTheSampleIsBoundedAndFollowsTheLoad(t *testing.T) {
	r := random(t)
	l := NewLoad(loadEpoch)
	low := drawn(func() (uint64, bool) { return r.Uint64() >> 2, true })
	high := drawn(func() (uint64, bool) { return r.Uint64()>>2 | 3<<62, true })
	run(l, 0, 600, 5000, 1, low)
	if n := len(l.meter.samples); n != maxSamples {
		t.Fatalf("%d samples", n)
	}
	at, err := l.Snapshot(after(600)).SplitPoint(whole)
	if err != nil {
		t.Fatal(err)
	}
	wantNear(t, "split point of the lower quarter", float64(at)/(1<<62), 0.5, 0.1)
	run(l, 600, 700, 5000, 1, high)
	if at, err = l.Snapshot(after(700)).SplitPoint(whole); err != nil {
		t.Fatal(err)
	}
	wantNear(t, "split point of the upper quarter", float64(at)/(1<<62), 3.5, 0.1)
}

func TestASampleStandsForItsRecordsWhateverTheRate(t *testing.T) {
	// Ten slow seconds with one key take turns with ten fast ones with another: what counts is the records, not the samples.
	for _, fast := range []int{40, 1000, 100_000} {
		l := NewLoad(loadEpoch)
		for second := 0; second < 100; second += 20 {
			run(l, second, second+10, 40, 1, hashes{1})
			run(l, second+10, second+20, fast, 1, hashes{2})
		}
		hot := l.Snapshot(after(100)).Hottest(2)
		if len(hot) == 0 {
			t.Fatal("nothing sampled")
		}
		heavy := 0.0
		for _, k := range hot {
			if k.Hash == 2 {
				heavy = k.Share
			}
		}
		wantNear(t, fmt.Sprintf("share of %d records to 40", fast), heavy, float64(fast)/float64(fast+40), 0.1)
	}
}

func TestTheSplitPointIsTheMedianOfTheLoad(t *testing.T) {
	r := random(t)
	for _, c := range []struct {
		name string
		draw func() float64 // a place in the space
		want float64
	}{
		{"even", r.Float64, 0.5},
		{"leaning to the left", func() float64 { x := r.Float64(); return x * x }, 0.25},
		{"in two heaps", func() float64 {
			if r.Float64() < 0.25 {
				return 0.1 * r.Float64()
			}
			return 0.6 + 0.3*r.Float64()
		}, 0.7},
	} {
		l := NewLoad(loadEpoch)
		run(l, 0, 120, 2000, 1, drawn(func() (uint64, bool) { return uint64(c.draw() * (1 << 63) * 2), true }))
		at, err := l.Snapshot(after(120)).SplitPoint(whole)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		wantNear(t, c.name, float64(at)/(1<<63)/2, c.want, 0.06)
	}
}

func TestTheSplitPointLeavesSomethingOnBothSides(t *testing.T) {
	for _, c := range []struct {
		name string
		in   Range
		keys Keys
		want uint64
	}{
		{"no samples", Range{10, 19}, nil, 15},
		{"two hashes, no samples", Range{7, 8}, nil, 8},
		{"the whole space", whole, nil, 1 << 63},
		{"two keys side by side", whole, hashes{7, 8}, 8},
		{"two keys apart", whole, hashes{10, 20}, 15},
		{"the ends of the space", whole, hashes{0, math.MaxUint64}, 1 << 63},
		{"samples elsewhere", Range{100, 199}, hashes{7, 8}, 150},
		{"only what is in the range", Range{100, 199}, hashes{7, 8, 110, 120}, 115},
		{"no keys", Range{100, 199}, none{}, 150},
	} {
		l := NewLoad(loadEpoch)
		if c.keys != nil {
			run(l, 0, 100, 400, 1, c.keys)
		}
		at, err := l.Snapshot(after(100)).SplitPoint(c.in)
		if err != nil || at != c.want {
			t.Errorf("%s: split %v at %d (%v), want %d", c.name, c.in, at, err, c.want)
		}
	}
}

func TestARangeWhoseLoadIsOneKeyIsIndivisible(t *testing.T) {
	r := random(t)
	const hot = 1 << 60
	mixed := func(share, keyless float64) Keys {
		return drawn(func() (uint64, bool) {
			switch x := r.Float64(); {
			case x < keyless:
				return 0, false
			case x < keyless+share:
				return hot, true
			}
			return r.Uint64(), true
		})
	}
	for _, c := range []struct {
		share, keyless float64
		refused        bool
	}{
		{1, 0, true}, {0.9, 0, true}, {0.5, 0, false}, {0.1, 0.9, false}, {0.9, 0.1, true}, {0, 0, false},
	} {
		l := NewLoad(loadEpoch)
		run(l, 0, 120, 2000, 1, mixed(c.share, c.keyless))
		s := l.Snapshot(after(120))
		_, err := s.SplitPoint(whole)
		var indivisible *IndivisibleError
		if errors.As(err, &indivisible) != c.refused {
			t.Fatalf("share %v, keyless %v: %v", c.share, c.keyless, err)
		}
		if !c.refused {
			continue
		}
		k := indivisible.Key
		if k != s.Hottest(1)[0] || k.Hash != hot {
			t.Errorf("key %+v, hottest %+v", k, s.Hottest(1))
		}
		wantNear(t, "share", k.Share, c.share, k.Error)
		if k.Error > 0.08 {
			t.Errorf("error %v", k.Error)
		}
	}
	var indivisible *IndivisibleError
	if _, err := NewLoad(loadEpoch).Snapshot(after(1)).SplitPoint(Range{5, 5}); !errors.As(err, &indivisible) {
		t.Errorf("a single hash: %v", err)
	}
}

func TestTheErrorOfAShareHolds(t *testing.T) {
	r := random(t)
	const trials = 200
	missed := 0
	for range trials {
		share := r.Float64()
		l := NewLoad(loadEpoch)
		run(l, 0, 30, 1000, 1, drawn(func() (uint64, bool) {
			if r.Float64() < share {
				return 42, true
			}
			return 43 + r.Uint64()>>1, true
		}))
		estimate := 0.0
		var bound float64
		for _, k := range l.Snapshot(after(30)).Hottest(maxSamples) {
			bound = k.Error
			if k.Hash == 42 {
				estimate = k.Share
			}
		}
		if math.Abs(estimate-share) > bound {
			missed++
		}
	}
	if missed > trials/20 {
		t.Errorf("%d of %d shares were off by more than the error said", missed, trials)
	}
}

func TestFewSamplesSayNothing(t *testing.T) {
	l := NewLoad(loadEpoch)
	l.Observe(after(0), minSamples-1, 100, hashes{5})
	s := l.Snapshot(after(1))
	if hot := s.Hottest(5); hot != nil {
		t.Errorf("hottest of a few records: %v", hot)
	}
	if at, err := s.SplitPoint(whole); at != 1<<63 || err != nil {
		t.Errorf("split of a few records at %d: %v", at, err)
	}
}

func TestALoadIsObservedAndReadAtTheSameTime(t *testing.T) {
	l := NewLoad(loadEpoch)
	var wg sync.WaitGroup
	wg.Go(func() { run(l, 0, 300, 1000, 1, hashes{1, 2, 3}) })
	wg.Go(func() {
		for i := range 300 {
			l.Snapshot(after(float64(i))).Hottest(2)
		}
	})
	wg.Go(func() {
		for range 50 {
			l.Release()
		}
	})
	wg.Wait()
	wantNear(t, "rate", l.Snapshot(after(300)).Long.Records, 1000, 0.01)
}

// BenchmarkLoadObserve shows what measuring costs a record, by the size of the appender's round. Encoding costs 22 ns a record.
func BenchmarkLoadObserve(b *testing.B) {
	for _, records := range []int{1, 64, 1000} {
		b.Run(fmt.Sprintf("%d-records", records), func(b *testing.B) {
			l := NewLoad(loadEpoch)
			var keys Keys = hashes{1, 2, 3, 4, 5, 6, 7}
			now := loadEpoch
			b.ReportAllocs()
			for b.Loop() {
				now = now.Add(time.Duration(records) * time.Microsecond) // a million records a second
				l.Observe(now, records, int64(100*records), keys)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*records), "ns/record")
		})
	}
}

func BenchmarkLoadSnapshot(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	l := NewLoad(loadEpoch)
	run(l, 0, 200, 2000, 1, drawn(func() (uint64, bool) { return r.Uint64(), true }))
	b.Run("rates", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			l.Snapshot(after(200))
		}
	})
	b.Run("split-point", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := l.Snapshot(after(200)).SplitPoint(whole); err != nil {
				b.Fatal(err)
			}
		}
	})
}
