package braid

import (
	"errors"
	"fmt"

	"github.com/braid-go/braid/backpressure"
	"github.com/braid-go/braid/log"
	"github.com/braid-go/braid/partition"
)

// logError gives an error of a partition's log its meaning here: the topic and the partition are added.
func logError(topic string, id PartitionID, err error) error {
	if err == nil {
		return nil
	}
	var corrupt *log.CorruptError
	if errors.As(err, &corrupt) {
		return &CorruptError{Topic: topic, Partition: id, File: corrupt.File, Pos: corrupt.Pos, Len: corrupt.Len,
			From: corrupt.From, Next: corrupt.Next, Err: err}
	}
	var missing *log.MissingDataError
	if errors.As(err, &missing) {
		return &MissingDataError{Topic: topic, Partition: id, File: missing.File, From: missing.From, Next: missing.Next, Err: err}
	}
	var outside *log.OffsetOutOfRangeError
	if errors.As(err, &outside) {
		return &OffsetOutOfRangeError{Topic: topic, Partition: id, Offset: outside.Offset,
			Start: outside.Start, End: outside.End, Next: outside.Next}
	}
	for _, m := range []struct{ from, to error }{
		{log.ErrClosed, ErrClosed},
		{log.ErrNoSpace, ErrNoSpace},
		{log.ErrFailed, ErrPartitionFailed},
		{log.ErrVersion, ErrVersion},
		{log.ErrReadOnly, ErrReadOnly},
		{log.ErrLimit, ErrLimit},
	} {
		if errors.Is(err, m.from) {
			return fmt.Errorf("%w: topic %s partition %d: %w", m.to, topic, id, err)
		}
	}
	return fmt.Errorf("braid: topic %s partition %d: %w", topic, id, err)
}

// publishError gives an error of a partition's queue or appender its meaning here.
func publishError(topic string, id PartitionID, err error) error {
	if err == nil {
		return nil
	}
	var over *backpressure.OverloadError
	if errors.As(err, &over) {
		return &OverloadError{Topic: topic, Partition: id, Records: over.Depth.Records, Bytes: over.Depth.Bytes, RetryAfter: over.RetryAfter, Late: over.Late}
	}
	for _, m := range []struct{ from, to error }{
		{partition.ErrDropped, ErrDropped},
		{partition.ErrOutcomeUnknown, ErrOutcomeUnknown},
		{partition.ErrFailed, ErrPartitionFailed},
		{partition.ErrClosed, ErrClosed},
		{partition.ErrWouldBlock, ErrBusy},
		{partition.ErrTooLarge, ErrLimit},
		{backpressure.ErrTooLarge, ErrLimit},
	} {
		if errors.Is(err, m.from) {
			return fmt.Errorf("%w: topic %s partition %d: %w", m.to, topic, id, err)
		}
	}
	return logError(topic, id, err)
}
