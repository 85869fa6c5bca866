package fuzz

import (
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/braid-go/braid"
	"github.com/braid-go/braid/fuzz/history"
	"github.com/braid-go/braid/fuzz/workload"
)

var callsFlag = flag.Int("calls", 300, "that each producer makes before its broker is closed under it")

var seedFlag = flag.Uint64("seed", 0, "seed of the random runs; 0: one of its own for each")

// Producers, readers and transactions share a broker that is shut down under them and opened again. Nothing that the
// checker knows of may go wrong.
func TestConcurrentUseOverSeveralOpeningsHasACorrectHistory(t *testing.T) {
	for _, tc := range []struct {
		name  string
		opts  braid.Options
		cuts  int
		hurry bool // partitions are taken from members that do not hand them over at once
	}{
		{name: "memory", opts: braid.Options{InMemory: true}},
		{name: "memory, hurried", opts: braid.Options{InMemory: true}, hurry: true},
		{name: "fsync", cuts: 3},
		{name: "fsync, hurried", cuts: 3, hurry: true},
		{name: "interval", opts: braid.Options{Durability: braid.Interval, SyncInterval: 5 * time.Millisecond}, cuts: 3},
		{name: "os", opts: braid.Options{Durability: braid.OS}, cuts: 3, hurry: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRun(t, tc.opts, tc.hurry)
			r.open()
			for range tc.cuts {
				r.phase(*callsFlag, true)
			}
			r.phase(*callsFlag, false)
			r.finish()
		})
	}
}

// run is a broker under load, over several openings of its directory.
type run struct {
	*workload.Load
	t    *testing.T
	dir  string
	opts braid.Options
	in   braid.TopicConfig // of the topic that is read
	// beside runs, if it is not nil, beside each phase, which waits for it.
	beside func(context.Context)
	// quiet is called, if it is not nil, when a phase is over and all is done.
	quiet func()
	// stored is how many records a phase stores at least: where nearly all are refused, publishers would be done before the members have had anything to do.
	stored int64
}

// newRun begins a run and tells, if the test fails, how to repeat it.
func newRun(t *testing.T, opts braid.Options, hurry bool) *run {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()>>1 | 1
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("again: go test ./fuzz -run '^%s$' -count 20 -seed %d", strings.ReplaceAll(t.Name(), "/", "$/^"), seed)
		}
	})
	r := &run{t: t, opts: opts, in: braid.TopicConfig{Partitions: 4, Compression: braid.S2}, Load: &workload.Load{
		Seed: seed, Recorder: history.NewRecorder(), Failed: func(err error) bool { t.Error(err); return false },
	}}
	if !opts.InMemory {
		r.dir = t.TempDir()
	}
	if hurry {
		r.Members.RebalanceTimeout = time.Millisecond
	}
	r.Keys = 1 + r.Random().IntN(40)
	return r
}

// open opens the broker, for the first time or again.
func (r *run) open() {
	r.t.Helper()
	if r.Broker != nil {
		r.Recorder.Reopened()
	}
	var err error
	if r.Broker, err = braid.Open(r.dir, r.opts); err != nil {
		r.t.Fatal(err)
	}
	if r.In, err = r.Broker.EnsureTopic(r.t.Context(), "in", r.in); err != nil {
		r.t.Fatal(err)
	}
	if r.Out, err = r.Broker.EnsureTopic(r.t.Context(), "out", braid.TopicConfig{Partitions: 2}); err != nil {
		r.t.Fatal(err)
	}
}

// close closes the broker. If it is in use, ctx may end the waiting for that.
func (r *run) close(ctx context.Context) {
	r.t.Helper()
	if err := r.Broker.Shutdown(ctx); err != nil && !errors.Is(err, ctx.Err()) && !errors.Is(err, braid.ErrClosed) {
		r.t.Errorf("close: %v", err)
	}
}

// phase runs producers, which publish a number of calls each, and members that come and go, on an open broker. It ends when the
// producers are done, or, with cut, in the middle of everything by a Shutdown that waits for nobody. Then the broker is opened again.
func (r *run) phase(calls int, cut bool) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(r.t.Context())
	defer cancel()
	var producers, members sync.WaitGroup
	done := &progress{target: int64(4 * calls / 2), reached: make(chan struct{})}
	r.Called = done.step
	for range 3 {
		p := r.Producer()
		producers.Go(func() {
			for p.Publish(ctx, calls) == nil && r.In.Accounting().Stored < r.stored { // the history has an error
			}
		})
	}
	async := r.Producer()
	producers.Go(func() { async.PublishAsync(ctx, calls) })
	for range 3 {
		rng := r.Random()
		members.Go(func() { r.Join(ctx, rng, workload.Readers, (*workload.Member).Read) })
	}
	for _, work := range []workload.Work{(*workload.Member).Transact, (*workload.Member).Transact, (*workload.Member).Process} {
		rng := r.Random()
		members.Go(func() { r.Join(ctx, rng, workload.Workers, work) })
	}
	if r.beside != nil {
		producers.Go(func() { r.beside(ctx) })
	}
	if cut {
		<-done.reached
		now, end := context.WithCancel(context.Background())
		end()
		r.close(now)
	}
	producers.Wait()
	cancel()
	members.Wait()
	if r.quiet != nil && !cut {
		r.quiet()
	}
	if cut {
		r.open()
		return
	}
	if !r.opts.InMemory {
		r.close(context.Background())
		r.open()
	}
}

// progress tells when producers have come to a point.
type progress struct {
	calls   atomic.Int64
	target  int64
	reached chan struct{}
}

func (p *progress) step() {
	if p.calls.Add(1) == p.target {
		close(p.reached)
	}
}

// finish lets both groups read to the end, reads everything back, and judges the history.
func (r *run) finish() {
	t := r.t
	t.Helper()
	if err := errors.Join(r.Drain(t.Context(), workload.Readers), r.Drain(t.Context(), workload.Workers)); err != nil {
		t.Fatal(err)
	}
	final, err := workload.Final(t.Context(), r.Broker, r.In.Name())
	if err != nil {
		t.Fatal(err)
	}
	report := history.Check(r.Recorder.Events(), final, history.Rules{})
	if len(report.Findings) > 0 {
		t.Error(report)
	}
	if err := workload.CheckCount(t.Context(), r.Broker, final); err != nil {
		t.Error(err)
	}
	for _, what := range []string{"publish ok", "publish refused", "position ok", "transaction ok"} {
		if report.Outcomes[what] < 10 {
			t.Errorf("not worth checking: %v", report.Outcomes)
			break
		}
	}
	operations := 0
	for _, n := range report.Outcomes {
		operations += int(n)
	}
	t.Logf("history: %d operations, %d events, %v", operations, report.Events, report.Outcomes)
	r.close(context.Background())
}
