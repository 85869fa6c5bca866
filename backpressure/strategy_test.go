package backpressure

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// dropper takes what is dropped.
type dropper struct{ jobs []job }

func (d *dropper) owner() Owner[job] {
	return Owner[job]{Dropped: func(j job) { d.jobs = append(d.jobs, j) }}
}

func setPolicy(t *testing.T, q *Queue[job], p Policy, owner Owner[job]) {
	t.Helper()
	if err := q.SetPolicy(p, owner); err != nil {
		t.Fatal(err)
	}
}

func TestDropOldestDropsTheFewestThatMakeRoom(t *testing.T) {
	var d dropper
	q := newQueue(t, Options{MaxRecords: 10})
	setPolicy(t, q, Policy{Strategy: DropOldest, MaxRecords: 10}, d.owner())
	for i, records := range []int{3, 3, 3} {
		if err := q.Put(t.Context(), job{0, i, Weight{Records: records}}); err != nil {
			t.Fatal(err)
		}
	}
	taken := q.Take(nil, 1, 1) // the oldest is the drainer's, and not to be dropped
	for i, tc := range []struct {
		records int
		dropped []int
	}{
		{4, nil},         // 3+3+4: there is room
		{1, []int{1}},    // the first that still waits
		{9, []int{2, 3}}, // 3+4+1+9: both must go, and no more
	} {
		d.jobs = nil
		if err := q.Put(t.Context(), job{0, 3 + i, Weight{Records: tc.records}}); err != nil {
			t.Fatal(err)
		}
		var got []int
		for _, j := range d.jobs {
			got = append(got, j.n)
		}
		if diff := cmp.Diff(tc.dropped, got); diff != "" {
			t.Errorf("an item of %d records drops %s", tc.records, diff)
		}
	}
	if err := q.TryPut(job{0, 9, Weight{Records: 9}}); !errors.Is(err, ErrFull) {
		t.Errorf("TryPut: %v", err)
	}
	if taken[0].n != 0 || q.Depth().Records != 10 {
		t.Errorf("taken %v, %d records queued", taken, q.Depth().Records)
	}
}

// Whatever is put, taken and given up in whatever order: each item is taken or dropped, once; what is dropped is a prefix of what was waiting; and nothing
// is dropped for which there was room.
func TestDropOldestDropsAPrefixOfWhatWaits(t *testing.T) {
	rng := rand.New(rand.NewPCG(uint64(seed(t)), 0))
	for range 300 {
		limit := 1 + rng.IntN(20)
		var d dropper
		q := newQueue(t, Options{MaxRecords: limit})
		setPolicy(t, q, Policy{Strategy: DropOldest, MaxRecords: limit}, d.owner())
		var model []job
		held := func() (n int) {
			for _, j := range model {
				n += j.weight.Records
			}
			return n
		}
		for i := range 200 {
			if rng.IntN(3) == 0 {
				n := rng.IntN(limit + 1)
				got := q.Take(nil, n, 1)
				if diff := cmp.Diff(model[:len(got)], got, cmp.AllowUnexported(job{}), equateEmpty); diff != "" {
					t.Fatal(diff)
				}
				model = model[len(got):]
				continue
			}
			j := job{0, i, Weight{Records: 1 + rng.IntN(limit)}}
			d.jobs = nil
			if err := q.Put(t.Context(), j); err != nil {
				t.Fatal(err)
			}
			model = append(model, j)
			var want []job
			for held() > limit {
				want, model = append(want, model[0]), model[1:]
			}
			if diff := cmp.Diff(want, d.jobs, cmp.AllowUnexported(job{}), equateEmpty); diff != "" {
				t.Fatalf("dropped: %s", diff)
			}
		}
	}
}

var equateEmpty = cmp.FilterValues(func(a, b []job) bool { return len(a) == 0 && len(b) == 0 }, cmp.Ignore())

