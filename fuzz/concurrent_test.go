package fuzz

import (
	"context"
	"flag"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/braid-go/braid"
	"github.com/braid-go/braid/fuzz/history"
)

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
				r.phase(300, true)
			}
			r.phase(300, false)
			r.finish()
		})
	}
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
	r := &run{t: t, opts: opts, seed: seed, rec: history.NewRecorder()}
	if !opts.InMemory {
		r.dir = t.TempDir()
	}
	if hurry {
		r.subs.RebalanceTimeout = time.Millisecond
	}
	r.keys = 1 + r.random().IntN(40)
	return r
}

// finish lets both groups read to the end, reads everything back, and judges the history.
func (r *run) finish() {
	t := r.t
	t.Helper()
	r.drain(readers, func(m *member, ctx context.Context) error {
		recs, err := m.poll(ctx)
		if err != nil {
			return err
		}
		return m.commit(ctx, recs)
	})
	r.drain(workers, (*member).transactSome)
	final := r.final()
	report := history.Check(r.rec.Events(), final, history.Rules{})
	if len(report.Findings) > 0 {
		t.Error(report)
	}
	value, _, err := r.b.Get(t.Context(), countKey)
	if n, _ := strconv.Atoi(string(value)); err != nil || n != len(final.Marks) {
		t.Errorf("%d transactions are marked, and counted %q: %v", len(final.Marks), value, err)
	}
	for _, what := range []string{"publish ok", "publish refused", "position ok", "transaction ok"} {
		if report.Outcomes[what] < 10 {
			t.Errorf("not worth checking: %v", report.Outcomes)
			break
		}
	}
	t.Logf("%d events, %v", report.Events, report.Outcomes)
	r.close(context.Background())
}

// drain is a member alone that reads to the end.
func (r *run) drain(g history.Group, step func(*member, context.Context) error) {
	r.t.Helper()
	m, err := r.join(r.t.Context(), r.random(), g)
	if err != nil {
		r.t.Fatal(err)
	}
	defer m.leave()
	for {
		lags, err := m.sub.Lag(r.t.Context())
		if err != nil {
			r.t.Fatal(err)
		}
		left := int64(0)
		for _, l := range lags {
			left += l.Records
		}
		if left == 0 {
			return
		}
		m.polls = 1
		if err := step(m, r.t.Context()); err != nil {
			r.t.Fatal(err)
		}
	}
}
