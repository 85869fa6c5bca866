package checkpoint

import (
	"bytes"
	"encoding/binary"
	"sort"
)

// heads has of each of a node's keys the eight bytes in which it differs from the others, if it does so early enough: a search looks at them, one behind the other in memory, and not at the keys,
// each of which would have to be fetched. What all keys have in front is left out. Both are of old: "poor man's normalized keys" and prefix truncation in G. Graefe, "Modern
// B-Tree Techniques", 2011.
type heads struct {
	skip   int // so many bytes in front are the same for all keys, and in prefix
	prefix [maxSkip]byte
	list   []uint64
}

// maxSkip is how much is left out at most. It is in the node, so that comparing it costs no access to other memory.
const maxSkip = 24

// share sets what keys have in common of which these are the first and the last.
func (h *heads) share(first, last []byte) {
	h.skip = 0
	for n := min(len(first), len(last), maxSkip); h.skip < n && first[h.skip] == last[h.skip]; h.skip++ {
	}
	copy(h.prefix[:], first[:h.skip])
}

// shared reports whether a key has what all have in front.
func (h *heads) shared(key []byte) bool { return bytes.HasPrefix(key, h.prefix[:h.skip]) }

// of returns the head of a key that has what all have in front: as a number, so that the order of numbers is that of keys. What is missing is zeros, so that of keys with the same head one may be below the other.
func (h *heads) of(key []byte) uint64 {
	if key = key[h.skip:]; len(key) >= 8 {
		return binary.BigEndian.Uint64(key)
	}
	var b [8]byte
	copy(b[:], key)
	return binary.BigEndian.Uint64(b[:])
}

// find returns the range of the keys among which a key is, or belongs: those before are below it, those behind above.
func (h *heads) find(key []byte) (from, to int) {
	if !h.shared(key) {
		if bytes.Compare(key, h.prefix[:h.skip]) < 0 {
			return 0, 0
		}
		return len(h.list), len(h.list)
	}
	head := h.of(key)
	from = sort.Search(len(h.list), func(i int) bool { return h.list[i] >= head })
	for to = from; to < len(h.list) && h.list[to] == head; to++ {
	}
	return from, to
}
