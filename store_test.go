package braid

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// Whatever happens to a file of the store, opening says so or the group goes on where it was. It never begins anew by itself.
func TestADamagedOrMissingStoreIsReportedAndNoGroupBeginsAnew(t *testing.T) {
	whole := t.TempDir()
	b, err := Open(whole, Options{})
	if err != nil {
		t.Fatal(err)
	}
	topic := ensure(t, b, "t", TopicConfig{})
	publish(t, topic, numbered("r", 100)...)
	sub := subscribe(t, topic, "g", SubscribeOptions{})
	if err := sub.Commit(t.Context(), poll(t, sub, 60)...); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	var files []string
	err = filepath.WalkDir(filepath.Join(whole, storeName), func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			rel, _ := filepath.Rel(whole, path)
			files = append(files, rel)
		}
		return err
	})
	if err != nil || len(files) == 0 {
		t.Fatalf("files %q, %v", files, err)
	}
	reported := 0
	check := func(what string, harm func(dir string) error) {
		t.Helper()
		dir := t.TempDir()
		if err := errors.Join(os.CopyFS(dir, os.DirFS(whole)), harm(dir)); err != nil {
			t.Fatal(err)
		}
		b, err := Open(dir, Options{})
		if err != nil {
			if reported++; !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrMissingData) && !errors.Is(err, ErrVersion) {
				t.Errorf("%s: %v", what, err)
			}
			return
		}
		defer b.Close()
		topic, err := b.Topic("t")
		if err != nil {
			t.Errorf("%s: the topic is gone: %v", what, err)
			return
		}
		sub := subscribe(t, topic, "g", SubscribeOptions{})
		if at := sub.Committed()[1]; at != 60 {
			t.Errorf("%s: the group is at %d", what, at)
		}
	}
	check("nothing", func(string) error { return nil })
	if reported != 0 {
		t.Fatal("what is whole is reported")
	}
	check("the store removed", func(dir string) error { return os.RemoveAll(filepath.Join(dir, storeName)) })
	if reported != 1 {
		t.Error("a missing store is not reported")
	}
	for _, file := range files {
		check(file+" removed", func(dir string) error { return os.Remove(filepath.Join(dir, file)) })
		info, err := os.Stat(filepath.Join(whole, file))
		if err != nil {
			t.Fatal(err)
		}
		check(file+" emptied", func(dir string) error { return os.Truncate(filepath.Join(dir, file), 0) })
		check(file+" cut", func(dir string) error { return os.Truncate(filepath.Join(dir, file), info.Size()/2) })
		for range 20 {
			pos := rand.Int64N(max(1, min(info.Size(), 4096)))
			check(fmt.Sprintf("%s, bit 4 of byte %d flipped", file, pos), func(dir string) error { return flip(filepath.Join(dir, file), pos) })
		}
	}
	t.Logf("%d files, %d cases reported", len(files), reported)
}

// flip flips a bit of a file.
func flip(path string, pos int64) error {
	data, err := os.ReadFile(path)
	if err != nil || int64(len(data)) <= pos {
		return err
	}
	data[pos] ^= 0x10
	return os.WriteFile(path, data, 0o600)
}
