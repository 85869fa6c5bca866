package log

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
)

// VerifyReport tells what looking at every byte of a log has found.
type VerifyReport struct {
	Segments               int
	Frames, Records, Bytes int64
	Start, End             int64   // the offsets that were looked at
	Problems               []error // *CorruptError, *MissingDataError
}

// StoredFrame is a frame as it lies on disk, or a range of a file where none is.
type StoredFrame struct {
	File    string
	Pos     int64
	Len     int64
	Header  FrameHeader // of a frame
	Problem error       // of a range without one: *CorruptError or *MissingDataError
}

// Frames iterates over all frames of the log as they lie in its files, up to what is visible, with the ranges that are
// damaged or missing in their places. An error ends it: ErrClosed, ctx's or the file system's.
func (l *Log) Frames(ctx context.Context) iter.Seq2[*StoredFrame, error] {
	return func(yield func(*StoredFrame, error) bool) {
		err := l.walk(ctx, func(s *StoredFrame, _ []byte) bool { return yield(s, nil) })
		if err != nil {
			yield(nil, err)
		}
	}
}

// Verify reads every frame of the log: its checksum, that it continues the one before, and every record
// in it; and the headers of the files. progress, if not nil, is told how many bytes of how many
// are done. Damage is in the report; an error is why looking could not go on.
func (l *Log) Verify(ctx context.Context, progress func(done, total int64)) (*VerifyReport, error) {
	segments, visible, err := l.snapshot()
	if err != nil {
		return nil, err
	}
	r := &VerifyReport{Segments: len(segments), Start: segments[0].base, End: visible.off}
	total, done := l.Size(), int64(0)
	dec := Decoder{Reuse: true}
	err = l.walk(ctx, func(s *StoredFrame, b []byte) bool {
		done += s.Len
		if s.Problem == nil {
			s.Problem = checkRecords(&dec, &s.Header, b)
			if s.Problem != nil {
				s.Problem = &CorruptError{Dir: l.cfg.Dir, File: s.File, Pos: s.Pos, Len: s.Len,
					From: s.Header.Base, Next: s.Header.End(), Reason: s.Problem.Error()}
			}
		}
		if s.Problem != nil {
			r.Problems = append(r.Problems, s.Problem)
		} else {
			r.Frames++
			r.Records += int64(s.Header.Count)
			r.Bytes += s.Len
		}
		if progress != nil {
			progress(min(done, total), total)
		}
		return true
	})
	return r, err
}

// checkRecords decodes every record of a verified frame.
func checkRecords(dec *Decoder, h *FrameHeader, b []byte) error {
	f, err := dec.DecodeVerified(*h, b)
	if err != nil {
		return err
	}
	var rec Record
	latest := int64(minTime)
	for {
		ok, err := f.Next(&rec)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		latest = max(latest, rec.Time)
	}
	if latest != h.MaxTime {
		return fmt.Errorf("the latest record is of %d, the header says %d", latest, h.MaxTime)
	}
	return nil
}

// walk shows every frame and every damaged range to visit, with the frame's bytes, until it returns false.
func (l *Log) walk(ctx context.Context, visit func(*StoredFrame, []byte) bool) error {
	segments, visible, err := l.snapshot()
	if err != nil {
		return err
	}
	off := segments[0].base
	for _, s := range segments {
		limit, end := s.size, s.end
		if !s.sealed {
			limit, end = visible.pos, visible.off
		}
		w := &walker{l: l, s: s, limit: limit, end: end, off: max(off, s.base), visit: visit}
		more, err := w.run(ctx)
		if !more || err != nil {
			return err
		}
		off = end
	}
	return nil
}

// walker walks through one segment.
type walker struct {
	l          *Log
	s          *segment
	sc         *scanner
	limit, end int64
	off        int64 // the offset expected next
	visit      func(*StoredFrame, []byte) bool
}

func (w *walker) run(ctx context.Context) (more bool, err error) {
	if w.l.Start() > w.s.base {
		return true, nil // retention was here
	}
	f, err := w.s.acquire(&w.l.cfg)
	if errors.Is(err, fs.ErrNotExist) {
		return w.visit(&StoredFrame{File: w.s.name(), Problem: &MissingDataError{Dir: w.l.cfg.Dir, File: w.s.name(),
			From: w.off, Next: w.end, Reason: "the segment is gone"}}, nil), nil
	}
	if err != nil {
		return false, err
	}
	defer w.s.release()
	w.sc = w.l.scanner(f, w.limit)
	b, err := w.sc.bytes(0, segmentHeaderSize)
	if err != nil {
		return false, err
	}
	if bad := w.l.checkHeader(w.s, b); bad != nil {
		p := w.l.corrupt(w.s, 0, segmentHeaderSize, w.off, w.off, bad.Error())
		if !w.visit(&StoredFrame{File: w.s.name(), Len: segmentHeaderSize, Problem: p}, nil) {
			return false, nil
		}
	}
	return w.frames(ctx)
}

// frames visits the segment's frames.
func (w *walker) frames(ctx context.Context) (bool, error) {
	pos := int64(segmentHeaderSize)
	for pos < w.limit && !w.s.holdsNone(w.off) {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		h, b, bad, err := w.sc.frame(pos)
		if err == nil && bad == nil && (h.Base < w.off || w.s.holdsNone(h.Base)) {
			bad = fmt.Errorf("a frame of offset %d where %d is expected", h.Base, w.off)
		}
		if err != nil {
			return false, err
		}
		if bad == nil && h.PrevEnd <= w.off {
			if !w.visit(&StoredFrame{File: w.s.name(), Pos: pos, Len: int64(h.Size()), Header: h}, b) {
				return false, nil
			}
			pos, w.off = pos+int64(h.Size()), h.End()
			continue
		}
		at := pos
		if bad != nil {
			var ok bool
			at, h, ok, err = w.sc.find(pos+1, w.off)
			for err == nil && ok && w.s.holdsNone(h.Base) {
				at, h, ok, err = w.sc.find(at+int64(h.Size()), w.off)
			}
			if err != nil {
				return false, err
			}
			if !ok {
				return w.lost(pos, w.limit, w.end, bad.Error())
			}
		} else {
			bad = errors.New("frames that the next one counts on are not there")
		}
		if more, err := w.lost(pos, at, max(h.PrevEnd, w.off), bad.Error()); !more || err != nil {
			return more, err
		}
		pos, w.off = at, max(h.PrevEnd, w.off)
	}
	end := w.end
	if !w.s.sealed {
		end = w.l.declaredGap()
	}
	if w.off < end {
		return w.lost(w.limit, w.limit, end, "records that were durable are not there")
	}
	return true, nil
}

// lost visits a range of the file that is damaged or missing, in which the offsets up to next are lost.
func (w *walker) lost(pos, to, next int64, reason string) (bool, error) {
	size, err := w.sc.f.Size()
	if err != nil {
		return false, err
	}
	s := &StoredFrame{File: w.s.name(), Pos: pos, Len: to - pos}
	if s.Problem = w.l.corrupt(w.s, pos, s.Len, w.off, next, reason); size <= pos {
		s.Problem = &MissingDataError{Dir: w.l.cfg.Dir, File: w.s.name(), From: w.off, Next: next, Reason: "the segment is cut short"}
	}
	return w.visit(s, nil), nil
}
