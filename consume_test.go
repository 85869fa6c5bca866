package braid

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// keyed publishes values that are each "key:anything".
func keyed(t testing.TB, topic *Topic, values ...string) {
	t.Helper()
	for _, v := range values {
		key, _, _ := strings.Cut(v, ":")
		if err := topic.Publish(t.Context(), &Record{Key: []byte(key), Value: []byte(v)}); err != nil {
			t.Fatal(err)
		}
	}
}

// consume runs Consume until stop is called, which fails the test unless Consume returns want.
func consume(t testing.TB, topic *Topic, opts ConsumeOptions, handle Handler) (stop func(want error)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- topic.Consume(ctx, "g", opts, handle) }()
	return func(want error) {
		t.Helper()
		cancel()
		if err := <-ended; !errors.Is(err, want) {
			t.Errorf("Consume returned %v, want %v", err, want)
		}
	}
}

// left returns what a group has not committed.
func left(t testing.TB, topic *Topic) []string {
	t.Helper()
	sub := subscribe(t, topic, "g", SubscribeOptions{})
	defer sub.Close()
	lags, err := sub.Lag(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n := int64(0)
	for _, l := range lags {
		n += l.Records
	}
	if n == 0 {
		return []string{}
	}
	return texts(poll(t, sub, int(n)))
}

func TestAKeyIsSerialAndOthersGoOnBesideIt(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{})
	keyed(t, topic, "a:0", "a:1", "b:0", "b:1")
	other, all := make(chan struct{}), make(chan struct{})
	var mu sync.Mutex
	var got []string
	stop := consume(t, topic, ConsumeOptions{Concurrency: 2}, func(_ context.Context, rec *Record) error {
		switch string(rec.Value) {
		case "a:0":
			<-other // until the last of the other key has been handled
		case "b:1":
			close(other)
		}
		mu.Lock()
		defer mu.Unlock()
		if got = append(got, string(rec.Value)); len(got) == 4 {
			close(all)
		}
		return nil
	})
	<-all
	stop(nil)
	if diff := cmp.Diff([]string{"b:0", "a:0", "a:1"}, remove(got, "b:1")); diff != "" {
		t.Errorf("order: %s", diff)
	}
	if diff := cmp.Diff([]string{}, left(t, topic)); diff != "" {
		t.Errorf("not committed: %s", diff)
	}
}

func remove(from []string, what string) []string {
	var out []string
	for _, s := range from {
		if s != what {
			out = append(out, s)
		}
	}
	return out
}

func TestThePositionStaysBeforeWhatIsNotFinished(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{})
	keyed(t, topic, "a:0", "b:0", "c:0")
	done := make(chan struct{}, 3)
	stop := consume(t, topic, ConsumeOptions{Concurrency: 3, DrainTimeout: time.Millisecond, CommitInterval: time.Millisecond},
		func(ctx context.Context, rec *Record) error {
			if string(rec.Value) == "b:0" {
				<-ctx.Done()
				return ctx.Err()
			}
			done <- struct{}{}
			return nil
		})
	<-done
	<-done
	stop(context.DeadlineExceeded)
	if diff := cmp.Diff([]string{"b:0", "c:0"}, left(t, topic)); diff != "" {
		t.Errorf("not committed: %s", diff)
	}
}

func TestAFailedRecordIsTriedAgainLaterAndThoseOfItsKeyWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := Open("", Options{InMemory: true})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		topic := ensure(t, b, "t", TopicConfig{})
		keyed(t, topic, "a:0", "a:1", "b:0")
		begin := time.Now()
		var log []string
		var waits []time.Duration
		failures := 0
		stop := consume(t, topic, ConsumeOptions{MinBackoff: time.Second, MaxBackoff: 3 * time.Second, OnError: func(rec *Record, attempts int, err error) {
			if attempts != failures || err.Error() != "not yet" || string(rec.Value) != "a:0" {
				t.Errorf("told of %s, %d attempts, %v", rec.Value, attempts, err)
			}
		}}, func(_ context.Context, rec *Record) error {
			if string(rec.Value) == "a:0" && failures < 4 {
				failures++
				waits = append(waits, time.Since(begin))
				begin = time.Now()
				return errors.New("not yet")
			}
			log = append(log, string(rec.Value))
			return nil
		})
		time.Sleep(time.Minute)
		synctest.Wait()
		stop(nil)
		if diff := cmp.Diff([]string{"b:0", "a:0", "a:1"}, log); diff != "" {
			t.Errorf("order: %s", diff)
		}
		for i, want := range []time.Duration{0, time.Second, 2 * time.Second, 3 * time.Second} {
			if waits[i] > want || waits[i] < want*4/5 {
				t.Errorf("wait %d: %v, want up to %v", i, waits[i], want)
			}
		}
	})
}

