package log

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"slices"

	"github.com/braid-go/braid/internal/vfs"
)

const (
	// Zero-filled space is made ahead in stretches that begin small, so that a log with a few
	// records stays small, and double.
	firstStretch = 64 << 10
	maxZeroed    = 4 << 20
	maxReserved  = 8 << 20
	// A write of this size or more just extends the file: writing it twice would
	// cost more than the metadata that its sync has to write.
	largeWrite = 64 << 10
)

// zeros is what space is filled with.
var zeros [256 << 10]byte

// writer is the writing goroutine's view of the active segment. Its file changes only with the gate held.
type writer struct {
	nextUnique uint32
	file       vfs.File // nil until the first write, and after Release
	end        mark     // behind the last frame written
	zeroed     int64    // the file is zero-filled, durably, up to here
	reserved   int64    // space is reserved up to here
	stretch    int64    // how much was made ahead last
	lastAppend int64    // append time of the last frame
	marked     int64    // the durable end that the manifest knows
	written    mark     // end, for Sync: guarded by Log.mu
	unsynced   []string // segments sealed without a sync, in ModeOS: guarded by Log.gate
}

// tail is where the frames end that have been decided upon, written or not.
type tail struct {
	end        int64
	appendTime int64
}

// Begin prepares a builder for the log.
func (l *Log) Begin(b *Builder) { b.Reset(l.salt) }

// Meta returns what the next frame behind those in b has to say: the caller sets the codec, and may raise
// Base to declare a gap.
func (l *Log) Meta(b *Builder) FrameMeta {
	m := FrameMeta{
		Base: l.next.Load(), PrevEnd: l.tail.end,
		AppendTime:     max(l.cfg.Now().UnixNano(), l.tail.appendTime),
		DurableThrough: l.durable.Load(), Partition: l.birth.PartitionID, Weak: l.cfg.Mode != ModeFsync,
		ProvenSequence: l.cfg.ProvenSequence(),
	}
	if frames := b.Frames(); len(frames) > 0 {
		last := frames[len(frames)-1]
		m.Base, m.PrevEnd, m.AppendTime = last.End, last.End, max(m.AppendTime, last.AppendTime)
	}
	return m
}

// Write writes all frames of b, which were begun with Meta, into one segment. On nil they are written, and in the weaker modes
// visible. On ErrNoSpace and ErrNoDescriptors nothing of them is stored and the log goes on. Any other error is a
// *FailedError and stays. There may be no frames that were assigned and not applied.
func (l *Log) Write(b *Builder) error {
	data, frames := b.Bytes(), b.Frames()
	if len(data) == 0 {
		return nil
	}
	if err := l.writable(); err != nil {
		return err
	}
	// A new segment's base is the lowest that a frame may have, not that of the one about to be
	// written: that may still be refused, and the next declare no gap.
	if err := l.rollIfFull(int64(len(data)), l.next.Load()); err != nil {
		return err
	}
	if err := l.openActive(); err != nil {
		return err
	}
	if err := l.makeRoom(int64(len(data))); err != nil {
		return err
	}
	if _, err := l.w.file.WriteAt(data, l.w.end.pos); err != nil {
		return l.writeFailed(int64(len(data)), err)
	}
	l.Assign(b)
	l.wrote(frames, data)
	if l.cfg.Mode != ModeFsync {
		l.show(l.w.end)
	}
	return nil
}

func (l *Log) rollIfFull(n, base int64) error {
	if l.w.end.pos == segmentHeaderSize || l.w.end.pos+n <= l.segBytes.Load() {
		return nil
	}
	return l.roll(base)
}

func (l *Log) writable() error {
	if l.readOnly {
		return ErrReadOnly
	}
	l.mu.RLock()
	closed := l.closed
	l.mu.RUnlock()
	if closed {
		return ErrClosed
	}
	return l.Err()
}

