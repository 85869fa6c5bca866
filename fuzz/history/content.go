package history

import (
	"encoding/binary"
	"math/rand/v2"

	"github.com/cespare/xxhash/v2"
)

const valueHead = 16

// Value makes the value of a record: its id, a checksum of the id, and size bytes that depend on the id, so that no two
// records have parts in common.
func Value(id uint64, size int) []byte {
	out := make([]byte, valueHead, valueHead+size+8)
	binary.LittleEndian.PutUint64(out, id)
	binary.LittleEndian.PutUint64(out[8:], xxhash.Sum64(out[:8]))
	fill := rand.NewPCG(id, 0)
	for len(out) < valueHead+size {
		out = binary.LittleEndian.AppendUint64(out, fill.Uint64())
	}
	return out[:valueHead+size]
}

// ID returns the id in a value that Value made, or 0.
func ID(value []byte) uint64 {
	if len(value) < valueHead || binary.LittleEndian.Uint64(value[8:]) != xxhash.Sum64(value[:8]) {
		return 0
	}
	return binary.LittleEndian.Uint64(value)
}

// Digest is a checksum of all the parts of a record, in which it matters where one ends and the next begins.
func Digest(parts ...[]byte) uint64 {
	d := xxhash.New()
	var length [8]byte
	for _, p := range parts {
		binary.LittleEndian.PutUint64(length[:], uint64(len(p)))
		d.Write(length[:])
		d.Write(p)
	}
	return d.Sum64()
}
