package braid

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/braid-go/braid/backpressure"
	"github.com/braid-go/braid/internal/vfs"
)

// jammed is a topic whose disk does not answer: "first" is in a sync that does not return, and whatever is published afterwards queues up
// behind it, up to 10 records.
type jammed struct {
	*testing.T
	b       *Broker
	topic   *Topic
	release func() // the disk answers again; once

	mu       sync.Mutex
	outcomes map[string]error // of publish
	order    []string         // of publishing
	calls    sync.WaitGroup
}

// jam runs f in a bubble. Other topics go on, by way of the commit log.
func jam(t *testing.T, p backpressure.Policy, opts Options, f func(*jammed)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		faults := &switched{}
		opts.fs = vfs.NewFault(vfs.OS, faults)
		b := open(t, t.TempDir(), opts)
		if p.MaxRecords == 0 {
			p.MaxRecords = 10
		}
		j := &jammed{T: t, b: b, outcomes: map[string]error{}}
		j.topic = ensure(t, b, "t", TopicConfig{Backpressure: p})
		inj, held, release := block(vfs.OpDatasync)
		j.release = sync.OnceFunc(release)
		t.Cleanup(j.release)
		publish(t, j.topic, "before")
		settled(t, b)
		faults.set(inj)
		j.publish("first")
		<-held
		f(j)
	})
}

// publish begins to publish records one by one, each as soon as the one before is stored, queued, refused or in line.
func (j *jammed) publish(values ...string) {
	j.Helper()
	for _, v := range values {
		j.order = append(j.order, v)
		j.calls.Go(func() { j.note(v, j.topic.Publish(context.Background(), &Record{Value: []byte(v)})) })
		synctest.Wait()
	}
}

func (j *jammed) note(value string, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.outcomes[value] = err
}

// ended returns the records that have had their outcome, if it is a target, in the order of publishing.
func (j *jammed) ended(target error) []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	out := []string{}
	for _, v := range j.order {
		if err, ended := j.outcomes[v]; ended && errors.Is(err, target) {
			out = append(out, v)
		}
	}
	return out
}

// settle lets the disk work and waits until all is done, and says what is stored.
func (j *jammed) settle() []string {
	j.Helper()
	j.release()
	j.calls.Wait()
	if err := j.topic.Flush(context.Background()); err != nil {
		j.Error(err)
	}
	return values(j, j.topic, ReadOptions{})
}

// account checks the numbers of what has been published so far.
func (j *jammed) account(want Accounting) {
	j.Helper()
	if diff := cmp.Diff(want, j.topic.Accounting()); diff != "" {
		j.Error(diff)
	}
}

func want(t *testing.T, what string, got, want []string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: %s", what, diff)
	}
}

func TestBlockProducerHasPublishersWaitInOrder(t *testing.T) {
	jam(t, backpressure.Policy{}, Options{}, func(j *jammed) {
		all := numbered("r", 25)
		j.publish(all...)
		j.account(Accounting{Accepted: 27, Stored: 1, Pending: 26})
		want(j.T, "stored", j.settle(), append([]string{"before", "first"}, all...))
		if n := len(j.ended(nil)); n != 26 {
			j.Errorf("%d without error, want 26", n)
		}
		j.account(Accounting{Accepted: 27, Stored: 27})
	})
}

func TestDropOldestDropsTheFewestAndTellsTheirPublishers(t *testing.T) {
	jam(t, backpressure.Policy{Strategy: backpressure.DropOldest}, Options{}, func(j *jammed) {
		all := numbered("r", 25)
		j.publish(all...)
		want(j.T, "dropped", j.ended(ErrDropped), all[:15])
		j.account(Accounting{Accepted: 27, Stored: 1, Dropped: 15, Pending: 11})
		batch := make([]*Record, 4)
		for i := range batch {
			batch[i] = &Record{Value: fmt.Append(nil, "b", i)}
		}
		err := j.topic.PublishAsync(j.Context(), func(rec *Record, err error) { j.note(string(rec.Value), err) }, batch...)
		if err != nil {
			j.Error(err)
		}
		synctest.Wait()
		want(j.T, "dropped", j.ended(ErrDropped), all[:19])
		want(j.T, "stored", j.settle(), slices.Concat([]string{"before", "first"}, all[19:], []string{"b0", "b1", "b2", "b3"}))
		j.account(Accounting{Accepted: 31, Stored: 12, Dropped: 19})
	})
}

