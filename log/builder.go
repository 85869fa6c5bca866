package log

import (
	"fmt"
	"slices"
)

// FrameInfo describes a frame in a Builder.
type FrameInfo struct {
	Pos, Len            int // in Bytes
	Base, End           int64
	AppendTime, MaxTime int64
}

// Builder encodes records into frames, one behind the other in a buffer that it reuses:
//
//	b.Reset(salt)
//	b.Begin(meta); b.Append(...); ...; b.End()
//	... as many frames as wanted ...
//	write(b.Bytes())
//
// It is not safe for concurrent use.
type Builder struct {
	salt    uint32
	buf     []byte // ended frames, then the open one
	frames  []FrameInfo
	scratch []byte // a compressed body

	// The open frame.
	open  bool
	start int // where it begins in buf
	head  FrameHeader
}

// NewBuilder returns a builder for the log with a salt.
func NewBuilder(salt uint32) *Builder { return &Builder{salt: salt} }

// Reset forgets all frames and keeps the memory.
func (b *Builder) Reset(salt uint32) {
	b.salt, b.buf, b.frames, b.open = salt, b.buf[:0], b.frames[:0], false
}

// Shrink lets go of buffers larger than max bytes.
func (b *Builder) Shrink(max int) {
	if cap(b.buf) > max && len(b.buf) == 0 {
		b.buf = nil
	}
	if cap(b.scratch) > max {
		b.scratch = nil
	}
}

// Begin opens a frame. None may be open.
func (b *Builder) Begin(m FrameMeta) {
	b.open, b.start = true, len(b.buf)
	b.head = FrameHeader{FrameMeta: m}
	b.buf = slices.Grow(b.buf, FrameHeaderSize)[:b.start+FrameHeaderSize]
}

// Append adds a record to the open frame. A record, or a frame, that would exceed its hard limit is
// ErrLimit, and nothing is added.
func (b *Builder) Append(time int64, key, value []byte, headers []Header) error {
	size := RecordSize(key, value, headers)
	if size > MaxRecordBytes && size > MaxRecordBytes+RecordSize(nil, nil, headers) || b.FrameBytes()+size > MaxFrameBytes {
		return fmt.Errorf("%w: a record of up to %d bytes in a frame of %d", ErrLimit, size, b.FrameBytes())
	}
	if cap(b.buf)-len(b.buf) < size {
		b.buf = slices.Grow(b.buf, size)
	}
	n := len(b.buf)
	n += putRecord(b.buf[n:cap(b.buf)], time-b.head.AppendTime, key, value, headers)
	b.buf = b.buf[:n]
	if b.head.Count == 0 || time > b.head.MaxTime {
		b.head.MaxTime = time
	}
	b.head.Count++
	return nil
}

// FrameBytes is the size of the open frame's body so far, uncompressed.
func (b *Builder) FrameBytes() int {
	if !b.open {
		return 0
	}
	return len(b.buf) - b.start - FrameHeaderSize
}

// FrameRecords is the number of records in the open frame.
func (b *Builder) FrameRecords() int {
	if !b.open {
		return 0
	}
	return b.head.Count
}

// End closes the open frame: compresses it if that was asked for and makes it smaller, and seals it. A
// frame without records is taken back.
func (b *Builder) End() error {
	if !b.open {
		return nil
	}
	b.open = false
	if b.head.Count == 0 {
		b.buf = b.buf[:b.start]
		return nil
	}
	raw := b.buf[b.start+FrameHeaderSize:]
	b.head.RawLen, b.head.BodyLen = len(raw), len(raw)
	if b.head.Codec != CodecNone {
		if err := b.compress(raw); err != nil {
			b.buf = b.buf[:b.start]
			return err
		}
	}
	b.head.put(b.salt, b.buf[b.start:])
	b.frames = append(b.frames, FrameInfo{
		Pos: b.start, Len: b.head.Size(), Base: b.head.Base, End: b.head.End(),
		AppendTime: b.head.AppendTime, MaxTime: b.head.MaxTime,
	})
	return nil
}

// compress puts the compressed body in the place of raw, unless it is not smaller.
func (b *Builder) compress(raw []byte) error {
	packed, err := compress(b.head.Codec, b.scratch[:0], raw)
	if err != nil {
		return err
	}
	b.scratch = packed
	if len(packed) >= len(raw) {
		b.head.Codec = CodecNone
		return nil
	}
	b.head.BodyLen = copy(raw, packed)
	b.buf = b.buf[:b.start+b.head.Size()]
	return nil
}

// Abort takes the open frame back.
func (b *Builder) Abort() {
	if b.open {
		b.open, b.buf = false, b.buf[:b.start]
	}
}

// Bytes returns all ended frames. It is valid until Reset, and while a frame is open ends before it.
func (b *Builder) Bytes() []byte {
	if b.open {
		return b.buf[:b.start]
	}
	return b.buf
}

// Frames describes all ended frames. It is valid until Reset.
func (b *Builder) Frames() []FrameInfo { return b.frames }