// wrote takes note of frames that are in the file.
func (l *Log) wrote(frames []FrameInfo, data []byte) {
	l.mu.RLock()
	active := l.segments[len(l.segments)-1]
	l.mu.RUnlock()
	active.mu.Lock()
	for i := range frames {
		f := &frames[i]
		active.index.add(f.Base, l.w.end.pos+int64(f.Pos), f.MaxTime)
	}
	active.mu.Unlock()
	if l.listeners.n.Load() > 0 {
		l.recent.wrote(active.unique, l.w.end.pos, data)
	}
	last := &frames[len(frames)-1]
	l.w.end = mark{last.End, l.w.end.pos + int64(len(data))}
	l.w.zeroed = max(l.w.zeroed, l.w.end.pos)
	l.mu.Lock()
	l.w.written, l.w.lastAppend = l.w.end, last.AppendTime
	l.mu.Unlock()
}

// writeFailed decides what a failed write of n bytes means. For want of space some of them may have been written all the same, and with them
// whole frames, whose records the caller is told are not stored: they are overwritten, so that no
// recovery can find them. The space for that is there. How many have been written cannot be asked of the operating system's files: package os does not pass on
// what a write that failed has done before.
func (l *Log) writeFailed(n int64, err error) error {
	if !vfs.NoSpace(err) {
		return l.fail(wrap(err, "write"))
	}
	size, serr := l.w.file.Size()
	if serr != nil {
		return l.fail(wrap(serr, "take back a short write"))
	}
	end := min(l.w.end.pos+n, size)
	for at := l.w.end.pos; at < end; at += int64(len(zeros)) {
		if _, err := l.w.file.WriteAt(zeros[:min(int64(len(zeros)), end-at)], at); err != nil {
			return l.fail(wrap(err, "take back a short write"))
		}
	}
	l.gate.Lock()
	defer l.gate.Unlock()
	if err := l.Err(); err != nil {
		return err
	}
	if err := l.w.file.Datasync(); err != nil { // what was written may be on disk, and what takes it back not yet
		return l.fail(wrap(err, "sync what takes a short write back"))
	}
	return noSpace(err)
}

func noSpace(err error) error { return fmt.Errorf("%w: %w", ErrNoSpace, err) }

func noDescriptors(err error) error { return fmt.Errorf("%w: %w", ErrNoDescriptors, err) }

// orNoSpace gives the want of space its name, and leaves other errors alone.
func orNoSpace(err error) error {
	if vfs.NoSpace(err) && !errors.Is(err, ErrNoSpace) {
		return noSpace(err)
	}
	return err
}

// openActive opens the active segment for writing.
func (l *Log) openActive() error {
	if l.w.file != nil {
		return nil
	}
	l.gate.Lock()
	defer l.gate.Unlock()
	return l.openFile()
}

// openFile is openActive with the gate held.
func (l *Log) openFile() error {
	if l.w.file != nil {
		return nil
	}
	active := l.segments[len(l.segments)-1]
	f, err := l.cfg.FS.OpenReadWrite(l.cfg.path(active.name()))
	if vfs.NoDescriptors(err) {
		return noDescriptors(err)
	}
	if err != nil {
		return l.fail(wrap(err, "open the active segment"))
	}
	l.w.file = f
	return nil
}

// makeRoom sees to it that n bytes can be written at the end, so that a full disk shows before a frame is
// begun. In ModeFsync small writes find space that is filled with zeros and synced: overwriting it leaves
// fdatasync no metadata to write.
func (l *Log) makeRoom(n int64) error {
	need := l.w.end.pos + n
	if l.cfg.Mode == ModeFsync && n < largeWrite {
		if need > l.w.zeroed {
			return l.zeroFill(need)
		}
		return nil
	}
	return l.reserve(n)
}

// reserve makes sure of space for n bytes at the end.
func (l *Log) reserve(n int64) error {
	if l.w.end.pos+n <= max(l.w.reserved, l.w.zeroed) {
		return nil
	}
	size := l.nextStretch(n, maxReserved)
	if err := l.w.file.Reserve(l.w.end.pos, size); err != nil {
		if vfs.NoSpace(err) {
			return noSpace(err)
		}
		return l.fail(wrap(err, "reserve space"))
	}
	l.w.reserved = l.w.end.pos + size
	return nil
}

