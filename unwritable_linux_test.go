package braid

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"syscall"
	"testing"
)

// asNobody calls f as a user who may not write where only the owner may; the super-user's tests would
// otherwise be allowed everything.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		f()
		return
	}
	runtime.LockOSThread() // the identity is the thread's
	defer runtime.UnlockOSThread()
	if err := syscall.Setfsuid(65534); err != nil {
		t.Skip("cannot take on another identity:", err)
	}
	defer syscall.Setfsuid(0)
	f()
}

func TestAnUnwritableDirectoryIsAPermissionError(t *testing.T) {
	noLeaks(t)
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, dir + "/below"} {
		asNobody(t, func() {
			b, err := Open(path, Options{})
			if err == nil {
				b.Close()
			}
			if !errors.Is(err, fs.ErrPermission) {
				t.Errorf("%s: error %v, want fs.ErrPermission", path, err)
			}
		})
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
