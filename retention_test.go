package braid

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/braid-go/braid/group"
)

func ids(topic *Topic) (out []PartitionID) {
	for _, p := range topic.Partitions() {
		out = append(out, p.ID)
	}
	return out
}

// expire lets retention remove everything that it may.
func expire(t testing.TB, topic *Topic) {
	t.Helper()
	err := topic.b.UpdateTopic(t.Context(), topic.name, func(c *TopicConfig) error { c.RetentionBytes = 1; return nil })
	if err == nil {
		err = errors.Join(topic.retain(), topic.dropDrained(t.Context()))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestDrainedAncestorsAreForgottenWhenEveryGroupHasPassed(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, Options{})
	topic := ensure(t, b, "t", TopicConfig{})
	behind := subscribe(t, topic, "behind", SubscribeOptions{})
	publishFamily(t, topic)
	ahead := subscribe(t, topic, "ahead", SubscribeOptions{})
	all := poll(t, ahead, 80)
	inOrder(t, all)
	stays := func(r *Record) bool { return r.Partition == 3 || r.Partition == 6 }
	left := 0
	for _, r := range all {
		if stays(r) {
			left++
		}
	}
	if err := ahead.CommitDelivered(t.Context()); err != nil {
		t.Fatal(err)
	}
	iterated := 0
	for rec, err := range topic.Read(t.Context(), ReadOptions{OnGap: func(Gap) bool { return true }}) {
		if err != nil {
			t.Fatal(err)
		}
		if iterated++; iterated == 1 {
			expire(t, topic) // under a reader that has all partitions still before it
		}
		_ = rec
	}
	if diff := cmp.Diff([]PartitionID{1, 2, 3, 4, 5, 6}, ids(topic)); diff != "" {
		t.Fatalf("a group that has not passed them: %s", diff)
	}

	var outside *OffsetOutOfRangeError
	if _, err := behind.Poll(t.Context(), 0); !errors.As(err, &outside) || outside.Partition != 1 || outside.Next != 20 {
		t.Fatalf("error %v, want that partition 1 goes on at 20", err)
	}
	behind.Close()
	behind = subscribe(t, topic, "behind", SubscribeOptions{OnGap: func(Gap) bool { return true }})
	rest := poll(t, behind, left)
	if slices.ContainsFunc(rest, func(r *Record) bool { return !stays(r) }) {
		t.Error("a record of a partition that is empty")
	}
	if err := behind.CommitDelivered(t.Context()); err != nil {
		t.Fatal(err)
	}
	expire(t, topic)
	if diff := cmp.Diff([]PartitionID{3, 6}, ids(topic)); diff != "" {
		t.Errorf("partitions: %s", diff)
	}
	catchUp(t, behind)
	if diff := cmp.Diff([]PartitionID{3, 6}, behind.Assigned()); diff != "" {
		t.Errorf("assigned: %s", diff)
	}

	check := func(what string) {
		t.Helper()
		entries, err := os.ReadDir(filepath.Join(dir, partitionsName))
		if err != nil || len(entries) != 2 {
			t.Errorf("%s: directories %v, %v", what, entries, err)
		}
		for e, err := range b.store.Scan(t.Context(), group.TopicPrefix(topic.id)) {
			if _, _, id, _ := group.ParseKey(e.Key); err != nil || id != 3 && id != 6 {
				t.Errorf("%s: a position in partition %d, %v", what, id, err)
			}
		}
		for e, err := range b.store.Scan(t.Context(), []byte{keyTombstone}) {
			t.Errorf("%s: tombstone %x, %v", what, e.Key, err)
		}
	}
	check("before")
	if diff := cmp.Diff([]PartitionID{7, 8}, split(t, topic, 6)); diff != "" {
		t.Error(diff)
	}
	merge(t, topic, 7, 8)
	expire(t, topic) // they never held anything
	publishTo(t, topic, 9, 1)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = open(t, dir, Options{})
	if r := b.OpenReport(); len(r.Partitions)+len(r.SetAside) > 0 {
		t.Errorf("opened again: %+v", r)
	}
	topic, _ = b.Topic("t")
	behind = subscribe(t, topic, "behind", SubscribeOptions{})
	if recs := poll(t, behind, 1); recs[0].Partition != 9 {
		t.Errorf("delivered a record of %d", recs[0].Partition)
	}
}
