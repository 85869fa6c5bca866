package checkpoint

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

var errInjected = errors.New("injected")

// faults fails steps: the k-th with err, and, if dead, all that follow, as if the process had ended there.
type faults struct {
	mu    sync.Mutex
	k, n  int
	err   error
	dead  bool
	names []string
	fired string // the step that failed first
}

func (f *faults) before(step string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n++
	f.names = append(f.names, step)
	if f.k == 0 || f.n < f.k || f.n > f.k && !f.dead {
		return nil
	}
	if f.fired == "" {
		f.fired = step
	}
	return f.err
}

func (f *faults) failed() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fired
}

// disarm ends all failing.
func (f *faults) disarm() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.k = 0
}

// with returns quick options that meet these faults.
func (f *faults) with(opts WALOptions) WALOptions {
	opts.hooks.before, opts.hooks.foreground = f.before, true
	return opts
}

// ledger is what a run was told: for each commit whether it happened, did not, or may have.
type ledger struct{ acked, unknown int }

// commitUntil commits counters, each with some weight so that generations change, until n are done or one fails.
func commitUntil(t *testing.T, w *WAL, from, n int) (l ledger, err error) {
	t.Helper()
	l.acked = from
	for i := from + 1; i <= n; i++ {
		b := putBatch("n", fmt.Sprint(i), fmt.Sprintf("key%d", i%7), strings.Repeat("x", 300))
		_, err := w.Commit(t.Context(), b)
		switch {
		case errors.Is(err, ErrOutcomeUnknown):
			l.unknown++
			return l, err
		case err != nil:
			return l, err
		}
		l.acked = i
	}
	return l, nil
}

