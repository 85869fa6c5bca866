package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/braid-go/braid"
	"github.com/braid-go/braid/partition"
)

// Braid is used with its defaults, in the durability Fsync where there is an fsync and OS where there is none. Bulk publishing
// is PublishAsync of a batch (package documentation: "One call with many records is far cheaper than many calls"; Topic.PublishAsync). Catch-up reading is Topic.Read, delivery is Subscription.Records.
var braidSystem = system{
	Name:   "Braid",
	About:  "defaults; PublishAsync of batches; Topic.Read; Subscription.Records",
	Checks: true,
	Open:   openBraid,
}

var _ interface {
	streamPublisher
	publisher
	concurrentPublisher
	reader
	deliverer
	spreadPublisher
	transactor
	splitter
} = (*braidStore)(nil)

type braidStore struct {
	broker *braid.Broker
	topic  *braid.Topic
	one    []*braid.Record         // the record of Publish and Send
	sets   [window][]*braid.Record // batches, or calls, on their way
	in     []*braid.Topic          // what transactions consume
	subs   []*braid.Subscription   // of in
}

func openBraid(ctx context.Context, s setup) (io.Closer, error) {
	opts := braid.Options{Durability: braid.OS}
	if s.Fsync {
		opts.Durability = braid.Fsync
	}
	broker, err := braid.Open(s.Dir, opts)
	if err != nil {
		return nil, err
	}
	topic, err := broker.CreateTopic(ctx, "bench", braid.TopicConfig{Partitions: s.streams()})
	if err != nil {
		broker.Close()
		return nil, err
	}
	store := &braidStore{broker: broker, topic: topic, one: []*braid.Record{{}}}
	if s.Spread > 0 {
		for i := range spreadCalls {
			store.fill(i, make([]record, spreadWindow/spreadCalls*batchRecords)) // the memory comes into being
		}
	}
	for i := range s.Inputs {
		if err := store.addInput(ctx, fmt.Sprint("in-", i)); err != nil {
			store.Close()
			return nil, err
		}
	}
	return store, nil
}

func (b *braidStore) addInput(ctx context.Context, name string) error {
	topic, err := b.broker.CreateTopic(ctx, name, braid.TopicConfig{})
	if err != nil {
		return err
	}
	sub, err := topic.Subscribe(ctx, "bench", braid.SubscribeOptions{ReuseBuffers: true})
	if err != nil {
		return err
	}
	b.in, b.subs = append(b.in, topic), append(b.subs, sub)
	return nil
}

func (b *braidStore) Close() error {
	var errs []error
	for _, sub := range b.subs {
		errs = append(errs, sub.Close())
	}
	return errors.Join(append(errs, b.broker.Close())...)
}

// fill returns batch as Braid's records, in the memory of set i.
func (b *braidStore) fill(i int, batch []record) []*braid.Record {
	for len(b.sets[i]) < len(batch) {
		b.sets[i] = append(b.sets[i], new(braid.Record))
	}
	set := b.sets[i][:len(batch)]
	for j, r := range batch {
		set[j].Key, set[j].Value = r.Key, r.Value
	}
	return set
}

// PublishStream has up to window batches on their way. There is one partition, so that they are acknowledged in order.
func (b *braidStore) PublishStream(ctx context.Context, next func() []record) error {
	free := make(chan int, window)
	for i := range window {
		free <- i
	}
	var left [window]int // callbacks of one partition come one at a time
	var failed atomic.Pointer[error]
	var err error
	for err == nil && failed.Load() == nil {
		i := <-free // also: the batch before the last window ones is acknowledged
		batch := next()
		if len(batch) == 0 {
			free <- i
			break
		}
		left[i] = len(batch)
		done := func(_ *braid.Record, err error) {
			if err != nil {
				first := err // a copy, so that err itself stays off the heap
				failed.CompareAndSwap(nil, &first)
			}
			if left[i]--; left[i] == 0 {
				free <- i
			}
		}
		if err = b.topic.PublishAsync(ctx, done, b.fill(i, batch)...); err != nil {
			free <- i
		}
	}
	for range window { // all are acknowledged
		<-free
	}
	if failed := failed.Load(); failed != nil {
		err = *failed
	}
	return err
}

// spreadCalls is how many calls of PublishSpread are on their way. Each has as many batches as that leaves it, so that there is something in it for each partition.
const spreadCalls = 8

