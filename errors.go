package braid

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// The kinds of error, for errors.Is. The typed errors below carry the facts and
// match their kind.
var (
	// ErrClosed: the broker, the topic's partition or the subscription was closed.
	ErrClosed = errors.New("braid: closed")
	// ErrTopicExists: CreateTopic met a topic of that name.
	ErrTopicExists = errors.New("braid: topic exists")
	// ErrTopicNotFound: there is no topic of that name, or it has been deleted.
	ErrTopicNotFound = errors.New("braid: topic not found")
	// ErrInvalidName: a topic's or group's name is not [A-Za-z0-9._-]{1,249}, or is "." or "..".
	ErrInvalidName = errors.New("braid: invalid name")
	// ErrInvalidOption: an option has a value that means nothing; see [OptionError].
	ErrInvalidOption = errors.New("braid: invalid option")
	// ErrInvalidRecord: a record cannot be published as it is; see [RecordError].
	ErrInvalidRecord = errors.New("braid: invalid record")
	// ErrRecordTooLarge: a record exceeds Limits.MaxRecordBytes.
	ErrRecordTooLarge = errors.New("braid: record too large")
	// ErrOutcomeUnknown: the disk failed, or the caller gave up, while the record was on
	// its way. It may be stored and it may not; reopening finds out.
	ErrOutcomeUnknown = errors.New("braid: outcome unknown")
	// ErrNotDelivered: a record given to Commit was not delivered by this subscription.
	ErrNotDelivered = errors.New("braid: record was not delivered by this subscription")
	// ErrBusy: another call that excludes this one is under way, or the call would have to
	// wait where waiting is not allowed (inside a PublishAsync callback).
	ErrBusy = errors.New("braid: busy")
	// ErrGroupActive: the group has members, and what was asked for needs it to have none.
	ErrGroupActive = errors.New("braid: group is active")
	// ErrMemberExists: the group has a member of that name.
	ErrMemberExists = errors.New("braid: a member of that name is in the group")
	// ErrNotAssigned: the member does not have that partition.
	ErrNotAssigned = errors.New("braid: partition is not assigned to this member")
	// ErrLocked: another broker has the directory open for writing.
	ErrLocked = errors.New("braid: directory is locked by another broker")
	// ErrReadOnly: the broker was opened with Options.ReadOnly.
	ErrReadOnly = errors.New("braid: opened read-only")
	// ErrNoSpace: the disk is full. Nothing of what was refused is stored; reading goes
	// on, and publishing works again when space is back.
	ErrNoSpace = errors.New("braid: no space left on device")
	// ErrCorrupt: stored data is damaged; see [CorruptError].
	ErrCorrupt = errors.New("braid: corrupt")
	// ErrMissingData: stored data is gone; see [MissingDataError].
	ErrMissingData = errors.New("braid: missing data")
	// ErrOffsetOutOfRange: an offset is no longer, or not yet, in the partition; see
	// [OffsetOutOfRangeError].
	ErrOffsetOutOfRange = errors.New("braid: offset out of range")
	// ErrPartitionFailed: a write or sync of the partition failed; it refuses to publish until
	// the broker is reopened. What was visible stays readable.
	ErrPartitionFailed = errors.New("braid: partition failed")
	// ErrStoreFailed: an earlier write or sync of the store of positions and configurations failed; no position can be
	// committed, no transaction and no topic changed until the broker is reopened. Reading goes on, and so does publishing, but
	// for partitions that had records in what failed (ErrPartitionFailed).
	ErrStoreFailed = errors.New("braid: store failed")
	// ErrConflict: something that a transaction, or a planned change, was based on has been changed by somebody else; nothing has happened.
	ErrConflict = errors.New("braid: conflict")
	// ErrFenced: a partition whose position was to be committed belongs to another member of the group by now; nothing
	// has happened. See [FencedError].
	ErrFenced = errors.New("braid: fenced")
	// ErrTxnEnded: the transaction has been committed or rolled back.
	ErrTxnEnded = errors.New("braid: transaction has ended")
	// ErrOverloaded: a topic's backpressure has refused the record; it is certainly not stored. See [OverloadError].
	ErrOverloaded = errors.New("braid: overloaded")
	// ErrDropped: the record was queued, and a topic's backpressure (DropOldest) has dropped it to make room for a later one; it is certainly not stored.
	ErrDropped = errors.New("braid: dropped")
	// ErrLimit: a limit of [Limits] would be exceeded.
	ErrLimit = errors.New("braid: limit exceeded")
	// ErrVersion: the directory was written by a newer version of Braid.
	ErrVersion = errors.New("braid: format is newer than this version understands")
)

// OptionError says which option has an invalid value. Nothing was changed.
type OptionError struct {
	Field  string // for example "TopicConfig.Partitions"
	Value  any
	Reason string
}

func (e *OptionError) Error() string {
	return fmt.Sprintf("braid: invalid option %s = %v: %s", e.Field, e.Value, e.Reason)
}

// Is reports whether target is [ErrInvalidOption].
func (e *OptionError) Is(target error) bool { return target == ErrInvalidOption }

// NameError says why a name of a topic or group is refused.
type NameError struct {
	Kind   string // "topic" or "group"
	Name   string
	Reason string
}

func (e *NameError) Error() string {
	return fmt.Sprintf("braid: invalid %s name %.64q: %s", e.Kind, e.Name, e.Reason)
}

// Is reports whether target is [ErrInvalidName].
func (e *NameError) Is(target error) bool { return target == ErrInvalidName }

