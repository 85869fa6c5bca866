package braid

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/braid-go/braid/checkpoint"
	"github.com/braid-go/braid/group"
	"github.com/braid-go/braid/partition"
)

// coordinator runs a group that has members. It owns the group's state, tells the members of changes, and minds the time. Members carry
// out what they are told inside Poll and Records; see rebalance.go.
//
// Locks: Broker.joining guards which coordinators there are, and is held while one is made; mu guards a coordinator's fields, is a
// leaf, and never held during I/O.
type coordinator struct {
	t        *Topic
	name     string
	settings groupSettings

	mu    sync.Mutex
	g     *group.Group
	subs  map[group.Member]*Subscription
	begun map[uint64]uint64       // partition to the epoch under which its owner has begun to read it
	seen  map[group.Member]uint64 // how far a member was when the time was minded last
	wake  time.Time               // when the time is minded next

	kick chan struct{} // something may be due earlier
	stop chan struct{} // closed when the last member is gone
}

type groupKey struct {
	topic uint64
	name  string
}

// groupSettings are what the members of a group must agree about.
type groupSettings struct {
	assignor                           group.Assignor
	maxPoll, rebalanceTimeout, absence time.Duration
}

// differs returns the option in which o, that of a further member, contradicts s; zero options contradict nothing.
func (s groupSettings) differs(o SubscribeOptions) *OptionError {
	const agree = "the members of the group use %v"
	switch {
	case o.Assignor != nil && o.Assignor.Name() != s.assignor.Name():
		return &OptionError{"SubscribeOptions.Assignor", o.Assignor.Name(), fmt.Sprintf(agree, s.assignor.Name())}
	case o.MaxPollInterval != 0 && o.MaxPollInterval != s.maxPoll:
		return &OptionError{"SubscribeOptions.MaxPollInterval", o.MaxPollInterval, fmt.Sprintf(agree, s.maxPoll)}
	case o.RebalanceTimeout != 0 && o.RebalanceTimeout != s.rebalanceTimeout:
		return &OptionError{"SubscribeOptions.RebalanceTimeout", o.RebalanceTimeout, fmt.Sprintf(agree, s.rebalanceTimeout)}
	case o.Absence != 0 && o.Absence != s.absence:
		return &OptionError{"SubscribeOptions.Absence", o.Absence, fmt.Sprintf(agree, s.absence)}
	}
	return nil
}

// join makes a subscription a member of its group.
func (b *Broker) join(ctx context.Context, s *Subscription) error {
	b.joining.Lock()
	defer b.joining.Unlock()
	if err := b.check(); err != nil {
		return err
	}
	key := groupKey{s.t.id, s.group}
	c, fresh := b.groups[key], false
	if c == nil {
		var err error
		if c, err = newCoordinator(ctx, s.t, s.group, s.opts); err != nil {
			return err
		}
		fresh = true
	} else if err := c.settings.differs(s.opts); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed.Load():
		return ErrClosed
	case s.t.deleted.Load():
		return ErrTopicNotFound
	}
	if err := c.add(s); err != nil {
		return err
	}
	if fresh {
		b.groups[key] = c
		b.background.Go(c.run)
	}
	b.subs[s] = struct{}{}
	return nil
}

// leave takes a subscription out of its group.
func (b *Broker) leave(s *Subscription) {
	b.joining.Lock()
	defer b.joining.Unlock()
	c := s.coordinator
	c.change(func(now time.Time) {
		delete(c.subs, s.member)
		delete(c.seen, s.member)
		c.g.Leave(now, s.member)
	})
	b.drop(c)
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, there := b.subs[s]; there {
		c.t.consumed.Add(int64(s.delivered.Load()))
		delete(b.subs, s)
	}
}

// drop ends a coordinator that has no members. The caller holds joining.
func (b *Broker) drop(c *coordinator) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := groupKey{c.t.id, c.name}
	if c.g.Empty() && b.groups[key] == c {
		delete(b.groups, key)
		close(c.stop)
	}
}

