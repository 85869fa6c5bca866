package braid

import (
	"context"
	"errors"
	"iter"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestReadOnlyRefusesEveryChange(t *testing.T) {
	noLeaks(t)
	dir := t.TempDir()
	w, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	publish(t, ensure(t, w, "t", TopicConfig{}), "a")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, dir)
	b, err := Open(dir, Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	topic, err := b.Topic("t")
	if err != nil {
		t.Fatal(err)
	}
	_, err1 := b.CreateTopic(t.Context(), "u", TopicConfig{})
	err2 := b.DeleteTopic(t.Context(), "t")
	err3 := b.UpdateTopic(t.Context(), "t", func(*TopicConfig) error { return nil })
	err4 := topic.Publish(t.Context(), &Record{Value: []byte("x")})
	err5 := topic.PublishAsync(t.Context(), nil, &Record{Value: []byte("x")})
	_, err6 := topic.Subscribe(t.Context(), "g", SubscribeOptions{})
	err7 := topic.Flush(t.Context())
	for i, err := range []error{err1, err2, err3, err4, err5, err6, err7} {
		if !errors.Is(err, ErrReadOnly) {
			t.Errorf("call %d: error %v, want ErrReadOnly", i+1, err)
		}
	}
	if diff := cmp.Diff([]string{"a"}, values(t, topic, ReadOptions{})); diff != "" {
		t.Error(diff)
	}
	if b.OpenReport().WriterLive {
		t.Error("a writer is said to be alive")
	}
	if _, err := Open(t.TempDir(), Options{ReadOnly: true}); !errors.Is(err, ErrMissingData) {
		t.Errorf("an empty directory: error %v, want ErrMissingData", err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, snapshot(t, dir)); diff != "" {
		t.Errorf("reading changed the directory: %s", diff)
	}
}

// follow reads values from a topic until there are n, and returns them.
func follow(t *testing.T, topic *Topic, n int) []string {
	t.Helper()
	var got []string
	for rec, err := range topic.Read(t.Context(), ReadOptions{Follow: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, string(rec.Value)); len(got) == n {
			break
		}
	}
	return got
}

func TestAReaderBesideALiveWriterSeesWhatIsProvenDurable(t *testing.T) {
	noLeaks(t)
	dir := t.TempDir()
	w := open(t, dir, Options{})
	topic := ensure(t, w, "t", TopicConfig{})
	publish(t, topic, "first")
	publish(t, topic, "second") // proves the first
	r := open(t, dir, Options{ReadOnly: true})
	if !r.OpenReport().WriterLive {
		t.Error("no writer is said to be alive")
	}
	theirs, err := r.Topic("t")
	if err != nil {
		t.Fatal(err)
	}
	got := values(t, theirs, ReadOptions{})
	if len(got) < 1 || got[0] != "first" {
		t.Errorf("got %q, want at least the first", got)
	}
	done := make(chan []string)
	go func() { done <- follow(t, theirs, 4) }()
	publish(t, topic, "third")
	publish(t, topic, "fourth")
	// The last one is proven by the mark that the idle writer leaves, or by its close.
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"first", "second", "third", "fourth"}, <-done); diff != "" {
		t.Error(diff)
	}
}

func TestAReaderFindsTopicsMadeAndDeletedMeanwhile(t *testing.T) {
	dir := t.TempDir()
	w := open(t, dir, Options{Durability: Interval})
	ensure(t, w, "old", TopicConfig{})
	r := open(t, dir, Options{ReadOnly: true})
	if _, err := r.Topic("old"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Topic("new"); !errors.Is(err, ErrTopicNotFound) {
		t.Fatalf("error %v, want ErrTopicNotFound", err)
	}
	publish(t, ensure(t, w, "new", TopicConfig{}), "x")
	if err := w.DeleteTopic(t.Context(), "old"); err != nil {
		t.Fatal(err)
	}
	topic, err := r.Topic("new")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"x"}, values(t, topic, ReadOptions{})); diff != "" {
		t.Error(diff)
	}
	if _, err := r.Topic("old"); !errors.Is(err, ErrTopicNotFound) {
		t.Errorf("the deleted topic: error %v, want ErrTopicNotFound", err)
	}
}