func TestShedLoadRefusesAtOnceAndSaysWhenToComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t, Options{MaxRecords: 100})
		setPolicy(t, q, Policy{Strategy: ShedLoad, MaxRecords: 100}, Owner[job]{})
		shed := func() *OverloadError {
			t.Helper()
			var e *OverloadError
			if err := q.Put(t.Context(), one(1, 1)); !errors.As(err, &e) || !errors.Is(err, ErrFull) {
				t.Fatalf("error %v, want an OverloadError", err)
			}
			return e
		}
		fill(t, q, 100)
		if e := shed(); e.RetryAfter != unknownRetry || e.Depth.Records != 100 || e.Late {
			t.Errorf("before anything was taken: %+v", e)
		}
		for range 20 { // 10 records each 100 ms
			time.Sleep(100 * time.Millisecond)
			if got := q.Take(nil, 10, 1000); len(got) != 10 {
				t.Fatalf("%d items", len(got))
			}
			fill(t, q, 10)
		}
		if e := shed(); e.RetryAfter < 290*time.Millisecond || e.RetryAfter > 310*time.Millisecond {
			t.Errorf("30 of 100 records too many at 100 a second: retry after %v", e.RetryAfter)
		}
		for _, stuck := range []struct{ more, least, most time.Duration }{ // the drainer does not come back
			{time.Second, 400 * time.Millisecond, 3 * time.Second},
			{4 * time.Second, 3 * time.Second, mostRetry},
			{time.Minute, mostRetry, mostRetry},
		} {
			time.Sleep(stuck.more)
			if e := shed(); e.RetryAfter < stuck.least || e.RetryAfter > stuck.most {
				t.Errorf("the drainer is stuck for %v more: retry after %v, want %v to %v", stuck.more, e.RetryAfter, stuck.least, stuck.most)
			}
		}
	})
}

// The average of the depth rises and falls; each threshold is passed at once on the way up, and 5 points later on the way down.
func TestAdaptivePicksByTheAverageAmongTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t, Options{MaxRecords: 100})
		setPolicy(t, q, Policy{Strategy: Adaptive, MaxRecords: 100, Smoothing: time.Second}, Owner[job]{})
		hold := func(depth int, length time.Duration) { // the depth is so much for so long, and drained a little all the time
			t.Helper()
			q.Take(nil, 100, 100)
			for range length / (10 * time.Millisecond) {
				fill(t, q, depth-q.Depth().Records)
				time.Sleep(10 * time.Millisecond)
				q.Take(nil, 1, 1)
			}
		}
		for i, step := range []struct {
			depth  int
			length time.Duration
			want   Strategy
		}{
			{100, 1500 * time.Millisecond, BlockProducer}, // to 0.78
			{100, time.Second, DegradeQuality},            // 0.92
			{82, 10 * time.Second, DegradeQuality},        // 0.82: not 5 points below Critical
			{100, 5 * time.Second, ShedLoad},              // 1
			{92, 10 * time.Second, ShedLoad},              // 0.92: not 5 points below Shedding
			{88, 10 * time.Second, DegradeQuality},        // 0.88
			{10, 2 * time.Second, BlockProducer},
		} {
			hold(step.depth, step.length)
			if got := q.Picked(); got != step.want {
				t.Errorf("step %d: %v at an average of %.3f, want %v", i, got, q.average.value, step.want)
			}
		}
		hold(100, 5*time.Second)
		setPolicy(t, q, Policy{Strategy: ShedLoad, MaxRecords: 100}, Owner[job]{})
		if got := q.Picked(); got != ShedLoad {
			t.Errorf("%v, when that is what it is told", got)
		}
		setPolicy(t, q, Policy{Strategy: Adaptive, MaxRecords: 100}, Owner[job]{})
		if got := q.Picked(); got != BlockProducer {
			t.Errorf("%v, when it begins to be adaptive", got)
		}
	})
}

