package model

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/braid-go/braid"
	"github.com/braid-go/braid/partition"
)

// most is how many partitions there are at most in use.
const most = 12

// split splits a partition, or tries to with one that is no more.
func split(w *world, c command) error {
	handle, err := w.handle(c.topic())
	if err != nil {
		return err
	}
	t, rng := w.topics[c.topic()], c.random()
	if sealed := t.sealed(); len(sealed) > 0 && rng.IntN(8) == 0 {
		_, err := handle.Split(context.Background(), sealed[rng.IntN(len(sealed))])
		return expect("split of a partition that was split or merged", err, braid.ErrInvalidOption)
	}
	active := t.active()
	if len(active) >= most {
		return nil
	}
	p := active[rng.IntN(len(active))]
	children, err := handle.Split(context.Background(), p.id)
	if indivisible := (*partition.IndivisibleError)(nil); errors.As(err, &indivisible) {
		w.note("  %v", err)
		return nil
	}
	if err != nil {
		return err
	}
	return w.relaid(handle, children, p.id)
}

// merge merges two neighbours, or tries to with two that are none.
func merge(w *world, c command) error {
	handle, err := w.handle(c.topic())
	if err != nil {
		return err
	}
	active, rng := w.topics[c.topic()].active(), c.random()
	if len(active) > 2 && rng.IntN(8) == 0 {
		_, err := handle.Merge(context.Background(), active[0].id, active[2].id)
		return expect("merge of partitions that are no neighbours", err, braid.ErrInvalidOption)
	}
	if len(active) < 2 {
		return nil
	}
	i := rng.IntN(len(active) - 1)
	a, b := active[i].id, active[i+1].id
	if rng.IntN(2) == 0 {
		a, b = b, a
	}
	child, err := handle.Merge(context.Background(), a, b)
	if err != nil {
		return err
	}
	return w.relaid(handle, []braid.PartitionID{child}, a, b)
}

// sealed returns the partitions that were split or merged.
func (t *topic) sealed() []braid.PartitionID {
	var ids []braid.PartitionID
	for id, p := range t.parts {
		if p.sealed {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// relaid takes over a layout in which children continue parents, and nothing else has changed.
func (w *world) relaid(handle *braid.Topic, children []braid.PartitionID, parents ...braid.PartitionID) error {
	w.note("  %v continue %v", children, parents)
	t := w.topics[handle.Name()]
	before := t.sealed()
	known := len(t.parts)
	slices.Sort(parents)
	if err := t.layout(handle.Partitions(), true); err != nil {
		return err
	}
	for _, id := range children {
		p := t.parts[id]
		if p == nil || p.sealed {
			return fmt.Errorf("partition %d of %s was made, and is not in use", id, t.name)
		}
		got := slices.Sorted(slices.Values(p.parents))
		if !slices.Equal(got, parents) {
			return fmt.Errorf("partition %d of %s continues %v, want %v", id, t.name, got, parents)
		}
	}
	after := slices.DeleteFunc(t.sealed(), func(id braid.PartitionID) bool { return slices.Contains(before, id) })
	if !slices.Equal(after, parents) || !t.loses && len(t.parts) != known+len(children) {
		return fmt.Errorf("%v of %s were sealed, want %v; there are %d partitions and were %d", after, t.name, parents, len(t.parts), known)
	}
	return nil
}
