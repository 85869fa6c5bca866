package model

import (
	"fmt"
	"maps"
	"slices"

	"github.com/braid-go/braid"
)

// group is a consumer group as the model has it.
type group struct {
	t      *topic
	name   string
	exists bool                        // it has positions
	at     map[braid.PartitionID]int64 // they; a partition that is not in it is at its start
	begun  map[braid.PartitionID]int64 // in a burst: where commits that have begun lead to
}

// group returns a group of a topic, which need not exist.
func (t *topic) group(name string) *group {
	if t.groups[name] == nil {
		t.groups[name] = &group{t: t, name: name, at: map[braid.PartitionID]int64{}}
	}
	return t.groups[name]
}

// is compares positions with those that the group should have. Those that the broker has only now written down are where the partition begins.
func (g *group) is(positions map[braid.PartitionID]int64) error {
	for id, at := range positions {
		if want := g.at[id]; at != want {
			return fmt.Errorf("group %s of %s is at %d in partition %d, want %d", g.name, g.t.name, at, id, want)
		}
		if g.t.parts[id] == nil {
			return fmt.Errorf("group %s of %s has a position in partition %d, which there is not", g.name, g.t.name, id)
		}
		if !g.exists {
			return fmt.Errorf("group %s of %s has a position in partition %d, and should have none", g.name, g.t.name, id)
		}
	}
	for id, at := range g.at {
		if _, there := positions[id]; !there && at > 0 {
			return fmt.Errorf("group %s of %s has no position in partition %d, want %d", g.name, g.t.name, id, at)
		}
	}
	return nil
}

// left counts the records that are still to be committed.
func (g *group) left() int {
	n := 0
	for id, p := range g.t.parts {
		n += len(p.between(g.at[id], p.end))
	}
	return n
}

// reader is how far a member of a group is in a partition that it has.
type reader struct {
	from int64 // it was at when the member got it
	next int64 // to be delivered
	high int64 // everything from from to here has been delivered
}

// delivery is a record that a member was delivered.
type delivery struct {
	rec    *braid.Record
	reader *reader
}

// member is a member of a group as the model has it.
type member struct {
	g       *group
	readers map[braid.PartitionID]*reader // of the partitions that it was told to have
	got     []delivery                    // that it may commit
	alone   bool                          // in the group
	pending map[braid.PartitionID]int64   // in a burst: where the commit that has begun leads to
}

func newMember(g *group) *member {
	return &member{g: g, readers: map[braid.PartitionID]*reader{}}
}

func (m *member) assigned(ids []braid.PartitionID) {
	for _, id := range ids {
		at := m.g.at[id]
		m.readers[id] = &reader{at, at, at}
	}
}

func (m *member) gone(ids []braid.PartitionID) {
	for _, id := range ids {
		delete(m.readers, id)
	}
}

// delivered takes note of a record that the member was delivered. It has to be the next of its partition, and those of its key before it
// delivered to this member, or committed.
func (m *member) delivered(rec *braid.Record) error {
	what := fmt.Sprintf("%q of key %q, offset %d of partition %d", head(string(rec.Value)), rec.Key, rec.Offset, rec.Partition)
	p, r := m.g.t.parts[rec.Partition], m.readers[rec.Partition]
	if p == nil || r == nil {
		return fmt.Errorf("%s was delivered to a member that does not have the partition", what)
	}
	if missed := p.between(r.next, rec.Offset); len(missed) > 0 || rec.Offset < r.next {
		return fmt.Errorf("%s was delivered when the member was at %d, with %d records between", what, r.next, len(missed))
	}
	here := p.between(rec.Offset, rec.Offset+1)
	want := entry{string(rec.Key), string(rec.Value), rec.Offset}
	if !slices.Equal(here, []entry{want}) && p.removed[rec.Offset] != want { // what is removed may have been read before
		return fmt.Errorf("%s was delivered, and was never stored there", what)
	}
	if rec.Key != nil {
		if err := m.inOrder(p, string(rec.Key), what); err != nil {
			return err
		}
	}
	r.next = rec.Offset + 1
	r.high = max(r.high, r.next)
	m.got = append(m.got, delivery{rec, r})
	return nil
}

// inOrder returns an error if there is a record of a key before a partition that is neither committed nor delivered to the member; or which the member is to be
// delivered again, since it has gone back before it.
func (m *member) inOrder(p *part, key, what string) error {
	for _, id := range p.parents {
		parent := m.g.t.parts[id]
		if parent == nil {
			continue // forgotten
		}
		at := max(m.g.at[id], m.g.begun[id])
		if r := m.readers[id]; r != nil {
			at = r.next
		}
		for _, e := range parent.between(at, parent.end) {
			if e.key == key {
				return fmt.Errorf("%s was delivered before %q, offset %d of partition %d", what, head(e.value), e.offset, id)
			}
		}
		if err := m.inOrder(parent, key, what); err != nil {
			return err
		}
	}
	return nil
}

// rewind moves the reading of partitions to positions.
func (m *member) rewind(to func(id braid.PartitionID) int64) {
	for id, r := range m.readers {
		r.next = to(id)
	}
}

