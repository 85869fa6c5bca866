package braid

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/braid-go/braid/checkpoint"
	"github.com/braid-go/braid/group"
)

// Group is a consumer group of a topic as an administrator sees it. It need not exist. All methods are safe for concurrent use; those that only look work on
// read-only brokers too, which see the positions as they stand on the disk, and no members.
type Group struct {
	t    *Topic
	name string
}

// Group returns a group of the topic, or a [NameError].
func (t *Topic) Group(name string) (*Group, error) {
	if err := checkName("group", name); err != nil {
		return nil, err
	}
	return &Group{t, name}, nil
}

// Groups returns the names of the groups that have positions in the topic, in order.
func (t *Topic) Groups(ctx context.Context) ([]string, error) {
	r, err := t.b.stateReader()
	if err != nil {
		return nil, err
	}
	var names []string
	for e, err := range r.Scan(ctx, group.TopicPrefix(t.id)) {
		if err != nil {
			return nil, storeError(err)
		}
		_, name, _, err := group.ParseKey(e.Key)
		if err != nil {
			return nil, corruptMeta("the key of a position", err)
		}
		if len(names) == 0 || names[len(names)-1] != name { // keys come in order
			names = append(names, name)
		}
	}
	return names, nil
}

// Name returns the group's name.
func (g *Group) Name() string { return g.name }

// Topic returns the group's topic.
func (g *Group) Topic() *Topic { return g.t }

// GroupMember is a member of a group.
type GroupMember struct {
	ID         uint64 // unique in the group as long as the process runs
	Name       string // SubscribeOptions.Member
	Away       bool   // it has closed, and its partitions wait for it
	Partitions []PartitionID
}

// GroupDescription describes a group at one moment.
type GroupDescription struct {
	Topic, Group string
	// Exists: it has positions.
	Exists bool
	// Members are those in this process; a group with members is active.
	Members    []GroupMember
	Generation uint64 // how often partitions have been divided since the group has had members
	Assignor   string // "" without members
	// Partitions has all partitions in which the group has a position, by id.
	Partitions []Lag
	// Records and Time are the sum and the largest of the partitions' lag.
	Records int64
	Time    time.Duration
}

