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

// appendRecord encodes a record behind b. The caller has made room for RecordSize bytes.
func appendRecord(b []byte, delta int64, key, value []byte, headers []Header) []byte {
	b = appendUvarint(b, uint64(delta)<<1^uint64(delta>>63))
	b = appendNullable(b, key)
	b = appendNullable(b, value)
	b = appendUvarint(b, uint64(len(headers)))
	for i := range headers {
		b = appendUvarint(b, uint64(len(headers[i].Key)))
		b = append(b, headers[i].Key...)
		b = appendNullable(b, headers[i].Value)
	}
	return b
}

// appendUvarint is binary.AppendUvarint with a short way for the small numbers that nearly
// all of them are.
func appendUvarint(b []byte, v uint64) []byte {
	if v < 0x80 {
		return append(b, byte(v))
	}
	return binary.AppendUvarint(b, v)
}

// appendNullable encodes a slice so that nil and empty differ.
func appendNullable(b, s []byte) []byte {
	if s == nil {
		return append(b, 0)
	}
	b = appendUvarint(b, uint64(len(s))+1)
	return append(b, s...)
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
