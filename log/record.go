package log

import (
	"encoding/binary"
	"math/bits"
)

// Header is one of a record's headers. A nil value and an empty one are told apart.
type Header struct {
	Key   string
	Value []byte
}

// Record is a decoded record. Its slices are the frame's memory.
type Record struct {
	Offset     int64
	Time       int64 // nanoseconds since 1970
	Key, Value []byte
	Headers    []Header
	Early      bool // acknowledged before it was synced: see FrameMeta
}

// minRecordSize is what the smallest record takes in a frame: time, key length, value length, number
// of headers.
const minRecordSize = 4

// RecordSize returns an upper bound of what a record takes in a frame, in bytes.
func RecordSize(key, value []byte, headers []Header) int {
	size := 4*binary.MaxVarintLen64 + len(key) + len(value)
	for i := range headers {
		size += 2*binary.MaxVarintLen64 + len(headers[i].Key) + len(headers[i].Value)
	}
	return size
}

// putRecord encodes a record at the beginning of b, which has room for RecordSize bytes, and returns how
// many it took. It is where publishing spends its time, and so it writes by index and does not append.
func putRecord(b []byte, delta int64, key, value []byte, headers []Header) int {
	n := putUvarint(b, 0, uint64(delta)<<1^uint64(delta>>63))
	n = putNullable(b, n, key)
	n = putNullable(b, n, value)
	if len(headers) == 0 {
		b[n] = 0
		return n + 1
	}
	return putHeaders(b, n, headers)
}

func putHeaders(b []byte, n int, headers []Header) int {
	n = putUvarint(b, n, uint64(len(headers)))
	for i := range headers {
		n = putUvarint(b, n, uint64(len(headers[i].Key)))
		n += copy(b[n:], headers[i].Key)
		n = putNullable(b, n, headers[i].Value)
	}
	return n
}

// putUvarint is binary.PutUvarint at an index, with a short way for the small numbers that nearly all of them are.
func putUvarint(b []byte, n int, v uint64) int {
	if v < 0x80 {
		b[n] = byte(v)
		return n + 1
	}
	return n + binary.PutUvarint(b[n:], v)
}

// putNullable encodes a slice so that nil and empty differ.
func putNullable(b []byte, n int, s []byte) int {
	if s == nil {
		b[n] = 0
		return n + 1
	}
	n = putUvarint(b, n, uint64(len(s))+1)
	return n + copy(b[n:], s)
}

// cursor decodes from a body. The first thing that is not as it must be sets bad, and from then on
// everything reads as zero.
type cursor struct {
	rest []byte
	bad  bool
}

func (c *cursor) uvarint() uint64 {
	if len(c.rest) > 0 && c.rest[0] < 0x80 {
		v := c.rest[0]
		c.rest = c.rest[1:]
		return uint64(v)
	}
	return c.longUvarint()
}

// longUvarint decodes the numbers of more than one byte, and refuses those with more bytes than they need: a record has
// one encoding.
func (c *cursor) longUvarint() uint64 {
	v, n := binary.Uvarint(c.rest)
	if n <= 0 || n != max(1, (bits.Len64(v)+6)/7) {
		c.fail()
		return 0
	}
	c.rest = c.rest[n:]
	return v
}

func (c *cursor) fail() { c.rest, c.bad = nil, true }

// bytes takes n bytes. The result has no room behind it, so that appending to it copies.
func (c *cursor) bytes(n uint64) []byte {
	if n > uint64(len(c.rest)) {
		c.fail()
		return nil
	}
	b := c.rest[:n:n]
	c.rest = c.rest[n:]
	return b
}

func (c *cursor) nullable() []byte {
	n := c.uvarint()
	if n == 0 {
		return nil
	}
	return c.bytes(n - 1)
}