// PublishSpread has spreadCalls calls on their way to all partitions. The partitions acknowledge side by side, so that each call counts for itself.
func (b *braidStore) PublishSpread(ctx context.Context, next func() []record) error {
	free := make(chan int, spreadCalls)
	for i := range spreadCalls {
		free <- i
	}
	var left [spreadCalls]atomic.Int32
	var failed atomic.Pointer[error]
	var err error
	g := gatherer{next: next}
	for err == nil && failed.Load() == nil {
		i := <-free // also: the records of the call before the last spreadCalls ones are acknowledged
		recs := g.take(spreadWindow / spreadCalls)
		if len(recs) == 0 {
			free <- i
			break
		}
		left[i].Store(int32(len(recs)))
		done := func(_ *braid.Record, err error) {
			if err != nil {
				first := err // a copy, so that err itself stays off the heap
				failed.CompareAndSwap(nil, &first)
			}
			if left[i].Add(-1) == 0 {
				free <- i
			}
		}
		if err = b.topic.PublishAsync(ctx, done, b.fill(i, recs)...); err != nil {
			free <- i
		}
	}
	for range spreadCalls { // all are acknowledged
		<-free
	}
	if failed := failed.Load(); failed != nil {
		err = *failed
	}
	return err
}

func (b *braidStore) Fill(ctx context.Context, committer int, recs []record) error {
	return b.in[committer].Publish(ctx, b.fill(0, recs)...)
}

func (b *braidStore) Transact(ctx context.Context, committer int) error {
	sub := b.subs[committer]
	recs, err := sub.Poll(ctx, 1)
	if err != nil {
		return err
	}
	tx := b.broker.Begin()
	return errors.Join(tx.Offsets(sub, recs...), tx.Publish(b.topic, recs...), tx.Commit(ctx))
}

func (b *braidStore) Split(ctx context.Context) error {
	for _, p := range b.topic.Partitions() {
		if !p.Sealed {
			_, err := b.topic.Split(ctx, p.ID)
			return err
		}
	}
	return errors.New("there is no partition that takes records")
}

// Publish need not be able to give up, as the peers' calls cannot (documentation of Topic.Publish: "If ctx cannot end").
func (b *braidStore) Publish(ctx context.Context, r record) error {
	b.one[0].Key, b.one[0].Value = r.Key, r.Value
	return b.topic.Publish(context.WithoutCancel(ctx), b.one...)
}

// PublishConcurrent need not be able to give up either.
func (b *braidStore) PublishConcurrent(_ context.Context, _ int, r record) error {
	return b.topic.Publish(context.Background(), &braid.Record{Key: r.Key, Value: r.Value}) // the key decides the partition
}

func (b *braidStore) Read(ctx context.Context, n int, owned bool, fn func(record)) error {
	first := []braid.PartitionID{b.topic.Partitions()[0].ID} // they are in the order of their key ranges, as keysFor's
	for rec, err := range b.topic.Read(ctx, braid.ReadOptions{Partitions: first, ReuseBuffers: !owned}) {
		if err != nil {
			return err
		}
		fn(record{Key: rec.Key, Value: rec.Value})
		if n--; n == 0 {
			return nil
		}
	}
	return fmt.Errorf("the topic ended %d records early", n)
}

func (b *braidStore) Send(ctx context.Context, r record) error { return b.Publish(ctx, r) }

func (b *braidStore) Deliver(ctx context.Context, ready func(), fn func(record)) error {
	sub, err := b.topic.Subscribe(ctx, "bench", braid.SubscribeOptions{ReuseBuffers: true})
	if err != nil {
		return err
	}
	defer sub.Close()
	ready()
	for rec, err := range sub.Records(ctx) {
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		fn(record{Key: rec.Key, Value: rec.Value})
	}
	return nil
}

// keysFor returns, for each of n streams, a key of keyBytes bytes that Braid stores in that stream's partition. Peers get the same
// keys, and are told the stream.
func keysFor(streams int) ([][]byte, error) {
	layout, err := partition.NewLayout(1, streams)
	if err != nil {
		return nil, err
	}
	keys := make([][]byte, streams)
	for left, i := streams, 0; left > 0; i++ {
		key := fmt.Appendf(nil, "%0*d", keyBytes, i)
		if at := layout.Route(partition.Hash(key)); keys[at] == nil {
			keys[at] = key
			left--
		}
	}
	return keys, nil
}
