package braid

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/braid-go/braid/scaler"
)

func TestReconfigureHoldsForWhatComesAfterwards(t *testing.T) {
	b := openMemory(t)
	topic := ensure(t, b, "t", TopicConfig{Partitions: 2})
	publish(t, topic, strings.Repeat("x", 100))
	first := subscribe(t, topic, "g", SubscribeOptions{})
	second := subscribe(t, topic, "g", SubscribeOptions{})
	set := func(change func(*Limits)) {
		t.Helper()
		l := b.Limits()
		change(&l)
		if err := b.Reconfigure(t.Context(), l); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(l, b.Limits()); diff != "" {
			t.Error(diff)
		}
	}
	set(func(l *Limits) { l.MaxRecordBytes, l.MaxTxnBytes, l.MaxConsumers, l.MaxPartitions = 50, 60, 1, 2 })
	if err := topic.Publish(t.Context(), &Record{Value: make([]byte, 51)}); !errors.Is(err, ErrRecordTooLarge) {
		t.Errorf("a record above the new limit: %v", err)
	}
	if _, err := topic.Subscribe(t.Context(), "g", SubscribeOptions{}); !errors.Is(err, ErrLimit) {
		t.Errorf("a member more than the new limit: %v", err)
	}
	if _, err := topic.Split(t.Context(), 1); !errors.Is(err, ErrLimit) {
		t.Errorf("a partition more than the new limit: %v", err)
	}
	if _, err := b.CreateTopic(t.Context(), "u", TopicConfig{Partitions: 3}); err == nil {
		t.Error("a topic with more partitions than the new limit")
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	if recs := poll(t, first, 1); len(recs[0].Value) != 100 { // what is there stays
		t.Errorf("%d bytes", len(recs[0].Value))
	}
	set(func(l *Limits) { *l, _ = Limits{}.resolve() })
	if _, err := topic.Split(t.Context(), 1); err != nil {
		t.Error(err)
	}
}

func TestReconfigureThatIsRefusedChangesNothing(t *testing.T) {
	b := openMemory(t)
	ensure(t, b, "fixed", TopicConfig{Partitions: 4})
	ensure(t, b, "needs-three", TopicConfig{Partitions: 4, AutoScale: true, Scaling: scaler.Policy{MinPartitions: 3}})
	was := b.Limits()
	for name, tc := range map[string]struct {
		limits        Limits
		field, reason string
	}{
		"negative":      {Limits{MaxRecordBytes: -1}, "Limits.MaxRecordBytes", "between"},
		"too much":      {Limits{MaxTxnBytes: 1 << 30}, "Limits.MaxTxnBytes", "between"},
		"a fixed topic": {Limits{MaxPartitions: 3}, "Limits.MaxPartitions", "fixed has 4 partitions"},
	} {
		var refused *OptionError
		err := b.Reconfigure(t.Context(), tc.limits)
		if !errors.As(err, &refused) || refused.Field != tc.field || !strings.Contains(refused.Reason, tc.reason) {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(was, b.Limits()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if err := b.DeleteTopic(t.Context(), "fixed"); err != nil {
		t.Fatal(err)
	}
	var refused *OptionError
	if err := b.Reconfigure(t.Context(), Limits{MaxPartitions: 2}); !errors.As(err, &refused) || !strings.Contains(refused.Reason, "3 partitions at least") && !strings.Contains(refused.Reason, "have 3") {
		t.Errorf("a topic that must have three partitions: %v", err)
	}
	b.Close()
	if err := b.Reconfigure(t.Context(), Limits{}); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

func TestLoweringMaxPartitionsMergesDownWithoutLoss(t *testing.T) {
	var steps []scaler.Decision
	b := open(t, "", Options{InMemory: true, OnScaled: func(_ string, d scaler.Decision) { steps = append(steps, d) }})
	topic := ensure(t, b, "t", TopicConfig{Partitions: 6, AutoScale: true, Scaling: scaler.Policy{MinPartitions: 1}})
	keyed(t, topic, "a:1", "b:1", "c:1", "d:1", "e:1", "f:1")
	limits := b.Limits()
	limits.MaxPartitions = 2
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Reconfigure(ended, limits); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
	if n, most := len(topic.table.Load().active), b.Limits().MaxPartitions; n != 6 || most != 2 {
		t.Errorf("%d partitions and a limit of %d", n, most)
	}
	if p := topic.scaler.Load().Policy(); p.MaxPartitions != 2 {
		t.Errorf("the scaler goes on with at most %d", p.MaxPartitions)
	}
	steps = nil
	if err := b.Reconfigure(t.Context(), limits); err != nil {
		t.Fatal(err)
	}
	if n := len(topic.table.Load().active); n != 2 {
		t.Errorf("%d partitions", n)
	}
	if len(steps) != 4 || steps[0].Action != scaler.Merge || steps[0].Reason == "" || steps[0].Took <= 0 {
		t.Errorf("told of %v", steps)
	}
	keyed(t, topic, "a:2", "b:2", "c:2", "d:2", "e:2", "f:2")
	seen := map[string]string{}
	for rec, err := range topic.Read(t.Context(), ReadOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		seen[string(rec.Key)] += string(rec.Value)
	}
	want := map[string]string{}
	for _, k := range []string{"a", "b", "c", "d", "e", "f"} {
		want[k] = k + ":1" + k + ":2"
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Error(diff)
	}
}

func TestAPoolShrinksToALowerMaxConsumers(t *testing.T) {
	b := openMemory(t)
	topic := ensure(t, b, "t", TopicConfig{})
	p := newPool(t.Context(), topic, "g", ConsumeOptions{Members: 1, MaxMembers: 9}, nil, nil)
	if err := b.Reconfigure(t.Context(), Limits{MaxConsumers: 4}); err != nil {
		t.Fatal(err)
	}
	if policy, err := p.policy(); err != nil || policy.MaxConsumers != 4 {
		t.Errorf("%d, %v", policy.MaxConsumers, err)
	}
}
