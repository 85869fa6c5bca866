package vfs

import (
	"io/fs"
	"sync"
	"syscall"
)

const (
	// fallocKeepSize is FALLOC_FL_KEEP_SIZE of linux/falloc.h.
	fallocKeepSize = 0x01

	// reservePiece bounds one fallocate(2). On tmpfs a signal makes the call
	// undo everything and fail with EINTR; retrying a long one under a steady
	// stream of signals (a profiler's) would never end.
	reservePiece = 64 << 20
)

// datasync is what Datasync runs on the descriptor, made once for each file so that syncing allocates nothing.
type datasync struct {
	mu  sync.Mutex // one at a time: they share err
	run func(fd uintptr)
	err error
}

func (f *osFile) Datasync() error {
	d := &f.datasync
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.run == nil {
		d.run = func(fd uintptr) { d.err = uninterrupted(int(fd), syscall.Fdatasync) }
	}
	if f.conn.Control(d.run) != nil { // The descriptor is closed: nothing else makes Control fail.
		return pathError("fdatasync", f.Name(), fs.ErrClosed)
	}
	if d.err != nil {
		return pathError("fdatasync", f.Name(), d.err)
	}
	return nil
}

// uninterrupted runs call until no signal interrupts it.
func uninterrupted(fd int, call func(fd int) error) error {
	for {
		if err := call(fd); err != syscall.EINTR {
			return err
		}
	}
}

func (f *osFile) reserve(off, n int64) error {
	for n > 0 {
		piece := min(n, reservePiece)
		err := f.control("fallocate", func(fd int) error {
			err := syscall.Fallocate(fd, fallocKeepSize, off, piece)
			if err == syscall.EOPNOTSUPP || err == syscall.ENOSYS {
				return nil
			}
			return err
		})
		if err != nil {
			return err
		}
		off, n = off+piece, n-piece
	}
	return nil
}

// control runs call on the descriptor until no signal interrupts it.
func (f *osFile) control(op string, call func(fd int) error) error {
	var err error
	ctlErr := f.conn.Control(func(fd uintptr) { err = uninterrupted(int(fd), call) })
	if ctlErr != nil { // The descriptor is closed: nothing else makes Control fail.
		err = fs.ErrClosed
	}
	if err != nil {
		return pathError(op, f.Name(), err)
	}
	return nil
}
