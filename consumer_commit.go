package braid

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"
)

// errDrain: handlers were still running when DrainTimeout was over.
var errDrain = fmt.Errorf("braid: handlers are still running after DrainTimeout: %w", context.DeadlineExceeded)

// claim are the records of a partition that a consumer was delivered and has not committed, in their order. Records are committed when all before them are
// done; those that failed go to the dead letters in the same step.
type claim struct {
	part    *subPartition
	ctx     context.Context // of the handlers
	cancel  context.CancelFunc
	tasks   []*task
	running int  // handlers
	stops   bool // nothing of it begins any more
}

// finished are the tasks in front that are done, as far as their dead letters fit into what is left of a transaction of limit bytes. One that fits into none
// is among them: the transaction says so.
func (cl *claim) finished(left *int, limit int) []*task {
	for i, w := range cl.tasks {
		if !w.done {
			return cl.tasks[:i]
		}
		if w.reason != nil {
			size, _ := checkRecord(w.rec, math.MaxInt)
			if *left -= size + deadHeaderBytes; *left < 0 && size+deadHeaderBytes <= limit {
				return cl.tasks[:i]
			}
		}
	}
	return cl.tasks
}

// commit commits what is finished, until nothing is. Partitions that belong to others by now are forgotten.
func (c *consumer) commit(ctx context.Context) error {
	for {
		batch := c.finished()
		if len(batch) == 0 {
			return nil
		}
		err := c.commitBatch(ctx, batch)
		var fenced *FencedError
		switch {
		case err == nil:
			c.committed(batch)
		case errors.As(err, &fenced):
			c.lost(fenced.Partitions)
		default:
			return err
		}
	}
}

// finished returns what is done in each partition.
func (c *consumer) finished() map[*claim][]*task {
	c.mu.Lock()
	defer c.mu.Unlock()
	limit := c.t.b.Limits().MaxTxnBytes
	left := limit
	batch := map[*claim][]*task{}
	claims := slices.SortedFunc(maps.Values(c.claims), func(a, b *claim) int { return cmp.Compare(a.part.part.id, b.part.part.id) })
	for _, cl := range claims { // parents come first
		if c.follows(cl.part, batch) {
			continue
		}
		if done := cl.finished(&left, limit); len(done) > 0 {
			batch[cl] = done
		}
	}
	if len(batch) == 0 { // what is done has to wait for something before it
		c.wantMore()
	}
	return batch
}

// follows reports whether something is not finished in what a partition continues: then nothing of it can be committed, since that would
// commit the end of the other.
func (c *consumer) follows(p *subPartition, batch map[*claim][]*task) bool {
	return slices.ContainsFunc(p.parents, func(parent *source) bool {
		cl := c.claims[parent.sub]
		return cl != nil && len(batch[cl]) < len(cl.tasks) || c.follows(parent.sub, batch)
	})
}

// commitBatch moves the positions behind tasks, and publishes the dead letters among them, in one step.
func (c *consumer) commitBatch(ctx context.Context, batch map[*claim][]*task) error {
	tx := c.t.b.Begin()
	last := make([]*Record, 0, len(batch))
	for _, done := range batch {
		last = append(last, done[len(done)-1].rec)
		for _, w := range done {
			if w.reason == nil {
				continue
			}
			if err := c.publishDead(tx, w); err != nil {
				return err
			}
		}
	}
	if err := tx.Offsets(c.sub, last...); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

// deadHeaderBytes is the most that the headers of a dead letter take.
const deadHeaderBytes = 2048

func (c *consumer) publishDead(tx *Txn, w *task) error {
	rec := &Record{Key: w.rec.Key, Value: w.rec.Value, Time: w.rec.Time}
	reason := w.reason.Error()
	add := func(name, value string) {
		rec.Headers = append(rec.Headers, Header{Key: name, Value: []byte(value)})
	}
	rec.Headers = append(rec.Headers, w.rec.Headers...)
	add(HeaderDeadTopic, c.t.name)
	add(HeaderDeadGroup, c.sub.group)
	add(HeaderDeadPartition, strconv.FormatUint(uint64(w.rec.origin.part.part.id), 10))
	add(HeaderDeadOffset, strconv.FormatInt(w.rec.originOffset, 10))
	add(HeaderDeadAttempts, strconv.Itoa(w.attempts))
	add(HeaderDeadError, reason[:min(len(reason), 1024)])
	err := tx.Publish(c.dead, rec)
	if errors.Is(err, ErrRecordTooLarge) { // only with the headers: then without
		rec.Headers = w.rec.Headers
		err = tx.Publish(c.dead, rec)
	}
	return err
}

// committed forgets tasks that are committed.
func (c *consumer) committed(batch map[*claim][]*task) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for cl, done := range batch {
		if c.claims[cl.part] != cl {
			continue // forgotten meanwhile
		}
		for _, w := range done {
			w.rec = nil
		}
		cl.tasks = cl.tasks[len(done):]
		c.done -= len(done)
		c.give(len(done))
	}
}

// give makes room for n records. The caller holds mu.
func (c *consumer) give(n int) {
	c.held -= n
	c.poke()
}

// poke wakes who waits for room.
func (c *consumer) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// revoked lets the handlers of partitions that go to another member finish, for a while, begins no more of them, and commits. It runs
// inside Poll.
func (c *consumer) revoked(ids []PartitionID) {
	late := false
	timer := time.AfterFunc(c.sub.coordinator.settings.rebalanceTimeout/2, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		late = true
		c.ended.Broadcast()
	})
	defer timer.Stop()
	c.mu.Lock()
	claims := c.of(ids)
	for _, cl := range claims {
		cl.stops = true
	}
	for !late && slices.ContainsFunc(claims, func(cl *claim) bool { return cl.running > 0 }) {
		c.ended.Wait()
	}
	c.mu.Unlock()
	if err := c.commit(context.Background()); err != nil && !errors.Is(err, ErrNoSpace) {
		c.sub.fail(err) // Poll returns it
	}
	c.lost(ids)
}

// lost forgets partitions that have been taken away, and ends the context of their handlers.
func (c *consumer) lost(ids []PartitionID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, cl := range c.of(ids) {
		cl.stops = true
		cl.cancel()
		delete(c.claims, cl.part)
		for _, w := range cl.tasks {
			if w.done {
				c.done--
				w.rec = nil
			}
		}
		c.give(len(cl.tasks))
	}
}

// of returns the claims of partitions. The caller holds mu.
func (c *consumer) of(ids []PartitionID) []*claim {
	var out []*claim
	for part, cl := range c.claims {
		if slices.Contains(ids, part.part.id) {
			out = append(out, cl)
		}
	}
	return out
}
