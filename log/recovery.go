package log

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"slices"

	"github.com/braid-go/braid/internal/vfs"
)

// found is what scanning an active segment has found.
type found struct {
	frames []foundFrame
	holes  []hole // where no valid frame is, between valid ones or before the first
	begin  mark   // where scanning began
	end    mark   // behind the last valid frame
	size   int64  // of the file
	proven int64  // the highest durableThrough of a frame
	header error  // what is wrong with the segment's header
	gone   error  // the file itself is missing

	logged []loggedFrame // that may stand in, those that have not been passed
	oldest int64         // the base of the first of all of them: from here on the segment may not be durable
	adrift bool          // a frame stands in behind a hole, so that where the next one begins is not known
}

// foundFrame is a valid frame in the segment, or one from the commit log that stands in for it.
type foundFrame struct {
	FrameHeader
	pos   int64
	data  []byte // of one that stands in
	loose bool   // its position is a guess
}

// hole is a range of the file without a valid frame, and the offsets that are lost there.
type hole struct {
	from, next int64 // offsets; next is where the frame behind says that its predecessor ended, or its own base
	pos, len   int64
	reason     string
	behind     int // index in frames of the frame behind
}

// scan reads the active segment from a place on: the beginning, or where it was read to before. Frames from the
// commit log stand in for those that are not there.
func (l *Log) scan(s *segment, from mark, logged []loggedFrame) (*found, error) {
	r := &found{begin: from, end: from, logged: logged, oldest: math.MaxInt64}
	if n := len(logged); n > 0 {
		r.oldest, r.proven = logged[0].Base, logged[n-1].End()
	}
	f, err := openSegment(&l.cfg, s.name())
	if errors.Is(err, fs.ErrNotExist) {
		r.gone = err
		return r, l.scanFrames(l.scanner(nil, 0), r)
	}
	if errors.Is(err, vfs.ErrNotRegular) {
		return nil, l.corrupt(s, 0, -1, s.base, s.base, err.Error())
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if r.size, err = f.Size(); err != nil {
		return nil, err
	}
	sc := l.scanner(f, r.size)
	b, err := sc.bytes(0, segmentHeaderSize)
	if err != nil {
		return nil, err
	}
	r.header = l.checkHeader(s, b)
	return r, l.scanFrames(sc, r)
}

// checkHeader says what is wrong with the header of a segment.
func (l *Log) checkHeader(s *segment, b []byte) error {
	h, err := decodeSegmentHeader(b)
	if err != nil {
		return err
	}
	want := segmentHeader{Birth: l.birth, Salt: l.salt, Base: s.base, Unique: s.unique}
	want.Birth.Parents = nil
	if h.Salt != want.Salt || h.Base != want.Base || h.Unique != want.Unique || !h.Birth.equal(&want.Birth) {
		return fmt.Errorf("segment header %+v is not this segment's %+v", h, want)
	}
	return nil
}

// scanFrames collects the frames from the first position on. Where there is none it looks for the next with a
// rising offset.
func (l *Log) scanFrames(sc *scanner, r *found) error {
	for {
		at := r.end.pos
		h, _, bad, err := sc.frame(at)
		if err == nil && bad == nil && !r.continues(&h) {
			bad = fmt.Errorf("a frame of offset %d behind %d, where %d is expected", h.Base, h.PrevEnd, r.end.off)
		}
		reason := bad
		if err == nil && bad != nil {
			if r.standIn() {
				continue
			}
			var ok bool
			at, h, ok, err = sc.find(at+1, r.end.off)
			if err == nil && r.standInBehindHole(h.Base, ok, bad) {
				continue
			}
			if err == nil && !ok {
				return nil
			}
		}
		if err != nil {
			return err
		}
		if r.adrift && h.PrevEnd <= r.end.off {
			reason = nil
		}
		r.adrift = false
		if reason != nil || h.PrevEnd > r.end.off {
			if reason == nil {
				reason = fmt.Errorf("frames between are missing")
			}
			next := h.PrevEnd
			if next <= r.end.off {
				next = h.Base
			}
			r.holes = append(r.holes, hole{from: r.end.off, next: next, pos: r.end.pos, len: at - r.end.pos, reason: reason.Error(), behind: len(r.frames)})
		}
		r.frames = append(r.frames, foundFrame{FrameHeader: h, pos: at})
		r.proven = max(r.proven, h.DurableThrough)
		r.end = mark{h.End(), at + int64(h.Size())}
	}
}

// continues reports whether a frame may come behind what was found so far. A segment's first frame may say that its predecessor
// ended below the segment's base: then a gap was declared between the two segments.
func (r *found) continues(h *FrameHeader) bool {
	return h.Base >= r.end.off && (h.PrevEnd >= r.end.off || r.end.pos == segmentHeaderSize)
}

// candidate returns the next logged frame that what was found does not hold.
func (r *found) candidate() *loggedFrame {
	for len(r.logged) > 0 && r.logged[0].Base < r.end.off {
		r.logged = r.logged[1:]
	}
	if len(r.logged) == 0 {
		return nil
	}
	return &r.logged[0]
}

// standIn has a logged frame stand where the segment has none, if there is one that continues what was found. It would have been
// written exactly here, so the scan goes on behind it.
func (r *found) standIn() bool {
	c := r.candidate()
	if c == nil || !r.continues(&c.FrameHeader) || c.PrevEnd > r.end.off {
		return false
	}
	r.take(c, r.end.pos+int64(len(c.data)))
	return true
}

// standInBehindHole does so behind frames that are lost, if the segment has nothing that comes before it.
func (r *found) standInBehindHole(next int64, ok bool, reason error) bool {
	c := r.candidate()
	if c == nil || ok && c.Base >= next {
		return false
	}
	r.holes = append(r.holes, hole{from: r.end.off, next: max(c.PrevEnd, r.end.off), pos: r.end.pos, reason: reason.Error(), behind: len(r.frames)})
	r.adrift = true
	r.take(c, r.end.pos)
	return true
}

func (r *found) take(c *loggedFrame, end int64) {
	r.frames = append(r.frames, foundFrame{FrameHeader: c.FrameHeader, pos: r.end.pos, data: c.data, loose: r.adrift})
	r.proven = max(r.proven, c.DurableThrough)
	if r.adrift {
		end = r.end.pos
	}
	r.end = mark{c.End(), end}
}

// Open opens a log for writing. want, if not nil, must be the log's birth certificate. After an
// unclean stop it is brought in order first; the report tells. Damage to single frames does
// not keep it from opening.
func Open(cfg Config, want *Birth, proof Proof) (*Log, *Report, error) {
	cfg = cfg.withDefaults()
	m, err := openManifest(&cfg, want)
	if err != nil {
		return nil, nil, wrap(err, "open log %s", cfg.Dir)
	}
	// A killed process may have renamed the manifest and not come to syncing the directory.
	if err := cfg.FS.SyncDir(cfg.Dir); err != nil {
		return nil, nil, wrap(err, "open log %s", cfg.Dir)
	}
	l := newLog(cfg, m)
	l.adopt(m)
	report := &Report{}
	if err := l.recover(m, proof, report); err != nil {
		return nil, nil, wrap(orNoSpace(err), "open log %s", cfg.Dir)
	}
	return l, report, nil
}

func openManifest(cfg *Config, want *Birth) (*manifest, error) {
	switch info, err := cfg.FS.Stat(cfg.Dir); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &MissingDataError{Dir: path.Dir(cfg.Dir), File: path.Base(cfg.Dir), Reason: "the log's directory is gone"}
	case err == nil && !info.IsDir(): // a link would be followed by whatever names something below it
		return nil, &CorruptError{Dir: path.Dir(cfg.Dir), File: path.Base(cfg.Dir), Len: -1, Reason: "not a directory"}
	}
	m, err := readManifest(cfg)
	if err != nil {
		return nil, err
	}
	if want != nil && !want.equal(&m.birth) {
		return nil, &CorruptError{Dir: cfg.Dir, File: manifestName, Len: -1,
			Reason: fmt.Sprintf("this is the log of %+v, not of %+v", m.birth, *want)}
	}
	return m, nil
}

