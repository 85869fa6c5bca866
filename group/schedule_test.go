package group

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/leanovate/gopter"
	"github.com/leanovate/gopter/gen"
	"github.com/leanovate/gopter/prop"
)

var seedFlag = flag.Int64("seed", 0, "seed of the random tests; 0 takes one from the clock")

// seed returns the seed of this run and says how to have it again if t fails.
func seed(t testing.TB) int64 {
	t.Helper()
	s := *seedFlag
	if s == 0 {
		s = time.Now().UnixNano()
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("replay: go test ./group -run '^%s$' -seed %d", t.Name(), s)
		}
	})
	return s
}

// world is a group, what its members have been told, and what must be true of them.
type world struct {
	g       *Group
	now     time.Time
	parts   []Partition
	handles []Member
	views   map[Member]View
	epochs  map[uint64]uint64 // highest epoch seen of each partition
	highest uint64            // and of all
	done    map[uint64]bool   // finished
	all     map[uint64]Member // which sealed partition was delivered to whom, all of it
	log     []string
}

func newWorld(cfg Config, partitions int) *world {
	return &world{g: New(cfg, flat(partitions), 0), now: t0, parts: flat(partitions),
		views: map[Member]View{}, epochs: map[uint64]uint64{}, done: map[uint64]bool{}, all: map[uint64]Member{}}
}

// pick returns one of n by a random number.
func pick(r uint64, n int) int { return int(r % uint64(n)) }

func (w *world) member(r uint64) Member {
	if len(w.handles) == 0 {
		return 0
	}
	return w.handles[pick(r, len(w.handles))]
}

// step does one thing, which the random number chooses.
func (w *world) step(r uint64) {
	what, r := r%16, r/16
	m := w.member(r)
	note := func(format string, args ...any) { w.log = append(w.log, fmt.Sprintf(format, args...)) }
	switch what {
	case 0, 1:
		name := ""
		if r%3 == 0 {
			name = string(rune('a' + r/3%4))
		}
		if h, err := w.g.Join(w.now, name); err == nil {
			w.handles = append(w.handles, h)
			note("%d joins as %q", h, name)
		}
	case 2:
		note("%d leaves", m)
		w.g.Leave(w.now, m)
		w.handles = slices.DeleteFunc(w.handles, func(h Member) bool { return h == m })
		delete(w.views, m)
	case 3, 4, 5:
		note("settle")
		w.g.Settle(w.now)
	case 6, 7, 8:
		rev := w.g.View(m).Revoking
		n := pick(r/7, len(rev)+1)
		note("%d releases %v", m, rev[:n])
		w.g.Release(m, rev[:n]...)
	case 9:
		w.now = w.now.Add(time.Duration(r%40) * time.Second)
		note("tick at %v", w.now.Sub(t0))
		w.g.Tick(w.now)
	case 10:
		w.g.Working(w.now, m)
	case 11:
		w.g.Waiting(m)
		w.g.Rejoin(w.now, m)
	case 12:
		if p := w.parts[pick(r/8, len(w.parts))].ID; r%8 == 0 && w.done[p] {
			note("%d is reopened", p)
			w.done[p] = false
			w.g.Reopen(p)
			return
		}
		w.read(m, r)
	case 13:
		w.read(m, r)
	case 14:
		w.split(r)
	case 15:
		w.merge(r)
	}
}

// read has a member be delivered all of a sealed partition of its own, or commit that it was.
func (w *world) read(m Member, r uint64) {
	var sealed []uint64
	for _, o := range w.g.View(m).Owned {
		if i := slices.IndexFunc(w.parts, func(p Partition) bool { return p.ID == o.Partition }); i >= 0 && w.parts[i].Sealed {
			sealed = append(sealed, o.Partition)
		}
	}
	if len(sealed) == 0 {
		return
	}
	p := sealed[pick(r, len(sealed))]
	if w.all[p] != m {
		w.log = append(w.log, fmt.Sprintf("%d was delivered all of %d", m, p))
		w.all[p] = m
		w.g.Delivered(m, p)
		return
	}
	for _, parent := range w.parts[w.index(p)].Parents {
		if !w.done[parent] && w.index(parent) >= 0 {
			return // what comes before is committed before
		}
	}
	w.log = append(w.log, fmt.Sprintf("%d is finished", p))
	w.done[p] = true
	w.g.Finished(p)
}

