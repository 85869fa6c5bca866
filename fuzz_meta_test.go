package braid

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/braid-go/braid/checkpoint"
	"github.com/braid-go/braid/group"
	"github.com/braid-go/braid/partition"
)

// FuzzFormat decodes any text as FORMAT, also with its sum put right. What is accepted is encoded to the same bytes and refused with any one bit flipped;
// anything else is ErrCorrupt, or ErrVersion for a higher version.
func FuzzFormat(f *testing.F) {
	for _, ready := range []bool{false, true} {
		b := format{id: [16]byte{1, 2, 0xff}, ready: ready}.encode()
		f.Add(b, false, uint16(100))
		f.Add(bytes.Replace(b, []byte("braid 1"), []byte("braid 2"), 1), true, uint16(3))
		f.Add(bytes.ToUpper(b), true, uint16(0))
		f.Add(b[:len(b)-3], false, uint16(0))
	}
	f.Add([]byte("braid 1\n"), true, uint16(0))
	f.Fuzz(func(t *testing.T, b []byte, repair bool, bit uint16) {
		if body, _, found := strings.Cut(string(b), "sum "); repair && found {
			b = []byte(body + "sum " + hexSum(body) + "\n")
		}
		got, err := decodeFormat("FORMAT", b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) || got.ready && errors.Is(err, ErrVersion) {
				t.Errorf("error %v with %+v", err, got)
			}
			return
		}
		if again := got.encode(); !bytes.Equal(again, b) {
			t.Errorf("%q is accepted and encoded as %q", b, again)
		}
		flipped := bytes.Clone(b)
		flipped[int(bit/8)%len(b)] ^= 1 << (bit % 8)
		if _, err := decodeFormat("FORMAT", flipped); err == nil {
			t.Errorf("accepted with bit %d flipped", bit)
		}
	})
}

func hexSum(body string) string {
	const digits = "0123456789abcdef"
	sum, out := xxhash.Sum64String(body), [16]byte{}
	for i := range out {
		out[i] = digits[sum>>(60-4*i)&15]
	}
	return string(out[:])
}

// FuzzCatalog reads a store in which the counters, a topic, its layout, a position and a tombstone are any bytes: ErrCorrupt, or metadata that hangs together and says
// what the store says.
func FuzzCatalog(f *testing.F) {
	counted, _ := json.Marshal(counters{Topic: 3, Partition: 8})
	config, err := TopicConfig{Partitions: 3}.resolve(Limits{MaxPartitions: 10})
	if err != nil {
		f.Fatal(err)
	}
	meta, _ := json.Marshal(topicMeta{ID: 1, Config: config})
	layout, _ := partition.NewLayout(1, 3)
	encoded, _ := layout.MarshalBinary()
	position, _ := group.Position{Offset: 7, Epoch: 1}.MarshalBinary()
	f.Add(counted, "t", meta, encoded, group.Key(1, "g", 2), position, tombstoneKey(7))
	f.Add([]byte(`{"topic":2,"partition":3}`), "t", meta, encoded, group.Key(1, "g", 9), position, []byte("d"))
	f.Add([]byte(`{}`), "a/b", []byte(`{"id":1,"config":{"compression":"lz4"}}`), encoded[:9], []byte("g"), position[1:], []byte("dtombstone"))
	f.Add([]byte(`{"topic":18446744073709551615,"partition":18446744073709551615}`), "t", []byte(`{"id":1,"config":{"partitions":-5}}`), encoded,
		group.Key(1, "\x00\xff", math.MaxUint64), position, tombstoneKey(math.MaxUint64))
	f.Fuzz(func(t *testing.T, counted []byte, name string, meta, layout, posKey, position, tomb []byte) {
		store := checkpoint.NewMemory(checkpoint.MemoryOptions{})
		var batch checkpoint.Batch
		batch.Put(countersKey(), counted)
		batch.Put(topicKey(name), meta)
		batch.Put(layoutKey(1), layout)
		if bytes.HasPrefix(posKey, []byte{'g'}) {
			batch.Put(posKey, position)
		}
		if bytes.HasPrefix(tomb, []byte{keyTombstone}) {
			batch.Put(tomb, nil)
		}
		if _, err := store.Commit(t.Context(), &batch); err != nil {
			if !errors.Is(err, checkpoint.ErrLimit) {
				t.Error(err)
			}
			return
		}
		c, err := readCatalog(t.Context(), store)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("error %v, want ErrCorrupt", err)
			}
			return
		}
		checkCatalog(t, c, name, layout)
		key, value := posKey, position
		if topic, _, id, err := group.ParseKey(key); err == nil && topic == 1 {
			var p group.Position
			if err := p.UnmarshalBinary(value); err != nil || c.topics[0].committed[PartitionID(id)] != p.Offset {
				t.Errorf("partition %d is committed to %v, the store says %+v, %v", id, c.topics[0].committed, p, err)
			}
		}
	})
}

