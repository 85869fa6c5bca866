package log

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io/fs"
	"path"
	"sync"
	"sync/atomic"

	"github.com/braid-go/braid/internal/vfs"
)

// Log is an open log. One goroutine at a time may write (Write, Room, Apply, Mark, Release), and one at a time
// may decide what comes next (Begin, Meta, Assign, Write); Sync, Fail, Close and everything that reads may be called from any.
type Log struct {
	cfg        Config
	birth      Birth
	salt       uint32
	readOnly   bool
	writerLive bool // read-only: another process may be writing

	w    writer // the writing goroutine's
	tail tail   // who decides what comes next

	// gate is held for every sync of the active file and for whatever changes which file that is, so that the
	// error of one sync is seen before the result of another is believed.
	gate sync.Mutex

	mu       sync.RWMutex // guards the fields below; never held during I/O
	segments []*segment   // by base offset, replaced and never changed in place; the last is the active one
	visible  mark         // what readers may read in the active segment
	gapFrom  int64        // offsets from here to the visible end that no frame holds were given up on purpose
	closed   bool

	start      atomic.Int64 // oldest offset
	next       atomic.Int64 // the next frame's lowest base offset
	visibleEnd atomic.Int64
	durable    atomic.Int64 // every offset below is, in the segments or in frames that were logged
	synced     atomic.Int64 // every offset below is durable in the segments
	proven     uint64       // highest commit-log sequence that a frame found at opening says was durable
	bytes      atomic.Int64 // of all sealed segments
	failure    atomic.Pointer[FailedError]
	segBytes   atomic.Int64

	announced, caught atomic.Int64 // what is to be applied; equal when all of it is
	listeners         listeners
	recent            recent
	age               ageGuard
}

// mark is a place in the active segment: the offset behind a frame and where that frame ends in the file.
type mark struct {
	off, pos int64
}

// Create makes a new, empty log whose first offset is first. Its directory must not exist; it is
// durable, with its name, on return. On an error what was begun is left for the caller to remove.
func Create(cfg Config, birth Birth, first int64) (*Log, error) {
	cfg = cfg.withDefaults()
	if err := cfg.FS.Mkdir(cfg.Dir); err != nil {
		return nil, wrap(orNoSpace(err), "create log")
	}
	var salt [4]byte
	rand.Read(salt[:]) // never fails
	m := &manifest{
		birth: birth, salt: binary.LittleEndian.Uint32(salt[:]), nextUnique: 2, durable: first,
		segments: []segmentEntry{{base: first, unique: 1}},
	}
	f, err := createSegment(&cfg, segmentHeader{Birth: birth, Salt: m.salt, Base: first, Unique: 1}, "")
	if err == nil {
		err = f.Close()
	}
	if err == nil {
		err = cfg.FS.SyncDir(cfg.Dir) // the segment's name, before the manifest that needs it
	}
	if err == nil {
		err = writeManifest(&cfg, m)
	}
	if err == nil {
		err = cfg.FS.SyncDir(path.Dir(cfg.Dir))
	}
	if err != nil {
		return nil, wrap(orNoSpace(err), "create log %s", cfg.Dir)
	}
	l := newLog(cfg, m)
	l.adopt(m)
	l.startWriting(m.nextUnique, mark{first, segmentHeaderSize}, first, 0)
	return l, nil
}

func newLog(cfg Config, m *manifest) *Log {
	l := &Log{cfg: cfg, birth: m.birth, salt: m.salt}
	l.segBytes.Store(cfg.SegmentBytes)
	return l
}

// adopt takes over the segments of a manifest.
func (l *Log) adopt(m *manifest) {
	segments := make([]*segment, len(m.segments))
	var bytes int64
	for i, e := range m.segments {
		segments[i] = &segment{base: e.base, unique: e.unique, sealed: e.sealed, size: e.size, end: e.end,
			maxTime: e.maxTime, lastAppend: e.lastAppend, indexSum: e.indexSum}
		bytes += e.size
	}
	active := segments[len(segments)-1]
	active.index = &index{bytes: l.cfg.IndexBytes, maxTime: minTime}
	l.mu.Lock()
	l.segments = segments
	l.mu.Unlock()
	l.bytes.Store(bytes)
	l.start.Store(segments[0].base)
}

// entries describes all segments for a manifest. The caller is the writer, or holds gate.
func (l *Log) entries(segments []*segment) []segmentEntry {
	out := make([]segmentEntry, len(segments))
	for i, s := range segments {
		out[i] = segmentEntry{base: s.base, unique: s.unique, sealed: s.sealed, size: s.size, end: s.end,
			maxTime: s.maxTime, lastAppend: s.lastAppend, indexSum: s.indexSum}
		if !s.sealed {
			out[i] = segmentEntry{base: s.base, unique: s.unique}
		}
	}
	return out
}