func (w *world) index(id uint64) int {
	return slices.IndexFunc(w.parts, func(p Partition) bool { return p.ID == id })
}

func (w *world) split(r uint64) {
	i := pick(r, len(w.parts))
	if w.parts[i].Sealed || len(w.parts) > 60 {
		return
	}
	w.seal(i)
	w.add(w.parts[i].ID)
	w.add(w.parts[i].ID)
	w.log = append(w.log, fmt.Sprintf("%d splits", w.parts[i].ID))
	w.g.SetPartitions(slices.Clone(w.parts))
}

func (w *world) merge(r uint64) {
	i, k := pick(r, len(w.parts)), pick(r/1000, len(w.parts))
	if i == k || w.parts[i].Sealed || w.parts[k].Sealed || len(w.parts) > 60 {
		return
	}
	w.seal(i)
	w.seal(k)
	w.add(w.parts[i].ID, w.parts[k].ID)
	w.log = append(w.log, fmt.Sprintf("%d and %d merge", w.parts[i].ID, w.parts[k].ID))
	w.g.SetPartitions(slices.Clone(w.parts))
}

func (w *world) seal(i int) { w.parts[i].Sealed = true }

func (w *world) add(parents ...uint64) {
	w.parts = append(w.parts, Partition{ID: w.parts[len(w.parts)-1].ID + 1, Parents: parents})
}

// check compares what the members are told now with what they were told before.
func (w *world) check() error {
	owner, before := map[uint64]Member{}, map[uint64]Ownership{}
	for h, v := range w.views {
		for _, o := range v.Owned {
			before[o.Partition] = Ownership{uint64(h), o.Epoch}
		}
	}
	changed := w.g.Changed()
	for _, h := range w.handles {
		v := w.g.View(h)
		if old, known := w.views[h]; known && !sameView(old, v) && !slices.Contains(changed, h) {
			return fmt.Errorf("the view of %d changed from %+v to %+v and it was not told", h, old, v)
		}
		for _, o := range v.Owned {
			if other, taken := owner[o.Partition]; taken {
				return fmt.Errorf("%d and %d own partition %d", other, h, o.Partition)
			}
			owner[o.Partition] = h
			if w.done[o.Partition] {
				return fmt.Errorf("%d owns partition %d, which is finished", h, o.Partition)
			}
			if was := before[o.Partition]; was == (Ownership{uint64(h), o.Epoch}) {
				continue
			}
			if o.Epoch <= w.epochs[o.Partition] {
				return fmt.Errorf("%d got partition %d under epoch %d, there was %d before", h, o.Partition, o.Epoch, w.epochs[o.Partition])
			}
			w.epochs[o.Partition] = o.Epoch
			w.highest = max(w.highest, o.Epoch)
			delete(w.all, o.Partition) // it starts at the committed position again
		}
	}
	for id, m := range w.all { // who has lost a partition starts anew if it gets it again
		if owner[id] != m {
			delete(w.all, id)
		}
	}
	for id, h := range owner {
		if err := w.inOrder(id, h, owner); err != nil {
			return err
		}
	}
	w.views = map[Member]View{}
	for _, h := range w.handles {
		w.views[h] = w.g.View(h)
	}
	return nil
}

// inOrder: who reads a partition has, of each parent that is not finished, been delivered everything and has it still; or it was asked to give the
// partition back, and nobody else has the parent.
func (w *world) inOrder(id uint64, h Member, owner map[uint64]Member) error {
	for _, parent := range w.parts[w.index(id)].Parents {
		if w.done[parent] || w.index(parent) < 0 {
			continue
		}
		if w.all[parent] == h && owner[parent] == h {
			continue
		}
		if other, ok := owner[parent]; ok {
			return fmt.Errorf("%d reads %d while %d reads its parent %d", h, id, other, parent)
		}
		if w.g.dirty || slices.Contains(w.g.View(h).Revoking, id) {
			continue
		}
		return fmt.Errorf("%d reads %d before its parent %d", h, id, parent)
	}
	return nil
}