// newCoordinator makes the coordinator of a group that has no member, and the group's first positions if it has none.
func newCoordinator(ctx context.Context, t *Topic, name string, opts SubscribeOptions) (*coordinator, error) {
	opts = opts.withDefaults()
	c := &coordinator{
		t: t, name: name,
		settings: groupSettings{opts.Assignor, opts.MaxPollInterval, opts.RebalanceTimeout, opts.Absence},
		subs:     map[group.Member]*Subscription{}, begun: map[uint64]uint64{}, seen: map[group.Member]uint64{},
		kick: make(chan struct{}, 1), stop: make(chan struct{}),
	}
	positions, err := c.positions(ctx)
	if err == nil && len(positions) == 0 {
		if err = c.commitFirst(ctx, opts.From); err == nil {
			positions, err = c.positions(ctx)
		}
	}
	if err != nil {
		return nil, err
	}
	epoch := uint64(0)
	for _, pos := range positions {
		epoch = max(epoch, pos.Epoch)
	}
	cfg := group.Config{Assignor: opts.Assignor, MaxPollInterval: opts.MaxPollInterval, RebalanceTimeout: opts.RebalanceTimeout,
		Absence: max(0, opts.Absence)}
	tab := t.table.Load()
	c.g = group.New(cfg, tab.lineage(), epoch)
	unread := map[PartitionID]bool{} // with what continues them
	for _, p := range tab.all {      // parents come first
		info, _ := tab.layout.Lookup(p.id)
		unread[p.id] = info.State != partition.StateSealed || positions[p.id].Offset < info.End ||
			slices.ContainsFunc(info.Parents, func(id PartitionID) bool { return unread[id] })
		if !unread[p.id] {
			c.g.Finished(uint64(p.id))
		}
	}
	return c, nil
}

// lineage is the topic's partitions as a group sees them.
func (tab *table) lineage() []group.Partition {
	out := make([]group.Partition, len(tab.all))
	for i, p := range tab.all {
		info, _ := tab.layout.Lookup(p.id)
		out[i] = group.Partition{ID: uint64(p.id), Sealed: info.State == partition.StateSealed}
		for _, parent := range info.Parents {
			out[i].Parents = append(out[i].Parents, uint64(parent))
		}
	}
	return out
}

// tellGroups has the groups of a topic take over its new layout.
func (b *Broker) tellGroups(t *Topic) {
	b.joining.Lock()
	defer b.joining.Unlock()
	for key, c := range b.groups {
		if key.topic != t.id {
			continue
		}
		c.change(func(time.Time) { c.g.SetPartitions(t.table.Load().lineage()) })
		c.mu.Lock()
		for _, s := range c.subs {
			s.tell() // also who has the same as before: it may be sealed now
		}
		c.mu.Unlock()
	}
}

// positions returns the group's stored positions.
func (c *coordinator) positions(ctx context.Context) (map[PartitionID]group.Position, error) {
	out := map[PartitionID]group.Position{}
	for e, err := range c.t.b.store.Scan(ctx, group.Prefix(c.t.id, c.name)) {
		if err != nil {
			return nil, storeError(err)
		}
		var pos group.Position
		_, _, id, err := group.ParseKey(e.Key)
		if err == nil {
			err = pos.UnmarshalBinary(e.Value)
		}
		if err != nil {
			return nil, corruptMeta(fmt.Sprintf("position of group %s", c.name), err)
		}
		out[PartitionID(id)] = pos
	}
	return out, nil
}

// commitFirst commits where a new group begins, in all partitions in one step, so that what "latest" means is found out once.
func (c *coordinator) commitFirst(ctx context.Context, from Position) error {
	for {
		tab := c.t.table.Load()
		var first checkpoint.Batch
		first.Expect(layoutKey(c.t.id), tab.rev) // a topic that is being deleted gets none
		for _, p := range tab.all {
			offset, err := from.resolve(p.id, p.log)
			if err != nil && !p.dropped.Load() {
				return logError(c.t.name, p.id, err)
			}
			value, _ := group.Position{Offset: offset}.MarshalBinary()
			key := group.Key(c.t.id, c.name, uint64(p.id))
			first.Expect(key, 0)
			first.Put(key, value)
		}
		_, err := c.t.b.store.Commit(ctx, &first)
		switch {
		case !errors.Is(err, checkpoint.ErrConflict):
			return storeError(err)
		case c.t.deleted.Load():
			return fmt.Errorf("%w: %w", ErrTopicNotFound, err)
		case ctx.Err() != nil:
			return ctx.Err()
		}
		// The layout has changed meanwhile.
		if err := c.t.settledLayout(ctx); err != nil {
			return err
		}
	}
}

