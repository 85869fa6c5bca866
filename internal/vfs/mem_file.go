package vfs

import (
	"errors"
	"io"
	"io/fs"
	"math/bits"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	chunkSize     = 64 << 10
	minFirstChunk = 512
	maxFileSize   = 1 << 40
)

// memFile is the content of a file. It is kept in chunks, so that growing never
// copies more than the first one: that one starts small and doubles, because
// most files of a quiet broker are small.
type memFile struct {
	mu sync.RWMutex // guards what follows

	// chunks[i] holds the bytes from i*chunkSize. It may be nil or short; what it
	// lacks is zeros, and whatever it holds beyond size is zeros, too.
	chunks  [][]byte
	size    int64
	charge  int64 // bytes claimed from Mem.space, at least size
	modTime time.Time
	disk    diskState // tracked only

	// Guarded by Mem.mu.
	linked  bool // has a name
	handles int  // open handles
}

func (f *memFile) info(name string) fs.FileInfo {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return memInfo{name: name, size: f.size, mode: fileMode, modTime: f.modTime}
}

// read fills p from off as far as the file goes and returns how far that is; the
// caller holds f.mu.
func (f *memFile) read(p []byte, off int64) int {
	p = p[:max(0, min(int64(len(p)), f.size-off))]
	for done := 0; done < len(p); {
		at := off + int64(done)
		part := p[done:min(len(p), done+chunkSize-int(at%chunkSize))]
		var n int
		if i := int(at / chunkSize); i < len(f.chunks) {
			if chunk, start := f.chunks[i], int(at%chunkSize); start < len(chunk) {
				n = copy(part, chunk[start:])
			}
		}
		clear(part[n:])
		done += len(part)
	}
	return len(p)
}

// chunk returns chunk i with at least need bytes; the caller holds f.mu alone.
func (f *memFile) chunk(i, need int) []byte {
	for len(f.chunks) <= i {
		f.chunks = append(f.chunks, nil)
	}
	if len(f.chunks[i]) < need {
		size := chunkSize
		if i == 0 {
			size = max(minFirstChunk, 1<<bits.Len(uint(need-1)))
		}
		grown := make([]byte, size)
		copy(grown, f.chunks[i])
		f.chunks[i] = grown
	}
	return f.chunks[i]
}

// cut drops the bytes from size on; the caller holds f.mu alone.
func (f *memFile) cut(size int64) {
	f.size = size
	keep := int((size + chunkSize - 1) / chunkSize)
	if keep < len(f.chunks) {
		clear(f.chunks[keep:])
		f.chunks = f.chunks[:keep]
	}
	if i := int(size / chunkSize); i < len(f.chunks) {
		if start := int(size % chunkSize); start < len(f.chunks[i]) {
			clear(f.chunks[i][start:])
		}
	}
}

// writePiece writes the part of p that lies in one chunk and fits the capacity:
// readers wait for one chunk, not for a whole large write.
func (m *Mem) writePiece(f *memFile, p []byte, off int64) (int, error) {
	m.lockForChange(f)
	defer m.unlock(f)
	start := off % chunkSize
	n := min(int64(len(p)), chunkSize-start)
	if need := off + n - f.charge; need > 0 {
		got := m.space.take(need)
		if n -= need - got; n <= 0 {
			m.space.give(got)
			return 0, syscall.ENOSPC
		}
		f.charge += got
	}
	if m.tracked {
		f.touch(off, n)
	}
	copy(f.chunk(int(off/chunkSize), int(start+n))[start:], p[:n])
	f.size = max(f.size, off+n)
	f.modTime = time.Now()
	return int(n), nil
}

func (m *Mem) truncate(f *memFile, size int64) error {
	m.lockForChange(f)
	defer m.unlock(f)
	if need := size - f.charge; need > 0 {
		got := m.space.take(need)
		if got < need {
			m.space.give(got)
			return syscall.ENOSPC
		}
		f.charge += got
	}
	f.modTime = time.Now()
	if size >= f.size {
		f.size = size
		return nil
	}
	if m.tracked {
		f.touchTail(size)
	}
	f.cut(size)
	m.space.give(f.charge - size)
	f.charge = size
	return nil
}