// Thresholds, depth and smoothing that are changed count from then on.
func TestAPolicyThatIsChangedCountsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t, Options{MaxRecords: 100})
		fill(t, q, 50)
		for _, step := range []struct {
			policy Policy
			want   State
		}{
			{Policy{MaxRecords: 100}, Normal},
			{Policy{MaxRecords: 100, Warning: 0.4}, Warning},
			{Policy{MaxRecords: 100, Warning: 0.3, Critical: 0.4}, Critical},
			{Policy{MaxRecords: 100, Warning: 0.3, Critical: 0.4, Shedding: 0.5}, Shedding},
			{Policy{MaxRecords: 100, Warning: 0.5, Critical: 0.6}, Warning},
			{Policy{MaxRecords: 200}, Normal},
			{Policy{MaxRecords: 58}, Critical},
			{Policy{MaxRecords: 40}, Shedding},
		} {
			was := q.State()
			setPolicy(t, q, step.policy, Owner[job]{})
			if step.want < was { // downwards it takes Settle
				time.Sleep(2*DefaultSettle + 1)
				synctest.Wait()
			}
			if got := q.State(); got != step.want {
				t.Errorf("%+v: %v, want %v", step.policy, got, step.want)
			}
		}
		for _, smoothing := range []time.Duration{time.Second, 100 * time.Millisecond} { // from empty to 0.95 of the limit takes three of them
			setPolicy(t, q, Policy{Strategy: Adaptive, MaxRecords: 50, Smoothing: smoothing}, Owner[job]{})
			began := time.Now()
			for q.Picked() != ShedLoad {
				time.Sleep(time.Millisecond)
				setPolicy(t, q, q.Policy(), Owner[job]{})
			}
			if took := time.Since(began); took < 2900*smoothing/1000 || took > 3100*smoothing/1000 {
				t.Errorf("with a smoothing of %v it refuses after %v", smoothing, took)
			}
			setPolicy(t, q, Policy{MaxRecords: 50}, Owner[job]{})
		}
		q.Close()
		drain(q, 100)
	})
}

func TestOverloadFollowsTheContextsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t, Options{MaxRecords: 100})
		fill(t, q, 100)
		admit := func(within time.Duration) error {
			ctx, cancel := context.WithTimeout(t.Context(), within)
			defer cancel()
			return q.Admit(ctx)
		}
		if err := admit(time.Millisecond); err != nil {
			t.Errorf("nothing has been measured: %v", err)
		}
		for range 20 {
			time.Sleep(100 * time.Millisecond)
			q.Take(nil, 10, 1000)
			fill(t, q, 10)
		}
		var late *OverloadError
		if err := admit(900 * time.Millisecond); !errors.As(err, &late) || !late.Late || late.RetryAfter < 180*time.Millisecond || late.RetryAfter > 220*time.Millisecond {
			t.Errorf("100 records at 100 a second, behind 10 that have just been taken, in 900 ms: %v", err)
		}
		if err := admit(1200 * time.Millisecond); err != nil {
			t.Errorf("in 1,200 ms: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
		if err := admit(1030 * time.Millisecond); !errors.As(err, &late) || late.RetryAfter > 40*time.Millisecond {
			t.Errorf("half of the ten are done, in 1,030 ms: %v", err)
		}
		if err := admit(1070 * time.Millisecond); err != nil {
			t.Errorf("half of the ten are done, in 1,070 ms: %v", err)
		}
		if err := q.Admit(t.Context()); err != nil {
			t.Errorf("without a deadline: %v", err)
		}
		setPolicy(t, q, Policy{MaxRecords: 100, Late: true}, Owner[job]{})
		if err := admit(time.Millisecond); err != nil {
			t.Errorf("when it is turned off: %v", err)
		}
		setPolicy(t, q, Policy{MaxRecords: 100}, Owner[job]{})
		q.Take(nil, 40, 1000)
		if err := admit(time.Millisecond); err != nil {
			t.Errorf("without pressure: %v", err)
		}
	})
}