// A drop that Flush's own request falls to must not have Flush return early.
func TestFlushWaitsForWhatWasPublishedBeforeItAlsoUnderDropOldest(t *testing.T) {
	jam(t, backpressure.Policy{Strategy: backpressure.DropOldest}, Options{}, func(j *jammed) {
		j.publish(numbered("r", 10)...)
		var flushed atomic.Bool
		j.calls.Go(func() {
			if err := j.topic.Flush(context.Background()); err != nil {
				j.Error(err)
			}
			flushed.Store(true)
		})
		synctest.Wait()
		j.publish(numbered("s", 25)...)
		if flushed.Load() {
			j.Error("the first record is in the sync, and Flush has returned")
		}
		j.settle()
	})
}

func TestShedLoadRefusesAtOnceAndSaysWhenToComeBack(t *testing.T) {
	jam(t, backpressure.Policy{Strategy: backpressure.ShedLoad}, Options{}, func(j *jammed) {
		all := numbered("r", 25)
		j.publish(all...)
		want(j.T, "refused", j.ended(ErrOverloaded), all[10:])
		var over *OverloadError
		if err := j.outcomes["r20"]; !errors.As(err, &over) {
			j.Fatal(err)
		}
		if diff := cmp.Diff(&OverloadError{Topic: "t", Partition: 1, Records: 10, Bytes: over.Bytes, RetryAfter: 100 * time.Millisecond}, over); diff != "" || over.Bytes == 0 {
			j.Errorf("%s%v", diff, over)
		}
		if errors.Is(over, context.DeadlineExceeded) {
			j.Error("no context has ended")
		}
		if err := j.topic.PublishAsync(j.Context(), nil, &Record{Value: []byte{1}}); !errors.Is(err, ErrOverloaded) {
			j.Errorf("PublishAsync: %v", err)
		}
		want(j.T, "stored", j.settle(), append([]string{"before", "first"}, all[:10]...))
		j.account(Accounting{Accepted: 12, Stored: 12})
		if n := metrics(j, j.b).Failed; n != 16 {
			j.Errorf("%d have failed, want 16", n)
		}
	})
}

func TestDegradeQualityLeavesEnrichOutFromCriticalOn(t *testing.T) {
	enrich := func(rec *Record) { rec.Headers = append(rec.Headers, Header{Key: "rich"}) }
	for _, tc := range []struct {
		strategy backpressure.Strategy
		plain    int // records published without their header
	}{{backpressure.DegradeQuality, 16}, {backpressure.BlockProducer, 0}} {
		t.Run(tc.strategy.String(), func(t *testing.T) {
			jam(t, backpressure.Policy{Strategy: tc.strategy}, Options{Enrich: enrich}, func(j *jammed) {
				j.publish(numbered("r", 25)...) // from the ninth on it is Critical, which the tenth finds
				j.settle()
				rich, plain := 0, 0
				for rec, err := range j.topic.Read(j.Context(), ReadOptions{}) {
					if err != nil {
						j.Fatal(err)
					}
					if _, has := rec.Headers, len(rec.Headers) > 0; has {
						rich++
					} else {
						plain++
					}
				}
				m := metrics(j, j.b).Topics[0]
				if plain != tc.plain || rich != 27-tc.plain || m.Degraded != int64(tc.plain) {
					j.Errorf("%d with the header, %d without, %d by the metrics; want %d without", rich, plain, m.Degraded, tc.plain)
				}
				j.account(Accounting{Accepted: 27, Stored: 27})
				time.Sleep(3 * backpressure.DefaultSettle)
				publish(j, j.topic, "later")
				if n := metrics(j, j.b).Topics[0].Degraded; n != int64(tc.plain) {
					j.Error("the pressure is over, and Enrich is left out")
				}
			})
		})
	}
}

