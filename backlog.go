package braid

import (
	"context"
	"math"
	"sync/atomic"
	"time"
)

// backlog watches over TopicConfig.MaxBacklog: partitions that hold publishers back are told how far their groups have come. As long as none does, it costs nothing.
type backlog struct {
	holding atomic.Int32  // partitions
	look    chan struct{} // something has changed
}

// backlogInterval is how often groups are looked at while publishers are held back, beside each commit of a subscription: they may have
// been reset or deleted, and retention may have taken what they have not read.
const backlogInterval = 100 * time.Millisecond

// held counts a partition that begins, or ends, to hold publishers back; its appender calls it.
func (t *Topic) held(on bool) {
	n := int32(1)
	if !on {
		n = -1
	}
	t.holding.Add(n)
	t.b.backlog.holding.Add(n)
	t.b.backlog.changed()
}

// changed has the partitions that hold back looked at.
func (b *backlog) changed() {
	if b.holding.Load() == 0 {
		return
	}
	select {
	case b.look <- struct{}{}:
	default:
	}
}

// runBacklog runs until the broker closes.
func (b *Broker) runBacklog() {
	again := time.NewTimer(0)
	again.Stop()
	for {
		select {
		case <-b.done:
			return
		case <-b.backlog.look:
		case <-again.C:
		}
		for _, t := range b.Topics() {
			if t.holding.Load() == 0 {
				continue
			}
			if err := t.setFloors(context.Background()); err != nil {
				b.opts.Logger.Error("the backlog of groups is not known", "topic", t.name, "error", err)
			}
		}
		if b.backlog.holding.Load() > 0 {
			again.Reset(backlogInterval)
		}
	}
}

// setFloors tells the topic's partitions how far its slowest group has come.
func (t *Topic) setFloors(ctx context.Context) error {
	groups := map[string]map[PartitionID]int64{}
	for at, err := range positions(ctx, t.b.store, t.id, t.name) {
		if err != nil {
			return err
		}
		if groups[at.of] == nil {
			groups[at.of] = map[PartitionID]int64{}
		}
		groups[at.of][at.part] = at.Offset
	}
	for _, p := range t.table.Load().active {
		floor := int64(math.MaxInt64)
		for _, at := range groups {
			floor = min(floor, at[p.id]) // 0: the group has not come to it yet
		}
		p.live.SetFloor(max(floor, p.log.Start()))
	}
	return nil
}
