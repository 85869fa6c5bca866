package vfs

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// ErrNotRegular is returned, inside a *fs.PathError, by Open and OpenReadWrite for a name
// that is a directory, a symbolic link, a pipe, a socket or a device.
var ErrNotRegular = errors.New("not a regular file")

// OS is the file system of the operating system. Relative names start at the
// working directory of the process; trailing slashes are ignored.
//
// Files are opened close-on-exec and without following a link in the last
// element; opening a pipe never blocks. Errors are *fs.PathError, those of
// Rename *os.LinkError.
//
// Datasync is fdatasync(2) and Reserve is fallocate(2) with FALLOC_FL_KEEP_SIZE
// on Linux; elsewhere they are Sync and nothing. Sync on macOS is F_FULLFSYNC.
// Where a directory cannot be flushed (Windows), SyncDir checks only that it is
// there: the file system's own journal decides when names are durable. Windows
// also refuses to remove or rename a file that is open.
var OS FS = osFS{}

const (
	fileMode fs.FileMode = 0o600
	dirMode  fs.FileMode = 0o700
)

type osFS struct{}

// osFile adds to os.File what it lacks; conn reaches the descriptor without a
// race against Close.
type osFile struct {
	*os.File
	conn     syscall.RawConn
	datasync datasync
}

func newOSFile(f *os.File) (File, error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return nil, cmp.Or(pathError("open", f.Name(), err), f.Close())
	}
	return &osFile{File: f, conn: conn}, nil
}

func (osFS) Create(name string) (File, error) {
	f, err := os.OpenFile(trimSlash(name), os.O_RDWR|os.O_CREATE|os.O_EXCL|safeOpenFlags, fileMode)
	if err != nil {
		return nil, err
	}
	return newOSFile(f)
}

func (osFS) Open(name string) (File, error) { return openRegular(name, os.O_RDONLY) }

func (osFS) OpenReadWrite(name string) (File, error) { return openRegular(name, os.O_RDWR) }

func openRegular(name string, flag int) (File, error) {
	f, err := openChecked(name, flag, func(m fs.FileMode) error {
		if !m.IsRegular() {
			return ErrNotRegular
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return newOSFile(f)
}

func openDir(name string) (*os.File, error) {
	return openChecked(name, os.O_RDONLY, func(m fs.FileMode) error {
		if !m.IsDir() {
			return syscall.ENOTDIR
		}
		return nil
	})
}

// openChecked opens what passes check. The type is looked at on the open
// descriptor, so that the name cannot be exchanged between the two.
func openChecked(name string, flag int, check func(fs.FileMode) error) (*os.File, error) {
	name = trimSlash(name)
	if err := checkBeforeOpen(name, check); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(name, flag|safeOpenFlags, 0)
	if err != nil {
		// What the kernel says of a link, a socket or a directory differs
		// between systems and flags; the caller gets one answer.
		if info, statErr := os.Lstat(name); statErr == nil {
			if wrong := check(info.Mode()); wrong != nil {
				return nil, pathError("open", name, wrong)
			}
		}
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		if wrong := check(info.Mode()); wrong != nil {
			err = pathError("open", name, wrong)
		}
	}
	if err != nil {
		return nil, cmp.Or(err, f.Close())
	}
	return f, nil
}

func (osFS) Remove(name string) error { return os.Remove(trimSlash(name)) }

func (osFS) Rename(oldName, newName string) error {
	return os.Rename(trimSlash(oldName), trimSlash(newName))
}

func (osFS) Mkdir(name string) error { return os.Mkdir(trimSlash(name), dirMode) }

func (osFS) List(name string) ([]fs.FileInfo, error) {
	d, err := openDir(name)
	if err != nil {
		return nil, err
	}
	infos, err := d.Readdir(-1)
	if err = cmp.Or(err, d.Close()); err != nil {
		return nil, err
	}
	slices.SortFunc(infos, func(a, b fs.FileInfo) int { return cmp.Compare(a.Name(), b.Name()) })
	return infos, nil
}

func (osFS) Stat(name string) (fs.FileInfo, error) { return os.Lstat(trimSlash(name)) }

func (osFS) SyncDir(name string) error {
	d, err := openDir(name)
	if err != nil {
		return err
	}
	return cmp.Or(flushDir(d), d.Close())
}

func (f *osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f *osFile) Reserve(off, n int64) error {
	switch {
	case off < 0 || n < 0:
		return pathError("reserve", f.Name(), syscall.EINVAL)
	case n == 0:
		return nil
	}
	return f.reserve(off, n)
}

// trimSlash drops trailing slashes: with one, the kernel follows a link in the
// last element whatever the flags say.
func trimSlash(name string) string {
	volume := filepath.VolumeName(name)
	rest := strings.TrimRight(name[len(volume):], "/")
	if rest == "" {
		return name
	}
	return volume + rest
}

func pathError(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: name, Err: err}
}