// nextStretch returns how much space to make ahead: at least n.
func (l *Log) nextStretch(n, most int64) int64 {
	l.w.stretch = min(max(2*l.w.stretch, firstStretch), most)
	room := l.segBytes.Load() - l.w.end.pos // beyond, nothing small will come
	return max(min(l.w.stretch, room), n)
}

func (l *Log) zeroFill(need int64) error {
	from := max(l.w.zeroed, l.w.end.pos)
	to := max(need, l.w.end.pos+l.nextStretch(need-l.w.end.pos, maxZeroed))
	for at := from; at < to; at += int64(len(zeros)) {
		if _, err := l.w.file.WriteAt(zeros[:min(int64(len(zeros)), to-at)], at); err != nil {
			if vfs.NoSpace(err) {
				return noSpace(err)
			}
			return l.fail(wrap(err, "fill with zeros"))
		}
	}
	l.gate.Lock()
	defer l.gate.Unlock()
	if err := l.Err(); err != nil {
		return err
	}
	if err := l.w.file.Datasync(); err != nil {
		return l.fail(wrap(err, "sync zeros"))
	}
	l.w.zeroed = to
	return nil
}

// Ready makes space for n bytes, so that the next Write is not the slower for being the first. Errors are as Write's.
func (l *Log) Ready(n int64) error {
	if err := l.writable(); err != nil {
		return err
	}
	if err := l.openActive(); err != nil {
		return err
	}
	if need := l.w.end.pos + n; l.cfg.Mode == ModeFsync && need > l.w.zeroed {
		return l.zeroFill(need)
	}
	return l.reserve(n)
}

// SyncAhead syncs what has been written without holding up who writes, so that less is left for the next Sync, which alone says that it is durable. It
// may be called from any goroutine. An error is a *FailedError and stays.
func (l *Log) SyncAhead() error {
	l.gate.Lock()
	l.mu.RLock()
	names := append(slices.Clone(l.w.unsynced), l.segments[len(l.segments)-1].name())
	l.mu.RUnlock()
	l.gate.Unlock()
	for _, name := range names {
		runtime.Gosched() // as vfs.Background
		// Through a descriptor of its own; a failure of which nobody else is told counts all the same.
		if err := l.syncFile(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return l.fail(wrap(err, "sync segment %s ahead", name))
		}
	}
	return nil
}

// Sync makes durable what has been written before it was called, and in ModeFsync visible. An error is a *FailedError and
// stays: what a failed sync has left behind nobody knows, so it is never tried again. It may be called from any
// goroutine; where nothing is to be done it does nothing.
func (l *Log) Sync() error {
	l.gate.Lock()
	defer l.gate.Unlock()
	return l.sync()
}

// sync is Sync with the gate held.
func (l *Log) sync() error {
	if err := l.Err(); err != nil {
		return err
	}
	l.mu.RLock()
	written := l.w.written
	l.mu.RUnlock()
	if written.off <= l.synced.Load() {
		return nil
	}
	if err := l.syncSealed(); err != nil {
		return err
	}
	if err := l.openFile(); err != nil { // closed if it was released in ModeOS
		return l.fail(err)
	}
	if err := l.w.file.Datasync(); err != nil {
		return l.fail(wrap(err, "sync"))
	}
	l.becameDurable(written)
	return nil
}

// syncSealed syncs the segments that were sealed without it: what is durable has no hole.
func (l *Log) syncSealed() error {
	for _, name := range l.w.unsynced {
		if err := l.syncFile(name); err != nil && !errors.Is(err, fs.ErrNotExist) { // retention may have taken it
			return l.fail(wrap(err, "sync segment %s", name))
		}
	}
	l.w.unsynced = nil
	return nil
}

func (l *Log) syncFile(name string) error {
	f, err := l.cfg.FS.OpenReadWrite(l.cfg.path(name))
	if err != nil {
		return err
	}
	return errors.Join(f.Datasync(), f.Close())
}