// Adaptive lets producers wait while the queue is full for a moment, refuses when it has been full for long, and lets them wait again when it
// has fallen.
func TestAdaptiveBlocksBeforeItSheds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t, Options{MaxRecords: 100})
		setPolicy(t, q, Policy{Strategy: Adaptive, MaxRecords: 100}, Owner[job]{})
		fill(t, q, 100)
		first := arrive(t.Context(), q, one(1, 0))
		wantState(t, "at first", first, "waiting")
		time.Sleep(2 * time.Second)
		second := arrive(t.Context(), q, one(1, 1))
		wantState(t, "after 2 s", second, "waiting")
		time.Sleep(2 * time.Second)
		var shed *OverloadError
		if err := q.Put(t.Context(), one(1, 2)); !errors.As(err, &shed) {
			t.Fatalf("after 4 s: %v", err)
		}
		q.Take(nil, 100, 1000)
		wantState(t, "there is room again", first, "queued")
		wantState(t, "there is room again", second, "queued")
		time.Sleep(time.Second)
		fill(t, q, 98)
		third := arrive(t.Context(), q, one(1, 3))
		wantState(t, "full again, after a second", third, "waiting")
		q.Take(nil, 100, 1000)
		synctest.Wait()
	})
}

// The drainer takes an eighth at a time, and whoever waits is let in below 70 %: the queue is never full for long, and yet there is too much to do.
func TestAdaptiveShedsWhenProducersWaitAllTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t, Options{MaxRecords: 64})
		setPolicy(t, q, Policy{Strategy: Adaptive, MaxRecords: 64}, Owner[job]{})
		begin := time.Now()
		var shed atomic.Int64 // when it was the last time
		var all sync.WaitGroup
		for p := range 8 {
			all.Go(func() {
				for n := 0; ; n++ {
					var over *OverloadError
					switch err := q.Put(context.Background(), one(p, n)); {
					case errors.Is(err, ErrClosed):
						return
					case errors.As(err, &over):
						shed.Store(int64(time.Since(begin)))
						time.Sleep(over.RetryAfter)
					}
				}
			})
		}
		for range 1000 {
			time.Sleep(10 * time.Millisecond)
			q.Take(nil, 8, 8)
		}
		if last := time.Duration(shed.Load()); last < 9*time.Second {
			t.Errorf("shed for the last time after %v of 10 s", last)
		}
		q.Close()
		drain(q, 64)
		all.Wait()
	})
}

func TestStatesHaveHysteresisAndAreToldInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t, Options{MaxRecords: 1000})
		var told []string
		setPolicy(t, q, Policy{MaxRecords: 1000}, Owner[job]{Changed: func(from, to State, depth Weight) {
			told = append(told, fmt.Sprintf("%v-%v at %d", from, to, depth.Records))
		}})
		put := func(n int) { fill(t, q, n) }
		take := func(n int) { q.Take(nil, n, int64(n)) }
		rest := func() { time.Sleep(3 * DefaultSettle); synctest.Wait() }
		put(699)
		put(1)   // 700
		take(49) // 651
		rest()
		take(2) // 649
		rest()
		put(201) // 850
		put(99)  // 949
		put(1)
		for range 50 { // around the threshold
			take(10)
			rest()
			put(10)
		}
		take(949)
		rest()
		want := []string{"normal-warning at 700", "warning-normal at 649", "normal-warning at 700", "warning-critical at 850", "critical-shedding at 950", "shedding-normal at 1"}
		if diff := cmp.Diff(want, told); diff != "" {
			t.Error(diff)
		}
		if q.State() != Normal {
			t.Errorf("%v at the end", q.State())
		}
	})
}

