package log

import (
	"errors"
	"fmt"
)

// The kinds of error, for errors.Is.
var (
	ErrCorrupt          = errors.New("log: corrupt")
	ErrMissingData      = errors.New("log: missing data")
	ErrOffsetOutOfRange = errors.New("log: offset out of range")
	ErrNoSpace          = errors.New("log: no space left on device")
	ErrNoDescriptors    = errors.New("log: no more files can be opened")
	ErrFailed           = errors.New("log: failed")
	ErrClosed           = errors.New("log: closed")
	ErrReadOnly         = errors.New("log: read-only")
	ErrLimit            = errors.New("log: limit exceeded")
	ErrVersion          = errors.New("log: format is newer than this version understands")
)

// CorruptError reports stored bytes that are not what was written.
type CorruptError struct {
	Dir, File string
	Pos, Len  int64 // the range of the file; Len is -1 where it is not known
	From      int64 // the first offset lost
	Next      int64 // the first offset that is readable behind
	Reason    string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("log: %s/%s: corrupt at %d (%d bytes)%s: %s", e.Dir, e.File, e.Pos, e.Len, offsets(e.From, e.Next), e.Reason)
}

// Is reports whether target is [ErrCorrupt].
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

// MissingDataError reports stored data that is no longer there.
type MissingDataError struct {
	Dir, File string
	From      int64 // the first offset lost
	Next      int64 // the first offset that is readable behind
	Reason    string
}

func (e *MissingDataError) Error() string {
	return fmt.Sprintf("log: %s/%s: missing%s: %s", e.Dir, e.File, offsets(e.From, e.Next), e.Reason)
}

// offsets names a range of offsets, if there is one.
func offsets(from, next int64) string {
	if from >= next {
		return ""
	}
	return fmt.Sprintf(", offsets %d to %d", from, next-1)
}

// Is reports whether target is [ErrMissingData].
func (e *MissingDataError) Is(target error) bool { return target == ErrMissingData }

// OffsetOutOfRangeError reports an offset that the log does not hold.
type OffsetOutOfRangeError struct {
	Offset     int64
	Start, End int64 // what there is: [Start, End)
	Next       int64 // the nearest readable offset
}

func (e *OffsetOutOfRangeError) Error() string {
	return fmt.Sprintf("log: offset %d is out of range [%d, %d)", e.Offset, e.Start, e.End)
}

// Is reports whether target is [ErrOffsetOutOfRange].
func (e *OffsetOutOfRangeError) Is(target error) bool { return target == ErrOffsetOutOfRange }

// FailedError says that a write or sync has failed, and that the log takes no more.
type FailedError struct{ Cause error }

func (e *FailedError) Error() string { return "log: failed: " + e.Cause.Error() }

// Is reports whether target is [ErrFailed].
func (e *FailedError) Is(target error) bool { return target == ErrFailed }

// Unwrap returns the cause.
func (e *FailedError) Unwrap() error { return e.Cause }
