package group

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var t0 = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// flat is n partitions without a history.
func flat(n int) []Partition {
	parts := make([]Partition, n)
	for i := range parts {
		parts[i].ID = uint64(i + 1)
	}
	return parts
}

func join(t testing.TB, g *Group, name string) Member {
	t.Helper()
	m, err := g.Join(t0, name)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func owned(g *Group, m Member) []uint64 {
	out := []uint64{}
	for _, o := range g.View(m).Owned {
		out = append(out, o.Partition)
	}
	return out
}

// wantOwned fails unless the members own just these partitions.
func wantOwned(t testing.TB, g *Group, want map[Member][]uint64) {
	t.Helper()
	got := map[Member][]uint64{}
	for m := range want {
		got[m] = owned(g, m)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("owned (-want +got):\n%s", diff)
	}
}

// releaseAll has every member hand over what it was asked for.
func releaseAll(g *Group) {
	for _, m := range g.Members() {
		g.Release(m.Member, g.View(m.Member).Revoking...)
	}
}

func TestTheFirstMemberHasEverythingAtOnceAndTheSecondWhatIsHandedOver(t *testing.T) {
	g := New(Config{}, flat(4), 7)
	a := join(t, g, "")
	g.Settle(t0)
	wantOwned(t, g, map[Member][]uint64{a: {1, 2, 3, 4}})
	for _, o := range g.View(a).Owned {
		if o.Epoch <= 7 {
			t.Errorf("epoch %d is not above the stored 7", o.Epoch)
		}
	}
	b := join(t, g, "")
	g.Settle(t0)
	wantOwned(t, g, map[Member][]uint64{a: {1, 2, 3, 4}, b: {}})
	if got := g.View(a).Revoking; !slices.Equal(got, []uint64{3, 4}) {
		t.Fatalf("asked for %v", got)
	}
	g.Release(a, 3, 1) // 1 was not asked for
	wantOwned(t, g, map[Member][]uint64{a: {1, 2, 4}, b: {3}})
	g.Release(a, 4)
	wantOwned(t, g, map[Member][]uint64{a: {1, 2}, b: {3, 4}})
	g.Leave(t0, a)
	g.Settle(t0)
	wantOwned(t, g, map[Member][]uint64{b: {1, 2, 3, 4}})
}

func TestWhatIsNotHandedOverInTimeIsTakenUnderANewEpoch(t *testing.T) {
	g := New(Config{RebalanceTimeout: time.Minute}, flat(2), 0)
	a := join(t, g, "")
	g.Settle(t0)
	before := g.View(a).Owned[1].Epoch
	b := join(t, g, "")
	g.Settle(t0)
	at, ok := g.Deadline()
	if !ok || !at.Equal(t0.Add(time.Minute)) {
		t.Fatalf("deadline %v, %v", at, ok)
	}
	g.Tick(at.Add(-1))
	wantOwned(t, g, map[Member][]uint64{a: {1, 2}, b: {}})
	g.Changed()
	g.Tick(at)
	wantOwned(t, g, map[Member][]uint64{a: {1}, b: {2}})
	if o := g.View(b).Owned[0]; o.Epoch <= before {
		t.Errorf("epoch %d, it was %d before", o.Epoch, before)
	}
	if got := g.Changed(); !slices.Equal(got, []Member{a, b}) {
		t.Errorf("changed %v", got)
	}
}

func TestAMemberThatWorksTooLongIsEvictedAndMayComeBack(t *testing.T) {
	g := New(Config{MaxPollInterval: time.Minute}, flat(2), 0)
	a, b := join(t, g, ""), join(t, g, "")
	g.Settle(t0)
	g.Working(t0, a)
	g.Working(t0, b)
	g.Waiting(b) // alive for as long as it waits
	at, _ := g.Deadline()
	if !at.Equal(t0.Add(time.Minute)) {
		t.Fatalf("deadline %v", at)
	}
	g.Tick(at)
	g.Settle(at)
	wantOwned(t, g, map[Member][]uint64{a: {}, b: {1, 2}})
	if !g.View(a).Evicted || g.View(b).Evicted {
		t.Error("the wrong one was evicted")
	}
	if _, ok := g.Deadline(); ok {
		t.Error("there is a deadline though nobody works")
	}
	g.Rejoin(at, a)
	g.Settle(at)
	releaseAll(g)
	wantOwned(t, g, map[Member][]uint64{a: {2}, b: {1}})
	never := New(Config{MaxPollInterval: -1}, flat(1), 0)
	m := join(t, never, "")
	never.Settle(t0)
	never.Working(t0, m)
	if at, ok := never.Deadline(); ok {
		t.Errorf("deadline %v, want none", at)
	}
}

func TestAStaticMemberFindsItsPartitionsWhenItReturns(t *testing.T) {
	g := New(Config{Absence: time.Minute}, flat(4), 0)
	a, b := join(t, g, "a"), join(t, g, "b")
	g.Settle(t0)
	if _, err := g.Join(t0, "a"); !errors.Is(err, ErrMemberExists) {
		t.Errorf("error %v, want ErrMemberExists", err)
	}
	had := owned(g, a)
	epochs := g.View(a).Owned
	g.Leave(t0, a)
	g.Settle(t0)
	if len(owned(g, b)) != 2 {
		t.Error("what waits for its owner was given away")
	}
	again := join(t, g, "a")
	g.Settle(t0)
	if diff := cmp.Diff(had, owned(g, again)); diff != "" {
		t.Error(diff)
	}
	for i, o := range g.View(again).Owned {
		if o.Epoch <= epochs[i].Epoch {
			t.Errorf("partition %d has the epoch of before", o.Partition)
		}
	}
	g.Leave(t0, again)
	at, ok := g.Deadline()
	if !ok || !at.Equal(t0.Add(time.Minute)) {
		t.Fatalf("deadline %v, %v", at, ok)
	}
	g.Tick(at)
	g.Settle(at)
	wantOwned(t, g, map[Member][]uint64{b: {1, 2, 3, 4}})
}

// family is 1 split into 2 and 3, and these merged into 4.
func family() []Partition {
	return []Partition{{ID: 1, Sealed: true}, {ID: 2, Parents: []uint64{1}, Sealed: true}, {ID: 3, Parents: []uint64{1}, Sealed: true}, {ID: 4, Parents: []uint64{2, 3}}}
}

func TestSpareIsWhatFurtherMembersWouldFind(t *testing.T) {
	g := New(Config{}, []Partition{
		{ID: 1, Sealed: true}, {ID: 2}, {ID: 3}, {ID: 4, Parents: []uint64{1}}, {ID: 5, Parents: []uint64{1}},
	}, 0)
	want := func(n int, when string) {
		t.Helper()
		g.Settle(t0)
		if got := g.Spare(); got != n {
			t.Errorf("%s: %d to spare, want %d", when, got, n)
		}
	}
	want(3, "without members: the children wait for their parent")
	a := join(t, g, "")
	want(2, "with one member")
	g.Delivered(a, 1)
	want(2, "the children belong to the one that has read the parent")
	g.Finished(1)
	want(3, "the parent is finished")
	for range 5 {
		join(t, g, "")
	}
	want(0, "with more members than partitions")
}

func TestChildrenWaitForTheirParents(t *testing.T) {
	g := New(Config{}, family(), 0)
	a, b := join(t, g, ""), join(t, g, "")
	step := func(what func(), want map[Member][]uint64) {
		t.Helper()
		what()
		g.Settle(t0)
		releaseAll(g)
		wantOwned(t, g, want)
	}
	step(func() {}, map[Member][]uint64{a: {1}, b: {}})
	step(func() { g.Delivered(b, 1) }, map[Member][]uint64{a: {1}, b: {}}) // it is not b's
	step(func() { g.Delivered(a, 1) }, map[Member][]uint64{a: {1, 2, 3}, b: {}})
	step(func() { g.Finished(1) }, map[Member][]uint64{a: {2}, b: {3}})
	step(func() { g.Delivered(a, 2); g.Delivered(b, 3) }, map[Member][]uint64{a: {2}, b: {3}}) // 4 can be neither's
	step(func() { g.Finished(2) }, map[Member][]uint64{a: {}, b: {3, 4}})
	step(func() { g.Finished(3) }, map[Member][]uint64{a: {}, b: {4}})
	step(func() { g.Reopen(2) }, map[Member][]uint64{a: {2}, b: {}})
	step(func() { g.Finished(4) }, map[Member][]uint64{a: {2}, b: {}}) // it is not sealed
}

func TestAParentDoesNotMoveWhileSomebodyReadsItsChild(t *testing.T) {
	g := New(Config{RebalanceTimeout: time.Minute}, family()[:3], 0)
	a := join(t, g, "")
	g.Settle(t0)
	g.Delivered(a, 1)
	g.Settle(t0)
	wantOwned(t, g, map[Member][]uint64{a: {1, 2, 3}})
	g.Working(t0, a)
	b := join(t, g, "")
	g.parts[0].target, g.parts[0].revokeBy = g.byHandle[b], t0 // as an assignor might want it
	g.Release(a, 1)
	wantOwned(t, g, map[Member][]uint64{a: {2, 3}, b: {}})
	g.Settle(t0)
	if got := g.View(a).Revoking; !slices.Equal(got, []uint64{2, 3}) {
		t.Errorf("asked for %v, want the children back", got)
	}
	g.Release(a, 2)
	wantOwned(t, g, map[Member][]uint64{a: {3}, b: {}})
	g.Release(a, 3)
	if n := len(owned(g, a)) + len(owned(g, b)); n != 1 {
		t.Errorf("%d partitions are owned, want the parent", n)
	}
}

// chain is 1, continued by 2, continued by 3.
func chain() []Partition {
	return []Partition{{ID: 1, Sealed: true}, {ID: 2, Parents: []uint64{1}, Sealed: true}, {ID: 3, Parents: []uint64{2}}}
}

func TestWhatIsReadAgainIsReadBeforeAllThatFollows(t *testing.T) {
	g := New(Config{}, chain(), 0)
	a := join(t, g, "")
	g.Settle(t0)
	g.Delivered(a, 1)
	g.Settle(t0)
	g.Finished(1)
	g.Delivered(a, 2)
	g.Settle(t0)
	wantOwned(t, g, map[Member][]uint64{a: {2, 3}})
	g.Reopen(1)
	g.Settle(t0)
	g.Release(a, 2)
	wantOwned(t, g, map[Member][]uint64{a: {3}})
	g.Release(a, 3)
	wantOwned(t, g, map[Member][]uint64{a: {1}})
}

func TestTheReturnOfAStaticMemberDisturbsNobody(t *testing.T) {
	for _, a := range []Assignor{Sticky{}, Range{}, RoundRobin{}} {
		g := New(Config{Assignor: a, Absence: time.Minute}, flat(4), 0)
		m, other := join(t, g, "a"), join(t, g, "b")
		g.Settle(t0)
		g.Leave(t0, m)
		g.Settle(t0)
		m = join(t, g, "a")
		g.Settle(t0)
		if got := append(g.View(m).Revoking, g.View(other).Revoking...); len(got) > 0 || len(owned(g, m)) != 2 {
			t.Errorf("%s: asked for %v", a.Name(), got)
		}
	}
}

func TestAStaticMemberDoesNotFindWhatItReadAhead(t *testing.T) {
	g := New(Config{Absence: time.Minute}, chain(), 0)
	a := join(t, g, "a")
	g.Settle(t0)
	g.Delivered(a, 1)
	g.Settle(t0)
	wantOwned(t, g, map[Member][]uint64{a: {1, 2}})
	g.Leave(t0, a)
	g.Settle(t0)
	again := join(t, g, "a")
	g.Settle(t0)
	wantOwned(t, g, map[Member][]uint64{again: {1}})
}

func TestALineageChangesUnderTheGroup(t *testing.T) {
	g := New(Config{}, flat(2), 0)
	a := join(t, g, "")
	g.Settle(t0)
	before := g.View(a).Owned
	g.SetPartitions([]Partition{{ID: 2, Sealed: true}, {ID: 5, Parents: []uint64{2}}, {ID: 6, Parents: []uint64{2}}})
	g.Settle(t0)
	if got := g.View(a).Owned; len(got) != 1 || got[0] != before[1] {
		t.Errorf("owned %v, want 2 as before", got)
	}
	g.Finished(2)
	g.Settle(t0)
	wantOwned(t, g, map[Member][]uint64{a: {5, 6}})
}

func TestAssignorsDivideAsTheirNamesSay(t *testing.T) {
	for _, tc := range []struct {
		name string
		want []Member
	}{
		{"range", []Member{1, 1, 1, 2, 2, 3, 3}},
		{"round-robin", []Member{1, 2, 3, 1, 2, 3, 1}},
		{"sticky", []Member{2, 1, 2, 1, 1, 3, 3}},
	} {
		a, err := AssignorByName(tc.name)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tc.want, a.Assign([]Member{1, 2, 3}, []int{0, 0, 0}, []Member{2, 0, 2, 0, 0, 2, 9})); diff != "" && tc.name != "sticky" {
			t.Errorf("%s: %s", tc.name, diff)
		}
	}
	if _, err := AssignorByName("fair"); err == nil {
		t.Error("an assignor called fair was found")
	}
}