// add joins a subscription.
func (c *coordinator) add(s *Subscription) (err error) {
	most := c.t.b.Limits().MaxConsumers
	c.change(func(now time.Time) {
		if len(c.subs) >= most {
			err = fmt.Errorf("%w: the group has %d members, Limits.MaxConsumers is %d", ErrLimit, len(c.subs), most)
			return
		}
		var m group.Member
		if m, err = c.g.Join(now, s.opts.Member); err != nil {
			err = fmt.Errorf("%w: %s", ErrMemberExists, s.opts.Member)
			return
		}
		s.coordinator, s.member = c, m
		c.subs[m] = s
		c.g.Working(now, m)
	})
	return err
}

// change does something to the group, settles it, and tells the members whom it concerns.
func (c *coordinator) change(f func(now time.Time)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	f(now)
	c.g.Settle(now)
	for changed := c.g.Changed(); len(changed) > 0; changed = c.g.Changed() {
		for _, m := range changed {
			c.surrender(m)
			if s := c.subs[m]; s != nil {
				s.tell()
			}
		}
	}
	if at, ok := c.g.Added(); !ok || !at.Before(c.wake) {
		return
	}
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// surrender hands over what a member was asked for and has not begun to read: there is nothing to wait for.
func (c *coordinator) surrender(m group.Member) {
	v := c.g.View(m)
	if len(v.Revoking) == 0 {
		return
	}
	var ids []uint64
	asked := v.Revoking
	for _, o := range v.Owned {
		if len(asked) == 0 || o.Partition != asked[0] {
			continue
		}
		asked = asked[1:]
		if c.begun[o.Partition] != o.Epoch {
			ids = append(ids, o.Partition)
		}
	}
	c.g.Release(m, ids...)
}

// view tells a member what it has. With begin it begins to read what it owns, and is a member again if it was evicted.
func (c *coordinator) view(s *Subscription, begin bool) group.View {
	c.mu.Lock()
	v := c.g.View(s.member)
	c.mu.Unlock()
	if !begin {
		return v
	}
	if v.Evicted {
		c.change(func(now time.Time) { c.g.Rejoin(now, s.member) })
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	v = c.g.View(s.member)
	for _, o := range v.Owned {
		c.begun[o.Partition] = o.Epoch
	}
	return v
}

// release hands partitions over.
func (c *coordinator) release(s *Subscription, ids []PartitionID) {
	raw := make([]uint64, len(ids))
	for i, id := range ids {
		raw[i] = uint64(id)
	}
	c.change(func(time.Time) { c.g.Release(s.member, raw...) })
}

// run minds the time until the last member is gone.
//
// Members do not report each record, which would cost more than delivering it. They count, and are looked at several times per
// MaxPollInterval: one that neither waits nor has come further since the interval before is evicted.
func (c *coordinator) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-c.stop:
			return
		case <-c.t.b.done:
			return
		case <-c.kick:
		case <-timer.C:
			c.tick()
		}
		c.mu.Lock()
		now := time.Now()
		wait := c.untilNext(now)
		c.wake = now.Add(wait)
		timer.Reset(wait)
		c.mu.Unlock()
	}
}

// looksPerInterval is how often members are looked at in a MaxPollInterval: one that hangs is evicted after one interval and
// an eighth at the latest.
const looksPerInterval = 8

func (c *coordinator) untilNext(now time.Time) time.Duration {
	next := 24 * time.Hour
	if c.settings.maxPoll > 0 {
		next = c.settings.maxPoll / looksPerInterval
	}
	if at, ok := c.g.Deadline(); ok {
		next = min(next, at.Sub(now))
	}
	return max(next, 0)
}

// tick looks at the members and does what is due.
func (c *coordinator) tick() {
	b := c.t.b
	b.joining.Lock()
	defer b.joining.Unlock()
	c.change(func(now time.Time) {
		for m, s := range c.subs {
			progress, waiting := s.polls.Load()+s.delivered.Load(), s.waiting.Load()
			switch before, known := c.seen[m]; {
			case waiting:
				c.g.Waiting(m)
				delete(c.seen, m)
			case !known || progress != before:
				c.g.Working(now, m)
				c.seen[m] = progress
			}
		}
		c.g.Tick(now)
	})
	b.drop(c)
}
