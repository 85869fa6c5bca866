package braid

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestPollReturnsAtLeastOneRecordAndAtMostMax(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{})
	publish(t, topic, numbered("r", 1000)...)
	sub := subscribe(t, topic, "g", SubscribeOptions{})
	for _, tc := range []struct{ max, want int }{{1, 1}, {7, 7}, {0, 500}, {-3, 492}} {
		recs, err := sub.Poll(t.Context(), tc.max)
		if err != nil || len(recs) != tc.want {
			t.Errorf("Poll(%d): %d records, %v; want %d", tc.max, len(recs), err, tc.want)
		}
	}
}

func TestPollWaitsForARecord(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{Partitions: 3})
	sub := subscribe(t, topic, "g", SubscribeOptions{})
	got := make(chan string)
	go func() {
		recs, err := sub.Poll(context.Background(), 10)
		if err != nil || len(recs) != 1 {
			got <- fmt.Sprint(len(recs), err)
			return
		}
		got <- string(recs[0].Value)
	}()
	publish(t, topic, "late")
	if s := <-got; s != "late" {
		t.Errorf("got %s, want late", s)
	}
}

func TestPollEndsWithItsContext(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{})
	sub := subscribe(t, topic, "g", SubscribeOptions{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if recs, err := sub.Poll(ctx, 1); len(recs) > 0 || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%d records, error %v; want none, context.DeadlineExceeded", len(recs), err)
	}
}

func TestOneReadingCallAtATime(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{})
	publish(t, topic, "a")
	sub := subscribe(t, topic, "g", SubscribeOptions{})
	for range sub.Records(t.Context()) {
		if _, err := sub.Poll(t.Context(), 1); !errors.Is(err, ErrBusy) {
			t.Errorf("Poll inside Records: error %v, want ErrBusy", err)
		}
		n := 0
		for _, err := range sub.Records(t.Context()) {
			if n++; !errors.Is(err, ErrBusy) {
				t.Errorf("Records inside Records: error %v, want ErrBusy", err)
			}
		}
		if n != 1 {
			t.Errorf("a refused Records yielded %d times, want once", n)
		}
		break
	}
	publish(t, topic, "b")
	if recs, err := sub.Poll(t.Context(), 1); err != nil || string(recs[0].Value) != "b" {
		t.Errorf("after breaking out: %q, %v; want b", texts(recs), err)
	}
}

func TestSubscribeRefusesNonsense(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{})
	for name, tc := range map[string]struct {
		group string
		opts  SubscribeOptions
		want  error
	}{
		"empty group":          {"", SubscribeOptions{}, ErrInvalidName},
		"dot dot":              {"..", SubscribeOptions{}, ErrInvalidName},
		"negative auto-commit": {"g", SubscribeOptions{AutoCommit: -1}, ErrInvalidOption},
		"poll interval":        {"g", SubscribeOptions{MaxPollInterval: 1}, ErrInvalidOption},
		"rebalance timeout":    {"g", SubscribeOptions{RebalanceTimeout: -1}, ErrInvalidOption},
		"absence":              {"g", SubscribeOptions{Absence: 48 * time.Hour}, ErrInvalidOption},
		"member name":          {"g", SubscribeOptions{Member: "a/b"}, ErrInvalidName},
		"negative offset":      {"g", SubscribeOptions{From: FromOffsets(map[PartitionID]int64{1: -1})}, ErrInvalidOption},
		"time out of range":    {"g", SubscribeOptions{From: FromTime(time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC))}, ErrInvalidOption},
	} {
		if _, err := topic.Subscribe(t.Context(), tc.group, tc.opts); !errors.Is(err, tc.want) {
			t.Errorf("%s: error %v, want %v", name, err, tc.want)
		}
	}
	if _, err := topic.Subscribe(canceled(), "g", SubscribeOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

func TestAGroupGoesOnWhereItCommitted(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, Options{})
	topic := ensure(t, b, "t", TopicConfig{})
	publish(t, topic, numbered("r", 10)...)
	sub := subscribe(t, topic, "g", SubscribeOptions{})
	recs := poll(t, sub, 6)
	if err := sub.Commit(t.Context(), recs[3]); err != nil { // cumulative: 0 to 3
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	topic, err := open(t, dir, Options{}).Topic("t")
	if err != nil {
		t.Fatal(err)
	}
	sub = subscribe(t, topic, "g", SubscribeOptions{})
	if diff := cmp.Diff(numbered("r", 10)[4:], texts(poll(t, sub, 6))); diff != "" {
		t.Error(diff)
	}
}

func TestCommitNeverGoesBackwards(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{})
	publish(t, topic, numbered("r", 10)...)
	sub := subscribe(t, topic, "g", SubscribeOptions{})
	recs := poll(t, sub, 10)
	for _, n := range []int{7, 2} {
		if err := sub.Commit(t.Context(), recs[n]); err != nil {
			t.Fatal(err)
		}
		if at := sub.Committed()[recs[0].Partition]; at != 8 {
			t.Errorf("after committing record %d the position is %d, want 8", n, at)
		}
	}
}

