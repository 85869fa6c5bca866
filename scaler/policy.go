package scaler

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/braid-go/braid/partition"
)

// Defaults of a [Policy].
const (
	DefaultMinPartitions      = 1
	DefaultMaxPartitions      = 64
	DefaultTargetRecords      = 100_000
	DefaultTargetBytes        = 32 << 20
	DefaultScaleUpThreshold   = 0.9
	DefaultScaleDownThreshold = 0.3
	DefaultFastThreshold      = 1.5
	DefaultSplitCooldown      = 30 * time.Second
	DefaultMergeCooldown      = time.Minute
	DefaultMaxDeviceUse       = 0.9
	DefaultShortWindow        = partition.ShortWindow
	DefaultMediumWindow       = partition.MediumWindow
	DefaultLongWindow         = partition.LongWindow
	DefaultMaxConsumers       = 16
	DefaultMaxLag             = 10 * time.Second
	DefaultConsumerCooldown   = 15 * time.Second
	DefaultQuietWindow        = 5 * time.Minute
)

// mergeRoom is how much of ScaleUpThreshold two neighbours may have together to be merged, and in bursts of FastThreshold: what is left
// is the dead band's least width.
const mergeRoom = 0.75

// maxWindow is the longest that a load may be averaged over.
const maxWindow = 24 * time.Hour

// Policy says what is wanted. The zero value of a field is its default; -1 is unlimited where that is said.
type Policy struct {
	MinPartitions int // never fewer; default 1
	MaxPartitions int // never more; default 64

	// What one partition should carry: records per second (default 100,000) and bytes per second (default 32 MiB);
	// -1 = that one does not count. Not both can be -1.
	TargetRecords, TargetBytes float64

	// Shares of the target. 0 < ScaleDownThreshold < ScaleUpThreshold <= FastThreshold.
	ScaleUpThreshold   float64 // split above it over MediumWindow; default 0.9
	ScaleDownThreshold float64 // merge below it over LongWindow; default 0.3
	FastThreshold      float64 // split at once above it over ShortWindow; default 1.5, or ScaleUpThreshold if that is more

	// What the load is averaged over: default 10 s, 1 min and 5 min, whole seconds up to a day, each longer than the one before. Shorter ones follow the
	// load faster, and what was only a burst too.
	ShortWindow, MediumWindow, LongWindow time.Duration

	// How long after a split or merge the next split (default 30 s, fast ones excepted) and the next merge (default 1 min)
	// may come; -1 = none.
	SplitCooldown, MergeCooldown time.Duration

	// No split while more than this part of the time somebody waits for a sync, averaged over ShortWindow: more partitions would share the same device;
	// default 0.9, at most 1, which is never reached.
	MaxDeviceUse float64

	MaxConsumers     int           // of one group; default 16
	MaxLag           time.Duration // one more consumer above it; default 10 s
	ConsumerCooldown time.Duration // between changes of one group; default 15 s; -1 = none

	// One consumer fewer when the lag was below a tenth of MaxLag for so long; default 5 min, at most 30 days. A group that had to get back a consumer
	// it had lost waits twice as long before it loses one again, up to 16 times.
	QuietWindow time.Duration
}

// ErrPolicy reports a policy that means nothing; see [PolicyError].
var ErrPolicy = errors.New("scaler: invalid policy")

// PolicyError says which field of a policy has an invalid value.
type PolicyError struct {
	Field  string
	Value  any
	Reason string
}

func (e *PolicyError) Error() string {
	return fmt.Sprintf("scaler: invalid policy: %s = %v: %s", e.Field, e.Value, e.Reason)
}

// Is reports whether target is [ErrPolicy].
func (e *PolicyError) Is(target error) bool { return target == ErrPolicy }

