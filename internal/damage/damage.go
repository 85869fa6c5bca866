// Package damage spoils files on purpose, for tests: what comes back from a disk is not always what was written to it.
//
// It knows three kinds of harm. A flip changes one bit, as rot does. A tear is what a power cut leaves of a write: a range
// that is not there, is zeros, is garbage, or is what was there before. A script is a sequence of edits of any kind, anywhere, decoded from
// bytes, so that a fuzzer can look for the worst one.
//
// Content lives in memory, as a map from names to bytes, and is never changed in place: spoiled copies share what is whole.
package damage

import (
	"bytes"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
)

// Files are the contents of a directory by name. A name of a file in a subdirectory has slashes.
type Files map[string][]byte

// Names returns the names in order.
func (f Files) Names() []string { return slices.Sorted(maps.Keys(f)) }

// With returns a copy in which one file has other content.
func (f Files) With(name string, content []byte) Files {
	c := maps.Clone(f)
	c[name] = content
	return c
}

// Without returns a copy in which one file is missing.
func (f Files) Without(name string) Files {
	c := maps.Clone(f)
	delete(c, name)
	return c
}

// Flip returns a copy of b in which one bit is not as it was.
func Flip(b []byte, bit int) []byte {
	c := bytes.Clone(b)
	c[bit/8] ^= 1 << (bit % 8)
	return c
}

// Tear says what has become of a range of bytes.
type Tear struct {
	Kind     string // "cut", "zeros", "garbage" or "before"
	From, To int    // the bytes it concerns: [From, To); of a cut To is the end of what there was
}

func (t Tear) String() string { return fmt.Sprintf("%s from byte %d to %d", t.Kind, t.From, t.To) }

// Apply returns a torn copy of b. before is what was in the range when the write began, beginning at byte 0; what it lacks was zeros.
func (t Tear) Apply(b, before []byte) []byte {
	if t.Kind == "cut" {
		return bytes.Clone(b[:t.From])
	}
	c := bytes.Clone(b)
	torn := c[t.From:t.To]
	clear(torn)
	switch t.Kind {
	case "garbage":
		rng := rand.New(rand.NewPCG(uint64(t.From), uint64(t.To)))
		for i := range torn {
			torn[i] = byte(rng.Uint32())
		}
	case "before":
		if t.From < len(before) {
			copy(torn, before[t.From:])
		}
	}
	return c
}

// Tears yields what can become of a write of b[from:]: cut at every byte, and each range in it replaced. Of the ranges that begin at one byte only every step-th
// is taken, each time others; 1 takes all.
func Tears(from, size, step int, kinds ...string) iter.Seq[Tear] {
	return func(yield func(Tear) bool) {
		for at := from; at < size; at++ {
			if !yield(Tear{"cut", at, size}) {
				return
			}
			for to := at + 1 + (at-from)%step; to <= size; to += step {
				for _, kind := range kinds {
					if !yield(Tear{kind, at, to}) {
						return
					}
				}
			}
		}
	}
}

// Step is the step of an enumeration: 1, which is everything, if long, otherwise the one given, and eight times that under
// the race detector, which has nothing to find in what one goroutine does over and over and makes it ten times as slow.
func Step(long bool, step int) int {
	switch {
	case long:
		return 1
	case race:
		return 8*step + 1
	}
	return step
}
