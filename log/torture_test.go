package log

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"syscall"
	"testing"

	"github.com/braid-go/braid/internal/vfs"
)

// workload is what the torture tests do to a log: batches of several frames, rolls, a declared gap, retention, idle
// marks. It stops at the first error.
type workload struct {
	l     *Log
	acked map[int64]string // what a Sync has confirmed
	tried map[int64]string // what was written at all
}

func newWorkload(l *Log) *workload {
	return &workload{l: l, acked: map[int64]string{}, tried: map[int64]string{}}
}

// write writes frames of the given numbers of records in one batch, and syncs.
func (w *workload) write(gap int64, frames ...int) error {
	b := NewBuilder(0)
	w.l.Begin(b)
	batch := map[int64]string{}
	for _, n := range frames {
		m := w.l.Meta(b)
		m.Base += gap
		gap = 0
		b.Begin(m)
		for i := range n {
			off := m.Base + int64(i)
			v := fmt.Sprintf("record %d of a workload", off)
			batch[off] = v
			if err := b.Append(off, []byte("k"), []byte(v), nil); err != nil {
				return err
			}
		}
		if err := b.End(); err != nil {
			return err
		}
	}
	for off, v := range batch {
		w.tried[off] = v
	}
	if err := w.l.Write(b); err != nil {
		if refused(err) {
			for off := range batch {
				delete(w.tried, off)
			}
		}
		return err
	}
	if err := w.l.Sync(); err != nil {
		return err
	}
	for off, v := range batch {
		w.acked[off] = v
	}
	return nil
}

// refused reports whether an error says that nothing has happened, and the log goes on.
func refused(err error) bool { return errors.Is(err, ErrNoSpace) || errors.Is(err, ErrNoDescriptors) }

