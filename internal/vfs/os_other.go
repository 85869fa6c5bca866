//go:build !linux

package vfs

// datasync is what Datasync needs for each file: here nothing.
type datasync struct{}

func (f *osFile) Datasync() error { return f.Sync() }

func (f *osFile) reserve(off, n int64) error { return nil }
