package group

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/braid-go/braid/internal/sorting"
)

// Assignor divides partitions among members. It is a pure function: the same arguments give the same result.
type Assignor interface {
	// Name is its name, for people.
	Name() string
	// Assign returns for each partition whose it is to be. The partitions, by id, are given by whose they are now: 0 is nobody. members
	// are in the order of their joining, at least one; load[i] is how many partitions members[i] has beside these.
	Assign(members []Member, load []int, current []Member) []Member
}

// AssignorByName returns the assignor of a name: "sticky", "range" or "round-robin".
func AssignorByName(name string) (Assignor, error) {
	for _, a := range []Assignor{Sticky{}, Range{}, RoundRobin{}} {
		if a.Name() == name {
			return a, nil
		}
	}
	return nil, fmt.Errorf("group: no assignor is called %.40q", name)
}

// Range gives each member neighbouring partitions, the first members one more where it does not come out even.
type Range struct{}

// Name returns "range".
func (Range) Name() string { return "range" }

// Assign implements Assignor.
func (Range) Assign(members []Member, _ []int, current []Member) []Member {
	out := make([]Member, 0, len(current))
	for i, m := range members {
		n := len(current) / len(members)
		if i < len(current)%len(members) {
			n++
		}
		for range n {
			out = append(out, m)
		}
	}
	return out
}

// RoundRobin gives the partitions to the members in turn.
type RoundRobin struct{}

// Name returns "round-robin".
func (RoundRobin) Name() string { return "round-robin" }

// Assign implements Assignor.
func (RoundRobin) Assign(members []Member, _ []int, current []Member) []Member {
	out := make([]Member, len(current))
	for i := range out {
		out[i] = members[i%len(members)]
	}
	return out
}

// Sticky leaves as many partitions as possible where they are and makes the members' numbers of partitions differ by one at most: nothing
// moves that need not.
type Sticky struct{}

// Name returns "sticky".
func (Sticky) Name() string { return "sticky" }

// Assign implements Assignor. A member keeps partitions up to its share. The shares are equal but for a rest of one each, which goes to those that have the
// most, since that leaves the most in place.
func (Sticky) Assign(members []Member, load []int, current []Member) []Member {
	type claim struct {
		index, has int // has: load and partitions
		share      int
	}
	index := make(map[Member]int, len(members))
	claims := make([]claim, len(members))
	total := len(current)
	for i, m := range members {
		index[m] = i
		claims[i] = claim{index: i, has: load[i]}
		total += load[i]
	}
	for _, m := range current {
		if i, ok := index[m]; ok {
			claims[i].has++
		}
	}
	byHas := slices.Clone(claims)
	sorting.StableFunc(byHas, func(a, b claim) int { return cmp.Compare(b.has, a.has) })
	base, rest := fairShares(total, load)
	for _, c := range byHas {
		claims[c.index].share = base
		if rest > 0 && load[c.index] <= base {
			claims[c.index].share++
			rest--
		}
	}
	out := make([]Member, len(current))
	used := slices.Clone(load)
	for p, m := range current {
		if i, ok := index[m]; ok && used[i] < claims[i].share {
			out[p] = m
			used[i]++
		}
	}
	next := 0 // the shares come out even, so there is always one below its share
	for p := range out {
		if out[p] != 0 {
			continue
		}
		for used[next] >= claims[next].share {
			next++
		}
		out[p] = members[next]
		used[next]++
	}
	return out
}

// fairShares divides a total: base for each member, and one more for so many of them. Members that have more than that already, of partitions that cannot
// move, leave less for the others.
func fairShares(total int, load []int) (base, rest int) {
	n := len(load)
	sorted := slices.Clone(load)
	slices.Sort(sorted)
	for n > 1 && sorted[n-1] > total/n {
		total -= sorted[n-1]
		n--
	}
	return total / n, total % n
}