func TestWhatFailsTooOftenGoesToTheDeadLettersOnce(t *testing.T) {
	b := open(t, t.TempDir(), Options{})
	topic := ensure(t, b, "t", TopicConfig{})
	keyed(t, topic, "a:0", "bad:0", "a:1")
	if err := topic.Publish(t.Context(), &Record{Key: []byte("bad"), Value: []byte("bad:1"), Headers: []Header{{Key: "h", Value: []byte("v")}}}); err != nil {
		t.Fatal(err)
	}
	var handled atomic.Int32
	var panics atomic.Int32
	all := make(chan struct{})
	stop := consume(t, topic, ConsumeOptions{MaxAttempts: 2, DeadLetter: "dead", MinBackoff: time.Microsecond, OnError: func(rec *Record, _ int, err error) {
		var p *PanicError
		if errors.As(err, &p) && p.Value == "broken" && len(p.Stack) > 0 {
			panics.Add(1)
		}
	}}, func(_ context.Context, rec *Record) error {
		rec.Key, rec.Value = nil, nil // it is the handler's own
		if handled.Add(1) == 6 {
			close(all)
		}
		if rec.Offset%2 == 1 {
			panic("broken")
		}
		return nil
	})
	<-all
	stop(nil)
	if n := panics.Load(); n != 4 {
		t.Errorf("told of %d panics, want 4", n)
	}
	if diff := cmp.Diff([]string{}, left(t, topic)); diff != "" {
		t.Errorf("not committed: %s", diff)
	}
	dead, err := b.Topic("dead")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for rec, err := range dead.Read(t.Context(), ReadOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		line := fmt.Sprintf("%s=%s", rec.Key, rec.Value)
		for _, h := range rec.Headers {
			line += fmt.Sprintf(" %s=%s", strings.TrimPrefix(h.Key, "braid-dead-"), h.Value)
		}
		got = append(got, line)
	}
	want := []string{
		"bad=bad:0 topic=t group=g partition=1 offset=1 attempts=2 error=panic: broken",
		"bad=bad:1 h=v topic=t group=g partition=1 offset=3 attempts=2 error=panic: broken",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("dead letters: %s", diff)
	}
}

func TestADeadLetterThatFitsIntoNoTransactionEndsConsume(t *testing.T) {
	b := open(t, "", Options{InMemory: true, Limits: Limits{MaxTxnBytes: 64 << 10}})
	topic := ensure(t, b, "t", TopicConfig{})
	if err := topic.Publish(t.Context(), &Record{Value: make([]byte, 100<<10)}); err != nil {
		t.Fatal(err)
	}
	err := topic.Consume(t.Context(), "g", ConsumeOptions{MaxAttempts: 1, DeadLetter: "dead", CommitInterval: time.Millisecond},
		func(context.Context, *Record) error { return errors.New("no") })
	if !errors.Is(err, ErrLimit) {
		t.Errorf("error %v, want ErrLimit", err)
	}
}

func TestConsumeRefusesNonsense(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{})
	for field, o := range map[string]ConsumeOptions{
		"ConsumeOptions.Members":        {Members: -1},
		"ConsumeOptions.Concurrency":    {Concurrency: -1},
		"ConsumeOptions.Prefetch":       {Prefetch: -1},
		"ConsumeOptions.MaxAttempts":    {MaxAttempts: 3},
		"ConsumeOptions.DeadLetter":     {DeadLetter: "t", MaxAttempts: 1},
		"ConsumeOptions.MinBackoff":     {MinBackoff: -1},
		"ConsumeOptions.MaxBackoff":     {MinBackoff: time.Second, MaxBackoff: time.Millisecond},
		"ConsumeOptions.CommitInterval": {CommitInterval: -1},
		"ConsumeOptions.DrainTimeout":   {DrainTimeout: -1},
	} {
		var wrong *OptionError
		err := topic.Consume(t.Context(), "g", o, func(context.Context, *Record) error { return nil })
		if !errors.As(err, &wrong) || wrong.Field != field {
			t.Errorf("error %v, want one about %s", err, field)
		}
	}
	if err := topic.Consume(t.Context(), "..", ConsumeOptions{Members: 2}, nil); !errors.Is(err, ErrInvalidName) {
		t.Errorf("error %v, want ErrInvalidName", err)
	}
}

