package space

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/braid-go/braid"
)

// A process has a directory open. Another one is locked out, may read, and is let in when the first is killed.
func TestADirectoryThatAnotherProcessHasOpenIsLocked(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	text, err := json.Marshal(orders{Dir: dir, Hold: true})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	hold, err1 := cmd.StdinPipe() // closed when this process ends, however it does
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	said, err := bufio.NewReader(out).ReadString('\n')
	if said != "open\n" {
		t.Fatalf("the child says %q, %v", said, err)
	}
	if _, err := braid.Open(dir, braid.Options{}); !errors.Is(err, braid.ErrLocked) {
		t.Errorf("error %v, want ErrLocked", err)
	}
	b, err := braid.Open(dir, braid.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if !b.OpenReport().WriterLive {
		t.Error("a reader is not told of the writer")
	}
	if err := errors.Join(b.Close(), cmd.Process.Kill()); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	if b, err = braid.Open(dir, braid.Options{}); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

// spoil puts other files behind the process's descriptors of the commit log in a directory: behind that which entries are appended to, one that refuses to be written to; or
// behind that which is synced, one that cannot be.
func spoil(t *testing.T, dir string, writing bool) {
	t.Helper()
	flag := os.O_RDWR
	if writing {
		flag = os.O_RDONLY
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		fd, _ := strconv.Atoi(e.Name())
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil || !strings.HasPrefix(target, filepath.Join(dir, "checkpoint")+"/") {
			continue
		}
		flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFL, 0)
		if errno != 0 || (flags&syscall.O_NONBLOCK == 0) != writing { // package vfs opens with it, and syncs; tidwall/wal writes
			continue
		}
		other, err := os.OpenFile("/dev/null", flag, 0)
		if err == nil {
			err = errors.Join(syscall.Dup3(int(other.Fd()), fd, syscall.O_CLOEXEC), other.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 1 {
		t.Fatalf("%d descriptors were spoilt, want 1", n)
	}
}

// The commit log cannot be written, or cannot be synced, while something is being committed. Whoever did that is told that the outcome is unknown; nothing more can be committed, and what was acknowledged stays
// readable; and after reopening it has happened wholly or not at all.
func TestAStoreThatFailsLeavesOneTruth(t *testing.T) {
	ctx := context.Background()
	for name, commit := range map[string]func(b *braid.Broker, in *braid.Topic, sub *braid.Subscription) error{
		"a transaction": func(b *braid.Broker, in *braid.Topic, _ *braid.Subscription) error {
			tx := b.Begin()
			return errors.Join(tx.Publish(in, record(100, 10)), tx.Put("n", []byte("100")), tx.Commit(ctx))
		},
		"a split": func(_ *braid.Broker, in *braid.Topic, _ *braid.Subscription) error {
			_, err := in.Split(ctx, 1)
			return err
		},
		"a deletion": func(b *braid.Broker, _ *braid.Topic, _ *braid.Subscription) error {
			return b.DeleteTopic(ctx, "doomed")
		},
		"a creation": func(b *braid.Broker, _ *braid.Topic, _ *braid.Subscription) error {
			_, err := b.CreateTopic(ctx, "new", braid.TopicConfig{})
			return err
		},
		"a position": func(_ *braid.Broker, _ *braid.Topic, sub *braid.Subscription) error {
			return sub.CommitDelivered(ctx)
		},
	} {
		for _, writing := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, writing=%v", name, writing), func(t *testing.T) {
				dir := filepath.Join(inMemory(t), "data")
				b, err := braid.Open(dir, braid.Options{})
				if err != nil {
					t.Fatal(err)
				}
				in, err1 := b.CreateTopic(ctx, "in", braid.TopicConfig{})
				doomed, err2 := b.CreateTopic(ctx, "doomed", braid.TopicConfig{})
				sub, err3 := in.Subscribe(ctx, "g", braid.SubscribeOptions{})
				if err := errors.Join(err1, err2, err3); err != nil {
					t.Fatal(err)
				}
				acked := map[string]bool{}
				for n := range 5 {
					if err := errors.Join(in.Publish(ctx, record(n, 10)), doomed.Publish(ctx, record(n, 10))); err != nil {
						t.Fatal(err)
					}
					acked[fmt.Sprint("in ", n)], acked[fmt.Sprint("doomed ", n)] = true, true
				}
				recs, err := sub.Poll(ctx, 3)
				if err != nil || len(recs) == 0 {
					t.Fatal(len(recs), err)
				}
				spoil(t, dir, writing)
				if err := commit(b, in, sub); !errors.Is(err, braid.ErrOutcomeUnknown) {
					t.Errorf("error %v, want ErrOutcomeUnknown", err)
				}
				tx := b.Begin()
				if err := errors.Join(tx.Put("later", []byte("x")), tx.Commit(ctx)); !errors.Is(err, braid.ErrStoreFailed) || errors.Is(err, braid.ErrOutcomeUnknown) {
					t.Errorf("the next commit: error %v, want ErrStoreFailed", err)
				}
				if got, err := contents(b); err != nil || !maps.Equal(got, acked) {
					t.Errorf("what was acknowledged is not readable: %v %s", err, cmp.Diff(acked, got))
				}
				rec := record(50, 10)
				switch err := in.Publish(ctx, rec); {
				case err == nil:
					acked["in 50"] = true
				case !errors.Is(err, braid.ErrPartitionFailed) && !errors.Is(err, braid.ErrOutcomeUnknown) && !errors.Is(err, braid.ErrStoreFailed):
					t.Errorf("publishing afterwards: %v", err)
				}
				_ = sub.Close()
				_ = b.Close() // it has failed
				wantOneTruth(t, dir, name, acked, int64(len(recs)))
			})
		}
	}
}

// wantOneTruth opens the directory, twice: what was committed has happened wholly, or not at all.
func wantOneTruth(t *testing.T, dir, name string, acked map[string]bool, delivered int64) {
	t.Helper()
	happened := ""
	for round := range 2 {
		b, err := braid.Open(dir, braid.Options{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := contents(b)
		if err != nil {
			t.Fatal(err)
		}
		in, err := b.Topic("in")
		if err != nil {
			t.Fatal(err)
		}
		state, _, err1 := b.Get(t.Context(), "n")
		later, _, err2 := b.Get(t.Context(), "later")
		if err := errors.Join(err1, err2); err != nil || later != nil {
			t.Errorf("what was refused has happened: %q, %v", later, err)
		}
		_, doomed := b.Topic("doomed")
		_, made := b.Topic("new")
		want := maps.Clone(acked)
		if (string(state) == "100") != got["in 100"] {
			t.Errorf("half of the transaction: %q, %v", state, got["in 100"])
		}
		if got["in 100"] {
			want["in 100"] = true
		}
		if doomed != nil {
			maps.DeleteFunc(want, func(what string, _ bool) bool { return strings.HasPrefix(what, "doomed") })
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		g, err := in.Group("g")
		if err != nil {
			t.Fatal(err)
		}
		d, err := g.Describe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		position := int64(0)
		for _, p := range d.Partitions {
			if position = max(position, p.Committed); p.Committed != 0 && p.Committed != delivered {
				t.Errorf("the position is %d", p.Committed)
			}
		}
		truth := fmt.Sprint(string(state), len(in.Partitions()), doomed == nil, made == nil, position)
		if round > 0 && truth != happened {
			t.Errorf("opened again, it is %s, and was %s", truth, happened)
		}
		happened = truth
		if err := in.Publish(t.Context(), record(200+round, 10)); err != nil {
			t.Errorf("publish after reopening: %v", err)
		}
		acked[fmt.Sprint("in ", 200+round)] = true
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%s: %s", name, happened)
}
