package space

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/braid-go/braid"
)

// withoutDescriptors calls f while the process can open no file that is not open, but so many.
func withoutDescriptors(t *testing.T, spare int, f func()) {
	t.Helper()
	var taken []*os.File
	defer func() {
		for _, file := range taken {
			file.Close()
		}
	}()
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	limited := before
	limited.Cur = 256
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limited); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
			t.Fatal(err)
		}
	}()
	for {
		file, err := os.Open("/dev/null")
		if errors.Is(err, syscall.EMFILE) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		taken = append(taken, file)
	}
	for range spare {
		taken[len(taken)-1].Close()
		taken = taken[:len(taken)-1]
	}
	f()
}

// A process runs out of descriptors, earlier or later, while it opens a directory: opening says so, and loses and leaves nothing.
func TestOpeningWithoutDescriptorsIsRefusedAndLosesNothing(t *testing.T) {
	dir := filepath.Join(inMemory(t), "data")
	b, err := braid.Open(dir, braid.Options{})
	if err != nil {
		t.Fatal(err)
	}
	in, err := b.CreateTopic(t.Context(), "in", braid.TopicConfig{Partitions: 4})
	if err != nil {
		t.Fatal(err)
	}
	acked := map[string]bool{}
	for n := range 20 {
		if err := in.Publish(t.Context(), record(n, 10)); err != nil {
			t.Fatal(err)
		}
		acked[fmt.Sprint("in ", n)] = true
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	refused := 0
	for spare := range 12 {
		withoutDescriptors(t, spare, func() {
			for _, opts := range []braid.Options{{ReadOnly: true}, {}} {
				b, err := braid.Open(dir, opts)
				if err == nil {
					err = b.Close()
				} else {
					refused++
				}
				if err != nil && !errors.Is(err, syscall.EMFILE) {
					t.Errorf("%d to spare: error %v, want EMFILE", spare, err)
				}
			}
		})
		b, err := braid.Open(dir, braid.Options{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := contents(b)
		if diff := cmp.Diff(acked, got); diff != "" || err != nil {
			t.Errorf("%d to spare: %v %s", spare, err, diff)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if refused < 4 {
		t.Errorf("only %d openings refused", refused)
	}
}

// An open broker runs out of descriptors: what needs one fails and says so, and when there are some again all goes on.
func TestABrokerWithoutDescriptorsSaysSoAndGoesOnWhenThereAreSome(t *testing.T) {
	dir := filepath.Join(inMemory(t), "data")
	b, err := braid.Open(dir, braid.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	in, err := b.CreateTopic(t.Context(), "in", braid.TopicConfig{Partitions: 2, SegmentBytes: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	acked, n := map[string]bool{}, 0
	publish := func() error {
		n++
		err := in.Publish(t.Context(), record(n, 5000))
		if err == nil {
			acked[fmt.Sprint("in ", n)] = true
		}
		return err
	}
	if err := publish(); err != nil {
		t.Fatal(err)
	}
	withoutDescriptors(t, 0, func() {
		failed := 0
		for range 100 { // segments end
			if err := publish(); err != nil {
				if !errors.Is(err, syscall.EMFILE) || errors.Is(err, braid.ErrOutcomeUnknown) || errors.Is(err, braid.ErrPartitionFailed) {
					t.Fatalf("publish: error %v, want EMFILE and no failure that stays", err)
				}
				failed++
			}
		}
		if failed == 0 {
			t.Error("not worth it: nothing failed")
		}
		for i := range 120 { // a generation of the commit log is full
			tx := b.Begin()
			if err := errors.Join(tx.Put("n", fmt.Append(nil, i)), tx.Put("large", make([]byte, 200_000)), tx.Commit(t.Context())); err != nil {
				t.Fatalf("committing: %v", err)
			}
		}
		if _, err := b.CreateTopic(t.Context(), "new", braid.TopicConfig{}); !errors.Is(err, syscall.EMFILE) {
			t.Errorf("making a topic: error %v, want EMFILE", err)
		}
		if _, err := in.Split(t.Context(), 1); !errors.Is(err, syscall.EMFILE) {
			t.Errorf("splitting: error %v, want EMFILE", err)
		}
		if _, err := contents(b); err != nil && !errors.Is(err, syscall.EMFILE) {
			t.Errorf("reading: error %v, want EMFILE", err)
		}
	})
	for i := range 50 {
		tx := b.Begin()
		if err := errors.Join(publish(), tx.Put("n", fmt.Append(nil, i)), tx.Put("large", make([]byte, 200_000)), tx.Commit(t.Context())); err != nil {
			t.Fatalf("with descriptors again: %v", err)
		}
	}
	if n := generations(t, dir); n > 2 || n < 1 {
		t.Errorf("%d generations of the commit log", n)
	}
	got, err := contents(b)
	if diff := cmp.Diff(acked, got); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
}

// generations counts those of the commit log that are listed and there; the first is replaced as soon as that is possible.
func generations(t *testing.T, dir string) int {
	t.Helper()
	if _, err := os.Stat(filepath.Join(dir, "checkpoint", "0000000001")); err == nil {
		t.Error("the generation that was full is still there")
	}
	all, err := filepath.Glob(filepath.Join(dir, "checkpoint", "0*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}