// through reports whether the group is through with a partition that the member has or had: it takes no more records, the group has committed all of it, the member
// has read it to the end, and so it is with what it continues. Nobody goes back into it.
func (m *member) through(id braid.PartitionID) bool {
	p := m.g.t.parts[id]
	if p == nil {
		return true // forgotten
	}
	if !p.sealed || m.g.at[id] < p.end {
		return false
	}
	if r := m.readers[id]; r != nil && len(p.between(r.next, p.end)) > 0 {
		return false
	}
	return !slices.ContainsFunc(p.parents, func(parent braid.PartitionID) bool { return !m.through(parent) })
}

// waiting counts the records that there are to deliver to a member that is alone.
func (m *member) waiting() int {
	n := 0
	for id, p := range m.g.t.parts {
		at := m.g.at[id]
		if r := m.readers[id]; r != nil {
			at = max(p.start, r.next)
		}
		n += len(p.between(at, p.end))
	}
	return n
}

// stale reports whether one of some deliveries is of a partition that the member has lost since.
func (m *member) stale(of []delivery) bool {
	return slices.ContainsFunc(of, func(d delivery) bool { return m.readers[d.rec.Partition] != d.reader })
}

// committed takes over the positions after a commit of deliveries. They have moved behind these, and behind what they continue; nothing
// was passed that was not delivered to the member, and nothing else has moved.
func (m *member) committed(of []delivery, positions map[braid.PartitionID]int64) error {
	related := map[braid.PartitionID]bool{}
	for _, d := range of {
		if m.g.t.parts[d.rec.Partition] == nil {
			continue // forgotten since it was delivered
		}
		m.relate(d.rec.Partition, related)
		if at := positions[d.rec.Partition]; at <= d.rec.Offset {
			return fmt.Errorf("offset %d of partition %d was committed, and the group is at %d", d.rec.Offset, d.rec.Partition, at)
		}
	}
	for id, at := range positions {
		was := m.g.at[id]
		if at == was {
			continue
		}
		r, p := m.readers[id], m.g.t.parts[id]
		switch {
		case p != nil && at > was && len(p.between(was, at)) == 0: // over what retention has removed
		case at < was || !related[id]:
			return fmt.Errorf("a commit of %s has moved group %s of %s from %d to %d in partition %d", list(of), m.g.name, m.g.t.name, was, at, id)
		case p == nil || r == nil:
			return fmt.Errorf("a commit has moved group %s of %s in partition %d, which the member does not have", m.g.name, m.g.t.name, id)
		case r.from > was || len(p.between(r.high, at)) > 0:
			return fmt.Errorf("a commit has moved group %s of %s from %d to %d in partition %d, and the member was only delivered %d to %d",
				m.g.name, m.g.t.name, was, at, id, r.from, r.high)
		}
		if err := m.g.behind(p, positions); err != nil {
			return err
		}
	}
	for _, d := range of {
		id := d.rec.Partition
		if m.g.t.parts[id] == nil {
			continue
		}
		behind := m.g.t.parts[id].between(d.rec.Offset+1, positions[id])
		last := !slices.ContainsFunc(of, func(o delivery) bool { return o.rec.Partition == id && o.rec.Offset > d.rec.Offset })
		if last && len(behind) > 0 && positions[id] > m.g.at[id] && !m.continued(id, of) {
			return fmt.Errorf("offset %d of partition %d was committed, and the group is at %d", d.rec.Offset, id, positions[id])
		}
	}
	m.g.at = maps.Clone(positions)
	return nil
}

// behind returns an error unless positions are behind everything that a partition continues.
func (g *group) behind(p *part, positions map[braid.PartitionID]int64) error {
	for _, id := range p.parents {
		parent := g.t.parts[id]
		if parent == nil {
			continue
		}
		if left := parent.between(positions[id], parent.end); len(left) > 0 {
			return fmt.Errorf("group %s of %s is at %d in partition %d, and %d records before it, in partition %d, are not committed",
				g.name, g.t.name, positions[p.id], p.id, len(left), id)
		}
		if err := g.behind(parent, positions); err != nil {
			return err
		}
	}
	return nil
}

// continued reports whether a partition is continued by one of which something is committed too, so that its end is.
func (m *member) continued(id braid.PartitionID, of []delivery) bool {
	return slices.ContainsFunc(of, func(d delivery) bool {
		before := map[braid.PartitionID]bool{}
		for _, parent := range m.g.t.parts[d.rec.Partition].parents {
			m.relate(parent, before)
		}
		return before[id]
	})
}

// relate adds a partition and what it continues.
func (m *member) relate(id braid.PartitionID, related map[braid.PartitionID]bool) {
	related[id] = true
	if p := m.g.t.parts[id]; p != nil {
		for _, parent := range p.parents {
			m.relate(parent, related)
		}
	}
}

// list names deliveries.
func list(of []delivery) string {
	s := ""
	for _, d := range of {
		s += fmt.Sprintf(" %d@%d", d.rec.Partition, d.rec.Offset)
	}
	return s
}
