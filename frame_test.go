package braid

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The tests of this file stop in the middle of a frame: what is published with one call to one partition.

func TestAPauseInTheMiddleOfAFrameHoldsTheRestOfItBack(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{})
	sub := subscribe(t, topic, "g", SubscribeOptions{})
	publish(t, topic, numbered("r", 6)...)
	nothing := func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if recs, err := sub.Poll(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("paused, and delivered %q, %v", texts(recs), err)
		}
	}
	if diff := cmp.Diff([]string{"r0", "r1"}, texts(poll(t, sub, 2))); diff != "" {
		t.Fatal(diff)
	}
	if err := sub.Pause(); err != nil {
		t.Fatal(err)
	}
	nothing()
	if err := sub.Resume(); err != nil {
		t.Fatal(err)
	}
	var got []string
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for rec, err := range sub.Records(ctx) {
		if err != nil {
			break
		}
		if got = append(got, string(rec.Value)); len(got) == 2 {
			if err := sub.Pause(); err != nil {
				t.Error(err)
			}
			time.AfterFunc(10*time.Millisecond, cancel)
		}
	}
	if diff := cmp.Diff([]string{"r2", "r3"}, got); diff != "" {
		t.Fatalf("paused by the loop's body: %s", diff)
	}
	nothing()
	if err := sub.Resume(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"r4", "r5"}, texts(poll(t, sub, 2))); diff != "" {
		t.Fatal(diff)
	}
}

func TestWhatASeekGoesBackToComesBeforeTheRestOfAnOpenFrame(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{})
	sub := subscribe(t, topic, "g", SubscribeOptions{})
	publish(t, topic, "old 1", "old 2")
	children := split(t, topic, 1)
	var recs []*Record
	for i, v := range numbered("new ", 20) { // some of them for each child
		recs = append(recs, &Record{Key: []byte{byte(i)}, Value: []byte(v)})
	}
	if err := topic.Publish(t.Context(), recs...); err != nil {
		t.Fatal(err)
	}
	open := poll(t, sub, 3)[2] // the first of a child's frame
	to := map[PartitionID]int64{1: 0, children[0]: 0, children[1]: 0}
	to[open.Partition] = open.Offset + 1 // where it is already
	if err := sub.Seek(t.Context(), FromOffsets(to)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"old 1", "old 2"}, texts(poll(t, sub, 2))); diff != "" {
		t.Fatalf("what the open frame's partition continues: %s", diff)
	}
	if rest := poll(t, sub, 19); rest[0].Partition != open.Partition && rest[18].Partition != open.Partition {
		t.Errorf("nothing of partition %d", open.Partition)
	}
}

func TestReadEndsInTheMiddleOfAFrameWhenItsContextEnds(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{})
	publish(t, topic, numbered("r", 5*checkEvery)...)
	for _, reuse := range []bool{false, true} {
		ctx, cancel := context.WithCancel(t.Context())
		n, end := 0, error(nil)
		for _, err := range topic.Read(ctx, ReadOptions{ReuseBuffers: reuse}) {
			if err != nil {
				end = err
				break
			}
			if n++; n == 10 {
				cancel()
			}
		}
		cancel()
		if !errors.Is(end, context.Canceled) || n > 10+checkEvery {
			t.Errorf("%d records and %v after the context had ended with the tenth", n, end)
		}
	}
}
