package partition

import (
	"encoding/hex"
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/leanovate/gopter"
	"github.com/leanovate/gopter/gen"
	"github.com/leanovate/gopter/prop"
)

func TestEveryHashHasExactlyOneOwner(t *testing.T) {
	properties := gopter.NewProperties(nil)
	properties.Property("routing finds the range that contains the hash", prop.ForAll(
		func(n int, hash uint64) bool {
			l, err := NewLayout(10, n)
			if err != nil || len(l.Active()) != n {
				return false
			}
			owners := 0
			for _, p := range l.Active() {
				if p.Range.Contains(hash) {
					owners++
				}
			}
			return owners == 1 && l.Active()[l.Route(hash)].Range.Contains(hash)
		}, gen.IntRange(1, 300), gen.UInt64()))
	properties.TestingRun(t)
}

func TestRoutingAtTheEdgesOfRanges(t *testing.T) {
	even, err := NewLayout(1, 7)
	if err != nil {
		t.Fatal(err)
	}
	uneven, err := makeLayout([]Info{
		{ID: 1, Range: Range{0, math.MaxUint64}, State: StateSealed, End: 5},
		{ID: 2, Range: Range{0, 99}, Parents: []ID{1}},
		{ID: 4, Range: Range{1000, math.MaxUint64}, Parents: []ID{1}},
		{ID: 3, Range: Range{100, 999}, Parents: []ID{1}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []*Layout{even, uneven} {
		for i, p := range l.Active() {
			for _, h := range []uint64{p.Range.Lo, p.Range.Lo + (p.Range.Hi-p.Range.Lo)/2, p.Range.Hi} {
				if got := l.Route(h); got != i {
					t.Errorf("hash %#x goes to %d, want %d", h, got, i)
				}
			}
		}
	}
	if p, ok := uneven.Lookup(3); !ok || p.Range.Lo != 100 {
		t.Errorf("lookup: %+v, %v", p, ok)
	}
	if _, ok := uneven.Lookup(9); ok {
		t.Error("found a partition that is not there")
	}
}

func TestLayoutsThatCannotBeAreRefused(t *testing.T) {
	whole := Range{0, math.MaxUint64}
	for name, infos := range map[string][]Info{
		"none":                  {},
		"gap at the start":      {{ID: 1, Range: Range{1, math.MaxUint64}}},
		"gap at the end":        {{ID: 1, Range: Range{0, math.MaxUint64 - 1}}},
		"gap between":           {{ID: 1, Range: Range{0, 9}}, {ID: 2, Range: Range{11, math.MaxUint64}}},
		"overlap":               {{ID: 1, Range: Range{0, 10}}, {ID: 2, Range: Range{10, math.MaxUint64}}},
		"two owners":            {{ID: 1, Range: whole}, {ID: 2, Range: whole}},
		"id 0":                  {{ID: 0, Range: whole}},
		"an id twice":           {{ID: 1, Range: Range{0, 9}}, {ID: 1, Range: Range{10, math.MaxUint64}}},
		"upside down":           {{ID: 1, Range: Range{5, 4}}},
		"a younger parent":      {{ID: 1, Range: whole, Parents: []ID{2}}},
		"ends before it starts": {{ID: 1, Range: whole}, {ID: 2, Range: whole, State: StateSealed, First: 5, End: 4}},
		"unknown state":         {{ID: 1, Range: whole}, {ID: 2, Range: whole, State: 7}},
		"all sealed":            {{ID: 1, Range: whole, State: StateSealed}},
	} {
		if _, err := makeLayout(infos); !errors.Is(err, ErrLayout) {
			t.Errorf("%s: error %v, want ErrLayout", name, err)
		}
	}
	for _, n := range []int{0, -1, maxPartitions + 1} {
		if _, err := NewLayout(1, n); !errors.Is(err, ErrLayout) {
			t.Errorf("%d partitions: error %v, want ErrLayout", n, err)
		}
	}
}

func TestAncestorsLeaveALayoutFirst(t *testing.T) {
	l, err := NewLayout(1, 1)
	for _, id := range []ID{1, 2} { // 1 -> 2, 3 and 2 -> 4, 5
		if p, _ := l.Lookup(id); err == nil {
			low, high := p.Range, p.Range
			low.Hi = p.Range.Lo + (p.Range.Hi-p.Range.Lo)/2
			high.Lo = low.Hi + 1
			l, err = l.Replace(map[ID]int64{id: 10}, Info{ID: 2 * id, Range: low}, Info{ID: 2*id + 1, Range: high})
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		without, left []ID
	}{
		{nil, []ID{1, 2, 3, 4, 5}},
		{[]ID{1}, []ID{2, 3, 4, 5}},
		{[]ID{2, 1}, []ID{3, 4, 5}},
		{[]ID{2}, nil},    // 4 would be read before 1
		{[]ID{1, 3}, nil}, // active
		{[]ID{1, 9}, nil},
		{[]ID{1, 1}, nil},
	} {
		got, err := l.Without(tc.without...)
		if (err != nil) != (tc.left == nil) || err != nil && !errors.Is(err, ErrLayout) {
			t.Errorf("without %d: %v", tc.without, err)
		}
		if err != nil {
			continue
		}
		var left []ID
		for _, p := range got.All() {
			left = append(left, p.ID)
		}
		if diff := cmp.Diff(tc.left, left); diff != "" {
			t.Errorf("without %d: %s", tc.without, diff)
		}
		if _, err := got.Without(tc.without...); (err != nil) != (len(tc.without) > 0) {
			t.Errorf("without %d twice: %v", tc.without, err)
		}
	}
	once, err := l.Without(1)
	if err == nil {
		_, err = once.Without(2)
	}
	if err != nil {
		t.Errorf("one after the other: %v", err)
	}
}

func aLayout(t testing.TB) *Layout {
	t.Helper()
	l, err := makeLayout([]Info{
		{ID: 1, Range: Range{0, math.MaxUint64}, State: StateSealed, First: 2, End: 5},
		{ID: 2, Range: Range{0, 99}, Parents: []ID{1}, First: 7},
		{ID: 3, Range: Range{100, math.MaxUint64}, Parents: []ID{1, 2}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// The encoding is a format: what is stored today must be read by every later version.
func TestLayoutVersion1IsFixed(t *testing.T) {
	b, err := aLayout(t).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	const want = "01" + "03000000" +
		"0100000000000000" + "0000000000000000" + "ffffffffffffffff" + "01" + "0200000000000000" + "0500000000000000" + "0000" +
		"0200000000000000" + "0000000000000000" + "6300000000000000" + "00" + "0700000000000000" + "0000000000000000" + "0100" + "0100000000000000" +
		"0300000000000000" + "6400000000000000" + "ffffffffffffffff" + "00" + "0000000000000000" + "0000000000000000" + "0200" + "0100000000000000" + "0200000000000000"
	if got := hex.EncodeToString(b); got != want {
		t.Errorf("encoded as\n%s, want\n%s", got, want)
	}
	l, err := DecodeLayout(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(aLayout(t).All(), l.All()); diff != "" {
		t.Error(diff)
	}
}

func TestIdsBeyondHalfOfTheirRangeKeepTheirOrder(t *testing.T) {
	l, err := makeLayout([]Info{
		{ID: math.MaxUint64, Range: Range{100, math.MaxUint64}}, {ID: 1, Range: Range{0, 49}}, {ID: 1<<63 + 1, Range: Range{50, 99}}})
	if err != nil {
		t.Fatal(err)
	}
	for i, id := range []ID{1, 1<<63 + 1, math.MaxUint64} {
		if p, ok := l.Lookup(id); !ok || p.ID != id || l.All()[i].ID != id {
			t.Errorf("partition %d is found as %+v, and comes as %+v", id, p, l.All()[i])
		}
	}
}

func BenchmarkRoute(b *testing.B) {
	l, _ := NewLayout(1, 64)
	h := uint64(0)
	for b.Loop() {
		h += 0x9e3779b97f4a7c15
		_ = l.Route(h)
	}
}
