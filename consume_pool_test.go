package braid

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/braid-go/braid/scaler"
)

// While it is behind a group gets members until it keeps up or has one for each partition; when it has been quiet they go again. Nothing is
// handled twice, and keys keep their order.
func TestConsumersFollowTheirLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var steps []scaler.Decision
		b, err := Open("", Options{InMemory: true, OnScaled: func(_ string, d scaler.Decision) { steps = append(steps, d) }})
		if err != nil {
			t.Fatal(err)
		}
		topic := ensure(t, b, "t", TopicConfig{Partitions: 4})
		var mu sync.Mutex
		next := map[string]int{}
		stop := consume(t, topic, ConsumeOptions{MaxMembers: 8}, func(_ context.Context, rec *Record) error {
			time.Sleep(100 * time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			if want := next[string(rec.Key)]; string(rec.Value) != fmt.Sprint(want) {
				t.Errorf("%s: %s, want %d", rec.Key, rec.Value, want)
			}
			next[string(rec.Key)]++
			return nil
		})
		members := func() int {
			g, err := topic.Group("g")
			if err != nil {
				t.Fatal(err)
			}
			d, err := g.Describe(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return len(d.Members)
		}
		n := 0
		load := func(perSecond int, d time.Duration) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Second) {
				for range perSecond {
					if err := topic.Publish(t.Context(), &Record{Key: fmt.Appendf(nil, "key-%d", n%40), Value: fmt.Append(nil, n/40)}); err != nil {
						t.Fatal(err)
					}
					n++
				}
			}
		}
		load(8, time.Minute) // one member can do 10
		if got := members(); got != 1 {
			t.Errorf("%d members for what one can do: %v", got, topic.Explain())
		}
		load(35, 3*time.Minute)
		if got := members(); got != 4 {
			t.Errorf("%d members for the work of four: %v", got, topic.Explain())
		}
		load(1, 2*time.Hour)
		if got := members(); got != 1 {
			t.Errorf("%d members when there is little to do: %v", got, topic.Explain())
		}
		stop(nil)
		if len(steps) != 6 {
			t.Errorf("%d steps, want three up and three down: %v", len(steps), steps)
		}
		if topic.Explain() != nil {
			t.Error("the scaler of a Consume that has ended explains itself")
		}
		for _, handled := range next {
			n -= handled
		}
		if n != 0 {
			t.Errorf("%d records were not handled", n)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestAPoolHasAsManyMembersAsItsTopicAllows(t *testing.T) {
	b := open(t, "", Options{InMemory: true})
	topic := ensure(t, b, "t", TopicConfig{Partitions: 4})
	p := newPool(t.Context(), topic, "g", ConsumeOptions{Members: 2, MaxMembers: 9}, nil, nil)
	for _, tc := range []struct{ topic, want int }{{0, 9}, {3, 3}, {20, 9}} {
		err := b.UpdateTopic(t.Context(), "t", func(c *TopicConfig) error { c.Scaling.MaxConsumers = tc.topic; return nil })
		if err != nil {
			t.Fatal(err)
		}
		if policy, err := p.policy(); err != nil || policy.MaxConsumers != tc.want {
			t.Errorf("at most %d, %v, want %d", policy.MaxConsumers, err, tc.want)
		}
	}
	var wrong *OptionError
	err := topic.Consume(t.Context(), "g", ConsumeOptions{Members: 3, MaxMembers: 2}, func(context.Context, *Record) error { return nil })
	if !errors.As(err, &wrong) || wrong.Field != "ConsumeOptions.MaxMembers" {
		t.Errorf("error %v, want an OptionError about MaxMembers", err)
	}
}

// A member that cannot finish in time when it is taken away ends nobody else; what it was at is handled again.
func TestAMemberThatIsTakenAwayEndsNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := Open("", Options{InMemory: true})
		if err != nil {
			t.Fatal(err)
		}
		topic := ensure(t, b, "t", TopicConfig{Partitions: 2})
		var handled atomic.Int32
		hang := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		opts, err := ConsumeOptions{Members: 2, DrainTimeout: time.Second, RebalanceTimeout: time.Second}.resolve("t")
		if err != nil {
			t.Fatal(err)
		}
		p := newPool(ctx, topic, "g", opts, nil, func(ctx context.Context, rec *Record) error {
			if rec.Partition == 2 && handled.Load() < 2 {
				<-hang
				return errors.New("too late")
			}
			handled.Add(1)
			return nil
		})
		ended := make(chan error)
		go func() { ended <- p.run() }()
		synctest.Wait()
		publishTo(t, topic, 2, 1)
		publishTo(t, topic, 1, 1)
		synctest.Wait()
		if p.members[1].sub.Assigned()[0] != 2 {
			t.Fatal("the second member does not have the second partition")
		}
		if err := (*elastic)(p).Resize(t.Context(), scaler.Decision{Group: "g", Consumers: 1}); err != nil {
			t.Fatal(err)
		}
		publishTo(t, topic, 1, 1)
		synctest.Wait()
		if n := handled.Load(); n != 2 {
			t.Fatalf("%d records handled beside the one that hangs", n)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if n := handled.Load(); n != 3 {
			t.Errorf("%d records handled, want that the other member was given the one that hangs", n)
		}
		close(hang)
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Consume returned %v", err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
}
