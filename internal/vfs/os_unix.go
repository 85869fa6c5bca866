//go:build unix

package vfs

import (
	"io/fs"
	"os"
	"syscall"
)

// safeOpenFlags: no link is followed, and opening a pipe does not wait for its
// other end. O_NONBLOCK means nothing for regular files. Package os adds
// O_CLOEXEC.
const safeOpenFlags = syscall.O_NOFOLLOW | syscall.O_NONBLOCK

// checkBeforeOpen has nothing to do where O_NOFOLLOW exists.
func checkBeforeOpen(string, func(fs.FileMode) error) error { return nil }

func flushDir(d *os.File) error { return d.Sync() }
