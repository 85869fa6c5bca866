package log

import (
	"errors"
	"fmt"
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
