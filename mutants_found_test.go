package braid

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/braid-go/braid/checkpoint"
	"github.com/braid-go/braid/group"
)

// A consumer that has lost a partition before it could commit publishes no dead letter for what it was delivered there: the next owner is delivered it, and
// would publish it again.
func TestADeadLetterOfALostPartitionIsNotPublished(t *testing.T) {
	b := openMemory(t)
	topic := ensure(t, b, "t", TopicConfig{})
	publish(t, topic, "bad")
	lost := make(chan struct{})
	stop := consume(t, topic, ConsumeOptions{MaxAttempts: 1, DeadLetter: "dead", CommitInterval: time.Hour}, func(context.Context, *Record) error {
		value, err := group.Position{Epoch: 1 << 40}.MarshalBinary() // another owner takes over
		if err != nil {
			t.Error(err)
		}
		var batch checkpoint.Batch
		batch.Put(group.Key(topic.id, "g", 1), value)
		if _, err := b.store.Commit(t.Context(), &batch); err != nil {
			t.Error(err)
		}
		close(lost)
		return errors.New("bad")
	})
	<-lost
	stop(nil)
	dead, err := b.Topic("dead")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{}, values(t, dead, ReadOptions{})); diff != "" {
		t.Errorf("dead letters of a partition that was lost: %s", diff)
	}
}

// From the moment on at which another member has taken a partition over, not only from its first commit on.
func TestATakeOverFencesTheOwnerBefore(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{})
	publish(t, topic, numbered("r", 10)...)
	var takeAway atomic.Bool
	zombie := subscribe(t, topic, "g", SubscribeOptions{RebalanceTimeout: time.Millisecond, Assignor: give{&takeAway}})
	recs := poll(t, zombie, 10)
	takeAway.Store(true)
	next := subscribe(t, topic, "g", SubscribeOptions{})
	again := poll(t, next, 10) // waits until the partition has been taken away
	if err := zombie.Commit(t.Context(), recs[:7]...); !errors.Is(err, ErrFenced) {
		t.Errorf("error %v, want ErrFenced", err)
	}
	if err := next.Commit(t.Context(), again[:3]...); err != nil {
		t.Errorf("the owner cannot commit: %v", err)
	}
	if got := next.Committed()[1]; got != 3 {
		t.Errorf("committed %d, want 3", got)
	}
}

// A member that has handed a partition over has lost it, although nobody has taken it over yet: in a transaction, nothing of that happens.
func TestWhatWasHandedOverCannotBeCommitted(t *testing.T) {
	b := openMemory(t)
	topic := ensure(t, b, "t", TopicConfig{})
	publish(t, topic, numbered("r", 10)...)
	var away atomic.Bool
	before := subscribe(t, topic, "g", SubscribeOptions{Assignor: give{&away}})
	recs := poll(t, before, 10)
	away.Store(true)
	next := subscribe(t, topic, "g", SubscribeOptions{})
	for len(before.Assigned()) > 0 {
		catchUp(t, before) // hands over
		runtime.Gosched()
	}
	var fenced *FencedError
	if err := before.Commit(t.Context(), recs...); !errors.As(err, &fenced) || !slices.Equal(fenced.Partitions, []PartitionID{1}) {
		t.Fatalf("error %v, want ErrFenced", err)
	}
	tx := b.Begin()
	if err := errors.Join(tx.Put("by", []byte("the one before")), tx.Offsets(before, recs...)); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); !errors.Is(err, ErrFenced) {
		t.Errorf("transaction: error %v, want ErrFenced", err)
	}
	if _, ok, err := b.Get(t.Context(), "by"); ok || err != nil {
		t.Errorf("its state was kept: %v", err)
	}
	if got := texts(poll(t, next, 10)); !slices.Equal(got, numbered("r", 10)) {
		t.Errorf("the next owner is delivered %q", got)
	}
}

// refusing is a store that answers commits with an error, whether they happen or not.
type refusing struct {
	*checkpoint.WAL
	happens bool
	err     error
}

func (r *refusing) Commit(ctx context.Context, batch *checkpoint.Batch) (checkpoint.Revision, error) {
	if r.happens {
		if _, err := r.WAL.Commit(ctx, batch); err != nil {
			return 0, err
		}
	}
	return 0, r.err
}