func TestCommitUsesOnlyWhereARecordWasDelivered(t *testing.T) {
	b := openMemory(t)
	topic, other := ensure(t, b, "t", TopicConfig{}), ensure(t, b, "other", TopicConfig{})
	publish(t, topic, numbered("r", 5)...)
	publish(t, other, numbered("o", 5)...)
	sub := subscribe(t, topic, "g", SubscribeOptions{})
	recs := poll(t, sub, 3)
	rec := recs[1].Clone()
	if err := other.Publish(t.Context(), rec); err != nil { // forwarding sets Topic, Partition, Offset
		t.Fatal(err)
	}
	if err := sub.Commit(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	if at := sub.Committed()[recs[0].Partition]; at != 2 {
		t.Errorf("position %d, want 2", at)
	}
}

func TestCommittingWhatWasNotDeliveredChangesNothing(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{})
	publish(t, topic, "a", "b")
	sub := subscribe(t, topic, "g", SubscribeOptions{})
	stranger := subscribe(t, topic, "h", SubscribeOptions{})
	mine, theirs := poll(t, sub, 1)[0], poll(t, stranger, 1)[0]
	for name, rec := range map[string]*Record{
		"nil": nil, "made up": {Value: []byte("x"), Topic: "t", Partition: mine.Partition}, "another group's": theirs,
	} {
		if err := sub.Commit(t.Context(), mine, rec); !errors.Is(err, ErrNotDelivered) {
			t.Errorf("%s: error %v, want ErrNotDelivered", name, err)
		}
	}
	if at := sub.Committed()[mine.Partition]; at != 0 {
		t.Errorf("position %d, want 0: all or nothing", at)
	}
	if err := sub.Commit(t.Context()); err != nil {
		t.Errorf("no records: %v", err)
	}
}

func TestCommitDeliveredCommitsWhatWasDelivered(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{Partitions: 3})
	for range 9 {
		publish(t, topic, "x")
	}
	sub := subscribe(t, topic, "g", SubscribeOptions{})
	poll(t, sub, 9)
	if err := sub.CommitDelivered(t.Context()); err != nil {
		t.Fatal(err)
	}
	for id, at := range sub.Committed() {
		if at != 3 {
			t.Errorf("partition %d: position %d, want 3", id, at)
		}
	}
}

func TestRewindDeliversAgainWhatWasNotCommitted(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{})
	publish(t, topic, numbered("r", 6)...)
	sub := subscribe(t, topic, "g", SubscribeOptions{})
	recs := poll(t, sub, 5)
	if err := sub.Commit(t.Context(), recs[1]); err != nil {
		t.Fatal(err)
	}
	if err := sub.Rewind(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(numbered("r", 6)[2:], texts(poll(t, sub, 4))); diff != "" {
		t.Error(diff)
	}
}

func TestSeekMovesReadingAndNotThePosition(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{})
	recs := publish(t, topic, numbered("r", 6)...)
	sub := subscribe(t, topic, "g", SubscribeOptions{})
	poll(t, sub, 6)
	if err := sub.CommitDelivered(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		to   Position
		want string
	}{
		{FromEarliest(), "r0"},
		{FromOffsets(map[PartitionID]int64{recs[0].Partition: 4}), "r4"},
		{FromTime(time.Now().Add(-time.Hour)), "r0"},
	} {
		if err := sub.Seek(t.Context(), tc.to); err != nil {
			t.Fatal(err)
		}
		if got := texts(poll(t, sub, 1))[0]; got != tc.want {
			t.Errorf("after seeking to %v: %s, want %s", tc.to, got, tc.want)
		}
		if at := sub.Committed()[recs[0].Partition]; at != 6 {
			t.Errorf("position %d, want 6", at)
		}
	}
	if err := sub.Seek(t.Context(), FromLatest()); err != nil {
		t.Fatal(err)
	}
	publish(t, topic, "new")
	if got := texts(poll(t, sub, 1))[0]; got != "new" {
		t.Errorf("after seeking to the latest: %s, want new", got)
	}
}

