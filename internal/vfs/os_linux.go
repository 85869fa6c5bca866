package vfs

import (
	"io/fs"
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

func (f *osFile) Datasync() error {
	return f.control("fdatasync", syscall.Fdatasync)
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
	ctlErr := f.conn.Control(func(fd uintptr) {
		for {
			if err = call(int(fd)); err != syscall.EINTR {
				return
			}
		}
	})
	if ctlErr != nil { // The descriptor is closed: nothing else makes Control fail.
		err = fs.ErrClosed
	}
	if err != nil {
		return pathError(op, f.Name(), err)
	}
	return nil
}
