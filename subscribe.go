package braid

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/braid-go/braid/checkpoint"
	"github.com/braid-go/braid/group"
	"github.com/braid-go/braid/log"
)

// SubscribeOptions configures a subscription. The zero value begins at the earliest record and
// leaves committing to the caller.
type SubscribeOptions struct {
	// From is where the group begins in partitions in which it has no position yet. What
	// it means is found out once and committed, so that "latest" does not move from one start to the
	// next. Default: the earliest record.
	From Position
	// AutoCommit commits, this often and on Close, the records that are finished: those of earlier
	// Polls, and those whose iteration of Records ended normally. Default 0: only Commit
	// and CommitDelivered commit.
	AutoCommit time.Duration
	// ReuseBuffers reuses the records and their memory: they live until the next Poll, or the next
	// iteration of Records.
	ReuseBuffers bool
	// OnGap decides what happens at records that cannot be had: true skips them, false, the default,
	// makes Poll return the error, again and again until Seek moves the position. It is called inside Poll and
	// Records and must not call methods of the subscription.
	OnGap func(Gap) bool
}

// Subscription is a member of a group, reading a topic. At most one call of Poll or ranging over
// Records may be under way at a time (ErrBusy); all other methods are safe to call concurrently.
type Subscription struct {
	t     *Topic
	group string
	opts  SubscribeOptions

	polling atomic.Bool // a Poll or Records is under way

	mu     sync.Mutex // guards what is delivered: feed, parts' fields but rev, and the ones below
	feed   *feed
	parts  []*subPartition
	reused []*Record // with ReuseBuffers, what Poll returned last
	// decoded is the record just taken from feed.
	decoded log.Record
	// current is the record that the body of a Records loop is working on, if any.
	current *subPartition
	// failed is an error of a background commit that nobody has been told yet.
	failed error

	committing sync.Mutex // serialises commits; guards the parts' rev; taken before mu

	closing    chan struct{}
	closeOnce  sync.Once
	closeErr   error
	background sync.WaitGroup
}

// subPartition is how far a subscription is in one partition.
type subPartition struct {
	*source
	origin    *delivery
	last      int64 // the last record delivered, -1 if none since the last seek
	finished  int64 // every record below is finished
	committed int64 // the group's position
	rev       checkpoint.Revision
}

// delivered is the position behind everything delivered, with a gap that follows it.
func (p *subPartition) delivered() int64 { return p.next }

// Subscribe joins a group as its only member; a second one is ErrGroupActive. Reading goes on at the
// group's committed positions. ctx bounds this call only. Errors: [NameError],
// [OptionError], ErrClosed, ErrReadOnly, ErrTopicNotFound, and those of the disk.
func (t *Topic) Subscribe(ctx context.Context, groupName string, opts SubscribeOptions) (*Subscription, error) {
	if err := checkName("group", groupName); err != nil {
		return nil, err
	}
	if opts.AutoCommit != 0 {
		if err := checkRange("SubscribeOptions.AutoCommit", opts.AutoCommit, time.Millisecond, 24*time.Hour); err != nil {
			return nil, err
		}
	}
	if err := opts.From.check("SubscribeOptions.From"); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s := &Subscription{t: t, group: groupName, opts: opts, closing: make(chan struct{})}
	if err := t.b.join(s); err != nil {
		return nil, fmt.Errorf("subscribe %s to %s: %w", groupName, t.name, err)
	}
	if err := s.start(ctx); err != nil {
		t.b.leave(s)
		return nil, fmt.Errorf("subscribe %s to %s: %w", groupName, t.name, err)
	}
	return s, nil
}

// join registers a subscription as its group's member.
func (b *Broker) join(s *Subscription) error {
	if err := b.check(); err != nil {
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
	for other := range b.subs {
		if other.t == s.t && other.group == s.group {
			return ErrGroupActive
		}
	}
	b.subs[s] = struct{}{}
	return nil
}

func (b *Broker) leave(s *Subscription) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.subs, s)
}