// RecordError says which record of a call is refused and why. Nothing of the call
// was stored.
type RecordError struct {
	Index  int    // in the call's records
	Field  string // "Key", "Value", "Headers", "Time" or "" for the record itself
	Reason string
	Err    error // ErrInvalidRecord or ErrRecordTooLarge
}

func (e *RecordError) Error() string {
	if e.Field == "" {
		return fmt.Sprintf("%v: record %d: %s", e.Err, e.Index, e.Reason)
	}
	return fmt.Sprintf("%v: record %d: %s: %s", e.Err, e.Index, e.Field, e.Reason)
}

// Unwrap returns the kind.
func (e *RecordError) Unwrap() error { return e.Err }

// ConflictError says which key of the application's state made a transaction fail.
type ConflictError struct{ Key string }

func (e *ConflictError) Error() string {
	return fmt.Sprintf("braid: conflict: key %.64q was changed after it had been read", e.Key)
}

// Is reports whether target is [ErrConflict].
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

// FencedError says which partitions a member has lost to others before it could commit.
type FencedError struct {
	Topic, Group string
	Partitions   []PartitionID
}

func (e *FencedError) Error() string {
	return fmt.Sprintf("braid: fenced: group %s in %s: partitions %v belong to another member now", e.Group, e.Topic, e.Partitions)
}

// Is reports whether target is [ErrFenced].
func (e *FencedError) Is(target error) bool { return target == ErrFenced }

// PublishError says which records of a Publish of several were not stored.
type PublishError struct {
	// Errs has one element per record of the call, in the call's order; nil where the record is
	// stored.
	Errs []error
}

func (e *PublishError) Error() string {
	failed, first := 0, error(nil)
	for _, err := range e.Errs {
		if err == nil {
			continue
		}
		if first == nil {
			first = err
		}
		failed++
	}
	return fmt.Sprintf("braid: %d of %d records not published, the first: %v", failed, len(e.Errs), first)
}

// Unwrap returns the distinct errors.
func (e *PublishError) Unwrap() []error {
	var out []error
	for _, err := range e.Errs {
		if err != nil && (len(out) == 0 || out[len(out)-1] != err) {
			out = append(out, err)
		}
	}
	return out
}

// CorruptError reports stored bytes that are not what was written. They are never
// returned as data and never deleted; what lies before and after stays readable.
type CorruptError struct {
	Topic     string
	Partition PartitionID
	File      string // path of the damaged file
	Pos, Len  int64  // the damaged bytes; Len is -1 where it is not known
	From      int64  // the first offset lost
	Next      int64  // the first readable offset behind the damage: Seek there to go on
	Err       error  // what was found
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("braid: topic %s partition %d%s: corrupt: %v", e.Topic, e.Partition, offsets(e.From, e.Next), e.Err)
}

// offsets names a range of offsets, if there is one.
func offsets(from, next int64) string {
	if from >= next {
		return ""
	}
	return fmt.Sprintf(" offsets %d to %d", from, next-1)
}

// Is reports whether target is [ErrCorrupt].
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

// Unwrap returns what was found.
func (e *CorruptError) Unwrap() error { return e.Err }

// MissingDataError reports stored data that is no longer there.
type MissingDataError struct {
	Topic     string
	Partition PartitionID
	File      string
	From      int64 // the first offset lost
	Next      int64 // the first readable offset behind: Seek there to go on
	Err       error
}

func (e *MissingDataError) Error() string {
	return fmt.Sprintf("braid: topic %s partition %d%s: missing: %v", e.Topic, e.Partition, offsets(e.From, e.Next), e.Err)
}

// Is reports whether target is [ErrMissingData].
func (e *MissingDataError) Is(target error) bool { return target == ErrMissingData }

// Unwrap returns what was found.
func (e *MissingDataError) Unwrap() error { return e.Err }

// OffsetOutOfRangeError reports a position that the partition does not hold, most
// often because retention has passed it.
type OffsetOutOfRangeError struct {
	Topic      string
	Partition  PartitionID
	Offset     int64 // what was asked for
	Start, End int64 // what there is: [Start, End)
	Next       int64 // the nearest readable offset: Seek there to go on
}

func (e *OffsetOutOfRangeError) Error() string {
	return fmt.Sprintf("braid: topic %s partition %d: offset %d is out of range [%d, %d)",
		e.Topic, e.Partition, e.Offset, e.Start, e.End)
}

// Is reports whether target is [ErrOffsetOutOfRange].
func (e *OffsetOutOfRangeError) Is(target error) bool { return target == ErrOffsetOutOfRange }

// OverloadError says how full a partition's queue was when it refused a record, and when to try again. It is an ErrOverloaded; if it was refused
// because ctx would have ended before it could be stored, it is a [context.DeadlineExceeded] too.
type OverloadError struct {
	Topic     string
	Partition PartitionID
	Records   int   // that were queued
	Bytes     int64 // that were queued
	// RetryAfter is how long the disk needs, at the speed of the last second or so, or since it has become slower, until there is room: between 1 ms and 30 s, 100 ms if nothing is known.
	RetryAfter time.Duration
	// Late: there was room, but ctx would have ended first.
	Late bool
}

func (e *OverloadError) Error() string {
	why := "the queue is full"
	if e.Late {
		why = "the context would end before the record is stored"
	}
	return fmt.Sprintf("%v: topic %s partition %d: %s: %d records, %d bytes queued: retry after %v", ErrOverloaded, e.Topic, e.Partition, why, e.Records, e.Bytes, e.RetryAfter)
}

// Is reports whether target is what the error is a kind of.
func (e *OverloadError) Is(target error) bool {
	return target == ErrOverloaded || e.Late && target == context.DeadlineExceeded
}
