package scaler

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/braid-go/braid/internal/sorting"
	"github.com/braid-go/braid/partition"
)

// Snapshot is what was measured of a topic.
type Snapshot struct {
	Partitions []Partition // the active ones, by range
	Fixed      bool        // they are not to change, and not looked at: only groups are
	Groups     []Group
	// DeviceUse is the part of what the device can do that it is doing, 0 to 1: whoever knows the device says how it is measured.
	DeviceUse float64
}

// Partition is an active partition and its load.
type Partition struct {
	ID    partition.ID
	Range partition.Range
	Load  partition.LoadSnapshot
}

// Group is a pool of consumers that may be resized.
type Group struct {
	Name      string
	Consumers int
	Min       int           // never fewer; 0 is 1
	Free      int           // partitions that are readable and could be given to another consumer without leaving one with none
	Lag       time.Duration // the largest of its partitions
}

// Action is what a decision is to do.
type Action uint8

const (
	None Action = iota
	Split
	Merge
	Resize
)

// String returns the action's name.
func (a Action) String() string {
	if a > Resize {
		return fmt.Sprintf("Action(%d)", uint8(a))
	}
	return [...]string{"none", "split", "merge", "resize"}[a]
}

// Decision is one step, or none, and why.
type Decision struct {
	Time      time.Time
	Action    Action
	Partition partition.ID // Split; Merge: the lower one
	At        uint64       // Split: the first hash of the upper child
	Fast      bool         // Split: by the fast rule, which no cooldown holds up
	Neighbor  partition.ID // Merge: the upper one
	Group     string       // Resize
	Consumers int          // Resize: how many from now on
	Reason    string       // never empty

	// HotKey is the heaviest key of a partition that would have been split if its load were not that key.
	HotKey *partition.KeyShare

	Err  error         // of carrying it out; set by a Loop
	Took time.Duration // to carry it out; set by a Loop
}

// quietPart is the part of MaxLag below which a group is quiet: one tenth.
const quietPart = 10

// Decide returns the next step. It changes nothing and depends on nothing but its arguments. The policy must
// be resolved; the snapshot should have been observed by the history.
func Decide(s Snapshot, p Policy, h *History, now time.Time) Decision {
	d := &decider{Snapshot: s, p: p, h: h, now: now}
	rules := []func() bool{d.limits, d.fast, d.split, d.grow, d.merge, d.shrink}
	if s.Fixed {
		rules = []func() bool{d.grow, d.shrink}
	}
	for _, rule := range rules {
		if rule() {
			d.out.Time, d.out.HotKey = now, d.hot
			return d.out
		}
	}
	if len(d.why) == 0 {
		d.steady()
	}
	return Decision{Time: now, Reason: strings.Join(d.why, "; "), HotKey: d.hot}
}

type decider struct {
	Snapshot
	p   Policy
	h   *History
	now time.Time
	out Decision
	why []string // what was not done, and why
	hot *partition.KeyShare
}

func (d *decider) not(format string, args ...any) bool {
	if reason := fmt.Sprintf(format, args...); !slices.Contains(d.why, reason) {
		d.why = append(d.why, reason)
	}
	return false
}

// try makes a decision the one, unless it failed a short time ago.
func (d *decider) try(out Decision, format string, args ...any) bool {
	if f, ok := d.h.failed[out.target()]; ok {
		if left := cooling(f.last, f.backoff(), d.now); left > 0 {
			return d.not("no %s of %s: it failed, next try in %s: %s", out.Action, out.object(), seconds(left), f.err)
		}
	}
	d.out, d.out.Reason = out, fmt.Sprintf(format, args...)
	return true
}

func (d Decision) object() string {
	switch d.Action {
	case Split:
		return fmt.Sprintf("partition %d", d.Partition)
	case Merge:
		return fmt.Sprintf("partitions %d and %d", d.Partition, d.Neighbor)
	}
	return fmt.Sprintf("group %q", d.Group)
}

