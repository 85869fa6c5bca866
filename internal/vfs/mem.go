package vfs

import (
	"cmp"
	"io/fs"
	"maps"
	"math"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/braid-go/braid/internal/sorting"
)

// Mem is a file system in memory. Its root always exists; relative names start
// there, and ".." never leaves it. A file that was removed stays readable and
// writable through the handles that are open. A file holds at most 1 TiB.
//
// A Mem from [NewMem] remembers what has been synced, so that [Mem.CrashClone]
// can make the file system that a power cut would leave. One from [NewVolatile]
// does not, and is the faster and smaller for it.
//
// Mem reports what Linux would: *fs.PathError, and *os.LinkError from Rename.
type Mem struct {
	tracked bool
	space   space

	// mu guards the tree and pending. In a tracked file system each change of a
	// file's bytes holds it shared, so that CrashClone, which holds it alone,
	// sees one instant of all files. Lock order: mu, then memFile.mu.
	mu      sync.RWMutex
	root    *memDir
	pending []dirOp // changes of names that no SyncDir has covered, oldest first; tracked only
}

var _ FS = (*Mem)(nil)

// node is a *memDir or a *memFile; nil stands for a name that is not taken.
type node interface {
	info(name string) fs.FileInfo
}

type memDir struct {
	entries map[string]node
	synced  map[string]node // the entries as they are on disk; tracked only
	modTime time.Time
}

// maxName is NAME_MAX of Linux, in bytes.
const maxName = 255

// NewMem returns an empty file system that can be crashed and cloned.
func NewMem() *Mem { return newMem(true) }

// NewVolatile returns an empty file system for use as storage that need not
// outlive the process: Sync, Datasync and SyncDir cost nothing, and nothing is
// kept of what was synced.
func NewVolatile() *Mem { return newMem(false) }

func newMem(tracked bool) *Mem {
	m := &Mem{tracked: tracked, root: newMemDir()}
	m.SetCapacity(-1)
	return m
}

func newMemDir() *memDir {
	return &memDir{entries: map[string]node{}, modTime: time.Now()}
}

// SetCapacity bounds the bytes that all files together may take, their sizes
// and what Reserve set aside beyond them; holes count. From then on WriteAt
// stores what fits and returns syscall.ENOSPC; Truncate and Reserve do nothing
// and return it. A capacity below what is in use means that the disk is full.
// Negative, the default, is unlimited.
func (m *Mem) SetCapacity(bytes int64) {
	if bytes < 0 {
		bytes = math.MaxInt64
	}
	m.space.capacity.Store(bytes)
}

// Create implements FS.
func (m *Mem) Create(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base, err := m.parent(name)
	if err == nil && dir.entries[base] != nil {
		err = fs.ErrExist
	}
	if err != nil {
		return nil, pathError("open", name, err)
	}
	f := &memFile{linked: true, modTime: time.Now()}
	m.change(dirOp{{dir, base, nil, f}})
	return m.handle(name, f, true), nil
}

// Open implements FS.
func (m *Mem) Open(name string) (File, error) { return m.open(name, false) }

// OpenReadWrite implements FS.
func (m *Mem) OpenReadWrite(name string) (File, error) { return m.open(name, true) }

func (m *Mem) open(name string, writable bool) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.lookup(name)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	f, ok := n.(*memFile)
	if !ok {
		return nil, pathError("open", name, ErrNotRegular)
	}
	return m.handle(name, f, writable), nil
}

// handle opens f; the caller holds m.mu.
func (m *Mem) handle(name string, f *memFile, writable bool) *memHandle {
	f.handles++
	return &memHandle{fs: m, file: f, name: name, writable: writable}
}

// Remove implements FS.
func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base, err := m.parent(name)
	if err != nil {
		return pathError("remove", name, err)
	}
	n := dir.entries[base]
	if n == nil {
		return pathError("remove", name, fs.ErrNotExist)
	}
	if d, ok := n.(*memDir); ok && len(d.entries) > 0 {
		return pathError("remove", name, syscall.ENOTEMPTY)
	}
	m.change(dirOp{{dir, base, n, nil}})
	m.unlink(n)
	return nil
}

// Rename implements FS.
func (m *Mem) Rename(oldName, newName string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.rename(oldName, newName); err != nil {
		return &os.LinkError{Op: "rename", Old: oldName, New: newName, Err: err}
	}
	return nil
}

func (m *Mem) rename(oldName, newName string) error {
	oldDir, oldBase, err := m.parent(oldName)
	if err != nil {
		return err
	}
	moved := oldDir.entries[oldBase]
	if moved == nil {
		return fs.ErrNotExist
	}
	newDir, newBase, err := m.parent(newName)
	if err != nil {
		return err
	}
	replaced := newDir.entries[newBase]
	if _, ok := replaced.(*memDir); ok {
		return fs.ErrExist
	}
	if replaced == moved {
		return nil
	}
	if _, ok := moved.(*memDir); ok {
		if replaced != nil {
			return syscall.ENOTDIR
		}
		if strings.HasPrefix(cleanName(newName), cleanName(oldName)+"/") {
			return syscall.EINVAL
		}
	}
	m.change(dirOp{{oldDir, oldBase, moved, nil}, {newDir, newBase, replaced, moved}})
	m.unlink(replaced)
	return nil
}

