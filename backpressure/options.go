package backpressure

import (
	"errors"
	"fmt"
)

// Errors of a Queue. Each means that the item was not queued.
var (
	ErrFull     = errors.New("backpressure: queue is full")
	ErrClosed   = errors.New("backpressure: queue is closed")
	ErrTooLarge = errors.New("backpressure: item exceeds what the queue can hold")
)

// Defaults of Options.
const (
	DefaultMaxRecords = 65536
	DefaultMaxBytes   = 64 << 20
	DefaultSlots      = 4096
)

// Options are the limits of a Queue. Zero means the default.
type Options struct {
	MaxRecords int   // records queued at once; default 65536, at most LargestMaxRecords
	MaxBytes   int64 // bytes queued at once; default 64 MiB, at most LargestMaxBytes
	Slots      int   // items queued at once, rounded up to a power of two; default 4096, from 2 to MaxSlots. Memory for them is taken as it is needed
	// Budget, if it is not nil, bounds the bytes of this queue and others together.
	Budget *Budget
}

// OptionError says which option is invalid and why.
type OptionError struct {
	Field  string
	Value  int64
	Reason string
}

func (e *OptionError) Error() string {
	return fmt.Sprintf("backpressure: option %s = %d: %s", e.Field, e.Value, e.Reason)
}

// resolve fills in defaults and refuses what a queue cannot have.
func (o Options) resolve() (Options, error) {
	if o.MaxRecords == 0 {
		o.MaxRecords = DefaultMaxRecords
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.Slots == 0 {
		o.Slots = DefaultSlots
	}
	for _, f := range []struct {
		field       string
		value       int64
		least, most int64
	}{
		{"MaxRecords", int64(o.MaxRecords), 1, LargestMaxRecords},
		{"MaxBytes", o.MaxBytes, 1, LargestMaxBytes},
		{"Slots", int64(o.Slots), 2, MaxSlots},
	} {
		if f.value < f.least || f.value > f.most {
			return Options{}, &OptionError{f.field, f.value, fmt.Sprintf("must be between %d and %d", f.least, f.most)}
		}
	}
	return o, nil
}
