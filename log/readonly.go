package log

import (
	"bytes"
	"errors"
	"slices"

	"github.com/braid-go/braid/internal/vfs"
)

// ReadOnlyOptions says what is known of a log that is opened for reading only.
type ReadOnlyOptions struct {
	// WriterLive: another process may be writing it at this moment. Then only what is proven durable is shown,
	// or, of a log that is written in a weaker mode, what is whole; otherwise what Open would keep.
	WriterLive bool
	// Durable: every offset below was durable, as in Proof.
	Durable int64
	// Logged has frames from the commit log, as in Proof: they are shown where the segments do not have them.
	Logged [][]byte
}

// OpenReadOnly opens a log without writing, removing or repairing anything, also while another process writes it.
// Refresh looks for what has been added. Where the manifest is damaged the segments' headers stand in for it, and the report
// says so.
func OpenReadOnly(cfg Config, want *Birth, o ReadOnlyOptions) (*Log, *Report, error) {
	cfg = cfg.withDefaults()
	report := &Report{}
	m, err := openManifest(&cfg, want)
	var corrupt *CorruptError
	if errors.As(err, &corrupt) && m == nil && corrupt.File == manifestName {
		report.Problems = append(report.Problems, err)
		m, err = manifestFromHeaders(&cfg, want)
	}
	if err != nil {
		return nil, nil, wrap(err, "open log %s for reading", cfg.Dir)
	}
	l := newLog(cfg, m)
	l.readOnly, l.writerLive = true, o.WriterLive
	l.adopt(m)
	begin := l.segments[len(l.segments)-1].begin()
	l.visible = begin
	l.visibleEnd.Store(begin.off)
	logged, err := l.parseLogged(o.Logged)
	if err != nil {
		return nil, nil, wrap(err, "open log %s for reading", cfg.Dir)
	}
	v, err := l.look(begin, max(m.durable, o.Durable), logged)
	if err != nil {
		return nil, nil, wrap(err, "open log %s for reading", cfg.Dir)
	}
	lacking, err := l.checkSealed()
	if err != nil {
		return nil, nil, wrap(err, "open log %s for reading", cfg.Dir)
	}
	report.Problems = append(report.Problems, slices.Concat(lacking, v.problem)...)
	return l, report, nil
}

// look scans the active segment from a place on and shows what may be shown.
func (l *Log) look(from mark, durable int64, logged []loggedFrame) (verdict, error) {
	active := l.segments[len(l.segments)-1]
	r, err := l.scan(active, from, logged)
	if err != nil {
		return verdict{}, err
	}
	v := l.judge(active, r, durable, durable)
	if l.proven, err = l.provenSequence(r); err != nil {
		return verdict{}, err
	}
	shown := v.kept
	if l.writerLive {
		for shown = v.proved; shown < v.kept && r.frames[shown].Weak; shown++ {
		}
	}
	end := from
	active.mu.Lock()
	for _, f := range r.frames[:shown] {
		if f.loose {
			continue // read as lost; opening for writing puts it in its place
		}
		if f.data != nil {
			active.patches = append(active.patches, patch{f.pos, bytes.Clone(f.data)})
		}
		active.index.add(f.Base, f.pos, f.MaxTime)
		end = mark{f.End(), f.pos + int64(f.Size())}
	}
	active.mu.Unlock()
	end.off = max(end.off, v.proven)
	l.mu.Lock()
	l.gapFrom = end.off
	l.mu.Unlock()
	l.next.Store(end.off)
	l.durable.Store(v.proven)
	l.show(end)
	return v, nil
}

// Refresh looks for what another process has added to a log that was opened with OpenReadOnly, or retention has
// taken away. Other logs it leaves alone.
func (l *Log) Refresh() error {
	if !l.readOnly {
		return nil
	}
	l.gate.Lock()
	defer l.gate.Unlock()
	segments, visible, err := l.applied()
	if err != nil {
		return err
	}
	m, err := readManifest(&l.cfg)
	if errors.Is(err, ErrCorrupt) {
		m, err = manifestFromHeaders(&l.cfg, &l.birth)
	}
	if err != nil {
		return err
	}
	active := segments[len(segments)-1]
	if last := m.segments[len(m.segments)-1]; last.unique != active.unique || len(m.segments) != len(segments) {
		visible = l.changeSegments(m, active, visible)
	}
	_, err = l.look(visible, m.durable, nil)
	return err
}

// changeSegments takes over a new manifest's segments and returns from where on the active one is to be scanned. The
// index of one that is still active stays.
func (l *Log) changeSegments(m *manifest, was *segment, visible mark) mark {
	fresh := newLog(l.cfg, m)
	fresh.adopt(m)
	active := fresh.segments[len(fresh.segments)-1]
	from := active.begin()
	if active.unique == was.unique {
		fresh.segments[len(fresh.segments)-1] = was
		from = visible
	}
	l.mu.Lock()
	l.segments = fresh.segments
	l.visible.pos = from.pos
	l.mu.Unlock()
	l.bytes.Store(fresh.bytes.Load())
	l.start.Store(fresh.start.Load())
	l.listeners.notify()
	return from
}

// manifestFromHeaders makes a manifest of what the segments say of themselves: each ends where the next begins. One whose header is damaged has its
// name, and the others know the log's salt.
func manifestFromHeaders(cfg *Config, want *Birth) (*manifest, error) {
	files, err := segmentFiles(cfg)
	if err != nil {
		return nil, err
	}
	m := &manifest{}
	known := false
	for _, info := range files {
		f, err := cfg.FS.Open(cfg.path(info.Name()))
		if errors.Is(err, vfs.ErrNotRegular) {
			return nil, &CorruptError{Dir: cfg.Dir, File: info.Name(), Len: -1, Reason: err.Error()}
		}
		if err != nil {
			return nil, err
		}
		b := make([]byte, segmentHeaderSize)
		_, err = f.ReadAt(b, 0)
		f.Close()
		if h, bad := decodeSegmentHeader(b); err == nil && bad == nil && segmentName(h.Base, h.Unique) == info.Name() {
			m.birth, m.salt, known = h.Birth, h.Salt, true
		}
		base, unique, _ := parseSegmentName(info.Name())
		if n := len(m.segments); n > 0 {
			last := &m.segments[n-1]
			last.sealed, last.end = true, base
		}
		m.nextUnique = max(m.nextUnique, unique+1)
		m.segments = append(m.segments, segmentEntry{base: base, unique: unique, size: info.Size(), maxTime: 1<<63 - 1})
	}
	if !known {
		return nil, &MissingDataError{Dir: cfg.Dir, File: manifestName, Reason: "neither manifest nor segment headers can be read"}
	}
	m.segments[len(m.segments)-1].size = 0
	if want != nil {
		m.birth.Parents = want.Parents
		if !want.equal(&m.birth) {
			return nil, &CorruptError{Dir: cfg.Dir, File: manifestName, Len: -1, Reason: "the segments are another log's"}
		}
	}
	return m, nil
}
