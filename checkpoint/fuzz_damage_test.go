package checkpoint

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/braid-go/braid/internal/damage"
)

// damagedStore is a store whose files are about to be damaged: a history of one generation, or of two that are both listed.
type damagedStore struct {
	files   damage.Files
	held    []string // what the store held after each of its entries, the first being its snapshot
	entries []storedEntry
	proven  int // CURRENT proves all through this one
}

// storedEntry is where an entry of the history lies, without what stands in front of it.
type storedEntry struct {
	file     string
	from, to int64
}

func toDamage(f files) damage.Files {
	out := damage.Files{}
	for name, content := range f {
		out[name] = []byte(content)
	}
	return out
}

func fromDamage(f damage.Files) files {
	out := files{}
	for name, content := range f {
		out[name] = string(content)
	}
	return out
}

// damagedStores are one that was closed, one that was killed, and one that was killed while it changed its generation.
func damagedStores(t testing.TB) []*damagedStore {
	t.Helper()
	var all []*damagedStore
	for _, clean := range []bool{true, false} {
		h := makeHistory(t, clean)
		s := &damagedStore{files: toDamage(h.files), held: h.held}
		s.locate(h.name, 2)
		if clean {
			s.proven = len(s.held) - 1
		}
		all = append(all, s)
	}
	return append(all, all[1].changing(t))
}

// locate notes where the entries of a generation lie.
func (s *damagedStore) locate(name string, number uint64) {
	for _, e := range findEntries(s.files[name], saltOf(testID, number)).entries {
		_, head := binary.Uvarint(s.files[name][e.at:])
		s.entries = append(s.entries, storedEntry{name, e.at + int64(head), e.end})
	}
}

// changing adds a second generation with the first piece of its snapshot and two commits.
func (s *damagedStore) changing(t testing.TB) *damagedStore {
	t.Helper()
	cur, err := decodeCurrent(s.files[currentName])
	if err != nil {
		t.Fatal(err)
	}
	number := cur.generations[0] + 1
	name := filepath.Join(fmt.Sprintf("%010d", number), fmt.Sprintf("%020d", 1))
	last := s.sequence(t)
	c := &damagedStore{held: s.held, entries: s.entries, proven: s.proven}
	cur.generations = append(cur.generations, number)
	c.files = s.files.With(currentName, cur.encode())
	var enc encoder
	var data []byte
	for i := range uint64(2) {
		enc.begin()
		if i == 0 {
			enc.snapshot(chunk{base: last}, []*item{newItem([]byte("from"), []byte("before"), 1)})
		}
		enc.commit(putBatch("change", fmt.Sprint(i)))
		e := enc.seal(saltOf(testID, number), last+1+i, last+i)
		data = append(binary.AppendUvarint(data, uint64(len(e))), e...)
		c.files = c.files.With(name, data)
		v, err := LoadWAL(fromDamage(c.files).write(t, filepath.Join(t.TempDir(), "copy")), LoadOptions{ID: testID})
		if err != nil {
			t.Fatal(err)
		}
		c.held = append(c.held[:len(c.held):len(c.held)], contents(t, v))
	}
	c.entries = c.entries[:len(c.entries):len(c.entries)]
	c.locate(name, number)
	return c
}

func (s *damagedStore) sequence(t testing.TB) uint64 {
	t.Helper()
	v, err := LoadWAL(fromDamage(s.files).write(t, filepath.Join(t.TempDir(), "copy")), LoadOptions{ID: testID})
	if err != nil {
		t.Fatal(err)
	}
	return v.Sequence()
}

// least is the first state that damaged files may be taken for: the last one that something proves which is still there.
func (s *damagedStore) least(files damage.Files) int {
	least := s.proven
	for i, e := range s.entries {
		if b := files[e.file]; int64(len(b)) >= e.to && string(b[e.from:e.to]) == string(s.files[e.file][e.from:e.to]) {
			least = max(least, i-1) // it says that the one before was durable
		}
	}
	return least
}