func (d *decider) load(r partition.Rate) float64 {
	load := d.p.load(r.Records, r.Bytes)
	if math.IsNaN(load) {
		return 0
	}
	return load
}

// busiest returns the partitions, those with the most load first.
func (d *decider) busiest(rate func(*Partition) partition.Rate) []*Partition {
	parts := make([]*Partition, len(d.Partitions))
	for i := range parts {
		parts[i] = &d.Partitions[i]
	}
	sorting.StableFunc(parts, func(a, b *Partition) int {
		return cmp.Compare(d.load(rate(b)), d.load(rate(a)))
	})
	return parts
}

func short(p *Partition) partition.Rate  { return p.Load.Short }
func medium(p *Partition) partition.Rate { return p.Load.Medium }
func long(p *Partition) partition.Rate   { return p.Load.Long }

// limits brings the number of partitions to where it may be.
func (d *decider) limits() bool {
	n := len(d.Partitions)
	switch {
	case n == 0:
		return d.not("the topic has no partition")
	case n > d.p.MaxPartitions:
		if left := cooling(d.h.scaled, d.p.MergeCooldown, d.now); left > 0 {
			return d.not("no merge: %d partitions, MaxPartitions is %d: cooldown %s left", n, d.p.MaxPartitions, seconds(left))
		}
		pairs := d.pairs()
		for _, pair := range pairs {
			if d.try(mergeOf(pair), "%d partitions, MaxPartitions is %d: the lightest neighbours merge", n, d.p.MaxPartitions) {
				return true
			}
		}
	case n < d.p.MinPartitions:
		if left := cooling(d.h.scaled, d.p.SplitCooldown, d.now); left > 0 {
			return d.not("no split: %d partitions, MinPartitions is %d: cooldown %s left", n, d.p.MinPartitions, seconds(left))
		}
		for _, part := range d.busiest(medium) {
			if d.cut(part, false, "%d partitions, MinPartitions is %d", n, d.p.MinPartitions) {
				return true
			}
		}
	}
	return false
}

// fast splits what is far above the target now.
func (d *decider) fast() bool {
	for _, part := range d.busiest(short) {
		load := d.load(part.Load.Short)
		if load <= d.p.FastThreshold || part.Load.Age < d.p.ShortWindow {
			continue
		}
		if d.splittable() && d.cut(part, true, "%.0f %% of the target over %s", 100*load, d.p.ShortWindow) {
			return true
		}
	}
	return false
}

// split splits what has been above the threshold for a while.
func (d *decider) split() bool {
	for _, part := range d.busiest(medium) {
		load := d.load(part.Load.Medium)
		if load <= d.p.ScaleUpThreshold {
			return false
		}
		if !d.splittable() {
			return false
		}
		if part.Load.Age < d.p.MediumWindow {
			d.not("no split: partition %d has %.0f %% of the target, but is only %s old", part.ID, 100*load, seconds(part.Load.Age))
			continue
		}
		if left := cooling(d.h.scaled, d.p.SplitCooldown, d.now); left > 0 {
			return d.not("no split: cooldown %s left; partition %d has %.0f %% of the target", seconds(left), part.ID, 100*load)
		}
		if d.cut(part, false, "%.0f %% of the target over %s", 100*load, d.p.MediumWindow) {
			return true
		}
	}
	return false
}

// splittable says whether another partition is allowed and of use.
func (d *decider) splittable() bool {
	if len(d.Partitions) >= d.p.MaxPartitions {
		return d.not("no split: MaxPartitions %d reached", d.p.MaxPartitions)
	}
	if d.DeviceUse > d.p.MaxDeviceUse {
		return d.not("no split: the device is the bottleneck: %.0f %% in use", 100*d.DeviceUse)
	}
	return true
}