func TestAChangeOfTheLayoutForWhichThereIsNoRoomIsTakenBack(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, Options{})
	topic := ensure(t, b, "t", TopicConfig{})
	want := keysTo(t, topic, 0, 4)
	wal := b.store.(*checkpoint.WAL)
	b.store = &refusing{WAL: wal, err: checkpoint.ErrNoSpace}
	_, err := topic.Split(t.Context(), 1)
	b.store = wal
	if !errors.Is(err, ErrNoSpace) {
		t.Errorf("split: error %v, want ErrNoSpace", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := topic.Publish(ctx, &Record{Key: []byte("0"), Value: []byte("goes on")}); err != nil {
		t.Fatalf("publish: %v", err)
	}
	want["0"] = append(want["0"], "goes on")
	if _, err := topic.Split(t.Context(), 1); err != nil {
		t.Errorf("split when there is room: %v", err)
	}
	byKey(t, "split", topic, want)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	checkLayout(t, "reopened", open(t, dir, Options{}), 2, 2, want)
}

// Nobody knows which partitions have a key then, so none of those concerned takes a record until the broker has been opened again and knows.
func TestAChangeOfTheLayoutWhoseOutcomeIsUnknownFailsClosed(t *testing.T) {
	for _, happens := range []bool{false, true} {
		t.Run(fmt.Sprintf("happens=%v", happens), func(t *testing.T) {
			dir := t.TempDir()
			b := open(t, dir, Options{})
			topic := ensure(t, b, "t", TopicConfig{})
			want := keysTo(t, topic, 0, 4)
			wal := b.store.(*checkpoint.WAL)
			b.store = &refusing{wal, happens, fmt.Errorf("%w: for the test", checkpoint.ErrOutcomeUnknown)}
			_, err := topic.Split(t.Context(), 1)
			b.store = wal
			if !errors.Is(err, ErrOutcomeUnknown) {
				t.Errorf("split: error %v, want ErrOutcomeUnknown", err)
			}
			for range 3 {
				rec := &Record{Key: []byte("0"), Value: []byte("refused")}
				if err := topic.Publish(t.Context(), rec); !errors.Is(err, ErrPartitionFailed) {
					t.Fatalf("publish: error %v, want ErrPartitionFailed", err)
				}
				tx := b.Begin()
				if err := tx.Publish(topic, rec); err != nil {
					t.Fatal(err)
				}
				if err := tx.Commit(t.Context()); !errors.Is(err, ErrPartitionFailed) {
					t.Errorf("transaction: error %v, want ErrPartitionFailed", err)
				}
			}
			if _, err := topic.Split(t.Context(), 1); !errors.Is(err, ErrPartitionFailed) {
				t.Errorf("another split: error %v, want ErrPartitionFailed", err)
			}
			byKey(t, "until reopening", topic, want)
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			b = open(t, dir, Options{})
			if n := checkLayout(t, "reopened", b, 1, 2, want); (n == 2) != happens {
				t.Errorf("%d partitions take records", n)
			}
		})
	}
}

// The tombstones of a topic's partitions go when the removal of their directories is durable. Before, a directory that comes back after a power cut would be taken
// for evidence that commits are lost.
func TestADeletedTopicDoesNotComeBackWhenThePowerFails(t *testing.T) {
	for seed := range uint64(8) {
		disk := NewModelDisk(t, t.TempDir(), seed, Options{})
		b, err := disk.Open()
		if err != nil {
			t.Fatal(err)
		}
		publish(t, ensure(t, b, "t", TopicConfig{Partitions: 2}), "x")
		publish(t, ensure(t, b, "other", TopicConfig{}), "y")
		if err := b.DeleteTopic(t.Context(), "t"); err != nil {
			t.Fatal(err)
		}
		disk.Crash(true)
		if b, err = disk.Open(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if _, err := b.Topic("t"); !errors.Is(err, ErrTopicNotFound) {
			t.Errorf("seed %d: error %v, want ErrTopicNotFound", seed, err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A power cut takes records back in the weaker durabilities, and with them those that a group is through with. What is published then has other offsets: the group would
// never be delivered it.
func TestOffsetsThatAGroupHasCommittedAreNotGivenOutAgain(t *testing.T) {
	lost := 0
	for seed := range uint64(8) {
		disk := NewModelDisk(t, t.TempDir(), seed, Options{Durability: OS})
		b, err := disk.Open()
		if err != nil {
			t.Fatal(err)
		}
		topic := ensure(t, b, "t", TopicConfig{})
		publish(t, topic, numbered("r", 10)...)
		sub := subscribe(t, topic, "g", SubscribeOptions{})
		if err := sub.Commit(t.Context(), poll(t, sub, 10)...); err != nil {
			t.Fatal(err)
		}
		disk.Crash(true)
		if b, err = disk.Open(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if topic, err = b.Topic("t"); err != nil {
			t.Fatal(err)
		}
		if len(values(t, topic, ReadOptions{})) < 10 {
			lost++
		}
		if rec := publish(t, topic, "next")[0]; rec.Offset < 10 {
			t.Errorf("seed %d: offset %d was committed, and is given out again", seed, rec.Offset)
		}
		sub = subscribe(t, topic, "g", SubscribeOptions{})
		if got := texts(poll(t, sub, 1)); got[0] != "next" {
			t.Errorf("seed %d: the group is delivered %q", seed, got)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if lost == 0 {
		t.Error("no power cut has taken anything back")
	}
}

// The commit log is begun anew when it has grown, and what it carried of partitions is then in their files, durably.
func TestTheCommitLogLetsNoRecordGoThatIsNotDurable(t *testing.T) {
	for seed := range uint64(4) { // what survives a power cut is random
		disk := NewModelDisk(t, t.TempDir(), seed, Options{})
		b, err := disk.Open()
		if err != nil {
			t.Fatal(err)
		}
		topic := ensure(t, b, "t", TopicConfig{})
		generation := func() string {
			dirs, err := filepath.Glob(filepath.Join(disk.disk.Dir(), storeName, "0*"))
			if err != nil || len(dirs) == 0 {
				t.Fatalf("no generation: %v", err)
			}
			return dirs[0]
		}
		value := make([]byte, 256<<10)
		begin, n := generation(), 0
		for ; generation() == begin; n++ { // until the first one has been removed
			if n > 1000 {
				t.Fatal("the commit log only grows")
			}
			tx := b.Begin()
			if err := tx.Publish(topic, &Record{Value: value}); err != nil {
				t.Fatal(err)
			}
			if err := tx.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		disk.Crash(true)
		if b, err = disk.Open(); err != nil {
			t.Fatal(err)
		}
		if topic, err = b.Topic("t"); err != nil {
			t.Fatal(err)
		}
		if got := len(values(t, topic, ReadOptions{})); got != n {
			t.Errorf("seed %d: %d records of %d are there", seed, got, n)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
