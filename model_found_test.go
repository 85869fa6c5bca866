package braid

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"
)

// What package fuzz/model has found.

// The files of a merged partition named its parents in the order of their ranges, the layout in that of their ids, and Open took the one for the
// files of another partition.
func TestPartitionsMergeAlsoWhereTheUpperOneIsTheOlder(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, Options{})
	topic := ensure(t, b, "t", TopicConfig{Partitions: 2})
	children, err := topic.Split(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := topic.Merge(t.Context(), children[1], 2); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, dir, Options{})
}

// A partition that was split or merged before it had any record is at its end from the beginning, and was taken for finished while what it continues
// was not: what came after it was delivered first.
func TestKeysKeepTheirOrderOverPartitionsThatNeverHadARecord(t *testing.T) {
	b := openMemory(t)
	topic := ensure(t, b, "t", TopicConfig{})
	key := []byte("k")
	put := func(value string) {
		t.Helper()
		if err := topic.Publish(t.Context(), &Record{Key: key, Value: []byte(value)}); err != nil {
			t.Fatal(err)
		}
	}
	put("before")
	children, err := topic.Split(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	last, err := topic.Merge(t.Context(), children[0], children[1])
	if err != nil {
		t.Fatal(err)
	}
	put("after")
	want := []string{"before", "after"}

	if got := values(t, topic, ReadOptions{Partitions: []PartitionID{1, children[0], children[1], last}}); !slices.Equal(got, want) {
		t.Errorf("Read: %q", got)
	}
	first, second := subscribe(t, topic, "g", SubscribeOptions{}), subscribe(t, topic, "g", SubscribeOptions{})
	var reader *Subscription
	for _, s := range []*Subscription{first, second, first, second} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		recs, err := s.Poll(ctx, 1)
		cancel()
		switch {
		case err != nil:
		case reader == nil && texts(recs)[0] == "before":
			reader = s
		case reader != s:
			t.Fatalf("%q before what comes before is committed", texts(recs))
		}
	}
	if err := reader.Rewind(); err != nil {
		t.Fatal(err)
	}
	got := poll(t, reader, 2)
	if !slices.Equal(texts(got), want) {
		t.Errorf("after Rewind: %q", texts(got))
	}
	if err := reader.Commit(t.Context(), got[1]); err != nil {
		t.Fatal(err)
	}
	g, err := topic.Group("g")
	if err != nil {
		t.Fatal(err)
	}
	at, err := g.Export(t.Context())
	if err != nil || at.Offsets[1] != 1 || at.Offsets[last] != 1 {
		t.Errorf("positions %v, %v, want that all is committed", at, err)
	}
}