func TestARecordSaysThatItsAcknowledgementWasReduced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := vfs.InjectorFunc(func(op vfs.Op) vfs.Outcome {
			switch op.Kind {
			case vfs.OpDatasync:
				time.Sleep(10 * time.Millisecond) // of the bubble
			case vfs.OpWrite:
				time.Sleep(time.Millisecond)
			}
			return vfs.Outcome{}
		})
		dir := t.TempDir()
		b := open(t, dir, Options{fs: vfs.NewFault(vfs.OS, slow)})
		topic := ensure(t, b, "t", TopicConfig{Backpressure: backpressure.Policy{Strategy: backpressure.DegradeQuality, MaxRecords: 10, ReduceAck: true}})
		var mu sync.Mutex
		acks := map[int64]Ack{} // by offset, as publishers were told
		count := map[Ack]int{}
		var calls sync.WaitGroup
		for range 32 {
			calls.Go(func() {
				for range 100 {
					rec := &Record{Value: []byte{1}}
					if err := topic.Publish(context.Background(), rec); err != nil {
						t.Error(err)
					}
					mu.Lock()
					acks[rec.Offset] = rec.Ack
					count[rec.Ack]++
					mu.Unlock()
				}
			})
		}
		calls.Wait()
		if err := topic.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		m := metrics(t, b).Topics[0]
		if count[AckWritten] < 1000 || int(m.Reduced) != count[AckWritten] || count[AckWritten]+count[AckDurable] != 3200 {
			t.Errorf("%v, %d reduced by the metrics", count, m.Reduced)
		}
		same := func(what string, rec *Record) {
			t.Helper()
			if reduced := acks[rec.Offset] == AckWritten; reduced != (rec.Ack == AckWritten) || !reduced && rec.Ack != AckNone {
				t.Fatalf("%s: offset %d says %v, and its publisher was told %v", what, rec.Offset, rec.Ack, acks[rec.Offset])
			}
		}
		read := func(what string, topic *Topic) {
			t.Helper()
			n := 0
			for rec, err := range topic.Read(t.Context(), ReadOptions{}) {
				if err != nil {
					t.Fatal(err)
				}
				same(what, rec)
				n++
			}
			if n != len(acks) {
				t.Errorf("%s: %d records, want %d", what, n, len(acks))
			}
		}
		read("read", topic)
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		topic = ensure(t, open(t, dir, Options{}), "t", TopicConfig{})
		read("read after reopening", topic)
		for _, rec := range poll(t, subscribe(t, topic, "g", SubscribeOptions{}), len(acks)) {
			same("delivered to a group", rec)
		}
	})
}

func TestAdaptiveWaitsOutAMomentAndShedsWhatLasts(t *testing.T) {
	jam(t, backpressure.Policy{Strategy: backpressure.Adaptive}, Options{}, func(j *jammed) {
		j.publish(numbered("r", 12)...)
		if got := j.ended(ErrOverloaded); len(got) > 0 {
			j.Errorf("refused at once: %q", got)
		}
		time.Sleep(10 * backpressure.DefaultSmoothing) // the queue has been full for long
		j.publish("late")
		want(j.T, "refused", j.ended(ErrOverloaded), []string{"late"})
		want(j.T, "stored", j.settle(), slices.Concat([]string{"before", "first"}, numbered("r", 12)))
		j.account(Accounting{Accepted: 14, Stored: 14})
	})
}

