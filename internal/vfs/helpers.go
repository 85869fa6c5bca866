package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path"
	"syscall"
)

// TempSuffix ends the name under which WriteFileAtomic prepares a file. A crash
// may leave such a file behind; it means nothing, and the next WriteFileAtomic
// of the same name removes it.
const TempSuffix = ".tmp"

// NoSpace tells the want of space from other failures: a full disk, an exhausted quota, and a file that may not become any larger. In each case nothing is
// wrong with what is there, and writing works again when it is over.
func NoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}

// NoDescriptors tells that the process, or the system, can open no more files from other failures. What was to be opened has not been touched.
func NoDescriptors(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// ErrTooLarge is returned, inside a *fs.PathError, by ReadFile.
var ErrTooLarge = errors.New("file too large")

// WriteFileAtomic makes name a file that holds data, durably: it writes
// name+TempSuffix, syncs it, renames it to name and syncs the directory. At most
// one call for one name may run at a time.
//
// After a crash at any point the name has its old content (or is absent, as it
// was) or the new one whole: before the rename nothing has touched it, the
// rename is atomic, and the bytes that it brings were synced before it began.
// After nil it has the new one.
//
// After an error the name has the one or the other; if the error came from the
// directory's sync, which of the two a crash leaves is open. Nothing is
// retried, and the temporary file is removed if that is possible.
func WriteFileAtomic(fsys FS, name string, data []byte) error {
	temp := name + TempSuffix
	if err := fsys.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove an earlier temporary file: %w", err)
	}
	err := writeSynced(fsys, temp, data)
	if err == nil {
		err = fsys.Rename(temp, name)
	}
	if err != nil {
		// A rename may have happened and failed all the same: then there is
		// nothing to remove. A file left behind is harmless.
		_ = fsys.Remove(temp)
		return err
	}
	return fsys.SyncDir(path.Dir(name))
}

// writeSynced creates a file whose bytes are on disk when it returns nil.
func writeSynced(fsys FS, name string, data []byte) error {
	f, err := fsys.Create(name)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(data, 0); err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// ReadFile returns the content of a file of at most max bytes. For a larger one it
// fails with ErrTooLarge and allocates nothing. A file that shrinks meanwhile is
// io.ErrUnexpectedEOF.
func ReadFile(fsys FS, name string, max int64) (data []byte, err error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() {
		if closeErr := f.Close(); err == nil && closeErr != nil {
			data, err = nil, closeErr
		}
	}()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > min(max, math.MaxInt) {
		return nil, pathError("read", name, fmt.Errorf("%w: %d bytes, at most %d are accepted", ErrTooLarge, size, max))
	}
	data = make([]byte, size)
	n, err := f.ReadAt(data, 0)
	switch {
	case n == len(data):
		return data, nil
	case err == io.EOF:
		err = pathError("read", name, io.ErrUnexpectedEOF)
	}
	return nil, err
}
