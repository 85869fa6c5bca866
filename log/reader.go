package log

import (
	"errors"
	"io"
	"io/fs"
	"sort"
)

// ReaderOptions configures a Reader.
type ReaderOptions struct {
	// Reuse reads into the same memory again: a frame's records live until the next call of Next.
	Reuse bool
}

// Reader reads frames in order. It is not safe for concurrent use; any number may
// read one log, also while it is being written.
type Reader struct {
	l    *Log
	off  int64 // the offset wanted next
	dec  Decoder
	held *segment // whose file is acquired
	sc   scanner
	pos  int64 // where in the segment to go on; -1: to be looked up
}

// NewReader returns a reader that begins at an offset.
func (l *Log) NewReader(from int64, o ReaderOptions) *Reader {
	r := &Reader{l: l, off: from, pos: -1, dec: Decoder{Reuse: o.Reuse}}
	r.sc = scanner{salt: l.salt, partition: l.birth.PartitionID}
	return r
}

// Offset returns the offset wanted next: behind the last frame that Next returned.
func (r *Reader) Offset() int64 { return r.off }

// SeekTo makes off the offset wanted next.
func (r *Reader) SeekTo(off int64) { r.off, r.pos = off, -1 }

// Close releases the reader's file. The reader must not be used after it.
func (r *Reader) Close() error {
	s := r.held
	r.held, r.sc.window = nil, window{}
	if s == nil {
		return nil
	}
	return s.release()
}

// Next returns the next frame that holds records at or behind the offset wanted; those before it are skipped. At
// the visible end it returns io.EOF; later there may be more. The frame is the reader's and valid until the next call.
//
// *CorruptError, *MissingDataError and *OffsetOutOfRangeError say in Next where reading can go on; until SeekTo
// the reader stays where it is. ErrClosed: the log has been closed. Other errors come from
// the file system, and the call may be repeated.
func (r *Reader) Next() (*Frame, error) {
	for {
		segments, visible, err := r.l.snapshot()
		if err != nil {
			return nil, err
		}
		if r.off >= visible.off || r.off < segments[0].base {
			return nil, r.outside(segments[0].base, visible.off)
		}
		s, limit, err := r.place(segments, visible)
		if err != nil {
			return nil, err
		}
		f, err := r.read(s, limit)
		if f != nil || err != nil {
			return f, err
		}
		if err := r.pass(s, visible); err != nil {
			return nil, err
		}
	}
}

// outside is what reading beyond the ends returns.
func (r *Reader) outside(start, end int64) error {
	if r.off == end {
		return io.EOF
	}
	return &OffsetOutOfRangeError{Offset: r.off, Start: start, End: end, Next: min(max(r.off, start), end)}
}

// segmentOf returns the segment that holds an offset, or, for one in a gap that was declared between two segments, the one
// behind it, whatever has become of the one in front.
func segmentOf(segments []*segment, off int64) *segment {
	i := max(sort.Search(len(segments), func(i int) bool { return segments[i].base > off })-1, 0)
	if s := segments[i]; s.sealed && off >= s.end && i+1 < len(segments) {
		i++
	}
	return segments[i]
}

// place finds the segment and the position to read at, and how far the segment may be read.
func (r *Reader) place(segments []*segment, visible mark) (*segment, int64, error) {
	var s *segment
	if r.pos >= 0 && r.held != nil { // going on where the last call stopped, if the segment is still there
		i := sort.Search(len(segments), func(i int) bool { return segments[i].unique >= r.held.unique })
		if i < len(segments) && segments[i].unique == r.held.unique {
			s = segments[i]
		}
	}
	if s == nil {
		s = segmentOf(segments, r.off)
		pos, err := r.l.lookup(s, func(x *index) int64 { return x.before(r.off) })
		if err != nil {
			return nil, 0, err
		}
		if err := r.hold(s); err != nil {
			return nil, 0, r.missing(s, visible, err)
		}
		r.pos = pos
	}
	if s.sealed {
		return s, s.size, nil
	}
	return s, visible.pos, nil
}

// hold acquires a segment's file instead of the one held.
func (r *Reader) hold(s *segment) error {
	if r.held != nil && r.held.unique == s.unique {
		return nil
	}
	f, err := s.acquire(&r.l.cfg)
	if err != nil {
		return err
	}
	if r.held != nil {
		if err := r.held.release(); err != nil {
			return err
		}
	}
	r.held, r.sc.window = s, window{f: f, buf: r.sc.buf[:0], kept: r.sc.kept, next: r.sc.next, recent: &r.l.recent, segment: s.unique}
	return nil
}

// missing is what is returned when a segment's file cannot be opened.
func (r *Reader) missing(s *segment, visible mark, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if start := r.l.Start(); r.off < start { // retention was here a moment ago
		return r.outside(start, visible.off)
	}
	return &MissingDataError{Dir: r.l.cfg.Dir, File: s.name(), From: r.off, Next: endOf(s, visible), Reason: "the segment is gone"}
}

func endOf(s *segment, visible mark) int64 {
	if s.sealed {
		return s.end
	}
	return visible.off
}

