package scaler

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// recorder is a topic that notes what is asked of it.
type recorder struct {
	snap    Snapshot
	failing error
	calls   []string
	busy    atomic.Int32
	most    int32
	wait    func(ctx context.Context)
}

func (r *recorder) Measure(context.Context) (Snapshot, error) {
	if r.snap.Partitions == nil {
		return Snapshot{}, errors.New("no gauge")
	}
	return r.snap, nil
}

func (r *recorder) called(ctx context.Context, format string, args ...any) error {
	r.most = max(r.most, r.busy.Add(1))
	defer r.busy.Add(-1)
	r.calls = append(r.calls, fmt.Sprintf(format, args...))
	if r.wait != nil {
		r.wait(ctx)
	}
	return r.failing
}

func (r *recorder) Split(ctx context.Context, d Decision) error {
	return r.called(ctx, "split %d at %#x", d.Partition, d.At)
}

func (r *recorder) Merge(ctx context.Context, d Decision) error {
	return r.called(ctx, "merge %d %d", d.Partition, d.Neighbor)
}

func (r *recorder) Resize(ctx context.Context, d Decision) error {
	return r.called(ctx, "resize %s to %d", d.Group, d.Consumers)
}

func newLoop(t *testing.T, topic Topic, opts Options) *Loop {
	t.Helper()
	opts.Policy.TargetRecords = 1000
	l, err := NewLoop(topic, opts)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestALoopCarriesOutEachKindOfStepAndTellsIt(t *testing.T) {
	r := &recorder{}
	var told []string
	l := newLoop(t, r, Options{Now: func() time.Time { return epoch }, OnScaled: func(d Decision) { told = append(told, d.String()) }})
	for _, snap := range []Snapshot{
		{Partitions: loads(0.5)},
		{Partitions: loads(0.5), Groups: []Group{{Name: "a", Consumers: 2, Free: 1, Lag: time.Minute}}},
		{Partitions: loads(1.1)},
	} {
		r.snap = snap
		l.Tick(t.Context())
	}
	l.history = History{}
	r.snap = Snapshot{Partitions: loads(0.1, 0.1)}
	l.Tick(t.Context())
	want := []string{"resize a to 3", "split 1 at 0x8000000000000000", "merge 1 2"}
	if diff := cmp.Diff(want, r.calls); diff != "" {
		t.Error(diff)
	}
	wantTold := []string{
		`00:00:00.000 3 consumers for "a": group "a" is 60 s behind, MaxLag is 10 s: one consumer more`,
		`00:00:00.000 split 1 at 0x8000000000000000: partition 1: 110 % of the target over 1m0s`,
		`00:00:00.000 merge 1 and 2: partitions 1 and 2: together 20 % of the target over 5m0s`,
	}
	if diff := cmp.Diff(wantTold, told); diff != "" {
		t.Error(diff)
	}
	if n := len(l.Explain()); n != 4 {
		t.Errorf("%d decisions are explained, 4 were made", n)
	}
}

func TestAnErrorBecomesAReasonAndTheStepIsTriedAgainLater(t *testing.T) {
	broken := errors.New("disk on fire")
	r := &recorder{snap: Snapshot{Partitions: loads(1.1)}, failing: broken}
	now := epoch
	l := newLoop(t, r, Options{Now: func() time.Time { return now }})
	if d := l.Tick(t.Context()); !errors.Is(d.Err, broken) || !strings.Contains(d.String(), "failed: disk on fire") {
		t.Fatalf("%v", d)
	}
	now = now.Add(2 * time.Second)
	if d := l.Tick(t.Context()); d.Action != None || d.Err != nil || !strings.Contains(d.Reason, "next try in 3 s: disk on fire") {
		t.Fatalf("%v", d)
	}
	now, r.failing = now.Add(3*time.Second), nil
	if d := l.Tick(t.Context()); d.Action != Split || d.Err != nil {
		t.Fatalf("%v", d)
	}
	now = now.Add(time.Second)
	if d := l.Tick(t.Context()); !strings.Contains(d.Reason, "cooldown 29 s left") {
		t.Fatalf("%v", d)
	}
	r.snap = Snapshot{}
	if d := l.Tick(t.Context()); d.Action != None || d.Reason != "nothing: measuring failed: no gauge" {
		t.Fatalf("%v", d)
	}
}

func TestOneStepIsInFlightAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{snap: Snapshot{Partitions: loads(2, 2, 2)}, wait: func(context.Context) { <-time.After(5 * time.Second) }}
		l := newLoop(t, r, Options{})
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { l.Tick(t.Context()) })
		}
		synctest.Wait()
		if n := len(l.Explain()); n != 0 || l.Policy().TargetRecords != 1000 {
			t.Errorf("%d decisions while the first is carried out", n)
		}
		wg.Wait()
		if len(r.calls) != 3 || r.most != 1 {
			t.Errorf("%d steps, %d of them at a time", len(r.calls), r.most)
		}
		if d := l.Explain()[0]; d.Took != 5*time.Second {
			t.Errorf("the step took %s", d.Took)
		}
	})
}

func TestRunTicksUntilItsContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{snap: Snapshot{Partitions: loads(0.5)}}
		l := newLoop(t, r, Options{Every: 3 * time.Second})
		ctx, cancel := context.WithTimeout(t.Context(), 31*time.Second)
		defer cancel()
		if err := l.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if n := len(l.Explain()); n != 10 {
			t.Errorf("%d ticks in 31 s, want 10", n)
		}
	})
}

func TestShorterWindowsAreLookedAtMoreOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{snap: Snapshot{Partitions: loads(0.5)}}
		l := newLoop(t, r, Options{})
		go func() {
			time.Sleep(11 * time.Second) // ticks at 2, 4, 6, 8 and 10 s; the one at 12 s sees the change
			p := l.Policy()
			p.ShortWindow = time.Second
			if err := l.SetPolicy(p); err != nil {
				t.Error(err)
			}
		}()
		ctx, cancel := context.WithTimeout(t.Context(), 14*time.Second+100*time.Millisecond)
		defer cancel()
		if err := l.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if n := len(l.Explain()); n != 6+10 {
			t.Errorf("%d ticks, want 6 every 2 s and 10 every 200 ms", n)
		}
	})
}

func TestRunEndsWhenAStepInFlightHasSeenItsContextEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{snap: Snapshot{Partitions: loads(2)}, wait: func(ctx context.Context) { <-ctx.Done() }}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := newLoop(t, r, Options{}).Run(ctx); !errors.Is(err, context.DeadlineExceeded) || len(r.calls) != 1 {
			t.Errorf("%v after %v", err, r.calls)
		}
	})
}

func TestExplainIsBoundedAndKeepsTheStepsWhenNothingHappensForLong(t *testing.T) {
	r := &recorder{snap: Snapshot{Partitions: loads(2)}}
	now := epoch
	l := newLoop(t, r, Options{Now: func() time.Time { return now }})
	for range 100 {
		now = now.Add(time.Second)
		l.Tick(t.Context())
	}
	r.snap.Partitions = loads(0.5)
	for range 1000 {
		now = now.Add(time.Second)
		l.Tick(t.Context())
	}
	all := l.Explain()
	if len(all) != keptSteps+keptIdle || all[0].Action != Split || all[keptSteps].Action != None {
		t.Fatalf("%d decisions, the first %v", len(all), all[0])
	}
	for i := range all[1:] {
		if all[i].Time.After(all[i+1].Time) {
			t.Fatalf("%v before %v", all[i], all[i+1])
		}
	}
}

func TestThePolicyChangesAtRuntimeOrNotAtAll(t *testing.T) {
	r := &recorder{snap: Snapshot{Partitions: loads(0.5)}}
	l := newLoop(t, r, Options{})
	if err := l.SetPolicy(Policy{MaxPartitions: -1}); !errors.Is(err, ErrPolicy) || l.Policy().TargetRecords != 1000 {
		t.Errorf("%v: %+v", err, l.Policy())
	}
	if err := l.SetPolicy(Policy{TargetRecords: 100}); err != nil {
		t.Error(err)
	}
	if d := l.Tick(t.Context()); d.Action != Split {
		t.Errorf("with a tenth of the target: %v", d)
	}
	if _, err := NewLoop(r, Options{Policy: Policy{MinPartitions: -1}}); !errors.Is(err, ErrPolicy) {
		t.Errorf("NewLoop: %v", err)
	}
	if _, err := NewLoop(r, Options{Every: -1}); !errors.Is(err, ErrPolicy) {
		t.Errorf("NewLoop: %v", err)
	}
}
