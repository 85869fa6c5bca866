//go:build !linux

package vfs

func (f *osFile) Datasync() error { return f.Sync() }

func (f *osFile) reserve(off, n int64) error { return nil }
