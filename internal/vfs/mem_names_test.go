package vfs

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// survivors returns how often each set of names of dir came out of many crashes.
func survivors(t *testing.T, m *Mem, dir string) map[string]int {
	t.Helper()
	seen := map[string]int{}
	eachSeed(t, 200, func(rnd *rand.Rand) error {
		clone := m.CrashClone(CrashOptions{Rand: rnd, Keep: 0.5})
		seen[strings.Join(names(t, clone, dir), " ")]++
		return nil
	})
	return seen
}

func wantSurvivors(t *testing.T, m *Mem, dir string, want ...string) {
	t.Helper()
	got := sortedKeys(survivors(t, m, dir))
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("what crashes leave in %s: got %q, want %q", dir, got, want)
	}
}

func TestANameThatWasNotSyncedMayBeLostWithItsSyncedFile(t *testing.T) {
	m := NewMem()
	for _, name := range []string{"/a", "/b"} {
		f := create(t, m, name, "x")
		must(t, f.Sync())
	}
	wantSurvivors(t, m, "/", "", "a", "b", "a b")
	must(t, m.SyncDir("/"))
	wantSurvivors(t, m, "/", "a b")
}

func TestARemovedFileMayComeBackWithItsSyncedContent(t *testing.T) {
	m := NewMem()
	f := synced(t, m, "/a", "synced")
	write(t, f, "UNSYNC", 0)
	must(t, f.Close())
	must(t, m.Remove("/a"))
	wantSurvivors(t, m, "/", "", "a")
	if got := contentOf(t, m.CrashClone(CrashOptions{}), "/a"); got != "synced" {
		t.Errorf("it came back as %q", got)
	}
	must(t, m.SyncDir("/"))
	wantSurvivors(t, m, "/", "")
}

func TestANameTakenAgainIsTheOldFileOrTheNewOne(t *testing.T) {
	m := NewMem()
	synced(t, m, "/a", "old")
	must(t, m.Remove("/a"))
	f := create(t, m, "/a", "new")
	must(t, f.Sync())
	seen := map[string]bool{}
	eachSeed(t, 100, func(rnd *rand.Rand) error {
		clone := m.CrashClone(CrashOptions{Rand: rnd, Keep: 0.5})
		if len(names(t, clone, "/")) == 0 {
			seen["absent"] = true
			return nil
		}
		seen[contentOf(t, clone, "/a")] = true
		return nil
	})
	if got := sortedKeys(seen); !slices.Equal(got, []string{"absent", "new", "old"}) {
		t.Errorf("got %q", got)
	}
}

func TestARenameReplacesItsTargetAtomically(t *testing.T) {
	m := NewMem()
	synced(t, m, "/target", "0")
	const versions = 4
	for i := 1; i < versions; i++ {
		f := create(t, m, "/temp", fmt.Sprint(i))
		must(t, f.Sync())
		must(t, m.Rename("/temp", "/target"))
	}
	seen := map[string]bool{}
	eachSeed(t, 500, func(rnd *rand.Rand) error {
		seen[contentOf(t, m.CrashClone(CrashOptions{Rand: rnd, Keep: 0.7}), "/target")] = true
		return nil
	})
	if len(seen) != versions {
		t.Errorf("seen versions %q, want all %d", sortedKeys(seen), versions)
	}
	must(t, m.SyncDir("/"))
	if got := contentOf(t, m.CrashClone(CrashOptions{}), "/target"); got != "3" {
		t.Errorf("after SyncDir: %q", got)
	}
}

func TestARenamedFileHasOneOfItsNames(t *testing.T) {
	m := NewMem()
	synced(t, m, "/a", "x")
	must(t, m.Rename("/a", "/b"))
	wantSurvivors(t, m, "/", "a", "b")
	f := create(t, m, "/a", "y") // takes the free name: must not destroy x
	must(t, f.Sync())
	wantSurvivors(t, m, "/", "a", "b", "a b")
	eachSeed(t, 100, func(rnd *rand.Rand) error {
		clone := m.CrashClone(CrashOptions{Rand: rnd, Keep: 0.5})
		for _, name := range names(t, clone, "/") {
			if contentOf(t, clone, "/"+name) == "x" {
				return nil
			}
		}
		return fmt.Errorf("a synced file that nobody removed is gone")
	})
}

func TestChangesOfDifferentNamesMayOvertakeEachOther(t *testing.T) {
	m := NewMem()
	synced(t, m, "/segment", "")
	create(t, m, "/manifest", "")
	must(t, m.Remove("/segment"))
	wantSurvivors(t, m, "/", "segment", "manifest segment", "", "manifest")
}

func TestALostDirectoryTakesEverythingInItAlong(t *testing.T) {
	m := NewMem()
	must(t, m.Mkdir("/d"))
	f := create(t, m, "/d/f", "x")
	must(t, f.Sync())
	must(t, m.SyncDir("/d"))
	wantSurvivors(t, m, "/", "", "d")
	must(t, m.SyncDir("/"))
	wantSurvivors(t, m, "/d", "f")
}

func TestARenameBetweenDirectoriesHappensInBothOrInNeither(t *testing.T) {
	for _, sync := range []string{"", "/from", "/to"} {
		t.Run("sync"+sync, func(t *testing.T) {
			m := NewMem()
			must(t, m.Mkdir("/from"))
			must(t, m.Mkdir("/to"))
			must(t, m.SyncDir("/"))
			f := create(t, m, "/from/f", "x")
			must(t, f.Sync())
			if sync == "" {
				must(t, m.SyncDir("/from"))
			}
			must(t, m.Rename("/from/f", "/to/f"))
			create(t, m, "/from/later", "")
			if sync != "" {
				must(t, m.SyncDir(sync))
			}
			eachSeed(t, 100, func(rnd *rand.Rand) error {
				clone := m.CrashClone(CrashOptions{Rand: rnd, Keep: 0.5})
				from, to := names(t, clone, "/from"), names(t, clone, "/to")
				inFrom, inTo := slices.Contains(from, "f"), slices.Contains(to, "f")
				if inFrom == inTo || sync != "" && !inTo {
					return fmt.Errorf("from %q, to %q", from, to)
				}
				return nil
			})
			later := slices.Contains(names(t, m.CrashClone(CrashOptions{}), "/from"), "later")
			if later != (sync == "/from") {
				t.Errorf("the name made later in /from is durable: %v", later)
			}
		})
	}
}