func checkCatalog(t *testing.T, c *catalog, name string, layout []byte) {
	t.Helper()
	if len(c.topics) != 1 || c.topics[0].name != name || checkName("topic", name) != nil || c.topics[0].meta.ID != 1 {
		t.Fatalf("topics %+v, the store has %q", c.topics, name)
	}
	if again, err := c.topics[0].layout.MarshalBinary(); err != nil || !bytes.Equal(again, layout) {
		t.Errorf("layout %x is encoded as %x, %v", layout, again, err)
	}
	if c.counters.Topic <= 1 {
		t.Errorf("topic 1 is there and the next is %d", c.counters.Topic)
	}
	for _, p := range c.topics[0].layout.All() {
		if p.ID >= c.counters.Partition {
			t.Errorf("partition %d is there and the next is %d", p.ID, c.counters.Partition)
		}
	}
}

// FuzzImport plans and carries out the import of any JSON that can be taken for exported positions. It is refused with ErrVersion or ErrInvalidOption, and then, or
// as long as it is only planned, nothing changes; or exactly the partitions that it names are moved, to what it says or the nearest there is.
func FuzzImport(f *testing.F) {
	for _, s := range []string{
		`{"version":1,"offsets":{"1":2,"2":0}}`, `{"version":1,"offsets":{"1":9223372036854775807}}`, `{"version":1,"offsets":{}}`, `{"version":1}`,
		`{"version":1,"offsets":{"9":1}}`, `{"version":1,"offsets":{"1":-1}}`, `{"version":2,"offsets":{"1":1}}`, `{}`, `null`,
		`{"version":1,"topic":"other","group":"other","time":"2024-01-01T00:00:00Z","offsets":{"2":3}}`,
	} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	b := openMemory(f)
	topic, err := b.CreateTopic(f.Context(), "t", TopicConfig{Partitions: 2})
	if err != nil {
		f.Fatal(err)
	}
	for range 10 {
		if err := topic.Publish(f.Context(), &Record{Value: []byte("x")}); err != nil {
			f.Fatal(err)
		}
	}
	g, err := topic.Group("g")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte, exists bool) {
		if err := g.Delete(t.Context()); err != nil {
			t.Fatal(err)
		}
		before := map[PartitionID]int64{}
		if exists {
			before = map[PartitionID]int64{1: 3, 2: 4}
			plan, err := g.PlanReset(t.Context(), FromOffsets(before))
			if err == nil {
				err = plan.Apply(t.Context())
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		var from Positions
		if json.Unmarshal(b, &from) != nil {
			return
		}
		plan, err := g.PlanImport(t.Context(), &from)
		if diff := cmp.Diff(before, exported(t, g)); diff != "" {
			t.Errorf("planning has changed something: %s", diff)
		}
		if err != nil {
			if !errors.Is(err, ErrInvalidOption) && !errors.Is(err, ErrVersion) || errors.Is(err, ErrVersion) && from.Version <= 1 {
				t.Errorf("error %v", err)
			}
			return
		}
		if err := plan.Apply(t.Context()); err != nil {
			t.Fatal(err)
		}
		checkImported(t, topic, before, from.Offsets, exported(t, g))
	})
}

func exported(t *testing.T, g *Group) map[PartitionID]int64 {
	t.Helper()
	p, err := g.Export(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return p.Offsets
}

// checkImported checks what an import has made of a group's positions.
func checkImported(t *testing.T, topic *Topic, before, asked, after map[PartitionID]int64) {
	t.Helper()
	for id, want := range asked {
		var info PartitionInfo
		for _, p := range topic.Partitions() {
			if p.ID == id {
				info = p
			}
		}
		if want = min(max(want, info.Start), info.End); info.ID == 0 || after[id] != want {
			t.Errorf("partition %d is at %d, want %d", id, after[id], want)
		}
	}
	for id, at := range after {
		_, moved := asked[id]
		was, existed := before[id]
		if !moved && existed && at != was {
			t.Errorf("partition %d was not named and has moved from %d to %d", id, was, at)
		}
		if !moved && !existed && (at != 0 || len(asked) == 0) {
			t.Errorf("partition %d was not named and has come to %d", id, at)
		}
	}
}
