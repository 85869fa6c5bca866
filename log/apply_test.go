package log

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/braid-go/braid/internal/vfs"
)

// loggedPut is a put by way of a commit log: assigned, and kept in entries as the commit log would keep it.
type loggedPut struct {
	b     *Builder
	entry []byte
}

func assign(t testing.TB, l *Log, values ...string) loggedPut {
	t.Helper()
	b := NewBuilder(0)
	l.Begin(b)
	for i, v := range values {
		b.Begin(l.Meta(b))
		if err := errors.Join(b.Append(int64(i), []byte("key"), []byte(v), nil), b.End()); err != nil {
			t.Fatal(err)
		}
	}
	l.Assign(b)
	return loggedPut{b, bytes.Clone(b.Bytes())}
}

func (p loggedPut) apply(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Room(int64(len(p.b.Bytes()))); err != nil {
		t.Fatal(err)
	}
	if err := l.Apply(p.b.Bytes(), p.b.Frames()); err != nil {
		t.Fatal(err)
	}
}

func TestAppliedFramesAreVisibleAndFollowOneAnother(t *testing.T) {
	for _, mode := range []Mode{ModeFsync, ModeInterval, ModeOS} {
		cfg := testConfig(vfs.NewMem())
		cfg.Mode = mode
		l := create(t, cfg)
		mustPut(t, l, "direct")
		first, second := assign(t, l, "a", "b"), assign(t, l, "c")
		if got, _ := contents(t, l); len(got) != 1 {
			t.Errorf("assigned frames are visible: %v", got)
		}
		first.apply(t, l)
		second.apply(t, l)
		mustPut(t, l, "direct again")
		want := map[int64]string{0: "direct", 1: "a", 2: "b", 3: "c", 4: "direct again"}
		for range 2 {
			got, problems := contents(t, l)
			if diff := cmp.Diff(want, got); diff != "" || len(problems) > 0 {
				t.Fatal(diff, problems)
			}
			if l.DurableEnd() != 5 {
				t.Errorf("durable through %d, want 5", l.DurableEnd())
			}
			l.Close()
			var report *Report
			if l, report, _ = Open(cfg, &testBirth, Proof{Logged: [][]byte{first.entry, second.entry}}); !report.Clean() {
				t.Errorf("after a clean close: %+v", report)
			}
		}
		l.Close()
	}
}

// loggedWork is a random mix of both ways, with everything that may come between.
type loggedWork struct {
	t    *testing.T
	l    *Log
	rnd  *rand.Rand
	n    int
	log  []loggedPut // the live entries of the commit log
	wait []loggedPut // durable there, and not applied
	want map[int64]string
	may  map[int64]string // written, not synced
}

func (w *loggedWork) value() string {
	w.n++
	return fmt.Sprintf("value %d %s", w.n, strings.Repeat("x", w.rnd.IntN(500)))
}

func (w *loggedWork) applyAll() {
	for _, p := range w.wait {
		p.apply(w.t, w.l)
	}
	w.wait = nil
}

