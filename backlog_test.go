package braid

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/braid-go/braid/backpressure"
)

// behind is a topic whose group g has read nothing, in a bubble.
func behind(t *testing.T, config TopicConfig, f func(t *testing.T, topic *Topic, sub *Subscription)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		topic := ensure(t, openMemory(t), "t", config)
		sub := subscribe(t, topic, "g", SubscribeOptions{})
		f(t, topic, sub)
	})
}

// begin publishes so many records one by one without waiting, and returns how many have been acknowledged, as it goes on.
func begin(t *testing.T, topic *Topic, n int) *atomic.Int64 {
	t.Helper()
	acked := &atomic.Int64{}
	for _, v := range numbered("r", n) {
		if err := topic.PublishAsync(t.Context(), func(_ *Record, err error) {
			if err == nil {
				acked.Add(1)
			}
		}, &Record{Value: []byte(v)}); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Wait()
	return acked
}

func TestMaxBacklogHasPublishersWaitForTheSlowestGroup(t *testing.T) {
	behind(t, TopicConfig{MaxBacklog: 10}, func(t *testing.T, topic *Topic, sub *Subscription) {
		fast := subscribe(t, topic, "fast", SubscribeOptions{})
		acked := begin(t, topic, 25)
		check := func(what string, want int64) {
			t.Helper()
			synctest.Wait()
			if acked.Load() != want || topic.Partitions()[0].End != want {
				t.Errorf("%s: %d acknowledged, %d stored, want %d", what, acked.Load(), topic.Partitions()[0].End, want)
			}
		}
		check("the first", 10)
		if s := topic.Backpressure(); s.State != backpressure.Shedding || s.Records != 15 {
			t.Errorf("%+v", s)
		}
		poll(t, fast, 10)
		if err := fast.CommitDelivered(t.Context()); err != nil {
			t.Fatal(err)
		}
		check("another group has read all", 10)
		if err := sub.Commit(t.Context(), poll(t, sub, 10)[3]); err != nil {
			t.Fatal(err)
		}
		check("four are committed", 14)
		if err := sub.CommitDelivered(t.Context()); err != nil {
			t.Fatal(err)
		}
		check("what was delivered is committed", 20)
		poll(t, fast, 10)
		if err := fast.CommitDelivered(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := sub.Close(); err != nil {
			t.Fatal(err)
		}
		if err := theGroup(t, topic, "g").Delete(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * backlogInterval)
		check("the slow group is deleted", 25)
		time.Sleep(3 * backpressure.DefaultSettle)
		if s := topic.Backpressure(); s.State != backpressure.Normal {
			t.Errorf("nothing is held back any more: %+v", s)
		}
	})
}

func TestMaxBacklogAppliesTheStrategy(t *testing.T) {
	t.Run("shed-load", func(t *testing.T) {
		config := TopicConfig{MaxBacklog: 10, Backpressure: backpressure.Policy{Strategy: backpressure.ShedLoad}}
		behind(t, config, func(t *testing.T, topic *Topic, sub *Subscription) {
			if acked := begin(t, topic, 11); acked.Load() != 10 { // with the eleventh the appender sees that it has to hold back
				t.Errorf("%d acknowledged", acked.Load())
			}
			err := topic.Publish(t.Context(), &Record{Value: []byte("refused")})
			if !errors.Is(err, ErrOverloaded) {
				t.Errorf("%v", err)
			}
			poll(t, sub, 10)
			if err := sub.CommitDelivered(t.Context()); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			publish(t, topic, "after")
		})
	})
	t.Run("drop-oldest", func(t *testing.T) {
		config := TopicConfig{MaxBacklog: 2, Backpressure: backpressure.Policy{Strategy: backpressure.DropOldest, MaxRecords: 3}}
		behind(t, config, func(t *testing.T, topic *Topic, sub *Subscription) {
			for _, v := range numbered("r", 10) {
				if err := topic.PublishAsync(t.Context(), nil, &Record{Value: []byte(v)}); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
			}
			var got []string
			for len(got) < 5 {
				got = append(got, texts(poll(t, sub, 1))...)
				if err := sub.CommitDelivered(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff([]string{"r0", "r1", "r7", "r8", "r9"}, got); diff != "" {
				t.Error(diff)
			}
			if a := topic.Accounting(); a != (Accounting{Accepted: 10, Stored: 5, Dropped: 5}) {
				t.Errorf("%+v", a)
			}
		})
	})
}

func TestWithoutAGroupThereIsNoBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		topic := ensure(t, openMemory(t), "t", TopicConfig{MaxBacklog: 10})
		if acked := begin(t, topic, 1000); acked.Load() != 1000 {
			t.Errorf("%d acknowledged", acked.Load())
		}
	})
}

func TestMaxBacklogIsChangedWhilePublishersAreHeldBack(t *testing.T) {
	behind(t, TopicConfig{MaxBacklog: 10}, func(t *testing.T, topic *Topic, _ *Subscription) {
		acked := begin(t, topic, 100)
		for _, n := range []int64{20, 15, 0} {
			if err := topic.b.UpdateTopic(t.Context(), "t", func(c *TopicConfig) error { c.MaxBacklog = n; return nil }); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			want := map[int64]int64{20: 20, 15: 20, 0: 100}[n]
			if acked.Load() != want {
				t.Errorf("with %d: %d acknowledged, want %d", n, acked.Load(), want)
			}
		}
	})
}

func TestWhatIsHeldBackIsStoredWhenThePartitionIsSplitOrClosed(t *testing.T) {
	behind(t, TopicConfig{MaxBacklog: 10}, func(t *testing.T, topic *Topic, sub *Subscription) {
		acked := begin(t, topic, 25)
		if _, err := topic.Split(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if acked.Load() != 25 {
			t.Errorf("split: %d acknowledged", acked.Load())
		}
		more := begin(t, topic, 40)
		if n := more.Load(); n != 20 {
			t.Errorf("%d acknowledged in two partitions", n)
		}
		if err := sub.Close(); err != nil {
			t.Fatal(err)
		}
		if err := topic.b.Close(); err != nil {
			t.Fatal(err)
		}
		if n := more.Load(); n != 40 {
			t.Errorf("closed: %d acknowledged", n)
		}
	})
}
