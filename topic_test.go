package braid

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestNamesAreChecked(t *testing.T) {
	b := openMemory(t)
	for _, name := range []string{"", ".", "..", "a/b", "a b", "ä", "x\x00", strings.Repeat("n", 250), "../../etc"} {
		var ne *NameError
		if _, err := b.CreateTopic(t.Context(), name, TopicConfig{}); !errors.Is(err, ErrInvalidName) || !errors.As(err, &ne) {
			t.Errorf("create %.20q: error %v, want ErrInvalidName", name, err)
		}
		if _, err := b.Topic(name); !errors.Is(err, ErrInvalidName) {
			t.Errorf("topic %.20q: error %v, want ErrInvalidName", name, err)
		}
	}
	for _, name := range []string{"a", "...", "A-z_0.9", strings.Repeat("n", 249)} {
		if _, err := b.CreateTopic(t.Context(), name, TopicConfig{}); err != nil {
			t.Errorf("create %.20q: %v", name, err)
		}
	}
	if n := len(b.Topics()); n != 4 {
		t.Errorf("%d topics, want 4", n)
	}
}

func TestATopicIsCreatedOnce(t *testing.T) {
	b := openMemory(t)
	if _, err := b.Topic("t"); !errors.Is(err, ErrTopicNotFound) {
		t.Errorf("before: error %v, want ErrTopicNotFound", err)
	}
	first, err := b.CreateTopic(t.Context(), "t", TopicConfig{Partitions: 2})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.CreateTopic(t.Context(), "t", TopicConfig{}); !errors.Is(err, ErrTopicExists) {
		t.Errorf("again: error %v, want ErrTopicExists", err)
	}
	same, err := b.EnsureTopic(t.Context(), "t", TopicConfig{Partitions: 9})
	if err != nil || same != first || len(same.Partitions()) != 2 {
		t.Errorf("ensure: %v, %v; want the existing topic with 2 partitions", same, err)
	}
}

