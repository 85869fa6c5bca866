// Package vfs is the file system the log writes through.
//
// It is the narrowest seam that testing a storage engine needs: nine
// operations on names, eight on an open file, and nothing that a caller could
// get for free from another. Three implementations exist: [OS], which is the
// real thing; [Mem], which lives in memory and can be crashed and cloned, with
// everything that was synced kept and any part of the rest lost; and [Fault],
// which wraps another one and fails, tears or delays chosen operations.
//
// # Contract
//
//   - Bytes written with WriteAt are durable once a later Sync or Datasync of the
//     same file has returned nil, and not before.
//   - A name made by Create, Mkdir or Rename, or taken away by Remove, is durable once a
//     later SyncDir of its directory has returned nil, and not before.
//   - After Sync or Datasync has returned an error nothing is known about what
//     was written since the last success, and a later success proves nothing
//     about it: Linux reports a writeback error once per descriptor and may mark
//     the pages clean. Callers never retry.
//   - Rename replaces an existing target atomically.
//   - Names are slash-separated paths; a symbolic link in the last element is
//     refused, never followed.
//   - A write that fails may have written any part of its bytes, whatever count it
//     returns: that of package os is 0 also where the system has written some.
//   - Errors are those of the os package (*fs.PathError); errors.Is works with
//     fs.ErrNotExist, fs.ErrExist, fs.ErrPermission and syscall.ENOSPC.
//
// All implementations are safe for concurrent use. Of one File, ReadAt may run
// concurrently with everything but Close; writes to overlapping ranges are the
// caller's to order.
package vfs

import (
	"io"
	"io/fs"
)

// FS is a file system.
type FS interface {
	// Create makes a new file of mode 0600, open for reading and writing. It fails with
	// fs.ErrExist if the name is taken.
	Create(name string) (File, error)
	// Open opens an existing regular file for reading.
	Open(name string) (File, error)
	// OpenReadWrite opens an existing regular file for reading and writing.
	OpenReadWrite(name string) (File, error)
	// Remove removes a file or an empty directory.
	Remove(name string) error
	// Rename renames a file or a directory, replacing a file of the new name.
	Rename(oldName, newName string) error
	// Mkdir makes a directory of mode 0700.
	Mkdir(name string) error
	// List returns the entries of a directory in the order of their names.
	List(name string) ([]fs.FileInfo, error)
	// Stat describes the name itself; it follows no symbolic link.
	Stat(name string) (fs.FileInfo, error)
	// SyncDir makes the names in a directory durable.
	SyncDir(name string) error
}

// File is an open file.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Size returns the file's size in bytes.
	Size() (int64, error)
	// Truncate changes the file's size. Growth reads as zeros.
	Truncate(size int64) error
	// Sync makes the file's bytes and metadata durable: fsync(2).
	Sync() error
	// Datasync makes the file's bytes durable, and the metadata needed to read
	// them back: fdatasync(2).
	Datasync() error
	// Reserve allocates space for n bytes at off without changing the size, so
	// that writing there cannot fail for want of space. Where the file system
	// cannot do that it does nothing and returns nil. A full disk is
	// syscall.ENOSPC.
	Reserve(off, n int64) error
}