// Describe describes the group. It reads one record of each partition that is not committed to the end.
func (g *Group) Describe(ctx context.Context) (*GroupDescription, error) {
	d := &GroupDescription{Topic: g.t.name, Group: g.name}
	positions, err := g.positions(ctx)
	if err != nil {
		return nil, err
	}
	g.describeMembers(d)
	now := time.Now()
	for _, p := range g.t.table.Load().all {
		pos, ok := positions[p.id]
		if !ok {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		lag, err := p.lag(g.t.name, pos.Offset, now)
		if err != nil {
			return nil, err
		}
		d.Exists = true
		d.Partitions = append(d.Partitions, lag)
		d.Records += lag.Records
		d.Time = max(d.Time, lag.Time)
	}
	return d, nil
}

func (g *Group) describeMembers(d *GroupDescription) {
	b := g.t.b
	b.joining.Lock()
	defer b.joining.Unlock()
	c := b.groups[groupKey{g.t.id, g.name}]
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	d.Generation, d.Assignor = c.g.Generation(), c.settings.assignor.Name()
	for _, m := range c.g.Members() {
		member := GroupMember{ID: uint64(m.Member), Name: m.Name, Away: m.Away}
		for _, o := range m.Owned {
			member.Partitions = append(member.Partitions, PartitionID(o.Partition))
		}
		d.Members = append(d.Members, member)
	}
}

// storedPosition is a position with its revision.
type storedPosition struct {
	group.Position
	rev checkpoint.Revision
}

func (g *Group) positions(ctx context.Context) (map[PartitionID]storedPosition, error) {
	r, err := g.t.b.stateReader()
	if err != nil {
		return nil, err
	}
	out := map[PartitionID]storedPosition{}
	for e, err := range r.Scan(ctx, group.Prefix(g.t.id, g.name)) {
		if err != nil {
			return nil, storeError(err)
		}
		pos := storedPosition{rev: e.Revision}
		_, _, id, err := group.ParseKey(e.Key)
		if err == nil {
			err = pos.UnmarshalBinary(e.Value)
		}
		if err != nil {
			return nil, corruptMeta(fmt.Sprintf("position of group %s", g.name), err)
		}
		out[PartitionID(id)] = pos
	}
	return out, nil
}

// idle runs f while the group has no members and can get none. ErrGroupActive: it has some, or a named one is away.
func (g *Group) idle(f func() error) error {
	b := g.t.b
	b.joining.Lock()
	defer b.joining.Unlock()
	if err := b.check(); err != nil {
		return err
	}
	if b.groups[groupKey{g.t.id, g.name}] != nil {
		return fmt.Errorf("%w: %s in %s", ErrGroupActive, g.name, g.t.name)
	}
	if g.t.deleted.Load() {
		return fmt.Errorf("%w: %s was deleted", ErrTopicNotFound, g.t.name)
	}
	return f()
}

// Delete forgets the group: all its positions, in one durable step. A group that has none is left as it is. ErrGroupActive: it has
// members.
func (g *Group) Delete(ctx context.Context) error {
	return g.idle(func() error {
		positions, err := g.positions(ctx)
		if err != nil || len(positions) == 0 {
			return err
		}
		var batch checkpoint.Batch
		for id, pos := range positions {
			key := group.Key(g.t.id, g.name, uint64(id))
			batch.Expect(key, pos.rev)
			batch.Delete(key)
		}
		return g.commit(ctx, &batch)
	})
}

func (g *Group) commit(ctx context.Context, batch *checkpoint.Batch) error {
	_, err := g.t.b.store.Commit(ctx, batch)
	if errors.Is(err, checkpoint.ErrConflict) {
		return fmt.Errorf("%w: group %s in %s was changed meanwhile", ErrConflict, g.name, g.t.name)
	}
	return storeError(err)
}

// Positions are a group's positions, to be kept outside or taken elsewhere.
type Positions struct {
	Version int                   `json:"version"` // 1
	Topic   string                `json:"topic"`
	Group   string                `json:"group"`
	Time    time.Time             `json:"time"`
	Offsets map[PartitionID]int64 `json:"offsets"`
}

const positionsVersion = 1

// Export returns the group's positions.
func (g *Group) Export(ctx context.Context) (*Positions, error) {
	positions, err := g.positions(ctx)
	if err != nil {
		return nil, err
	}
	out := &Positions{Version: positionsVersion, Topic: g.t.name, Group: g.name, Time: time.Now().Round(0), Offsets: map[PartitionID]int64{}}
	for id, pos := range positions {
		out.Offsets[id] = pos.Offset
	}
	return out, nil
}

// PlanImport plans a reset to exported positions, of this group or of another. Partitions that are not named stay where they are. ErrVersion: a newer
// version exported them. A partition that the topic does not have, a negative offset, or what no version has exported, is an [OptionError].
func (g *Group) PlanImport(ctx context.Context, from *Positions) (*ResetPlan, error) {
	if from.Version > positionsVersion {
		return nil, fmt.Errorf("%w: positions of version %d, this is %d", ErrVersion, from.Version, positionsVersion)
	}
	if from.Version != positionsVersion {
		return nil, &OptionError{"Positions.Version", from.Version, "not exported positions"}
	}
	if err := FromOffsets(from.Offsets).check("Positions.Offsets"); err != nil {
		return nil, err
	}
	if len(from.Offsets) == 0 {
		return &ResetPlan{g: g, tab: g.t.table.Load()}, nil
	}
	ids := make([]PartitionID, 0, len(from.Offsets))
	for id := range from.Offsets {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	if _, err := g.t.table.Load().choose(g.t.name, "Positions.Offsets", ids); err != nil {
		return nil, err
	}
	return g.plan(ctx, ids, func(p *topicPartition, _ int64) (int64, error) { return from.Offsets[p.id], nil })
}
