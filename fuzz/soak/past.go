package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/braid-go/braid"
	"github.com/braid-go/braid/fuzz/history"
	"github.com/braid-go/braid/fuzz/workload"
)

// past is what is known of a directory: what all children that have worked in it have said, and what was found in it.
type past struct {
	events  []history.Event
	clients uint32
	ids     uint64

	topicOf   map[uint64]string  // of partitions, where that matters
	deleting  map[uint64]bool    // partitions that may be gone, with their topic
	deleted   map[uint64]bool    // and those that must be
	positions map[uint64]int64   // of the group that is reset
	pending   []map[uint64]int64 // that it may have instead
	failed    error              // what nobody should have met
	lineage   map[uint64][]braid.PartitionID
}

func newPast() *past {
	return &past{topicOf: map[uint64]string{}, deleting: map[uint64]bool{}, deleted: map[uint64]bool{}, lineage: map[uint64][]braid.PartitionID{}}
}

// event takes in an event. Its number is the next one.
func (p *past) event(e history.Event) {
	p.events = append(p.events, e)
	p.clients = max(p.clients, e.Client+1)
	p.ids = max(p.ids, e.Record.ID)
}

// crash ends what was under way.
func (p *past) crash(power bool) {
	p.event(history.Event{Seq: p.last() + 1, Kind: history.Crash, Power: power})
}

func (p *past) last() history.Seq { return history.Seq(len(p.events)) }

// learn takes in what children have said, and what has to hold from then on.
func (p *past) learn(notes []note) {
	for _, n := range notes {
		switch n.What {
		case noteMade, noteDeleting, noteDeleted:
			for _, id := range n.Partitions {
				p.topicOf[id] = n.Topic
				p.deleting[id] = p.deleting[id] || n.What == noteDeleting
				p.deleted[id] = p.deleted[id] || n.What == noteDeleted
			}
		case noteResetting:
			p.pending = append(p.pending, n.Offsets)
		case noteReset:
			p.positions, p.pending = p.pending[len(p.pending)-1], nil
		case noteNotReset:
			p.pending = p.pending[:len(p.pending)-1]
		}
	}
}

// judge compares what a broker holds, which nobody uses, with the past. What can be undone of a crash has been undone by opening.
func (p *past) judge(ctx context.Context, b *braid.Broker) (*history.Report, error) {
	if err := undamaged(b); err != nil {
		return nil, err
	}
	final, err := workload.Final(ctx, b, topicIn)
	if err != nil {
		return nil, err
	}
	if len(final.Positions) == 0 { // the first child was killed before it had made the topic
		final.Positions = map[history.Group]map[uint64]int64{workload.Readers: {}, workload.Workers: {}}
	}
	starts := map[uint64]int64{}
	for _, t := range b.Topics() {
		for _, part := range t.Partitions() {
			id := uint64(part.ID)
			if p.deleted[id] {
				return nil, fmt.Errorf("partition %d is there, in topic %s, which was deleted when it was called %s", id, t.Name(), p.topicOf[id])
			}
			starts[id] = part.Start
			if t.Name() != topicIn && t.Name() != topicOut {
				p.topicOf[id] = t.Name()
			}
			if len(part.Parents) > 0 {
				p.lineage[id] = part.Parents
			}
		}
	}
	p.excuse(final, starts)
	p.settle(starts)
	report := history.Check(p.withLineage(), final, history.Rules{})
	err = errors.Join(workload.CheckCount(ctx, b, final), p.checkReset(ctx, b))
	if len(report.Findings) > 0 {
		err = errors.Join(err, errors.New(report.String()))
	}
	return report, err
}

// excuse adds to what was read the acknowledged records that need not be there any more: retention may have taken them, or their topic was being deleted.
func (p *past) excuse(final *history.Final, starts map[uint64]int64) {
	published := map[history.Seq]history.Record{}
	changed := map[uint64]bool{}
	for _, e := range p.events {
		switch e.Kind {
		case history.Publish:
			published[e.Seq] = e.Record
		case history.Stored:
			id := e.Place.Partition
			start, there := starts[id]
			passed := p.topicOf[id] == topicPassing && (!there || e.Place.Offset < start)
			if passed || p.deleting[id] && !there {
				final.Records[id] = append(final.Records[id], history.Read{Offset: e.Place.Offset, Record: published[e.Op]})
				changed[id] = true
			}
		}
	}
	for id := range changed {
		slices.SortStableFunc(final.Records[id], func(x, y history.Read) int { return cmp.Compare(x.Offset, y.Offset) })
	}
}

// settle takes note of how the deletions have ended that were under way.
func (p *past) settle(starts map[uint64]int64) {
	for id, may := range p.deleting {
		if !may {
			continue
		}
		if _, there := starts[id]; there {
			p.deleting[id] = false
		} else {
			p.deleted[id] = true
		}
	}
}

// withLineage returns the events, with those behind them that say which partition continues which.
func (p *past) withLineage() []history.Event {
	events := slices.Clip(p.events)
	for _, child := range slices.Sorted(maps.Keys(p.lineage)) { // parents come first
		for _, parent := range p.lineage[child] {
			seq := history.Seq(len(events) + 1)
			events = append(events, history.Event{Seq: seq, Kind: history.Lineage, Place: history.Place{Partition: child}, Parent: uint64(parent)})
		}
	}
	return events
}

// checkReset returns an error unless the group without members is where it was put, or, all of it, where it was about to be put. What it was then
// stands.
func (p *past) checkReset(ctx context.Context, b *braid.Broker) error {
	if p.positions == nil && p.pending == nil {
		return nil
	}
	t, err := b.Topic(topicIn)
	if err != nil {
		return err
	}
	g, err := t.Group(groupReset)
	if err != nil {
		return err
	}
	now, err := g.Export(ctx)
	if err != nil {
		return err
	}
	is := func(want map[uint64]int64) bool {
		for id, at := range want {
			if got, there := now.Offsets[braid.PartitionID(id)]; !there || got != at {
				return false
			}
		}
		return len(want) > 0 || len(now.Offsets) == 0
	}
	if is(p.positions) {
		p.pending = nil
		return nil
	}
	for _, may := range slices.Backward(p.pending) {
		if is(may) {
			p.positions, p.pending = may, nil
			return nil
		}
	}
	return fmt.Errorf("the group that was reset is at %v, and was put to %v, then perhaps to %v", now.Offsets, p.positions, p.pending)
}

// store writes the history down.
func (p *past) store(dir string) error {
	var events strings.Builder
	for _, e := range p.events {
		fmt.Fprintln(&events, e)
	}
	return os.WriteFile(filepath.Join(dir, "history"), []byte(events.String()), 0o600)
}
