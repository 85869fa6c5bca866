package log

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/braid-go/braid/internal/damage"
	"github.com/braid-go/braid/internal/vfs"
)

// corpus is a log on disk with one of everything: several segments, some with an index, some with a declared gap, retention behind it; and, if it was opened after an
// unclean stop, a torn tail.
type corpus struct {
	files  damage.Files
	w      *workload // what was acknowledged, and what was written
	closed bool
}

// corpora are a log that was closed cleanly, one that was not, and one whose torn tail was set aside before it was closed.
func corpora(t testing.TB) []*corpus {
	t.Helper()
	var all []*corpus
	for _, closed := range []bool{true, false} {
		mem := vfs.NewMem()
		l := create(t, tortureConfig(mem))
		w := newWorkload(l)
		if err := w.run(); err != nil {
			t.Fatal(err)
		}
		for range 2 { // more segments, with gaps in front of some
			if err := errors.Join(w.write(0, 8, 8), w.write(0, 8, 8, 8), w.write(3, 2)); err != nil {
				t.Fatal(err)
			}
		}
		if closed {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, &corpus{read(t, mem), w, closed})
		if n := len(l.segments); n < 3 {
			t.Fatalf("%d segments", n)
		}
	}
	open := all[1]
	active := activeName(t, open.files)
	fsys := place(t, open.files.With(active, damage.Flip(open.files[active], (len(open.files[active])-1)*8))) // zeros made ahead: garbage in them
	l, report, err := Open(tortureConfig(fsys), &testBirth, Proof{})
	if err != nil || len(report.Torn) != 1 {
		t.Fatalf("%v, %+v", err, report)
	}
	w := open.w.clone()
	w.l = l
	if err := errors.Join(w.write(0, 2, 3), l.Close()); err != nil {
		t.Fatal(err)
	}
	return append(all, &corpus{read(t, fsys), w, true})
}

// FuzzDamagedLog edits the files of a log, up to six times anywhere, and opens it for reading, for writing, and again. Neither panics; errors are
// typed; no record is altered; what was acknowledged is read or named by a typed error, which [Log.Verify] names too. Exempt is a suffix of a log that
// was not closed, or has lost its manifest: nothing proves where it ended.
func FuzzDamagedLog(f *testing.F) {
	all := corpora(f)
	for i := range all {
		for kind := byte(0); kind <= damage.EditReplace; kind++ {
			for file := range len(all[i].files) {
				f.Add(byte(i), damage.Bytes(damage.Edit{Kind: kind, File: byte(file), Pos: 100 + 50*int(kind), Len: 200, Arg: kind + 1}))
			}
		}
		f.Add(byte(i), damage.Bytes(
			damage.Edit{Kind: damage.EditFlip, File: 1, Pos: 300}, damage.Edit{Kind: damage.EditZero, File: 2, Pos: 500, Len: 300},
			damage.Edit{Kind: damage.EditCopy, File: 3, Pos: 200, Len: 91, Arg: 2}))
	}
	f.Fuzz(func(t *testing.T, which byte, script []byte) {
		all[int(which)%len(all)].check(t, damage.Parse(script))
	})
}

// check damages the log and looks what it makes of that.
func (c *corpus) check(t *testing.T, edits []damage.Edit) {
	t.Helper()
	files, done := c.files.Apply(edits)
	what := strings.Join(done, "; ")
	proven := c.closed && slices.Equal(files[manifestName], c.files[manifestName])
	fsys := place(t, files)
	cfg := tortureConfig(fsys)
	l, _, err := OpenReadOnly(cfg, &testBirth, ReadOnlyOptions{})
	if err != nil {
		checkTyped(t, what+": read-only", err)
	} else {
		c.judge(t, what+": read-only", l, proven, edits)
		l.Close()
	}
	l, report, err := Open(cfg, &testBirth, Proof{})
	if err != nil {
		checkTyped(t, what, err)
		return
	}
	for _, tail := range report.Torn {
		if _, err := fsys.Stat("log/" + tail.File); err != nil {
			t.Errorf("%s: the torn tail: %v", what, err)
		}
	}
	w := c.judge(t, what, l, proven, edits)
	w.goOn(t, cfg, l, what, true)
}

func checkTyped(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrMissingData) && !errors.Is(err, ErrVersion) {
		t.Errorf("%s: error %v, want a typed one", what, err)
	}
}

// judge compares a damaged log with what was acknowledged, and returns a workload without what may be lost.
func (c *corpus) judge(t *testing.T, what string, l *Log, proven bool, edits []damage.Edit) *workload {
	t.Helper()
	w := c.w.clone()
	end := l.VisibleEnd()
	for off := range w.acked {
		if !proven && off >= end {
			delete(w.acked, off)
		}
	}
	w.check(t, l, what, true)
	report, err := l.Verify(t.Context(), nil)
	if err != nil {
		t.Errorf("%s: verify: %v", what, err)
		return w
	}
	for _, e := range edits {
		if e.Kind == damage.EditDelete || e.Kind == damage.EditInsert || e.Kind == damage.EditCopy {
			return w // Verify finds frames that have moved, and readers, who look where the index says, may not
		}
	}
	got, _ := contents(t, l)
	for off, v := range w.acked {
		if off >= l.Start() && got[off] != v && !covered(report.Problems, off) {
			t.Errorf("%s: offset %d is lost, and Verify reports %v", what, off, report.Problems)
		}
	}
	return w
}

// Every bit of a log that was not closed, and of one with a torn tail set aside, flipped one at a time.
func TestEveryFlippedBitOfAnUncleanLogIsSurvived(t *testing.T) {
	flips := 0
	for i, c := range corpora(t)[1:] {
		for at, name := range c.files.Names() {
			size := len(c.files[name])
			if i == 0 && strings.HasSuffix(name, segmentSuffix) {
				size = min(size, contentSize(c.files[name])+8) // of the zeros made ahead a few are enough
			}
			for bit := 0; bit < size*8; bit += damage.Step(*long, 23) {
				c.check(t, []damage.Edit{{Kind: damage.EditFlip, File: byte(at), Pos: bit / 8, Arg: byte(bit % 8)}})
				flips++
			}
		}
	}
	t.Logf("bits flipped: %d", flips)
}

// contentSize is where the last byte is that is not zero.
func contentSize(b []byte) int {
	return len(strings.TrimRight(string(b), "\x00"))
}

// A log of which every pair of files has been mixed up, or one is gone, is what its files say of themselves.
func TestFilesOfALogMixedUpAreNotTakenForOneAnother(t *testing.T) {
	for i, c := range corpora(t) {
		for from := range c.files.Names() {
			for arg := range len(c.files) {
				t.Run(fmt.Sprintf("log %d, file %d, %d", i, from, arg), func(t *testing.T) {
					kind := byte(damage.EditReplace)
					if arg == 0 {
						kind = damage.EditRemove
					}
					c.check(t, []damage.Edit{{Kind: kind, File: byte(from), Arg: byte(arg)}})
				})
			}
		}
	}
}