// state returns which state some contents are, or -1.
func (s *damagedStore) state(contents string) int {
	for i := len(s.held) - 1; i >= 0; i-- {
		if s.held[i] == contents {
			return i
		}
	}
	return -1
}

// FuzzDamagedStore edits the files of a store, up to six times anywhere. Loading and opening it give one of the states that it had, no older than what is left proves, or a
// typed error. An error changes nothing; an opened store commits, and is found as it was left.
func FuzzDamagedStore(f *testing.F) {
	all := damagedStores(f)
	for i := range all {
		for kind := byte(0); kind <= damage.EditReplace; kind++ {
			for file := range len(all[i].files) {
				f.Add(byte(i), damage.Bytes(damage.Edit{Kind: kind, File: byte(file), Pos: 60 + 60*int(kind), Len: 90, Arg: kind + 1}))
			}
		}
		f.Add(byte(i), damage.Bytes(damage.Edit{Kind: damage.EditFlip, File: 0, Pos: 300}, damage.Edit{Kind: damage.EditZero, File: 0, Pos: 500, Len: 300}))
	}
	base := filepath.Join(f.TempDir(), fmt.Sprint(os.Getpid()))
	f.Fuzz(func(t *testing.T, which byte, script []byte) {
		s := all[int(which)%len(all)]
		files, done := s.files.Apply(damage.Parse(script))
		s.check(t, strings.Join(done, "; "), fromDamage(files).write(t, base), s.least(files))
	})
}

// check loads and opens a damaged store.
func (s *damagedStore) check(t *testing.T, what, dir string, least int) {
	t.Helper()
	before := readFiles(t, dir)
	loaded := -1
	v, err := LoadWAL(dir, LoadOptions{ID: testID})
	if err == nil {
		loaded = s.state(contents(t, v))
	}
	if err == nil && loaded < least || err != nil && !typed(err) {
		t.Errorf("%s: loaded as state %d, at least %d is proven: error %v", what, loaded, least, err)
	}
	w, err := OpenWAL(dir, quick(false))
	if err != nil {
		if after := readFiles(t, dir); !typed(err) || fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("%s: open: error %v, and the files were changed: %v", what, err, fmt.Sprint(after) != fmt.Sprint(before))
		}
		return
	}
	defer w.Close()
	if got := s.state(contents(t, w)); got != loaded {
		t.Errorf("%s: opened as state %d, loaded as %d", what, got, loaded)
	}
	for _, torn := range w.Report().Torn {
		if b, err := os.ReadFile(torn.Path); err != nil || int64(len(b)) != torn.Length {
			t.Errorf("%s: of the torn tail %+v %d bytes are kept: %v", what, torn, len(b), err)
		}
	}
	mustCommit(t, w, putBatch("after", "recovery"))
	after := contents(t, w)
	mustClose(t, w)
	if v, err := LoadWAL(dir, LoadOptions{ID: testID}); err != nil || contents(t, v) != after {
		t.Errorf("%s: after recovery, a commit and a close: %v", what, err)
	}
}

// Every bit of every file of a store that was killed while it changed its generation, with both of them listed.
func TestEveryFlippedBitOfTwoGenerationsIsSurvived(t *testing.T) {
	s := damagedStores(t)[2]
	base := filepath.Join(t.TempDir(), "copy")
	flips := 0
	for at, name := range s.files.Names() {
		for bit := 0; bit < 8*len(s.files[name]); bit += damage.Step(*long, 7) {
			files, done := s.files.Apply([]damage.Edit{{Kind: damage.EditFlip, File: byte(at), Pos: bit / 8, Arg: byte(bit % 8)}})
			s.check(t, done[0], fromDamage(files).write(t, base), s.least(files))
			flips++
		}
	}
	t.Logf("bits flipped: %d", flips)
}
