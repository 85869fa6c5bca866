package checkpoint

import (
	"errors"
	"os"
	"syscall"
)

const fallocKeepSize = 1 // FALLOC_FL_KEEP_SIZE of fallocate(2)

// reserve allocates space for a file without changing its size. Where the file system cannot, that is
// no error.
func reserve(f *os.File, off, n int64) error {
	for {
		err := syscall.Fallocate(int(f.Fd()), fallocKeepSize, off, n)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EOPNOTSUPP), errors.Is(err, syscall.ENOSYS):
			return nil
		}
		return err
	}
}
