package braid

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/braid-go/braid/checkpoint"
	"github.com/braid-go/braid/group"
	"github.com/braid-go/braid/partition"
)

// What the broker keeps in the store, beside the positions that package group keys
// (they begin with 'g'):
//
//	'n'                          counters: the next ids
//	't' name                     a topic: id and configuration
//	'l' topic id (8, big endian) the topic's layout, encoded by package partition
//	'o' topic id, partition id   when and why a partition was made of others
//	'd' partition id (8, b.e.)   a tombstone: the partition was deleted on purpose
//	'u' key                      the application's own state
const (
	keyCounters  = 'n'
	keyTopic     = 't'
	keyLayout    = 'l'
	keyMaking    = 'o'
	keyTombstone = 'd'
	keyState     = 'u'
)

func countersKey() []byte         { return []byte{keyCounters} }
func topicKey(name string) []byte { return append([]byte{keyTopic}, name...) }
func layoutKey(id uint64) []byte {
	return binary.BigEndian.AppendUint64(append(make([]byte, 0, 9), keyLayout), id) // not on the heap where it is only looked at
}
func tombstoneKey(id PartitionID) []byte {
	return binary.BigEndian.AppendUint64([]byte{keyTombstone}, uint64(id))
}

// makingPrefix begins the makingKeys of a topic's partitions.
func makingPrefix(topic uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{keyMaking}, topic)
}

func makingKey(topic uint64, id PartitionID) []byte {
	return binary.BigEndian.AppendUint64(makingPrefix(topic), uint64(id))
}

func stateKey(key string) []byte { return append([]byte{keyState}, key...) }

// parseStateKey is the inverse of stateKey.
func parseStateKey(b []byte) (string, bool) {
	if len(b) == 0 || b[0] != keyState {
		return "", false
	}
	return string(b[1:]), true
}

// counters are the next ids to give out. Ids are never reused.
type counters struct {
	Topic     uint64      `json:"topic"`
	Partition PartitionID `json:"partition"`
}

// topicMeta is what the store keeps of a topic.
type topicMeta struct {
	ID      uint64      `json:"id"`
	Created time.Time   `json:"created"`
	Config  TopicConfig `json:"config"`
}

// making is when and why a partition was made of others.
type making struct {
	Made time.Time `json:"made"`
	Why  string    `json:"why"`
}

// maxWhy bounds a stored reason, in bytes.
const maxWhy = 1024

func newMaking(why string) making {
	return making{time.Now().Round(0), strings.ToValidUTF8(why[:min(len(why), maxWhy)], "")}
}

// metaReader is what reading the metadata takes of a store, or of a read-only view of one.
type metaReader interface {
	Get(ctx context.Context, key []byte) ([]byte, checkpoint.Revision, error)
	Scan(ctx context.Context, prefix []byte) iter.Seq2[checkpoint.Entry, error]
}

// storedTopic is a topic as the store has it.
type storedTopic struct {
	name   string
	meta   topicMeta
	layout *partition.Layout
	rev    checkpoint.Revision // of the layout
	// committed has, for each partition, the highest position that any group has committed.
	committed map[PartitionID]int64
	makings   map[PartitionID]making
}

// catalog is all metadata at one moment.
type catalog struct {
	counters   counters
	topics     []storedTopic // by name
	tombstones []PartitionID
}

func corruptMeta(what string, err error) error {
	return fmt.Errorf("%w: store: %s: %w", ErrCorrupt, what, err)
}

// readCatalog reads all metadata and checks that it hangs together.
func readCatalog(ctx context.Context, r metaReader) (*catalog, error) {
	c := &catalog{counters: counters{Topic: 1, Partition: 1}}
	b, _, err := r.Get(ctx, countersKey())
	if err != nil {
		return nil, storeError(err)
	}
	if b != nil {
		if err := json.Unmarshal(b, &c.counters); err != nil {
			return nil, corruptMeta("counters", err)
		}
	}
	for e, err := range r.Scan(ctx, []byte{keyTopic}) {
		if err != nil {
			return nil, storeError(err)
		}
		t, err := readTopic(ctx, r, e)
		if err != nil {
			return nil, err
		}
		c.topics = append(c.topics, t)
	}
	for e, err := range r.Scan(ctx, []byte{keyTombstone}) {
		if err != nil {
			return nil, storeError(err)
		}
		if len(e.Key) != 9 {
			return nil, corruptMeta("tombstone", fmt.Errorf("key %.32x", e.Key))
		}
		c.tombstones = append(c.tombstones, PartitionID(binary.BigEndian.Uint64(e.Key[1:])))
	}
	return c, c.check()
}

