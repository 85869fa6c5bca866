package checkpoint

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
)

// history is a small store as files, and what it held after each entry.
type history struct {
	files files
	name  string   // of the generation's file
	data  string   // its bytes, without the zeros ahead
	ends  []int64  // where the snapshot ends, and each entry behind it
	held  []string // what the store held then
}

// makeHistory commits a few batches. If clean, the store is closed, otherwise it is as a killed process leaves it.
func makeHistory(t testing.TB, clean bool) *history {
	t.Helper()
	dir := t.TempDir()
	w := mustOpen(t, dir, quick(true))
	mustCommit(t, w, putBatch("from", "before", "kept", "\x00\x01\x02"))
	mustClose(t, w)
	opts := quick(false)
	w = mustOpen(t, dir, opts)
	h := &history{}
	h.note(t, w)
	for i := range 6 {
		b := putBatch("k", fmt.Sprint(i), fmt.Sprintf("key%d", i), strings.Repeat(string(rune(i)), 7*i))
		b.Delete(fmt.Appendf(nil, "key%d", i-2))
		mustCommit(t, w, b)
		h.note(t, w)
	}
	if clean {
		mustClose(t, w)
	}
	h.files = readFiles(t, dir)
	h.name = h.files.segment(t)
	h.data = h.files[h.name][:h.ends[len(h.ends)-1]]
	h.files = h.files.with(h.name, h.data)
	return h
}

func (h *history) note(t testing.TB, w *WAL) {
	t.Helper()
	data := readFiles(t, w.dir)
	g := findEntries([]byte(data[data.segment(t)]), saltOf(testID, 2))
	if g.damage != nil {
		t.Fatal(g.damage)
	}
	h.ends = append(h.ends, g.end)
	h.held = append(h.held, contents(t, w))
}

// expected returns how many entries of the original are whole in other bytes, from the beginning on: -1 if not
// even the snapshot is.
func (h *history) expected(data string) int {
	n := -1
	for i, end := range h.ends {
		if int64(len(data)) < end || data[:end] != h.data[:end] {
			break
		}
		n = i
	}
	return n
}

// check recovers damaged bytes. Whatever is whole from the beginning on must be there, what is not must be
// reported; want is the number of the entry that the store must end with, or -1 for an error. If deep, it is done
// with files too, by loading, and by opening, committing, closing and loading.
func (h *history) check(t *testing.T, what, base, data string, want int, deep bool) {
	t.Helper()
	cur, err := decodeCurrent([]byte(h.files[currentName]))
	if err != nil {
		t.Fatal(err)
	}
	g := findEntries([]byte(data), saltOf(testID, 2))
	g.number, g.path = 2, h.name
	r, err := recoverState([]*scanned{g}, cur.proven, math.MaxUint64)
	v := &View{}
	if err == nil {
		v = r.view()
	}
	h.checkView(t, what+": recover", v, err, data, want)
	if !deep {
		return
	}
	dir := h.files.with(h.name, data).write(t, base)
	v, err = LoadWAL(dir, LoadOptions{ID: testID})
	h.checkView(t, what+": load", v, err, data, want)
	h.checkOpen(t, what, dir, data, want)
}

// torn is what of some bytes is to be set aside.
func (h *history) torn(data string, want int) string {
	return strings.TrimRight(data[h.ends[want]:], "\x00")
}

func (h *history) checkView(t *testing.T, what string, v *View, err error, data string, want int) {
	t.Helper()
	switch {
	case want < 0:
		if !typed(err) {
			t.Fatalf("%s: error %v, want a typed one", what, err)
		}
	case err != nil:
		t.Fatalf("%s: %v", what, err)
	case contents(t, v) != h.held[want]:
		t.Fatalf("%s: got\n%swant\n%s", what, contents(t, v), h.held[want])
	case (h.torn(data, want) != "") != (len(v.Torn()) == 1):
		t.Fatalf("%s: torn tails %+v, %d bytes are left over", what, v.Torn(), len(h.torn(data, want)))
	}
}

