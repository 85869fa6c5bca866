package model

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/braid-go/braid"
	"github.com/braid-go/braid/partition"
)

// bursting is what several do at once: producers, who publish to one topic, the members of its groups, one who transacts over all topics, and one who splits
// and merges. Members rest where retention may take away what they see.
type bursting struct {
	w   *world
	t   *braid.Topic
	all []*braid.Topic

	mu    sync.Mutex
	tried map[string]*attempt // by value
	acked []acknowledged
	err   error
}

// attempt is a record that was handed to the broker.
type attempt struct {
	topic, key string
	producer   int // 0: a transaction
	number     int // in the order of the producer
	txn        string
	at         *place // where it was found, or was said to be
}

// place is where a record is.
type place struct {
	partition braid.PartitionID
	offset    int64
}

func (p place) before(q place) bool {
	return p.partition < q.partition || p.partition == q.partition && p.offset < q.offset
}

// acknowledged is a record of which the broker has said where it is, or a transaction, or new partitions; or what a member has seen or done.
type acknowledged struct {
	value    string
	at       place
	txn      string
	children []braid.PartitionID
	seen     *seen
}

// burst has several do something at once.
func burst(w *world, c command) error {
	b, err := w.newBurst(c)
	if err != nil {
		return err
	}
	if b.run(c); b.err != nil {
		return b.err
	}
	return b.judge(len(b.acked))
}

// newBurst makes a burst of a topic.
func (w *world) newBurst(c command) (*bursting, error) {
	t, err := w.handle(c.topic())
	if err != nil {
		return nil, err
	}
	return &bursting{w: w, t: t, all: w.b.Topics(), tried: map[string]*attempt{}}, nil
}

// run lets everybody go, and waits for them.
func (b *bursting) run(c command) {
	var wg sync.WaitGroup
	do := func(stream uint64, f func(*rand.Rand) error) {
		wg.Go(func() {
			if err := f(rand.New(rand.NewPCG(c.seed, stream))); err != nil {
				b.mu.Lock()
				defer b.mu.Unlock()
				b.err = errors.Join(b.err, err)
			}
		})
	}
	for i := range 2 + c.n%3 {
		do(uint64(i+1), func(rng *rand.Rand) error { return b.produce(rng, i+1, 2+c.n) })
	}
	do(100, func(rng *rand.Rand) error { return b.relay(rng, c.n%4) })
	for i, s := range b.w.subs {
		if s != nil && s.g.t.name == b.t.Name() && !s.g.t.loses {
			s.in = b
			defer func() { s.in = nil }()
			do(uint64(200+i), func(rng *rand.Rand) error { return b.consume(rng, s, 2+c.n) })
		}
	}
	do(101, func(rng *rand.Rand) error { return b.transact(rng, c.n/2) })
	wg.Wait()
}

// try makes a record, of which the outcome is open.
func (b *bursting) try(rng *rand.Rand, topic string, a attempt) *braid.Record {
	size := rng.IntN(60)
	if rng.IntN(10) == 0 {
		size = rng.IntN(30_000)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	rec := b.w.record(rng, size)
	a.topic, a.key = topic, string(rec.Key)
	b.tried[string(rec.Value)] = &a
	return rec
}

// ack notes acknowledgements.
func (b *bursting) ack(all ...acknowledged) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range all {
		b.acked = append(b.acked, a)
		b.w.disk.Acked()
	}
}

// stored are the acknowledgements of records.
func stored(recs []*braid.Record) []acknowledged {
	var all []acknowledged
	for _, rec := range recs {
		all = append(all, acknowledged{value: string(rec.Value), at: place{rec.Partition, rec.Offset}})
	}
	return all
}

// produce publishes batches.
func (b *bursting) produce(rng *rand.Rand, producer, calls int) error {
	number := 0
	for range calls {
		var recs []*braid.Record
		for range 1 + rng.IntN(4) {
			number++
			recs = append(recs, b.try(rng, b.t.Name(), attempt{producer: producer, number: number}))
		}
		if err := b.t.Publish(context.Background(), recs...); err != nil {
			return fmt.Errorf("publish in a burst: %w", err)
		}
		b.ack(stored(recs)...)
	}
	return nil
}

// transact publishes to all topics and changes the state, in transactions.
func (b *bursting) transact(rng *rand.Rand, n int) error {
	for range n {
		b.mu.Lock()
		b.w.ids++
		name := fmt.Sprint("txn ", b.w.ids)
		b.mu.Unlock()
		tx := b.w.b.Begin()
		for _, t := range b.all {
			for range 1 + rng.IntN(3) {
				if err := tx.Publish(t, b.try(rng, t.Name(), attempt{txn: name})); err != nil {
					return err
				}
			}
		}
		if err := errors.Join(tx.Put(name, []byte("done")), tx.Commit(context.Background())); err != nil {
			return fmt.Errorf("transaction in a burst: %w", err)
		}
		b.ack(append(stored(tx.Outputs()), acknowledged{txn: name})...)
	}
	return nil
}