func (l *Log) becameDurable(m mark) {
	l.synced.Store(m.off)
	l.raiseDurable(m.off)
	if l.cfg.Mode == ModeFsync {
		l.show(m)
	}
}

// raiseDurable moves the durable end, which syncing and applying may both be doing.
func (l *Log) raiseDurable(off int64) {
	for old := l.durable.Load(); off > old && !l.durable.CompareAndSwap(old, off); old = l.durable.Load() {
	}
}

// roll ends the active segment and begins the next one.
//
// A crash between any two steps leaves either the old manifest, under which the old segment is still active
// and the new file, which has no frame, is unknown; or the new one, written when
// both files are as it says. No frame goes into the new segment before its manifest is durable.
func (l *Log) roll(base int64) error {
	l.gate.Lock()
	defer l.gate.Unlock()
	return l.rollHeld(base)
}

// rollHeld is roll for who holds the gate.
func (l *Log) rollHeld(base int64) error {
	if err := l.openFile(); err != nil {
		return err
	}
	unique := l.w.nextUnique
	l.w.nextUnique++
	f, err := l.newSegment(segmentHeader{Birth: l.birth, Salt: l.salt, Base: base, Unique: unique})
	if err != nil {
		return err
	}
	old, err := l.seal()
	if err == nil {
		err = l.switchTo(old, &segment{base: base, unique: unique, index: &index{bytes: l.cfg.IndexBytes, maxTime: minTime}})
	}
	if err != nil {
		f.Close()
		return err
	}
	err = l.w.file.Close()
	l.w.file, l.w.zeroed, l.w.reserved, l.w.stretch = f, segmentHeaderSize, segmentHeaderSize, 0
	if err != nil {
		return l.fail(wrap(err, "close the old segment"))
	}
	return nil
}

// newSegment makes the file of the next segment, and its name durable. Where there is no space, or no descriptor for it, nothing has happened.
func (l *Log) newSegment(h segmentHeader) (vfs.File, error) {
	f, err := createSegment(&l.cfg, h, "")
	switch {
	case vfs.NoSpace(err):
		return nil, noSpace(err)
	case vfs.NoDescriptors(err):
		return nil, noDescriptors(err)
	case err != nil:
		return nil, l.fail(err)
	}
	err = l.cfg.FS.SyncDir(l.cfg.Dir) // before the manifest that needs the name
	if err == nil {
		return f, nil
	}
	f.Close()
	if vfs.NoDescriptors(err) { // to open the directory with
		_ = l.cfg.FS.Remove(l.cfg.path(segmentName(h.Base, h.Unique))) // it holds nothing; what stays is swept at the next open
		return nil, noDescriptors(err)
	}
	return nil, l.fail(wrap(err, "sync directory"))
}

// seal gives space made ahead back, syncs the active segment, unless nothing is to be synced, and writes its index. It
// returns the segment as it is from now on.
func (l *Log) seal() (*segment, error) {
	if err := l.Err(); err != nil {
		return nil, err
	}
	if err := l.trim(); err != nil {
		return nil, err
	}
	if l.cfg.Mode != ModeOS {
		if err := l.w.file.Datasync(); err != nil {
			return nil, l.fail(wrap(err, "sync"))
		}
		l.becameDurable(l.w.end)
	}
	active := l.segments[len(l.segments)-1]
	if l.cfg.Mode == ModeOS {
		l.w.unsynced = append(l.w.unsynced, active.name())
	}
	sum := writeIndex(&l.cfg, active)
	active.mu.Lock()
	x := active.index
	active.mu.Unlock()
	return &segment{
		base: active.base, unique: active.unique, sealed: true, size: l.w.end.pos, end: l.w.end.off,
		maxTime: x.maxTime, lastAppend: l.w.lastAppend, indexSum: sum, // the index is loaded again if it is needed
	}, nil
}

