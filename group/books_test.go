package group

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/leanovate/gopter"
	"github.com/leanovate/gopter/gen"
	"github.com/leanovate/gopter/prop"
)

// looksAtAll is Sticky, but a group does not know it, and so looks at everything.
type looksAtAll struct{ Sticky }

// twins are two groups to which the same happens: one looks at what moves, the other at everything.
type twins struct {
	moves, all *world
	steps      int // in which the first had its books
}

func newTwins(partitions int) *twins {
	cfg := Config{MaxPollInterval: time.Minute, RebalanceTimeout: 30 * time.Second, Absence: 20 * time.Second}
	tw := &twins{moves: newWorld(cfg, partitions)}
	cfg.Assignor = looksAtAll{}
	tw.all = newWorld(cfg, partitions)
	return tw
}

func (tw *twins) step(r uint64) error {
	if tw.moves.g.books != nil {
		tw.steps++
	}
	for _, w := range []*world{tw.moves, tw.all} {
		w.step(r)
		if err := w.check(); err != nil {
			return err
		}
	}
	return tw.compare()
}

func (tw *twins) compare() error {
	a, b := tw.moves, tw.all
	if diff := cmp.Diff(b.views, a.views); diff != "" {
		return fmt.Errorf("what the members are told (-looking at all +looking at what moves):\n%s", diff)
	}
	atA, okA := a.g.Deadline()
	atB, okB := b.g.Deadline()
	if !atA.Equal(atB) || okA != okB || a.g.Generation() != b.g.Generation() || a.g.Spare() != b.g.Spare() {
		return fmt.Errorf("deadline %v, generation %d, %d to spare; looking at all: %v, %d, %d",
			atA, a.g.Generation(), a.g.Spare(), atB, b.g.Generation(), b.g.Spare())
	}
	return tw.booksAreRight()
}

// booksAreRight compares the books with what they are of.
func (tw *twins) booksAreRight() error {
	g := tw.moves.g
	if g.books == nil {
		return nil
	}
	for _, p := range g.parts {
		_, orphan := find(g.books.orphans, p)
		_, asked := find(g.books.asked, p)
		if orphan != (p.owner == nil && !p.finished) || asked != p.asked() {
			return fmt.Errorf("partition %d is in the books as nobody's: %v, as asked for: %v", p.ID, orphan, asked)
		}
	}
	for _, m := range g.members {
		stands := m.shelf >= 0 && slices.Contains(g.books.shelves[m.shelf], m)
		if right := stands == (m.state == active) && (!stands || m.shelf == len(m.owned)); !right && !m.moved {
			return fmt.Errorf("member %d owns %d and stands on shelf %d", m.handle, len(m.owned), m.shelf)
		}
	}
	return nil
}

// A group that looks only at what moves tells its members the same as one that divides everything anew each time: the same partitions, under the same
// epochs, in the same generation.
func TestWhatMovesIsSettledAsIfEverythingWereLookedAt(t *testing.T) {
	for _, tc := range []struct {
		name       string
		kinds      []uint64 // of steps: see world.step
		partitions int
		least      float64 // the part of the steps that must be with books
	}{
		{"joins, leaves, hand-overs and evictions", []uint64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, 40, 0.5},
		{"few splits, and much that is finished and read again", []uint64{0, 2, 3, 4, 5, 6, 12, 12, 12, 12, 13, 13, 13, 13, 14}, 4, 0.1},
		{"splits and merges as well", []uint64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, 40, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			params := gopter.DefaultTestParametersWithSeed(seed(t))
			params.MinSuccessfulTests = 150
			params.MaxSize = 300
			steps, withBooks := 0, 0
			properties := gopter.NewProperties(params)
			properties.Property("the same", prop.ForAll(func(partitions int, schedule []uint64) *gopter.PropResult {
				tw := newTwins(partitions)
				for _, r := range schedule {
					err := tw.step(r/16*16 + tc.kinds[pick(r/7, len(tc.kinds))])
					if err != nil {
						return &gopter.PropResult{Status: gopter.PropFalse, Labels: []string{err.Error(), strings.Join(tw.moves.log, "; ")}}
					}
				}
				steps, withBooks = steps+len(schedule), withBooks+tw.steps
				return gopter.NewPropResult(true, "")
			}, gen.IntRange(1, tc.partitions), gen.SliceOf(gen.UInt64())))
			properties.TestingRun(t)
			if part := float64(withBooks) / float64(steps); part <= tc.least {
				t.Errorf("%.2f of %d steps were with books: this tests little", part, steps)
			} else {
				t.Logf("%.2f of %d steps were with books", part, steps)
			}
		})
	}
}

func TestWhatWasDeliveredToItsEndStaysWithItsOwner(t *testing.T) {
	for _, a := range []Assignor{Sticky{}, looksAtAll{}} {
		parts := flat(4)
		parts[3].Sealed = true
		g := New(Config{Assignor: a}, parts, 0)
		m := join(t, g, "")
		g.Settle(t0)
		g.Delivered(m, 4) // it is about to finish it
		join(t, g, "")
		g.Settle(t0)
		if got := g.View(m).Revoking; !slices.Equal(got, []uint64{2, 3}) {
			t.Errorf("%T: asked for %v, want 2 and 3", a, got)
		}
	}
}

func TestAddedIsTheEarliestDeadlineThatHasCome(t *testing.T) {
	g := New(Config{MaxPollInterval: time.Minute, RebalanceTimeout: time.Second, Absence: time.Hour}, flat(2), 0)
	want := func(at time.Time, when string) {
		t.Helper()
		if got, ok := g.Added(); !got.Equal(at) || ok == at.IsZero() {
			t.Errorf("%s: %v, %v, want %v", when, got, ok, at)
		}
	}
	a := join(t, g, "a")
	g.Settle(t0)
	want(time.Time{}, "nothing is due")
	g.Working(t0.Add(time.Minute), a)
	g.Working(t0, a)
	want(t0.Add(time.Minute), "a member works")
	want(time.Time{}, "nothing since")
	g.Working(t0, join(t, g, ""))
	g.Settle(t0)
	want(t0.Add(time.Second), "a partition is asked for")
	g.Leave(t0, a)
	want(t0.Add(time.Hour), "a member is away")
}