func sameView(a, b View) bool {
	return a.Evicted == b.Evicted && slices.Equal(a.Owned, b.Owned) && slices.Equal(a.Revoking, b.Revoking)
}

// settled: when everybody does what he is asked to, nothing that may be read is nobody's, and members that have nothing
// by necessity have numbers of partitions that differ by one at most.
func (w *world) settled() error {
	for i := 0; ; i++ {
		w.g.Settle(w.now)
		asked := false
		for _, h := range w.handles {
			rev := w.g.View(h).Revoking
			asked = asked || len(rev) > 0
			w.g.Release(h, rev...)
			if err := w.check(); err != nil {
				return err
			}
		}
		if !asked && !w.g.dirty {
			break
		}
		if i > 1000 {
			return fmt.Errorf("it never settles")
		}
	}
	var counts []int
	free := true // there is no partition about which there is no choice
	for _, m := range w.g.members {
		if m.state == active {
			counts = append(counts, len(w.g.View(m.handle).Owned))
		}
	}
	for _, p := range w.g.parts {
		if _, anybody := w.g.follower(p); anybody && !p.finished && p.owner == nil && len(counts) > 0 {
			return fmt.Errorf("partition %d may be read and is nobody's", p.ID)
		}
		free = free && !p.delivered && (p.owner == nil || p.owner.state == active)
	}
	if free && len(counts) > 0 && slices.Max(counts)-slices.Min(counts) > 1 {
		return fmt.Errorf("not even: %v", counts)
	}
	return nil
}

func (w *world) run(schedule []uint64) error {
	for _, r := range schedule {
		w.step(r)
		if err := w.check(); err != nil {
			return err
		}
	}
	return w.settled()
}

// At every step of any schedule of joins, leaves, evictions, hand-overs, splits, merges and progress: a partition has one owner at most, its epochs rise,
// nothing is read before what it continues, and whose view has changed is told. When everybody has done what he was asked, nothing is left over
// and the division is even.
func TestOneOwnerAtEveryStepOfAnySchedule(t *testing.T) {
	params := gopter.DefaultTestParametersWithSeed(seed(t))
	params.MinSuccessfulTests = 400
	params.MaxSize = 300
	properties := gopter.NewProperties(params)
	for _, a := range []Assignor{Sticky{}, Range{}, RoundRobin{}} {
		cfg := Config{Assignor: a, MaxPollInterval: time.Minute, RebalanceTimeout: 30 * time.Second, Absence: 20 * time.Second}
		properties.Property(a.Name(), prop.ForAll(func(schedule []uint64) *gopter.PropResult {
			w := newWorld(cfg, 5)
			if err := w.run(schedule); err != nil {
				return &gopter.PropResult{Status: gopter.PropFalse, Labels: []string{err.Error(), strings.Join(w.log, "; ")}}
			}
			return gopter.NewPropResult(true, "")
		}, gen.SliceOf(gen.UInt64())))
	}
	properties.TestingRun(t)
}

// A thousand joins and leaves in random order over 100 partitions, with everything of the property above checked after each.
func TestOneOwnerThroughAThousandJoinsAndLeaves(t *testing.T) {
	params := gopter.DefaultTestParametersWithSeed(seed(t))
	params.MinSuccessfulTests = 3
	params.MinSize, params.MaxSize = 1000, 1001
	properties := gopter.NewProperties(params)
	properties.Property("one owner", prop.ForAll(func(schedule []uint64) *gopter.PropResult {
		w := newWorld(Config{}, 100)
		for i, r := range schedule {
			kind := uint64(0) // joins
			if r%5 < 2 && len(w.handles) > 0 {
				kind = 2
			}
			w.step(kind + 16*(3*(r/5)+1))
			err := w.check()
			if err == nil && i%5 == 0 {
				err = w.settled()
			}
			if err != nil {
				return &gopter.PropResult{Status: gopter.PropFalse, Labels: []string{err.Error()}}
			}
		}
		return gopter.NewPropResult(true, "")
	}, gen.SliceOfN(1000, gen.UInt64())))
	properties.TestingRun(t)
}
