package braid

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/braid-go/braid/partition"
)

func metrics(t testing.TB, b *Broker) *Metrics {
	t.Helper()
	m, err := b.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestMetricsTellWhatTheBrokerHasDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := Open("", Options{InMemory: true, Limits: Limits{MaxPartitions: 8, MaxRecordBytes: 1000}})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		topic := ensure(t, b, "t", TopicConfig{Partitions: 2})
		ensure(t, b, "u", TopicConfig{})
		for range 120 {
			publishTo(t, topic, 1, 10)
			time.Sleep(time.Second)
		}
		publishTo(t, topic, 2, 5)
		time.Sleep(time.Second)
		if err := topic.Publish(t.Context(), &Record{Value: make([]byte, 1001)}, &Record{Value: []byte("good")}); err == nil {
			t.Error("a record that is too large")
		}
		sub := subscribe(t, topic, "g", SubscribeOptions{})
		defer sub.Close()
		recs := poll(t, sub, 1000)
		if err := sub.Commit(t.Context(), recs...); err != nil {
			t.Fatal(err)
		}
		gone := subscribe(t, topic, "h", SubscribeOptions{From: FromLatest()})
		gone.Close()

		m := metrics(t, b)
		near := cmpopts.EquateApprox(0.15, 0.5)
		lag := m.Topics[0].Groups[0].Lag
		size := m.StateBytes
		if lag <= 0 || lag > 2*time.Minute || size <= 0 || m.StateKeys < 6 {
			t.Errorf("lag %v, %d keys, %d bytes", lag, m.StateKeys, size)
		}
		all := Accounting{Accepted: 1205, Stored: 1205}
		want := &Metrics{
			Limits: b.Limits(), Time: time.Now(), Partitions: 3, Groups: 2, Consumers: 1,
			Published: 1205, Failed: 2, Consumed: 1000, Accounting: all, Rate: partition.Rate{Records: 10}, Lag: lag, Positions: 4, StateKeys: m.StateKeys, StateBytes: size,
			Topics: []TopicMetrics{
				{Name: "t", Published: 1205, Failed: 2, Consumed: 1000, Accounting: all, Rate: partition.Rate{Records: 10},
					Partitions: []PartitionMetrics{{ID: 1, Published: 1200, Rate: partition.Rate{Records: 10}}, {ID: 2, Published: 5}},
					Groups:     []GroupMetrics{{Name: "g", Members: 1, Records: 205, Lag: lag}, {Name: "h"}}},
				{Name: "u", Partitions: []PartitionMetrics{{ID: 3}}},
			},
		}
		unchecked := cmp.Options{
			cmpopts.IgnoreFields(partition.Rate{}, "Bytes"), cmpopts.IgnoreFields(PartitionMetrics{}, "Bytes"),
		}
		if diff := cmp.Diff(want, m, near, unchecked); diff != "" {
			t.Error(diff)
		}
		if m.Rate.Bytes <= 0 || m.Topics[0].Partitions[0].Bytes <= 0 {
			t.Errorf("%v bytes a second, %d in the partition", m.Rate.Bytes, m.Topics[0].Partitions[0].Bytes)
		}
	})
}

// What has been counted is not lost when a subscription ends or when partitions are split, emptied and forgotten.
func TestCountersOnlyGrow(t *testing.T) {
	b := open(t, t.TempDir(), Options{})
	topic := ensure(t, b, "t", TopicConfig{})
	publishTo(t, topic, 1, 10)
	split(t, topic, 1)
	sub := subscribe(t, topic, "g", SubscribeOptions{})
	poll(t, sub, 10)
	if err := sub.CommitDelivered(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(sub.Close(), sub.Close()); err != nil {
		t.Fatal(err)
	}
	expire(t, topic)
	if diff := cmp.Diff([]PartitionID{2, 3}, ids(topic)); diff != "" {
		t.Fatal(diff)
	}
	publishTo(t, topic, 2, 3)
	if m := metrics(t, b); m.Published != 13 || m.Consumed != 10 || m.PublishTime <= 0 {
		t.Errorf("%d published, %d consumed, in %v", m.Published, m.Consumed, m.PublishTime)
	}
	b.Close()
	if _, err := b.Metrics(context.Background()); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

// The names are an interface: they may be added to, and never change.
func TestNamesOfMetricsAreFixed(t *testing.T) {
	m := &Metrics{Topics: []TopicMetrics{{Name: "a", Partitions: []PartitionMetrics{{ID: 7}}, Groups: []GroupMetrics{{Name: "g"}}}}}
	got := m.Map()
	want := []string{
		"backpressure.queueBytes", "backpressure.queueDepth", "backpressure.state", "backpressure.dropped", "backpressure.pending",
		"cache.hitRate", "cache.memoryBytes", "cache.size", "checkpoint.positions",
		"consumer.groups", "consumer.max", "consumer.totalConsumers", "lag.maxMs", "partition.count", "partition.max",
		"throughput.avgLatencyMs", "throughput.bytesPerSecond", "throughput.consumed", "throughput.errors", "throughput.published", "throughput.recordsPerSecond",
		"topic.a.avgLatencyMs", "topic.a.bytesPerSecond", "topic.a.consumed", "topic.a.errors",
		"topic.a.group.g.lagMs", "topic.a.group.g.lagRecords", "topic.a.group.g.members",
		"topic.a.partition.7.bytes", "topic.a.partition.7.bytesPerSecond", "topic.a.partition.7.published", "topic.a.partition.7.queueDepth", "topic.a.partition.7.recordsPerSecond",
		"topic.a.partitions", "topic.a.published", "topic.a.recordsPerSecond",
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(got))); diff != "" {
		t.Error(diff)
	}
	for name, v := range got {
		switch v.(type) {
		case int, int64, float64:
		default:
			t.Errorf("%s is a %T", name, v)
		}
	}
}

func TestTheMeanPublishTimeIsOfLate(t *testing.T) {
	var l latency
	at := time.Unix(1000, 0)
	mean := func(now time.Time) string {
		sum, n := l.recent(now)
		return fmt.Sprint(time.Duration(sum/max(1, n)), n)
	}
	l.note(at, time.Second)
	l.note(at.Add(9*time.Second), 3*time.Second)
	for _, tc := range []struct {
		after time.Duration
		want  string
	}{{9 * time.Second, "2s 2"}, {19 * time.Second, "2s 2"}, {20 * time.Second, "0s 0"}} {
		if got := mean(at.Add(tc.after)); got != tc.want {
			t.Errorf("after %v: %s, want %s", tc.after, got, tc.want)
		}
	}
	l.note(at.Add(20*time.Second), 5*time.Second)
	if got := mean(at.Add(20 * time.Second)); got != "5s 1" {
		t.Errorf("a new window: %s", got)
	}
}
