package model

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/braid-go/braid"
	"github.com/braid-go/braid/partition"
)

// entry is a record as the model has it.
type entry struct {
	key    string // "" for none
	value  string // unique in a run
	offset int64
}

// part is a partition as the model has it.
type part struct {
	id      braid.PartitionID
	space   partition.Range
	sealed  bool
	parents []braid.PartitionID
	recs    []entry // by offset
	start   int64   // retention has removed what is below
	removed map[int64]entry
	end     int64 // what is published next gets this offset
	gaps    bool  // after a crash an offset may be left out
}

// between returns the records of which the offset is from a to below b.
func (p *part) between(a, b int64) []entry {
	at := func(offset int64) int {
		i, _ := slices.BinarySearchFunc(p.recs, offset, func(e entry, o int64) int { return cmp.Compare(e.offset, o) })
		return i
	}
	if b <= a {
		return nil
	}
	return p.recs[at(a):at(b)]
}

// topic is a topic as the model has it.
type topic struct {
	name   string
	loses  bool // by retention
	parts  map[braid.PartitionID]*part
	groups map[string]*group
}

func newTopic(name string, loses bool) *topic {
	return &topic{name: name, loses: loses, parts: map[braid.PartitionID]*part{}, groups: map[string]*group{}}
}

// active returns the partitions in use, in the order of their ranges.
func (t *topic) active() []*part {
	var out []*part
	for _, p := range t.parts {
		if !p.sealed {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b *part) int { return cmp.Compare(a.space.Lo, b.space.Lo) })
	return out
}

// covers returns an error unless the partitions in use cover the space exactly once.
func (t *topic) covers() error {
	next := uint64(0)
	active := t.active()
	for i, p := range active {
		if p.space.Lo != next || p.space.Hi < p.space.Lo {
			return fmt.Errorf("partition %d of %s has range %x to %x, want it to begin at %x", p.id, t.name, p.space.Lo, p.space.Hi, next)
		}
		if next = p.space.Hi + 1; next == 0 && i < len(active)-1 {
			return fmt.Errorf("partitions of %s overlap at the end of the space", t.name)
		}
	}
	if next != 0 || len(active) == 0 {
		return fmt.Errorf("the partitions of %s end at %x", t.name, next)
	}
	return nil
}

// layout takes over what the broker says of the partitions. Only with mayChange may there be new ones, and others be sealed.
func (t *topic) layout(infos []braid.PartitionInfo, mayChange bool) error {
	seen := map[braid.PartitionID]bool{}
	for _, info := range infos {
		if seen[info.ID] {
			return fmt.Errorf("partition %d of %s is there twice", info.ID, t.name)
		}
		seen[info.ID] = true
		if info.Err != nil {
			return fmt.Errorf("partition %d of %s: %w", info.ID, t.name, info.Err)
		}
		p := t.parts[info.ID]
		if p == nil {
			if !mayChange {
				return fmt.Errorf("partition %d of %s has come from nowhere", info.ID, t.name)
			}
			p = &part{id: info.ID, space: info.KeyRange, parents: info.Parents, sealed: info.Sealed, removed: map[int64]entry{}}
			t.parts[info.ID] = p
		}
		switch {
		case p.space != info.KeyRange || !slices.Equal(p.parents, info.Parents):
			return fmt.Errorf("partition %d of %s was %x %v, and is %x %v", p.id, t.name, p.space, p.parents, info.KeyRange, info.Parents)
		case p.sealed != info.Sealed && (p.sealed || !mayChange):
			return fmt.Errorf("partition %d of %s: sealed is %v", p.id, t.name, info.Sealed)
		}
		p.sealed = info.Sealed
		if err := t.lose(p, info); err != nil {
			return err
		}
	}
	for id, p := range t.parts {
		if seen[id] {
			continue
		}
		if err := t.forgotten(p); err != nil {
			return err
		}
		delete(t.parts, id)
	}
	return t.covers()
}

// lose has retention remove what is below the start of a partition.
func (t *topic) lose(p *part, info braid.PartitionInfo) error {
	if info.Start != p.start && (!t.loses || info.Start < p.start) {
		return fmt.Errorf("partition %d of %s begins at %d, and began at %d", p.id, t.name, info.Start, p.start)
	}
	p.start = info.Start
	for _, e := range p.between(0, p.start) {
		p.removed[e.offset] = e
	}
	p.recs = p.between(p.start, math.MaxInt64)
	return nil
}

// forgotten returns an error unless a partition that is there no more may be forgotten: it was sealed, retention has removed what it held, and every group has passed it.
func (t *topic) forgotten(p *part) error {
	if !p.sealed || len(p.recs) > 0 && !t.loses {
		return fmt.Errorf("partition %d of %s is gone, with %d records", p.id, t.name, len(p.recs))
	}
	for name, g := range t.groups {
		if g.exists && g.at[p.id] < p.end {
			return fmt.Errorf("partition %d of %s is gone, and group %s was only at %d of %d", p.id, t.name, name, g.at[p.id], p.end)
		}
		delete(g.at, p.id)
	}
	return nil
}

// store adds a record where the broker says that it is.
func (t *topic) store(rec *braid.Record) error {
	p := t.parts[rec.Partition]
	switch {
	case p == nil:
		return fmt.Errorf("a record is in partition %d of %s, which there is not", rec.Partition, t.name)
	case rec.Key != nil && !p.space.Contains(partition.Hash(rec.Key)):
		return fmt.Errorf("key %q is in partition %d of %s, which has other keys", rec.Key, p.id, t.name)
	case rec.Offset < p.end || rec.Offset > p.end && !p.gaps:
		return fmt.Errorf("%q has offset %d in partition %d of %s, want %d", head(string(rec.Value)), rec.Offset, p.id, t.name, p.end)
	}
	p.recs = append(p.recs, entry{string(rec.Key), string(rec.Value), rec.Offset})
	p.end, p.gaps = rec.Offset+1, false
	return nil
}

// last returns the place of a key's last record.
func (t *topic) last(key string) (id braid.PartitionID, offset int64) {
	offset = -1
	for _, p := range t.parts {
		if p.id < id {
			continue
		}
		for _, e := range slices.Backward(p.recs) {
			if e.key == key {
				id, offset = p.id, e.offset
				break
			}
		}
	}
	return id, offset
}

// holds compares what was read of a topic with what should be there.
func (t *topic) holds(read map[braid.PartitionID][]entry) error {
	for id, got := range read {
		if t.parts[id] == nil {
			return fmt.Errorf("partition %d of %s is read, with %d records, and there is no such", id, t.name, len(got))
		}
	}
	for id, p := range t.parts {
		if err := differ(p.recs, read[id]); err != nil {
			return fmt.Errorf("partition %d of %s: %w", id, t.name, err)
		}
	}
	return nil
}

// differ says how what was read differs from what should have been.
func differ(want, got []entry) error {
	for i, e := range got {
		if i >= len(want) {
			return fmt.Errorf("offset %d has %q, which was never stored or is there again", e.offset, head(e.value))
		}
		if e != want[i] {
			return fmt.Errorf("offset %d has %q of key %q, want offset %d with %q of key %q", e.offset, head(e.value), e.key,
				want[i].offset, head(want[i].value), want[i].key)
		}
	}
	if len(got) < len(want) {
		return fmt.Errorf("%d records of %d are lost, the first is %q at offset %d", len(want)-len(got), len(want), head(want[len(got)].value), want[len(got)].offset)
	}
	return nil
}

// head is the beginning of a value, which says which it is.
func head(value string) string { return value[:min(len(value), 24)] }
