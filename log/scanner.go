package log

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/braid-go/braid/internal/vfs"
)

const (
	firstChunk = 64 << 10
	chunk      = 256 << 10
	// ownMemory is from which size on a frame does not share memory that is kept with others, so that a record keeps no more than its frame.
	ownMemory = 32 << 10
)

// window reads a file through a buffer, up to a limit.
type window struct {
	f     vfs.File
	limit int64
	buf   []byte
	kept  bool  // buf is somebody else's by now: what is read next gets memory of its own
	at    int64 // where buf begins in the file
	next  int   // size of the next read

	recent  *recent // if not nil, what may be had without reading
	segment uint32  // whose file f is
}

// bytes returns n bytes at pos, or fewer, with nil, where the limit or the file ends before.
func (w *window) bytes(pos int64, n int) ([]byte, error) {
	if pos >= w.limit {
		return nil, nil
	}
	n = int(min(int64(n), w.limit-pos))
	if off := pos - w.at; off >= 0 && off+int64(n) <= int64(len(w.buf)) {
		return w.buf[off : off+int64(n)], nil
	}
	if w.next == 0 {
		w.next = firstChunk
	}
	size := max(n, w.next)
	if w.kept && n >= ownMemory {
		size = n + FrameHeaderSize // with the next one's header, which says how large that is
	}
	size = int(min(int64(size), w.limit-pos))
	w.next = chunk
	var rest []byte // what of it is here already
	if off := pos - w.at; off >= 0 && off < int64(len(w.buf)) {
		rest = w.buf[off:]
	}
	if w.kept || cap(w.buf) < size {
		w.buf, w.kept = make([]byte, size), false
	}
	had := copy(w.buf[:size], rest)
	got, err := w.readAt(w.buf[had:size], pos+int64(had))
	w.buf, w.at = w.buf[:had+got], pos
	if err != nil && !errors.Is(err, io.EOF) {
		w.buf = w.buf[:0]
		return nil, err
	}
	return w.buf[:min(n, len(w.buf))], nil
}

func (w *window) readAt(b []byte, pos int64) (int, error) {
	if w.recent != nil && len(b) <= recentBytes && w.recent.readAt(w.segment, b, pos) {
		return len(b), nil
	}
	return w.f.ReadAt(b, pos)
}

// scanner finds and verifies frames in a segment file.
type scanner struct {
	window
	salt      uint32
	partition uint64
}

// frame reads the frame at pos. Two errors can come: ioErr, when the file cannot be read, and bad, when what is
// there is no valid frame.
func (s *scanner) frame(pos int64) (h FrameHeader, b []byte, bad, ioErr error) {
	b, ioErr = s.bytes(pos, FrameHeaderSize)
	if ioErr != nil {
		return h, nil, nil, ioErr
	}
	if h, bad = ParseFrameHeader(b); bad != nil {
		return h, nil, bad, nil
	}
	if h.Partition != s.partition {
		return h, nil, fmt.Errorf("a frame of partition %d", h.Partition), nil
	}
	if b, ioErr = s.bytes(pos, h.Size()); ioErr != nil {
		return h, nil, nil, ioErr
	}
	return h, b, h.Verify(s.salt, b), nil
}

var magicBytes = binary.LittleEndian.AppendUint32(nil, frameMagic)

// find looks from pos on for the next valid frame whose base offset is at least base.
func (s *scanner) find(pos, base int64) (at int64, h FrameHeader, ok bool, ioErr error) {
	for {
		b, err := s.bytes(pos, firstChunk)
		if err != nil {
			return 0, h, false, err
		}
		if len(b) < FrameHeaderSize {
			return 0, h, false, nil
		}
		i := bytes.Index(b, magicBytes)
		if i < 0 {
			pos += int64(len(b) - len(magicBytes) + 1)
			continue
		}
		pos += int64(i)
		h, _, bad, err := s.frame(pos)
		if err != nil {
			return 0, h, false, err
		}
		if bad == nil && h.Base >= base {
			return pos, h, true, nil
		}
		pos++
	}
}

// contentEnd is where the last byte that is not zero ends, looking from pos on; pos if there is none.
func (s *scanner) contentEnd(pos int64) (int64, error) {
	end := pos
	for {
		b, err := s.bytes(pos, chunk)
		if err != nil || len(b) == 0 {
			return end, err
		}
		if n := len(bytes.TrimRight(b, "\x00")); n > 0 {
			end = pos + int64(n)
		}
		pos += int64(len(b))
	}
}
