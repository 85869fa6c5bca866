package braid

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/braid-go/braid/backpressure"
	"github.com/braid-go/braid/internal/vfs"
	"github.com/braid-go/braid/partition"
)

// slowly opens a broker, in a bubble, on a disk whose syncs take as long as the returned duration says.
func slowly(t *testing.T, opts Options) (*Broker, *atomic.Int64) {
	t.Helper()
	sync := new(atomic.Int64)
	opts.fs = vfs.NewFault(vfs.OS, vfs.InjectorFunc(func(op vfs.Op) vfs.Outcome {
		if op.Kind == vfs.OpDatasync {
			time.Sleep(time.Duration(sync.Load())) // of the bubble
		}
		return vfs.Outcome{}
	}))
	return open(t, t.TempDir(), opts), sync
}

// A round takes all that is queued, so a disk with a sync of 100 ms has room again after that long at most; one with 2 s after 2 s.
func TestRetryAfterFollowsADiskThatBecomesSlowerAndFaster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, disk := slowly(t, Options{})
		topic := ensure(t, b, "t", TopicConfig{Backpressure: backpressure.Policy{Strategy: backpressure.ShedLoad, MaxRecords: 100}})
		overload := func(length time.Duration) (last, longest time.Duration, refused int) {
			t.Helper()
			for begin := time.Now(); time.Since(begin) < length; time.Sleep(time.Millisecond) {
				err := topic.PublishAsync(t.Context(), nil, &Record{Value: []byte{1}})
				var over *OverloadError
				if errors.As(err, &over) {
					last, longest, refused = over.RetryAfter, max(longest, over.RetryAfter), refused+1
				} else if err != nil {
					t.Fatal(err)
				}
			}
			return last, longest, refused
		}
		for _, step := range []struct{ sync, least, most time.Duration }{
			{200 * time.Millisecond, 50 * time.Millisecond, 250 * time.Millisecond},
			{2 * time.Second, 500 * time.Millisecond, 2500 * time.Millisecond},
			{200 * time.Millisecond, 50 * time.Millisecond, 250 * time.Millisecond},
		} {
			disk.Store(int64(step.sync))
			overload(30 * time.Second) // it gets used to it
			_, longest, refused := overload(10 * time.Second)
			if refused < 1000 || longest < step.least || longest > step.most {
				t.Errorf("syncs of %v: of %d refused the longest is to wait %v, want %v to %v", step.sync, refused, longest, step.least, step.most)
			}
			// Whoever does as he is told is let in.
			again := 0
			for range 20 {
				for {
					err := topic.PublishAsync(t.Context(), nil, &Record{Value: []byte{1}})
					var over *OverloadError
					if !errors.As(err, &over) {
						continue
					}
					time.Sleep(over.RetryAfter + time.Millisecond)
					break
				}
				if topic.PublishAsync(t.Context(), nil, &Record{Value: []byte{1}}) == nil {
					again++
				}
			}
			if again < 18 {
				t.Errorf("syncs of %v: %d of 20 were let in when they had waited", step.sync, again)
			}
		}
	})
}

func TestAmong64BlockedPublishersNoneWaitsThreeTimesTheMedian(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const publishers, each = 64, 40
		b, disk := slowly(t, Options{})
		disk.Store(int64(5 * time.Millisecond))
		topic := ensure(t, b, "t", TopicConfig{Backpressure: backpressure.Policy{MaxRecords: 16}})
		waits := make([][]time.Duration, publishers)
		var all sync.WaitGroup
		for p := range publishers {
			all.Go(func() {
				for range each {
					began := time.Now()
					if err := topic.Publish(context.Background(), &Record{Value: []byte{1}}); err != nil {
						t.Error(err)
					}
					waits[p] = append(waits[p], time.Since(began))
				}
			})
		}
		all.Wait()
		var flat []time.Duration
		for _, w := range waits {
			flat = append(flat, w[1:len(w)-1]...) // the first finds room, and at the end fewer and fewer compete
		}
		slices.Sort(flat)
		if median, longest := flat[len(flat)/2], flat[len(flat)-1]; median < 10*time.Millisecond || longest > 3*median {
			t.Errorf("the median publisher waited %v, and the unluckiest %v", median, longest)
		}
	})
}

func TestDroppedRecordsAreLoggedSeldomAndAllCounted(t *testing.T) {
	var log bytes.Buffer
	opts := Options{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))}
	jam(t, backpressure.Policy{Strategy: backpressure.DropOldest}, opts, func(j *jammed) {
		j.publish(numbered("a", 11)...) // ten are queued, so that one goes
		synctest.Wait()
		j.publish(numbered("b", 100)...)
		time.Sleep(dropLogInterval + time.Second)
		time.Sleep(dropLogInterval)
		j.publish("c")
		j.settle()
		if err := j.b.Close(); err != nil {
			j.Error(err)
		}
		var got []string
		for line := range strings.Lines(log.String()) {
			if strings.Contains(line, "dropped") {
				got = append(got, strings.TrimSpace(line[strings.Index(line, "topic="):]))
			}
		}
		want(j.T, "log", got, []string{"topic=t records=1", "topic=t records=100", "topic=t records=1"})
	})
}