func TestASeekOutOfRangeIsReportedUntilTheNextSeek(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{})
	id := publish(t, topic, "a", "b")[0].Partition
	sub := subscribe(t, topic, "g", SubscribeOptions{})
	if err := sub.Seek(t.Context(), FromOffsets(map[PartitionID]int64{id: 50})); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, err := sub.Poll(t.Context(), 1)
		var oor *OffsetOutOfRangeError
		if !errors.Is(err, ErrOffsetOutOfRange) || !errors.As(err, &oor) || oor.Offset != 50 || oor.End != 2 || oor.Topic != "t" || oor.Partition != id {
			t.Errorf("error %v (%+v), want offset 50 out of range", err, oor)
		}
	}
	if err := sub.Seek(t.Context(), FromOffsets(map[PartitionID]int64{id: 1})); err != nil {
		t.Fatal(err)
	}
	if got := texts(poll(t, sub, 1))[0]; got != "b" {
		t.Errorf("got %s, want b", got)
	}
}

func TestLatestIsFoundOutOnce(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, Options{})
	topic := ensure(t, b, "t", TopicConfig{})
	publish(t, topic, "before")
	subscribe(t, topic, "g", SubscribeOptions{From: FromLatest()}).Close()
	publish(t, topic, "while nobody was there")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	topic, err := open(t, dir, Options{}).Topic("t")
	if err != nil {
		t.Fatal(err)
	}
	sub := subscribe(t, topic, "g", SubscribeOptions{From: FromLatest()})
	if got := texts(poll(t, sub, 1))[0]; got != "while nobody was there" {
		t.Errorf("got %q: the group began anew at the latest record", got)
	}
}

func TestManualCommitLeavesThePositionAloneOnClose(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{})
	publish(t, topic, "a", "b")
	sub := subscribe(t, topic, "g", SubscribeOptions{})
	poll(t, sub, 2)
	if err := sub.Close(); err != nil {
		t.Fatal(err)
	}
	if got := texts(poll(t, subscribe(t, topic, "g", SubscribeOptions{}), 1))[0]; got != "a" {
		t.Errorf("got %s, want a again", got)
	}
}

func TestAutoCommitOnCloseCommitsOnlyWhatIsFinished(t *testing.T) {
	for name, tc := range map[string]struct {
		use  func(*testing.T, *Subscription)
		want string
	}{
		"records of the last Poll are not": {func(t *testing.T, s *Subscription) { poll(t, s, 2); poll(t, s, 1) }, "r2"},
		"the record a loop broke out of is not": {func(t *testing.T, s *Subscription) {
			n := 0
			for _, err := range s.Records(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
				if n++; n == 4 {
					break
				}
			}
		}, "r3"},
		"nothing read": {func(*testing.T, *Subscription) {}, "r0"},
	} {
		t.Run(name, func(t *testing.T) {
			topic := ensure(t, openMemory(t), "t", TopicConfig{})
			publish(t, topic, numbered("r", 8)...)
			sub := subscribe(t, topic, "g", SubscribeOptions{AutoCommit: time.Hour})
			tc.use(t, sub)
			if err := sub.Close(); err != nil {
				t.Fatal(err)
			}
			if got := texts(poll(t, subscribe(t, topic, "g", SubscribeOptions{}), 1))[0]; got != tc.want {
				t.Errorf("the next member begins at %s, want %s", got, tc.want)
			}
		})
	}
}

func TestAutoCommitCommitsFromTimeToTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := Open("", Options{InMemory: true})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		topic := ensure(t, b, "t", TopicConfig{})
		id := publish(t, topic, "a", "b", "c")[0].Partition
		sub, err := topic.Subscribe(t.Context(), "g", SubscribeOptions{AutoCommit: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		defer sub.Close()
		poll(t, sub, 2)
		poll(t, sub, 1) // finishes the first two
		if at := sub.Committed()[id]; at != 0 {
			t.Errorf("position %d before a second has passed, want 0", at)
		}
		time.Sleep(time.Second + time.Millisecond) // of the test's own clock
		synctest.Wait()
		if at := sub.Committed()[id]; at != 2 {
			t.Errorf("position %d after a second, want 2", at)
		}
	})
}