func TestAPublisherWhoseContextWouldEndFirstIsRefusedAtOnce(t *testing.T) {
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprint("Late=", late), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				slow := vfs.InjectorFunc(func(op vfs.Op) vfs.Outcome {
					if op.Kind == vfs.OpDatasync {
						time.Sleep(time.Second) // of the bubble
					}
					return vfs.Outcome{}
				})
				b := open(t, t.TempDir(), Options{fs: vfs.NewFault(vfs.OS, slow)})
				topic := ensure(t, b, "t", TopicConfig{Backpressure: backpressure.Policy{MaxRecords: 1000, Late: late}})
				var calls sync.WaitGroup
				for range 8 {
					calls.Go(func() {
						recs := make([]*Record, 500)
						for i := range recs {
							recs[i] = &Record{Value: []byte{1}}
						}
						for range 10 {
							if err := topic.Publish(context.Background(), recs...); err != nil {
								t.Error(err)
							}
						}
					})
				}
				time.Sleep(20 * time.Second)
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
				defer cancel()
				at := time.Now()
				err := topic.Publish(ctx, &Record{Value: []byte{1}})
				waited := time.Since(at)
				var over *OverloadError
				switch {
				case late && (errors.As(err, &over) || !errors.Is(err, context.DeadlineExceeded) || waited < 10*time.Millisecond):
					t.Errorf("after %v: %v, want that it is tried", waited, err)
				case !late && (!errors.As(err, &over) || !over.Late || !errors.Is(err, ErrOverloaded) || !errors.Is(err, context.DeadlineExceeded) || waited > 0):
					t.Errorf("after %v: %v, want that it is refused at once", waited, err)
				case !late && (over.RetryAfter < 100*time.Millisecond || over.RetryAfter > 5*time.Second):
					t.Errorf("%v, though a round takes a second", over)
				}
				calls.Wait()
				if got := topic.Accounting(); got != (Accounting{Accepted: 40000, Stored: 40000}) {
					t.Errorf("%+v", got)
				}
			})
		})
	}
}

func TestTheStrategyIsChangedWhilePublishersWait(t *testing.T) {
	jam(t, backpressure.Policy{}, Options{}, func(j *jammed) {
		set := func(p backpressure.Policy) error {
			return j.b.UpdateTopic(j.Context(), "t", func(c *TopicConfig) error { c.Backpressure = p; return nil })
		}
		j.publish(numbered("r", 13)...)
		if err := set(backpressure.Policy{Strategy: backpressure.ShedLoad, MaxRecords: 10}); err != nil {
			j.Fatal(err)
		}
		j.publish("shed")
		want(j.T, "refused", j.ended(ErrOverloaded), []string{"shed"})
		if err := set(backpressure.Policy{Strategy: backpressure.DropOldest, MaxRecords: 12}); err != nil {
			j.Fatal(err)
		}
		synctest.Wait()
		want(j.T, "dropped", j.ended(ErrDropped), []string{"r0"}) // three waited, for two of them there is room now
		for name, p := range map[string]backpressure.Policy{
			"Warning above Critical":  {Warning: 0.9, Critical: 0.8},
			"a depth below nothing":   {MaxRecords: -1},
			"more than the broker's":  {MaxBytes: -1},
			"a strategy that is none": {Strategy: 77},
		} {
			var wrong *OptionError
			if err := set(p); !errors.As(err, &wrong) || !strings.HasPrefix(wrong.Field, "TopicConfig.Backpressure.") {
				j.Errorf("%s: %v", name, err)
			}
			if got := j.topic.Config().Backpressure; got.Strategy != backpressure.DropOldest || got.MaxRecords != 12 {
				j.Errorf("%s has been refused, and the configuration is %+v", name, got)
			}
		}
		want(j.T, "stored", j.settle(), slices.Concat([]string{"before", "first"}, numbered("r", 13)[1:]))
	})
}

