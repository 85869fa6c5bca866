package braid

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/braid-go/braid/internal/vfs"
	"github.com/braid-go/braid/scaler"
)

// A topic follows its load: it splits while there is much of it, and merges when it has been quiet for long; keys keep their order all
// the time.
func TestATopicFollowsItsLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var steps []scaler.Decision
		b, err := Open("", Options{InMemory: true, OnScaled: func(topic string, d scaler.Decision) {
			mu.Lock()
			defer mu.Unlock()
			if steps = append(steps, d); topic != "t" || d.Err != nil || d.Reason == "" {
				t.Errorf("%s: %v", topic, d)
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		topic := ensure(t, b, "t", TopicConfig{AutoScale: true, Scaling: scaler.Policy{TargetRecords: 100, MaxPartitions: 4}})
		const keys = 40
		n := 0
		load := func(perSecond int, d time.Duration) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Second) {
				for range perSecond {
					rec := &Record{Key: fmt.Appendf(nil, "key-%d", n%keys), Value: fmt.Append(nil, n/keys)}
					if err := topic.Publish(t.Context(), rec); err != nil {
						t.Fatal(err)
					}
					n++
				}
			}
		}
		active := func() int { return len(topic.table.Load().active) }
		load(50, time.Minute)
		if active() != 1 {
			t.Errorf("%d partitions for half of what one can do: %v", active(), topic.Explain())
		}
		load(360, 3*time.Minute)
		if active() != 4 {
			t.Errorf("%d partitions for the load of four: %v", active(), topic.Explain())
		}
		load(1, 40*time.Minute)
		if active() != 1 {
			t.Errorf("%d partitions for next to nothing: %v", active(), topic.Explain())
		}
		mu.Lock()
		if len(steps) != 6 {
			t.Errorf("%d steps, want 3 splits and 3 merges: %v", len(steps), steps)
		}
		mu.Unlock()
		next := map[string]int{}
		for rec, err := range topic.Read(t.Context(), ReadOptions{}) {
			if err != nil {
				t.Fatal(err)
			}
			if want := next[string(rec.Key)]; string(rec.Value) != fmt.Sprint(want) {
				t.Fatalf("%s: %s, want %d", rec.Key, rec.Value, want)
			}
			next[string(rec.Key)]++
			n--
		}
		if n != 0 {
			t.Errorf("%d records are missing", n)
		}
	})
}

func TestOneHotKeyIsNamedAndNotSplit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := Open("", Options{InMemory: true})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		topic := ensure(t, b, "t", TopicConfig{AutoScale: true, Scaling: scaler.Policy{TargetRecords: 100}})
		for i := range 120 * 300 {
			key := "hot"
			if i%10 == 0 {
				key = fmt.Sprint(i)
			}
			if err := topic.Publish(t.Context(), &Record{Key: []byte(key), Value: []byte("x")}); err != nil {
				t.Fatal(err)
			}
			if i%300 == 299 {
				time.Sleep(time.Second)
			}
		}
		if n := len(topic.table.Load().active); n != 1 {
			t.Errorf("%d partitions", n)
		}
		all := topic.Explain()
		last := all[len(all)-1]
		if last.HotKey == nil || last.HotKey.Share < 0.8 || !strings.Contains(last.Reason, fmt.Sprintf("%#x", last.HotKey.Hash)) {
			t.Errorf("explained by %v", last)
		}
		if _, err := topic.Split(t.Context(), 1); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%#x", last.HotKey.Hash)) {
			t.Errorf("by hand: %v", err)
		}
	})
}

// With short windows a topic has followed its load, up and down, within a minute, the partitions that were there when the windows changed included.
func TestATopicWithShortWindowsFollowsItsLoadWithinAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := Open("", Options{InMemory: true})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		topic := ensure(t, b, "t", TopicConfig{AutoScale: true, Scaling: scaler.Policy{TargetRecords: 100}})
		err = b.UpdateTopic(t.Context(), "t", func(c *TopicConfig) error {
			c.Scaling.ShortWindow, c.Scaling.MediumWindow, c.Scaling.LongWindow = time.Second, 2*time.Second, 4*time.Second
			c.Scaling.SplitCooldown, c.Scaling.MergeCooldown = time.Second, time.Second
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		load := func(perSecond int, d time.Duration) int {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Second) {
				for i := range perSecond {
					if err := topic.Publish(t.Context(), &Record{Key: fmt.Append(nil, i), Value: []byte("x")}); err != nil {
						t.Fatal(err)
					}
				}
			}
			return len(topic.table.Load().active)
		}
		if n := load(350, 15*time.Second); n < 4 {
			t.Errorf("%d partitions for the load of four: %v", n, topic.Explain())
		}
		if n := load(1, 45*time.Second); n != 1 {
			t.Errorf("%d partitions for next to nothing: %v", n, topic.Explain())
		}
	})
}

