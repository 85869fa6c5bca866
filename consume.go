package braid

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/braid-go/braid/group"
)

// Handler processes one record. It may keep the record, but not change the bytes of key and value: they are needed for the next attempt. ctx ends when the record's partition is taken
// from the group member that was delivered it, or when DrainTimeout is over. An error, or a panic, has it called again, later.
type Handler func(ctx context.Context, rec *Record) error

// ConsumeOptions configures Consume. The zero value handles one record at a time and tries each until it succeeds.
type ConsumeOptions struct {
	// From is where the group begins if it has no positions yet. Default: the earliest record.
	From Position
	// Members is how many members of the group run. Each has partitions of its own, so more than there are partitions are idle. Default 1.
	Members int
	// MaxMembers lets there be more, one at a time, while the group is further behind than TopicConfig.Scaling.MaxLag and there is a
	// partition for one more; when the group has been quiet for QuietWindow one goes again. Scaling.MaxConsumers bounds it too, where that is
	// set. Options.OnScaled and [Topic.Explain] tell. Default: Members.
	MaxMembers int
	// Concurrency is how many handlers run at a time in each member. Records of one key are handled one after the other, in their
	// order, also while one is being tried again; records without a key in no order. Default 1.
	Concurrency int
	// Prefetch is how many records a member has at most that are not finished, or not committed because an earlier one is not
	// finished. It is what one record that fails for long holds up at most. Default 1,000 or 4 * Concurrency, whichever is more.
	Prefetch int

	// MaxAttempts is how often a record is given to the handler before it goes to DeadLetter, which it needs then. Default 0: until it succeeds.
	MaxAttempts int
	// DeadLetter is the topic that takes the records that failed MaxAttempts times, with their key, value, headers and
	// time, and headers that say where they come from and why; see the Header constants. It is created if it does not exist. A record is published there in the same transaction
	// that commits the position behind it: exactly once.
	DeadLetter string
	// MinBackoff is how long a record waits after its first failure. The wait doubles with each failure up to MaxBackoff; up to a fifth of it is
	// random. Defaults 100 ms and 30 s.
	MinBackoff, MaxBackoff time.Duration
	// OnError is told each failure: the record, how often it was tried so far, and the error, a [*PanicError] for a panic. It is called
	// by several goroutines. Default: a warning to Options.Logger.
	OnError func(rec *Record, attempts int, err error)

	// CommitInterval is how often the positions behind finished records are committed, at least: sooner when half of Prefetch is finished. Default 100 ms.
	CommitInterval time.Duration
	// DrainTimeout is how long handlers may go on when Consume is to end. Default 30 s.
	DrainTimeout time.Duration

	// OnGap is as in SubscribeOptions, and so are the next three.
	OnGap            func(Gap) bool
	Assignor         group.Assignor
	MaxPollInterval  time.Duration
	RebalanceTimeout time.Duration
}

// Headers that a record has in a dead-letter topic beside its own.
const (
	HeaderDeadTopic     = "braid-dead-topic"
	HeaderDeadGroup     = "braid-dead-group"
	HeaderDeadPartition = "braid-dead-partition"
	HeaderDeadOffset    = "braid-dead-offset"
	HeaderDeadAttempts  = "braid-dead-attempts"
	HeaderDeadError     = "braid-dead-error" // at most 1 KiB
)

// Most of what ConsumeOptions can ask for.
const (
	maxMembers     = 1_000_000 // as Limits.MaxConsumers
	maxConcurrency = 65536
	maxPrefetch    = 1 << 20
)

func (o ConsumeOptions) resolve(topic string) (ConsumeOptions, error) {
	o.Members = cmp.Or(o.Members, 1)
	o.MaxMembers = cmp.Or(o.MaxMembers, o.Members)
	o.Concurrency = cmp.Or(o.Concurrency, 1)
	o.Prefetch = cmp.Or(o.Prefetch, max(1000, min(4*o.Concurrency, maxPrefetch)))
	o.MinBackoff = cmp.Or(o.MinBackoff, 100*time.Millisecond)
	o.MaxBackoff = cmp.Or(o.MaxBackoff, max(30*time.Second, o.MinBackoff))
	o.CommitInterval = cmp.Or(o.CommitInterval, 100*time.Millisecond)
	o.DrainTimeout = cmp.Or(o.DrainTimeout, 30*time.Second)
	err := errors.Join(
		checkRange("ConsumeOptions.Members", o.Members, 1, maxMembers),
		checkRange("ConsumeOptions.MaxMembers", o.MaxMembers, o.Members, maxMembers),
		checkRange("ConsumeOptions.Concurrency", o.Concurrency, 1, maxConcurrency),
		checkRange("ConsumeOptions.Prefetch", o.Prefetch, 1, maxPrefetch),
		checkRange("ConsumeOptions.MaxAttempts", o.MaxAttempts, 0, 1<<30),
		checkRange("ConsumeOptions.MinBackoff", o.MinBackoff, time.Microsecond, 24*time.Hour),
		checkRange("ConsumeOptions.MaxBackoff", o.MaxBackoff, o.MinBackoff, 24*time.Hour),
		checkRange("ConsumeOptions.CommitInterval", o.CommitInterval, time.Millisecond, time.Hour),
		checkRange("ConsumeOptions.DrainTimeout", o.DrainTimeout, time.Millisecond, 24*time.Hour),
	)
	switch {
	case err != nil:
	case o.MaxAttempts > 0 && o.DeadLetter == "":
		err = &OptionError{"ConsumeOptions.MaxAttempts", o.MaxAttempts, "needs a DeadLetter topic, or records would be lost"}
	case o.MaxAttempts == 0 && o.DeadLetter != "":
		err = &OptionError{"ConsumeOptions.DeadLetter", o.DeadLetter, "needs MaxAttempts, or nothing would go there"}
	case o.DeadLetter == topic:
		err = &OptionError{"ConsumeOptions.DeadLetter", o.DeadLetter, "is the topic that is consumed"}
	case o.DeadLetter != "":
		err = checkName("topic", o.DeadLetter)
	}
	return o, err
}

// PanicError is what a handler that panicked has returned, as it were.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Consume runs a handler over the records of a topic, for a group, until ctx ends or something fails that trying again does not mend. Each record is
// handled at least once: again after an error, after a crash, and when its partition has gone to another member before it was committed. Positions follow the finished
// records without gaps.
//
// When ctx ends nothing new is begun; handlers that are running may finish, what is finished is committed, and Consume returns nil. If they take longer
// than DrainTimeout their context ends and Consume returns [context.DeadlineExceeded] without waiting for them. Errors otherwise: [OptionError], [NameError],
// ErrClosed, ErrReadOnly, ErrTopicNotFound, those of Poll for records that cannot be had, and those of committing.
func (t *Topic) Consume(ctx context.Context, groupName string, opts ConsumeOptions, handle Handler) error {
	opts, err := opts.resolve(t.name)
	if err != nil {
		return err
	}
	var dead *Topic
	if opts.DeadLetter != "" {
		if dead, err = t.b.EnsureTopic(ctx, opts.DeadLetter, TopicConfig{}); err != nil {
			return fmt.Errorf("dead-letter topic: %w", err)
		}
	}
	return newPool(ctx, t, groupName, opts, dead, handle).run()
}

// backoff is how long a record waits after so many attempts.
func (o *ConsumeOptions) backoff(attempts int) time.Duration {
	d := o.MinBackoff
	for i := 1; i < attempts && d < o.MaxBackoff; i++ {
		d *= 2
	}
	d = min(d, o.MaxBackoff)
	return d - time.Duration(rand.Int64N(int64(d)/5+1))
}