func overwrite(t *testing.T, path, data string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (h *history) checkOpen(t *testing.T, what, dir, data string, want int) {
	t.Helper()
	w, err := OpenWAL(dir, quick(false))
	if want < 0 {
		if !typed(err) {
			t.Fatalf("%s: open: error %v, want a typed one", what, err)
		}
		if left, _ := os.ReadFile(filepath.Join(dir, h.name)); string(left) != data {
			t.Fatalf("%s: a refused open has changed the file", what)
		}
		return
	}
	if err != nil {
		t.Fatalf("%s: open: %v", what, err)
	}
	defer w.Close()
	if contents(t, w) != h.held[want] {
		t.Fatalf("%s: open has\n%swant\n%s", what, contents(t, w), h.held[want])
	}
	report, torn := w.Report(), h.torn(data, want)
	if (torn != "") != (len(report.Torn) == 1) {
		t.Fatalf("%s: report %+v, want %d bytes torn", what, report, len(torn))
	}
	if torn != "" {
		kept, err := os.ReadFile(report.Torn[0].Path)
		if err != nil || string(kept) != torn {
			t.Fatalf("%s: the torn tail keeps %d bytes, want %d, error %v", what, len(kept), len(torn), err)
		}
	}
	mustCommit(t, w, putBatch("after", "recovery"))
	after := contents(t, w)
	mustClose(t, w)
	v, err := LoadWAL(dir, LoadOptions{ID: testID})
	if err != nil || contents(t, v) != after {
		t.Fatalf("%s: after recovery, a commit and a close: error %v", what, err)
	}
}

// tails are the ways in which a write can end at a byte.
var tails = []struct {
	name string
	make func(data string, at int, rng *rand.Rand) string
}{
	{"cut", func(data string, at int, _ *rand.Rand) string { return data[:at] }},
	{"zeros", func(data string, at int, _ *rand.Rand) string {
		return data[:at] + strings.Repeat("\x00", len(data)-at)
	}},
	{"garbage", func(data string, at int, rng *rand.Rand) string {
		b := []byte(data)
		for i := at; i < len(b); i++ {
			b[i] = byte(rng.Uint32())
		}
		return string(b)
	}},
}

func TestATornTailAtAnyByteLeavesWhatWasWholeBeforeIt(t *testing.T) {
	noLeaks(t)
	h := makeHistory(t, false)
	base := filepath.Join(t.TempDir(), "copy")
	n := 0
	for _, tail := range tails {
		rng := rand.New(rand.NewPCG(7, 7))
		for at := range len(h.data) + 1 {
			data := tail.make(h.data, at, rng)
			h.check(t, fmt.Sprintf("%s at %d of %d", tail.name, at, len(h.data)), base, data, h.expected(data), at%3 == 0)
			n++
		}
	}
	t.Logf("%d torn tails", n)
}

func TestAfterACleanCloseNothingIsTakenForATornTail(t *testing.T) {
	h := makeHistory(t, true)
	base := filepath.Join(t.TempDir(), "copy")
	for _, tail := range tails {
		rng := rand.New(rand.NewPCG(8, 8))
		for at := range len(h.data) {
			data := tail.make(h.data, at, rng)
			want := -1
			if data == h.data {
				want = len(h.ends) - 1
			}
			h.check(t, fmt.Sprintf("%s at %d of %d", tail.name, at, len(h.data)), base, data, want, at%31 == 0)
		}
	}
}

func TestEveryFlippedBitIsNoticed(t *testing.T) {
	for _, clean := range []bool{true, false} {
		t.Run(fmt.Sprintf("clean=%v", clean), func(t *testing.T) {
			h := makeHistory(t, clean)
			base := filepath.Join(t.TempDir(), "copy")
			last := len(h.ends) - 1
			for i := range len(h.data) * 8 {
				b := []byte(h.data)
				b[i/8] ^= 1 << (i % 8)
				want := -1
				if !clean && int64(i/8) >= h.ends[last-1] {
					want = last - 1 // The last commit, which nothing proves, is set aside.
				}
				h.check(t, fmt.Sprintf("bit %d of byte %d", i%8, i/8), base, string(b), want, i%97 == 3)
			}
			h.files.write(t, base)
			for i := range len(h.files[currentName]) * 8 {
				b := []byte(h.files[currentName])
				b[i/8] ^= 1 << (i % 8)
				overwrite(t, filepath.Join(base, currentName), string(b))
				if _, err := LoadWAL(base, LoadOptions{ID: testID}); !typed(err) {
					t.Fatalf("bit %d of byte %d of CURRENT: error %v, want a typed one", i%8, i/8, err)
				}
			}
		})
	}
}

func TestDamageIsReportedWithItsPlace(t *testing.T) {
	h := makeHistory(t, false)
	b := []byte(h.data)
	b[h.ends[2]+60] ^= 1 // in the fourth entry
	dir := h.files.with(h.name, string(b)).write(t, filepath.Join(t.TempDir(), "copy"))
	_, err := OpenWAL(dir, quick(false))
	var corrupt *CorruptError
	if !errors.As(err, &corrupt) {
		t.Fatalf("error %v, want a *CorruptError", err)
	}
	if end := corrupt.Offset + corrupt.Length; corrupt.Path != filepath.Join(dir, h.name) || corrupt.Offset != h.ends[2] || end < h.ends[3] || end > h.ends[3]+3 {
		t.Errorf("damage at %d to %d of %s, want %d to %d of %s", corrupt.Offset, end, corrupt.Path, h.ends[2], h.ends[3], h.name)
	}
}

func TestAnEntryInsideAValueIsNoEntry(t *testing.T) {
	dir := t.TempDir()
	w := mustOpen(t, dir, quick(true))
	mustCommit(t, w, putBatch("a", "1"))
	mustCommit(t, w, putBatch("b", "2"))
	data := readFiles(t, dir)
	log := strings.TrimRight(data[data.segment(t)], "\x00")
	mustCommit(t, w, putBatch("copy", log)) // the log so far, in the log
	data = readFiles(t, dir)
	name := data.segment(t)
	for at := len(log); at < len(strings.TrimRight(data[name], "\x00")); at++ {
		cut := []byte(data[name])
		cut[at] ^= 0x55
		v, err := LoadWAL(data.with(name, string(cut)).write(t, filepath.Join(t.TempDir(), "x")), LoadOptions{ID: testID})
		if err != nil {
			t.Fatalf("byte %d: %v", at, err)
		}
		if got := contents(t, v); got != "a=31@2\nb=32@3\n" || len(v.Torn()) != 1 {
			t.Fatalf("byte %d: got %q, torn %+v", at, got, v.Torn())
		}
	}
}

func TestMissingAndForeignStores(t *testing.T) {
	h := makeHistory(t, true)
	old := makeHistory(t, true) // of the same id
	for name, tc := range map[string]struct {
		files  files
		id     [16]byte
		proven uint64
		want   error
	}{
		"CURRENT gone":                {files: h.files.without(currentName), id: testID, want: ErrMissingData},
		"CURRENT empty":               {files: h.files.with(currentName, ""), id: testID, want: ErrMissingData},
		"CURRENT of another id":       {files: h.files, id: [16]byte{9}, want: ErrMissingData},
		"CURRENT too large":           {files: h.files.with(currentName, strings.Repeat("x", maxCurrent+1)), id: testID, want: ErrCorrupt},
		"generation gone":             {files: h.files.without(h.name), id: testID, want: ErrMissingData},
		"generation empty":            {files: h.files.with(h.name, ""), id: testID, want: ErrMissingData},
		"generation all zeros":        {files: h.files.with(h.name, strings.Repeat("\x00", 4096)), id: testID, want: ErrMissingData},
		"generation truncated":        {files: h.files.with(h.name, h.data[:h.ends[3]]), id: testID, want: ErrMissingData},
		"generation is a foreign one": {files: h.files.with(h.name, strings.Repeat("not a log", 100)), id: testID, want: ErrCorrupt},
		"all gone":                    {files: files{}, id: testID, want: ErrMissingData},
		"rolled back":                 {files: old.files, id: testID, proven: 1000, want: ErrCorrupt},
		"a newer version":             {files: h.files.with(currentName, newerCurrent()), id: testID, want: ErrVersion},
	} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			dir := tc.files.write(t, filepath.Join(t.TempDir(), "copy"))
			before := fmt.Sprint(readFiles(t, dir))
			for _, create := range []bool{false, true} {
				if create && len(tc.files) == 0 {
					continue
				}
				opts := quick(create)
				opts.ID, opts.ProvenSequence = tc.id, tc.proven
				if _, err := OpenWAL(dir, opts); !errors.Is(err, tc.want) {
					t.Errorf("open, create=%v: error %v, want %v", create, err, tc.want)
				}
			}
			if tc.proven == 0 {
				for _, live := range []bool{false, true} {
					if _, err := LoadWAL(dir, LoadOptions{ID: tc.id, WriterLive: live}); !errors.Is(err, tc.want) {
						t.Errorf("load, live=%v: error %v, want %v", live, err, tc.want)
					}
				}
			}
			if after := fmt.Sprint(readFiles(t, dir)); after != before {
				t.Errorf("a refused open has changed the directory:\n%s\n%s", before, after)
			}
		})
	}
	if _, err := OpenWAL(filepath.Join(t.TempDir(), "never"), quick(false)); !errors.Is(err, ErrMissingData) {
		t.Errorf("no directory: error %v, want ErrMissingData", err)
	}
}

// newerCurrent is a CURRENT of a later version.
func newerCurrent() string {
	c := current{id: testID, proven: 1, generations: []uint64{1}}
	body, _, _ := strings.Cut(strings.Replace(string(c.encode()), "checkpoint 1", "checkpoint 2", 1), "sum ")
	return body + fmt.Sprintf("sum %016x\n", xxhash.Sum64String(body))
}

func TestAnOldCopyOfCURRENTIsNoticed(t *testing.T) {
	dir := t.TempDir()
	w := mustOpen(t, dir, quick(true))
	mustCommit(t, w, putBatch("a", "1"))
	mustClose(t, w)
	old := readFiles(t, dir)
	w = mustOpen(t, dir, quick(false))
	mustCommit(t, w, putBatch("b", "2"))
	mustClose(t, w)
	both := readFiles(t, dir)
	for name, content := range old { // the old generation too, as an interrupted removal leaves it
		both[name] = content
	}
	_, err := OpenWAL(both.write(t, filepath.Join(t.TempDir(), "copy")), quick(false))
	if !errors.Is(err, ErrMissingData) {
		t.Errorf("error %v, want ErrMissingData", err)
	}
}
