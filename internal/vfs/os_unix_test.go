//go:build unix

package vfs

import (
	"os"
	"syscall"
	"testing"
)

func TestOSRefusesWhatIsNoRegularFile(t *testing.T) {
	dir := t.TempDir()
	create(t, OS, dir+"/file", "target")
	must(t, OS.Mkdir(dir+"/dir"))
	must(t, os.Symlink(dir+"/file", dir+"/link"))
	must(t, os.Symlink(dir+"/missing", dir+"/dangling"))
	must(t, os.Symlink(dir+"/dir", dir+"/dirlink"))
	must(t, syscall.Mkfifo(dir+"/pipe", 0o600)) // opening it plainly would wait for a writer
	for _, name := range []string{dir + "/link", dir + "/link/", dir + "/dangling", dir + "/dirlink", dir + "/dir", dir + "/pipe", "/dev/null"} {
		_, err := OS.Open(name)
		wantErr(t, "Open "+name, err, ErrNotRegular)
		_, err = OS.OpenReadWrite(name)
		wantErr(t, "OpenReadWrite "+name, err, ErrNotRegular)
		if _, err = OS.Create(name); !os.IsExist(err) {
			t.Errorf("Create %s: %v", name, err)
		}
	}
	if _, err := os.Stat(dir + "/missing"); !os.IsNotExist(err) {
		t.Error("a file was made through a link")
	}
}

func TestOSFollowsNoLinkToADirectory(t *testing.T) {
	dir := t.TempDir()
	must(t, OS.Mkdir(dir+"/dir"))
	must(t, os.Symlink(dir+"/dir", dir+"/link"))
	for _, name := range []string{dir + "/link", dir + "/link/"} {
		_, err := OS.List(name)
		wantErr(t, "List", err, syscall.ENOTDIR)
		wantErr(t, "SyncDir", OS.SyncDir(name), syscall.ENOTDIR)
		info, err := OS.Stat(name)
		if err != nil || info.Mode().Type() != os.ModeSymlink {
			t.Errorf("Stat describes the target: %v, %v", info, err)
		}
	}
}
