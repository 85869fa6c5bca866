package checkpoint

import (
	"encoding/binary"
	"fmt"
	"math"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// halfChanged is a store that died while a generation was being replaced: two are listed, and the snapshot in
// the new one is not complete.
type halfChanged struct {
	files    files
	old, new string // names
	oldEnd   int64
	scan     *scanned // of the new one
	counts   []int    // the counter after each entry of the new one; the first is for none
}

func makeHalfChanged(t *testing.T) *halfChanged {
	t.Helper()
	// Whether commits or pieces alone fill the first entries is a race; both are wanted.
	for range 200 {
		if h := tryHalfChanged(t); len(h.scan.entries) >= 4 && h.counts[0] < h.counts[len(h.counts)-1] {
			return h
		}
	}
	t.Fatal("no run had commits in the new generation")
	return nil
}

func tryHalfChanged(t *testing.T) *halfChanged {
	t.Helper()
	dir := t.TempDir()
	w := mustOpen(t, dir, quick(true))
	var ballast Batch
	for i := range 6 {
		ballast.Put(fmt.Appendf(nil, "ballast%02d", i), make([]byte, maxChunkBytes))
	}
	mustCommit(t, w, &ballast)
	mustClose(t, w)

	opts := quick(false)
	opts.hooks.foreground = true
	var listed, appends atomic.Int32
	opts.hooks.before = func(step string) error {
		switch {
		case step == "write CURRENT":
			listed.Add(1) // by opening, then by the change
		case step == "append" && listed.Load() == 2:
			if appends.Add(1) > 5 {
				return errInjected
			}
			for range 1000 { // so that a commit has time to come along with the next piece
				runtime.Gosched()
			}
		}
		return nil
	}
	w = mustOpen(t, dir, opts)
	n := 0
	for err := error(nil); err == nil; {
		b := putBatch("n", strconv.Itoa(n+1))
		if listed.Load() < 2 {
			b.Put([]byte("ballast00"), make([]byte, maxChunkBytes))
		}
		if _, err = w.Commit(t.Context(), b); err == nil {
			n++
		}
	}
	h := &halfChanged{files: readFiles(t, dir)}
	cur, err := readCurrent(dir, testID)
	if err != nil || len(cur.generations) != 2 {
		t.Fatalf("CURRENT lists %v, error %v", cur, err)
	}
	h.old, _ = filepath.Rel(dir, segmentPath(dir, cur.generations[0]))
	h.new, _ = filepath.Rel(dir, segmentPath(dir, cur.generations[1]))
	h.oldEnd = findEntries([]byte(h.files[h.old]), saltOf(testID, cur.generations[0])).end
	h.scan = findEntries([]byte(h.files[h.new]), saltOf(testID, cur.generations[1]))
	h.counts = []int{n}
	for i := len(h.scan.entries) - 1; i >= 0; i-- {
		h.counts = append([]int{h.counts[0] - len(h.scan.entries[i].commits)}, h.counts...)
	}
	return h
}

// loadCounter returns what the counter is, or -1 for a typed error.
func loadCounter(t *testing.T, what, dir string) int {
	t.Helper()
	v, err := LoadWAL(dir, LoadOptions{ID: testID})
	if err == nil {
		return counter(t, v)
	}
	if !typed(err) {
		t.Fatalf("%s: error %v, want a typed one", what, err)
	}
	return -1
}

func TestWhileTwoGenerationsAreListedBothCount(t *testing.T) {
	h := makeHalfChanged(t)
	dir := h.files.write(t, filepath.Join(t.TempDir(), "copy"))
	last := h.counts[len(h.counts)-1]
	if n := loadCounter(t, "whole", dir); n != last {
		t.Fatalf("the counter is %d, want %d", n, last)
	}
	check := func(what, name, data string, want int) {
		t.Helper()
		overwrite(t, filepath.Join(dir, name), data)
		if n := loadCounter(t, what, dir); n != want {
			t.Errorf("%s: the counter is %d, want %d (-1: an error)", what, n, want)
		}
		overwrite(t, filepath.Join(dir, name), h.files[name])
	}
	old := h.files[h.old][:h.oldEnd]
	for at := int64(0); at < h.oldEnd; at += h.oldEnd/12 + 1 {
		check(fmt.Sprintf("old one cut at %d", at), h.old, old[:at], -1)
		check(fmt.Sprintf("old one damaged at %d", at), h.old, old[:at]+string([]byte{old[at] ^ 4})+old[at+1:], -1)
	}
	check("old one cut in its last byte", h.old, old[:h.oldEnd-1], -1)
	check("old one with something behind", h.old, old+"something", last)
	start := int64(0)
	for i, e := range h.scan.entries {
		data := h.files[h.new]
		for _, at := range []int64{start, start + 1, (start + e.end) / 2, e.end - 1} {
			check(fmt.Sprintf("new one cut at %d in entry %d", at, i), h.new, data[:at], h.counts[i])
			want := -1
			if i == len(h.scan.entries)-1 {
				want = h.counts[i]
			}
			check(fmt.Sprintf("new one damaged at %d in entry %d", at, i), h.new, data[:at]+string([]byte{data[at] ^ 4})+data[at+1:], want)
		}
		start = e.end
	}
	check("new one emptied", h.new, "", h.counts[0])
	w := mustOpen(t, dir, quick(false))
	if n := counter(t, w); n != last || len(w.Report().Generations) != 2 {
		t.Errorf("opened, the counter is %d, want %d; report %+v", n, last, w.Report())
	}
	mustClose(t, w)
	h.files.without(h.new).write(t, dir)
	if n := loadCounter(t, "new one gone", dir); n != -1 {
		t.Errorf("without the new generation the counter is %d, want an error", n)
	}
}

func TestCommitsGoOnWhileGenerationsChangeAndReadersSeeWhatIsProven(t *testing.T) {
	noLeaks(t)
	dir := t.TempDir()
	opts := WALOptions{ID: testID, Create: true, GenerationBytes: 8 << 10}
	w := mustOpen(t, dir, opts)
	const writers, each = 4, 300
	var writing, reading sync.WaitGroup
	done := make(chan struct{})
	var seen atomic.Int32 // generations, by the reader
	for g := range writers {
		writing.Go(func() {
			for i := 1; i <= each || seen.Load() < 3 && !t.Failed(); i++ {
				value := strconv.Itoa(i)
				b := putBatch(fmt.Sprintf("left%d", g), value, fmt.Sprintf("right%d", g), value)
				if _, err := w.Commit(t.Context(), b); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	loads, generations := 0, map[uint64]bool{}
	reading.Go(func() {
		var last uint64
		for {
			select {
			case <-done:
				return
			default:
			}
			v, err := LoadWAL(dir, LoadOptions{ID: testID, WriterLive: true})
			if err != nil {
				t.Error(err)
				return
			}
			if durable := w.Sequence(); v.Sequence() < last || v.Sequence() > durable {
				t.Errorf("a view of sequence %d after %d, durable is %d", v.Sequence(), last, durable)
			}
			last = v.Sequence()
			if got := contents(t, v); !balanced(got) {
				t.Errorf("half a commit is visible:\n%s", got)
			}
			loads++
			if cur, err := readCurrent(dir, testID); err == nil {
				generations[cur.generations[0]] = true
				seen.Store(int32(len(generations)))
			}
		}
	})
	writing.Wait()
	close(done)
	reading.Wait()
	if err := w.Prove(); err != nil {
		t.Fatal(err)
	}
	v, err := LoadWAL(dir, LoadOptions{ID: testID, WriterLive: true})
	if err != nil || contents(t, v) != contents(t, w) {
		t.Errorf("after Prove a reader does not see the last commit: error %v", err)
	}
	t.Logf("%d loads, %d generations", loads, len(generations))
	mustClose(t, w)
}

// balanced reports whether each left has the value of its right.
func balanced(contents string) bool {
	left, right := map[string]string{}, map[string]string{}
	for line := range strings.Lines(contents) {
		key, value, _ := strings.Cut(line, "=")
		if g, found := strings.CutPrefix(key, "left"); found {
			left[g] = value
		} else if g, found := strings.CutPrefix(key, "right"); found {
			right[g] = value
		}
	}
	return fmt.Sprint(left) == fmt.Sprint(right)
}

func TestAnIdleStoreShowsReadersItsLastCommit(t *testing.T) {
	dir := t.TempDir()
	opts := quick(true)
	opts.hooks.quiet = time.Millisecond
	w := mustOpen(t, dir, opts)
	mustCommit(t, w, putBatch("k", "v"))
	for {
		v, err := LoadWAL(dir, LoadOptions{ID: testID, WriterLive: true})
		if err != nil {
			t.Fatal(err)
		}
		if contents(t, v) == contents(t, w) {
			return
		}
		if err := t.Context().Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAGenerationStaysSmallUnderSteadyLoad(t *testing.T) {
	dir := t.TempDir()
	w := mustOpen(t, dir, WALOptions{ID: testID, Create: true, GenerationBytes: 4 << 10, hooks: hooks{unsynced: true}})
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for i := range 500 {
				if _, err := w.Commit(t.Context(), putBatch(strconv.Itoa(g), strconv.Itoa(i))); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	mustClose(t, w)
	// How often it changes depends on how fast the background is; that it does, and what that bounds, does not.
	if w.gen.number < 2 || w.gen.size > 256<<10 {
		t.Errorf("generation %d has %d bytes", w.gen.number, w.gen.size)
	}
}

func TestALargeSnapshotLoadsAgain(t *testing.T) {
	dir := t.TempDir()
	w := mustOpen(t, dir, quick(true))
	for i := range 30 {
		var b Batch
		for j := range 100 {
			b.Put(fmt.Appendf(nil, "key%d-%d", i, j), make([]byte, 500+j))
		}
		mustCommit(t, w, &b)
	}
	for range 3 {
		want := contents(t, w)
		mustClose(t, w)
		w = mustOpen(t, dir, quick(false))
		if contents(t, w) != want {
			t.Fatal("reopened, the store holds something else")
		}
	}
}

func TestASnapshotThatLacksKeysIsNotTakenForWhole(t *testing.T) {
	var enc encoder
	salt := saltOf(testID, 1)
	build := func(chunks ...chunk) *scanned {
		enc.begin()
		for _, c := range chunks {
			enc.snapshot(c, []*item{newItem([]byte{byte(c.index)}, nil, 1)})
		}
		b := enc.seal(salt, 8, 7)
		return findEntries(append(binary.AppendUvarint(nil, uint64(len(b))), b...), salt)
	}
	for name, tc := range map[string]struct {
		chunks []chunk
		whole  bool
	}{
		"whole":         {[]chunk{{base: 7}, {base: 7, index: 1, final: true, total: 2}}, true},
		"a key less":    {[]chunk{{base: 7}, {base: 7, index: 1, final: true, total: 3}}, false},
		"a piece less":  {[]chunk{{base: 7}, {base: 7, index: 2, final: true, total: 2}}, false},
		"no last piece": {[]chunk{{base: 7}, {base: 7, index: 1}}, false},
		"another base":  {[]chunk{{base: 6}, {base: 6, index: 1, final: true, total: 2}}, false},
		"none":          {nil, false},
	} {
		_, err := recoverState([]*scanned{build(tc.chunks...)}, 0, math.MaxUint64)
		if tc.whole && err != nil || !tc.whole && !typed(err) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestAGenerationFollowsTheLastMarkOfTheOneBefore(t *testing.T) {
	// A mark is not synced, but it takes a number: before the next generation goes on from it, it must be durable.
	syncs := 0
	opts := quick(true)
	opts.hooks.foreground, opts.hooks.unsynced = true, false
	opts.hooks.synced = func() { syncs++ }
	w := reopenWithoutCommitter(t, closedStore(t), opts)
	w.unmarked = true
	if err := w.mark(); err != nil {
		t.Fatal(err)
	}
	if w.durable.Load() == w.work.seq {
		t.Fatal("the mark counts as durable before it is synced")
	}
	w.startNext()
	syncs = 0
	w.changed(<-w.change.result)
	if syncs != 1 || w.durable.Load() != w.work.seq {
		t.Errorf("%d syncs, durable %d of %d", syncs, w.durable.Load(), w.work.seq)
	}
	if err := w.finish(); err != nil {
		t.Fatal(err)
	}
}

// reopenWithoutCommitter opens a store whose committer the caller is.
func reopenWithoutCommitter(t *testing.T, dir string, opts WALOptions) *WAL {
	t.Helper()
	opts.Create = false
	w := &WAL{dir: dir, opts: opts, wake: make(chan struct{}, 1), done: make(chan struct{})}
	found, err := w.load()
	if err == nil {
		err = w.begin(found)
	}
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestABackgroundStepIsNoticedWithoutAPause(t *testing.T) {
	w := reopenWithoutCommitter(t, closedStore(t), quick(false))
	w.startNext()
	res := <-w.change.result
	w.change.result <- res
	w.advance() // as after each round, whether or not more commits wait
	if w.change.old == nil || w.change.snap == nil {
		t.Error("the next generation is ready, and not written to")
	}
	if err := w.finish(); err != nil {
		t.Fatal(err)
	}
}

// closedStore returns the directory of a store that was made and closed.
func closedStore(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	mustClose(t, mustOpen(t, dir, quick(true)))
	return dir
}
