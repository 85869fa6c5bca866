package braid

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/braid-go/braid/internal/vfs"
)

// relayouts are a split and a merge, with the partitions they begin with and end with.
var relayouts = []struct {
	name     string
	from, to int
	change   func(*Topic) error
	leastOps int64
}{
	{"split", 1, 2, func(t *Topic) error { _, err := t.Split(context.Background(), 1); return err }, 5},
	{"merge", 2, 1, func(t *Topic) error { _, err := t.Merge(context.Background(), 1, 2); return err }, 5},
}

// Whichever operation of a split or a merge fails, the layout is the old one or the new one, and everything stays readable, now and after reopening.
func TestASplitOrAMergeThatFailsAnywhereLeavesALayout(t *testing.T) {
	for _, r := range relayouts {
		t.Run(r.name, func(t *testing.T) {
			for k := int64(1); ; k++ {
				dir := t.TempDir()
				b, faults := openFaulty(t, dir)
				topic := ensure(t, b, "t", TopicConfig{Partitions: r.from})
				want := keysTo(t, topic, 0, 4)
				settled(t, b)
				trigger := vfs.FailAt(k, syscall.EIO, nil)
				faults.set(trigger)
				err := r.change(topic)
				faults.off()
				if trigger.Count() < k {
					if err != nil || k < r.leastOps {
						t.Fatalf("%d operations, %v", trigger.Count(), err)
					}
					t.Logf("%d operations", k-1)
					return
				}
				what := fmt.Sprintf("operation %d", k)
				for key := range 4 { // each by itself: a partition may have failed
					rec := &Record{Key: fmt.Append(nil, key), Value: fmt.Append(nil, key, " 1")}
					switch perr := topic.Publish(t.Context(), rec); {
					case perr == nil:
						want[string(rec.Key)] = append(want[string(rec.Key)], string(rec.Value))
					case !errors.Is(perr, ErrPartitionFailed):
						t.Errorf("%s: %v, publish: %v", what, err, perr)
					}
				}
				byKey(t, what, topic, want)
				if err := b.Close(); err != nil {
					t.Logf("%s: close: %v", what, err)
				}
				b = open(t, dir, Options{})
				checkLayout(t, what+", reopened", b, r.from, r.to, want)
				if err := b.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// The same when the process is killed, or the power fails, before any of the operations.
func TestACrashAtAnyStepOfASplitOrAMergeLeavesALayout(t *testing.T) {
	for _, r := range relayouts {
		for _, power := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/power=%v", r.name, power), func(t *testing.T) {
				seen := map[int]bool{}
				for k := 1; ; k++ {
					for seed := range uint64(3) { // what survives a power cut is random
						if seed > 0 && !power {
							break
						}
						disk := NewModelDisk(t, t.TempDir(), seed, Options{})
						b, err := disk.Open()
						if err != nil {
							t.Fatal(err)
						}
						topic := ensure(t, b, "t", TopicConfig{Partitions: r.from})
						want := keysTo(t, topic, 0, 4)
						settled(t, b)
						over := true
						disk.disk.Crashing = func() func() { over = false; return func() {} }
						disk.Arm(k, power)
						err = r.change(topic)
						disk.disk.Crashing = nil
						if over && err != nil {
							t.Fatal(err)
						}
						disk.Crash(power)
						if b, err = disk.Open(); err != nil {
							t.Fatalf("operation %d: %v", k, err)
						}
						seen[checkLayout(t, fmt.Sprintf("before operation %d", k), b, r.from, r.to, want)] = true
						if err := b.Close(); err != nil {
							t.Fatal(err)
						}
						if !over {
							continue
						}
						if k < int(r.leastOps) || !seen[r.from] || !seen[r.to] {
							t.Fatalf("%d operations, and both layouts: %v", k-1, seen)
						}
						t.Logf("%d operations", k-1)
						return
					}
				}
			})
		}
	}
}

// keysTo publishes the n-th value of some keys, and returns the values by key.
func keysTo(t *testing.T, topic *Topic, n, keys int) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for key := range keys {
		rec := &Record{Key: fmt.Append(nil, key), Value: fmt.Append(nil, key, " ", n)}
		if err := topic.Publish(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
		out[string(rec.Key)] = append(out[string(rec.Key)], string(rec.Value))
	}
	return out
}

// byKey compares what is stored of each key, in its order.
func byKey(t *testing.T, what string, topic *Topic, want map[string][]string) {
	t.Helper()
	got := map[string][]string{}
	for rec, err := range topic.Read(t.Context(), ReadOptions{}) {
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		got[string(rec.Key)] = append(got[string(rec.Key)], string(rec.Value))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: %s", what, diff)
	}
}

// checkLayout checks that a topic has one of two layouts, takes records, and has what it is to have. It returns how many partitions take records.
func checkLayout(t *testing.T, what string, b *Broker, from, to int, want map[string][]string) int {
	t.Helper()
	topic, err := b.Topic("t")
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	active := len(topic.table.Load().active)
	if active != from && active != to {
		t.Errorf("%s: %d partitions take records, want %d or %d", what, active, from, to)
	}
	byKey(t, what, topic, want)
	for key, values := range keysTo(t, topic, 2, 4) {
		want[key] = append(want[key], values...)
	}
	byKey(t, what+", and published to", topic, want)
	n := 0
	for _, values := range want {
		n += len(values)
	}
	sub, got := subscribe(t, topic, "g", SubscribeOptions{}), map[string][]string{}
	for _, rec := range poll(t, sub, n) {
		got[string(rec.Key)] = append(got[string(rec.Key)], string(rec.Value))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: a new group is delivered: %s", what, diff)
	}
	if err := sub.Close(); err != nil {
		t.Error(err)
	}
	return active
}
