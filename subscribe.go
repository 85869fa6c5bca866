package braid

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/braid-go/braid/checkpoint"
	"github.com/braid-go/braid/group"
)

// SubscribeOptions configures a subscription. The zero value begins at the earliest record and
// leaves committing to the caller.
type SubscribeOptions struct {
	// From is where the group begins if it has no positions yet. What
	// it means is found out once and committed, so that "latest" does not move from one start to the
	// next. Default: the earliest record.
	From Position
	// AutoCommit commits, this often, when partitions are handed over, and on Close, the records that are finished: those of earlier
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

	// OnAssigned is told which partitions the member has got, before it is delivered anything of them.
	OnAssigned func([]PartitionID)
	// OnRevoked is told which partitions are about to go to another member. Commits of their records still succeed in it, but not
	// afterwards. Without AutoCommit it is the moment to commit what is finished; what is not committed the other member is
	// delivered again.
	OnRevoked func([]PartitionID)
	// OnLost is told which partitions have been taken from the member, because it did not come back within RebalanceTimeout or
	// MaxPollInterval. Commits of their records fail with a [FencedError].
	OnLost func([]PartitionID)
	// The three are called inside Poll, Records and Process, which wait for them. They may commit and pause, but
	// not poll or close.

	// Member is a name for this member that is its own in the group (ErrMemberExists). The partitions of a named member
	// wait for its return after it has closed, for Absence. Default "": they go to others at once.
	Member string

	// The members of a group must agree about the following; zero takes what the group has. Another value is an [OptionError].

	// Assignor divides the partitions among the members. Default [group.Sticky]: evenly, and no partition moves that need not.
	Assignor group.Assignor
	// MaxPollInterval is how long a member may stay away from Poll, or with one record of Records, before it is taken for
	// dead and its partitions go to others. It joins again with its next Poll. Default 5 minutes; negative: for ever.
	MaxPollInterval time.Duration
	// RebalanceTimeout is how long a partition that is to go to another member waits for its owner's next Poll. Then it is taken. Default 30 s.
	RebalanceTimeout time.Duration
	// Absence is how long the partitions of a named member wait for its return. Default 30 s; negative: not at all.
	Absence time.Duration
}

const defaultAbsence = 30 * time.Second

func (o SubscribeOptions) withDefaults() SubscribeOptions {
	if o.Assignor == nil {
		o.Assignor = group.Sticky{}
	}
	o.MaxPollInterval = cmp.Or(o.MaxPollInterval, group.DefaultMaxPollInterval)
	o.RebalanceTimeout = cmp.Or(o.RebalanceTimeout, group.DefaultRebalanceTimeout)
	o.Absence = cmp.Or(o.Absence, defaultAbsence)
	return o
}

func (o SubscribeOptions) check() error {
	if o.Member != "" {
		if err := checkName("member", o.Member); err != nil {
			return err
		}
	}
	for _, d := range []struct {
		field string
		value time.Duration
		neg   bool
	}{
		{"SubscribeOptions.AutoCommit", o.AutoCommit, false},
		{"SubscribeOptions.MaxPollInterval", o.MaxPollInterval, true},
		{"SubscribeOptions.RebalanceTimeout", o.RebalanceTimeout, false},
		{"SubscribeOptions.Absence", o.Absence, true},
	} {
		if d.value == 0 || d.neg && d.value < 0 {
			continue
		}
		if err := checkRange(d.field, d.value, time.Millisecond, 24*time.Hour); err != nil {
			return err
		}
	}
	return o.From.check("SubscribeOptions.From")
}

// Subscription is a member of a group, reading the topic's partitions that are its share. At most one call of Poll or ranging over
// Records may be under way at a time (ErrBusy); all other methods are safe to call concurrently.
type Subscription struct {
	t     *Topic
	group string
	opts  SubscribeOptions

	coordinator *coordinator
	member      group.Member

	polling          atomic.Bool   // a Poll or Records is under way
	changed          atomic.Bool   // what the coordinator has for it may differ from parts
	waiting          atomic.Bool   // it waits for records
	polls, delivered atomic.Uint64 // how often it asked for records, and how many it was given

	mu      sync.Mutex // guards what is delivered: feed, parts' fields but rev, and the ones below
	feed    *feed
	parts   []*subPartition // by id
	reused  []*Record       // with ReuseBuffers, what Poll returned last
	touched []*subPartition // whose reading has moved since more was asked for last
	// current is the record that the body of a Records loop is working on, if any.
	current *subPartition
	// failed is an error of a background commit that nobody has been told yet.
	failed error

	committing sync.Mutex // serialises commits; guards the parts' rev, committed and gone for writing, and the two below; taken before mu
	// wanted and scratch are used again by each commit.
	wanted  map[*subPartition]int64
	scratch []byte

	shut       atomic.Bool // closing is closed, or is about to be
	closing    chan struct{}
	closeOnce  sync.Once
	closeErr   error
	background sync.WaitGroup
}

