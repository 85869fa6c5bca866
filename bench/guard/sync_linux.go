package main

import (
	"os"
	"syscall"
)

func datasync(f *os.File) error {
	return os.NewSyscallError("fdatasync", syscall.Fdatasync(int(f.Fd())))
}