// Compared with every division that is as even: none moves less.
func TestStickyMovesNoMoreThanTheOptimum(t *testing.T) {
	rnd := rand.New(rand.NewPCG(uint64(seed(t)), 1))
	for range 3000 {
		n, parts := 1+rnd.IntN(4), rnd.IntN(7)
		members, load := make([]Member, n), make([]int, n)
		for i := range members {
			members[i] = Member(i + 1)
		}
		current := make([]Member, parts)
		for i := range current {
			current[i] = Member(rnd.IntN(n + 2)) // 0 is nobody, n+1 one that has left
		}
		got := (Sticky{}).Assign(members, load, current)
		if !even(got, n) {
			t.Fatalf("%v over %d members is not even", got, n)
		}
		if m, best := moves(current, got), optimum(current, n); m != best {
			t.Fatalf("%v to %v: %d moves, %d would do", current, got, m, best)
		}
	}
}

func moves(from, to []Member) (n int) {
	for i := range from {
		if from[i] != to[i] {
			n++
		}
	}
	return n
}

func even(assigned []Member, members int) bool {
	count := make([]int, members)
	for _, m := range assigned {
		count[m-1]++
	}
	return slices.Max(count)-slices.Min(count) <= 1
}

// optimum tries every division.
func optimum(current []Member, members int) int {
	best := len(current) + 1
	try := make([]Member, len(current))
	var walk func(i int)
	walk = func(i int) {
		if i == len(try) {
			if even(try, members) {
				best = min(best, moves(current, try))
			}
			return
		}
		for m := range members {
			try[i] = Member(m + 1)
			walk(i + 1)
		}
	}
	walk(0)
	return best
}

// W10: a thousand members join and leave, settled after each.
func BenchmarkAThousandMembersJoinAndLeave(b *testing.B) {
	for b.Loop() {
		churn(b, 1000, 1000)
	}
}

func churn(t testing.TB, members, partitions int) {
	g := New(Config{}, flat(partitions), 0)
	var handles []Member
	for range members {
		m := join(t, g, "")
		handles = append(handles, m)
		g.Settle(t0)
		for _, h := range g.Changed() {
			if v := g.View(h); len(v.Revoking) > 0 {
				g.Release(h, v.Revoking...)
			}
		}
	}
	for _, m := range handles {
		if n := len(g.View(m).Owned); n != partitions/members {
			t.Fatalf("member %d has %d partitions", m, n)
		}
	}
	for _, m := range handles {
		g.Leave(t0, m)
		g.Settle(t0)
	}
	if len(g.Members()) != 0 {
		t.Fatal("members are left")
	}
}

func TestAThousandMembersJoinAndLeave(t *testing.T) {
	begin := time.Now()
	churn(t, 1000, 1000)
	t.Logf("2,000 changes over 1,000 partitions: %v", time.Since(begin))
}