// subPartition is a partition that a subscription has, for as long as it has it, and how far it is in it.
type subPartition struct {
	*source
	epoch     uint64 // of the ownership
	announced bool   // OnAssigned was told; only inside Poll and Records
	origin    *delivery
	last      int64 // the last record delivered, -1 if none since the last seek
	finished  int64 // every record below is finished
	moved     bool  // is in the subscription's list of those whose reading has moved
	committed int64 // the group's position
	rev       checkpoint.Revision
	gone      bool // the subscription has it no longer
	told      bool // the group knows that all of it, up to the seal, was delivered
	over      bool // the group knows that it is finished: it finishes, and so does what it continues
}

// finishes: the position is at the end at which the partition was sealed. The caller holds mu or committing.
func (p *subPartition) finishes() bool { return p.end >= 0 && p.committed >= p.end }

// delivered is the position behind everything delivered, with a gap that follows it.
func (p *subPartition) delivered() int64 { return p.next }

// Subscribe makes a member of a group. The partitions are divided among the members; each goes on reading where the group's committed
// position is. When members come and go, or stay away, partitions move: see SubscribeOptions.
// ctx bounds this call only. Errors: [NameError], [OptionError], ErrMemberExists, ErrLimit, ErrClosed, ErrReadOnly, ErrTopicNotFound, and those of
// the disk.
func (t *Topic) Subscribe(ctx context.Context, groupName string, opts SubscribeOptions) (*Subscription, error) {
	if err := checkName("group", groupName); err != nil {
		return nil, err
	}
	if err := opts.check(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s := &Subscription{t: t, group: groupName, opts: opts, closing: make(chan struct{}), feed: newFeed(t)}
	s.feed.onGap, s.feed.closed = opts.OnGap, s.closing
	if err := t.b.join(ctx, s); err != nil {
		return nil, fmt.Errorf("subscribe %s to %s: %w", groupName, t.name, err)
	}
	if err := s.start(ctx); err != nil {
		t.b.leave(s)
		return nil, fmt.Errorf("subscribe %s to %s: %w", groupName, t.name, err)
	}
	if opts.AutoCommit > 0 {
		s.background.Go(s.autoCommit)
	}
	return s, nil
}

// start takes over what the member has at once, so that bad positions are found here. Others may still have it back without asking, until the
// first Poll.
func (s *Subscription) start(ctx context.Context) error {
	epochs := map[PartitionID]uint64{}
	for _, o := range s.coordinator.view(s, false).Owned {
		epochs[PartitionID(o.Partition)] = o.Epoch
	}
	_, err := s.adopt(ctx, epochs)
	return err
}

func (s *Subscription) key(id PartitionID) []byte { return group.Key(s.t.id, s.group, uint64(id)) }

// Group returns the group's name.
func (s *Subscription) Group() string { return s.group }

// Topic returns the topic that is read.
func (s *Subscription) Topic() *Topic { return s.t }

// Close leaves the group: its partitions go to the other members. With AutoCommit it first commits what is finished and
// returns the error of that. A Poll or Records under way ends with ErrClosed. A second Close
// returns what the first did.
func (s *Subscription) Close() error {
	s.closeOnce.Do(func() {
		s.shut.Store(true)
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

func (s *Subscription) closed() bool { return s.shut.Load() }

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
			s.fail(err)
		}
	}
}

// fail keeps the error of a background commit for the next call that can return it.
func (s *Subscription) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = err
}

// takeFailure returns the error of a background commit once.
func (s *Subscription) takeFailure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.failed
	s.failed = nil
	return err
}
