package braid

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/braid-go/braid/scaler"
)

// Limits bounds what a broker takes on. Zero fields take their defaults.
type Limits struct {
	// MaxPartitions bounds the partitions of one topic. Default 10,000, at most 1,000,000.
	MaxPartitions int
	// MaxConsumers bounds the members of one group. Default 1,024, at most 1,000,000.
	MaxConsumers int
	// MaxQueueDepth bounds the records that wait in one partition's queue; a single
	// call may not bring more to one partition. Default 65,536, at most 16,777,216.
	MaxQueueDepth int
	// MaxRecordBytes bounds key, value and headers of one record together. Default 1 MiB, at most 64 MiB.
	MaxRecordBytes int
	// MaxTxnBytes bounds what one transaction holds in memory: records, keys and values. Default 16 MiB, at most 24 MiB.
	MaxTxnBytes int
	// MaxMemoryBytes bounds the bytes of records that wait in the queues of all partitions together. Default 256 MiB, at least 1 MiB. When it is used up, each topic's
	// Backpressure says what happens. A queue always takes one call's records when it is empty, so that no partition is stuck because of
	// others; by that much, times the partitions at work, it may be passed. A single queue holds 64 MiB unless TopicConfig.Backpressure says otherwise. Up to 8 MiB of
	// what is queued is there a second time, encoded.
	MaxMemoryBytes int
}

const (
	defaultMaxPartitions  = 10_000
	defaultMaxConsumers   = 1024
	defaultMaxQueueDepth  = 65_536
	defaultMaxRecordBytes = 1 << 20
	defaultMaxTxnBytes    = 16 << 20
	defaultMaxMemoryBytes = 256 << 20
)

// resolve fills in the defaults and refuses what means nothing.
func (l Limits) resolve() (Limits, error) {
	l.MaxPartitions = defaulted(l.MaxPartitions, defaultMaxPartitions)
	l.MaxConsumers = defaulted(l.MaxConsumers, defaultMaxConsumers)
	l.MaxQueueDepth = defaulted(l.MaxQueueDepth, defaultMaxQueueDepth)
	l.MaxRecordBytes = defaulted(l.MaxRecordBytes, defaultMaxRecordBytes)
	l.MaxTxnBytes = defaulted(l.MaxTxnBytes, defaultMaxTxnBytes)
	l.MaxMemoryBytes = defaulted(l.MaxMemoryBytes, defaultMaxMemoryBytes)
	for _, c := range []struct {
		field     string
		v, lo, hi int
	}{
		{"Limits.MaxPartitions", l.MaxPartitions, 1, 1_000_000},
		{"Limits.MaxConsumers", l.MaxConsumers, 1, 1_000_000},
		{"Limits.MaxQueueDepth", l.MaxQueueDepth, 1, 1 << 24},
		{"Limits.MaxRecordBytes", l.MaxRecordBytes, 1, 64 << 20},
		{"Limits.MaxTxnBytes", l.MaxTxnBytes, 1, 24 << 20},
		{"Limits.MaxMemoryBytes", l.MaxMemoryBytes, 1 << 20, math.MaxInt},
	} {
		if err := checkRange(c.field, c.v, c.lo, c.hi); err != nil {
			return l, err
		}
	}
	return l, nil
}

// Limits returns the limits in force, defaults filled in.
func (b *Broker) Limits() Limits { return *b.limits.Load() }

// Reconfigure changes the limits while the broker is at work: zero fields take their defaults, so a change begins with what Limits returns. What is
// refused with an [OptionError], ErrClosed or ErrReadOnly changes nothing.
//
// What is there already is kept: records, transactions and groups' members beyond a new limit stay, and only what comes
// afterwards is measured by it. Pools of Consume shrink when they are next quiet.
//
// MaxPartitions below what a topic has: if the topic has AutoScale on, its lightest neighbours are merged until it fits, before Reconfigure returns, and
// Options.OnScaled is told of each; ctx bounds that. If that fails, or ctx ends, the new limits are in force, the error says why, and the topic's
// scaler goes on merging. A topic without AutoScale, or one that must have more by its Scaling.MinPartitions, has the change refused: merge by hand first, or
// change the topic.
func (b *Broker) Reconfigure(ctx context.Context, limits Limits) error {
	limits, err := limits.resolve()
	if err != nil {
		return err
	}
	above, err := b.setLimits(limits)
	if err != nil {
		return fmt.Errorf("reconfigure: %w", err)
	}
	for _, t := range above {
		if err := t.mergeDown(ctx, limits.MaxPartitions); err != nil && !t.deleted.Load() {
			return fmt.Errorf("reconfigure: topic %s still has more than %d partitions: %w", t.name, limits.MaxPartitions, err)
		}
	}
	return nil
}

// setLimits puts new limits in force unless a topic contradicts them, and returns the topics that have more partitions than they allow.
func (b *Broker) setLimits(limits Limits) (above []*Topic, err error) {
	b.changing.Lock()
	defer b.changing.Unlock()
	if err := b.check(); err != nil {
		return nil, err
	}
	refuse := func(t *Topic, reason string) error {
		return &OptionError{"Limits.MaxPartitions", limits.MaxPartitions, fmt.Sprintf("topic %s %s", t.name, reason)}
	}
	for _, t := range b.Topics() {
		n, config := len(t.table.Load().active), t.Config()
		if n > limits.MaxPartitions && !config.AutoScale {
			return nil, refuse(t, fmt.Sprintf("has %d partitions, which stay as they are (no AutoScale)", n))
		}
		if least := defaulted(config.Scaling.MinPartitions, config.Partitions); least > limits.MaxPartitions && config.AutoScale {
			return nil, refuse(t, fmt.Sprintf("is to have %d partitions at least", least))
		}
		if n > limits.MaxPartitions {
			above = append(above, t)
		}
	}
	b.limits.Store(&limits)
	b.memory.SetMax(int64(limits.MaxMemoryBytes))
	for _, t := range b.Topics() {
		t.scale()
		if err := t.applyPressure(); err != nil {
			return nil, err
		}
	}
	return above, nil
}

// mergeDown merges the lightest neighbours until there are no more than most partitions.
func (t *Topic) mergeDown(ctx context.Context, most int) error {
	policy, err := t.Config().policy(t.b.Limits())
	policy.MaxPartitions = most
	for err == nil && len(t.table.Load().active) > most {
		now := time.Now()
		snap, measuring := scaled{t: t}.Measure(ctx)
		d := scaler.Decide(snap, policy, &scaler.History{}, now)
		if measuring != nil || d.Action != scaler.Merge {
			return errors.Join(measuring, errors.New(d.Reason))
		}
		d.Err = scaled{t: t}.Merge(ctx, d)
		d.Took = time.Since(now)
		t.onScaled(d)
		var changed *OptionError
		if err = d.Err; errors.As(err, &changed) {
			err = ctx.Err() // the topic's scaler was faster
		}
	}
	return err
}
