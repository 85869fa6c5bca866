package checkpoint

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// proven is a Redo that checks that all of what it is given is proven durable in the directory: what somebody beside a live writer is shown.
func proven(t *testing.T, dir string, what string) func(*View) error {
	return func(v *View) error {
		durable, err := LoadWAL(dir, LoadOptions{ID: testID, WriterLive: true})
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		for owner := range v.frames {
			if got, want := fmt.Sprint(loaded(durable, owner)), fmt.Sprint(loaded(v, owner)); got != want {
				t.Fatalf("%s: of owner %d these frames are durable: %s, these are redone: %s", what, owner, got, want)
			}
		}
		if got, want := contents(t, durable), contents(t, v); got != want {
			t.Fatalf("%s: this is durable:\n%sand this is redone:\n%s", what, got, want)
		}
		return nil
	}
}

// killedWithFrames is what a process leaves that was killed before anything had proven its last commit, and its contents.
func killedWithFrames(t *testing.T) (files, string) {
	t.Helper()
	dir := t.TempDir()
	w := mustOpen(t, dir, quick(true))
	for i := range 4 {
		if _, err := w.CommitFrames(t.Context(), putBatch("n", fmt.Sprint(i)), load(7, fmt.Sprint("frame ", i))); err != nil {
			t.Fatal(err)
		}
	}
	return readFiles(t, dir), contents(t, w)
}

// A power cut during Redo may take back what a killed process has written and not synced. Frames of that had been brought to where they belong by then, and their commit was gone.
func TestWhatNothingProvesIsDurableBeforeItIsRedone(t *testing.T) {
	noLeaks(t)
	left, want := killedWithFrames(t)
	dir := left.write(t, filepath.Join(t.TempDir(), "killed"))
	before, err := readCurrent(dir, testID)
	if err != nil {
		t.Fatal(err)
	}
	opts := quick(false)
	opts.hooks.unsynced = false
	var steps []string
	opts.hooks.before = func(step string) error { steps = append(steps, step); return nil }
	opts.hooks.synced = func() { steps = append(steps, "synced") }
	called := false
	opts.Redo = func(v *View) error {
		called = true
		wantWithoutWhatWasLoose(t, dir, before, v)
		if last := slices.Index(steps, "sync copy"); last < 0 || !slices.Contains(steps[last:], "synced") || slices.Contains(steps[last:], "append copy") {
			t.Errorf("the copy is not synced: %v", steps)
		}
		return proven(t, dir, "redo")(v)
	}
	w := mustOpen(t, dir, opts)
	if !called || contents(t, w) != want || w.Report().Frames != 4 || !slices.Equal(w.Report().Generations, before.generations) {
		t.Errorf("%s, report %+v", contents(t, w), w.Report())
	}
	mustClose(t, w)
}

// wantWithoutWhatWasLoose cuts what the killed process has written at every byte behind what was proven: all of it is there all the same.
func wantWithoutWhatWasLoose(t *testing.T, dir string, before *current, v *View) {
	t.Helper()
	now := readFiles(t, dir)
	name, err := filepath.Rel(dir, segmentPath(dir, before.generations[0]))
	if err != nil {
		t.Fatal(err)
	}
	data := now[name]
	g := findEntries([]byte(data), saltOf(testID, before.generations[0]))
	proven := max(before.proven, g.proven())
	cuts := 0
	for _, e := range g.entries {
		if e.last() <= proven {
			continue
		}
		for at := e.at; at < e.end; at++ {
			cut := now.with(name, data[:at]).write(t, filepath.Join(t.TempDir(), "cut"))
			got, err := LoadWAL(cut, LoadOptions{ID: testID})
			if err != nil || contents(t, got) != contents(t, v) || fmt.Sprint(loaded(got, 7)) != fmt.Sprint(loaded(v, 7)) || got.Sequence() != v.Sequence() {
				t.Fatalf("the generation of the killed process cut at byte %d: error %v, %+v, want %+v", at, err, got, v)
			}
			mustClose(t, mustOpen(t, cut, quick(false)))
			cuts++
		}
	}
	if cuts == 0 {
		t.Error("everything was proven")
	}
}

func TestWhatIsProvenIsNotCopied(t *testing.T) {
	left, _ := killedWithFrames(t)
	dir := left.write(t, filepath.Join(t.TempDir(), "closed"))
	mustClose(t, mustOpen(t, dir, quick(false)))
	opts := quick(false)
	opts.Redo = proven(t, dir, "redo")
	opts.hooks.before = func(step string) error {
		if strings.HasSuffix(step, "copy") {
			t.Error(step)
		}
		return nil
	}
	mustClose(t, mustOpen(t, dir, opts))
}

// A frame that was given to Redo is found with its commit, until all have been given; wherever opening ends.
func TestCopyingCanEndAtAnyStep(t *testing.T) {
	noLeaks(t)
	left, want := killedWithFrames(t)
	seen := map[string]bool{}
	for k := 1; ; k++ {
		for _, dead := range []bool{true, false} {
			dir := left.write(t, filepath.Join(t.TempDir(), "copy"))
			f := &faults{k: k, err: errInjected, dead: dead}
			opts := f.with(quick(false))
			redone := false
			opts.Redo = func(*View) error { redone = true; return nil }
			w, err := OpenWAL(dir, opts)
			fired := f.failed()
			f.disarm()
			if err == nil {
				mustClose(t, w)
			}
			if fired == "" {
				if want := []string{"append copy", "sync copy", "sync directory", "write CURRENT"}; !containsAll(seen, want) {
					t.Errorf("failed: %v, want %v among them", slices.Sorted(maps.Keys(seen)), want)
				}
				return
			}
			if seen[fired] = true; err != nil && !errors.Is(err, errInjected) {
				t.Fatalf("step %d (%s): error %v", k, fired, err)
			}
			what := fmt.Sprintf("step %d (%s)", k, fired)
			again := quick(false)
			again.Redo = func(v *View) error {
				if got := len(loaded(v, 7)); got != 4 && !redone {
					t.Fatalf("%s: the next opening finds %d frames", what, got)
				}
				return proven(t, dir, what)(v)
			}
			w = mustOpen(t, dir, again)
			if contents(t, w) != want {
				t.Fatalf("%s: the next opening has\n%swant\n%s", what, contents(t, w), want)
			}
			mustClose(t, w)
		}
	}
}

func containsAll(have map[string]bool, want []string) bool {
	for _, w := range want {
		if !have[w] {
			return false
		}
	}
	return true
}
