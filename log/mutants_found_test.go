package log

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/braid-go/braid/internal/vfs"
)

// Whichever write or sync fails, what is on disk is not known from then on: nothing is written, and nothing synced, until the log is opened again.
func TestALogOfWhichAWriteOrSyncHasFailedTakesNoMore(t *testing.T) {
	for _, kind := range []vfs.OpKind{vfs.OpWrite, vfs.OpDatasync} {
		for k := int64(1); ; k++ {
			failing := vfs.FailAt(k, syscall.EIO, vfs.OpIs(kind)).Short(70)
			operations, armed := 0, false
			l := create(t, tortureConfig(vfs.NewFault(vfs.NewMem(), vfs.InjectorFunc(func(op vfs.Op) vfs.Outcome {
				if !armed {
					return vfs.Outcome{}
				}
				operations++
				return failing.Inject(op)
			}))))
			armed = true
			err := newWorkload(l).run()
			if !failing.Fired() {
				if k < 5 {
					t.Errorf("only %d operations of kind %v", k-1, kind)
				}
				break
			}
			if err == nil { // of an index, without which everything goes on
				continue
			}
			before := operations
			for what, err := range map[string]error{"the operation": err, "Write": put(l, false, "more"), "Sync": l.Sync(), "Mark": l.Mark()} {
				if !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.EIO) {
					t.Errorf("%v %d has failed, then %s: %v, want ErrFailed with the cause", kind, k, what, err)
				}
			}
			if operations != before {
				t.Errorf("%v %d has failed, and %d operations followed", kind, k, operations-before)
			}
		}
	}
}

// After a crash nothing but a later frame may say that a damaged one had been durable: then that is damage, with its range, and what comes after it stays readable. Of the last
// one nobody knows, and it is set aside.
func TestALaterFrameTellsDamageFromATornWrite(t *testing.T) {
	const frames = 5
	for damaged := range frames {
		mem := vfs.NewMem()
		l := create(t, testConfig(mem))
		want := map[int64]string{}
		begins := make([]int64, frames)
		for i := range frames {
			begins[i] = l.Size()
			want[int64(i)] = fmt.Sprint("value ", i)
			mustPut(t, l, want[int64(i)])
		}
		crashed := mem.CrashClone(vfs.CrashOptions{})
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		flip(t, crashed, "log/"+l.Segments()[0].Name, begins[damaged]+FrameHeaderSize)
		l, report := reopen(t, testConfig(crashed))
		delete(want, int64(damaged))
		var reported []string
		for _, p := range report.Problems {
			var c *CorruptError
			if errors.As(p, &c) {
				reported = append(reported, fmt.Sprintf("%d to %d, %d bytes at %d", c.From, c.Next, c.Len, c.Pos))
			}
		}
		var wantReported []string
		wantTorn := 1
		if damaged < frames-1 {
			wantReported, wantTorn = []string{fmt.Sprintf("%d to %d, %d bytes at %d", damaged, damaged+1, begins[damaged+1]-begins[damaged], begins[damaged])}, 0
		}
		if diff := cmp.Diff(wantReported, reported); diff != "" || len(report.Torn) != wantTorn {
			t.Errorf("frame %d: %s, set aside: %+v", damaged, diff, report.Torn)
		}
		got, _ := contents(t, l)
		if diff := cmp.Diff(want, got); diff != "" || l.End() != int64(frames-wantTorn) {
			t.Errorf("frame %d: %s, the next offset is %d", damaged, diff, l.End())
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A batch that a full disk has taken in part is refused, so none of its frames may be found by a recovery, although some of them are whole.
func TestWhatAFullDiskHasTakenInPartIsNotFoundAgain(t *testing.T) {
	for short := 0; short <= 400; short += 16 {
		mem := vfs.NewMem()
		armed := false
		full := vfs.FailAt(1, syscall.ENOSPC, vfs.OpIs(vfs.OpWrite)).Short(short)
		l := create(t, testConfig(vfs.NewFault(mem, vfs.InjectorFunc(func(op vfs.Op) vfs.Outcome {
			if armed {
				return full.Inject(op)
			}
			return vfs.Outcome{}
		}))))
		w := newWorkload(l)
		if err := w.write(0, 1); err != nil {
			t.Fatal(err)
		}
		armed = true
		if err := w.write(0, 1, 1, 1); !errors.Is(err, ErrNoSpace) {
			t.Fatalf("after %d bytes: %v, want ErrNoSpace", short, err)
		}
		killed, _ := reopen(t, testConfig(mem.CrashClone(vfs.CrashOptions{Rand: rand.New(rand.NewPCG(1, 1)), Keep: 1})))
		w.check(t, killed, fmt.Sprintf("killed after %d bytes", short), false)
		if err := killed.Close(); err != nil {
			t.Fatal(err)
		}
		if err := w.write(0, 1); err != nil { // there is room again
			t.Fatal(err)
		}
		w.check(t, l, fmt.Sprintf("gone on after %d bytes", short), false)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// In the weaker modes frames are written behind others that are not synced, and do not say that they are: if a power cut leaves the later ones only, nothing that was durable is
// missing.
func TestAFrameSaysOnlyOfWhatIsDurableThatItIs(t *testing.T) {
	for _, mode := range []Mode{ModeInterval, ModeOS} {
		cfg := testConfig(vfs.NewMem())
		cfg.Mode = mode
		l := create(t, cfg)
		synced := int64(0)
		for i := range int64(6) {
			if err := put(l, false, "x"); err != nil {
				t.Fatal(err)
			}
			frames := 0
			for f, err := range l.Frames(t.Context()) {
				if err != nil || f.Problem != nil {
					t.Fatal(err, f.Problem)
				}
				if frames++; f.Header.Base == i && f.Header.DurableThrough != synced {
					t.Errorf("mode %d: frame %d says that all is durable up to %d, but that is %d", mode, i, f.Header.DurableThrough, synced)
				}
			}
			if frames != int(i)+1 {
				t.Fatalf("%d frames", frames)
			}
			if i == 3 {
				if err := l.Sync(); err != nil {
					t.Fatal(err)
				}
				synced = i + 1
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A frame that is missing without a trace, because those behind it have taken its place, is missed all the same.
func TestAReaderMissesAFrameThatLeavesNoHole(t *testing.T) {
	cfg := tortureConfig(vfs.NewMem())
	l := create(t, cfg)
	var begins []int64
	for len(l.Segments()) == 1 {
		begins = append(begins, l.Size())
		mustPut(t, l, "a value that takes some space")
	}
	begins = begins[:len(begins)-1] // the last one is in the second segment
	s := l.Segments()[0]
	whole, err := vfs.ReadFile(cfg.FS, "log/"+s.Name, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for i, at := range append(begins, s.Bytes)[:len(begins)-1] {
		rest := whole[begins[i+1]:s.Bytes]
		cut := append(append(slices.Clone(whole[:at]), rest...), make([]byte, begins[i+1]-at)...)
		f, err := cfg.FS.OpenReadWrite("log/" + s.Name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(cut, 0); err != nil {
			t.Fatal(err)
		}
		f.Close()
		got, problems := contents(t, l)
		if _, there := got[int64(i)]; there || !covered(problems, int64(i)) {
			t.Errorf("frame %d: %v", i, problems)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// flip changes a byte of a file.
func flip(t *testing.T, fsys vfs.FS, name string, at int64) {
	t.Helper()
	f, err := fsys.OpenReadWrite(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}
