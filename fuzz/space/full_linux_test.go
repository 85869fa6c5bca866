package space

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/braid-go/braid"
)

// mountEnv, in the environment, makes the test mount a file system in the directory that it names. It does that in a process with a mount table of its own, so that
// nothing stays mounted, however it ends.
const mountEnv = "BRAID_SPACE_MOUNT"

const diskBytes = 64 << 20

// A real file system of 64 MiB is filled by somebody else. What does not fit is refused with ErrNoSpace and leaves nothing behind; reading and committing positions go on; when there is
// space again publishing goes on without reopening; and all that was acknowledged is there when the directory is opened again.
func TestAFullFileSystemRefusesAndRecovers(t *testing.T) {
	if dir := os.Getenv(mountEnv); dir != "" {
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", diskBytes)); err != nil {
			fmt.Println("cannot mount:", err)
			t.Skip("cannot mount a file system:", err)
		}
		for _, durability := range []braid.Durability{braid.Fsync, braid.Interval, braid.OS} {
			t.Run(durability.String(), func(t *testing.T) { fullDisk(t, filepath.Join(dir, durability.String()), durability) })
		}
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), mountEnv+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Unshareflags: syscall.CLONE_NEWNS} // Unshareflags: its mounts are not the others'
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	switch {
	case cmd.ProcessState == nil:
		t.Skipf("a process with a mount table of its own cannot be made here: %v", err)
	case strings.Contains(string(out), "cannot mount:"):
		t.Skipf("a file system cannot be mounted here:\n%s", out)
	case err != nil || strings.Count(string(out), "--- PASS") != 4:
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

// filler is the file that takes what space is left.
type filler struct{ path string }

func (f filler) fill(t *testing.T) {
	t.Helper()
	file, err := os.OpenFile(f.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	for size := 1 << 20; size > 0; size /= 2 {
		for err = nil; err == nil; {
			_, err = file.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
}

func (f filler) empty(t *testing.T) {
	t.Helper()
	if err := os.Remove(f.path); err != nil {
		t.Fatal(err)
	}
}

// fullDisk is the test for one durability.
func fullDisk(t *testing.T, dir string, durability braid.Durability) {
	disk := filler{dir + "-filler"}
	b, err := braid.Open(dir, braid.Options{Durability: durability})
	if err != nil {
		t.Fatal(err)
	}
	in, err := b.CreateTopic(t.Context(), "in", braid.TopicConfig{Partitions: 2})
	if err != nil {
		t.Fatal(err)
	}
	sub, err := in.Subscribe(t.Context(), "g", braid.SubscribeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	acked, n, refused, committed := map[string]bool{}, 0, 0, 0
	publish := func(size int) error {
		n++
		err := in.Publish(t.Context(), record(n, size))
		if err == nil {
			acked[fmt.Sprint("in ", n)] = true
		}
		return err
	}
	same := func(when string) {
		t.Helper()
		got, err := contents(b)
		if diff := cmp.Diff(acked, got); diff != "" || err != nil {
			t.Fatalf("%s: %v %s", when, err, diff)
		}
	}
	for round := range 3 {
		for range 20 {
			if err := publish(1000); err != nil {
				t.Fatalf("round %d, with space: %v", round, err)
			}
		}
		disk.fill(t)
		for misses := 0; misses < 5; {
			err := publish([]int{100, 5000, 300_000}[n%3])
			if err == nil {
				continue // in space that was made ahead
			}
			if !errors.Is(err, braid.ErrNoSpace) || errors.Is(err, braid.ErrOutcomeUnknown) || errors.Is(err, braid.ErrPartitionFailed) {
				t.Fatalf("round %d: error %v, want ErrNoSpace", round, err)
			}
			misses++
			refused++
		}
		same("while the disk is full")
		for range 10 {
			recs, err := sub.Poll(t.Context(), 1)
			if err != nil {
				t.Fatalf("round %d: reading while the disk is full: %v", round, err)
			}
			if err := sub.Commit(t.Context(), recs...); err != nil {
				t.Fatalf("round %d: committing a position while the disk is full: %v", round, err)
			}
			committed++
		}
		if _, err := b.CreateTopic(t.Context(), fmt.Sprint("new", round), braid.TopicConfig{}); !errors.Is(err, braid.ErrNoSpace) {
			t.Errorf("round %d: making a topic while the disk is full: %v, want ErrNoSpace", round, err)
		}
		if _, err := in.Split(t.Context(), in.Partitions()[len(in.Partitions())-1].ID); err != nil && !errors.Is(err, braid.ErrNoSpace) {
			t.Errorf("round %d: splitting while the disk is full: %v, want ErrNoSpace", round, err)
		}
		tx := b.Begin()
		if err := errors.Join(tx.Put("large", make([]byte, 1<<20)), tx.Commit(t.Context())); err != nil && !errors.Is(err, braid.ErrNoSpace) {
			t.Errorf("round %d: a transaction while the disk is full: %v, want ErrNoSpace", round, err)
		}
		disk.empty(t)
	}
	if err := publish(300_000); err != nil {
		t.Fatal(err)
	}
	same("with space again")
	if err := errors.Join(sub.Close(), b.Close()); err != nil {
		t.Fatal(err)
	}
	disk.fill(t)
	if b, err = braid.Open(dir, braid.Options{Durability: durability}); err == nil {
		same("opened on a full disk")
		err = b.Close()
	}
	if err != nil && !errors.Is(err, braid.ErrNoSpace) {
		t.Errorf("opening on a full disk: %v, want ErrNoSpace", err)
	}
	disk.empty(t)
	if b, err = braid.Open(dir, braid.Options{Durability: durability}); err != nil {
		t.Fatal(err)
	}
	same("opened again")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d records acknowledged, %d refused, %d positions committed while the disk was full", len(acked), refused, committed)
}
