package braid

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/braid-go/braid/internal/sorting"
	"github.com/braid-go/braid/partition"
	"github.com/braid-go/braid/scaler"
)

// scaled is a topic as its scaler sees it.
type scaled struct {
	t      *Topic
	device *deviceUse // nil: not looked at
}

// deviceUse is what part of the time the broker's syncs keep the device busy, averaged over a window.
type deviceUse struct {
	at   time.Time
	busy time.Duration // by then
	use  float64
	part float64 // of the window that has passed
}

// measure takes in how long the device has been busy by now.
func (d *deviceUse) measure(now time.Time, busy, window time.Duration) float64 {
	if past := now.Sub(d.at); past > 0 {
		fresh := 1 - math.Exp(-past.Seconds()/window.Seconds())
		d.use += (min(1, (busy-d.busy).Seconds()/past.Seconds()) - d.use) * fresh
		d.part += (1 - d.part) * fresh
		d.at, d.busy = now, busy
	}
	return d.use / max(d.part, 1e-9) // corrected for having begun with nothing
}

// Measure implements scaler.Topic.
func (s scaled) Measure(context.Context) (scaler.Snapshot, error) {
	tab := s.t.table.Load()
	snap := scaler.Snapshot{Partitions: make([]scaler.Partition, len(tab.active))}
	for i, info := range tab.layout.Active() {
		snap.Partitions[i] = scaler.Partition{ID: info.ID, Range: info.Range, Load: tab.active[i].live.Load()}
	}
	if s.device != nil {
		snap.DeviceUse = s.device.measure(time.Now(), s.t.b.sched.Syncing(), defaulted(s.t.Config().Scaling.ShortWindow, scaler.DefaultShortWindow))
	}
	return snap, nil
}

// Split implements scaler.Topic.
func (s scaled) Split(ctx context.Context, d scaler.Decision) error {
	_, err := s.t.split(ctx, d.Partition, d.Reason, func(partition.Info, *topicPartition) (uint64, error) { return d.At, nil })
	return err
}

// Merge implements scaler.Topic.
func (s scaled) Merge(ctx context.Context, d scaler.Decision) error {
	_, err := s.t.merge(ctx, d.Partition, d.Neighbor, d.Reason)
	return err
}

// Resize implements scaler.Topic. Groups are not measured here, so it is not called: see pool.
func (s scaled) Resize(context.Context, scaler.Decision) error { return errors.ErrUnsupported }

// policy is what the topic's scaler works by.
func (c TopicConfig) policy(l Limits) (scaler.Policy, error) {
	p := c.Scaling
	p.MinPartitions = defaulted(p.MinPartitions, c.Partitions)
	p.MaxPartitions = min(defaulted(p.MaxPartitions, max(p.MinPartitions, scaler.DefaultMaxPartitions)), l.MaxPartitions)
	p.MaxConsumers = min(defaulted(p.MaxConsumers, scaler.DefaultMaxConsumers), l.MaxConsumers)
	p, err := p.Resolve()
	var wrong *scaler.PolicyError
	if errors.As(err, &wrong) {
		err = &OptionError{Field: "TopicConfig.Scaling." + wrong.Field, Value: wrong.Value, Reason: wrong.Reason}
	}
	return p, err
}

// scale starts, changes or ends the topic's scaler, as its configuration says. Calls are serialised by Broker.changing, or by opening.
func (t *Topic) scale() {
	config := t.Config()
	running := t.scaler.Load()
	if !config.AutoScale || t.b.opts.ReadOnly {
		if running != nil {
			t.stopScaler()
			t.scaler.Store(nil)
		}
		return
	}
	policy, err := config.policy(t.b.Limits())
	if err == nil && running != nil {
		err = running.SetPolicy(policy)
	} else if err == nil {
		running, err = scaler.NewLoop(scaled{t, &deviceUse{at: time.Now(), busy: t.b.sched.Syncing()}}, scaler.Options{Policy: policy, OnScaled: t.onScaled})
		if err == nil {
			t.runScaler(running)
		}
	}
	if err != nil { // a policy that was valid when it was stored
		t.b.opts.Logger.Error("partitions do not scale", "topic", t.name, "error", err)
	}
}

func (t *Topic) onScaled(d scaler.Decision) {
	if f := t.b.opts.OnScaled; f != nil {
		f(t.name, d)
	}
}

// runScaler runs a scaler until the broker closes, the topic is deleted, or stopScaler is called.
func (t *Topic) runScaler(loop *scaler.Loop) {
	b := t.b
	b.mu.RLock() // so that closing begins before or after
	defer b.mu.RUnlock()
	if b.closed.Load() {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.stopScaler = cancel
	t.scaler.Store(loop)
	b.scalers.Go(func() {
		defer cancel()
		_ = loop.Run(ctx)
	})
	b.scalers.Go(func() {
		defer cancel()
		select {
		case <-ctx.Done():
		case <-b.done:
		case <-t.gone:
		}
	})
}

// Explain returns the last decisions of the topic's scalers, the oldest first: what was split and merged, and why not more, if
// TopicConfig.AutoScale is on, and what was done about the members of each Consume with MaxMembers that is under way.
func (t *Topic) Explain() []scaler.Decision {
	var all []scaler.Decision
	if l := t.scaler.Load(); l != nil {
		all = l.Explain()
	}
	for p := range t.pools.Range {
		all = append(all, p.loop.Explain()...)
	}
	sorting.StableFunc(all, func(a, b scaler.Decision) int { return a.Time.Compare(b.Time) })
	return all
}
