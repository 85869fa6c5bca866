package power

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/braid-go/braid/internal/vfs"
)

// The power fails, or the process dies, before the operation that was told: what was synced by then is there, and what was acknowledged by then counts. A kill leaves all that was written.
func TestADiskLeavesWhatWasSyncedAndAKillWhatWasWritten(t *testing.T) {
	for seed := range uint64(40) {
		dir := filepath.Join(t.TempDir(), "data")
		acked, crashing := 0, 0
		d, err := NewDisk(dir, rand.New(rand.NewPCG(seed, 0)), func() int { return acked })
		if err != nil {
			t.Fatal(err)
		}
		d.Crashing = func() func() { crashing++; return func() { crashing += 10 } }
		log := filepath.Join(dir, store, "0000000001", "00000000000000000001")
		if err := errors.Join(os.MkdirAll(filepath.Dir(log), 0o700), os.WriteFile(log, []byte("entry"), 0o600)); err != nil {
			t.Fatal(err)
		}
		power := seed%4 > 0
		f, err := d.FS().Create(dir + "/segment")
		if err != nil {
			t.Fatal(err)
		}
		d.Arm(7, power) // of the operations that follow: the last two do not happen
		var failed []int
		for i := range 3 {
			for j, do := range []func() error{
				func() error { _, err := f.WriteAt([]byte{'a' + byte(i)}, int64(i)); return err },
				f.Sync,
				func() error { return d.FS().SyncDir(dir) },
			} {
				if err := do(); errors.Is(err, syscall.EIO) {
					failed = append(failed, 3*i+j)
				} else if err != nil {
					t.Fatal(err)
				}
			}
			acked++
		}
		ended := false
		c, err := d.Crash(power, func() { ended = true })
		if err != nil || !ended || c.Acked != 2 || crashing != 11 || fmt.Sprint(failed) != "[7 8]" {
			t.Fatalf("seed %d: %v, %+v, %d, %v failed", seed, err, c, crashing, failed)
		}
		left, err := vfs.ReadFile(d.FS(), dir+"/segment", 100)
		want := "abc"
		if power { // the third was written and not synced
			want = "ab"
		}
		if err != nil || len(left) < len(want) || string(left[:len(want)]) != want {
			t.Fatalf("seed %d, power %v: %q is left, %v", seed, power, left, err)
		}
		if b, err := os.ReadFile(log); err != nil || string(b[:5]) != "entry" {
			t.Fatalf("the store's file is %q, %v", b, err)
		}
	}
}
