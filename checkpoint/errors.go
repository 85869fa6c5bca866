package checkpoint

import (
	"errors"
	"fmt"
)

// The kinds of error, for errors.Is.
var (
	// ErrConflict: an expectation of the batch did not hold. A [ConflictError].
	ErrConflict = errors.New("checkpoint: conflict")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("checkpoint: closed")
	// ErrCorrupt: stored bytes are not what was written. A [CorruptError].
	ErrCorrupt = errors.New("checkpoint: corrupt")
	// ErrMissingData: stored data is no longer there, or is another store's. A [MissingDataError].
	ErrMissingData = errors.New("checkpoint: missing data")
	// ErrLimit: a key, value, batch or store larger than is accepted. A [LimitError].
	ErrLimit = errors.New("checkpoint: limit exceeded")
	// ErrNoSpace: the disk is full. Nothing happened, and the store goes on serving.
	ErrNoSpace = errors.New("checkpoint: no space left on device")
	// ErrOutcomeUnknown: writing failed midway; reopening the store will tell whether
	// the commit happened.
	ErrOutcomeUnknown = errors.New("checkpoint: outcome unknown")
	// ErrFailed: an earlier write or sync failed. The store commits nothing until it is
	// reopened. A [FailedError].
	ErrFailed = errors.New("checkpoint: failed")
	// ErrVersion: the directory was written by a newer version of this package.
	ErrVersion = errors.New("checkpoint: format is newer than this version understands")
)

// ConflictError reports the first expectation that did not hold.
type ConflictError struct {
	Key              []byte
	Expected, Actual Revision
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("checkpoint: conflict: key %.64q has revision %d, expected %d", e.Key, e.Actual, e.Expected)
}

// Is reports whether target is [ErrConflict].
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

// CorruptError reports stored bytes that are not what was written.
type CorruptError struct {
	Path string
	// Offset and Length are the range of the file: Length is -1 where the end is not known.
	Offset, Length int64
	Reason         string
}

func (e *CorruptError) Error() string {
	if e.Length < 0 {
		return fmt.Sprintf("checkpoint: %s: corrupt from byte %d on: %s", e.Path, e.Offset, e.Reason)
	}
	return fmt.Sprintf("checkpoint: %s: corrupt at byte %d (%d bytes): %s", e.Path, e.Offset, e.Length, e.Reason)
}

// Is reports whether target is [ErrCorrupt].
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

// MissingDataError reports stored data that is no longer there.
type MissingDataError struct {
	Path   string
	Reason string
}

func (e *MissingDataError) Error() string {
	return fmt.Sprintf("checkpoint: %s: missing data: %s", e.Path, e.Reason)
}

// Is reports whether target is [ErrMissingData].
func (e *MissingDataError) Is(target error) bool { return target == ErrMissingData }

// LimitError reports what was too large.
type LimitError struct {
	What        string
	Actual, Max int64
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("checkpoint: limit exceeded: %d %s, at most %d are accepted", e.Actual, e.What, e.Max)
}

// Is reports whether target is [ErrLimit].
func (e *LimitError) Is(target error) bool { return target == ErrLimit }

// FailedError says that a write or sync has failed, and that the store commits
// nothing more.
type FailedError struct{ Cause error }

func (e *FailedError) Error() string {
	return "checkpoint: failed, reopen the store: " + e.Cause.Error()
}

// Is reports whether target is [ErrFailed].
func (e *FailedError) Is(target error) bool { return target == ErrFailed }

// Unwrap returns the cause.
func (e *FailedError) Unwrap() error { return e.Cause }