// verdict is what recovery decides about the active segment.
type verdict struct {
	proven  int64 // every offset below had been durable
	kept    int   // frames[:kept] stay in the log
	proved  int   // frames[:proved] had been durable
	stay    int   // frames[:stay] are durable where they are
	cut     mark  // where the frames that stay end
	torn    int64 // what lies from here on in the file, up to its last byte that is not zero, is no part of the log
	end     int64 // the offset behind everything that is kept, or lost though it was proven
	problem []error
}

// judge divides what was found: what is proven, what is whole but unproven, what is lost though it was proven, and what
// nothing proves.
//
// A hole below the proven point held records that were durable: that is damage, and what follows stays readable. A hole
// at or above it may be a write that the crash has cut; nothing behind it can have been acknowledged, since acknowledging needs a sync that
// covers all before it, and a later frame would say so. So the log ends there.
//
// Proven is one thing and durable in this very file another, from the oldest frame on that is in the commit log: those were
// written to the segment without a sync. marked says how far the manifest knows the segment to be durable.
func (l *Log) judge(s *segment, r *found, proven, marked int64) verdict {
	v := verdict{proven: max(proven, r.proven, r.begin.off), kept: len(r.frames), torn: r.end.pos}
	end := r.end
	for _, h := range r.holes {
		if h.from >= v.proven {
			v.kept, v.torn, end = h.behind, h.pos, mark{h.from, h.pos}
			break
		}
		v.problem = append(v.problem, l.corrupt(s, h.pos, h.len, h.from, h.next, h.reason))
	}
	v.end = max(end.off, v.proven)
	if end.off < v.proven {
		v.problem = append(v.problem, l.lostAt(s, r.size, end, v.proven))
	}
	v.cut = r.begin
	for v.proved < v.kept && r.frames[v.proved].End() <= v.proven {
		v.proved++
	}
	fixed := max(marked, min(v.proven, r.oldest))
	for v.stay < v.proved && r.frames[v.stay].End() <= fixed && r.frames[v.stay].data == nil {
		f := r.frames[v.stay]
		v.cut = mark{f.End(), f.pos + int64(f.Size())}
		v.stay++
	}
	return v
}