func TestTopicsAndConfigurationsSurviveReopening(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, Options{})
	config := TopicConfig{Partitions: 3, Compression: Zstd, SegmentBytes: 1 << 20, RetentionAge: time.Hour, RetentionBytes: 1 << 30}
	ensure(t, b, "b", config)
	ensure(t, b, "a", TopicConfig{})
	ensure(t, b, "gone", TopicConfig{})
	if err := b.DeleteTopic(t.Context(), "gone"); err != nil {
		t.Fatal(err)
	}
	if err := b.UpdateTopic(t.Context(), "a", func(c *TopicConfig) error { c.Compression = S2; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = open(t, dir, Options{})
	got := map[string]TopicConfig{}
	for _, topic := range b.Topics() {
		got[topic.Name()] = topic.Config()
		if n := len(topic.Partitions()); n != topic.Config().Partitions {
			t.Errorf("%s has %d partitions, want %d", topic.Name(), n, topic.Config().Partitions)
		}
	}
	want := map[string]TopicConfig{
		"a": {Partitions: 1, Compression: S2, SegmentBytes: defaultSegmentBytes, RetentionAge: Unlimited, RetentionBytes: Unlimited},
		"b": config,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestNonsensicalConfigurationsAreRefusedAndChangeNothing(t *testing.T) {
	b := open(t, "", Options{InMemory: true, Limits: Limits{MaxPartitions: 4}})
	topic := ensure(t, b, "t", TopicConfig{})
	before := topic.Config()
	for field, config := range map[string]TopicConfig{
		"TopicConfig.Partitions":     {Partitions: 5},
		"TopicConfig.Compression":    {Compression: 9},
		"TopicConfig.SegmentBytes":   {SegmentBytes: 100},
		"TopicConfig.RetentionAge":   {RetentionAge: -2},
		"TopicConfig.RetentionBytes": {RetentionBytes: -2},
	} {
		var oe *OptionError
		if _, err := b.CreateTopic(t.Context(), "new", config); !errors.Is(err, ErrInvalidOption) || !errors.As(err, &oe) || oe.Field != field {
			t.Errorf("create with bad %s: error %v", field, err)
		}
		err := b.UpdateTopic(t.Context(), "t", func(c *TopicConfig) error { *c = config; return nil })
		if !errors.Is(err, ErrInvalidOption) {
			t.Errorf("update with bad %s: error %v", field, err)
		}
	}
	if err := b.UpdateTopic(t.Context(), "t", func(c *TopicConfig) error { c.Partitions = 2; return nil }); !errors.Is(err, ErrInvalidOption) {
		t.Errorf("changing the number of partitions: error %v, want ErrInvalidOption", err)
	}
	mine := errors.New("mine")
	if err := b.UpdateTopic(t.Context(), "t", func(c *TopicConfig) error { c.Compression = S2; return mine }); !errors.Is(err, mine) {
		t.Errorf("error %v, want the function's own", err)
	}
	if diff := cmp.Diff(before, topic.Config()); diff != "" {
		t.Error(diff)
	}
	if err := b.UpdateTopic(t.Context(), "nosuch", func(*TopicConfig) error { return nil }); !errors.Is(err, ErrTopicNotFound) {
		t.Errorf("error %v, want ErrTopicNotFound", err)
	}
}

func TestADeletedTopicTakesRecordsAndPositionsWithIt(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, Options{})
	topic := ensure(t, b, "t", TopicConfig{Partitions: 2})
	publish(t, topic, "old", "older")
	sub := subscribe(t, topic, "g", SubscribeOptions{})
	poll(t, sub, 2)
	if err := sub.CommitDelivered(t.Context()); err != nil {
		t.Fatal(err)
	}
	sub.Close()
	if err := b.DeleteTopic(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	if err := b.DeleteTopic(t.Context(), "t"); !errors.Is(err, ErrTopicNotFound) {
		t.Errorf("deleting again: error %v, want ErrTopicNotFound", err)
	}
	if files := descriptorsUnder(t, dir, "partitions"); len(files) > 0 {
		t.Errorf("files of the deleted topic are still open: %v", files)
	}
	fresh := ensure(t, b, "t", TopicConfig{})
	if got := values(t, fresh, ReadOptions{}); len(got) > 0 {
		t.Errorf("the new topic holds %q", got)
	}
	publish(t, fresh, "new")
	if got := texts(poll(t, subscribe(t, fresh, "g", SubscribeOptions{}), 1))[0]; got != "new" {
		t.Errorf("got %s, want new", got)
	}
	for _, rec := range fresh.Partitions() {
		if rec.ID <= 2 {
			t.Errorf("partition id %d was used before", rec.ID)
		}
	}
}

func TestReadStopsAtTheEndOrFollows(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{Partitions: 3})
	for _, v := range numbered("r", 30) {
		publish(t, topic, v)
	}
	if n := len(values(t, topic, ReadOptions{})); n != 30 {
		t.Errorf("%d records, want 30", n)
	}
	n := 0
	for _, err := range topic.Read(t.Context(), ReadOptions{Follow: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 30 {
			publish(t, topic, "one more")
		}
		if n == 31 {
			break
		}
	}
	total := 0
	for _, p := range topic.Partitions() {
		n := len(values(t, topic, ReadOptions{Partitions: []PartitionID{p.ID}}))
		if n < 10 || n > 11 {
			t.Errorf("%d records in partition %d, want 10 or 11", n, p.ID)
		}
		total += n
	}
	if total != 31 {
		t.Errorf("%d records, read one partition at a time, want 31", total)
	}
	for _, err := range topic.Read(t.Context(), ReadOptions{Partitions: []PartitionID{999}}) {
		if !errors.Is(err, ErrInvalidOption) {
			t.Errorf("error %v, want ErrInvalidOption", err)
		}
	}
	for _, err := range topic.Read(canceled(), ReadOptions{}) {
		if err == nil {
			t.Error("a canceled Read delivered a record")
		}
	}
}

func TestReadFromATime(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{})
	base := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range 100 {
		rec := &Record{Value: []byte(numbered("r", 100)[i]), Time: base.Add(time.Duration(i) * time.Minute)}
		if err := topic.Publish(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
	}
	got := values(t, topic, ReadOptions{From: FromTime(base.Add(90*time.Minute - time.Second))})
	if diff := cmp.Diff(numbered("r", 100)[90:], got); diff != "" {
		t.Error(diff)
	}
	if got := values(t, topic, ReadOptions{From: FromTime(base.Add(24 * time.Hour))}); len(got) > 0 {
		t.Errorf("behind the last record: got %q", got)
	}
}
