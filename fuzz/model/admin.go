package model

import (
	"context"
	"errors"
	"fmt"

	"github.com/braid-go/braid"
	"github.com/braid-go/braid/partition"
)

// reset moves the positions of a group that has no members, or tries to move those of one that has. Now and then the layout changes between the plan and
// its carrying out.
func reset(w *world, c command) error {
	t, err := w.handle(c.topic())
	if err != nil {
		return err
	}
	handle, err := t.Group(slots[c.slot].group)
	if err != nil {
		return err
	}
	g, rng := w.topics[c.topic()].group(slots[c.slot].group), c.random()
	plan, to, err := w.plan(handle, g, c)
	if err != nil {
		return err
	}
	for _, m := range plan.Moves() {
		if want := to(g.t.parts[m.Partition]); m.To != want || m.From >= 0 && m.From != g.at[m.Partition] {
			return fmt.Errorf("reset of group %s of %s plans %+v, want from %d to %d", g.name, g.t.name, m, g.at[m.Partition], want)
		}
	}
	known := len(g.t.parts)
	if rng.IntN(4) == 0 {
		if err := split(w, c); err != nil {
			return err
		}
	}
	err = plan.Apply(context.Background())
	switch {
	case w.hasMembers(g):
		return expect("reset of a group with members", err, braid.ErrGroupActive)
	case known != len(g.t.parts):
		return expect("reset after a split", err, braid.ErrConflict)
	case err != nil:
		return err
	}
	if len(plan.Moves()) > 0 && !g.exists {
		g.exists = true
		for id, p := range g.t.parts {
			g.at[id] = p.start
		}
	}
	for _, m := range plan.Moves() {
		g.at[m.Partition] = m.To
	}
	w.note("  %+v", plan.Moves())
	return nil
}

// plan plans a reset, and says where it should lead.
func (w *world) plan(handle *braid.Group, g *group, c command) (*braid.ResetPlan, func(*part) int64, error) {
	within := func(p *part, at int64) int64 { return min(max(at, p.start), p.end) }
	ctx, rng := context.Background(), c.random()
	all := func(plan *braid.ResetPlan, err error, to func(*part) int64) (*braid.ResetPlan, func(*part) int64, error) {
		if err == nil && len(plan.Moves()) != len(g.t.parts) {
			err = fmt.Errorf("reset of %d partitions plans %d", len(g.t.parts), len(plan.Moves()))
		}
		return plan, to, err
	}
	switch rng.IntN(4) {
	case 0:
		plan, err := handle.PlanReset(ctx, braid.FromEarliest())
		return all(plan, err, func(p *part) int64 { return p.start })
	case 1:
		plan, err := handle.PlanReset(ctx, braid.FromLatest())
		return all(plan, err, func(p *part) int64 { return p.end })
	case 2:
		plan, err := handle.PlanShift(ctx, -int64(c.n))
		return plan, func(p *part) int64 { return within(p, g.at[p.id]-int64(c.n)) }, err
	}
	offsets := map[braid.PartitionID]int64{}
	for id := range g.t.parts {
		offsets[id] = int64(c.n * c.n)
	}
	plan, err := handle.PlanReset(ctx, braid.FromOffsets(offsets))
	return all(plan, err, func(p *part) int64 { return within(p, offsets[p.id]) })
}

// hasMembers reports whether a group has members.
func (w *world) hasMembers(g *group) bool {
	for _, s := range w.subs {
		if s != nil && s.g == g {
			return true
		}
	}
	return false
}

// transact commits records for all topics, changes of the state, and, where the member is there, positions; or rolls them back; or is too late.
func transact(w *world, c command) error {
	rng, s := c.random(), w.subs[c.slot]
	tx := w.b.Begin()
	key, value := fmt.Sprintf("key %d", rng.IntN(5)), fmt.Sprintf("value %d", c.seed)
	if got, there, err := tx.Get(key); err != nil || there != (w.values[key] != "") || string(got) != w.values[key] {
		return fmt.Errorf("key %q of the state is %q, %v, %v, want %q", key, got, there, err, w.values[key])
	}
	if rng.IntN(4) == 0 {
		value = ""
		if err := tx.Delete(key); err != nil {
			return err
		}
	} else if err := tx.Put(key, []byte(value)); err != nil {
		return err
	}
	for name := range w.topics {
		t, err := w.handle(name)
		if err != nil {
			return err
		}
		for range 1 + rng.IntN(c.n) {
			if err := tx.Publish(t, w.record(rng, rng.IntN(100))); err != nil {
				return err
			}
		}
	}
	var some []delivery
	for n := c.n; s != nil && n > 0 && len(s.got) > 0; n-- {
		d := s.got[rng.IntN(len(s.got))]
		some = append(some, d)
		if err := tx.Offsets(s.Subscription, d.rec); err != nil {
			return err
		}
	}
	switch rng.IntN(6) {
	case 0:
		tx.Rollback()
		return expect("commit after a rollback", tx.Commit(context.Background()), braid.ErrTxnEnded)
	case 1:
		other := w.b.Begin()
		if err := errors.Join(other.Put(key, []byte("other")), other.Commit(context.Background())); err != nil {
			return err
		}
		w.values[key] = "other"
		if err := tx.Commit(context.Background()); !errors.Is(err, braid.ErrConflict) && !(errors.Is(err, braid.ErrFenced) && s.stale(some)) {
			return fmt.Errorf("commit of what was read and has changed: error %v, want %w", err, braid.ErrConflict)
		}
		return nil
	}
	return w.happened(tx, s, some, key, value)
}

