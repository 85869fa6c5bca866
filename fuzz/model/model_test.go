package model

import (
	"math"
	"testing"

	"github.com/braid-go/braid"
	"github.com/braid-go/braid/partition"
)

// river is a topic of one partition that has become two, and these one again, with a record of one key in the first, one in the upper of the two, and two in the last; and a
// member of a group that has everything and was delivered nothing.
func river(t *testing.T) (*topic, *member) {
	t.Helper()
	const half = 1 << 63
	top := newTopic("t", false)
	err := top.layout([]braid.PartitionInfo{
		{ID: 1, KeyRange: partition.Range{Lo: 0, Hi: math.MaxUint64}, Sealed: true},
		{ID: 2, KeyRange: partition.Range{Lo: 0, Hi: half - 1}, Sealed: true, Parents: []braid.PartitionID{1}},
		{ID: 3, KeyRange: partition.Range{Lo: half, Hi: math.MaxUint64}, Sealed: true, Parents: []braid.PartitionID{1}},
		{ID: 4, KeyRange: partition.Range{Lo: 0, Hi: math.MaxUint64}, Parents: []braid.PartitionID{2, 3}},
	}, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, rec := range []*braid.Record{stream(1, 0), stream(3, 0), stream(4, 0), stream(4, 1)} {
		if err := top.store(rec); err != nil {
			t.Fatal(err)
		}
	}
	g := top.group("g")
	g.exists = true
	m := newMember(g)
	m.assigned([]braid.PartitionID{1, 2, 3, 4})
	return top, m
}

// stream is the record of the key at a place of the river.
func stream(id braid.PartitionID, offset int64) *braid.Record {
	return &braid.Record{Key: []byte("a"), Value: []byte{byte(id), byte(offset)}, Partition: id, Offset: offset}
}

// delivered has a member be delivered everything.
func delivered(m *member, recs ...*braid.Record) error {
	for _, rec := range recs {
		if err := m.delivered(rec); err != nil {
			return err
		}
	}
	return nil
}

var whole = []*braid.Record{stream(1, 0), stream(3, 0), stream(4, 0), stream(4, 1)}

func TestTheModelFindsNothingWrongWithWhatIsRight(t *testing.T) {
	if h := partition.Hash([]byte("a")); h < 1<<63 {
		t.Fatalf("the key has hash %x, and belongs elsewhere", h)
	}
	top, m := river(t)
	if err := delivered(m, whole...); err != nil {
		t.Fatal(err)
	}
	if err := m.committed(m.got[2:3], map[braid.PartitionID]int64{1: 1, 3: 1, 4: 1}); err != nil {
		t.Error(err)
	}
	if n := m.g.left(); n != 1 {
		t.Errorf("%d records are left, want 1", n)
	}
	read := map[braid.PartitionID][]entry{}
	for id, p := range top.parts {
		read[id] = p.recs
	}
	if err := top.holds(read); err != nil {
		t.Error(err)
	}
}

func TestTheModelFindsWhatIsWrongWithADelivery(t *testing.T) {
	changed := stream(1, 0)
	changed.Value = []byte("another")
	for name, recs := range map[string][]*braid.Record{
		"again":                      {stream(1, 0), stream(1, 0)},
		"one left out":               {stream(1, 0), stream(3, 0), stream(4, 1)},
		"another content":            {changed},
		"of nothing that was stored": {stream(2, 0)},
		"of no partition":            {stream(9, 0)},
		"before what it continues":   {stream(1, 0), stream(4, 0)},
		"before what that continues": {stream(3, 0)},
	} {
		_, m := river(t)
		if err := delivered(m, recs...); err == nil {
			t.Errorf("%s: nothing is found", name)
		}
	}
	_, m := river(t)
	m.gone([]braid.PartitionID{1})
	if err := delivered(m, stream(1, 0)); err == nil {
		t.Error("of a partition that was lost: nothing is found")
	}
}

func TestTheModelFindsWhatIsWrongWithACommit(t *testing.T) {
	for name, positions := range map[string]map[braid.PartitionID]int64{
		"nothing has happened":        {},
		"behind what was delivered":   {1: 1, 3: 1, 4: 2},
		"back":                        {1: 0, 3: 1, 4: 1},
		"of another partition":        {1: 1, 2: 0, 3: 1, 4: 1, 5: 7},
		"behind what comes after too": {1: 1, 3: 1, 4: 3},
		"not what it continues":       {1: 1, 4: 1},
	} {
		top, m := river(t)
		if err := top.store(stream(4, 2)); err != nil {
			t.Fatal(err)
		}
		if name == "back" {
			m.g.at[1] = 1
		}
		if err := delivered(m, whole[:3]...); name != "back" && err != nil {
			t.Fatal(err)
		}
		m.got = append(m.got, delivery{stream(4, 0), m.readers[4]})
		if err := m.committed(m.got[len(m.got)-1:], positions); err == nil {
			t.Errorf("%s: nothing is found", name)
		}
	}
}

func TestTheModelFindsWhatIsWrongWithPositionsAndRecords(t *testing.T) {
	top, m := river(t)
	m.g.at = map[braid.PartitionID]int64{1: 1}
	for name, positions := range map[string]map[braid.PartitionID]int64{
		"back": {1: 0}, "forward": {1: 2}, "gone": {}, "in no partition": {1: 1, 9: 0},
	} {
		if m.g.is(positions) == nil {
			t.Errorf("positions %s: nothing is found", name)
		}
	}
	right := top.parts[4].recs
	for name, got := range map[string][]entry{
		"lost":       right[:1],
		"the first":  right[1:],
		"in reverse": {right[1], right[0]},
		"again":      {right[0], right[1], right[1]},
		"another":    {right[0], {"a", "another", 1}},
	} {
		if differ(right, got) == nil {
			t.Errorf("records %s: nothing is found", name)
		}
	}
	for name, rec := range map[string]*braid.Record{
		"an offset that was given out":   stream(4, 1),
		"an offset behind a gap":         stream(4, 3),
		"a partition that has other key": stream(2, 0),
		"no partition":                   stream(9, 0),
	} {
		if top.store(rec) == nil {
			t.Errorf("a record is stored at %s: nothing is found", name)
		}
	}
}

func TestTheModelFindsWhatIsWrongWithALayout(t *testing.T) {
	const half = 1 << 63
	info := func(id braid.PartitionID, lo, hi uint64) braid.PartitionInfo {
		return braid.PartitionInfo{ID: id, KeyRange: partition.Range{Lo: lo, Hi: hi}}
	}
	for name, infos := range map[string][]braid.PartitionInfo{
		"a gap":                {info(1, 0, half-1), info(2, half+1, math.MaxUint64)},
		"an overlap":           {info(1, 0, half), info(2, half, math.MaxUint64)},
		"no end":               {info(1, 0, half)},
		"no beginning":         {info(1, half, math.MaxUint64)},
		"nothing":              {},
		"one twice":            {info(1, 0, math.MaxUint64), info(1, 0, math.MaxUint64)},
		"two of the same":      {info(1, 0, math.MaxUint64), info(2, 0, math.MaxUint64)},
		"three instead of two": {info(1, 0, half-1), info(2, half, math.MaxUint64), info(3, half, math.MaxUint64)},
	} {
		if newTopic("t", false).layout(infos, true) == nil {
			t.Errorf("%s: nothing is found", name)
		}
	}
	top, _ := river(t)
	if top.layout([]braid.PartitionInfo{info(4, 0, math.MaxUint64)}, true) == nil {
		t.Error("partitions with records are gone: nothing is found")
	}
}
