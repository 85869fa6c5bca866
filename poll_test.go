package braid

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/braid-go/braid/partition"
)

// Asking for more says that what came before is finished, in whichever partition and however the reading has moved: also when a frame is delivered in pieces, over a gap, and by Seek.
func TestAskingForMoreFinishesWhatCameBefore(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, reuse := range []bool{false, true} {
		topic := ensure(t, openMemory(t), "t", TopicConfig{Partitions: 5})
		sub := subscribe(t, topic, "g", SubscribeOptions{ReuseBuffers: reuse})
		moved := 0
		for range 5000 {
			var err error
			switch rng.IntN(8) {
			case 0:
				recs := make([]*Record, 1+rng.IntN(60))
				for i := range recs {
					recs[i] = &Record{Key: fmt.Append(nil, rng.IntN(40)), Value: []byte{}}
				}
				err = topic.Publish(t.Context(), recs...)
			case 1:
				err = sub.Seek(t.Context(), []Position{FromEarliest(), FromLatest()}[rng.IntN(2)])
			case 2:
				err = sub.Rewind()
			default: // as Poll does
				want := make([]int64, len(sub.parts))
				for i, p := range sub.parts {
					if want[i] = max(p.finished, p.next); want[i] > p.finished {
						moved++
					}
				}
				err = sub.begin(t.Context())
				for i, p := range sub.parts {
					if p.finished != want[i] {
						t.Fatalf("partition %d is finished below %d, want %d", p.part.id, p.finished, want[i])
					}
				}
				if err == nil {
					_, err = sub.collect(1 + rng.IntN(30))
					sub.end()
				}
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if moved < 100 {
			t.Errorf("the reading moved %d times only", moved)
		}
	}
}

// When nothing is found, nothing is there: whatever has happened since, no partition that has something to deliver is left out.
func TestNoPartitionIsForgotten(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	topic := ensure(t, openMemory(t), "t", TopicConfig{Partitions: 3})
	sub := subscribe(t, topic, "g", SubscribeOptions{})
	published, changes, found := 0, 0, 0
	for range 3000 {
		var err error
		some := sub.Assigned()
		some = some[:rng.IntN(len(some)+1)]
		switch rng.IntN(9) {
		case 0, 1:
			recs := make([]*Record, 1+rng.IntN(9))
			for i := range recs {
				recs[i] = &Record{Key: fmt.Append(nil, rng.IntN(1000)), Value: []byte{}}
			}
			published += len(recs)
			err = topic.Publish(t.Context(), recs...)
		case 2:
			if rng.IntN(20) == 0 {
				err = sub.Seek(t.Context(), FromEarliest())
			}
		case 3:
			err = sub.Rewind()
		case 4:
			err = sub.Pause(some...)
		case 5:
			err = sub.Resume(some...)
		case 6:
			if rng.IntN(10) > 0 || changes > 40 {
				break
			}
			changes++
			if active := topic.table.Load().layout.Active(); len(active) > 3 && rng.IntN(2) == 0 {
				_, err = topic.Merge(t.Context(), active[0].ID, active[1].ID)
			} else {
				_, err = topic.Split(t.Context(), active[rng.IntN(len(active))].ID)
			}
		case 7:
			err = sub.CommitDelivered(t.Context())
		default: // as Poll does, until there is nothing
			for err == nil {
				var recs []*Record
				if err = sub.rebalance(t.Context()); err == nil {
					recs, err = sub.collect(1 + rng.IntN(20))
				}
				if found += len(recs); len(recs) == 0 {
					break
				}
			}
			for _, p := range sub.parts {
				if !sub.changed.Load() && p.ready() {
					t.Fatalf("partition %d has something at %d of %d: it was not found", p.part.id, p.next, p.part.log.VisibleEnd())
				}
			}
		}
		if one := new(partition.IndivisibleError); err != nil && !errors.As(err, &one) {
			t.Fatal(err)
		}
	}
	if found < published/2 || changes < 10 {
		t.Errorf("%d of %d records found, %d changes of the layout: not what this test is about", found, published, changes)
	}
}

// One that has always more must not keep another's error from being told.
func TestAnErrorIsToldThoughOthersHaveMore(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, Options{Durability: OS})
	topic := ensure(t, b, "t", TopicConfig{Partitions: 2})
	keys := keysOf(t, topic)
	for i := range 60 { // a frame each
		if err := topic.Publish(t.Context(), &Record{Key: keys[0], Value: fmt.Append(nil, i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := topic.Publish(t.Context(), &Record{Key: keys[1], Value: []byte("damaged")}, &Record{Key: keys[1], Value: []byte("and")}); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "partitions", "*2", "*.seg"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	if err := flip(files[0], 128+88+10); err != nil {
		t.Fatal(err)
	}
	b = open(t, dir, Options{Durability: OS})
	if topic, err = b.Topic("t"); err != nil {
		t.Fatal(err)
	}
	sub := subscribe(t, topic, "g", SubscribeOptions{})
	for polls := 1; ; polls++ {
		_, err := sub.Poll(t.Context(), 3)
		if errors.Is(err, ErrCorrupt) {
			return
		}
		if err != nil || polls > 5 {
			t.Fatalf("Poll %d: error %v", polls, err)
		}
	}
}

// keysOf returns a key for each partition of a topic, in their order.
func keysOf(t *testing.T, topic *Topic) [][]byte {
	t.Helper()
	active := topic.table.Load().layout.Active()
	keys := make([][]byte, len(active))
	for i, left := 0, len(keys); left > 0; i++ {
		key := fmt.Append(nil, i)
		if at := topic.table.Load().layout.Route(partition.Hash(key)); keys[at] == nil {
			keys[at] = key
			left--
		}
	}
	return keys
}

// A log that has lost records, though a group has committed behind them, goes on behind a declared gap. If it is split before anything more is published, the gap is at its end.
func TestAPartitionThatEndsInAGapIsReadToItsEnd(t *testing.T) {
	for seed := range uint64(4) {
		disk := NewModelDisk(t, t.TempDir(), seed, Options{Durability: OS})
		b, err := disk.Open()
		if err != nil {
			t.Fatal(err)
		}
		topic := ensure(t, b, "t", TopicConfig{})
		sub := subscribe(t, topic, "a", SubscribeOptions{})
		publish(t, topic, numbered("lost", 10)...)
		poll(t, sub, 10)
		if err := sub.CommitDelivered(t.Context()); err != nil {
			t.Fatal(err)
		}
		disk.Crash(true)
		if b, err = disk.Open(); err != nil {
			t.Fatal(err)
		}
		if topic, err = b.Topic("t"); err != nil {
			t.Fatal(err)
		}
		if _, err := topic.Split(t.Context(), topic.Partitions()[0].ID); err != nil {
			t.Fatal(err)
		}
		for i := range 8 {
			if err := topic.Publish(t.Context(), &Record{Key: fmt.Append(nil, i), Value: []byte("new")}); err != nil {
				t.Fatal(err)
			}
		}
		read := 0
		for rec, err := range topic.Read(t.Context(), ReadOptions{}) {
			if err != nil {
				t.Fatal(err)
			}
			if string(rec.Value) == "new" {
				read++
			}
		}
		other := subscribe(t, topic, "b", SubscribeOptions{})
		polled := 0
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		for polled < 8 {
			recs, err := other.Poll(ctx, 0)
			if err != nil {
				t.Fatalf("seed %d: %d of 8 records behind the gap polled: %v", seed, polled, err)
			}
			for _, rec := range recs {
				if string(rec.Value) == "new" {
					polled++
				}
			}
		}
		cancel()
		if read != 8 {
			t.Errorf("seed %d: %d of 8 records behind the gap read", seed, read)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A publisher that is told of each record, and then publishes the next, meets its readers at every moment between looking and going to sleep. None may sleep over a record.
func TestNoReaderSleepsOverARecord(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{Partitions: 4})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second) // nothing else would end a reader that sleeps
	defer cancel()
	const rounds = 8000
	readers := map[string]func(*Subscription, func()) error{
		"Records": func(sub *Subscription, got func()) error {
			for _, err := range sub.Records(ctx) {
				if err != nil {
					return err
				}
				got()
			}
			return nil
		},
		"Poll": func(sub *Subscription, got func()) error {
			for {
				recs, err := sub.Poll(ctx, 3)
				if err != nil {
					return err
				}
				for range recs {
					got()
				}
			}
		},
	}
	told := make(chan string, 3*len(readers))
	for name, read := range readers {
		for i, reuse := range []bool{false, true} {
			name = fmt.Sprint(name, i)
			sub := subscribe(t, topic, name, SubscribeOptions{ReuseBuffers: reuse})
			go func() {
				if err := read(sub, func() { told <- name }); ctx.Err() == nil {
					t.Error(err)
				}
			}()
		}
	}
	seen := map[string]int{}
	for n := range rounds {
		values := []string{"a", "b", "c"}[:1+n%3]
		publish(t, topic, values...)
		for range 2 * len(readers) * len(values) {
			select {
			case name := <-told:
				seen[name] += 1
			case <-ctx.Done():
				t.Fatalf("round %d: somebody has not been told; so far %v", n, seen)
			}
		}
	}
	cancel()
}
