package model

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/braid-go/braid"
)

// world is a broker, and what it should be.
type world struct {
	s      *sequences
	disk   Disk
	b      *braid.Broker
	topics map[string]*topic // as the model has them
	values map[string]string // the application's state
	subs   [len(slots)]*sub

	ids    int      // of records and more
	did    []string // for people
	broken bool     // nothing makes sense any more
	over   bool     // there is enough of this
}

// sub is a member and its model.
type sub struct {
	*braid.Subscription
	*member
	err error     // of a callback
	in  *bursting // under way, which is told what happens
}

func newWorld(s *sequences) *world {
	w := &world{s: s, disk: s.c.Disk(uint64(s.seed)), topics: map[string]*topic{}, values: map[string]string{}}
	err := w.open()
	if err == nil {
		_, err = w.b.CreateTopic(context.Background(), lasting, braid.TopicConfig{Partitions: 1 + int(uint64(s.seed)%4), SegmentBytes: 64 << 10})
		w.topics[lasting] = newTopic(lasting, false)
	}
	if err == nil {
		err = w.look(lasting, true)
	}
	if err != nil {
		w.fail(err)
	}
	return w
}

// end closes everything.
func (w *world) end() {
	if w.disk == nil {
		return
	}
	if w.b != nil {
		if err := w.b.Close(); err != nil && !w.broken {
			w.fail(err)
			w.s.t.Errorf("seed %d: close: %v", w.s.seed, err)
		}
	}
	w.disk.Remove()
}

func (w *world) note(format string, args ...any) { w.did = append(w.did, fmt.Sprintf(format, args...)) }

// story is what has been done.
func (w *world) story() string { return strings.Join(w.did, "\n") }

func (w *world) fail(err error) {
	w.broken = true
	w.note("FAILED: %v", err)
	w.s.failed(w, err)
}

// run carries out a command and compares everything. After a failure it does nothing.
func (w *world) run(c command) error {
	if w.over || w.broken {
		return nil
	}
	w.note("%s", strings.TrimSpace(c.String()))
	err := c.op.do(w, c)
	if err == nil {
		err = w.compare()
	}
	if err != nil {
		w.fail(err)
		return err
	}
	w.s.total.add(c.op.name, 1)
	return nil
}

// open opens the broker, for the first time or again.
func (w *world) open() error {
	var err error
	if w.b, err = w.disk.Open(); err != nil {
		return fmt.Errorf("open: %w", err)
	}
	w.subs = [len(slots)]*sub{}
	return nil
}

// handle returns a topic of the broker.
func (w *world) handle(name string) (*braid.Topic, error) { return w.b.Topic(name) }

// compare compares everything with the model.
func (w *world) compare() error {
	if got := w.b.Topics(); len(got) != len(w.topics) {
		return fmt.Errorf("there are %d topics, want %d", len(got), len(w.topics))
	}
	for name := range w.topics {
		if err := w.look(name, false); err != nil {
			return err
		}
	}
	return w.sameState()
}

// look compares a topic with the model: its partitions, its records and its groups.
func (w *world) look(name string, mayChange bool) error {
	handle, err := w.handle(name)
	if err != nil {
		return err
	}
	t := w.topics[name]
	err = t.read(handle, mayChange)
	if err != nil && t.loses { // perhaps to a round of retention just now
		err = t.read(handle, mayChange)
	}
	if err != nil {
		return err
	}
	for group := range t.groups {
		if err := w.lookAt(handle, t.groups[group]); err != nil {
			return err
		}
	}
	return nil
}

// read compares the topic's partitions and their records.
func (t *topic) read(handle *braid.Topic, mayChange bool) error {
	if err := t.layout(handle.Partitions(), mayChange); err != nil {
		return err
	}
	read, err := readAll(handle)
	if err == nil {
		err = t.holds(read)
	}
	if err != nil {
		return fmt.Errorf("reading %s: %w", t.name, err)
	}
	return nil
}

// readAll reads a topic. A key's partitions have rising ids, and come one after the other.
func readAll(t *braid.Topic) (map[braid.PartitionID][]entry, error) {
	read, last := map[braid.PartitionID][]entry{}, map[string]braid.PartitionID{}
	for rec, err := range t.Read(context.Background(), braid.ReadOptions{}) {
		if err != nil {
			return nil, err
		}
		if key := string(rec.Key); rec.Key != nil {
			if rec.Partition < last[key] {
				return nil, fmt.Errorf("%q of key %q, in partition %d, comes after one in partition %d", head(string(rec.Value)), key, rec.Partition, last[key])
			}
			last[key] = rec.Partition
		}
		read[rec.Partition] = append(read[rec.Partition], entry{string(rec.Key), string(rec.Value), rec.Offset})
	}
	return read, nil
}

// lookAt compares a group with the model: its positions and its members.
func (w *world) lookAt(t *braid.Topic, g *group) error {
	handle, err := t.Group(g.name)
	if err != nil {
		return err
	}
	positions, err := handle.Export(context.Background())
	if err == nil {
		err = g.is(positions.Offsets)
	}
	if err != nil {
		return err
	}
	d, err := handle.Describe(context.Background())
	if err != nil {
		return err
	}
	owner, members := map[braid.PartitionID]uint64{}, 0
	for _, m := range d.Members {
		for _, id := range m.Partitions {
			if other, taken := owner[id]; taken {
				return fmt.Errorf("members %d and %d of %s own partition %d of %s", other, m.ID, g.name, id, t.Name())
			}
			owner[id] = m.ID
		}
	}
	for i, s := range w.subs {
		if s != nil && slots[i].topic == t.Name() && slots[i].group == g.name {
			members++
		}
	}
	if members != len(d.Members) {
		return fmt.Errorf("group %s of %s has %d members, want %d", g.name, t.Name(), len(d.Members), members)
	}
	return nil
}

// sameState compares the application's state.
func (w *world) sameState() error {
	n := 0
	for e, err := range w.b.Scan(context.Background(), "") {
		if err != nil {
			return err
		}
		if want, there := w.values[e.Key]; !there || want != string(e.Value) {
			return fmt.Errorf("key %q of the state is %q, want %q, %v", e.Key, e.Value, want, there)
		}
		n++
	}
	if n != len(w.values) {
		return fmt.Errorf("the state has %d keys, want %d", n, len(w.values))
	}
	return nil
}

// positions returns a group's positions.
func (w *world) positions(g *group) (map[braid.PartitionID]int64, error) {
	t, err := w.handle(g.t.name)
	if err != nil {
		return nil, err
	}
	handle, err := t.Group(g.name)
	if err != nil {
		return nil, err
	}
	p, err := handle.Export(context.Background())
	if err != nil {
		return nil, err
	}
	return p.Offsets, nil
}

// expect returns an error unless err is of a kind.
func expect(what string, err, kind error) error {
	if !errors.Is(err, kind) {
		return fmt.Errorf("%s: error %v, want %w", what, err, kind)
	}
	return nil
}

// record makes a record, of one of a few keys that are unlike in how often they come, or of none.
func (w *world) record(rng *rand.Rand, size int) *braid.Record {
	w.ids++
	rec := &braid.Record{Value: fmt.Appendf(nil, "value %d ", w.ids)}
	if key := rng.IntN(8) * rng.IntN(8); key < 40 {
		rec.Key = fmt.Appendf(nil, "key %d", key)
	}
	if rng.IntN(3) == 0 {
		rec.Headers = []braid.Header{{Key: "h", Value: []byte("v")}}
	}
	for range size {
		rec.Value = append(rec.Value, byte('a'+rng.IntN(26)))
	}
	return rec
}