// counter reads the last count that a store holds.
func counter(t *testing.T, s source) int {
	t.Helper()
	st, err := s.view()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	if it := st.keys.get([]byte("n")); it != nil {
		if _, err := fmt.Sscan(string(it.value), &n); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// wantLedger checks that a store holds what was acknowledged, and nothing that certainly did not happen.
func wantLedger(t *testing.T, what string, s source, l ledger) {
	t.Helper()
	if n := counter(t, s); n < l.acked || n > l.acked+l.unknown {
		t.Fatalf("%s: the store counts %d, acknowledged were %d and %d may have happened", what, n, l.acked, l.unknown)
	}
}

func TestOpeningCanEndAtAnyStep(t *testing.T) {
	noLeaks(t)
	h := makeHistory(t, false)
	h.data = h.data[:len(h.data)-3] // with a torn tail, which is one step more
	files := h.files.with(h.name, h.data)
	want := h.held[len(h.held)-2]
	for k := 1; ; k++ {
		for _, dead := range []bool{true, false} {
			dir := files.write(t, filepath.Join(t.TempDir(), "copy"))
			f := &faults{k: k, err: errInjected, dead: dead}
			w, err := OpenWAL(dir, f.with(quick(false)))
			if f.failed() == "" {
				f.disarm()
				mustClose(t, w)
				if k < 10 {
					t.Fatalf("opening has only %d steps: %v", k-1, f.names)
				}
				return
			}
			if err == nil { // only removing may fail
				if len(w.Report().Leftover) == 0 || f.failed() != "remove" {
					t.Fatalf("step %d (%s) failed and opening did not: %+v", k, f.failed(), w.Report())
				}
				w.Close()
			} else if !errors.Is(err, errInjected) {
				t.Fatalf("step %d (%s): error %v", k, f.failed(), err)
			}
			v, err := LoadWAL(dir, LoadOptions{ID: testID})
			if err != nil || contents(t, v) != want {
				t.Fatalf("step %d (%s): load: error %v", k, f.failed(), err)
			}
			w = mustOpen(t, dir, quick(false))
			if contents(t, w) != want {
				t.Fatalf("step %d (%s): the next opening has\n%swant\n%s", k, f.failed(), contents(t, w), want)
			}
			if numbers, err := listGenerations(dir); err != nil || len(numbers) != 1 {
				t.Fatalf("step %d (%s): generations %v are left, error %v", k, f.failed(), numbers, err)
			}
			mustClose(t, w)
		}
	}
}

func TestCreationCanEndAtAnyStep(t *testing.T) {
	noLeaks(t)
	for k := 1; ; k++ {
		dir := filepath.Join(t.TempDir(), "new")
		f := &faults{k: k, err: errInjected, dead: true}
		w, err := OpenWAL(dir, f.with(quick(true)))
		if f.failed() == "" {
			f.disarm()
			mustClose(t, w)
			return
		}
		if !errors.Is(err, errInjected) {
			t.Fatalf("step %d (%s): error %v", k, f.failed(), err)
		}
		w = mustOpen(t, dir, quick(true))
		if !w.Report().Created {
			t.Fatalf("step %d (%s): report %+v", k, f.failed(), w.Report())
		}
		mustCommit(t, w, putBatch("a", "b"))
		mustClose(t, w)
	}
}

// TestCommittingAndChangingGenerationsCanEndAtAnyStep lets each step of a run with several changes of generation fail
// in turn, once, or with all that follow.
func TestCommittingAndChangingGenerationsCanEndAtAnyStep(t *testing.T) {
	noLeaks(t)
	const commits = 22
	seen := map[string]int{}
	for _, dead := range []bool{true, false} {
		for k := 1; ; k++ {
			dir := filepath.Join(t.TempDir(), "s")
			mustClose(t, mustOpen(t, dir, quick(true)))
			f := &faults{err: errInjected, dead: dead}
			w := mustOpen(t, dir, f.with(quick(false)))
			f.mu.Lock()
			f.k = f.n + k
			f.mu.Unlock()
			l, err := commitUntil(t, w, 0, commits)
			if err == nil && f.failed() == "" && w.Close() == nil && f.failed() == "" {
				break
			}
			what := fmt.Sprintf("step %d (%s), dead=%v", k, f.failed(), dead)
			seen[f.failed()]++
			wantFailed(t, what, w, f, l, err)
			v, err := LoadWAL(dir, LoadOptions{ID: testID})
			if err != nil {
				t.Fatalf("%s: load: %v", what, err)
			}
			wantLedger(t, what, v, l)
			opts := quick(false)
			opts.Redo = proven(t, dir, what)
			w = mustOpen(t, dir, opts)
			wantLedger(t, what, w, l)
			if _, err := commitUntil(t, w, l.acked+1, commits+20); err != nil {
				t.Fatalf("%s: after reopening: %v", what, err)
			}
			mustClose(t, w)
		}
	}
	for _, step := range []string{"append", "sync", "make generation directory", "sync generation file", "sync directory", "write CURRENT", "remove", "fill"} {
		if seen[step] == 0 {
			t.Errorf("step %q never failed: %v", step, seen)
		}
	}
}

// wantFailed checks a store in which a step has failed: it refuses commits with ErrFailed, reads go on, and Close says why.
func wantFailed(t *testing.T, what string, w *WAL, f *faults, l ledger, err error) {
	t.Helper()
	if err != nil && !errors.Is(err, errInjected) {
		t.Fatalf("%s: commit: error %v", what, err)
	}
	if l.unknown > 0 {
		if _, err := w.Commit(t.Context(), putBatch("n", "0")); !errors.Is(err, ErrFailed) || !errors.Is(err, errInjected) {
			t.Fatalf("%s: a commit after the failure: error %v, want ErrFailed and its cause", what, err)
		}
	}
	if st, err := w.view(); err == nil {
		if it := st.keys.get([]byte("n")); l.acked > 0 && (it == nil || string(it.value) != fmt.Sprint(l.acked)) {
			t.Fatalf("%s: what is visible is not what was acknowledged: %v, want %d", what, it, l.acked)
		}
	}
	// Failing to remove what does not count is no failure.
	if err := w.Close(); err == nil && f.failed() != "remove" && w.closeErr == nil {
		t.Fatalf("%s: close reports no error", what)
	}
}

func TestAFullDiskRefusesCommitsAndTheStoreGoesOn(t *testing.T) {
	dir := t.TempDir()
	var mu sync.Mutex
	full := false
	opts := quick(true)
	opts.hooks.before = func(step string) error {
		mu.Lock()
		defer mu.Unlock()
		if full && (step == "fill" || step == "make generation directory" || step == "write CURRENT") {
			return syscall.ENOSPC
		}
		return nil
	}
	setFull := func(v bool) { mu.Lock(); full = v; mu.Unlock() }
	w := mustOpen(t, dir, opts)
	acked := 0
	for round := range 4 {
		setFull(true)
		var err error
		for err == nil {
			var l ledger
			l, err = commitUntil(t, w, acked, acked+100)
			acked = l.acked
		}
		if !errors.Is(err, ErrNoSpace) || !errors.Is(err, syscall.ENOSPC) || errors.Is(err, ErrFailed) || errors.Is(err, ErrOutcomeUnknown) {
			t.Fatalf("round %d: error %v, want ErrNoSpace", round, err)
		}
		if n := counter(t, w); n != acked {
			t.Fatalf("round %d: the store counts %d, acknowledged were %d", round, n, acked)
		}
		if _, err := w.Commit(t.Context(), putBatch("n", fmt.Sprint(acked))); err != nil && !errors.Is(err, ErrNoSpace) {
			t.Fatalf("round %d: %v", round, err)
		}
		setFull(false)
		l, err := commitUntil(t, w, acked, acked+50)
		if err != nil {
			t.Fatalf("round %d: with space again: %v", round, err)
		}
		acked = l.acked
	}
	mustClose(t, w)
	w = mustOpen(t, dir, quick(false))
	if n := counter(t, w); n != acked || !w.Report().Clean {
		t.Errorf("reopened, the store counts %d, acknowledged were %d; %+v", n, acked, w.Report())
	}
}

func TestALargeBatchWithoutRoomDoesNotTakeSmallOnesWithIt(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var mu sync.Mutex
	filled := 0
	opts := quick(true)
	opts.GenerationBytes = 1 << 20
	opts.hooks.before = func(step string) error {
		mu.Lock()
		defer mu.Unlock()
		switch step {
		case "append":
			once.Do(func() { close(entered); <-release })
		case "fill":
			if filled++; filled > 3 {
				return syscall.ENOSPC
			}
		}
		return nil
	}
	w := mustOpen(t, t.TempDir(), opts)
	type answer struct {
		name string
		err  error
	}
	answers := make(chan answer, 3)
	commit := func(name string, value string) {
		go func() {
			_, err := w.Commit(t.Context(), putBatch(name, value))
			answers <- answer{name, err}
		}()
	}
	commit("first", "")
	<-entered
	commit("large", strings.Repeat("x", 1<<20))
	commit("small", "")
	for w.waiting.Load() < 2 {
		runtime.Gosched()
	}
	close(release)
	for range 3 {
		a := <-answers
		if (a.name == "large") != errors.Is(a.err, ErrNoSpace) || a.name != "large" && a.err != nil {
			t.Errorf("%s: error %v", a.name, a.err)
		}
	}
}

func TestACommitIsVisibleAndAnsweredOnlyOnceItIsSynced(t *testing.T) {
	syncing, release := make(chan struct{}), make(chan error)
	var w *WAL
	opts := quick(true)
	opts.hooks.before = func(step string) error {
		if step == "sync" {
			syncing <- struct{}{}
			return <-release
		}
		return nil
	}
	w = mustOpen(t, t.TempDir(), opts)
	commit := func(value string) chan error {
		answer := make(chan error, 1)
		go func() {
			_, err := w.Commit(t.Context(), putBatch("k", value))
			answer <- err
		}()
		return answer
	}
	for i, outcome := range []error{nil, errInjected} {
		before := contents(t, w)
		seq := w.Sequence()
		answer := commit(fmt.Sprint(i))
		<-syncing
		select {
		case err := <-answer:
			t.Fatalf("answered %v before the sync", err)
		default:
		}
		if contents(t, w) != before || w.Sequence() != seq {
			t.Fatal("visible before the sync")
		}
		release <- outcome
		err := <-answer
		if outcome == nil && err != nil || outcome != nil && !errors.Is(err, ErrOutcomeUnknown) {
			t.Fatalf("sync %d: commit: error %v", i, err)
		}
		if (contents(t, w) != before) != (outcome == nil) {
			t.Fatalf("sync %d: the store holds %q", i, contents(t, w))
		}
	}
}

func TestEveryCommitIsSyncedOnce(t *testing.T) {
	var mu sync.Mutex
	syncs := 0
	opts := quick(true)
	opts.GenerationBytes = 1 << 20
	opts.hooks.unsynced = false
	opts.hooks.synced = func() { mu.Lock(); syncs++; mu.Unlock() }
	count := func() int { mu.Lock(); defer mu.Unlock(); return syncs }
	w := mustOpen(t, t.TempDir(), opts)
	// The parent directory, the new generation's file and two directories, and its snapshot.
	if n := count(); n != 5 {
		t.Errorf("creation syncs %d times, want 5", n)
	}
	before := count()
	for range 10 {
		mustCommit(t, w, putBatch("k", "v"))
	}
	if n := count() - before; n != 10 {
		t.Errorf("10 commits sync %d times", n)
	}
}

func TestAFailureAnswersEverybodyOnce(t *testing.T) {
	noLeaks(t)
	f := &faults{}
	w := mustOpen(t, t.TempDir(), f.with(quick(true)))
	f.mu.Lock()
	f.k, f.err, f.dead = f.n+40, errInjected, true
	f.mu.Unlock()
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				_, err := w.Commit(t.Context(), putBatch(fmt.Sprint(g), fmt.Sprint(i)))
				if err == nil {
					continue
				}
				if !errors.Is(err, ErrOutcomeUnknown) && !errors.Is(err, ErrFailed) {
					t.Errorf("error %v", err)
				}
				return
			}
		})
	}
	wg.Wait()
	if err := w.Close(); !errors.Is(err, ErrFailed) {
		t.Errorf("close: error %v, want ErrFailed", err)
	}
}

