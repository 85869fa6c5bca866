package braid

import (
	"fmt"
	"maps"
	"time"

	"github.com/braid-go/braid/log"
)

// Position is a place to begin reading at. The zero Position is the earliest record.
type Position struct {
	kind    positionKind
	time    time.Time
	offsets map[PartitionID]int64
}

type positionKind uint8

const (
	positionEarliest positionKind = iota
	positionLatest
	positionTime
	positionOffsets
)

// FromEarliest is the oldest record kept of each partition.
func FromEarliest() Position { return Position{} }

// FromLatest is behind the last visible record of each partition: only what comes is read.
func FromLatest() Position { return Position{kind: positionLatest} }

// FromTime is, in each partition, the first record whose Time, or that of one before it, is at or after
// t; behind the last record if there is none.
func FromTime(t time.Time) Position { return Position{kind: positionTime, time: t} }

// FromOffsets is an offset for each partition named, and the oldest record kept of every other one. An
// offset that retention has passed, or that is not reached yet, is met by the reader as
// ErrOffsetOutOfRange.
func FromOffsets(offsets map[PartitionID]int64) Position {
	return Position{kind: positionOffsets, offsets: maps.Clone(offsets)}
}

// String describes the position.
func (p Position) String() string {
	switch p.kind {
	case positionLatest:
		return "latest"
	case positionTime:
		return p.time.Format(time.RFC3339Nano)
	case positionOffsets:
		return fmt.Sprintf("offsets %v", p.offsets)
	}
	return "earliest"
}

// check refuses a position that no partition can have.
func (p Position) check(field string) error {
	if p.kind == positionTime && !storable(p.time) {
		return &OptionError{Field: field, Value: p.time, Reason: "cannot be told in nanoseconds"}
	}
	for id, offset := range p.offsets {
		if offset < 0 {
			return &OptionError{Field: field, Value: offset, Reason: fmt.Sprintf("partition %d: an offset is not negative", id)}
		}
	}
	return nil
}

// resolve gives the offset that the position means in a partition now.
func (p Position) resolve(id PartitionID, l *log.Log) (int64, error) {
	switch p.kind {
	case positionLatest:
		return l.VisibleEnd(), nil
	case positionTime:
		return l.OffsetAt(p.time.UnixNano())
	case positionOffsets:
		if offset, ok := p.offsets[id]; ok {
			return offset, nil
		}
	}
	return l.Start(), nil
}

// Gap is a range of offsets that a reader cannot have: [From, Next).
type Gap struct {
	Topic      string
	Partition  PartitionID
	From, Next int64
	// Err is the [CorruptError], [MissingDataError] or [OffsetOutOfRangeError] that reports it.
	Err error
}
