package checkpoint

import (
	"context"
	"fmt"
	"testing"
)

// A generation is as large as it likes on disk: in memory there is its last entry at most. Another version of tidwall/wal that keeps what
// it writes elsewhere makes this fail.
func TestNothingOfAGenerationStaysInMemory(t *testing.T) {
	dir := t.TempDir()
	opts := WALOptions{Create: true, GenerationBytes: 64 << 20, hooks: hooks{unsynced: true}}
	w, err := OpenWAL(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	const commits, size = 64, keepTail / 4
	value := make([]byte, size)
	for i := range commits {
		var b Batch
		if i == commits/2 {
			b.Put([]byte("large"), make([]byte, 3*keepTail))
		}
		b.Put(fmt.Appendf(nil, "key %d", i), value)
		if _, err := w.Commit(context.Background(), &b); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	tail := &w.gen.tail // nobody else has it any more
	if tail.bytes == nil {
		t.Fatal("tidwall/wal keeps what it has written where it is not found")
	}
	if n := cap(*tail.bytes); n > keepTail || n < size {
		t.Errorf("of %d bytes in %d entries %d stay in memory", w.gen.size, commits, n)
	}
	if n := tail.entries.Len(); n > 0 {
		t.Errorf("%d entries are remembered", n)
	}
	opts.Create = false
	if w, err = OpenWAL(dir, opts); err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if keys, _ := w.Size(); keys != commits+1 {
		t.Errorf("%d keys are there again, want %d", keys, commits+1)
	}
}

func TestAnEntryThatIsNotWhereItBelongsFailsTheGeneration(t *testing.T) {
	w, err := OpenWAL(t.TempDir(), WALOptions{Create: true, hooks: hooks{unsynced: true}})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	g := w.gen
	first, second := []byte("the first entry"), []byte("the second one")
	if err := g.append(first); err != nil || g.index != 2 { // behind the snapshot
		t.Fatalf("entry %d, %v", g.index, err)
	}
	if err := g.check(g.size-int64(len(first))-1, first); err != nil {
		t.Error(err)
	}
	if err := g.append(second); err != nil {
		t.Fatal(err)
	}
	if err := g.check(g.size-int64(len(second))-1, first[:len(second)]); err == nil {
		t.Error("an entry was found that is not there")
	}
}
