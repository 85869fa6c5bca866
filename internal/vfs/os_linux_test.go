package vfs

import (
	"errors"
	"syscall"
	"testing"
)

func TestOSReserveAllocatesBlocksBeyondTheEnd(t *testing.T) {
	f := create(t, OS, t.TempDir()+"/a", "x")
	const reserved = 1 << 20
	err := f.(*osFile).control("fallocate", func(fd int) error {
		return syscall.Fallocate(fd, fallocKeepSize, 0, reserved)
	})
	if err != nil {
		t.Skipf("this file system cannot reserve space: %v", err)
	}
	err = f.Reserve(reserved, reservePiece+1)
	if errors.Is(err, syscall.ENOSPC) {
		t.Skip("this file system has no room for the test")
	}
	must(t, err)
	info, err := f.(*osFile).Stat()
	must(t, err)
	if info.Size() != 1 {
		t.Errorf("size %d", info.Size())
	}
	const unit = 512 // of st_blocks
	if got, want := info.Sys().(*syscall.Stat_t).Blocks*unit, int64(reserved+reservePiece); got <= want {
		t.Errorf("%d bytes are allocated, want more than %d", got, want)
	}
}

func TestOSDescriptorsAreClosedOnExec(t *testing.T) {
	dir := t.TempDir()
	create(t, OS, dir+"/a", "")
	for name, open := range map[string]func(string) (File, error){
		"Open": OS.Open, "OpenReadWrite": OS.OpenReadWrite,
	} {
		f, err := open(dir + "/a")
		must(t, err)
		must(t, f.(*osFile).control("fcntl", func(fd int) error {
			flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFD, 0)
			if errno != 0 {
				return errno
			}
			if flags&syscall.FD_CLOEXEC == 0 {
				t.Errorf("%s: a child would inherit the file", name)
			}
			return nil
		}))
		must(t, f.Close())
	}
}