// Resolve returns the policy with its defaults filled in, or a [*PolicyError]. Resolving twice changes nothing.
func (p Policy) Resolve() (Policy, error) {
	orDefault(&p.MinPartitions, DefaultMinPartitions)
	orDefault(&p.MaxPartitions, max(DefaultMaxPartitions, p.MinPartitions))
	orDefault(&p.TargetRecords, DefaultTargetRecords)
	orDefault(&p.TargetBytes, DefaultTargetBytes)
	orDefault(&p.ScaleUpThreshold, DefaultScaleUpThreshold)
	orDefault(&p.ScaleDownThreshold, DefaultScaleDownThreshold)
	orDefault(&p.FastThreshold, max(DefaultFastThreshold, p.ScaleUpThreshold))
	orDefault(&p.ShortWindow, DefaultShortWindow)
	orDefault(&p.MediumWindow, DefaultMediumWindow)
	orDefault(&p.LongWindow, DefaultLongWindow)
	orDefault(&p.SplitCooldown, DefaultSplitCooldown)
	orDefault(&p.MergeCooldown, DefaultMergeCooldown)
	orDefault(&p.MaxDeviceUse, DefaultMaxDeviceUse)
	orDefault(&p.MaxConsumers, DefaultMaxConsumers)
	orDefault(&p.MaxLag, DefaultMaxLag)
	orDefault(&p.ConsumerCooldown, DefaultConsumerCooldown)
	orDefault(&p.QuietWindow, DefaultQuietWindow)
	return p, p.check()
}

// Windows returns what the load is averaged over, of a policy that is resolved.
func (p *Policy) Windows() partition.Windows {
	return partition.Windows{Short: p.ShortWindow, Medium: p.MediumWindow, Long: p.LongWindow}
}

func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (p *Policy) check() error {
	positive := func(f float64) bool { return f > 0 && !math.IsInf(f, 1) }
	window := func(d, least time.Duration) bool { return d >= least && d <= maxWindow && d%time.Second == 0 }
	for _, c := range []struct {
		ok     bool
		field  string
		value  any
		reason string
	}{
		{p.MinPartitions >= 1, "MinPartitions", p.MinPartitions, "must be at least 1"},
		{p.MaxPartitions >= p.MinPartitions, "MaxPartitions", p.MaxPartitions, "must be at least MinPartitions"},
		{positive(p.TargetRecords) || p.TargetRecords == -1, "TargetRecords", p.TargetRecords, "must be positive, or -1 if records do not count"},
		{positive(p.TargetBytes) || p.TargetBytes == -1, "TargetBytes", p.TargetBytes, "must be positive, or -1 if bytes do not count"},
		{p.TargetRecords > 0 || p.TargetBytes > 0, "TargetBytes", p.TargetBytes, "must be positive where TargetRecords is -1"},
		{positive(p.ScaleUpThreshold), "ScaleUpThreshold", p.ScaleUpThreshold, "must be positive"},
		{positive(p.ScaleDownThreshold) && p.ScaleDownThreshold < p.ScaleUpThreshold, "ScaleDownThreshold", p.ScaleDownThreshold,
			"must be positive and below ScaleUpThreshold"},
		{positive(p.FastThreshold) && p.FastThreshold >= p.ScaleUpThreshold, "FastThreshold", p.FastThreshold,
			"must be at least ScaleUpThreshold"},
		{window(p.ShortWindow, time.Second), "ShortWindow", p.ShortWindow, "must be whole seconds, up to a day"},
		{window(p.MediumWindow, p.ShortWindow+1), "MediumWindow", p.MediumWindow, "must be whole seconds, longer than ShortWindow, up to a day"},
		{window(p.LongWindow, p.MediumWindow+1), "LongWindow", p.LongWindow, "must be whole seconds, longer than MediumWindow, up to a day"},
		{p.SplitCooldown >= -1, "SplitCooldown", p.SplitCooldown, "must be positive, or -1 for none"},
		{p.MergeCooldown >= -1, "MergeCooldown", p.MergeCooldown, "must be positive, or -1 for none"},
		{p.MaxDeviceUse > 0 && p.MaxDeviceUse <= 1, "MaxDeviceUse", p.MaxDeviceUse, "must be above 0 and at most 1"},
		{p.MaxConsumers >= 1, "MaxConsumers", p.MaxConsumers, "must be at least 1"},
		{p.MaxLag > 0, "MaxLag", p.MaxLag, "must be positive"},
		{p.ConsumerCooldown >= -1, "ConsumerCooldown", p.ConsumerCooldown, "must be positive, or -1 for none"},
		{p.QuietWindow > 0 && p.QuietWindow <= 30*24*time.Hour, "QuietWindow", p.QuietWindow, "must be positive and at most 30 days"},
	} {
		if !c.ok {
			return &PolicyError{c.field, c.value, c.reason}
		}
	}
	return nil
}

// load is a rate as a share of the target.
func (p *Policy) load(records, bytes float64) float64 {
	load := 0.0
	if p.TargetRecords > 0 {
		load = records / p.TargetRecords
	}
	if p.TargetBytes > 0 {
		load = max(load, bytes/p.TargetBytes)
	}
	return load
}