// lostEnd reports that records are missing from the end of the active segment that were durable.
func (l *Log) lostEnd(s *segment, f vfs.File, end mark, next int64) error {
	size, err := f.Size()
	if err != nil {
		return err
	}
	return l.lostAt(s, size, end, next)
}

// lostAt is lostEnd for a file of a size.
func (l *Log) lostAt(s *segment, size int64, end mark, next int64) error {
	if size <= end.pos {
		return &MissingDataError{Dir: l.cfg.Dir, File: s.name(), From: end.off, Next: next, Reason: "the segment is too short"}
	}
	return l.corrupt(s, end.pos, size-end.pos, end.off, next, "records that were durable are not there")
}

func (l *Log) corrupt(s *segment, pos, length, from, next int64, reason string) error {
	return &CorruptError{Dir: l.cfg.Dir, File: s.name(), Pos: pos, Len: length, From: from, Next: next, Reason: reason}
}

// recover brings a log in order that is being opened.
func (l *Log) recover(m *manifest, proof Proof, report *Report) error {
	active := l.segments[len(l.segments)-1]
	logged, err := l.parseLogged(proof.Logged)
	if err != nil {
		return err
	}
	if err := l.putInPlace(active, false); err != nil {
		return err
	}
	r, err := l.scan(active, active.begin(), logged)
	if err != nil {
		return err
	}
	if l.proven, err = l.provenSequence(r); err != nil {
		return err
	}
	if errors.Is(r.header, ErrVersion) {
		return r.header
	}
	if err := l.sweep(report); err != nil {
		return err
	}
	lacking, err := l.checkSealed()
	if err != nil {
		return err
	}
	report.Problems = append(report.Problems, lacking...)
	v := l.judge(active, r, max(m.durable, proof.Durable), m.durable)
	report.Problems = append(report.Problems, v.problem...)
	if r.header != nil && r.gone == nil {
		report.Problems = append(report.Problems, l.corrupt(active, 0, segmentHeaderSize, active.base, active.base, r.header.Error()))
	}
	next := max(v.end, proof.MinNext)
	report.GapFrom, report.GapNext = v.end, next
	torn, err := l.tornBytes(active, v.torn, r.size)
	if err != nil {
		return err
	}
	lastAppend := l.lastAppendOf(r, v.kept)
	if sound := r.header == nil && r.gone == nil; sound && len(torn) == 0 && v.stay == len(r.frames) && v.end == v.cut.off {
		for _, f := range r.frames {
			active.index.add(f.Base, f.pos, f.MaxTime)
		}
		l.startWriting(m.nextUnique, v.cut, next, lastAppend)
		l.w.marked = m.durable // what is proven otherwise the manifest is yet to say
		return nil
	}
	report.Recovered = true
	if len(torn) > 0 {
		if err := l.keepTorn(active, torn, v, report); err != nil {
			return err
		}
	}
	return l.continueInNewSegment(m, r, v, next, lastAppend, report)
}

// lastAppendOf returns the latest append time that the log knows.
func (l *Log) lastAppendOf(r *found, kept int) int64 {
	var t int64
	for _, s := range l.segments {
		t = max(t, s.lastAppend)
	}
	for _, f := range r.frames[:kept] {
		t = max(t, f.AppendTime)
	}
	return t
}