func TestReconfigureChangesTheDepthOfQueues(t *testing.T) {
	jam(t, backpressure.Policy{Strategy: backpressure.ShedLoad, MaxRecords: 1000}, Options{Limits: Limits{MaxQueueDepth: 5}}, func(j *jammed) {
		j.publish(numbered("r", 6)...)
		want(j.T, "refused", j.ended(ErrOverloaded), []string{"r5"})
		l := j.b.Limits()
		l.MaxQueueDepth = 7
		if err := j.b.Reconfigure(j.Context(), l); err != nil {
			j.Fatal(err)
		}
		j.publish(numbered("s", 3)...)
		want(j.T, "refused", j.ended(ErrOverloaded), []string{"r5", "s2"})
	})
}

func TestMaxMemoryBytesBoundsTheQueuesOfAllPartitionsTogether(t *testing.T) {
	jam(t, backpressure.Policy{MaxRecords: 1000}, Options{Limits: Limits{MaxMemoryBytes: 1 << 20}}, func(j *jammed) {
		big := strings.Repeat("x", 100<<10)
		for range 12 { // of 100 KiB: ten of them fit into a MiB, whatever else is counted
			j.publish(big)
		}
		if s := j.topic.Backpressure(); s.Bytes > 1<<20 || s.Bytes < 1<<19 || s.State != backpressure.Shedding {
			j.Errorf("%+v", s)
		}
		other := ensure(j, j.b, "other", TopicConfig{Backpressure: backpressure.Policy{Strategy: backpressure.ShedLoad}})
		put := func() error {
			return other.PublishAsync(j.Context(), nil, &Record{Value: make([]byte, 100<<10)})
		}
		if err := put(); err != nil {
			j.Errorf("the one that is taken at once: %v", err)
		}
		synctest.Wait()
		if err := put(); err != nil {
			j.Errorf("an empty queue takes one: %v", err)
		}
		refused := false
		for n := 0; n < 100 && !refused; n++ { // its own appender is at work, and empties it now and then
			refused = errors.Is(put(), ErrOverloaded)
		}
		if !refused {
			j.Error("the memory is used up by another topic, and nothing is refused")
		}
		l := j.b.Limits()
		l.MaxMemoryBytes = 4 << 20
		if err := j.b.Reconfigure(j.Context(), l); err != nil {
			j.Fatal(err)
		}
		if err := put(); err != nil {
			j.Errorf("with more memory: %v", err)
		}
		if n := len(j.settle()); n != 14 {
			j.Errorf("%d records", n)
		}
	})
}

func TestBackpressureEventsComeOnceAndInOrder(t *testing.T) {
	jam(t, backpressure.Policy{}, Options{}, func(j *jammed) {
		var events []string
		cancel := j.b.OnBackpressureChanged(func(e BackpressureEvent) {
			if e.At != 1 || e.Time.IsZero() || e.Missed != 0 || e.Bytes == 0 && e.Records > 0 {
				j.Errorf("%+v", e)
			}
			events = append(events, fmt.Sprintf("%s: %v after %v at %d", e.Subsystem(), e.Current, e.Previous, e.Records))
		})
		j.publish(numbered("r", 12)...)
		if s := j.topic.Backpressure(); s.State != backpressure.Shedding || s.Records != 10 || s.Partition != 1 || s != j.b.Backpressure() {
			j.Errorf("%+v", s)
		}
		three := func(change string) []string {
			return []string{"topic t partition 1: " + change, "topic t: " + change, "broker: " + change}
		}
		want(j.T, "events", events, slices.Concat(three("warning after normal at 7"), three("critical after warning at 9"), three("shedding after critical at 10")))
		events = nil
		j.settle()
		time.Sleep(3 * backpressure.DefaultSettle)
		synctest.Wait()
		want(j.T, "events", events[max(0, len(events)-3):], three(strings.TrimPrefix(events[len(events)-1], "broker: ")))
		if last := events[len(events)-1]; !strings.Contains(last, "normal after") {
			j.Errorf("%q", events)
		}
		if s := j.b.Backpressure(); s.State != backpressure.Normal || s.Records != 0 {
			j.Errorf("%+v", s)
		}
		cancel()
	})
}