// cut splits a partition where its load is divided evenly.
func (d *decider) cut(part *Partition, fast bool, format string, args ...any) bool {
	at, err := part.Load.SplitPoint(part.Range)
	var indivisible *partition.IndivisibleError
	if errors.As(err, &indivisible) {
		if k := indivisible.Key; d.hot == nil || k.Share > d.hot.Share {
			d.hot = &k
		}
		return d.not("no split: the load of partition %d is one key: hash %#x has %.0f ± %.0f %% of it",
			part.ID, indivisible.Key.Hash, 100*indivisible.Key.Share, 100*indivisible.Key.Error)
	}
	if err != nil {
		return d.not("no split: partition %d: %v", part.ID, err)
	}
	return d.try(Decision{Action: Split, Partition: part.ID, At: at, Fast: fast}, "partition %d: "+format, append([]any{part.ID}, args...)...)
}

// pairs returns neighbours, those that have the least load together first.
func (d *decider) pairs() [][2]*Partition {
	var pairs [][2]*Partition
	for i := 1; i < len(d.Partitions); i++ {
		pairs = append(pairs, [2]*Partition{&d.Partitions[i-1], &d.Partitions[i]})
	}
	sorting.StableFunc(pairs, func(a, b [2]*Partition) int {
		return cmp.Compare(d.together(a, long), d.together(b, long))
	})
	return pairs
}

func (d *decider) together(pair [2]*Partition, rate func(*Partition) partition.Rate) float64 {
	a, b := rate(pair[0]), rate(pair[1])
	return d.load(partition.Rate{Records: a.Records + b.Records, Bytes: a.Bytes + b.Bytes})
}

func mergeOf(pair [2]*Partition) Decision {
	return Decision{Action: Merge, Partition: pair[0].ID, Neighbor: pair[1].ID}
}

// merge joins two neighbours that have been light for long.
func (d *decider) merge() bool {
	for _, pair := range d.pairs() {
		if !d.light(pair) {
			continue
		}
		if burst := d.h.peaks[pair[0].ID].now(d.now, d.p) + d.h.peaks[pair[1].ID].now(d.now, d.p); burst > mergeRoom*d.p.FastThreshold {
			d.not("no merge: partitions %d and %d would split again at a burst like the last one: %.0f %% of the target", pair[0].ID, pair[1].ID, 100*burst)
			continue
		}
		if n := len(d.Partitions); n <= d.p.MinPartitions {
			return d.not("no merge: MinPartitions %d reached", d.p.MinPartitions)
		}
		if age := min(pair[0].Load.Age, pair[1].Load.Age); age < d.p.LongWindow {
			d.not("no merge: partition %d or %d is only %s old", pair[0].ID, pair[1].ID, seconds(age))
			continue
		}
		if left := cooling(d.h.scaled, d.p.MergeCooldown, d.now); left > 0 {
			return d.not("no merge: cooldown %s left", seconds(left))
		}
		if d.try(mergeOf(pair), "partitions %d and %d: together %.0f %% of the target over %s",
			pair[0].ID, pair[1].ID, 100*d.together(pair, long), d.p.LongWindow) {
			return true
		}
	}
	return false
}

// light says whether both of two neighbours are below the threshold in all windows, and together far from being split again.
func (d *decider) light(pair [2]*Partition) bool {
	for _, rate := range []func(*Partition) partition.Rate{short, medium, long} {
		if d.load(rate(pair[0])) >= d.p.ScaleDownThreshold || d.load(rate(pair[1])) >= d.p.ScaleDownThreshold ||
			d.together(pair, rate) > mergeRoom*d.p.ScaleUpThreshold {
			return false
		}
	}
	return true
}

// steady says that there is nothing to say.
func (d *decider) steady() {
	if d.Fixed {
		if len(d.Groups) == 0 {
			d.not("steady: no groups")
			return
		}
		g := d.behind()[0]
		d.not("steady: group %q has %d consumers and is %s behind", g.Name, g.Consumers, seconds(g.Lag))
		return
	}
	b := d.busiest(medium)[0]
	d.not("steady: %d partitions, the busiest (%d) at %.0f %% of the target", len(d.Partitions), b.ID, 100*d.load(b.Load.Medium))
}
