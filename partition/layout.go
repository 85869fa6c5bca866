package partition

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"sort"

	"github.com/cespare/xxhash/v2"

	"github.com/braid-go/braid/internal/sorting"
)

// ID names a partition. Ids are unique in a broker, begin at 1, only grow and are never reused.
type ID uint64

// Hash is the hash by which keys are divided among partitions: xxhash64.
func Hash(key []byte) uint64 { return xxhash.Sum64(key) }

// Range is a range of key hashes, both ends included.
type Range struct{ Lo, Hi uint64 }

// Contains reports whether a hash is in the range.
func (r Range) Contains(hash uint64) bool { return r.Lo <= hash && hash <= r.Hi }

// State says whether a partition takes records.
type State uint8

const (
	StateActive State = iota
	StateSealed       // it takes no more; others have its range
)

// Info is what a layout knows of a partition.
type Info struct {
	ID      ID
	Range   Range
	Parents []ID
	State   State
	First   int64 // the first offset
	End     int64 // sealed: the offset behind the last
}

// Layout says which partition has which range. The active partitions' ranges cover the whole space of
// hashes, without gap and overlap. Sealed ancestors stay in it as long as they hold records. A
// Layout is immutable.
type Layout struct {
	all    []Info // by id
	active []Info // by range
	even   bool   // the ranges are as even as they can be: routing is one multiplication
}

// ErrLayout reports a layout that cannot be.
var ErrLayout = errors.New("partition: invalid layout")

const maxPartitions = 1 << 24

// NewLayout divides the space evenly among n partitions with the ids first, first+1, and so on.
func NewLayout(first ID, n int) (*Layout, error) {
	if n < 1 || n > maxPartitions || first < 1 || uint64(first) > math.MaxUint64-uint64(n) {
		return nil, fmt.Errorf("%w: %d partitions from id %d", ErrLayout, n, first)
	}
	infos := make([]Info, n)
	for i := range infos {
		infos[i] = Info{ID: first + ID(i), Range: evenRange(i, n)}
	}
	return makeLayout(infos)
}

// evenRange is the range of the hashes h with h*n/2^64 = i, so that Route can find i by one multiplication.
func evenRange(i, n int) Range {
	return Range{Lo: evenStart(i, n), Hi: evenStart(i+1, n) - 1} // the start of n is 2^64, which is 0
}

func evenStart(i, n int) uint64 {
	if i == n {
		return 0
	}
	start, rest := bits.Div64(uint64(i), 0, uint64(n))
	if rest > 0 {
		start++
	}
	return start
}

// makeLayout checks the partitions of a layout and puts them in order.
func makeLayout(infos []Info) (*Layout, error) {
	l := &Layout{all: infos}
	sorting.Func(l.all, func(a, b Info) int { return cmp.Compare(a.ID, b.ID) })
	for i, p := range l.all {
		switch {
		case p.ID == 0 || i > 0 && p.ID == l.all[i-1].ID:
			return nil, fmt.Errorf("%w: partition id %d", ErrLayout, p.ID)
		case p.Range.Lo > p.Range.Hi || p.First < 0 || p.State > StateSealed || p.State == StateSealed && p.End < p.First:
			return nil, fmt.Errorf("%w: partition %+v", ErrLayout, p)
		}
		for _, parent := range p.Parents {
			if parent == 0 || parent >= p.ID {
				return nil, fmt.Errorf("%w: partition %d has the parent %d", ErrLayout, p.ID, parent)
			}
		}
		if p.State == StateActive {
			l.active = append(l.active, p)
		}
	}
	sorting.Func(l.active, func(a, b Info) int {
		if a.Range.Lo < b.Range.Lo {
			return -1
		}
		return 1
	})
	return l, l.checkCover()
}

// checkCover makes sure that every hash has exactly one owner, and finds out whether the ranges are even.
func (l *Layout) checkCover() error {
	want := uint64(0)
	l.even = true
	for i, p := range l.active {
		if p.Range.Lo != want || i > 0 && want == 0 {
			return fmt.Errorf("%w: the range of partition %d begins at %#x, not %#x", ErrLayout, p.ID, p.Range.Lo, want)
		}
		l.even = l.even && p.Range == evenRange(i, len(l.active))
		want = p.Range.Hi + 1
	}
	if want != 0 || len(l.active) == 0 {
		return fmt.Errorf("%w: hashes from %#x on have no partition", ErrLayout, want)
	}
	return nil
}

// Route returns the index in Active of the partition that owns a hash.
func (l *Layout) Route(hash uint64) int {
	if l.even {
		i, _ := bits.Mul64(hash, uint64(len(l.active)))
		return int(i)
	}
	return sort.Search(len(l.active), func(i int) bool { return l.active[i].Range.Hi >= hash })
}

// Active returns the partitions that take records, by range. The slice must not be changed.
func (l *Layout) Active() []Info { return l.active }

// All returns all partitions, by id. The slice must not be changed.
func (l *Layout) All() []Info { return l.all }

