package log

import (
	"fmt"
	"slices"
)

// aheadPart is how much of an Ahead goes into one frame at least: a frame is closed between two parts, not inside one.
const aheadPart = 32 << 10

// Ahead is records that are encoded before it is known which frame they will be in, by a goroutine that has them in its cache anyway. Their time is the
// append time of that frame. It is not safe for concurrent use.
type Ahead struct {
	buf   []byte
	parts []part // those that are full
	open  part   // the last one: where it begins, and its records so far
}

// part is some of the records of an Ahead.
type part struct{ begin, records int }

// Reset forgets all records and keeps the memory.
func (a *Ahead) Reset() { a.buf, a.parts, a.open = a.buf[:0], a.parts[:0], part{} }

// Cap is how much memory it keeps, in bytes.
func (a *Ahead) Cap() int { return cap(a.buf) }

// Grow makes room for n bytes more.
func (a *Ahead) Grow(n int) { a.buf = slices.Grow(a.buf, n) }

// Append adds a record. One that would exceed its hard limit is ErrLimit, and is not added.
func (a *Ahead) Append(key, value []byte, headers []Header) error {
	n, size := len(a.buf), RecordSize(key, value, headers)
	if size > MaxRecordBytes && size > MaxRecordBytes+RecordSize(nil, nil, headers) {
		return fmt.Errorf("%w: a record of up to %d bytes", ErrLimit, size)
	}
	if n-a.open.begin >= aheadPart {
		a.parts = append(a.parts, a.open)
		a.open = part{begin: n}
	}
	if cap(a.buf)-n < size {
		a.buf = slices.Grow(a.buf, size)
	}
	n += putRecord(a.buf[n:cap(a.buf)], 0, key, value, headers)
	a.buf = a.buf[:n]
	a.open.records++
	return nil
}

// Parts is the number of parts, each of which AppendAhead adds to a frame.
func (a *Ahead) Parts() int {
	if a.open.records == 0 {
		return len(a.parts)
	}
	return len(a.parts) + 1
}

// part returns the i-th part: its records, encoded, and how many they are.
func (a *Ahead) part(i int) ([]byte, int) {
	switch n := len(a.parts); {
	case i == n:
		return a.buf[a.open.begin:], a.open.records
	case i == n-1:
		return a.buf[a.parts[i].begin:a.open.begin], a.parts[i].records
	default:
		return a.buf[a.parts[i].begin:a.parts[i+1].begin], a.parts[i].records
	}
}

// AppendAhead adds part i of a to the open frame. One that would exceed a frame's hard limit is ErrLimit, and nothing is added.
func (b *Builder) AppendAhead(a *Ahead, i int) error {
	body, records := a.part(i)
	if b.FrameBytes()+len(body) > MaxFrameBytes {
		return fmt.Errorf("%w: %d bytes of records in a frame of %d", ErrLimit, len(body), b.FrameBytes())
	}
	b.buf = append(b.buf, body...)
	if b.head.Count == 0 || b.head.AppendTime > b.head.MaxTime {
		b.head.MaxTime = b.head.AppendTime
	}
	b.head.Count += records
	return nil
}
