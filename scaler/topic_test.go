package scaler

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"time"

	"github.com/braid-go/braid/partition"
)

// population is a set of keys that get fixed shares of the records.
type population struct {
	hashes []uint64
	upTo   []float64 // the share of all keys before, and of all at the end
}

// newPopulation gives the i-th of n keys a weight.
func newPopulation(n int, weight func(i int) float64) *population {
	type key struct {
		hash   uint64
		weight float64
	}
	keys, sum := make([]key, n), 0.0
	for i := range keys {
		keys[i] = key{partition.Hash(fmt.Appendf(nil, "key-%d", i)), weight(i)}
		sum += keys[i].weight
	}
	slices.SortFunc(keys, func(a, b key) int {
		if a.hash < b.hash {
			return -1
		}
		return 1
	})
	p := &population{upTo: []float64{0}}
	total := 0.0
	for _, k := range keys {
		p.hashes = append(p.hashes, k.hash)
		total += k.weight / sum
		p.upTo = append(p.upTo, total)
	}
	return p
}

func even(int) float64       { return 1 }
func zipf(i int) float64     { return 1 / float64(i+1) }
func ninety(i int) float64   { return 1 + float64(b2i(i == 0)*(9*4095-1)) }
func hotHash() uint64        { return partition.Hash([]byte("key-0")) }
func (p *population) n() int { return len(p.hashes) }

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// within returns the shares at which a range begins and ends.
func (p *population) within(r partition.Range) (from, to float64) {
	lo := sort.Search(p.n(), func(i int) bool { return p.hashes[i] >= r.Lo })
	hi := sort.Search(p.n(), func(i int) bool { return p.hashes[i] > r.Hi })
	return p.upTo[lo], p.upTo[hi]
}

// simPartition is a partition whose load is measured as in earnest.
type simPartition struct {
	Partition
	load     *partition.Load
	keys     *population
	from, to float64
	owed     float64 // the part of a record that has not been published
	r        *rand.Rand
}

// KeyHash draws a key of the partition's range.
func (p *simPartition) KeyHash(int) (uint64, bool) {
	x := p.from + (p.to-p.from)*p.r.Float64()
	i := sort.Search(p.keys.n()-1, func(i int) bool { return p.keys.upTo[i+1] > x })
	return p.keys.hashes[i], true
}

// simTopic is a topic in virtual time: records arrive at a rate, and consumers read so many a second each.
type simTopic struct {
	keys     *population
	r        *rand.Rand
	now      time.Time
	parts    []*simPartition
	next     partition.ID
	group    Group
	capacity float64
	backlog  float64
}

const recordBytes = 100

func newSimTopic(keys *population) *simTopic {
	t := &simTopic{keys: keys, r: rand.New(rand.NewPCG(20260101, 1)), now: epoch, capacity: 60_000, group: Group{Name: "g", Consumers: 1}}
	t.parts = []*simPartition{t.made(partition.Range{Lo: 0, Hi: 1<<64 - 1})}
	return t
}

func (t *simTopic) made(r partition.Range) *simPartition {
	t.next++
	p := &simPartition{load: partition.NewLoad(t.now), keys: t.keys, r: t.r}
	p.ID, p.Range = t.next, r
	p.from, p.to = t.keys.within(r)
	return p
}

// second lets a second pass with a rate, in five rounds.
func (t *simTopic) second(rate float64) {
	for i := range 5 {
		for _, p := range t.parts {
			p.owed += rate / 5 * (p.to - p.from)
			n := int(p.owed)
			p.owed -= float64(n)
			p.load.Observe(t.now.Add(time.Duration(i)*time.Second/5), n, int64(n)*recordBytes, p)
		}
	}
	t.now = t.now.Add(time.Second)
	t.backlog = max(0, t.backlog+rate-t.capacity*float64(min(t.group.Consumers, len(t.parts))))
	t.group.Lag = time.Duration(t.backlog / max(rate, 1) * float64(time.Second))
}

func (t *simTopic) Measure(context.Context) (Snapshot, error) {
	var s Snapshot
	for _, p := range t.parts {
		p.Load = p.load.Snapshot(t.now)
		s.Partitions = append(s.Partitions, p.Partition)
	}
	t.group.Free = max(0, len(t.parts)-t.group.Consumers)
	s.Groups = []Group{t.group}
	return s, nil
}

func (t *simTopic) Split(_ context.Context, d Decision) error {
	id, at := d.Partition, d.At
	i := slices.IndexFunc(t.parts, func(p *simPartition) bool { return p.ID == id })
	if i < 0 {
		return fmt.Errorf("no partition %d", id)
	}
	r := t.parts[i].Range
	t.parts = slices.Replace(t.parts, i, i+1, t.made(partition.Range{Lo: r.Lo, Hi: at - 1}), t.made(partition.Range{Lo: at, Hi: r.Hi}))
	return nil
}

func (t *simTopic) Merge(_ context.Context, d Decision) error {
	lower, upper := d.Partition, d.Neighbor
	i := slices.IndexFunc(t.parts, func(p *simPartition) bool { return p.ID == lower })
	if i < 0 || i+1 >= len(t.parts) || t.parts[i+1].ID != upper {
		return fmt.Errorf("no neighbours %d and %d", lower, upper)
	}
	t.parts = slices.Replace(t.parts, i, i+2, t.made(partition.Range{Lo: t.parts[i].Range.Lo, Hi: t.parts[i+1].Range.Hi}))
	return nil
}

func (t *simTopic) Resize(_ context.Context, d Decision) error {
	t.group.Consumers = d.Consumers
	return nil
}
