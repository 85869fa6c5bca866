//go:build unix

package braid

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/braid-go/braid/internal/damage"
)

// oneOfEverything makes a directory in which there is a file of every kind: segments that ended, with their indexes, some of which retention took away, a partition
// that was split, a later generation of the commit log, torn tails of a segment and of the commit log, and a partition that was never finished.
func oneOfEverything(t *testing.T) string {
	t.Helper()
	base := inMemory(t)
	dir := filepath.Join(base, "above", "data")
	b := open(t, dir, Options{})
	topic := ensure(t, b, "t", TopicConfig{SegmentBytes: 64 << 10, RetentionBytes: 400_000})
	passing := ensure(t, b, "passing", TopicConfig{SegmentBytes: 64 << 10, RetentionBytes: 100_000})
	doomed := ensure(t, b, "doomed", TopicConfig{})
	for i := range 10 {
		publish(t, topic, fmt.Sprint(i, strings.Repeat("x", 20_000)))
		publish(t, passing, fmt.Sprint(i, strings.Repeat("x", 30_000)))
		publish(t, doomed, "x")
	}
	if err := passing.retain(); err != nil {
		t.Fatal(err)
	}
	if p := passing.Partitions()[0]; p.Start == 0 {
		t.Fatal("retention took nothing away")
	}
	if err := b.DeleteTopic(t.Context(), "doomed"); err != nil {
		t.Fatal(err)
	}
	if _, err := topic.Split(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	for range 100 { // more than a generation takes
		tx := b.Begin()
		if err := errors.Join(tx.Put("k", make([]byte, 200_000)), tx.Publish(topic, &Record{Value: []byte("in a transaction")}), tx.Commit(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	sub := subscribe(t, topic, "g", SubscribeOptions{})
	poll(t, sub, 3)
	if err := sub.CommitDelivered(t.Context()); err != nil {
		t.Fatal(err)
	}
	settled(t, b)
	publish(t, topic, "last", "last but one")
	killed := filepath.Join(base, "killed") // as a kill leaves it
	oneGeneration(t, filepath.Join(dir, storeName))
	files := readAll(t, dir)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		file := filepath.Join(killed, name)
		if strings.HasSuffix(name, ".seg") || strings.HasPrefix(name, storeName+"/0") {
			content = append(slices.Clip(content), "half of something"...)
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, content, 0o600), os.Chmod(file, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(killed, partitionsName, "0000000099"), 0o700); err != nil {
		t.Fatal(err)
	}
	b = open(t, killed, Options{})
	if topic, err := b.Topic("t"); err != nil {
		t.Fatal(err)
	} else {
		publish(t, topic, "after a kill")
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	return killed
}

// oneGeneration waits until the commit log has changed from its first generation to the second one, which it does in the background.
func oneGeneration(t *testing.T, store string) {
	t.Helper()
	for {
		entries, err := os.ReadDir(store)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) == 2 && entries[0].Name() == "0000000002" { // the other is CURRENT
			return
		}
		runtime.Gosched()
	}
}

// readAll returns the content of all files of a directory.
func readAll(t *testing.T, dir string) damage.Files {
	t.Helper()
	files := damage.Files{}
	copyDir(t, dir, func(name string, b []byte) []byte { files[name] = b; return b })
	return files
}

// kindOf says what a file or directory in a data directory is.
func kindOf(name string, isDir bool) string {
	dir, base := path.Split(name)
	switch {
	case strings.Contains(base, ".unfinished-"):
		return "partition that was never finished"
	case dir == storeName+"/" && isDir:
		return "generation"
	case dir == storeName+"/" && strings.HasSuffix(base, ".torn"):
		return "torn tail of the commit log"
	case strings.HasPrefix(dir, storeName+"/0"):
		return "commit log"
	case dir == partitionsName+"/":
		return "partition"
	case strings.Contains(base, ".torn"):
		return "torn tail of a segment"
	case path.Ext(base) == ".seg", path.Ext(base) == ".idx":
		return path.Ext(base)
	}
	return base
}

var allKinds = []string{".idx", ".seg", "CURRENT", "FORMAT", "LOCK", "MANIFEST", "checkpoint", "commit log", "generation", "partition", "partition that was never finished",
	"partitions", "torn tail of a segment", "torn tail of the commit log"}

// Whatever the process's umask says, nobody but the owner can read or list anything, of a directory in which there is one of everything.
func TestEverythingInADirectoryIsForItsOwnerOnly(t *testing.T) {
	for _, umask := range []int{0, 0o022, 0o077} {
		t.Run(fmt.Sprintf("umask=%03o", umask), func(t *testing.T) {
			old := syscall.Umask(umask)
			t.Cleanup(func() { syscall.Umask(old) })
			killed := oneOfEverything(t)
			first := filepath.Join(filepath.Dir(killed), "above")
			kinds := map[string]bool{}
			for _, dir := range []string{first, killed} {
				err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
					if err != nil {
						return err
					}
					info, err := d.Info()
					if err != nil {
						return err
					}
					want := fs.FileMode(0o600)
					if d.IsDir() {
						want = 0o700
					}
					if info.Mode().Perm() != want {
						t.Errorf("%s has mode %o, want %o", file, info.Mode().Perm(), want)
					}
					if name, err := filepath.Rel(dir, file); err == nil && name != "." && dir == killed {
						kinds[kindOf(filepath.ToSlash(name), d.IsDir())] = true
					}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			var got []string
			for kind := range kinds {
				got = append(got, kind)
			}
			slices.Sort(got)
			if diff := cmp.Diff(allKinds, got); diff != "" {
				t.Errorf("not one of everything: %s", diff)
			}
		})
	}
}

// Each file and directory of a data directory in turn is a link to where it has been moved to. Nothing is read or written through it: opening is refused with a typed error,
// or what the link stands for is reported as lost, and what it leads to is as it was. An index is made again.
func TestALinkInADataDirectoryIsNotFollowed(t *testing.T) {
	noLeaks(t)
	sound := oneOfEverything(t)
	files := readAll(t, sound)
	b := open(t, sound, Options{ReadOnly: true})
	all := len(values(t, topicOf(t, b), ReadOptions{}))
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	var names []string
	for name := range files {
		for ; name != "."; name = path.Dir(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	// Two that are not there yet: what would be the next partition and the next generation.
	names = append(slices.Compact(names), partitionsName+"/0000000098", storeName+"/0000000098")
	refused := 0
	for _, name := range names {
		kind := kindOf(name, files[name] == nil)
		for mode, opts := range map[string]Options{"read-only": {ReadOnly: true}, "writable": {}} {
			t.Run(mode+"/"+name, func(t *testing.T) {
				scratch := inMemory(t)
				dir, where := filepath.Join(scratch, "data"), filepath.Join(scratch, "elsewhere")
				if err := os.CopyFS(dir, os.DirFS(sound)); err != nil {
					t.Fatal(err)
				}
				link := filepath.Join(dir, name)
				if err := os.Rename(link, where); errors.Is(err, fs.ErrNotExist) {
					if err := os.CopyFS(where, os.DirFS(filepath.Join(sound, firstOf(names, path.Dir(name))))); err != nil {
						t.Fatal(err)
					}
				}
				if err := os.Symlink(where, link); err != nil {
					t.Fatal(err)
				}
				before := contentOf(t, where)
				b, err := Open(dir, opts)
				switch {
				case err != nil:
					if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrMissingData) {
						t.Errorf("error %v, want ErrCorrupt", err)
					}
					refused++
				case kind == "torn tail of a segment" || kind == "torn tail of the commit log" || strings.HasSuffix(name, "98") && opts.ReadOnly:
					// nobody reads them
				default:
					wantReported(t, b, kind, all)
				}
				if err == nil {
					if err := b.Close(); err != nil {
						t.Error(err)
					}
				}
				if after := contentOf(t, where); !maps.EqualFunc(before, after, bytes.Equal) {
					t.Errorf("what the link leads to was changed: there are %v, were %v", after.Names(), before.Names())
				}
			})
		}
	}
	if refused < 20 {
		t.Errorf("only %d links refused", refused)
	}
}

// wantReported checks a broker that opens although something is a link: an index has cost nothing; anything else is reported, and its records are not there.
func wantReported(t *testing.T, b *Broker, kind string, all int) {
	t.Helper()
	found, lost := 0, 0
	for _, err := range topicOf(t, b).Read(t.Context(), ReadOptions{OnGap: func(g Gap) bool { lost++; return true }}) {
		if err != nil {
			t.Fatal(err)
		}
		found++
	}
	switch {
	case kind == ".idx":
		if found != all || lost > 0 {
			t.Errorf("%d of %d records, %d gaps", found, all, lost)
		}
	case len(b.OpenReport().Partitions) == 0:
		t.Errorf("opened without a word")
	}
	if report, err := b.Verify(t.Context(), VerifyOptions{}); err != nil {
		t.Errorf("verify: %v", err)
	} else if lost > 0 && len(report.Problems()) == 0 {
		t.Error("readers meet a gap, and verify finds nothing")
	}
}

func topicOf(t *testing.T, b *Broker) *Topic {
	t.Helper()
	topic, err := b.Topic("t")
	if err != nil {
		t.Fatal(err)
	}
	return topic
}

// firstOf returns the first partition, or the first generation.
func firstOf(names []string, dir string) string {
	return names[slices.IndexFunc(names, func(name string) bool {
		return path.Dir(name) == dir && strings.HasPrefix(path.Base(name), "0") && path.Ext(name) == ""
	})]
}

// contentOf returns the content of a file, or of all files of a directory.
func contentOf(t *testing.T, name string) damage.Files {
	t.Helper()
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		return readAll(t, name)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return damage.Files{"": b}
}

func TestADataDirectoryMayBeALink(t *testing.T) {
	real, link := t.TempDir(), filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{link, link + "/", real, link} {
		b := open(t, name, Options{})
		topic := ensure(t, b, "t", TopicConfig{})
		publish(t, topic, fmt.Sprint(i))
		ro := open(t, name, Options{ReadOnly: true})
		if got := len(values(t, topic, ReadOptions{})); got != i+1 || len(ro.Topics()) != 1 {
			t.Errorf("through %s: %d records, %v", name, got, ro.Topics())
		}
		if _, err := Open(real, Options{}); !errors.Is(err, ErrLocked) {
			t.Errorf("opened through the link and beside it: %v", err)
		}
		if err := errors.Join(ro.Close(), b.Close()); err != nil {
			t.Fatal(err)
		}
	}
}