// happened commits a transaction, and takes over that it has happened.
func (w *world) happened(tx *braid.Txn, s *sub, some []delivery, key, value string) error {
	err := tx.Commit(context.Background())
	if s != nil {
		if err := w.commit(s, some, err); err != nil {
			return err
		}
	}
	if err != nil {
		if s != nil && errors.Is(err, braid.ErrFenced) { // rightly, as commit has found
			return nil
		}
		return err
	}
	if w.values[key] = value; value == "" {
		delete(w.values, key)
	}
	if pending := tx.Pending(); len(pending) > 0 {
		return fmt.Errorf("a transaction is pending in %v", pending)
	}
	outputs := map[string][]*braid.Record{}
	for _, rec := range tx.Outputs() {
		outputs[rec.Topic] = append(outputs[rec.Topic], rec)
	}
	for name, t := range w.topics {
		if err := w.published(t, outputs[name]); err != nil {
			return err
		}
	}
	return nil
}

// reconfigure changes limits, sees what they refuse, and changes them back.
func reconfigure(w *world, c command) error {
	was := w.b.Limits()
	rng := c.random()
	do := []func(*world, command, braid.Limits) error{limitRecords, limitPartitions, mergeDown}[rng.IntN(3)]
	if err := do(w, c, was); err != nil {
		return err
	}
	if err := w.b.Reconfigure(context.Background(), was); err != nil {
		return err
	}
	if now := w.b.Limits(); now != was {
		return fmt.Errorf("limits are %+v, were %+v", now, was)
	}
	return nil
}

// limitRecords makes records too large that were not.
func limitRecords(w *world, c command, limits braid.Limits) error {
	limits.MaxRecordBytes = 100
	t, err := w.handle(c.topic())
	if err == nil {
		err = w.b.Reconfigure(context.Background(), limits)
	}
	if err != nil {
		return err
	}
	return expect("a record above the limit", t.Publish(context.Background(), w.record(c.random(), 100)), braid.ErrRecordTooLarge)
}

// limitPartitions allows no more partitions than there are, and then fewer, which is refused.
func limitPartitions(w *world, _ command, limits braid.Limits) error {
	var widest *topic
	for _, t := range w.topics {
		if widest == nil || len(t.active()) > len(widest.active()) {
			widest = t
		}
	}
	limits.MaxPartitions = len(widest.active())
	t, err := w.handle(widest.name)
	if err == nil {
		err = w.b.Reconfigure(context.Background(), limits)
	}
	if err != nil {
		return err
	}
	_, err = t.Split(context.Background(), widest.active()[0].id)
	if indivisible := (*partition.IndivisibleError)(nil); !errors.As(err, &indivisible) {
		if err := expect("a split beyond the limit", err, braid.ErrLimit); err != nil {
			return err
		}
	}
	if limits.MaxPartitions == 1 {
		return nil
	}
	limits.MaxPartitions--
	return expect("fewer partitions than there are", w.b.Reconfigure(context.Background(), limits), braid.ErrInvalidOption)
}

// mergeDown has all topics merge until they have no more partitions than are allowed.
func mergeDown(w *world, c command, limits braid.Limits) error {
	scale := func(on bool) error {
		for name := range w.topics {
			err := w.b.UpdateTopic(context.Background(), name, func(config *braid.TopicConfig) error {
				config.AutoScale, config.Scaling.MinPartitions = on, 1
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	}
	limits.MaxPartitions = c.n
	if err := scale(true); err != nil {
		return err
	}
	if err := w.b.Reconfigure(context.Background(), limits); err != nil {
		return err
	}
	if err := scale(false); err != nil {
		return err
	}
	for name, t := range w.topics {
		if err := w.look(name, true); err != nil {
			return err
		}
		if n := len(t.active()); n > limits.MaxPartitions {
			return fmt.Errorf("%s has %d partitions, %d are allowed", name, n, limits.MaxPartitions)
		}
	}
	return nil
}