func TestConsumeDrainsWhenItIsToEnd(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{})
	keyed(t, topic, "a:0", "a:1")
	begun, finish := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- topic.Consume(ctx, "g", ConsumeOptions{}, func(ctx context.Context, rec *Record) error {
			close(begun) // a second call would panic
			<-finish
			return ctx.Err()
		})
	}()
	<-begun
	cancel()
	select {
	case err := <-ended:
		t.Fatalf("it did not wait for the handler: %v", err)
	default:
	}
	close(finish)
	if err := <-ended; err != nil {
		t.Errorf("Consume returned %v", err)
	}
	if diff := cmp.Diff([]string{"a:1"}, left(t, topic)); diff != "" {
		t.Errorf("not committed: %s", diff)
	}
}

func TestConsumeEndsWithWhatCannotBeMended(t *testing.T) {
	b := openMemory(t)
	topic := ensure(t, b, "t", TopicConfig{Partitions: 3})
	ended := make(chan error, 1)
	publish(t, topic, "x")
	handled := make(chan struct{})
	go func() {
		ended <- topic.Consume(t.Context(), "g", ConsumeOptions{Members: 3}, func(context.Context, *Record) error { close(handled); return nil })
	}()
	<-handled
	if err := b.DeleteTopic(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, ErrTopicNotFound) {
		t.Errorf("error %v, want ErrTopicNotFound", err)
	}
}

// A handler that is at work when its partition is to go to another member finishes, and its record is not handled again.
func TestAHandOverWaitsForRunningHandlers(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{Partitions: 2})
	publishTo(t, topic, 2, 2)
	begun, finish := make(chan struct{}, 2), make(chan struct{})
	var calls atomic.Int32
	stop := consume(t, topic, ConsumeOptions{}, func(context.Context, *Record) error {
		calls.Add(1)
		begun <- struct{}{}
		<-finish
		return nil
	})
	<-begun
	sub := subscribe(t, topic, "g", SubscribeOptions{})
	got := make(chan []*Record)
	go func() {
		recs, _ := sub.Poll(t.Context(), 0)
		got <- recs
	}()
	select {
	case <-got:
		t.Fatal("the partition was handed over while its handler ran")
	case <-time.After(20 * time.Millisecond):
	}
	close(finish)
	if recs := <-got; len(recs) != 1 || recs[0].Offset != 1 {
		t.Errorf("%d records went to the other member, want the one that had not begun", len(recs))
	}
	stop(nil)
	if n := calls.Load(); n != 1 {
		t.Errorf("%d handlers ran, want 1", n)
	}
}

func TestManyMembersHandleEverythingInOrder(t *testing.T) {
	const keys, perKey = 40, 50
	b := open(t, t.TempDir(), Options{})
	topic := ensure(t, b, "t", TopicConfig{Partitions: 6})
	var mu sync.Mutex
	next := map[string]byte{}
	done := 0
	all := make(chan struct{})
	handle := func(ctx context.Context, rec *Record) error {
		if rand.IntN(10) == 0 {
			panic("now and then")
		}
		mu.Lock()
		defer mu.Unlock()
		switch want := next[string(rec.Key)]; {
		case rec.Value[0] > want:
			t.Errorf("key %s: %d came before %d", rec.Key, rec.Value[0], want)
		case rec.Value[0] == want: // and not once more
			next[string(rec.Key)]++
			if done++; done == keys*perKey {
				close(all)
			}
		}
		return nil
	}
	opts := ConsumeOptions{Members: 3, Concurrency: 4, Prefetch: 50, MinBackoff: time.Microsecond, MaxBackoff: time.Millisecond,
		CommitInterval: time.Millisecond, RebalanceTimeout: time.Second, OnError: func(*Record, int, error) {}}
	ctx, finish := context.WithCancel(t.Context())
	var churn sync.WaitGroup
	for range 2 {
		churn.Go(func() {
			for ctx.Err() == nil {
				life, end := context.WithTimeout(ctx, time.Duration(1+rand.IntN(30))*time.Millisecond)
				if err := topic.Consume(life, "g", opts, handle); err != nil && life.Err() == nil {
					t.Error(err)
				}
				end()
			}
		})
	}
	for i := range perKey {
		recs := make([]*Record, keys)
		for k := range recs {
			recs[k] = &Record{Key: fmt.Appendf(nil, "key-%d", k), Value: []byte{byte(i)}}
		}
		if err := topic.Publish(t.Context(), recs...); err != nil {
			t.Fatal(err)
		}
	}
	<-all
	finish()
	churn.Wait()
}

