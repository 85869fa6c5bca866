package fuzz

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/braid-go/braid"
	"github.com/braid-go/braid/backpressure"
)

// Producers, readers and transactions share a broker whose queues hold 8 records a partition, so that they are full most of the time. Whatever
// the strategy is, or while it changes: what was acknowledged is there, in order, once; what was dropped or refused is not; and the account is exact.
func TestUnderPressureNothingIsLostSilently(t *testing.T) {
	policy := func(s backpressure.Strategy) backpressure.Policy {
		return backpressure.Policy{Strategy: s, MaxRecords: 8, Smoothing: 20 * time.Millisecond}
	}
	reduced := policy(backpressure.DegradeQuality)
	reduced.ReduceAck = true
	for name, p := range map[string]backpressure.Policy{
		"block-producer":            policy(backpressure.BlockProducer),
		"drop-oldest":               policy(backpressure.DropOldest),
		"shed-load":                 policy(backpressure.ShedLoad),
		"degrade-quality":           policy(backpressure.DegradeQuality),
		"degrade-quality, reducing": reduced,
		"adaptive":                  policy(backpressure.Adaptive),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRun(t, braid.Options{}, false)
			r.in.Partitions, r.in.Backpressure = 2, p
			r.underPressure(nil)
		})
	}
	t.Run("changing", func(t *testing.T) {
		r := newRun(t, braid.Options{}, false)
		r.in.Partitions = 2
		r.underPressure(func(ctx context.Context) {
			for rng := r.Random(); ctx.Err() == nil; {
				next := policy(backpressure.Strategy(rng.IntN(5)))
				next.MaxRecords, next.ReduceAck = 1<<(2+rng.IntN(6)), rng.IntN(2) == 0
				err := r.Broker.UpdateTopic(context.Background(), "in", func(c *braid.TopicConfig) error { c.Backpressure = next; return nil })
				if err != nil {
					t.Error(err)
				}
			}
		})
	})
}

// underPressure runs a phase, with something beside it, checks the account, and judges the history.
func (r *run) underPressure(beside func(context.Context)) {
	r.t.Helper()
	r.open()
	ctx, cancel := context.WithCancel(r.t.Context())
	var other sync.WaitGroup
	if beside != nil {
		other.Go(func() { beside(ctx) })
	}
	r.quiet = func() {
		cancel()
		other.Wait()
		r.account()
	}
	r.stored = 400
	r.phase(300, false)
	r.finish()
}

// account compares what the broker counts with what is stored.
func (r *run) account() {
	r.t.Helper()
	if err := r.In.Flush(r.t.Context()); err != nil {
		r.t.Error(err)
	}
	a := r.In.Accounting()
	stored := int64(0)
	for _, p := range r.In.Partitions() {
		stored += p.End - p.Start
	}
	if a.Accepted != a.Stored+a.Dropped || a.Unknown != 0 || a.Pending != 0 || a.Stored != stored {
		r.t.Errorf("%+v, and %d records are stored", a, stored)
	}
	m, err := r.Broker.Metrics(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	var total braid.Accounting
	var failed int64
	for _, t := range m.Topics {
		total.Accepted += t.Accounting.Accepted
		total.Stored += t.Accounting.Stored
		total.Dropped += t.Accounting.Dropped
		failed += t.Failed
	}
	if total != m.Accounting {
		r.t.Errorf("in total %+v, by topic %+v", m.Accounting, total)
	}
	if s := r.in.Backpressure.Strategy; s == backpressure.DropOldest && a.Dropped == 0 || s == backpressure.ShedLoad && failed < 100 {
		r.t.Errorf("not worth checking: %d dropped, %d failed", a.Dropped, failed)
	}
	r.t.Logf("%+v, %d publishes failed", a, failed)
}