// provenSequence returns the highest sequence of the commit log that the newest frames prove: those in the active
// segment, or, where it has none, at the end of the one before.
func (l *Log) provenSequence(r *found) (uint64, error) {
	var seq uint64
	for _, f := range r.frames {
		seq = max(seq, f.ProvenSequence, f.TxnID)
	}
	if len(r.frames) > 0 || len(l.segments) < 2 {
		return seq, nil
	}
	s := l.segments[len(l.segments)-2]
	pos, err := l.lookup(s, func(x *index) int64 { return x.before(s.end) })
	if err != nil {
		return 0, err
	}
	f, err := s.acquire(&l.cfg)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil // it is reported as missing
	}
	if err != nil {
		return 0, err
	}
	defer s.release()
	sc := l.scanner(f, s.size)
	for {
		at, h, ok, err := sc.find(pos, s.base)
		if err != nil || !ok {
			return seq, err
		}
		seq, pos = max(seq, h.ProvenSequence, h.TxnID), at+int64(h.Size())
	}
}

// checkSealed reports sealed segments that are gone or too short. That a file system cannot tell is no loss, but an error.
func (l *Log) checkSealed() (problems []error, err error) {
	for _, s := range l.segments[:len(l.segments)-1] {
		info, err := l.cfg.FS.Stat(l.cfg.path(s.name()))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			problems = append(problems, &MissingDataError{Dir: l.cfg.Dir, File: s.name(), From: s.base, Next: s.end, Reason: "the segment is gone"})
		case err != nil:
			return nil, err
		case !info.Mode().IsRegular():
			problems = append(problems, &MissingDataError{Dir: l.cfg.Dir, File: s.name(), From: s.base, Next: s.end, Reason: "what is in its place is " + vfs.ErrNotRegular.Error()})
		case info.Size() < s.size:
			problems = append(problems, &MissingDataError{Dir: l.cfg.Dir, File: s.name(), From: s.base, Next: s.end,
				Reason: fmt.Sprintf("%d bytes instead of %d; what is there stays readable", info.Size(), s.size)})
		}
	}
	return problems, nil
}

// tornBytes returns what lies in the file from pos on, without the zeros at its end.
func (l *Log) tornBytes(s *segment, pos, size int64) ([]byte, error) {
	if size <= pos {
		return nil, nil
	}
	f, err := l.cfg.FS.Open(l.cfg.path(s.name()))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	end, err := l.scanner(f, size).contentEnd(pos)
	if err != nil || end == pos {
		return nil, err
	}
	b := make([]byte, end-pos)
	if _, err := f.ReadAt(b, pos); err != nil {
		return nil, err
	}
	return b, nil
}

