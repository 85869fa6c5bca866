package log

import (
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/braid-go/braid/internal/vfs"
)

// nextValues returns the values of the next frame.
func nextValues(t testing.TB, r *Reader) (values []string) {
	t.Helper()
	f, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	var rec Record
	for {
		more, err := f.Next(&rec)
		if err != nil {
			t.Fatal(err)
		}
		if !more {
			return values
		}
		values = append(values, string(rec.Value))
	}
}

// counting counts reads of segments.
func counting(reads *atomic.Int64) vfs.InjectorFunc {
	return func(op vfs.Op) vfs.Outcome {
		if op.Kind == vfs.OpRead {
			reads.Add(1)
		}
		return vfs.Outcome{}
	}
}

func TestWhoFollowsHasSmallFramesFromMemory(t *testing.T) {
	for _, mode := range []Mode{ModeFsync, ModeOS} {
		var reads atomic.Int64
		cfg := testConfig(vfs.NewFault(vfs.NewMem(), counting(&reads)))
		cfg.Mode, cfg.SegmentBytes = mode, 1<<20
		l := create(t, cfg)
		mustPut(t, l, "before anybody follows")
		r := l.NewReader(0, ReaderOptions{Reuse: true})
		if nextValues(t, r); reads.Load() == 0 {
			t.Fatal("nothing was read from the file although nobody followed: the test does not count")
		}
		cancel := l.Notify(func() {})
		before := reads.Load()
		for i := range 1000 {
			mustPut(t, l, fmt.Sprint("value ", i))
			if got := nextValues(t, r); len(got) != 1 || got[0] != fmt.Sprint("value ", i) {
				t.Fatalf("frame %d holds %q", i, got)
			}
		}
		if n := reads.Load() - before; n > 0 {
			t.Errorf("mode %d: %d reads of 1,000 frames", mode, n)
		}
		cancel()
		mustPut(t, l, "unnoticed")
		if nextValues(t, r); reads.Load() == before {
			t.Errorf("mode %d: something is kept although nobody follows any more", mode)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOnlyWhatWasWrittenThereIsGiven(t *testing.T) {
	var r recent
	has := func(segment uint32, pos int64, want string) bool {
		t.Helper()
		b := make([]byte, len(want))
		if !r.readAt(segment, b, pos) {
			return false
		}
		if string(b) != want {
			t.Errorf("segment %d at %d: %q, want %q", segment, pos, b, want)
		}
		return true
	}
	r.wrote(1, 100, []byte("abc"))
	r.wrote(1, 103, []byte("def"))
	if !has(1, 100, "abcdef") || !has(1, 102, "cd") || !has(1, 103, "def") {
		t.Error("what was written is not there")
	}
	if has(1, 99, " a") || has(1, 105, "f ") || has(1, 106, " ") || has(2, 100, "abc") {
		t.Error("there is more than was written")
	}
	r.wrote(1, 110, []byte("jkl")) // nobody followed when what is between was written
	if !has(1, 110, "jkl") || has(1, 103, "def") || has(1, 106, "ghi") {
		t.Error("after a gap: not what was written last, and that alone")
	}
	r.wrote(2, 113, []byte("mno"))
	if !has(2, 113, "mno") || has(1, 113, "mno") || has(1, 110, "jkl") || has(2, 110, "jkl") {
		t.Error("in the next segment: not what was written last, and that alone")
	}
	r.wrote(2, 116, make([]byte, recentBytes+1))
	if has(2, 113, "mno") {
		t.Error("something is kept in front of what is too large to be kept")
	}
}

func TestWhatIsKeptOfRecentWritesIsBoundedAndLetGo(t *testing.T) {
	l := create(t, testConfig(vfs.NewMem()))
	l.Notify(func() {})
	for i := range 300 {
		mustPut(t, l, strings.Repeat("x", i*40))
		if got := cap(l.recent.data); got > recentBytes {
			t.Fatalf("%d bytes are kept", got)
		}
	}
	mustPut(t, l, "small")
	if l.recent.data == nil {
		t.Fatal("nothing is kept: the test shows nothing")
	}
	if err := l.Release(); err != nil || l.recent.data != nil {
		t.Errorf("after Release: %d bytes, %v", cap(l.recent.data), err)
	}
}

// Readers that are now in front and now behind, with segments that end and writes that are kept and that are not, also such as have failed.
func TestReadingRecentWritesIsReadingTheFile(t *testing.T) {
	for _, mode := range []Mode{ModeFsync, ModeOS} {
		writes := 0
		full := vfs.InjectorFunc(func(op vfs.Op) vfs.Outcome {
			if op.Kind != vfs.OpWrite {
				return vfs.Outcome{}
			}
			if writes++; writes%97 == 0 {
				return vfs.Outcome{Err: syscall.ENOSPC, Effect: vfs.EffectPart, Bytes: int(min(10, op.Length))}
			}
			return vfs.Outcome{}
		})
		cfg := testConfig(vfs.NewFault(vfs.NewMem(), full))
		cfg.Mode, cfg.SegmentBytes = mode, 20<<10
		l := create(t, cfg)
		random := rand.New(rand.NewPCG(1, uint64(mode)))
		var mu sync.Mutex
		var want []string
		woken := make([]chan struct{}, 3)
		var wg sync.WaitGroup
		const records = 3000
		for i := range woken {
			woken[i] = make(chan struct{}, 1)
			cancel := l.Notify(func() {
				select {
				case woken[i] <- struct{}{}:
				default:
				}
			})
			wg.Go(func() {
				defer cancel()
				r := l.NewReader(0, ReaderOptions{Reuse: i%2 == 0})
				defer r.Close()
				for n := 0; n < records; {
					f, err := r.Next()
					if err == io.EOF {
						<-woken[i]
						continue
					}
					if err != nil {
						t.Error(err)
						return
					}
					var rec Record
					for more, err := f.Next(&rec); more || err != nil; more, err = f.Next(&rec) {
						mu.Lock()
						if err != nil || string(rec.Value) != want[rec.Offset] {
							t.Errorf("offset %d holds %.20q, want %.20q, %v", rec.Offset, rec.Value, want[rec.Offset], err)
						}
						mu.Unlock()
						n++
					}
				}
			})
		}
		failed := 0
		for len(want) < records {
			var values []string
			for range min(1+random.IntN(4), records-len(want)) {
				values = append(values, fmt.Sprint(len(want)+len(values), strings.Repeat("x", random.IntN(60)*random.IntN(60))))
			}
			mu.Lock()
			want = append(want, values...)
			mu.Unlock()
			if err := put(l, false, values...); err != nil {
				failed++
				mu.Lock()
				want = want[:len(want)-len(values)]
				mu.Unlock()
			}
			if random.IntN(3) == 0 {
				if err := l.Sync(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := l.Sync(); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		if failed == 0 || len(l.Segments()) < 5 {
			t.Errorf("mode %d: %d writes failed, %d segments: the test shows little", mode, failed, len(l.Segments()))
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
