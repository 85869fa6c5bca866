package checkpoint

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// freight is a Carrier that notes what happens to it.
type freight struct {
	frames  []Frames
	err     error
	seq     uint64
	made    int
	durable int
	order   *[]*freight
	told    func()
}

func load(owner uint64, data ...string) *freight {
	f := &freight{}
	for _, d := range data {
		f.frames = append(f.frames, Frames{owner, []byte(d)})
	}
	return f
}

func (f *freight) Bound() int { return kept(f.frames).Bound() }

func (f *freight) Prepare(seq uint64, dst []Frames) ([]Frames, error) {
	f.made++
	f.seq = seq
	if f.order != nil {
		*f.order = append(*f.order, f)
	}
	return append(dst, f.frames...), f.err
}

func (f *freight) Durable() {
	f.durable++
	if f.told != nil {
		f.told()
	}
}

// loaded returns what a view or the next opening finds for an owner.
func loaded(v *View, owner uint64) []string {
	var out []string
	for _, b := range v.Frames(owner) {
		out = append(out, string(b))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func TestFramesAreFoundWithTheirCommitsUntilTheStoreIsOpenedAnew(t *testing.T) {
	dir := t.TempDir()
	w := mustOpen(t, dir, quick(true))
	before := w.Sequence()
	f := load(7, "one", "two")
	rev, err := w.CommitFrames(t.Context(), putBatch("k", "v"), f)
	if err != nil || f.made != 1 || f.durable != 1 || f.seq != uint64(rev) || rev != Revision(before+1) {
		t.Fatalf("revision %d after %d, error %v, %+v", rev, before, err, f)
	}
	if _, err := w.CommitFrames(t.Context(), nil, load(8, "alone")); err != nil {
		t.Fatal(err)
	}
	if rev, err := w.CommitFrames(t.Context(), new(Batch), load(7, "three")); err != nil || uint64(rev) != w.Sequence() {
		t.Fatalf("a commit that puts nothing has the revision %d, the last one is %d, error %v", rev, w.Sequence(), err)
	}
	killed := readFiles(t, dir).write(t, filepath.Join(t.TempDir(), "killed"))
	opts := quick(false)
	failure := errors.New("not yet")
	calls := 0
	opts.Redo = func(v *View) error {
		calls++
		if got := fmt.Sprint(loaded(v, 7), loaded(v, 8), loaded(v, 9)); got != "[one three two] [alone] []" {
			t.Errorf("frames %s", got)
		}
		if it := v.state.keys.get([]byte("k")); it == nil || it.rev != rev {
			t.Errorf("the commit of the frames is not there: %v", it)
		}
		return failure
	}
	if _, err := OpenWAL(killed, opts); !errors.Is(err, failure) {
		t.Fatalf("error %v, want that of Redo", err)
	}
	failure = nil
	again := mustOpen(t, killed, opts)
	if r := again.Report(); calls != 2 || r.Frames != 4 || r.FrameBytes != int64(len("onetwothreealone")) {
		t.Errorf("%d calls of Redo, report %+v", calls, r)
	}
	mustClose(t, again)
	opts.Redo = func(v *View) error {
		if len(v.frames) > 0 {
			t.Errorf("frames are there again: %v", v.frames)
		}
		return nil
	}
	mustClose(t, mustOpen(t, killed, opts))
}

func TestACommitThatCannotHappenCarriesNothing(t *testing.T) {
	dir := t.TempDir()
	w := mustOpen(t, dir, quick(true))
	mustCommit(t, w, putBatch("k", "1"))
	conflict := putBatch("k", "2")
	conflict.Expect([]byte("k"), 99)
	f := load(1, "conflicting")
	if _, err := w.CommitFrames(t.Context(), conflict, f); !errors.Is(err, ErrConflict) || f.made != 0 {
		t.Errorf("error %v, prepared %d times", err, f.made)
	}
	refused := load(1, "refused")
	refused.err = errInjected
	if _, err := w.CommitFrames(t.Context(), putBatch("k", "3"), refused); !errors.Is(err, errInjected) || refused.durable != 0 {
		t.Errorf("error %v, %+v", err, refused)
	}
	if v, _, _ := w.Get(t.Context(), []byte("k")); string(v) != "1" {
		t.Errorf("k is %s: a refused commit has happened", v)
	}
	if _, err := w.CommitFrames(t.Context(), nil, load(1, strings.Repeat("x", MaxCarriedBytes+1))); !errors.Is(err, ErrLimit) {
		t.Errorf("error %v, want ErrLimit", err)
	}
	mustClose(t, w)
	if v, err := LoadWAL(dir, LoadOptions{ID: testID}); err != nil || len(v.frames) > 0 {
		t.Errorf("%v, %v", v.frames, err)
	}
}

func TestFramesArePreparedInTheOrderOfTheLog(t *testing.T) {
	dir := t.TempDir()
	opts := quick(true)
	opts.GenerationBytes = 1 << 20
	w := mustOpen(t, dir, opts)
	var order []*freight // of the committer
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			for j := range 20 {
				f := load(1, fmt.Sprintf("%d-%d", i, j))
				f.order = &order
				if _, err := w.CommitFrames(t.Context(), nil, f); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	mustClose(t, w)
	v, err := LoadWAL(dir, LoadOptions{ID: testID})
	if err != nil {
		t.Fatal(err)
	}
	for i, b := range v.Frames(1) {
		if string(b) != string(order[i].frames[0].Data) {
			t.Fatalf("frame %d is %s, prepared was %s", i, b, order[i].frames[0].Data)
		}
	}
	if len(v.Frames(1)) != 1000 {
		t.Errorf("%d frames", len(v.Frames(1)))
	}
}

func TestAFailedWriteLeavesTheOutcomeOfFramesUnknown(t *testing.T) {
	opts := quick(true)
	broken := false
	opts.hooks.before = func(step string) error {
		if broken && step == "append" {
			return errInjected
		}
		return nil
	}
	w := mustOpen(t, t.TempDir(), opts)
	broken = true
	for _, want := range []error{ErrOutcomeUnknown, ErrFailed} {
		c := load(1, "x")
		if _, err := w.CommitFrames(t.Context(), nil, c); !errors.Is(err, want) || c.durable != 0 {
			t.Errorf("error %v, want %v; %+v", err, want, c)
		}
	}
	if !w.Crowded() {
		t.Error("a store that has failed invites frames")
	}
}

// harbor is where the frames belong: it is told to settle, and can for all owners but one.
type harbor struct {
	mu      sync.Mutex
	acked   []string // of both owners
	durable []string
	settled map[string]bool
	calls   int
}

const stuck = 2 // the owner whose frames cannot be settled

func (h *harbor) settle() []uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls++
	for _, name := range h.durable {
		if !strings.HasPrefix(name, "stuck") {
			h.settled[name] = true
		}
	}
	return []uint64{stuck}
}

// carryUntil commits frames until n are done or one fails, whose name it returns.
func (h *harbor) carryUntil(t *testing.T, w *WAL, n int) (failed string) {
	for i := range n {
		owner, name := uint64(1), fmt.Sprintf("frame %d %s", i, strings.Repeat("x", 300))
		if i%5 == 0 {
			owner, name = stuck, fmt.Sprintf("stuck %d", i)
		}
		var b *Batch
		if i%3 == 0 {
			b = putBatch("n", fmt.Sprint(i))
		}
		f := load(owner, name)
		f.told = func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.durable = append(h.durable, name)
		}
		if _, err := w.CommitFrames(t.Context(), b, f); err != nil {
			return name
		}
		h.acked = append(h.acked, name)
	}
	return ""
}

// check wants every frame that was acknowledged in the log, or settled.
func (h *harbor) check(t *testing.T, what, failed string, v *View) {
	t.Helper()
	there := map[string]bool{}
	for _, name := range append(loaded(v, 1), loaded(v, stuck)...) {
		there[name] = true
	}
	for _, name := range h.acked {
		if !there[name] && !h.settled[name] {
			t.Fatalf("%s: %.20q is neither in the log nor settled", what, name)
		}
		delete(there, name)
	}
	delete(there, failed)
	if len(there) > 0 {
		t.Fatalf("%s: frames that nobody committed: %v", what, there)
	}
}

func TestFramesOutliveTheirGenerationUntilTheyAreSettled(t *testing.T) {
	const commits = 60
	seen := map[string]int{}
	for k := 1; ; k++ {
		dir := filepath.Join(t.TempDir(), "s")
		mustClose(t, mustOpen(t, dir, quick(true)))
		f := &faults{err: errInjected, dead: true}
		h := &harbor{settled: map[string]bool{}}
		opts := f.with(quick(false))
		opts.Settle = h.settle
		w := mustOpen(t, dir, opts)
		f.mu.Lock()
		f.k = f.n + k
		f.mu.Unlock()
		failed := h.carryUntil(t, w, commits)
		w.Close()
		what := fmt.Sprintf("step %d (%s)", k, f.failed())
		v, err := LoadWAL(dir, LoadOptions{ID: testID})
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		h.check(t, what, failed, v)
		if f.failed() == "" {
			if h.calls < 3 || len(loaded(v, 1)) == commits*4/5 {
				t.Errorf("settled %d times, %d frames left: no generation was dropped", h.calls, len(loaded(v, 1)))
			}
			break
		}
		seen[f.failed()]++
		opts = quick(false)
		opts.Redo = func(v *View) error {
			h.check(t, what+", opened", failed, v)
			return nil
		}
		mustClose(t, mustOpen(t, dir, opts))
	}
	for _, step := range []string{"append", "sync", "write CURRENT", "remove"} {
		if seen[step] == 0 {
			t.Errorf("step %q never failed: %v", step, seen)
		}
	}
}

// A generation with frames and no commits was given to an old CURRENT for one that had never been used.
func TestAnUnlistedGenerationThatHoldsFramesIsEvidence(t *testing.T) {
	dir := t.TempDir()
	mustClose(t, mustOpen(t, dir, quick(true)))
	old := readFiles(t, dir)
	w := mustOpen(t, dir, quick(false))
	if _, err := w.CommitFrames(t.Context(), nil, load(1, "x")); err != nil {
		t.Fatal(err)
	}
	both := old
	for name, content := range readFiles(t, dir) {
		if name != currentName {
			both = both.with(name, content)
		}
	}
	if _, err := OpenWAL(both.write(t, filepath.Join(t.TempDir(), "both")), quick(false)); !errors.Is(err, ErrMissingData) {
		t.Errorf("error %v, want ErrMissingData", err)
	}
}