// run does everything once.
func (w *workload) run() error {
	steps := []func() error{
		func() error { return w.write(0, 1) },
		w.l.Release,
		func() error { _, err := w.l.Retain(Retention{MaxBytes: 1, Finished: true}); return err }, // all of it goes
		func() error { return w.write(0, 1) },
		func() error { return w.write(0, 3, 2) },
		func() error { return w.write(5, 2, 1) },
		w.l.Mark,
		func() error { return w.write(0, 8, 8, 8) },
		func() error { return w.write(0, 8, 8, 8) }, // rolls
		w.l.Release,
		func() error { return w.write(0, 2) },
		func() error { _, err := w.l.Retain(Retention{MaxBytes: 3000}); return err },
		func() error { return w.write(0, 4, 4) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func tortureConfig(fsys vfs.FS) Config {
	return Config{FS: fsys, Dir: "log", SegmentBytes: 2 << 10, IndexBytes: 256}
}

// covered reports whether one of the errors names an offset as lost.
func covered(problems []error, off int64) bool {
	for _, p := range problems {
		var c *CorruptError
		var m *MissingDataError
		switch {
		case errors.As(p, &c):
			if c.From <= off && off < c.Next {
				return true
			}
		case errors.As(p, &m):
			if m.From <= off && off < m.Next {
				return true
			}
		}
	}
	return false
}

// check compares a recovered log with what was acknowledged and written. Nothing is altered; what was acknowledged
// is there, or, where damage is allowed, a typed error names it.
func (w *workload) check(t *testing.T, l *Log, what string, damaged bool) {
	t.Helper()
	got, problems := contents(t, l)
	if !damaged && len(problems) > 0 {
		t.Fatalf("%s: %v", what, problems)
	}
	for off, v := range got {
		if v != w.tried[off] {
			t.Fatalf("%s: offset %d holds %q, written was %q", what, off, v, w.tried[off])
		}
	}
	for off, v := range w.acked {
		if off >= l.Start() && got[off] != v && !(damaged && covered(problems, off)) {
			t.Fatalf("%s: offset %d was acknowledged and is gone; start %d, end %d, %v", what, off, l.Start(), l.End(), problems)
		}
		if off >= l.End() {
			t.Fatalf("%s: offset %d was acknowledged, and would be given out again", what, off)
		}
	}
}

// goOn writes to a recovered log, closes it and reads it again.
func (w *workload) goOn(t *testing.T, cfg Config, l *Log, what string, damaged bool) {
	t.Helper()
	w.check(t, l, what, damaged)
	after := &workload{l: l, acked: w.acked, tried: w.tried}
	if err := after.write(0, 2, 1); err != nil {
		t.Fatalf("%s: writing after recovery: %v", what, err)
	}
	if err := l.Close(); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	l, report, err := Open(cfg, &testBirth, Proof{})
	if err != nil {
		t.Fatalf("%s: opening again: %v", what, err)
	}
	if report.Recovered {
		t.Fatalf("%s: opened uncleanly after a clean close: %+v", what, report)
	}
	after.check(t, l, what+", opened again", damaged)
	l.Close()
}

// clone copies the maps, so that a case can go on writing.
func (w *workload) clone() *workload {
	c := newWorkload(nil)
	for off, v := range w.acked {
		c.acked[off] = v
	}
	for off, v := range w.tried {
		c.tried[off] = v
	}
	return c
}

// built returns the bytes of every file of a log after a workload, and the workload.
func built(t testing.TB, closed bool) (map[string][]byte, *workload) {
	t.Helper()
	mem := vfs.NewMem()
	cfg := tortureConfig(mem)
	w := newWorkload(create(t, cfg))
	if err := w.run(); err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	if closed {
		if err := w.l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := mem.List("log")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := vfs.ReadFile(mem, "log/"+e.Name(), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = b
	}
	return files, w
}

// place makes a log directory of files.
func place(t testing.TB, files map[string][]byte) vfs.FS {
	t.Helper()
	mem := vfs.NewVolatile()
	if err := mem.Mkdir("log"); err != nil {
		t.Fatal(err)
	}
	for name, b := range files {
		f, err := mem.Create("log/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(b, 0); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	return mem
}

// activeName is the segment that the manifest lists last.
func activeName(t testing.TB, files map[string][]byte) string {
	t.Helper()
	m, err := decodeManifest(files[manifestName])
	if err != nil {
		t.Fatal(err)
	}
	last := m.segments[len(m.segments)-1]
	return segmentName(last.base, last.unique)
}

// The active segment of a log that was not closed, torn at every byte in three ways: what was acknowledged and lies before is
// there, what an error names is named, and the log goes on.
func TestEveryTornWriteIsRecovered(t *testing.T) {
	files, w := built(t, false)
	active := activeName(t, files)
	whole := files[active]
	rng := rand.New(rand.NewPCG(1, 2))
	cases := 0
	for at := range len(whole) + 1 {
		for _, kind := range []string{"cut", "zeros", "garbage"} {
			torn := append([]byte{}, whole...)
			switch kind {
			case "cut":
				torn = torn[:at]
			case "zeros":
				clear(torn[at:])
			case "garbage":
				for i := at; i < len(torn); i++ {
					torn[i] = byte(rng.Uint32())
				}
			}
			files[active] = torn
			fsys := place(t, files)
			cfg := tortureConfig(fsys)
			what := fmt.Sprintf("%s at %d of %d", kind, at, len(whole))
			l, _, err := Open(cfg, &testBirth, Proof{})
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			// The last group commit, which nothing later proves, may be lost without an error; nothing else.
			mine := w.clone()
			forgiveLast(mine, whole, at)
			mine.goOn(t, cfg, l, what, true)
			cases++
		}
	}
	t.Logf("%d torn writes", cases)
}

// forgiveLast takes the records of the last batch out of what must be there, if the tear is in it.
func forgiveLast(w *workload, whole []byte, at int) {
	var frames []FrameHeader
	for pos := segmentHeaderSize; pos < len(whole); {
		h, err := ParseFrameHeader(whole[pos:])
		if err != nil {
			break
		}
		frames = append(frames, h)
		pos += h.Size()
	}
	last := frames[len(frames)-1]
	for off := last.DurableThrough; off < last.End(); off++ {
		delete(w.acked, off)
	}
	_ = at
}

// Every bit of every file of a cleanly closed log, flipped one at a time: never a panic, never altered data, always reported.
func TestEveryFlippedBitIsReported(t *testing.T) {
	files, w := built(t, true)
	flips := 0
	for name, whole := range files {
		for bit := range len(whole) * 8 {
			bad := append([]byte{}, whole...)
			bad[bit/8] ^= 1 << (bit % 8)
			files[name] = bad
			what := fmt.Sprintf("bit %d of byte %d of %s", bit%8, bit/8, name)
			flipped(t, w, tortureConfig(place(t, files)), what)
			flips++
		}
		files[name] = whole
	}
	t.Logf("%d bits flipped", flips)
}

func flipped(t *testing.T, w *workload, cfg Config, what string) {
	t.Helper()
	ro, roReport, err := OpenReadOnly(cfg, &testBirth, ReadOnlyOptions{})
	if err != nil {
		if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) && !errors.Is(err, ErrMissingData) {
			t.Fatalf("%s: read-only: %v", what, err)
		}
	} else {
		verified, err := ro.Verify(t.Context(), nil)
		if err != nil {
			t.Fatalf("%s: verify: %v", what, err)
		}
		_, problems := contents(t, ro)
		if isIndex := len(what) > 4 && what[len(what)-4:] == indexSuffix; !isIndex && len(verified.Problems)+len(problems)+len(roReport.Problems) == 0 {
			t.Fatalf("%s: nobody noticed", what)
		}
		w.check(t, ro, what+", read-only", true)
		ro.Close()
	}
	l, _, err := Open(cfg, &testBirth, Proof{})
	if err != nil {
		if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
			t.Fatalf("%s: %v", what, err)
		}
		return
	}
	w.clone().goOn(t, cfg, l, what, true)
}

// The k-th operation fails, once or from then on, before or after it has taken effect, for every k; then the process dies, and the
// power too.
func TestAFaultAtEveryOperation(t *testing.T) {
	for _, tc := range []struct {
		name string
		make func(k int64) *vfs.Trigger
	}{
		{"once", func(k int64) *vfs.Trigger { return vfs.FailAt(k, syscall.EIO, nil) }},
		{"from then on", func(k int64) *vfs.Trigger { return vfs.FailFrom(k, syscall.EIO, nil) }},
		{"once, after it took effect", func(k int64) *vfs.Trigger { return vfs.FailAt(k, syscall.EIO, nil).After() }},
		{"a short write", func(k int64) *vfs.Trigger {
			return vfs.FailAt(k, syscall.EIO, vfs.OpIs(vfs.OpWrite)).Short(70)
		}},
		{"a sync that loses its pages", func(k int64) *vfs.Trigger {
			return vfs.FailAt(k, syscall.EIO, vfs.OpIs(vfs.OpSync, vfs.OpDatasync)).Dropping()
		}},
		{"a full disk", func(k int64) *vfs.Trigger {
			return vfs.FailAt(k, syscall.ENOSPC, vfs.OpIs(vfs.OpWrite, vfs.OpReserve)).Short(90)
		}},
		{"no descriptors", func(k int64) *vfs.Trigger {
			return vfs.FailAt(k, syscall.EMFILE, vfs.OpIs(vfs.OpCreate, vfs.OpOpen, vfs.OpOpenReadWrite))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for k := int64(1); ; k++ {
				trigger := tc.make(k)
				mem := vfs.NewMem()
				l, err := Create(tortureConfig(vfs.NewFault(mem, trigger)), testBirth, 0)
				if err == nil {
					w := newWorkload(l)
					for range 3 { // a full disk refuses one batch; the others go on
						if err = w.run(); !refused(err) {
							break
						}
					}
					_ = l.Close()
					what := fmt.Sprintf("operation %d", k)
					afterFault(t, w, mem.CrashClone(vfs.CrashOptions{}), what+", then the power fails")
					afterFault(t, w, mem, what)
				}
				if !trigger.Fired() {
					t.Logf("%d operations", k-1)
					return
				}
			}
		})
	}
}

func afterFault(t *testing.T, w *workload, fsys vfs.FS, what string) {
	t.Helper()
	cfg := tortureConfig(fsys)
	l, _, err := Open(cfg, &testBirth, Proof{})
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	w.clone().goOn(t, cfg, l, what, false)
}

// The k-th operation of recovery fails, or the power fails at it, for every k; recovery is started again.
func TestRecoveryIsCutAtEveryOperation(t *testing.T) {
	files, w := built(t, false)
	active := activeName(t, files)
	files[active] = files[active][:len(files[active])-9] // the last frame is torn
	forgiveLast(w, files[active], 0)
	for k := int64(1); ; k++ {
		mem := vfs.NewMem()
		copyFiles(t, mem, files)
		trigger := vfs.FailAt(k, syscall.EIO, nil)
		var cut *vfs.Mem
		spy := vfs.InjectorFunc(func(op vfs.Op) vfs.Outcome {
			out := trigger.Inject(op)
			if out.Err != nil {
				cut = mem.CrashClone(vfs.RandomCrash(rand.New(rand.NewPCG(uint64(k), 7))))
			}
			return out
		})
		l, _, err := Open(tortureConfig(vfs.NewFault(mem, spy)), &testBirth, Proof{})
		if err == nil {
			l.Close()
		}
		what := fmt.Sprintf("recovery cut at operation %d", k)
		afterCut(t, w, mem, what)
		if cut != nil {
			afterCut(t, w, cut, what+", then the power fails")
		}
		if !trigger.Fired() {
			t.Logf("%d operations", k-1)
			return
		}
	}
}

func afterCut(t *testing.T, w *workload, fsys vfs.FS, what string) {
	t.Helper()
	cfg := tortureConfig(fsys)
	l, _, err := Open(cfg, &testBirth, Proof{})
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	w.clone().goOn(t, cfg, l, what, true)
}

func copyFiles(t *testing.T, mem *vfs.Mem, files map[string][]byte) {
	t.Helper()
	if err := mem.Mkdir("log"); err != nil {
		t.Fatal(err)
	}
	for name, b := range files {
		f, err := mem.Create("log/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(b, 0); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(mem.SyncDir("log"), mem.SyncDir(".")); err != nil {
		t.Fatal(err)
	}
}

// The power fails at every operation of the workload, with a random part of what was not synced lost, torn or replaced, many times over.
func TestPowerCutsAtEveryOperation(t *testing.T) {
	seed := uint64(1)
	if s := os.Getenv("BRAID_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	const rounds = 20
	cuts := 0
	mem := vfs.NewMem()
	var w *workload
	type cut struct {
		mem  *vfs.Mem
		w    *workload
		what string
	}
	var all []cut
	op := 0
	spy := vfs.InjectorFunc(func(o vfs.Op) vfs.Outcome {
		op++
		if w == nil || o.Kind == vfs.OpRead || o.Kind == vfs.OpSize || o.Kind == vfs.OpStat {
			return vfs.Outcome{}
		}
		for round := range rounds {
			opts := vfs.CrashOptions{}
			if round > 0 {
				opts = vfs.RandomCrash(rand.New(rand.NewPCG(seed, uint64(op*rounds+round))))
			}
			all = append(all, cut{mem.CrashClone(opts), w.clone(), fmt.Sprintf("power cut before operation %d (%v), round %d; again with BRAID_SEED=%d", op, o.Kind, round, seed)})
		}
		return vfs.Outcome{}
	})
	l, err := Create(tortureConfig(vfs.NewFault(mem, spy)), testBirth, 0)
	if err != nil {
		t.Fatal(err)
	}
	w = newWorkload(l)
	if err := w.run(); err != nil {
		t.Fatal(err)
	}
	l.Close()
	for _, c := range all {
		cfg := tortureConfig(c.mem)
		l, report, err := Open(cfg, &testBirth, Proof{})
		if err != nil {
			t.Fatalf("%s: %v", c.what, err)
		}
		if len(report.Problems) > 0 {
			t.Fatalf("%s: taken for damage: %v", c.what, report.Problems)
		}
		c.w.goOn(t, cfg, l, c.what, false)
		cuts++
	}
	t.Logf("%d power cuts, seed %d", cuts, seed)
}

// A failed sync may leave its pages readable and clean, and not on disk. Recovery must not believe them.
func TestWhatNoSyncHasConfirmedIsWrittenAnew(t *testing.T) {
	mem := vfs.NewMem()
	trigger := vfs.FailAt(1, syscall.EIO, vfs.OpIs(vfs.OpDatasync)).Dropping()
	armed := false
	cfg := tortureConfig(vfs.NewFault(mem, vfs.InjectorFunc(func(op vfs.Op) vfs.Outcome {
		if armed {
			return trigger.Inject(op)
		}
		return vfs.Outcome{}
	})))
	l := create(t, cfg)
	mustPut(t, l, "synced")
	armed = true
	if err := put(l, true, "in the page cache only"); !errors.Is(err, ErrFailed) {
		t.Fatalf("error %v, want ErrFailed", err)
	}
	if err := l.Sync(); !errors.Is(err, ErrFailed) || trigger.Count() != 1 {
		t.Fatalf("a second sync: %v, %d syncs seen; a failed sync is never tried again", err, trigger.Count())
	}
	l.Close()
	plain := tortureConfig(mem)
	l, report := reopen(t, plain)
	if got, _ := contents(t, l); len(got) != 2 || report.Rewritten != 1 {
		t.Fatalf("%d records, %+v; want both, one of them written anew", len(got), report)
	}
	// It has been shown: from now on no power cut may take it back.
	after := tortureConfig(mem.CrashClone(vfs.CrashOptions{}))
	again, _ := reopen(t, after)
	if got, _ := contents(t, again); len(got) != 2 {
		t.Errorf("%d records after a power cut, want 2", len(got))
	}
	again.Close()
	l.Close()
}

// A reader inside a segment that retention removes is told where to go on.
func TestAReaderBehindRetentionIsToldWhereToGoOn(t *testing.T) {
	l := create(t, tortureConfig(vfs.NewMem()))
	defer l.Close()
	w := newWorkload(l)
	for range 40 {
		if err := w.write(0, 4); err != nil {
			t.Fatal(err)
		}
	}
	r := l.NewReader(0, ReaderOptions{})
	defer r.Close()
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	removed, err := l.Retain(Retention{MaxBytes: 4000})
	if err != nil || len(removed) == 0 {
		t.Fatalf("%d segments removed, %v", len(removed), err)
	}
	var oor *OffsetOutOfRangeError
	if _, err := r.Next(); !errors.As(err, &oor) || oor.Next != l.Start() || oor.Offset != 4 {
		t.Fatalf("error %v, want out of range with %d as next", err, l.Start())
	}
	r.SeekTo(oor.Next)
	for {
		if _, err := r.Next(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}
