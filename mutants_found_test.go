package braid

import (
	"context"
	"errors"
	"fmt"
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

// uncertain is a store of which nobody knows what has become of a commit.
type uncertain struct {
	*checkpoint.WAL
	happens bool
}

func (u *uncertain) Commit(ctx context.Context, batch *checkpoint.Batch) (checkpoint.Revision, error) {
	if u.happens {
		if _, err := u.WAL.Commit(ctx, batch); err != nil {
			return 0, err
		}
	}
	return 0, fmt.Errorf("%w: for the test", checkpoint.ErrOutcomeUnknown)
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
			b.store = &uncertain{wal, happens}
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