func TestTheAccountOfTheBrokerKeepsWhatDeletedTopicsHaveDone(t *testing.T) {
	b := openMemory(t)
	a, c := ensure(t, b, "a", TopicConfig{Partitions: 3}), ensure(t, b, "c", TopicConfig{})
	publish(t, a, numbered("r", 30)...)
	publish(t, c, numbered("r", 5)...)
	if err := a.Publish(t.Context(), &Record{}); err == nil {
		t.Fatal("without a value")
	}
	poll(t, subscribe(t, a, "g", SubscribeOptions{}), 12)
	check := func(what string) {
		t.Helper()
		all := Accounting{Accepted: 35, Stored: 35}
		if got := b.Accounting(); got != all {
			t.Errorf("%s: %+v", what, got)
		}
		if b.closed.Load() {
			return
		}
		if m := metrics(t, b); m.Accounting != all || m.Published != 35 || m.Failed != 1 || m.Consumed != 12 {
			t.Errorf("%s: %+v, %d published, %d failed, %d consumed", what, m.Accounting, m.Published, m.Failed, m.Consumed)
		}
	}
	check("before")
	if err := b.DeleteTopic(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	check("deleted")
	ensure(t, b, "a", TopicConfig{})
	check("made again")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	check("closed")
}

// Publishers, transactions, splits, drops and deletions at the same time: whoever reads the account never sees less than has been told, nor more pending than there
// can be.
func TestTheAccountIsReadWhileEverythingChanges(t *testing.T) {
	const publishers, topics = 4, 5
	b := openMemory(t)
	var told atomic.Int64
	done := make(chan struct{})
	var readers, all sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				before := told.Load()
				a := b.Accounting()
				if a.Accepted != a.Stored+a.Dropped+a.Unknown+a.Pending || a.Pending < 0 || a.Stored+a.Dropped < before {
					t.Errorf("%+v after %d outcomes", a, before)
					return
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for i := range topics {
		name := fmt.Sprint("t", i)
		topic := ensure(t, b, name, TopicConfig{Backpressure: backpressure.Policy{Strategy: backpressure.DropOldest, MaxRecords: 2}})
		for p := range publishers {
			all.Go(func() {
				for n := range 500 {
					err := topic.Publish(context.Background(), &Record{Key: fmt.Append(nil, p, n), Value: []byte{1}})
					if err != nil && !errors.Is(err, ErrDropped) {
						t.Error(err)
					}
					told.Add(1)
				}
			})
		}
		all.Go(func() {
			for range 50 {
				tx := b.Begin()
				if err := errors.Join(tx.Publish(topic, &Record{Value: []byte{1}}), tx.Commit(context.Background())); err != nil {
					t.Error(err)
				}
				told.Add(1)
			}
		})
		if _, err := topic.Split(t.Context(), topic.Partitions()[0].ID); err != nil {
			t.Error(err)
		}
		all.Wait()
		if err := b.DeleteTopic(t.Context(), name); err != nil {
			t.Error(err)
		}
	}
	close(done)
	readers.Wait()
	if a := b.Accounting(); a.Stored+a.Dropped != told.Load() || a.Pending != 0 || a.Accepted != topics*(publishers*500+50) {
		t.Errorf("%+v after %d outcomes", a, told.Load())
	}
}

func TestShutdownWaitsForAListenerNoLongerThanItsContext(t *testing.T) {
	jam(t, backpressure.Policy{}, Options{}, func(j *jammed) {
		stuck := make(chan struct{})
		defer close(stuck)
		j.b.OnBackpressureChanged(func(BackpressureEvent) { <-stuck })
		j.publish(numbered("r", 12)...)
		j.settle()
		ctx, cancel := context.WithTimeout(j.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		if err := j.b.Shutdown(ctx); err != nil {
			j.Error(err)
		}
		if took := time.Since(began); took != time.Minute {
			j.Errorf("it took %v", took)
		}
	})
}

// A listener may do something about it.
func TestAListenerMayChangeTheStrategyAndTheLimits(t *testing.T) {
	jam(t, backpressure.Policy{}, Options{}, func(j *jammed) {
		var cancel func()
		cancel = j.b.OnBackpressureChanged(func(e BackpressureEvent) {
			if e.Current != backpressure.Shedding {
				return
			}
			cancel()
			err := j.b.UpdateTopic(context.Background(), "t", func(c *TopicConfig) error {
				c.Backpressure.Strategy = backpressure.DropOldest
				return nil
			})
			l := j.b.Limits()
			l.MaxQueueDepth = 12
			if err := errors.Join(err, j.b.Reconfigure(context.Background(), l)); err != nil {
				j.Error(err)
			}
		})
		j.publish(numbered("r", 14)...)
		want(j.T, "dropped", j.ended(ErrDropped), []string{"r0", "r1", "r2", "r3"})
	})
}

func TestTheWorstPartitionIsShownForItsTopicAndTheBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		faults := &switched{}
		b := open(t, t.TempDir(), Options{Durability: OS, fs: vfs.NewFault(vfs.OS, faults)})
		small := TopicConfig{Partitions: 3, Backpressure: backpressure.Policy{MaxRecords: 10}}
		wide := ensure(t, b, "wide", small)
		small.Partitions = 1
		other := ensure(t, b, "other", small)
		stuck, _, release := block(vfs.OpWrite)
		faults.set(stuck)
		var events []string
		defer b.OnBackpressureChanged(func(e BackpressureEvent) {
			events = append(events, fmt.Sprintf("%s: %v after %v at %d", e.Subsystem(), e.Current, e.Previous, e.At))
		})()
		parts := wide.Partitions()
		fillTo := func(topic *Topic, at, n int) { // the first is being written, and the others wait
			t.Helper()
			for i, put := 0, 0; put <= n; i++ {
				key := fmt.Append(nil, i)
				if !topic.Partitions()[at].KeyRange.Contains(partition.Hash(key)) {
					continue
				}
				if err := topic.PublishAsync(t.Context(), nil, &Record{Key: key, Value: []byte{1}}); err != nil {
					t.Fatal(err)
				}
				put++
				synctest.Wait()
			}
		}
		place := func(what string, got BackpressureStatus, topic string, id PartitionID, state BackpressureState, records int) {
			t.Helper()
			got.Bytes = 0
			if diff := cmp.Diff(BackpressureStatus{State: state, Topic: topic, Partition: id, Records: records}, got); diff != "" {
				t.Errorf("%s: %s", what, diff)
			}
		}
		fillTo(wide, 1, 7)
		place("topic", wide.Backpressure(), "wide", parts[1].ID, backpressure.Warning, 7)
		place("broker", b.Backpressure(), "wide", parts[1].ID, backpressure.Warning, 7)
		fillTo(wide, 2, 9)
		place("topic", wide.Backpressure(), "wide", parts[2].ID, backpressure.Critical, 9)
		fillTo(other, 0, 10)
		place("topic", wide.Backpressure(), "wide", parts[2].ID, backpressure.Critical, 9)
		place("broker", b.Backpressure(), "other", other.Partitions()[0].ID, backpressure.Shedding, 10)
		p := func(of string, i int) string { return fmt.Sprintf("topic %s partition %d", of, i) }
		one, two, three := int(parts[1].ID), int(parts[2].ID), int(other.Partitions()[0].ID)
		at := func(who, change string, at int) string { return fmt.Sprintf("%s: %s at %d", who, change, at) }
		want(t, "events", events, []string{
			at(p("wide", one), "warning after normal", one), at("topic wide", "warning after normal", one), at("broker", "warning after normal", one),
			at(p("wide", two), "warning after normal", two),
			at(p("wide", two), "critical after warning", two), at("topic wide", "critical after warning", two), at("broker", "critical after warning", two),
			at(p("other", three), "warning after normal", three), at("topic other", "warning after normal", three),
			at(p("other", three), "critical after warning", three), at("topic other", "critical after warning", three),
			at(p("other", three), "shedding after critical", three), at("topic other", "shedding after critical", three), at("broker", "shedding after critical", three),
		})
		faults.off()
		release()
		time.Sleep(3 * backpressure.DefaultSettle)
		synctest.Wait()
		last := map[string]string{}
		for _, e := range events {
			who, change, _ := strings.Cut(e, ": ")
			change, _, _ = strings.Cut(change, " at ")
			now, was, _ := strings.Cut(change, " after ")
			if before, known := last[who]; known && before != was {
				t.Errorf("%s was %s, and %q", who, before, e)
			}
			last[who] = now
		}
		for who, now := range last {
			if now != "normal" {
				t.Errorf("%s is %s at the end", who, now)
			}
		}
		if len(last) != 6 {
			t.Errorf("%v", last)
		}
	})
}