func TestPrefetchBoundsWhatOneFailureHoldsUp(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{})
	keyed(t, topic, "bad:0", "a:1", "a:2", "a:3", "a:4", "a:5")
	var handled, failed atomic.Int32
	mended, all := make(chan struct{}), make(chan struct{})
	stop := consume(t, topic, ConsumeOptions{Prefetch: 3, MinBackoff: time.Microsecond, MaxBackoff: time.Microsecond, CommitInterval: time.Millisecond,
		OnError: func(*Record, int, error) {
			if failed.Add(1) == 100 {
				if n := handled.Load(); n > 2 {
					t.Errorf("%d records behind the one that fails were handled, want 2", n)
				}
				close(mended)
			}
		}}, func(_ context.Context, rec *Record) error {
		if string(rec.Value) == "bad:0" {
			select {
			case <-mended:
				return nil
			default:
				return errors.New("not yet")
			}
		}
		if handled.Add(1) == 5 {
			close(all)
		}
		return nil
	})
	<-all
	stop(nil)
}

// Records that were finished counted against Prefetch until the next CommitInterval, so that a member with the default settings handled 10,000 a second,
// with next to nothing to do.
func TestWhatIsFinishedMakesRoomBeforeTheNextCommitIsDue(t *testing.T) {
	for _, prefetch := range []int{1, 2, 7, 1000} {
		synctest.Test(t, func(t *testing.T) {
			topic := ensure(t, openMemory(t), "t", TopicConfig{Partitions: 3})
			n := 20 * prefetch
			recs := make([]*Record, n)
			for i := range recs {
				recs[i] = &Record{Key: fmt.Append(nil, i), Value: []byte("x")}
			}
			if err := topic.Publish(t.Context(), recs...); err != nil {
				t.Fatal(err)
			}
			all := make(chan struct{})
			var handled atomic.Int64
			start := time.Now()
			stop := consume(t, topic, ConsumeOptions{Prefetch: prefetch, Concurrency: 2, CommitInterval: time.Hour}, func(context.Context, *Record) error {
				if handled.Add(1) == int64(n) {
					close(all)
				}
				return nil
			})
			<-all
			if took := time.Since(start); took > time.Minute {
				t.Errorf("prefetch %d: %d records took %v", prefetch, n, took)
			}
			stop(nil)
			if got := left(t, topic); len(got) > 0 {
				t.Errorf("prefetch %d: %d records are not committed", prefetch, len(got))
			}
		})
	}
}

func TestADeadLetterThatIsTooLargeWithItsHeadersGoesWithout(t *testing.T) {
	b := open(t, "", Options{InMemory: true, Limits: Limits{MaxRecordBytes: 1024}})
	topic := ensure(t, b, "t", TopicConfig{})
	if err := topic.Publish(t.Context(), &Record{Value: make([]byte, 1024)}); err != nil {
		t.Fatal(err)
	}
	failed := make(chan struct{})
	stop := consume(t, topic, ConsumeOptions{MaxAttempts: 1, DeadLetter: "dead", OnError: func(*Record, int, error) { close(failed) }},
		func(context.Context, *Record) error { return errors.New("no") })
	<-failed
	stop(nil)
	dead, err := b.Topic("dead")
	if err != nil {
		t.Fatal(err)
	}
	if n := len(values(t, dead, ReadOptions{})); n != 1 {
		t.Errorf("%d dead letters", n)
	}
}

func TestAHandlerLearnsThatItsPartitionIsLost(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{Partitions: 2})
	publishTo(t, topic, 2, 1)
	begun := make(chan struct{})
	stop := consume(t, topic, ConsumeOptions{RebalanceTimeout: 10 * time.Millisecond}, func(ctx context.Context, _ *Record) error {
		close(begun)
		<-ctx.Done() // it would go on for ever
		return ctx.Err()
	})
	<-begun
	sub := subscribe(t, topic, "g", SubscribeOptions{})
	if recs := poll(t, sub, 1); recs[0].Partition != 2 {
		t.Errorf("got a record of partition %d", recs[0].Partition)
	}
	stop(nil)
}