// read returns the next frame of the segment that is wanted; nil at the segment's end. Where the manifest is damaged the file may be longer than
// the segment was when it was sealed, with frames whose offsets have been given out again in the next one.
func (r *Reader) read(s *segment, limit int64) (*Frame, error) {
	r.sc.limit = limit
	for r.pos < limit && !s.holdsNone(r.off) {
		h, b, bad, err := r.sc.frame(r.pos)
		if err != nil {
			return nil, err
		}
		if bad == nil && (h.Base < s.base || s.holdsNone(h.Base)) {
			bad = errNoFrame
		}
		if bad != nil {
			if err := r.resync(s, limit, bad); err != nil {
				return nil, err
			}
			continue
		}
		if h.End() <= r.off {
			r.pos += int64(h.Size())
			continue
		}
		if r.off < h.PrevEnd {
			return nil, r.l.corrupt(s, r.pos, 0, r.off, h.PrevEnd, "frames that the next one counts on are not there")
		}
		return r.deliver(h, b)
	}
	return nil, nil
}

// deliver begins decoding a frame and moves behind it.
func (r *Reader) deliver(h FrameHeader, b []byte) (*Frame, error) {
	f, err := r.dec.DecodeVerified(h, b)
	if err == nil {
		err = f.skip(r.off)
	}
	if err != nil {
		return nil, r.l.corrupt(r.held, r.pos, int64(h.Size()), r.off, h.End(), err.Error())
	}
	r.sc.kept = r.sc.kept || !r.dec.Reuse && h.Codec == CodecNone
	r.pos += int64(h.Size())
	r.off = h.End()
	return f, nil
}

// resync moves to the next valid frame behind damage. If the offset wanted was in the damage, that is an error; so
// is a file that ends too early.
func (r *Reader) resync(s *segment, limit int64, bad error) error {
	size, err := r.sc.f.Size()
	if err != nil {
		return err
	}
	at, h, ok, err := r.sc.find(r.pos+1, s.base)
	for err == nil && ok && (h.End() <= r.off || s.holdsNone(h.Base)) {
		at, h, ok, err = r.sc.find(at+int64(h.Size()), s.base)
	}
	if err != nil {
		return err
	}
	if ok && h.PrevEnd <= r.off { // what is wanted lies behind the damage
		r.pos = at
		return nil
	}
	_, visible, err := r.l.snapshot()
	if err != nil {
		return err
	}
	next, length := endOf(s, visible), limit-r.pos
	if ok {
		next, length = h.PrevEnd, at-r.pos
	} else if size < limit {
		return &MissingDataError{Dir: r.l.cfg.Dir, File: s.name(), From: r.off, Next: next, Reason: "the segment is cut short"}
	}
	return r.l.corrupt(s, r.pos, length, r.off, next, bad.Error())
}

// pass goes on behind a segment that is read to its end.
func (r *Reader) pass(s *segment, visible mark) error {
	r.pos = -1
	if !s.sealed {
		if gap := r.l.declaredGap(); r.off < gap {
			r.pos = visible.pos
			return r.l.lostEnd(s, r.sc.f, mark{r.off, visible.pos}, gap)
		}
		r.off = visible.off
		return nil
	}
	if r.off < s.end {
		r.pos = s.size
		return r.l.corrupt(s, s.size, 0, r.off, s.end, "records that were durable are not there")
	}
	segments, _, err := r.l.snapshot()
	if err != nil {
		return err
	}
	i := sort.Search(len(segments), func(i int) bool { return segments[i].unique > s.unique })
	if i < len(segments) {
		r.off = max(r.off, segments[i].base)
	}
	return nil
}

// OffsetAt returns the first offset whose record has a time of at least t, or comes behind one that has; the
// visible end if there is none. Damage is passed over.
func (l *Log) OffsetAt(t int64) (int64, error) {
	segments, visible, err := l.snapshot()
	if err != nil {
		return 0, err
	}
	for _, s := range segments {
		if s.sealed && s.maxTime < t {
			continue
		}
		pos, err := l.lookup(s, func(x *index) int64 { return x.beforeTime(t) })
		if err != nil {
			return 0, err
		}
		off, ok, err := l.firstAt(s, pos, t, visible)
		if ok || err != nil {
			return off, err
		}
	}
	return visible.off, nil
}

// firstAt looks in one segment from a position on.
func (l *Log) firstAt(s *segment, pos, t int64, visible mark) (int64, bool, error) {
	f, err := s.acquire(&l.cfg)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	defer s.release()
	limit := visible.pos
	if s.sealed {
		limit = s.size
	}
	sc := l.scanner(f, limit)
	dec := Decoder{Reuse: true}
	for {
		at, h, ok, err := sc.find(pos, s.base)
		if err != nil || !ok {
			return 0, false, err
		}
		pos = at + int64(h.Size())
		if h.MaxTime < t || s.holdsNone(h.Base) {
			continue
		}
		b, err := sc.bytes(at, h.Size())
		if err != nil {
			return 0, false, err
		}
		frame, err := dec.DecodeVerified(h, b)
		var rec Record
		for err == nil {
			var more bool
			if more, err = frame.Next(&rec); !more {
				break
			}
			if rec.Time >= t {
				return rec.Offset, true, nil
			}
		}
	}
}