// A drainer takes all there is, and producers fill the queue again: 1000 times a second here, for 10 seconds.
func TestAQueueThatIsEmptiedAgainAndAgainIsStillUnderPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t, Options{MaxRecords: 100})
		var changes atomic.Int64 // timers change it too
		setPolicy(t, q, Policy{MaxRecords: 100}, Owner[job]{Changed: func(State, State, Weight) { changes.Add(1) }})
		full := func(n int) {
			for range n {
				fill(t, q, 96)
				time.Sleep(time.Millisecond)
				q.Take(nil, 100, 100)
			}
			synctest.Wait() // for the timer, which may have been due at the same moment
		}
		full(10_000)
		if changes.Load() != 3 || q.State() != Shedding {
			t.Errorf("%d changes, and it is %v", changes.Load(), q.State())
		}
		time.Sleep(2 * DefaultSettle)
		synctest.Wait()
		if changes.Load() != 4 || q.State() != Normal {
			t.Errorf("after a rest: %d changes, and it is %v", changes.Load(), q.State())
		}
		for range 50 { // the worst load there is: full for as short, and quiet for as long, as it takes
			full(1)
			time.Sleep(2 * DefaultSettle)
			synctest.Wait()
		}
		if changes.Load() > 4+50*4 { // up through each threshold, and down at once, in twice Settle
			t.Errorf("%d changes", changes.Load())
		}
		fill(t, q, 96)
		q.Close()
		if q.State() != Shedding {
			t.Error("closed, and there is still work")
		}
		if q.Take(nil, 100, 100); q.State() != Normal {
			t.Error("closed and drained, and not Normal")
		}
	})
}

func TestPolicyIsChangedWhileProducersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t, Options{MaxRecords: 4})
		fill(t, q, 4)
		a := arrive(t.Context(), q, one(1, 0))
		b := arrive(t.Context(), q, job{2, 0, Weight{Records: 3}})
		setPolicy(t, q, Policy{Strategy: ShedLoad, MaxRecords: 4}, Owner[job]{})
		wantState(t, "who waits keeps his place", a, "waiting")
		setPolicy(t, q, Policy{MaxRecords: 2}, Owner[job]{})
		wantState(t, "one that can never fit any more", b, ErrTooLarge.Error())
		setPolicy(t, q, Policy{MaxRecords: 8}, Owner[job]{})
		wantState(t, "with more room", a, "queued")
		fill(t, q, 3)
		var d dropper
		c := arrive(t.Context(), q, one(3, 0))
		wantState(t, "full again", c, "waiting")
		setPolicy(t, q, Policy{Strategy: DropOldest, MaxRecords: 8}, d.owner())
		wantState(t, "dropping makes room for who waits", c, "queued")
		if len(d.jobs) != 1 || d.jobs[0].n != 0 {
			t.Errorf("dropped %v", d.jobs)
		}
		patient := make(chan error, 1)
		go func() { patient <- q.Wait(t.Context(), one(4, 0)) }()
		wantState(t, "Wait drops nothing", patient, "waiting")
		q.Take(nil, 8, 100)
		wantState(t, "and is let in", patient, "queued")
	})
}

func TestNonsensePoliciesAreRefusedAndChangeNothing(t *testing.T) {
	q := newQueue(t, Options{})
	was := q.Policy()
	for field, p := range map[string]Policy{
		"Strategy":   {Strategy: 99},
		"MaxRecords": {MaxRecords: -1},
		"MaxBytes":   {MaxBytes: LargestMaxBytes + 1},
		"Warning":    {Warning: 0.05},
		"Critical":   {Warning: 0.9},
		"Shedding":   {Shedding: 1.5},
		"Smoothing":  {Smoothing: -1},
	} {
		var wrong *OptionError
		if err := q.SetPolicy(p, Owner[job]{}); !errors.As(err, &wrong) || wrong.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	if err := q.SetPolicy(Policy{Strategy: DropOldest}, Owner[job]{}); err == nil {
		t.Error("DropOldest without somebody who takes what is dropped")
	}
	if diff := cmp.Diff(was, q.Policy()); diff != "" {
		t.Error(diff)
	}
	for s := range strategies {
		if back, err := ParseStrategy(s.String()); back != s || err != nil {
			t.Errorf("%v is parsed as %v, %v", s, back, err)
		}
	}
}
