package scaler

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/leanovate/gopter"
	"github.com/leanovate/gopter/gen"
	"github.com/leanovate/gopter/prop"

	"github.com/braid-go/braid/partition"
)

// hostile is a topic whose loads, groups and failures are drawn at random, tick by tick.
type hostile struct {
	r       *rand.Rand
	p       Policy
	h       History
	parts   []Partition
	born    map[partition.ID]time.Time
	groups  []Group
	next    partition.ID
	now     time.Time
	scaled  time.Time
	resized map[string]time.Time
	taken   int
}

func newHostile(seed uint64) (*hostile, error) {
	r := rand.New(rand.NewPCG(seed, 7))
	p := Policy{MinPartitions: 1 + r.IntN(4), TargetRecords: 1000, ScaleUpThreshold: 0.2 + r.Float64(), MaxConsumers: 1 + r.IntN(5),
		SplitCooldown: time.Duration(r.IntN(100)) * time.Second, MergeCooldown: time.Duration(r.IntN(100)) * time.Second,
		ConsumerCooldown: time.Duration(r.IntN(60)) * time.Second, QuietWindow: time.Minute}
	p.MaxPartitions = p.MinPartitions + r.IntN(8)
	p.ScaleDownThreshold = p.ScaleUpThreshold * (0.1 + 0.8*r.Float64())
	p, err := p.Resolve()
	if err != nil {
		return nil, err
	}
	n := 1 + r.IntN(12) // more or fewer than the policy allows
	l, err := partition.NewLayout(1, n)
	if err != nil {
		return nil, err
	}
	s := &hostile{r: r, p: p, next: partition.ID(n + 1), now: epoch, born: map[partition.ID]time.Time{}, resized: map[string]time.Time{},
		groups: []Group{{Name: "a", Consumers: 1}, {Name: "b", Consumers: 3}}}
	for _, info := range l.Active() {
		s.parts = append(s.parts, Partition{ID: info.ID, Range: info.Range})
		s.born[info.ID] = epoch
	}
	return s, nil
}

// tick draws loads, has Decide decide and carries the decision out if it violates nothing.
func (s *hostile) tick() error {
	s.now = s.now.Add(time.Duration(1+s.r.IntN(30)) * time.Second)
	level := s.r.ExpFloat64() * s.r.Float64() * 1000
	for i := range s.parts {
		rate := func() partition.Rate { return partition.Rate{Records: s.r.Float64() * level} }
		age := s.now.Sub(s.born[s.parts[i].ID])
		s.parts[i].Load = partition.LoadSnapshot{Age: age, Short: rate(), Medium: rate(), Long: rate()}
	}
	for i := range s.groups {
		s.groups[i].Lag = time.Duration(s.r.ExpFloat64() * float64(s.r.IntN(20)) * float64(time.Second))
		s.groups[i].Free = max(0, len(s.parts)-s.groups[i].Consumers)
	}
	snap := Snapshot{Partitions: s.parts, Groups: s.groups, DeviceUse: s.r.Float64()}
	s.h.Observe(snap, s.p, s.now)
	d := Decide(snap, s.p, &s.h, s.now)
	if err := s.check(snap, d); err != nil {
		return fmt.Errorf("%w: %+v with policy %+v", err, d, s.p)
	}
	if d.Action != None && s.r.IntN(5) == 0 {
		s.h.Done(d, errors.New("refused"), s.now)
		return nil
	}
	s.apply(d)
	s.h.Done(d, nil, s.now)
	return nil
}

func (s *hostile) check(snap Snapshot, d Decision) error {
	if d.Reason == "" || d.Time != s.now {
		return errors.New("no reason or another time")
	}
	i := slices.IndexFunc(s.parts, func(p Partition) bool { return p.ID == d.Partition })
	n, since := len(s.parts), s.now.Sub(s.scaled)
	switch d.Action {
	case Split:
		switch {
		case i < 0 || d.At <= s.parts[i].Range.Lo || d.At > s.parts[i].Range.Hi:
			return errors.New("not a cut of an active partition")
		case n >= s.p.MaxPartitions:
			return errors.New("more than MaxPartitions")
		case !d.Fast && since < s.p.SplitCooldown:
			return errors.New("a split within the cooldown")
		case n >= s.p.MinPartitions && snap.DeviceUse > s.p.MaxDeviceUse:
			return errors.New("a split of a busy device")
		case n >= s.p.MinPartitions && s.parts[i].Load.Age < partition.ShortWindow:
			return errors.New("a split of a new partition")
		}
	case Merge:
		switch {
		case i < 0 || i+1 >= n || s.parts[i+1].ID != d.Neighbor:
			return errors.New("not active neighbours")
		case n <= s.p.MinPartitions:
			return errors.New("fewer than MinPartitions")
		case since < s.p.MergeCooldown:
			return errors.New("a merge within the cooldown")
		case n <= s.p.MaxPartitions && min(s.parts[i].Load.Age, s.parts[i+1].Load.Age) < partition.LongWindow:
			return errors.New("a merge of a new partition")
		}
	case Resize:
		g := slices.IndexFunc(s.groups, func(g Group) bool { return g.Name == d.Group })
		switch {
		case g < 0 || d.Consumers < 1:
			return errors.New("not a group, or without consumers")
		case d.Consumers > s.groups[g].Consumers && (d.Consumers > s.p.MaxConsumers || s.groups[g].Free == 0):
			return errors.New("a consumer too many")
		case s.now.Sub(s.resized[d.Group]) < s.p.ConsumerCooldown:
			return errors.New("a resize within the cooldown")
		}
	}
	return nil
}

func (s *hostile) apply(d Decision) {
	i := slices.IndexFunc(s.parts, func(p Partition) bool { return p.ID == d.Partition })
	made := func(r partition.Range) Partition {
		s.next++
		s.born[s.next] = s.now
		return Partition{ID: s.next, Range: r}
	}
	switch d.Action {
	case Split:
		r := s.parts[i].Range
		s.parts = slices.Replace(s.parts, i, i+1, made(partition.Range{Lo: r.Lo, Hi: d.At - 1}), made(partition.Range{Lo: d.At, Hi: r.Hi}))
		s.scaled = s.now
	case Merge:
		r := partition.Range{Lo: s.parts[i].Range.Lo, Hi: s.parts[i+1].Range.Hi}
		s.parts = slices.Replace(s.parts, i, i+2, made(r))
		s.scaled = s.now
	case Resize:
		for g := range s.groups {
			if s.groups[g].Name == d.Group {
				s.groups[g].Consumers = d.Consumers
			}
		}
		s.resized[d.Group] = s.now
	default:
		return
	}
	s.taken++
}

func TestNoLoadHistoryMakesDecideViolateThePolicy(t *testing.T) {
	params := gopter.DefaultTestParameters()
	params.MinSuccessfulTests = 300
	params.SetSeed(20260101)
	t.Logf("seed %d, replay: go test -run '^%s$' ./scaler", params.Seed(), t.Name())
	taken := 0
	properties := gopter.NewProperties(params)
	properties.Property("every decision is allowed and has a reason", prop.ForAll(func(seed uint64) (bool, error) {
		s, err := newHostile(seed)
		for range 300 {
			if err == nil {
				err = s.tick()
			}
		}
		if err != nil {
			return false, err
		}
		taken += s.taken
		return true, nil
	}, gen.UInt64()))
	properties.TestingRun(t)
	if taken < 1000 {
		t.Errorf("only %d steps were taken: the histories are too tame", taken)
	}
}