// Mkdir implements FS.
func (m *Mem) Mkdir(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base, err := m.parent(name)
	if cleanName(name) == "/" || err == nil && dir.entries[base] != nil {
		err = fs.ErrExist
	}
	if err != nil {
		return pathError("mkdir", name, err)
	}
	m.change(dirOp{{dir, base, nil, newMemDir()}})
	return nil
}

// List implements FS.
func (m *Mem) List(name string) ([]fs.FileInfo, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	dir, err := m.lookupDir(name)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	infos := make([]fs.FileInfo, 0, len(dir.entries))
	for _, base := range sortedKeys(dir.entries) {
		infos = append(infos, dir.entries[base].info(base))
	}
	return infos, nil
}

// Stat implements FS.
func (m *Mem) Stat(name string) (fs.FileInfo, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	n, err := m.lookup(name)
	if err != nil {
		return nil, pathError("lstat", name, err)
	}
	return n.info(path.Base(cleanName(name))), nil
}

// SyncDir implements FS.
func (m *Mem) SyncDir(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, err := m.lookupDir(name)
	if err != nil {
		return pathError("open", name, err)
	}
	m.commitNames(dir)
	return nil
}

// change applies op to the tree and, in a tracked file system, notes that it is
// not on disk; the caller holds m.mu.
func (m *Mem) change(op dirOp) {
	now := time.Now()
	for _, c := range op {
		setEntry(c.dir.entries, c.name, c.after)
		c.dir.modTime = now
	}
	if m.tracked {
		m.pending = append(m.pending, op)
	}
}

func setEntry(entries map[string]node, name string, n node) {
	if n == nil {
		delete(entries, name)
	} else {
		entries[name] = n
	}
}

// unlink gives back the space of a file whose name is gone, unless it is still
// open; the caller holds m.mu.
func (m *Mem) unlink(n node) {
	if f, ok := n.(*memFile); ok {
		f.linked = false
		m.release(f)
	}
}

// release gives back the space of a file that nobody can reach any more; the
// caller holds m.mu.
func (m *Mem) release(f *memFile) {
	if f.linked || f.handles > 0 {
		return
	}
	m.space.give(f.charge)
	f.charge = 0
}

// cleanName returns the absolute form of name.
func cleanName(name string) string { return path.Clean("/" + name) }

// parent returns the directory that holds, or would hold, name.
func (m *Mem) parent(name string) (*memDir, string, error) {
	clean := cleanName(name)
	if clean == "/" {
		if name == "" {
			return nil, "", fs.ErrNotExist
		}
		return nil, "", syscall.EBUSY
	}
	dirName, base := path.Split(clean)
	if err := checkName(base); err != nil {
		return nil, "", err
	}
	dir, err := m.lookupDir(dirName)
	return dir, base, err
}

func (m *Mem) lookupDir(name string) (*memDir, error) {
	n, err := m.lookup(name)
	if err != nil {
		return nil, err
	}
	dir, ok := n.(*memDir)
	if !ok {
		return nil, syscall.ENOTDIR
	}
	return dir, nil
}

func (m *Mem) lookup(name string) (node, error) {
	if name == "" {
		return nil, fs.ErrNotExist
	}
	var n node = m.root
	for part := range strings.SplitSeq(cleanName(name), "/") {
		if part == "" {
			continue
		}
		if err := checkName(part); err != nil {
			return nil, err
		}
		dir, ok := n.(*memDir)
		if !ok {
			return nil, syscall.ENOTDIR
		}
		if n = dir.entries[part]; n == nil {
			return nil, fs.ErrNotExist
		}
	}
	return n, nil
}

func checkName(base string) error {
	if strings.IndexByte(base, 0) >= 0 {
		return syscall.EINVAL
	}
	if len(base) > maxName {
		return syscall.ENAMETOOLONG
	}
	return nil
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := slices.Collect(maps.Keys(m))
	sorting.Func(keys, cmp.Compare[K])
	return keys
}

func (d *memDir) info(name string) fs.FileInfo {
	return memInfo{name: name, mode: fs.ModeDir | dirMode, modTime: d.modTime}
}

// memInfo implements fs.FileInfo.
type memInfo struct {
	name    string
	size    int64
	mode    fs.FileMode
	modTime time.Time
}

func (i memInfo) Name() string       { return i.name }
func (i memInfo) Size() int64        { return i.size }
func (i memInfo) Mode() fs.FileMode  { return i.mode }
func (i memInfo) ModTime() time.Time { return i.modTime }
func (i memInfo) IsDir() bool        { return i.mode.IsDir() }
func (i memInfo) Sys() any           { return nil }

// space counts bytes against a capacity.
type space struct {
	capacity, used atomic.Int64
}

// take claims up to n bytes and returns how many it got.
func (s *space) take(n int64) int64 {
	for {
		used := s.used.Load()
		got := min(n, max(0, s.capacity.Load()-used))
		if got == 0 || s.used.CompareAndSwap(used, used+got) {
			return got
		}
	}
}

func (s *space) give(n int64) { s.used.Add(-n) }