func (m *Mem) reserve(f *memFile, end int64) error {
	m.lockForChange(f)
	defer m.unlock(f)
	need := max(0, end-f.charge)
	got := m.space.take(need)
	if got < need {
		m.space.give(got)
		return syscall.ENOSPC
	}
	f.charge += got
	return nil
}

// lockForChange locks f alone, and in a tracked file system keeps CrashClone out.
func (m *Mem) lockForChange(f *memFile) {
	if m.tracked {
		m.mu.RLock()
	}
	f.mu.Lock()
}

func (m *Mem) unlock(f *memFile) {
	f.mu.Unlock()
	if m.tracked {
		m.mu.RUnlock()
	}
}

// memHandle is an open file.
type memHandle struct {
	fs       *Mem
	file     *memFile
	name     string
	writable bool
	closed   atomic.Bool
}

var errNegativeOffset = errors.New("negative offset")

func (h *memHandle) ReadAt(p []byte, off int64) (int, error) {
	if err := h.check(off, false); err != nil {
		return 0, pathError("read", h.name, err)
	}
	h.file.mu.RLock()
	n := h.file.read(p, off)
	h.file.mu.RUnlock()
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (h *memHandle) WriteAt(p []byte, off int64) (int, error) {
	err := h.check(off, true)
	if err == nil && off > maxFileSize-int64(len(p)) {
		err = syscall.EFBIG
	}
	done := 0
	for err == nil && done < len(p) {
		var n int
		n, err = h.fs.writePiece(h.file, p[done:], off+int64(done))
		done += n
	}
	if err != nil {
		return done, pathError("write", h.name, err)
	}
	return done, nil
}

func (h *memHandle) Close() error {
	if h.closed.Swap(true) {
		return pathError("close", h.name, fs.ErrClosed)
	}
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	h.file.handles--
	h.fs.release(h.file)
	return nil
}

func (h *memHandle) Size() (int64, error) {
	if err := h.check(0, false); err != nil {
		return 0, pathError("stat", h.name, err)
	}
	h.file.mu.RLock()
	defer h.file.mu.RUnlock()
	return h.file.size, nil
}

func (h *memHandle) Truncate(size int64) error {
	err := h.check(0, true)
	switch {
	case err != nil:
	case size < 0:
		err = syscall.EINVAL
	case size > maxFileSize:
		err = syscall.EFBIG
	default:
		err = h.fs.truncate(h.file, size)
	}
	if err != nil {
		return pathError("truncate", h.name, err)
	}
	return nil
}

func (h *memHandle) Sync() error     { return h.sync("sync") }
func (h *memHandle) Datasync() error { return h.sync("fdatasync") }

func (h *memHandle) sync(op string) error {
	if err := h.check(0, false); err != nil {
		return pathError(op, h.name, err)
	}
	if h.fs.tracked {
		h.fs.lockForChange(h.file)
		defer h.fs.unlock(h.file)
		h.file.settle()
	}
	return nil
}

// FailSync is what Linux may do in an fsync that fails: what is unsynced counts
// as clean from now on, and reads back, but is not on disk, and no later Sync
// brings it there. Writing a 512-byte block again does.
func (h *memHandle) FailSync() {
	if h.fs.tracked && !h.closed.Load() {
		h.fs.lockForChange(h.file)
		defer h.fs.unlock(h.file)
		h.file.lose()
	}
}

func (h *memHandle) Reserve(off, n int64) error {
	err := h.check(0, true)
	switch {
	case err != nil:
	case off < 0 || n < 0:
		err = syscall.EINVAL
	case off > maxFileSize-n:
		err = syscall.EFBIG
	case n > 0:
		err = h.fs.reserve(h.file, off+n)
	}
	if err != nil {
		return pathError("reserve", h.name, err)
	}
	return nil
}

func (h *memHandle) check(off int64, write bool) error {
	switch {
	case h.closed.Load():
		return fs.ErrClosed
	case off < 0:
		return errNegativeOffset
	case write && !h.writable:
		return syscall.EBADF
	}
	return nil
}