// start loads the group's positions, resolves and commits those it does not have, and opens the readers.
func (s *Subscription) start(ctx context.Context) error {
	parts := s.t.table.Load().all
	positions := make(map[PartitionID]*subPartition, len(parts))
	var first checkpoint.Batch
	for _, p := range parts {
		sp, err := s.load(ctx, p, &first)
		if err != nil {
			return err
		}
		s.parts = append(s.parts, sp)
		positions[p.id] = sp
	}
	rev, err := s.commitFirst(ctx, &first)
	if err != nil {
		return err
	}
	s.feed, err = newFeed(s.t, parts, s.opts.ReuseBuffers, func(p *topicPartition) (int64, error) {
		return positions[p.id].committed, nil
	})
	if err != nil {
		return err
	}
	s.feed.onGap, s.feed.closed = s.opts.OnGap, s.closing
	for i, p := range s.parts {
		if p.rev == 0 {
			p.rev = rev
		}
		p.source = s.feed.sources[i]
		p.origin = &delivery{sub: s, part: p}
	}
	if s.opts.AutoCommit > 0 {
		s.background.Go(s.autoCommit)
	}
	return nil
}

// commitFirst commits the first positions of a group, provided that the topic's layout is what they were
// made for: a topic that is being deleted gets none.
func (s *Subscription) commitFirst(ctx context.Context, first *checkpoint.Batch) (checkpoint.Revision, error) {
	if first.Len() == 0 {
		return 0, nil
	}
	first.Expect(layoutKey(s.t.id), s.t.table.Load().rev)
	rev, err := s.t.b.store.Commit(ctx, first)
	if errors.Is(err, checkpoint.ErrConflict) {
		return 0, fmt.Errorf("%w: %w", ErrTopicNotFound, err)
	}
	return rev, storeError(err)
}

// load reads the group's position in a partition; if there is none it adds the first one to a batch.
func (s *Subscription) load(ctx context.Context, p *topicPartition, first *checkpoint.Batch) (*subPartition, error) {
	sp := &subPartition{last: -1}
	key := s.key(p.id)
	value, rev, err := s.t.b.store.Get(ctx, key)
	if err != nil {
		return nil, storeError(err)
	}
	var pos group.Position
	if rev != 0 {
		if err := pos.UnmarshalBinary(value); err != nil {
			return nil, corruptMeta(fmt.Sprintf("position in partition %d", p.id), err)
		}
	} else {
		if pos.Offset, err = s.opts.From.resolve(p.id, p.log); err != nil {
			return nil, logError(s.t.name, p.id, err)
		}
		value, _ = pos.MarshalBinary()
		first.Expect(key, 0)
		first.Put(key, value)
	}
	sp.committed, sp.finished, sp.rev = pos.Offset, pos.Offset, rev
	return sp, nil
}

func (s *Subscription) key(id PartitionID) []byte { return group.Key(s.t.id, s.group, uint64(id)) }

// Group returns the group's name.
func (s *Subscription) Group() string { return s.group }

// Topic returns the topic that is read.
func (s *Subscription) Topic() *Topic { return s.t }

// Close leaves the group. With AutoCommit it first commits what is finished and
// returns the error of that. A Poll or Records under way ends with ErrClosed. A second Close
// returns what the first did.
func (s *Subscription) Close() error {
	s.closeOnce.Do(func() {
		close(s.closing)
		s.background.Wait()
		if s.opts.AutoCommit > 0 {
			s.closeErr = errors.Join(s.takeFailure(), s.commitFinished(context.Background()))
		}
		s.mu.Lock()
		s.feed.close()
		s.mu.Unlock()
		s.t.b.leave(s)
	})
	return s.closeErr
}

func (s *Subscription) closed() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

// autoCommit commits what is finished from time to time.
func (s *Subscription) autoCommit() {
	ticker := time.NewTicker(s.opts.AutoCommit)
	defer ticker.Stop()
	for {
		select {
		case <-s.closing:
			return
		case <-s.t.b.done:
			return
		case <-ticker.C:
		}
		if err := s.commitFinished(context.Background()); err != nil {
			s.mu.Lock()
			s.failed = err
			s.mu.Unlock()
		}
	}
}

// takeFailure returns the error of a background commit once.
func (s *Subscription) takeFailure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.failed
	s.failed = nil
	return err
}