func (w *loggedWork) step() {
	switch k := w.rnd.IntN(11); {
	case k < 4:
		if len(w.may) > 0 { // what is logged comes behind what is durable
			w.sync()
		}
		values := []string{w.value(), w.value()}
		at := w.l.AssignedEnd()
		p := assign(w.t, w.l, values...)
		w.log, w.wait = append(w.log, p), append(w.wait, p)
		w.want[at], w.want[at+1] = values[0], values[1]
	case k < 6:
		w.applyAll()
	case k < 8:
		w.applyAll()
		at, v := w.l.AssignedEnd(), w.value()
		if err := put(w.l, false, v); err != nil {
			w.t.Fatal(err)
		}
		w.may[at] = v
		if w.rnd.IntN(3) > 0 {
			w.sync()
		}
	case k < 9:
		w.applyAll()
		w.sync()
		if w.rnd.IntN(2) == 0 {
			w.log = nil // a generation of the commit log is dropped
		}
	case k < 10: // as retention does, at any time
		w.l.gate.Lock()
		err := w.l.writeManifest(w.l.segments)
		w.l.gate.Unlock()
		if err != nil {
			w.t.Fatal(err)
		}
	default:
		w.applyAll()
		w.sync() // ModeFsync writes nothing without
		if err := w.l.Mark(); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *loggedWork) sync() {
	if err := w.l.Sync(); err != nil {
		w.t.Fatal(err)
	}
	maps.Copy(w.want, w.may)
	clear(w.may)
}

func (w *loggedWork) proof() Proof {
	var p Proof
	for _, put := range w.log {
		p.Logged = append(p.Logged, put.entry)
	}
	return p
}

// check wants all that is durable, and nothing that was not written.
func (w *loggedWork) check(cfg Config, proof Proof, what string) {
	w.t.Helper()
	l, report, err := Open(cfg, &testBirth, proof)
	if err != nil {
		w.t.Fatalf("%s: %v", what, err)
	}
	got, problems := contents(w.t, l)
	for off, v := range w.may {
		if got[off] == v {
			delete(got, off)
		}
	}
	if diff := cmp.Diff(w.want, got); diff != "" || len(problems)+len(report.Problems) > 0 {
		w.t.Fatalf("%s: %s %v %+v", what, diff, problems, report)
	}
	mustPut(w.t, l, "and goes on")
	if err := l.Close(); err != nil {
		w.t.Fatal(err)
	}
	again, report := reopen(w.t, cfg) // what was logged is in the segments now
	defer again.Close()
	if n := len(mapOf(contents(w.t, again))); n < len(w.want)+1 || !report.Clean() {
		w.t.Fatalf("%s: %d records the second time, want %d: %+v", what, n, len(w.want)+1, report)
	}
}

func mapOf(m map[int64]string, _ []error) map[int64]string { return m }

func loggedSeed(t *testing.T) uint64 {
	if s := os.Getenv("BRAID_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return seed
	}
	return rand.Uint64()
}

func TestPowerCutsLoseNothingThatIsInTheCommitLog(t *testing.T) {
	seed := loggedSeed(t)
	t.Logf("replay: BRAID_SEED=%d go test -run %s ./log", seed, t.Name())
	cuts := 0
	for round := range uint64(30) {
		rnd := rand.New(rand.NewPCG(seed, round))
		mem := vfs.NewMem()
		w := &loggedWork{t: t, l: create(t, testConfig(mem)), rnd: rnd, want: map[int64]string{}, may: map[int64]string{}}
		for range 30 {
			w.step()
			cfg := testConfig(mem.CrashClone(vfs.RandomCrash(rnd)))
			w.check(cfg, w.proof(), fmt.Sprintf("round %d, step %d", round, w.n))
			cuts++
		}
		// Killed, opened again, and then the power fails: what was in the page cache only is durable by now.
		l, _, err := Open(testConfig(mem), &testBirth, w.proof())
		if err != nil {
			t.Fatal(err)
		}
		if l.AssignedEnd() == 0 {
			t.Error("nothing was written")
		}
		w.check(testConfig(mem.CrashClone(vfs.CrashOptions{})), Proof{}, fmt.Sprintf("round %d, killed", round))
	}
	t.Logf("%d power cuts", cuts)
}

func TestApplyingLoggedFramesIsCutAtEveryOperation(t *testing.T) {
	mem := vfs.NewMem()
	w := &loggedWork{t: t, l: create(t, testConfig(mem)), rnd: rand.New(rand.NewPCG(1, 2)), want: map[int64]string{}, may: map[int64]string{}}
	for range 12 {
		w.step()
	}
	w.applyAll()
	for range 4 { // entries that the segment does not have
		at, v := w.l.AssignedEnd(), w.value()
		w.log = append(w.log, assign(t, w.l, v))
		w.want[at] = v
	}
	for k := int64(1); ; k++ {
		clone := mem.CrashClone(vfs.CrashOptions{})
		fault := vfs.FailFrom(k, syscall.EIO, nil)
		l, report, err := Open(testConfig(vfs.NewFault(clone, fault)), &testBirth, w.proof())
		if !fault.Fired() {
			t.Logf("%d operations", k-1)
			if err != nil || report.Restored < 4 {
				t.Errorf("%v, %+v: not what this test is about", err, report)
			}
			l.Close()
			return
		}
		if err == nil {
			l.Close()
		}
		for s := range uint64(5) {
			cut := clone.CrashClone(vfs.RandomCrash(rand.New(rand.NewPCG(uint64(k), s))))
			w.check(testConfig(cut), w.proof(), fmt.Sprintf("cut at operation %d, seed %d", k, s))
		}
	}
}

// The commit log heals what has happened to its frames in the segment, and does not hide what has happened to others.
func TestALoggedFrameStandsInForADamagedOne(t *testing.T) {
	for _, broken := range []string{"logged", "earlier", "all", "logged, after the log was marked"} {
		t.Run(broken, func(t *testing.T) {
			mem := vfs.NewMem()
			cfg := testConfig(mem)
			l := create(t, cfg)
			mustPut(t, l, "earlier")
			from := l.Size()
			a, b := assign(t, l, "logged"), assign(t, l, "logged too")
			a.apply(t, l)
			b.apply(t, l)
			mustPut(t, l, "later")
			name := "log/" + l.Segments()[0].Name
			f, err := mem.OpenReadWrite(name)
			if err != nil {
				t.Fatal(err)
			}
			at := map[string][]int64{"logged": {from + 50}, "earlier": {from - 7}, "all": {from - 7, from + 50}}[broken]
			if len(at) == 0 {
				at = []int64{from + 50}
				if err := l.Mark(); err != nil {
					t.Fatal(err)
				}
			}
			for _, pos := range at {
				if _, err := f.WriteAt([]byte("damage"), pos); err != nil {
					t.Fatal(err)
				}
			}
			if err := errors.Join(f.Sync(), f.Close()); err != nil {
				t.Fatal(err)
			}
			want := map[int64]string{0: "earlier", 1: "logged", 2: "logged too", 3: "later"}
			lost := 0
			if !strings.HasPrefix(broken, "logged") {
				delete(want, 0)
				lost = 1
			}
			cfg.FS = mem.CrashClone(vfs.CrashOptions{})
			proof := Proof{Logged: [][]byte{b.entry, a.entry, a.entry}}
			t.Run("reading only", func(t *testing.T) {
				ro, _, err := OpenReadOnly(cfg, &testBirth, ReadOnlyOptions{Logged: proof.Logged})
				if err != nil {
					t.Fatal(err)
				}
				defer ro.Close()
				got, problems := contents(t, ro)
				if broken == "all" { // where the frames belong is not known, so they are told as lost
					if _, there := got[3]; !there || !covered(problems, 0) || !covered(problems, 1) {
						t.Error(got, problems)
					}
					return
				}
				if diff := cmp.Diff(want, got); diff != "" || len(problems) != lost {
					t.Error(diff, problems)
				}
			})
			l, report, err := Open(cfg, &testBirth, proof)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			got, problems := contents(t, l)
			if diff := cmp.Diff(want, got); diff != "" || len(problems) != lost || len(report.Problems) != lost {
				t.Error(diff, problems, report)
			}
			if lost > 0 && !covered(problems, 0) {
				t.Error("the loss is not reported", problems)
			}
		})
	}
}

func TestASegmentThatIsGoneIsMadeAgainFromTheCommitLog(t *testing.T) {
	mem := vfs.NewMem()
	l := create(t, testConfig(mem))
	a := assign(t, l, "a", "b")
	a.apply(t, l)
	if err := mem.Remove("log/" + l.Segments()[0].Name); err != nil {
		t.Fatal(err)
	}
	l, _, err := Open(testConfig(mem), &testBirth, Proof{Logged: [][]byte{a.entry}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if diff := cmp.Diff(map[int64]string{0: "a", 1: "b"}, mapOf(contents(t, l))); diff != "" {
		t.Error(diff)
	}
}

func TestAFullDiskShowsBeforeAnythingIsAssigned(t *testing.T) {
	mem := vfs.NewMem()
	l := create(t, testConfig(mem))
	defer l.Close()
	mustPut(t, l, "stored")
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	mem.SetCapacity(1)
	if err := l.Room(1000); !errors.Is(err, ErrNoSpace) {
		t.Fatalf("error %v, want ErrNoSpace", err)
	}
	mem.SetCapacity(-1)
	p := assign(t, l, "after")
	p.apply(t, l)
	if got := mapOf(contents(t, l)); got[1] != "after" {
		t.Error(got)
	}
}

func TestAppliedFramesStayInTheSegmentWhenThereIsNoRoomForAnother(t *testing.T) {
	mem := vfs.NewMem()
	l := create(t, testConfig(mem))
	defer l.Close()
	first, second := assign(t, l, filler("a")), assign(t, l, filler("b"))
	if err := l.Room(int64(len(first.entry) + len(second.entry))); err != nil {
		t.Fatal(err)
	}
	mem.SetCapacity(1)
	for _, p := range []loggedPut{first, second} {
		if err := l.Apply(p.b.Bytes(), p.b.Frames()); err != nil {
			t.Fatal(err)
		}
	}
	mem.SetCapacity(-1)
	if diff := cmp.Diff(map[int64]string{0: "a", 1: "b"}, names(mapOf(contents(t, l)))); diff != "" || len(l.Segments()) != 1 {
		t.Error(diff, l.Segments())
	}
}

func TestTheNewestFramesTellWhatOfTheCommitLogWasDurable(t *testing.T) {
	cfg := testConfig(vfs.NewMem())
	seq := uint64(41)
	cfg.ProvenSequence = func() uint64 { return seq }
	l := create(t, cfg)
	mustPut(t, l, filler("a"))
	seq = 42
	mustPut(t, l, filler("b"))
	for _, what := range []string{"in the active segment", "in the one before"} {
		l.Close()
		l, _ = reopen(t, cfg)
		if got := l.ProvenSequence(); got != 42 {
			t.Errorf("%s: proven %d, want 42", what, got)
		}
		if what == "in the active segment" {
			if err := l.roll(l.next.Load()); err != nil {
				t.Fatal(err)
			}
		}
	}
	l.Close()
}

func TestForeignBytesAreNoLoggedFrames(t *testing.T) {
	cfg := testConfig(vfs.NewMem())
	l := create(t, cfg)
	entry := assign(t, l, "a").entry
	l.Close()
	for _, bad := range [][]byte{slices.Concat(entry, entry[:40]), entry[:len(entry)-1], []byte("no frame")} {
		if _, _, err := Open(cfg, &testBirth, Proof{Logged: [][]byte{bad}}); !errors.Is(err, ErrCorrupt) {
			t.Errorf("error %v, want ErrCorrupt", err)
		}
	}
}
