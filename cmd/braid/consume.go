package main

import (
	"context"
	"errors"

	"github.com/braid-go/braid"
)

// consumer prints as the member of a group: some records, then a flush, then a commit, so that what is committed
// has been printed.
type consumer struct {
	cmd     *tailCmd
	printer *printer
	sub     *braid.Subscription
	goal    goal // nil with --follow
	printed int64
}

// consumeRecords is how many records are printed between commits, if there are so many.
const consumeRecords = 10_000

// consume prints until the end that there was at first or, with --follow, for ever.
func (c *tailCmd) consume(e *env, from place, p *printer) (err error) {
	b, err := e.openWritable(braid.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	topic, err := b.Topic(c.Topic)
	if err != nil || c.done(0) {
		return err
	}
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	k := &consumer{cmd: c, printer: p}
	opts := braid.SubscribeOptions{From: from(topic)}
	if warn := c.onGap(e); warn != nil {
		opts.OnGap = func(g braid.Gap) bool {
			if k.goal.reach(g.Partition, g.Next) {
				cancel() // or Poll would wait behind the gap for what does not come
			}
			return warn(g)
		}
	}
	if k.sub, err = topic.Subscribe(ctx, c.Group, opts); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.sub.Close()) }()
	if !c.Follow {
		if k.goal, err = newGoal(ctx, topic, k.sub.Committed(), c.SkipDamaged); err != nil || len(k.goal) == 0 {
			return err
		}
	}
	return k.run(ctx)
}

func (k *consumer) run(ctx context.Context) error {
	for {
		recs, err := k.sub.Poll(ctx, k.most())
		if err != nil {
			if k.goal != nil && len(k.goal) == 0 {
				return k.sub.CommitDelivered(context.Background()) // the skipped gap
			}
			return err
		}
		done, err := k.handle(recs)
		if done || err != nil {
			return err
		}
	}
}

// most is how many records the next Poll may deliver: of a filter nobody knows how many it leaves.
func (k *consumer) most() int {
	if k.cmd.Limit == nil || k.cmd.Key != nil {
		return consumeRecords
	}
	return int(min(*k.cmd.Limit-k.printed, consumeRecords))
}

// handle prints and commits records, and reports whether that was all.
func (k *consumer) handle(recs []*braid.Record) (done bool, err error) {
	handled := 0
	for handled < len(recs) && !done {
		rec := recs[handled]
		if k.cmd.wanted(rec) {
			if err := k.printer.print(rec); err != nil {
				return true, err
			}
			k.printed++
			done = k.cmd.done(k.printed)
		}
		done = k.goal.reach(rec.Partition, rec.Offset+1) || done
		handled++
	}
	if err := k.printer.flush(); err != nil {
		return true, err
	}
	// Not the command's context: what has been printed is committed even when it is interrupted.
	return done, k.sub.Commit(context.Background(), recs[:handled]...)
}

// goal is where a reading that does not follow ends: in each partition that has something to deliver, behind the
// last of it.
type goal map[braid.PartitionID]int64

// reach notes how far the reading is in a partition and reports whether that was the last step. A nil goal is
// never reached.
func (g goal) reach(id braid.PartitionID, next int64) bool {
	end, ok := g[id]
	if ok && next >= end {
		delete(g, id)
		return len(g) == 0
	}
	return false
}

// newGoal finds out where a reading from positions ends. The partitions' ends alone do not tell: a partition may end in a
// gap for which nothing is delivered.
func newGoal(ctx context.Context, topic *braid.Topic, from map[braid.PartitionID]int64, skipDamaged bool) (goal, error) {
	g := goal{}
	for _, p := range topic.Partitions() {
		if from[p.ID] >= p.End {
			continue
		}
		end, err := lastDelivery(ctx, topic, p, from[p.ID], skipDamaged)
		if err != nil {
			return nil, err
		}
		if end > from[p.ID] {
			g[p.ID] = end
		}
	}
	return g, nil
}

// lastDelivery returns the offset behind the last record of a partition, or behind the gap that is reported there. It
// looks from the end backwards, in steps that double.
func lastDelivery(ctx context.Context, topic *braid.Topic, p braid.PartitionInfo, from int64, skipDamaged bool) (int64, error) {
	found := int64(-1)
	opts := braid.ReadOptions{Partitions: []braid.PartitionID{p.ID}, ReuseBuffers: true, OnGap: func(g braid.Gap) bool {
		found = max(found, g.Next)
		return skipDamaged
	}}
	for at := p.End; ; {
		at = max(from, at-max(1, p.End-at))
		opts.From = braid.FromOffsets(map[braid.PartitionID]int64{p.ID: at})
		for rec, err := range topic.Read(ctx, opts) {
			switch {
			case err == nil:
				found = max(found, rec.Offset+1)
			case found < 0: // not one of the gaps, which the reading meets itself
				return 0, err
			}
		}
		if found >= 0 || at == from {
			return found, nil
		}
	}
}
