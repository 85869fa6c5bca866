package braid

import (
	"context"
	"fmt"
	"slices"

	"github.com/braid-go/braid/checkpoint"
	"github.com/braid-go/braid/group"
)

// Move is how a reset moves the position in one partition.
type Move struct {
	Partition PartitionID
	// From is the present position, -1 if there is none.
	From int64
	// To is the new one. Clamped: what was asked for lies outside of what the partition holds, and To is the nearest that does not.
	To      int64
	Clamped bool
}

// ResetPlan is a change of a group's positions that has not happened yet.
type ResetPlan struct {
	g     *Group
	moves []Move
	revs  map[PartitionID]storedPosition
	tab   *table
}

// PlanReset plans to move the group to a position in the partitions named, or in all of them, those that have been split or merged and still hold
// records included. It changes nothing. [FromOffsets] moves only the partitions that it names. Errors: [OptionError], and those of reading.
func (g *Group) PlanReset(ctx context.Context, to Position, partitions ...PartitionID) (*ResetPlan, error) {
	if err := to.check("position"); err != nil {
		return nil, err
	}
	if to.kind == positionOffsets && len(partitions) == 0 {
		for id := range to.offsets {
			partitions = append(partitions, id)
		}
		slices.Sort(partitions)
		if len(partitions) == 0 {
			return &ResetPlan{g: g, tab: g.t.table.Load()}, nil
		}
	}
	return g.plan(ctx, partitions, func(p *topicPartition, _ int64) (int64, error) { return to.resolve(p.id, p.log) })
}

// PlanShift plans to move the group by so many records, forwards or, with a negative number, backwards. Otherwise it is as PlanReset. Partitions in which the
// group has no position stay without.
func (g *Group) PlanShift(ctx context.Context, by int64, partitions ...PartitionID) (*ResetPlan, error) {
	plan, err := g.plan(ctx, partitions, func(_ *topicPartition, from int64) (int64, error) {
		to := from + by
		if by > 0 && to < from {
			to = 1<<63 - 1
		}
		return to, nil
	})
	if err == nil {
		plan.moves = slices.DeleteFunc(plan.moves, func(m Move) bool { return m.From < 0 })
	}
	return plan, err
}

func (g *Group) plan(ctx context.Context, ids []PartitionID, to func(*topicPartition, int64) (int64, error)) (*ResetPlan, error) {
	plan := &ResetPlan{g: g, tab: g.t.table.Load()}
	parts, err := plan.tab.choose(g.t.name, "partitions", ids)
	if err != nil {
		return nil, err
	}
	if plan.revs, err = g.positions(ctx); err != nil {
		return nil, err
	}
	for _, p := range parts {
		m := Move{Partition: p.id, From: -1}
		if pos, ok := plan.revs[p.id]; ok {
			m.From = pos.Offset
		}
		want, err := to(p, max(0, m.From))
		if err != nil {
			return nil, logError(g.t.name, p.id, err)
		}
		m.To = min(max(want, p.log.Start()), p.log.VisibleEnd())
		m.Clamped = m.To != want
		plan.moves = append(plan.moves, m)
	}
	return plan, nil
}

// Moves returns what the plan moves, by partition; those that stay where they are too.
func (p *ResetPlan) Moves() []Move { return slices.Clone(p.moves) }

// Apply carries the plan out, all of it in one durable step or nothing. A group that has no positions yet begins, in partitions that the plan does not
// name, at the earliest record. Errors: ErrGroupActive if the group has members; ErrConflict if a position or the topic's layout is not
// what it was when the plan was made; ErrClosed, ErrReadOnly, ErrTopicNotFound, ErrStoreFailed.
//
// No member can join while it happens, and each that joins afterwards takes over at the new positions.
func (p *ResetPlan) Apply(ctx context.Context) error {
	return p.g.idle(func() error {
		var batch checkpoint.Batch
		batch.Expect(layoutKey(p.g.t.id), p.tab.rev)
		moves := p.moves
		if len(p.revs) == 0 && len(moves) > 0 {
			moves = p.withOthers()
		}
		epoch := uint64(0)
		for _, pos := range p.revs {
			epoch = max(epoch, pos.Epoch)
		}
		for _, m := range moves {
			key := group.Key(p.g.t.id, p.g.name, uint64(m.Partition))
			value, err := group.Position{Offset: m.To, Epoch: epoch + 1}.MarshalBinary()
			if err != nil {
				return err
			}
			batch.Expect(key, p.revs[m.Partition].rev)
			batch.Put(key, value)
		}
		if err := p.g.commit(ctx, &batch); err != nil {
			return fmt.Errorf("reset: %w", err)
		}
		return nil
	})
}

// withOthers adds the partitions of a new group that the plan does not name.
func (p *ResetPlan) withOthers() []Move {
	moves := slices.Clone(p.moves)
	for _, part := range p.tab.all {
		if !slices.ContainsFunc(moves, func(m Move) bool { return m.Partition == part.id }) {
			moves = append(moves, Move{Partition: part.id, From: -1, To: part.log.Start()})
		}
	}
	return moves
}
