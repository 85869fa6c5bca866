package vfs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// eachSeed runs test with the dice of many seeds and names the one that failed.
func eachSeed(t *testing.T, n uint64, test func(rnd *rand.Rand) error) {
	t.Helper()
	for seed := range n {
		if err := test(seeded(seed)); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

// everyFate keeps, loses and damages about as often.
func everyFate(rnd *rand.Rand) CrashOptions {
	return CrashOptions{Rand: rnd, Keep: 0.4, Damage: 0.7}
}

// synced makes a durable file.
func synced(t *testing.T, m *Mem, name, content string) File {
	t.Helper()
	f := create(t, m, name, content)
	must(t, f.Sync())
	must(t, m.SyncDir("/"))
	return f
}

func TestStrictCloneHoldsExactlyWhatWasSynced(t *testing.T) {
	for name, opts := range map[string]CrashOptions{
		"zero options": {},
		"no dice":      {Keep: 1, Damage: 1},
		"no chance":    {Rand: seeded(0)},
	} {
		t.Run(name, func(t *testing.T) {
			m := NewMem()
			f := synced(t, m, "/a", strings.Repeat("s", 2000))
			create(t, m, "/created", "lost")
			write(t, f, strings.Repeat("u", 600), 1700)
			must(t, m.Mkdir("/d"))
			clone := m.CrashClone(opts)
			wantNames(t, clone, "/", "a")
			if got := contentOf(t, clone, "/a"); got != strings.Repeat("s", 2000) {
				t.Errorf("%d bytes, unsynced ones among them", len(got))
			}
			must(t, f.Truncate(10))
			must(t, f.Datasync())
			must(t, m.Remove("/a"))
			if got := contentOf(t, m.CrashClone(opts), "/a"); got != strings.Repeat("s", 10) {
				t.Errorf("after a synced truncation: %q", got)
			}
		})
	}
}

func TestSyncedBytesThatWereNotWrittenAgainAlwaysSurvive(t *testing.T) {
	eachSeed(t, 400, func(rnd *rand.Rand) error {
		m := NewMem()
		f := synced(t, m, "/a", "")
		var content, onDisk []byte
		var fresh []bool // written since the last sync
		for range 1 + rnd.IntN(30) {
			off := rnd.IntN(len(content) + 700)
			p := make([]byte, 1+rnd.IntN(3000))
			for i := range p {
				p[i] = byte(rnd.Uint32())
			}
			write(t, f, string(p), int64(off))
			for len(content) < off+len(p) {
				content, fresh = append(content, 0), append(fresh, true)
			}
			copy(content[off:], p)
			for i := range p {
				fresh[off+i] = true
			}
			if rnd.IntN(4) == 0 {
				must(t, f.Datasync())
				onDisk = slices.Clone(content)
				clear(fresh)
			}
		}
		clone := m.CrashClone(RandomCrash(rnd))
		got := contentOf(t, clone, "/a")
		if len(got) < len(onDisk) || len(got) > len(content) {
			return fmt.Errorf("size %d, synced %d, written %d", len(got), len(onDisk), len(content))
		}
		for i, b := range onDisk {
			if !fresh[i] && got[i] != b {
				return fmt.Errorf("byte %d was synced and is lost", i)
			}
		}
		if now := contentOf(t, m, "/a"); now != string(content) {
			return fmt.Errorf("the clone changed the original")
		}
		return nil
	})
}

// fate names what became of a block whose bytes were all old and then all new.
func fate(block []byte, older, newer byte) string {
	count := func(b byte) int { return bytes.Count(block, []byte{b}) }
	switch n := len(block); {
	case count(older) == n:
		return "old"
	case count(newer) == n:
		return "new"
	case count(0) == n:
		return "zeros"
	case count(older)+count(newer) == n:
		return "torn"
	default:
		return "garbage"
	}
}

func TestEachUnsyncedBlockMeetsItsOwnFate(t *testing.T) {
	seen := map[string]int{}
	mixed := false
	for seed := range uint64(60) {
		m := NewMem()
		f := synced(t, m, "/a", strings.Repeat("o", 8*blockSize))
		write(t, f, strings.Repeat("n", 6*blockSize), blockSize)
		got := []byte(contentOf(t, m.CrashClone(everyFate(seeded(seed))), "/a"))
		fates := map[string]bool{}
		for i, block := range slices.Collect(slices.Chunk(got, blockSize)) {
			what := fate(block, 'o', 'n')
			if (i == 0 || i == 7) && what != "old" {
				t.Fatalf("seed %d: block %d was synced and is %s", seed, i, what)
			}
			seen[what]++
			fates[what] = true
		}
		mixed = mixed || len(fates) >= 4
	}
	for _, what := range []string{"old", "new", "zeros", "garbage", "torn"} {
		if seen[what] == 0 {
			t.Errorf("no block is ever %s: %v", what, seen)
		}
	}
	if !mixed {
		t.Error("blocks of one file never differ in their fate")
	}
}

func TestDamageStaysWithinTheBytesWrittenUnlessWholeBlocksAreLost(t *testing.T) {
	for _, whole := range []bool{false, true} {
		spread := false
		for seed := range uint64(100) {
			m := NewMem()
			f := synced(t, m, "/a", strings.Repeat("o", blockSize))
			write(t, f, "n", 10)
			write(t, f, "nn", 400)
			opts := CrashOptions{Rand: seeded(seed), Damage: 1, WholeBlocks: whole}
			got := contentOf(t, m.CrashClone(opts), "/a")
			for i := range got {
				if got[i] != 'o' && i != 10 && i != 400 && i != 401 {
					spread = true
				}
			}
		}
		if spread != whole {
			t.Errorf("WholeBlocks %v: synced neighbours damaged: %v", whole, spread)
		}
	}
}

func TestUnsyncedGrowthSurvivesWhollyPartlyOrNot(t *testing.T) {
	seen := map[string]bool{}
	eachSeed(t, 100, func(rnd *rand.Rand) error {
		m := NewMem()
		f := synced(t, m, "/a", strings.Repeat("o", 1000))
		write(t, f, strings.Repeat("n", 4000), 1000)
		switch n := len(contentOf(t, m.CrashClone(everyFate(rnd)), "/a")); {
		case n == 1000:
			seen["none"] = true
		case n == 5000:
			seen["whole"] = true
		case n > 1000 && n < 5000:
			seen["part"] = true
		default:
			return fmt.Errorf("size %d", n)
		}
		return nil
	})
	if len(seen) != 3 {
		t.Errorf("seen only %v", seen)
	}
}

func TestZeroFillThatWasNotSyncedMayBeGarbage(t *testing.T) {
	seen := map[string]bool{}
	eachSeed(t, 300, func(rnd *rand.Rand) error {
		m := NewMem()
		f := synced(t, m, "/a", "")
		write(t, f, strings.Repeat("\x00", blockSize), 0)
		got := contentOf(t, m.CrashClone(CrashOptions{Rand: rnd, Keep: 0.5, Damage: 1}), "/a")
		if len(got) == blockSize {
			seen[fate([]byte(got), 'o', 0)] = true
		}
		return nil
	})
	if !seen["garbage"] || !seen["new"] {
		t.Errorf("seen only %v", seen)
	}
}

func TestTruncatedBytesComeBackOnlyWithTheWholeOldFile(t *testing.T) {
	undone, done := 0, 0
	eachSeed(t, 300, func(rnd *rand.Rand) error {
		m := NewMem()
		f := synced(t, m, "/a", strings.Repeat("o", 3000))
		must(t, f.Truncate(700))
		write(t, f, strings.Repeat("n", 1000), 2000)
		got := contentOf(t, m.CrashClone(CrashOptions{Rand: rnd, Keep: 0.5}), "/a")
		if got[:700] != strings.Repeat("o", 700) {
			return fmt.Errorf("bytes before the cut changed")
		}
		if len(got) == 3000 && got[2999] == 'o' {
			undone++
			if got[1024:] != strings.Repeat("o", 3000-1024) {
				return fmt.Errorf("the truncation was lost, but not what came after it")
			}
			return nil
		}
		done++
		if strings.Contains(got[700:], "o") {
			return fmt.Errorf("size %d: bytes that were cut off came back", len(got))
		}
		return nil
	})
	if undone == 0 || done == 0 {
		t.Errorf("truncation lost %d times, kept %d times", undone, done)
	}
}

func TestAfterAFailedSyncOnlyRewritingBringsBytesToDisk(t *testing.T) {
	m := NewMem()
	eio := fs.ErrInvalid
	trigger := FailAt(1, eio, OpIs(OpDatasync)).Dropping()
	fault := NewFault(NewFault(m, nil), trigger)
	synced(t, m, "/a", strings.Repeat("o", 4*blockSize))
	f, err := fault.OpenReadWrite("/a")
	must(t, err)
	defer f.Close()
	write(t, f, strings.Repeat("n", 2*blockSize), blockSize)
	wantErr(t, "Datasync", f.Datasync(), eio)
	if got := contentOf(t, fault, "/a"); fate([]byte(got[blockSize:3*blockSize]), 'o', 'n') != "new" {
		t.Error("the bytes do not read back")
	}
	write(t, f, "n", blockSize) // makes this block dirty again, and only this one
	must(t, f.Datasync())
	must(t, f.Sync())
	eachSeed(t, 100, func(rnd *rand.Rand) error {
		got := []byte(contentOf(t, m.CrashClone(RandomCrash(rnd)), "/a"))
		if what := fate(got[blockSize:2*blockSize], 'o', 'n'); what != "new" {
			return fmt.Errorf("rewritten and synced, and it is %s", what)
		}
		if what := fate(got[2*blockSize:3*blockSize], 'o', 'n'); what == "new" {
			return fmt.Errorf("a sync after the failed one made the bytes durable")
		}
		return nil
	})
	if got := contentOf(t, m.CrashClone(CrashOptions{}), "/a"); got[2*blockSize:] != strings.Repeat("o", 2*blockSize) {
		t.Error("the strict clone holds what the failed sync lost")
	}
}

func TestAppendedBytesLostByAFailedSyncReadAsZerosAfterACrash(t *testing.T) {
	m := NewMem()
	f := synced(t, m, "/a", "")
	write(t, f, "record", 0)
	f.(*memHandle).FailSync()
	must(t, f.Sync())
	if got := contentOf(t, m.CrashClone(CrashOptions{}), "/a"); got != strings.Repeat("\x00", 6) {
		t.Errorf("got %q", got)
	}
	must(t, f.Truncate(0))
	must(t, f.Sync())
	must(t, f.Truncate(6))
	must(t, f.Sync())
	eachSeed(t, 20, func(rnd *rand.Rand) error {
		if got := contentOf(t, m.CrashClone(everyFate(rnd)), "/a"); got != strings.Repeat("\x00", 6) {
			return fmt.Errorf("the lost block outlived its truncation: %q", got)
		}
		return nil
	})
}

func TestASyncedTruncationIsNotUndoneByAnEarlierFailedSync(t *testing.T) {
	for _, size := range []int64{0, 3, blockSize + 3} {
		m := NewMem()
		f := synced(t, m, "/a", strings.Repeat("o", 2*blockSize))
		must(t, f.Truncate(size))
		f.(*memHandle).FailSync()
		must(t, f.Sync())
		must(t, f.Truncate(2*blockSize))
		must(t, f.Sync())
		want := strings.Repeat("o", int(size)) + strings.Repeat("\x00", 2*blockSize-int(size))
		if got := contentOf(t, m.CrashClone(CrashOptions{}), "/a"); got != want {
			t.Errorf("cut at %d: bytes that were cut off came back", size)
		}
	}
}

func TestSameSeedGivesTheSameClone(t *testing.T) {
	m := NewMem()
	for i := range 20 {
		f := create(t, m, fmt.Sprintf("/f%d", i), strings.Repeat("o", 3000))
		if i%2 == 0 {
			must(t, f.Sync())
		}
		write(t, f, strings.Repeat("n", 2000), 500)
	}
	picture := func() (all string) {
		clone := m.CrashClone(everyFate(seeded(7)))
		for _, name := range names(t, clone, "/") {
			all += name + contentOf(t, clone, "/"+name)
		}
		return all
	}
	if first, second := picture(), picture(); first != second {
		t.Error("two clones of one seed differ")
	}
}

func TestACloneAndItsOriginalAreIndependent(t *testing.T) {
	m := NewMem()
	f := synced(t, m, "/a", "one")
	clone := m.CrashClone(CrashOptions{})
	g, err := clone.OpenReadWrite("/a")
	must(t, err)
	defer g.Close()
	write(t, g, "two", 0)
	write(t, f, "six", 0)
	must(t, f.Sync())
	synced(t, clone, "/b", "")
	if got := contentOf(t, clone, "/a"); got != "two" {
		t.Errorf("clone: %q", got)
	}
	if got := contentOf(t, clone.CrashClone(CrashOptions{}), "/a"); got != "one" {
		t.Errorf("clone of the clone: %q", got)
	}
	wantNames(t, m, "/", "a")
	wantNames(t, clone.CrashClone(CrashOptions{}), "/", "a", "b")
}

func TestACloneIsOneInstantOfAllFilesWhileOthersWrite(t *testing.T) {
	m := NewMem()
	first, second := synced(t, m, "/1", ""), synced(t, m, "/2", "")
	done := make(chan error, 1)
	go func() {
		var number [8]byte
		for i := range uint64(3000) {
			binary.BigEndian.PutUint64(number[:], i+1)
			for _, f := range []File{first, second} {
				if _, err := f.WriteAt(number[:], 0); err != nil {
					done <- err
					return
				}
				if err := f.Datasync(); err != nil {
					done <- err
					return
				}
			}
		}
		done <- nil
	}()
	value := func(m *Mem, name string) uint64 {
		var number [8]byte
		copy(number[:], contentOf(t, m, name))
		return binary.BigEndian.Uint64(number[:])
	}
	for {
		select {
		case err := <-done:
			must(t, err)
			return
		default:
			clone := m.CrashClone(CrashOptions{})
			if a, b := value(clone, "/1"), value(clone, "/2"); a < b || a > b+1 {
				t.Errorf("file 1 is at %d, file 2 at %d", a, b)
			}
		}
	}
}

func TestACloneOfAVolatileFileSystemIsEmpty(t *testing.T) {
	m := NewVolatile()
	synced(t, m, "/a", "x")
	wantNames(t, m.CrashClone(CrashOptions{Rand: seeded(1), Keep: 1}), "/")
}
