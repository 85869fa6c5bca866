package braid

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"github.com/braid-go/braid/fuzz/power"
	"github.com/braid-go/braid/internal/vfs"
)

// survived is what a broker holds after a power cut.
type survived struct {
	records map[place]string
	values  map[string]int
	state   map[string]string
	at      map[PartitionID]int64 // of the group
	layout  map[PartitionID]bool
	topics  map[string]*Topic
}

type place struct {
	topic     string
	partition PartitionID
	offset    int64
}

// look reads all of a broker; a power cut is no damage, so nothing may be reported as such.
func look(t *testing.T, b *Broker) (*survived, error) {
	s := &survived{records: map[place]string{}, values: map[string]int{}, state: map[string]string{}, layout: map[PartitionID]bool{}, topics: map[string]*Topic{}}
	for _, p := range b.OpenReport().Partitions {
		if len(p.Problems) > 0 || p.GapFrom != p.GapNext {
			return nil, fmt.Errorf("reported: %+v", p)
		}
	}
	for _, topic := range b.Topics() {
		s.topics[topic.Name()] = topic
		for rec, err := range topic.Read(t.Context(), ReadOptions{}) {
			if err != nil {
				return nil, err
			}
			s.records[place{rec.Topic, rec.Partition, rec.Offset}] = string(rec.Value)
			s.values[string(rec.Value)]++
		}
		for _, p := range topic.Partitions() {
			s.layout[p.ID] = true
		}
		if topic.Name() == "in" {
			g, err := topic.Group("exact")
			if err != nil {
				return nil, err
			}
			p, err := g.Export(t.Context())
			if err != nil {
				return nil, err
			}
			s.at = p.Offsets
		}
	}
	for e, err := range b.Scan(t.Context(), "") {
		if err != nil {
			return nil, err
		}
		s.state[e.Key] = string(e.Value)
	}
	return s, nil
}

// start is where the partition of a place begins.
func (s *survived) start(at place) int64 {
	if topic := s.topics[at.topic]; topic != nil {
		for _, p := range topic.Partitions() {
			if p.ID == at.partition {
				return p.Start
			}
		}
	}
	return 0
}

// check opens what a power cut has left, compares it with what was acknowledged by then, publishes, and opens it again.
func (g *grid) check(c *power.Cut) {
	g.t.Helper()
	g.restore(c)
	fail := func(format string, args ...any) {
		g.t.Helper()
		g.t.Errorf("power cut %s: %s", c.What, fmt.Sprintf(format, args...))
		if kept := os.Getenv("BRAID_KEEP"); kept != "" {
			_ = c.Restore(kept) // for whoever looks
		}
	}
	mem := c.Mem.CrashClone(vfs.CrashOptions{}) // some cuts share one
	b, err := Open(g.Dir, Options{fs: mem})
	if err != nil {
		fail("open: %v", err)
		return
	}
	s, err := look(g.t, b)
	if err != nil {
		fail("%v", err)
		b.Close()
		return
	}
	g.work.judge(s, c.Acked, fail)
	for _, topic := range b.Topics() {
		for i := range 3 {
			rec := &Record{Key: fmt.Appendf(nil, "key %d", i), Value: fmt.Appendf(nil, "after the cut, %s %d", topic.Name(), i)}
			if err := topic.Publish(g.t.Context(), rec); err != nil {
				fail("publish: %v", err)
				continue
			}
			at := place{rec.Topic, rec.Partition, rec.Offset}
			if was, taken := s.records[at]; taken {
				fail("%+v is given out again; it is %q", at, was)
			}
			s.records[at] = string(rec.Value)
		}
	}
	if err := b.Close(); err != nil {
		fail("close: %v", err)
	}
	// What was shown after the cut must not be taken back by another one.
	b, err = Open(g.Dir, Options{fs: mem.CrashClone(vfs.CrashOptions{})})
	if err != nil {
		fail("opened again: %v", err)
		return
	}
	again, err := look(g.t, b)
	if err != nil || len(again.records) != len(s.records) || len(again.state) != len(s.state) {
		fail("opened again: %v; %d records of %d, %d keys of %d", err, len(again.records), len(s.records), len(again.state), len(s.state))
	} else {
		for at, value := range s.records {
			if again.records[at] != value {
				fail("opened again: %+v is %q, was %q", at, again.records[at], value)
			}
		}
	}
	if err := b.Close(); err != nil {
		fail("close: %v", err)
	}
}

// judge compares what has survived with what was acknowledged: the first so many acknowledgements.
func (w *busy) judge(s *survived, acked int, fail func(string, ...any)) {
	for _, a := range w.acked[:acked] {
		switch {
		case a.rec != nil:
			at := place{a.rec.Topic, a.rec.Partition, a.rec.Offset}
			if got, there := s.records[at]; !there || got != string(a.rec.Value) {
				fail("%+v was acknowledged as %q, and is %q, %v", at, a.rec.Value, got, there)
			}
		case a.passing != nil:
			at := place{a.passing.Topic, a.passing.Partition, a.passing.Offset}
			if got, there := s.records[at]; there && got != string(a.passing.Value) || !there && at.offset >= s.start(at) {
				fail("%+v was acknowledged as %q, and is %q, %v; the partition begins at %d", at, a.passing.Value, got, there, s.start(at))
			}
		case a.deleted != "":
			if s.topics[a.deleted] != nil {
				fail("topic %s was deleted, and is there", a.deleted)
			}
		case a.split != nil:
			for _, id := range a.split {
				if !s.layout[id] {
					fail("partition %d was made, and is not there", id)
				}
			}
		default:
			if s.state[a.txn] != "done" {
				fail("%s was acknowledged, and has not happened", a.txn)
			}
			for id, at := range a.position {
				if s.at[id] < at {
					fail("position %d of partition %d was acknowledged, and is %d", at, id, s.at[id])
				}
			}
		}
	}
	for value, n := range s.values {
		if n != 1 {
			fail("%q is there %d times", value, n)
		}
	}
	for i := range 100 {
		name := fmt.Sprint("txn ", i)
		if done, a, b := s.state[name] == "done", s.values[name+" a"], s.values[name+" b"]; done != (a == 1) || done != (b == 1) {
			fail("%s has happened in part: state %v, outputs %d and %d", name, done, a, b)
		}
	}
	at := map[PartitionID]int64{}
	if text, there := s.state["at"]; there {
		if err := json.Unmarshal([]byte(text), &at); err != nil {
			fail("%q: %v", text, err)
		}
	}
	for id, want := range at {
		if s.at[id] < want {
			fail("the group is at %d in partition %d, its state says %d", s.at[id], id, want)
		}
	}
}