// Who had records waiting when the topic was deleted was told that the broker was closed.
func TestReadersOfADeletedTopicAreToldSoAlsoWhereRecordsWait(t *testing.T) {
	b := openMemory(t)
	topic := ensure(t, b, "t", TopicConfig{})
	publish(t, topic, "r")
	sub := subscribe(t, topic, "g", SubscribeOptions{})
	if err := b.DeleteTopic(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	if recs, err := sub.Poll(t.Context(), 1); !errors.Is(err, ErrTopicNotFound) {
		t.Errorf("Poll: %q, error %v", texts(recs), err)
	}
	for rec, err := range topic.Read(t.Context(), ReadOptions{}) {
		if !errors.Is(err, ErrTopicNotFound) {
			t.Errorf("Read: %v, error %v", rec, err)
		}
	}
}

// A member that had moved its reading back into a partition, and then committed all of it, waited for ever for what continues it.
func TestAMemberGoesOnBehindAPartitionThatItCommittedAfterARewind(t *testing.T) {
	b := openMemory(t)
	topic := ensure(t, b, "t", TopicConfig{})
	publish(t, topic, "1", "2")
	children, err := topic.Split(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := topic.Merge(t.Context(), children[0], children[1]); err != nil {
		t.Fatal(err)
	}
	publish(t, topic, "3", "4")
	sub := subscribe(t, topic, "g", SubscribeOptions{})
	recs := poll(t, sub, 4)
	if err := sub.Rewind(); err != nil {
		t.Fatal(err)
	}
	if err := sub.Commit(t.Context(), recs[2]); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for last := ""; last != "4"; {
		recs, err := sub.Poll(ctx, 1)
		if err != nil {
			t.Fatal(err)
		}
		last = texts(recs)[0]
	}
}

// A topic that was made with more partitions than are allowed by now could not be updated any more, whatever it has now.
func TestATopicThatBeganWithMoreThanMaxPartitionsCanBeUpdated(t *testing.T) {
	b := openMemory(t)
	topic := ensure(t, b, "t", TopicConfig{Partitions: 2})
	if _, err := topic.Merge(t.Context(), 1, 2); err != nil {
		t.Fatal(err)
	}
	if err := b.Reconfigure(t.Context(), Limits{MaxPartitions: 1}); err != nil {
		t.Fatal(err)
	}
	update := func(change func(*TopicConfig)) error {
		return b.UpdateTopic(t.Context(), "t", func(c *TopicConfig) error {
			change(c)
			return nil
		})
	}
	if err := update(func(c *TopicConfig) { c.RetentionBytes = 1 << 20 }); err != nil {
		t.Error(err)
	}
	if err := update(func(c *TopicConfig) { c.Partitions = 1 }); !errors.Is(err, ErrInvalidOption) {
		t.Errorf("another number of partitions: error %v", err)
	}
	if err := update(func(c *TopicConfig) { c.AutoScale = true }); !errors.Is(err, ErrInvalidOption) {
		t.Errorf("AutoScale with at least 2 of at most 1: error %v", err)
	}
	if err := update(func(c *TopicConfig) { c.AutoScale, c.Scaling.MinPartitions = true, 1 }); err != nil {
		t.Error(err)
	}
}

// With the last partition in which a group had a position, the group was forgotten too: it began anew, at the latest record, and partitions that it had
// not read were forgotten.
func TestAGroupOutlivesThePartitionsInWhichItHasPositions(t *testing.T) {
	b := openMemory(t)
	topic := ensure(t, b, "t", TopicConfig{})
	latest := SubscribeOptions{From: FromLatest()}
	if err := subscribe(t, topic, "g", latest).Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := topic.Split(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	publish(t, topic, "r")
	if err := topic.dropDrained(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := len(topic.Partitions()); got != 2 {
		t.Fatalf("%d partitions, want 2: the first is drained, and the group has passed it", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	recs, err := subscribe(t, topic, "g", latest).Poll(ctx, 1)
	if err != nil || texts(recs)[0] != "r" {
		t.Errorf("poll: %q, %v", texts(recs), err)
	}
}

// A member that had moved its reading back into a partition was delivered no more of it as soon as the partition was split or merged, when it had
// committed all of it before; or, of one that was split before, as soon as it committed what it had been delivered before.
func TestAMemberReadsAgainWhatItMovedBackToWhateverEndsThere(t *testing.T) {
	split := func(t *testing.T, topic *Topic, _ *Subscription, _ []*Record) {
		if _, err := topic.Split(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
	}
	commit := func(t *testing.T, _ *Topic, sub *Subscription, recs []*Record) {
		if err := sub.Commit(t.Context(), recs...); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name          string
		before, after func(*testing.T, *Topic, *Subscription, []*Record) // Seek
	}{
		{"split", commit, split},
		{"commit", split, commit},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := openMemory(t)
			topic := ensure(t, b, "t", TopicConfig{})
			publish(t, topic, "1", "2")
			sub := subscribe(t, topic, "g", SubscribeOptions{})
			recs := poll(t, sub, 2)
			c.before(t, topic, sub, recs)
			if err := sub.Seek(t.Context(), FromEarliest()); err != nil {
				t.Fatal(err)
			}
			c.after(t, topic, sub, recs)
			publish(t, topic, "3")
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			for _, want := range []string{"1", "2", "3"} {
				recs, err := sub.Poll(ctx, 1)
				if err != nil {
					t.Fatalf("poll for %s: %v", want, err)
				}
				if got := texts(recs); got[0] != want {
					t.Fatalf("delivered %q, want %q", got, want)
				}
			}
		})
	}
}

// A partition that retention had removed, while a member read it again, was never over for that member, which waited for ever for what continues it.
func TestAMemberGoesOnBehindAPartitionThatIsForgottenWhileItIsReadAgain(t *testing.T) {
	b := openMemory(t)
	topic := ensure(t, b, "t", TopicConfig{RetentionBytes: 1})
	publish(t, topic, "1", "2")
	sub := subscribe(t, topic, "g", SubscribeOptions{OnGap: func(Gap) bool { return true }})
	recs := poll(t, sub, 2)
	if _, err := topic.Split(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if recs, err := sub.Poll(ctx, 1); err == nil { // in which it takes over what continues the partition
		t.Fatalf("delivered %q", texts(recs))
	}
	if err := sub.Seek(t.Context(), FromEarliest()); err != nil {
		t.Fatal(err)
	}
	if err := sub.Commit(t.Context(), recs...); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(topic.retain(), topic.dropDrained(t.Context())); err != nil {
		t.Fatal(err)
	}
	if got := len(topic.Partitions()); got != 2 {
		t.Fatalf("%d partitions, want 2: the first is drained, and the group has passed it", got)
	}
	publish(t, topic, "3")
	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if recs, err := sub.Poll(ctx, 1); err != nil || texts(recs)[0] != "3" {
		t.Errorf("poll: %q, %v", texts(recs), err)
	}
}

// endsLate is a context that has ended, which the first look at it does not see.
type endsLate struct {
	context.Context
	looked bool
}

func (c *endsLate) Err() error {
	if !c.looked {
		c.looked = true
		return nil
	}
	return c.Context.Err()
}

// When the context of a Poll ended while it took over partitions, OnAssigned was never told of others that the member had had since Subscribe.
func TestOnAssignedIsToldOfAllPartitionsAlsoWhereAPollEndsTooEarly(t *testing.T) {
	b := openMemory(t)
	topic := ensure(t, b, "t", TopicConfig{Partitions: 2})
	first := subscribe(t, topic, "g", SubscribeOptions{})
	var told []PartitionID
	second := subscribe(t, topic, "g", SubscribeOptions{OnAssigned: func(ids []PartitionID) { told = append(told, ids...) }})
	if has := second.Assigned(); len(has) != 1 {
		t.Fatalf("the second member has %v, want one of two", has)
	}
	if err := first.Close(); err != nil { // the second is to take over what it had
		t.Fatal(err)
	}
	if recs, err := second.Poll(&endsLate{Context: canceled()}, 1); !errors.Is(err, context.Canceled) {
		t.Fatalf("a Poll that ends too early: %q, %v", texts(recs), err)
	}
	publish(t, topic, "1")
	poll(t, second, 1)
	slices.Sort(told)
	if want := second.Assigned(); len(want) != 2 || !slices.Equal(told, want) {
		t.Errorf("OnAssigned was told of %v, the member has %v", told, want)
	}
}