// relay splits and merges.
func (b *bursting) relay(rng *rand.Rand, n int) error {
	for range n {
		var active []braid.PartitionInfo
		for _, p := range b.t.Partitions() {
			if !p.Sealed {
				active = append(active, p)
			}
		}
		slices.SortFunc(active, func(x, y braid.PartitionInfo) int {
			if x.KeyRange.Lo < y.KeyRange.Lo {
				return -1
			}
			return 1
		})
		i := rng.IntN(len(active))
		var children []braid.PartitionID
		var err error
		if i > 0 && (rng.IntN(2) == 0 || len(active) >= most) {
			children = make([]braid.PartitionID, 1)
			children[0], err = b.t.Merge(context.Background(), active[i-1].ID, active[i].ID)
		} else {
			children, err = b.t.Split(context.Background(), active[i].ID)
		}
		if indivisible := (*partition.IndivisibleError)(nil); errors.As(err, &indivisible) {
			continue
		}
		if err != nil {
			return fmt.Errorf("split or merge in a burst: %w", err)
		}
		b.ack(acknowledged{children: children})
	}
	return nil
}

// judge compares what there is with what was tried, and takes it over. The first so many acknowledgements count.
func (b *bursting) judge(acked int) error {
	w := b.w
	for name, t := range w.topics {
		handle, err := w.handle(name)
		if err != nil {
			return err
		}
		if err := t.layout(handle.Partitions(), name == b.t.Name()); err != nil {
			return err
		}
		read, err := readAll(handle)
		if err != nil {
			return fmt.Errorf("reading %s: %w", name, err)
		}
		if err := b.adopt(t, read); err != nil {
			return err
		}
	}
	for _, a := range b.acked[:acked] {
		if err := b.kept(a); err != nil {
			return err
		}
	}
	if err := b.atomic(); err != nil {
		return err
	}
	if err := b.inOrder(); err != nil {
		return err
	}
	return b.heard(acked)
}

// adopt takes over what a topic holds that the model does not have.
func (b *bursting) adopt(t *topic, read map[braid.PartitionID][]entry) error {
	for id, got := range read {
		p := t.parts[id]
		if p == nil {
			return fmt.Errorf("partition %d of %s is read, and there is no such", id, t.name)
		}
		for _, e := range got {
			if e.offset < p.end {
				continue // comparing finds out
			}
			a := b.tried[e.value]
			switch {
			case a == nil || a.topic != t.name || a.key != e.key:
				return fmt.Errorf("%q of key %q, at %d of partition %d of %s, was never published there", head(e.value), e.key, e.offset, id, t.name)
			case a.at != nil:
				return fmt.Errorf("%q is at %d of partition %d and at %d of partition %d of %s", head(e.value), a.at.offset, a.at.partition, e.offset, id, t.name)
			}
			a.at = &place{id, e.offset}
			rec := &braid.Record{Value: []byte(e.value), Partition: id, Offset: e.offset}
			if e.key != "" {
				rec.Key = []byte(e.key)
			}
			if err := t.store(rec); err != nil {
				return err
			}
		}
	}
	return nil
}

// kept returns an error unless what was acknowledged is there.
func (b *bursting) kept(a acknowledged) error {
	switch {
	case a.seen != nil: // heard
	case a.txn != "":
		if _, there, err := b.w.b.Get(context.Background(), a.txn); !there || err != nil {
			return fmt.Errorf("%s was acknowledged, and has not happened: %v", a.txn, err)
		}
	case a.children != nil:
		for _, id := range a.children {
			if b.w.topics[b.t.Name()].parts[id] == nil {
				return fmt.Errorf("partition %d was made, and is not there", id)
			}
		}
	default:
		t := b.tried[a.value]
		if t == nil {
			return nil // it was there before
		}
		if t.at == nil && b.w.topics[t.topic].loses { // retention was faster
			if p := b.w.topics[t.topic].parts[a.at.partition]; p == nil || a.at.offset < p.start {
				return nil
			}
		}
		if t.at == nil || *t.at != a.at {
			return fmt.Errorf("%q was acknowledged at %+v of %s, and is at %+v", head(a.value), a.at, t.topic, t.at)
		}
	}
	return nil
}

// atomic returns an error if a transaction has happened in part, and takes over the state of those that have happened.
func (b *bursting) atomic() error {
	for value, a := range b.tried {
		if a.txn == "" {
			continue
		}
		_, done, err := b.w.b.Get(context.Background(), a.txn)
		if err != nil {
			return err
		}
		if done != (a.at != nil) && !b.w.topics[a.topic].loses {
			return fmt.Errorf("%s has happened in part: its state is there: %v, and %q in %s: %v", a.txn, done, head(value), a.topic, a.at != nil)
		}
		if done {
			b.w.values[a.txn] = "done"
		}
	}
	return nil
}

// inOrder returns an error if what one producer has published of a key is in another order.
func (b *bursting) inOrder() error {
	type stream struct {
		producer int
		key      string
	}
	values := slices.SortedFunc(func(yield func(string) bool) {
		for v, a := range b.tried {
			if a.producer > 0 && a.key != "" && a.at != nil && !yield(v) {
				return
			}
		}
	}, func(x, y string) int { return b.tried[x].number - b.tried[y].number })
	last := map[stream]string{}
	for _, v := range values {
		a := b.tried[v]
		s := stream{a.producer, a.key}
		if before, there := last[s]; there && !b.tried[before].at.before(*a.at) {
			return fmt.Errorf("%q of key %q was published behind %q, and is at %+v, before %+v", head(v), a.key, head(before), *a.at, *b.tried[before].at)
		}
		last[s] = v
	}
	return nil
}