// Lookup returns the partition of an id.
func (l *Layout) Lookup(id ID) (Info, bool) {
	i, ok := slices.BinarySearchFunc(l.all, id, func(p Info, id ID) int { return cmp.Compare(p.ID, id) })
	if !ok {
		return Info{}, false
	}
	return l.all[i], true
}

// Replace returns the layout in which partitions are sealed, each at its end, and others have their ranges: two for one in a split, one for two
// neighbours in a merge. The children's parents are those that are sealed. ErrLayout: that is no layout.
func (l *Layout) Replace(ends map[ID]int64, children ...Info) (*Layout, error) {
	infos := slices.Clone(l.all)
	var parents []ID
	for i, p := range infos {
		if end, sealed := ends[p.ID]; sealed && p.State == StateActive {
			infos[i].State, infos[i].End = StateSealed, end
			parents = append(parents, p.ID)
		}
	}
	if len(parents) != len(ends) {
		return nil, fmt.Errorf("%w: of %d partitions to be sealed %d are active", ErrLayout, len(ends), len(parents))
	}
	for _, c := range children {
		c.Parents, c.State = parents, StateActive
		infos = append(infos, c)
	}
	return makeLayout(infos)
}

// Without returns the layout without sealed partitions. ErrLayout: one of them is not sealed, or has a
// parent that stays. Children would lose sight of that parent, and with it of what comes before them.
func (l *Layout) Without(ids ...ID) (*Layout, error) {
	var left []Info
	for _, p := range l.all {
		goes := slices.Contains(ids, p.ID)
		if goes && p.State != StateSealed {
			return nil, fmt.Errorf("%w: partition %d is to be removed and is not sealed", ErrLayout, p.ID)
		}
		if goes && slices.ContainsFunc(p.Parents, func(id ID) bool { _, there := l.Lookup(id); return there && !slices.Contains(ids, id) }) {
			return nil, fmt.Errorf("%w: partition %d is to be removed before its parents %d", ErrLayout, p.ID, p.Parents)
		}
		if !goes {
			left = append(left, p)
		}
	}
	if len(left)+len(ids) != len(l.all) {
		return nil, fmt.Errorf("%w: partitions %d are not all there", ErrLayout, ids)
	}
	return makeLayout(left)
}

const (
	layoutVersion = 1
	minInfoSize   = 8 + 8 + 8 + 1 + 8 + 8 + 2
)

// MarshalBinary encodes the layout, all numbers little-endian:
//
//	version u8 | count u32 | for each, by id: id u64, range u64 u64, state u8, first i64, end i64,
//	number of parents u16, their ids u64
func (l *Layout) MarshalBinary() ([]byte, error) {
	le := binary.LittleEndian
	b := []byte{layoutVersion}
	b = le.AppendUint32(b, uint32(len(l.all)))
	for _, p := range l.all {
		b = le.AppendUint64(b, uint64(p.ID))
		b = le.AppendUint64(b, p.Range.Lo)
		b = le.AppendUint64(b, p.Range.Hi)
		b = append(b, byte(p.State))
		b = le.AppendUint64(b, uint64(p.First))
		b = le.AppendUint64(b, uint64(p.End))
		b = le.AppendUint16(b, uint16(len(p.Parents)))
		for _, parent := range p.Parents {
			b = le.AppendUint64(b, uint64(parent))
		}
	}
	return b, nil
}

// DecodeLayout decodes what MarshalBinary made and checks that it is a layout: ErrLayout otherwise.
func DecodeLayout(b []byte) (*Layout, error) {
	le := binary.LittleEndian
	if len(b) < 5 || b[0] != layoutVersion {
		return nil, fmt.Errorf("%w: %d bytes %.8x", ErrLayout, len(b), b)
	}
	n := le.Uint32(b[1:])
	b = b[5:]
	if uint64(n)*minInfoSize > uint64(len(b)) {
		return nil, fmt.Errorf("%w: %d partitions in %d bytes", ErrLayout, n, len(b))
	}
	infos := make([]Info, n)
	for i := range infos {
		if len(b) < minInfoSize {
			return nil, fmt.Errorf("%w: cut short", ErrLayout)
		}
		infos[i] = Info{ID: ID(le.Uint64(b)), Range: Range{le.Uint64(b[8:]), le.Uint64(b[16:])}, State: State(b[24]),
			First: int64(le.Uint64(b[25:])), End: int64(le.Uint64(b[33:]))}
		if i > 0 && infos[i].ID <= infos[i-1].ID {
			return nil, fmt.Errorf("%w: partition %d comes behind %d", ErrLayout, infos[i].ID, infos[i-1].ID)
		}
		parents := int(le.Uint16(b[41:]))
		b = b[minInfoSize:]
		if len(b) < 8*parents {
			return nil, fmt.Errorf("%w: cut short", ErrLayout)
		}
		for range parents {
			infos[i].Parents = append(infos[i].Parents, ID(le.Uint64(b)))
			b = b[8:]
		}
	}
	if len(b) > 0 {
		return nil, fmt.Errorf("%w: %d bytes too many", ErrLayout, len(b))
	}
	return makeLayout(infos)
}