func TestWhoIsAnsweredDoesNotFindTheStoreBusyWithHim(t *testing.T) {
	ways := map[string]func(w *WAL) error{
		"commit": func(w *WAL) error {
			_, err := w.Commit(t.Context(), putBatch("k", strings.Repeat("x", 500)))
			return err
		},
		"transaction": func(w *WAL) error {
			_, err := w.CommitFrames(t.Context(), putBatch("k", "v"), load(7, strings.Repeat("x", 500)))
			return err
		},
	}
	for name, commit := range ways {
		t.Run(name, func(t *testing.T) {
			var armed atomic.Bool
			held, release := make(chan struct{}), make(chan struct{})
			opts := quick(true)
			opts.hooks.foreground = true
			opts.hooks.before = func(step string) error { // what the committer does once it has answered
				if step == "make generation directory" && armed.Swap(false) {
					close(held)
					<-release
				}
				return nil
			}
			w := mustOpen(t, t.TempDir(), opts)
			armed.Store(true)
			for answered := false; !answered; {
				if err := commit(w); err != nil {
					t.Fatal(err)
				}
				if w.Busy() {
					t.Error("busy with what it has answered")
				}
				select {
				case <-held:
					answered = true
				default:
				}
			}
			if w.Busy() {
				t.Error("busy with what comes behind an answer")
			}
			close(release)
			if err := w.Prove(); err != nil {
				t.Error(err)
			}
			if w.Busy() {
				t.Error("busy with a proof that it has given")
			}
			mustClose(t, w)
		})
	}
}