// keepTorn saves the tail that nothing proves in a file of its own, once.
func (l *Log) keepTorn(s *segment, torn []byte, v verdict, report *Report) error {
	from := v.end
	for i := 0; ; i++ {
		name := s.name() + tornSuffix
		if i > 0 {
			name = fmt.Sprintf("%s-%d", name, i)
		}
		old, err := vfs.ReadFile(l.cfg.FS, l.cfg.path(name), int64(len(torn)))
		if err == nil && slices.Equal(old, torn) { // an earlier recovery got this far
			report.Torn = append(report.Torn, TornTail{File: name, From: from, Bytes: int64(len(torn))})
			return nil
		}
		if err == nil || errors.Is(err, vfs.ErrTooLarge) || errors.Is(err, vfs.ErrNotRegular) {
			continue
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		report.Torn = append(report.Torn, TornTail{File: name, From: from, Bytes: int64(len(torn))})
		return wrap(vfs.WriteFileAtomic(l.cfg.FS, l.cfg.path(name), torn), "keep the torn tail")
	}
}

// continueInNewSegment seals the active segment behind what is proven and writes what is whole but unproven anew, since
// an earlier sync of it may have failed and left it in the page cache only. Until the manifest is
// switched nothing has changed, and a recovery that is cut short begins again.
//
// It may then find less than this one did: what was in the page cache only is gone if the power fails meanwhile. The copies would be all that is left
// of it, in a segment that no manifest lists, as if that were not the latest one. So the new segment gets its name only afterwards.
func (l *Log) continueInNewSegment(m *manifest, r *found, v verdict, next, lastAppend int64, report *Report) error {
	old := l.segments[len(l.segments)-1]
	rewrite := r.frames[v.stay:v.kept]
	base := next
	if len(rewrite) > 0 {
		base = rewrite[0].Base
	}
	fresh := &segment{base: base, unique: m.nextUnique, index: &index{bytes: l.cfg.IndexBytes, maxTime: minTime}}
	end, err := l.copyFrames(old, fresh, rewrite)
	if err != nil {
		return err
	}
	end.off = v.end
	report.Rewritten, report.RewrittenBytes = len(rewrite), end.pos-segmentHeaderSize
	for _, f := range rewrite {
		if f.data != nil {
			report.Restored++
		}
	}
	segments := slices.Clone(l.segments[:len(l.segments)-1])
	sealedEnd := v.end
	if len(rewrite) > 0 {
		sealedEnd = max(rewrite[0].PrevEnd, old.base) // below its base if a gap was declared in front of it
	}
	if r.gone == nil || sealedEnd > old.base { // else it is gone, and nothing with it
		segments = append(segments, l.sealFound(old, r.frames[:v.stay], v.cut, sealedEnd))
	}
	segments = append(segments, fresh)
	after := &manifest{birth: m.birth, salt: m.salt, nextUnique: m.nextUnique + 1, durable: v.end, segments: l.entries(segments)}
	if err := l.cfg.FS.SyncDir(l.cfg.Dir); err != nil {
		return err
	}
	if err := writeManifest(&l.cfg, after); err != nil {
		return err
	}
	if err := l.putInPlace(fresh, true); err != nil {
		return err
	}
	l.adoptRecovered(segments)
	l.startWriting(after.nextUnique, end, next, lastAppend)
	return nil
}

// putInPlace gives a segment that the manifest lists its name, if a recovery has prepared it and was cut short before it had that. prepared: there is one.
func (l *Log) putInPlace(s *segment, prepared bool) error {
	name := l.cfg.path(s.name())
	if !prepared {
		if _, err := l.cfg.FS.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if _, err := l.cfg.FS.Stat(name + vfs.TempSuffix); errors.Is(err, fs.ErrNotExist) {
			return nil // it is gone, and will be reported
		} else if err != nil {
			return err
		}
	}
	if err := l.cfg.FS.Rename(name+vfs.TempSuffix, name); err != nil {
		return err
	}
	return l.cfg.FS.SyncDir(l.cfg.Dir)
}

// sealFound returns the segment as it is once it is sealed behind the frames that stay in it.
func (l *Log) sealFound(s *segment, stay []foundFrame, cut mark, end int64) *segment {
	x := &index{bytes: l.cfg.IndexBytes, maxTime: minTime}
	sealed := &segment{base: s.base, unique: s.unique, sealed: true, size: cut.pos, end: end, maxTime: minTime, index: x}
	for _, f := range stay {
		x.add(f.Base, f.pos, f.MaxTime)
		sealed.lastAppend = max(sealed.lastAppend, f.AppendTime)
	}
	sealed.maxTime = x.maxTime
	sealed.indexSum = writeIndex(&l.cfg, sealed)
	return sealed
}

// adoptRecovered takes over the segments that recovery has made.
func (l *Log) adoptRecovered(segments []*segment) {
	l.segments = segments
	var bytes int64
	for _, s := range segments {
		bytes += s.size
	}
	l.bytes.Store(bytes)
	l.start.Store(segments[0].base)
}

// copyFrames makes the fresh segment with the frames of another, byte by byte, or from the commit log, and syncs it.
func (l *Log) copyFrames(from, to *segment, frames []foundFrame) (mark, error) {
	end := mark{to.base, segmentHeaderSize}
	dst, err := createSegment(&l.cfg, segmentHeader{Birth: l.birth, Salt: l.salt, Base: to.base, Unique: to.unique}, vfs.TempSuffix)
	if err != nil {
		return end, err
	}
	defer dst.Close()
	if len(frames) == 0 {
		return end, nil
	}
	sc := l.scanner(nil, 0)
	if i := slices.IndexFunc(frames, func(f foundFrame) bool { return f.data == nil }); i >= 0 {
		src, err := l.cfg.FS.Open(l.cfg.path(from.name()))
		if err != nil {
			return end, err
		}
		defer src.Close()
		sc = l.scanner(src, math.MaxInt64)
	}
	for _, f := range frames {
		b := f.data
		if b == nil {
			var bad error
			if _, b, bad, err = sc.frame(f.pos); err == nil {
				err = bad // it was right a moment ago
			}
			if err != nil {
				return end, err
			}
		}
		if _, err := dst.WriteAt(b, end.pos); err != nil {
			return end, wrap(err, "write recovered frames")
		}
		to.index.add(f.Base, end.pos, f.MaxTime)
		end = mark{f.End(), end.pos + int64(len(b))}
	}
	return end, wrap(dst.Sync(), "sync recovered frames")
}