// startWriting sets the writer up behind what is kept in the active segment; all of it is durable. Where next is
// higher than the end, the offsets between are a declared gap, which readers have already passed.
func (l *Log) startWriting(nextUnique uint32, end mark, next, lastAppend int64) {
	l.w = writer{nextUnique: nextUnique, end: end, zeroed: end.pos, reserved: end.pos, lastAppend: lastAppend,
		marked: end.off, written: end}
	l.tail = tail{end: end.off, appendTime: lastAppend}
	l.visible, l.gapFrom = mark{next, end.pos}, end.off
	l.next.Store(next)
	l.visibleEnd.Store(next)
	l.durable.Store(end.off)
	l.synced.Store(end.off)
}

// Birth returns the log's birth certificate.
func (l *Log) Birth() Birth { return l.birth }

// Start returns the oldest offset kept.
func (l *Log) Start() int64 { return l.start.Load() }

// End returns the lowest offset that the next frame may begin with.
func (l *Log) End() int64 { return l.next.Load() }

// VisibleEnd returns the offset behind the last visible record.
func (l *Log) VisibleEnd() int64 {
	l.catchUp()
	return l.visibleEnd.Load()
}

// DurableEnd returns the offset behind the last record that is known to be durable.
func (l *Log) DurableEnd() int64 { return l.durable.Load() }

// SyncedEnd returns the offset behind the last record that is known to be durable in the segments, and not only in the commit log.
func (l *Log) SyncedEnd() int64 { return l.synced.Load() }

// ProvenSequence returns the highest sequence of the commit log that the frames found at opening prove to have been durable.
// It looks at the newest frames only, which are those that count.
func (l *Log) ProvenSequence() uint64 { return l.proven }

// SetSegmentBytes changes the size at which segments are ended.
func (l *Log) SetSegmentBytes(n int64) { l.segBytes.Store(n) }

// Err returns why the log takes no more, or nil.
func (l *Log) Err() error {
	if f := l.failure.Load(); f != nil {
		return f
	}
	return nil
}

// Fail makes the log refuse all further writing. What is visible stays readable. The first
// failure stays.
func (l *Log) Fail(cause error) {
	l.failure.CompareAndSwap(nil, &FailedError{Cause: cause})
	l.listeners.notify()
}

// fail is Fail that returns the error.
func (l *Log) fail(err error) error {
	l.Fail(err)
	return l.Err()
}

// Size returns the bytes of all frames and headers.
func (l *Log) Size() int64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.bytes.Load() + l.visible.pos
}

// Segments describes the segments, the oldest first.
func (l *Log) Segments() []SegmentInfo {
	l.mu.RLock()
	defer l.mu.RUnlock()
	out := make([]SegmentInfo, len(l.segments))
	for i, s := range l.segments {
		out[i] = SegmentInfo{Name: s.name(), Base: s.base, End: s.end, Bytes: s.size, Sealed: s.sealed, LastAppend: s.lastAppend, MaxTime: s.maxTime}
		if !s.sealed {
			out[i].End, out[i].Bytes, out[i].LastAppend = l.visible.off, l.visible.pos, l.w.lastAppend
		}
	}
	return out
}

// snapshot returns what a reader may read. The caller holds no lock: what has been announced is applied first, for which others are needed.
func (l *Log) snapshot() (segments []*segment, visible mark, err error) {
	l.catchUp()
	return l.applied()
}

// applied is snapshot of what has been applied already.
func (l *Log) applied() (segments []*segment, visible mark, err error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return nil, mark{}, ErrClosed
	}
	return l.segments, l.visible, nil
}

// declaredGap returns where a gap begins that may lie behind the last frame.
func (l *Log) declaredGap() int64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.gapFrom
}

// show moves the visible end and wakes who waits for it.
func (l *Log) show(m mark) {
	l.mu.Lock()
	if m.off > l.visible.off {
		l.visible = m
		l.visibleEnd.Store(m.off)
	}
	l.mu.Unlock()
	l.listeners.notify()
}

// Empty reports whether the directory of a log holds no frame: what is left when making one
// was cut short.
func Empty(fsys vfs.FS, dir string) (bool, error) {
	cfg := Config{FS: fsys, Dir: dir}.withDefaults()
	files, err := segmentFiles(&cfg)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return true, nil
		}
		return false, err
	}
	for _, info := range files {
		f, err := fsys.Open(cfg.path(info.Name()))
		if err != nil {
			return false, err
		}
		empty, err := emptySegment(f, info.Size())
		f.Close()
		if err != nil || !empty {
			return false, err
		}
	}
	return true, nil
}

// emptySegment reports whether a segment file has nothing behind its header that a frame begins with. Zeros that were being written there when the
// power failed may be anything else.
func emptySegment(f vfs.File, size int64) (bool, error) {
	w := window{f: f, limit: size}
	for pos := int64(segmentHeaderSize); ; {
		b, err := w.bytes(pos, chunk)
		if err != nil || bytes.Contains(b, magicBytes) {
			return false, err
		}
		if len(b) < len(magicBytes) {
			return true, nil
		}
		pos += int64(len(b) - len(magicBytes) + 1)
	}
}