// What keeps the device busy all the time is not helped by more partitions on it, and Explain says so; who knows better says so with MaxDeviceUse.
func TestATopicWhoseDeviceIsTheBottleneckIsNotSplit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &flatDisk{sync: time.Millisecond, speed: 1e12, dirty: map[string]int64{}}
		b, err := Open("", Options{InMemory: true, fs: vfs.NewFault(vfs.NewVolatile(), disk)})
		if err != nil {
			t.Fatal(err)
		}
		topic := ensure(t, b, "t", TopicConfig{AutoScale: true, Scaling: scaler.Policy{TargetRecords: 10}})
		publishFor := func(d, rest time.Duration) {
			for n, end := 0, time.Now().Add(d); time.Now().Before(end); n++ {
				if err := topic.Publish(t.Context(), &Record{Key: fmt.Append(nil, n), Value: []byte("x")}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(rest)
			}
		}
		last := func() scaler.Decision { all := topic.Explain(); return all[len(all)-1] }
		publishFor(2*time.Minute, 0)
		if n := len(topic.table.Load().active); n != 1 || !strings.Contains(last().Reason, "the device is the bottleneck: ") {
			t.Errorf("%d partitions: %v", n, last())
		}
		publishFor(30*time.Second, 5*time.Millisecond) // a sixth of the time
		if n := len(topic.table.Load().active); n < 2 {
			t.Errorf("%d partitions when the device has time left: %v", n, last())
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestScalingIsConfiguredAtRuntime(t *testing.T) {
	noLeaks(t)
	dir := t.TempDir()
	b, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var wrong *OptionError
	if _, err := b.CreateTopic(t.Context(), "t", TopicConfig{Scaling: scaler.Policy{ScaleDownThreshold: 2}}); !errors.As(err, &wrong) || !strings.HasPrefix(wrong.Field, "TopicConfig.Scaling.") {
		t.Errorf("error %v, want an OptionError about the policy", err)
	}
	topic := ensure(t, b, "t", TopicConfig{Partitions: 3})
	update := func(f func(*TopicConfig)) {
		t.Helper()
		if err := b.UpdateTopic(t.Context(), "t", func(c *TopicConfig) error { f(c); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if topic.scaler.Load() != nil || topic.Explain() != nil {
		t.Error("it scales without being asked")
	}
	update(func(c *TopicConfig) { c.AutoScale = true })
	if p := topic.scaler.Load().Policy(); p.MinPartitions != 3 || p.MaxPartitions != 64 {
		t.Errorf("policy %+v", p)
	}
	update(func(c *TopicConfig) { c.Scaling.TargetRecords = 7 })
	if p := topic.scaler.Load().Policy(); p.TargetRecords != 7 {
		t.Errorf("policy %+v", p)
	}
	update(func(c *TopicConfig) {
		c.Scaling.ShortWindow, c.Scaling.MediumWindow, c.Scaling.LongWindow = time.Second, 2*time.Second, 3*time.Second
	})
	if p := topic.scaler.Load().Policy(); p.Windows() != topic.partitionConfig(1).Windows || p.LongWindow != 3*time.Second {
		t.Errorf("windows %+v, of new partitions %+v", p.Windows(), topic.partitionConfig(1).Windows)
	}
	update(func(c *TopicConfig) { c.AutoScale = false })
	if topic.scaler.Load() != nil {
		t.Error("it still scales")
	}
	update(func(c *TopicConfig) { c.AutoScale = true })
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = open(t, dir, Options{})
	if topic, err = b.Topic("t"); err != nil || topic.scaler.Load() == nil || topic.scaler.Load().Policy().TargetRecords != 7 {
		t.Errorf("after reopening: %v", err)
	}
	if err := b.DeleteTopic(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}