func TestReadersFollowAcrossRollsAndRetention(t *testing.T) {
	dir := t.TempDir()
	w := open(t, dir, Options{Durability: OS})
	topic := ensure(t, w, "t", TopicConfig{SegmentBytes: 64 << 10})
	const n = 3000
	big := string(make([]byte, 200))
	publish(t, topic, "0"+big)
	r := open(t, dir, Options{ReadOnly: true})
	theirs, err := r.Topic("t")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan []string)
	go func() { done <- follow(t, theirs, n) }()
	for i := 1; i < n; i++ {
		publish(t, topic, string(rune('0'+i%10))+big)
	}
	for i, v := range <-done {
		if v[0] != byte('0'+i%10) {
			t.Fatalf("record %d is %c", i, v[0])
		}
	}
	if s := topic.Partitions()[0].Segments; s < 5 {
		t.Errorf("%d segments: the test never rolled", s)
	}
}

func TestRetentionKeepsTheTopicWithinItsBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := Open("", Options{InMemory: true})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		const limit = 512 << 10
		topic := ensure(t, b, "t", TopicConfig{Partitions: 2, SegmentBytes: 64 << 10, RetentionBytes: limit})
		for range 3000 {
			publish(t, topic, string(make([]byte, 500)))
		}
		time.Sleep(retentionInterval + time.Second) // of the test's own clock
		synctest.Wait()
		var size int64
		for _, p := range topic.Partitions() {
			size += p.Bytes
			if p.Start == 0 {
				t.Errorf("partition %d lost nothing", p.ID)
			}
		}
		if size > limit || size < limit/2 {
			t.Errorf("%d bytes are kept, limit %d", size, limit)
		}
		sub, err := topic.Subscribe(context.Background(), "g", SubscribeOptions{From: FromOffsets(map[PartitionID]int64{topic.Partitions()[0].ID: 1})})
		if err != nil {
			t.Fatal(err)
		}
		defer sub.Close()
		var oor *OffsetOutOfRangeError
		for range 3 { // the other partition is delivered meanwhile
			if _, err := sub.Poll(t.Context(), 1); err != nil && !errors.As(err, &oor) {
				t.Fatal(err)
			}
		}
		if oor == nil || oor.Offset != 1 || oor.Next != topic.Partitions()[0].Start {
			t.Errorf("error %+v, want offset 1 out of range and the start as next", oor)
		}
	})
}

// A reader beside a writer goes on in the partitions that have been split and merged since it began.
func TestAReaderFollowsSplitsAndMergesOfALiveWriter(t *testing.T) {
	dir := t.TempDir()
	w := open(t, dir, Options{})
	topic := ensure(t, w, "t", TopicConfig{})
	r := open(t, dir, Options{ReadOnly: true})
	seen, err := r.Topic("t")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	const generations = 4
	got := map[string][]PartitionID{}
	next, stop := iter.Pull2(seen.Read(ctx, ReadOptions{Follow: true}))
	defer stop()
	for round := range generations {
		keyed(t, topic, "a:1", "b:1", "c:1", "d:1", "e:1", "f:1", "g:1", "h:1")
		switch active := topic.table.Load().active; {
		case round%2 == 0:
			split(t, topic, active[0].id)
		default:
			merge(t, topic, active[0].id, active[1].id)
		}
		for range 8 {
			rec, err, ok := next()
			if !ok || err != nil {
				t.Fatalf("generation %d: %v", round, err)
			}
			got[string(rec.Key)] = append(got[string(rec.Key)], rec.Partition)
		}
	}
	for key, parts := range got {
		if len(parts) != generations || !slices.IsSorted(parts) {
			t.Errorf("%s was read in partitions %v", key, parts)
		}
	}
	if diff := cmp.Diff(ids(topic), ids(seen)); diff != "" {
		t.Error(diff)
	}
	if !seen.Partitions()[0].Sealed {
		t.Error("the first partition is not shown as sealed")
	}
}
