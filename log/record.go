package log

import "encoding/binary"

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

// The functions below decode what is at an index of a body and return the index behind it. The first thing that is not as it must be
// gives the index -1, and at that everything reads as zero and leaves it there.

func uvarintAt(b []byte, i int) (uint64, int) {
	if uint(i) < uint(len(b)) && b[i] < 0x80 {
		return uint64(b[i]), i + 1
	}
	return longUvarintAt(b, i)
}

// longUvarintAt decodes the numbers of more than one byte, and refuses those with more bytes than they need: a record has
// one encoding. It is kept apart so that the short way is part of its callers.
//
//go:noinline
func longUvarintAt(b []byte, i int) (uint64, int) {
	if i < 0 {
		return 0, -1
	}
	v := uint64(0)
	for shift := 0; i < len(b); shift += 7 {
		c := b[i]
		i++
		if c >= 0x80 && shift < 63 {
			v |= uint64(c&0x7f) << shift
			continue
		}
		if c == 0 && shift > 0 || c > 1 && shift == 63 {
			break
		}
		return v | uint64(c)<<shift, i
	}
	return 0, -1
}

// bytesAt takes n bytes. The result has no room behind it, so that appending to it copies.
func bytesAt(b []byte, i int, n uint64) ([]byte, int) {
	if i < 0 || n > uint64(len(b)-i) {
		return nil, -1
	}
	end := i + int(n)
	return b[i:end:end], end
}

func nullableAt(b []byte, i int) ([]byte, int) {
	n, i := uvarintAt(b, i)
	if n == 0 {
		return nil, i
	}
	return bytesAt(b, i, n-1)
}