// switchTo makes fresh the active segment behind old, on disk and then here.
func (l *Log) switchTo(old, fresh *segment) error {
	segments := append(slices.Clone(l.segments[:len(l.segments)-1]), old, fresh)
	if err := l.writeManifest(segments); err != nil {
		return err
	}
	l.w.end.pos = segmentHeaderSize
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bytes.Add(old.size)
	l.segments = segments
	l.visible.pos = segmentHeaderSize
	l.w.written.pos = segmentHeaderSize
	return nil
}

// writeManifest writes the manifest for a list of segments. The caller holds the gate.
func (l *Log) writeManifest(segments []*segment) error {
	m := &manifest{
		birth: l.birth, salt: l.salt, nextUnique: l.w.nextUnique, durable: l.synced.Load(), segments: l.entries(segments),
	}
	if err := writeManifest(&l.cfg, m); err != nil {
		switch {
		case vfs.NoSpace(err) && !l.manifestIs(m):
			return noSpace(err)
		case vfs.NoDescriptors(err) && !l.manifestIs(m):
			return noDescriptors(err)
		}
		return l.fail(err)
	}
	l.w.marked = m.durable
	return nil
}

// manifestIs reports whether the manifest on disk is, or may be, m.
func (l *Log) manifestIs(m *manifest) bool {
	b, err := vfs.ReadFile(l.cfg.FS, l.cfg.path(manifestName), maxManifest)
	return err != nil || bytes.Equal(b, m.encode())
}

// Mark records in the manifest how far the log is durable, so that no crash from now on can put that
// into doubt. To be called when the log has been idle for a while; where nothing is new it does nothing.
func (l *Log) Mark() error {
	l.gate.Lock()
	defer l.gate.Unlock()
	if err := l.Err(); err != nil {
		return err
	}
	if l.durable.Load() > l.synced.Load() { // in the commit log only
		if err := l.sync(); err != nil {
			return err
		}
	}
	if l.w.marked == l.synced.Load() {
		return nil
	}
	return l.writeManifest(l.segments)
}

// trim gives the space that was made ahead back.
func (l *Log) trim() error {
	if l.w.file == nil || max(l.w.zeroed, l.w.reserved) == l.w.end.pos {
		return nil
	}
	if err := l.w.file.Truncate(l.w.end.pos); err != nil {
		return l.fail(wrap(err, "truncate"))
	}
	l.w.zeroed, l.w.reserved, l.w.stretch = l.w.end.pos, l.w.end.pos, 0
	return nil
}

// Release makes an idle log cheap: it syncs (not in ModeOS), marks, and closes the file. The
// next Write opens it again.
func (l *Log) Release() error {
	if l.w.file == nil {
		return nil
	}
	if err := l.trim(); err != nil {
		return err
	}
	if l.cfg.Mode != ModeOS {
		if err := l.Sync(); err != nil {
			return err
		}
		if err := l.Mark(); err != nil {
			return err
		}
	}
	l.gate.Lock()
	defer l.gate.Unlock()
	l.recent.forget()
	f := l.w.file
	l.w.file = nil
	if err := f.Close(); err != nil {
		return l.fail(wrap(err, "close the active segment"))
	}
	return nil
}

// Close syncs, in every mode, records that everything is durable, and closes all files. Readers get ErrClosed.
// A log that has failed is closed without either, and Close returns nil: the failure has been
// told. Closing again does nothing.
func (l *Log) Close() error {
	l.gate.Lock()
	defer l.gate.Unlock()
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	l.mu.Unlock()
	defer l.listeners.notify()
	if l.readOnly || l.Err() != nil {
		return l.closeFile()
	}
	err := l.closeCleanly()
	return errors.Join(err, l.closeFile())
}

func (l *Log) closeCleanly() error {
	if err := l.trim(); err != nil {
		return err
	}
	if err := l.sync(); err != nil {
		return err
	}
	if l.w.marked == l.synced.Load() {
		return nil
	}
	return l.writeManifest(l.segments)
}

func (l *Log) closeFile() error {
	if l.w.file == nil {
		return nil
	}
	f := l.w.file
	l.w.file = nil
	return wrap(f.Close(), "close the active segment")
}
