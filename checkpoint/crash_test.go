package checkpoint_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/braid-go/braid/checkpoint"
)

const (
	childDir     = "CHECKPOINT_TEST_CHILD_DIR"
	childWorkers = 4
)

// TestMain runs the committing child of TestKilledAtAnyMoment where the environment says so.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		fmt.Fprintln(os.Stderr, child(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// child counts, in one key for each worker, and prints each count once it is committed. It ends by being killed.
func child(dir string) error {
	w, err := checkpoint.OpenWAL(dir, checkpoint.WALOptions{ID: testID, Create: true, GenerationBytes: 16 << 10})
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	for g := range childWorkers {
		wg.Go(func() {
			key := strconv.AppendInt(nil, int64(g), 10)
			value, rev, err := w.Get(context.Background(), key)
			n, _ := strconv.Atoi(string(value))
			for err == nil {
				n++
				var b checkpoint.Batch
				b.Expect(key, rev)
				b.Put(key, strconv.AppendInt(nil, int64(n), 10))
				b.Put(append([]byte("twin"), key...), strconv.AppendInt(nil, int64(n), 10))
				if rev, err = w.Commit(context.Background(), &b); err == nil {
					_, err = os.Stdout.Write(fmt.Appendf(nil, "%d %d\n", g, n)) // one write: lines stay whole
				}
			}
			fmt.Fprintln(os.Stderr, err)
		})
	}
	wg.Wait()
	return nil
}

func TestKilledAtAnyMomentNothingAcknowledgedIsLost(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	dir := filepath.Join(t.TempDir(), "store")
	rounds, total := 8, 0
	for range rounds {
		acked := killChild(t, dir, rng.IntN(300)+1)
		w, err := checkpoint.OpenWAL(dir, checkpoint.WALOptions{ID: testID})
		if err != nil {
			t.Fatal(err)
		}
		for g, n := range acked {
			value, _, err := w.Get(t.Context(), []byte(strconv.Itoa(g)))
			twin, _, err2 := w.Get(t.Context(), []byte("twin"+strconv.Itoa(g)))
			got, _ := strconv.Atoi(string(value))
			if err != nil || err2 != nil || string(twin) != string(value) || n > 0 && (got < n || got > n+1) {
				t.Errorf("worker %d was told of %d, the store has %q and %q, errors %v, %v", g, n, value, twin, err, err2)
			}
			total += n
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d kills, counters add up to %d", rounds, total)
}

// killChild runs a child until it has acknowledged some commits, kills it, and returns the last count that each worker
// printed.
func killChild(t *testing.T, dir string, after int) (acked [childWorkers]int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	for i := 0; ; i++ {
		if i == after {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		line, err := lines.ReadString('\n') // what was printed before the kill counts too
		if err == io.EOF {
			break
		}
		var g, n int
		if _, scanErr := fmt.Sscan(line, &g, &n); err != nil || scanErr != nil || g >= childWorkers {
			t.Fatalf("line %q: %v, %v", line, err, scanErr)
		}
		acked[g] = n
	}
	_ = cmd.Wait() // It was killed.
	return acked
}