func TestRecordsEndsWithOneErrorAndBreakingKeepsTheMembership(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{})
	publish(t, topic, numbered("r", 3)...)
	sub := subscribe(t, topic, "g", SubscribeOptions{})
	for rec, err := range sub.Records(t.Context()) {
		if err != nil || string(rec.Value) != "r0" {
			t.Errorf("got %v, %v; want r0", rec, err)
		}
		break
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got []string
	for rec, err := range sub.Records(ctx) {
		if err != nil {
			got = append(got, err.Error())
			continue
		}
		if rec == nil {
			t.Fatal("neither record nor error")
		}
		if got = append(got, string(rec.Value)); len(got) == 2 {
			cancel()
		}
	}
	if diff := cmp.Diff([]string{"r1", "r2", context.Canceled.Error()}, got); diff != "" {
		t.Error(diff)
	}
}

func TestClosingEndsAWaitingPoll(t *testing.T) {
	for name, end := range map[string]func(*Broker, *Subscription) error{
		"subscription": func(_ *Broker, s *Subscription) error { return s.Close() },
		"broker":       func(b *Broker, _ *Subscription) error { return b.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			b := openMemory(t)
			topic := ensure(t, b, "t", TopicConfig{})
			sub := subscribe(t, topic, "g", SubscribeOptions{})
			got := make(chan error)
			go func() {
				_, err := sub.Poll(context.Background(), 1)
				got <- err
			}()
			if err := end(b, sub); err != nil {
				t.Fatal(err)
			}
			if err := <-got; !errors.Is(err, ErrClosed) {
				t.Errorf("error %v, want ErrClosed", err)
			}
			if err := sub.CommitDelivered(t.Context()); !errors.Is(err, ErrClosed) {
				t.Errorf("commit after close: %v, want ErrClosed", err)
			}
			if err := sub.Rewind(); !errors.Is(err, ErrClosed) {
				t.Errorf("rewind after close: %v, want ErrClosed", err)
			}
		})
	}
}

func TestDeletingTheTopicEndsItsConsumers(t *testing.T) {
	b := openMemory(t)
	topic := ensure(t, b, "t", TopicConfig{})
	sub := subscribe(t, topic, "g", SubscribeOptions{})
	got := make(chan error)
	go func() {
		_, err := sub.Poll(context.Background(), 1)
		got <- err
	}()
	if err := b.DeleteTopic(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	if err := <-got; !errors.Is(err, ErrTopicNotFound) {
		t.Errorf("error %v, want ErrTopicNotFound", err)
	}
	if _, err := topic.Subscribe(t.Context(), "h", SubscribeOptions{}); !errors.Is(err, ErrTopicNotFound) {
		t.Errorf("subscribe: %v, want ErrTopicNotFound", err)
	}
}

func TestDeliveredRecordsOwnTheirMemory(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{})
	const n = 5000
	publish(t, topic, numbered("a rather long value ", n)...)
	sub := subscribe(t, topic, "g", SubscribeOptions{})
	var kept []*Record
	for len(kept) < n {
		recs, err := sub.Poll(t.Context(), 33)
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, recs...)
	}
	if diff := cmp.Diff(numbered("a rather long value ", n), texts(kept)); diff != "" {
		t.Error(diff)
	}
}

// Publishing what was delivered sets its Ack, and the memory is used again.
func TestAReusedRecordDoesNotKeepTheAckOfHavingBeenForwarded(t *testing.T) {
	b := openMemory(t)
	from, to := ensure(t, b, "from", TopicConfig{}), ensure(t, b, "to", TopicConfig{})
	publish(t, from, numbered("r", 3)...)
	sub := subscribe(t, from, "g", SubscribeOptions{ReuseBuffers: true})
	for range 3 {
		rec := poll(t, sub, 1)[0]
		if rec.Ack != AckNone {
			t.Errorf("offset %d is delivered with %v", rec.Offset, rec.Ack)
		}
		if err := to.Publish(t.Context(), rec); err != nil || rec.Ack != AckMemory {
			t.Errorf("%v, %v", rec.Ack, err)
		}
	}
}

func TestReuseBuffersDeliversTheSame(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{Partitions: 2})
	for i := range 40 {
		publish(t, topic, numbered(fmt.Sprint("call ", i, " value "), 300)...)
	}
	count := map[string]int{}
	sub := subscribe(t, topic, "g", SubscribeOptions{ReuseBuffers: true})
	total := 0
	for total < 6000 {
		recs, err := sub.Poll(t.Context(), 77)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range recs {
			count[string(r.Value)]++
		}
		total += len(recs)
	}
	for rec, err := range sub.Records(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		count[string(rec.Value)]++
		if total++; total == 12000 {
			break
		}
	}
	for i := range 40 {
		for _, v := range numbered(fmt.Sprint("call ", i, " value "), 300) {
			if count[v] != 1 {
				t.Fatalf("%q delivered %d times, want once", v, count[v])
			}
		}
	}
}