func TestListenersThatPanicOrNeverReturnHarmNobody(t *testing.T) {
	jam(t, backpressure.Policy{}, Options{}, func(j *jammed) {
		stuck := make(chan struct{})
		heard := 0
		j.b.OnBackpressureChanged(func(BackpressureEvent) { panic("a listener's bug") })
		j.b.OnBackpressureChanged(func(BackpressureEvent) { <-stuck })
		j.b.OnBackpressureChanged(func(BackpressureEvent) { heard++ })
		j.publish(numbered("r", 12)...)
		if heard != 9 {
			j.Errorf("%d events heard by the one that behaves, want 9", heard)
		}
		j.settle()
		close(stuck)
	})
}

func TestALoadThatSwingsAroundAThresholdMakesFewEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := vfs.InjectorFunc(func(op vfs.Op) vfs.Outcome {
			if op.Kind == vfs.OpDatasync {
				time.Sleep(3 * time.Millisecond) // of the bubble
			}
			return vfs.Outcome{}
		})
		b := open(t, t.TempDir(), Options{fs: vfs.NewFault(vfs.OS, slow)})
		topic := ensure(t, b, "t", TopicConfig{Backpressure: backpressure.Policy{MaxRecords: 100}})
		events := 0
		defer b.OnBackpressureChanged(func(e BackpressureEvent) {
			if e.Partition != 0 {
				events++
			}
		})()
		random := rand.New(rand.NewPCG(1, 1))
		for range 1000 { // rounds of 10 ms with 60 to 80 records: 70 begin Warning
			for range 60 + random.IntN(21) {
				if err := topic.PublishAsync(t.Context(), nil, &Record{Value: []byte{1}}); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(10 * time.Millisecond)
		}
		if events != 1 {
			t.Errorf("%d events in 10 s, want 1: it is never 5 points below for long", events)
		}
	})
}

func TestADiskThatFailsUnderPressureLeavesNothingUnaccounted(t *testing.T) {
	for strategy := range backpressure.Adaptive + 1 {
		t.Run(strategy.String(), func(t *testing.T) {
			faults := &switched{}
			b := open(t, t.TempDir(), Options{fs: vfs.NewFault(vfs.OS, faults)})
			topic := ensure(t, b, "t", TopicConfig{Backpressure: backpressure.Policy{Strategy: strategy, MaxRecords: 64}})
			var stored, dropped, unknown, refused atomic.Int64
			var producers sync.WaitGroup
			for range 8 {
				producers.Go(func() {
					for range 500 {
						switch err := topic.Publish(context.Background(), &Record{Value: []byte{1}}); {
						case err == nil:
							stored.Add(1)
						case errors.Is(err, ErrDropped):
							dropped.Add(1)
						case errors.Is(err, ErrOutcomeUnknown):
							unknown.Add(1)
						case errors.Is(err, ErrOverloaded), errors.Is(err, ErrPartitionFailed):
							refused.Add(1)
						default:
							t.Error(err)
						}
						if stored.Load() == 1000 {
							faults.set(vfs.FailFrom(1, syscall.EIO, vfs.OpIs(vfs.OpDatasync)))
						}
					}
				})
			}
			producers.Wait()
			faults.off()
			if got := stored.Load() + dropped.Load() + unknown.Load() + refused.Load(); got != 4000 {
				t.Errorf("%d outcomes of 4000", got)
			}
			got := topic.Accounting()
			want := Accounting{Accepted: got.Accepted, Stored: stored.Load(), Dropped: dropped.Load(), Unknown: unknown.Load()}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