// A group that reads nothing costs publishers nothing, unless MaxBacklog says so.
func TestASlowConsumerDoesNotSlowPublishersDown(t *testing.T) {
	behind(t, TopicConfig{Backpressure: backpressure.Policy{MaxRecords: 100}}, func(t *testing.T, topic *Topic, _ *Subscription) {
		for range 100 {
			if acked := begin(t, topic, 100); acked.Load() != 100 {
				t.Fatalf("%d of 100 acknowledged", acked.Load())
			}
		}
		if s := topic.Backpressure(); s.Records != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestPublishersThatWaitForMemoryGoOnWhenThereIsMore(t *testing.T) {
	jam(t, backpressure.Policy{MaxRecords: 1000}, Options{Limits: Limits{MaxMemoryBytes: 1 << 20}}, func(j *jammed) {
		for range 20 { // of 100 KiB: ten fit
			j.publish(strings.Repeat("x", 100<<10))
		}
		before := j.topic.Backpressure().Records
		l := j.b.Limits()
		l.MaxMemoryBytes = 16 << 20
		if err := j.b.Reconfigure(j.Context(), l); err != nil {
			j.Fatal(err)
		}
		synctest.Wait()
		if after := j.topic.Backpressure().Records; before > 10 || after != 20 {
			j.Errorf("%d were queued, and with more memory %d of 20", before, after)
		}
		j.settle()
	})
}