// readTopic reads a topic's layout and positions, given the entry of its configuration.
func readTopic(ctx context.Context, r metaReader, e checkpoint.Entry) (storedTopic, error) {
	t := storedTopic{name: string(e.Key[1:]), committed: map[PartitionID]int64{}, makings: map[PartitionID]making{}}
	if err := checkName("topic", t.name); err != nil {
		return t, corruptMeta("topic key", err)
	}
	if err := json.Unmarshal(e.Value, &t.meta); err != nil {
		return t, corruptMeta("topic "+t.name, err)
	}
	b, rev, err := r.Get(ctx, layoutKey(t.meta.ID))
	t.rev = rev
	if err != nil {
		return t, storeError(err)
	}
	if t.layout, err = partition.DecodeLayout(b); err != nil {
		return t, corruptMeta("layout of topic "+t.name, err)
	}
	for at, err := range positions(ctx, r, t.meta.ID, t.name) {
		if err != nil {
			return t, err
		}
		t.committed[at.part] = max(t.committed[at.part], at.Offset)
	}
	prefix := makingPrefix(t.meta.ID)
	for e, err := range r.Scan(ctx, prefix) {
		if err != nil {
			return t, storeError(err)
		}
		var o making
		if err := json.Unmarshal(e.Value, &o); err != nil || len(e.Key) != len(prefix)+8 {
			return t, corruptMeta("the making of a partition of topic "+t.name, fmt.Errorf("key %.32x: %w", e.Key, err))
		}
		t.makings[PartitionID(binary.BigEndian.Uint64(e.Key[len(prefix):]))] = o
	}
	return t, nil
}

// check refuses metadata that contradicts itself.
func (c *catalog) check() error {
	owner := map[PartitionID]string{}
	for _, t := range c.topics {
		if t.meta.ID == 0 || t.meta.ID >= c.counters.Topic {
			return corruptMeta("topic "+t.name, fmt.Errorf("id %d was never given out", t.meta.ID))
		}
		for _, p := range t.layout.All() {
			if p.ID >= c.counters.Partition {
				return corruptMeta("topic "+t.name, fmt.Errorf("partition %d was never given out", p.ID))
			}
			if other, taken := owner[p.ID]; taken {
				return corruptMeta("topic "+t.name, fmt.Errorf("partition %d belongs to topic %s too", p.ID, other))
			}
			owner[p.ID] = t.name
		}
	}
	return nil
}

// storeError gives an error of the store its meaning here.
func storeError(err error) error {
	for _, m := range []struct{ from, to error }{
		{checkpoint.ErrClosed, ErrClosed},
		{checkpoint.ErrOutcomeUnknown, ErrOutcomeUnknown},
		{checkpoint.ErrCorrupt, ErrCorrupt},
		{checkpoint.ErrMissingData, ErrMissingData},
		{checkpoint.ErrNoSpace, ErrNoSpace},
		{checkpoint.ErrFailed, ErrStoreFailed},
		{checkpoint.ErrVersion, ErrVersion},
		{checkpoint.ErrLimit, ErrLimit},
	} {
		if errors.Is(err, m.from) {
			return fmt.Errorf("%w: %w", m.to, err)
		}
	}
	return err
}

// groupPosition is a group's position in a partition as the store has it.
type groupPosition struct {
	group.Position
	of    string // the group
	part  PartitionID
	entry checkpoint.Entry
}

// positions goes over the positions of a topic's groups, group by group.
func positions(ctx context.Context, r metaReader, topic uint64, name string) iter.Seq2[groupPosition, error] {
	return func(yield func(groupPosition, error) bool) {
		for e, err := range r.Scan(ctx, group.TopicPrefix(topic)) {
			at := groupPosition{entry: e}
			if err != nil {
				yield(at, storeError(err))
				return
			}
			_, of, part, err := group.ParseKey(e.Key)
			if err == nil {
				at.of, at.part = of, PartitionID(part)
				err = at.Position.UnmarshalBinary(e.Value)
			}
			if err != nil {
				yield(at, corruptMeta(fmt.Sprintf("the position of group %q in topic %s", of, name), err))
				return
			}
			if !yield(at, nil) {
				return
			}
		}
	}
}
