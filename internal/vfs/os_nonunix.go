//go:build !unix

package vfs

import (
	"io/fs"
	"os"
)

const safeOpenFlags = 0

// checkBeforeOpen looks at the name itself: there is no flag that refuses a link.
func checkBeforeOpen(name string, check func(fs.FileMode) error) error {
	info, err := os.Lstat(name)
	if err != nil {
		return err
	}
	if wrong := check(info.Mode()); wrong != nil {
		return pathError("open", name, wrong)
	}
	return nil
}

// flushDir has nothing to call: a directory handle cannot be flushed.
func flushDir(*os.File) error { return nil }
