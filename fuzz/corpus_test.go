package fuzz

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/braid-go/braid"
	"github.com/braid-go/braid/fuzz/wreck"
	"github.com/braid-go/braid/internal/damage"
	"github.com/braid-go/braid/internal/vfs"
	"github.com/braid-go/braid/log"
)

// scratch makes a directory in memory where the system has one, for tests that write thousands of files and do not ask what a disk makes of them.
func scratch(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "braid-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// corpora are a data directory with one of everything that was closed, and one that was left by a kill: several segments and indexes, a torn tail that was set aside, a
// partition that was split, so that it is sealed, transactions that went through the commit log, groups with positions, and the application's state.
func corpora(t testing.TB) []*wreck.Sound {
	t.Helper()
	dir := filepath.Join(scratch(t), "data")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	b, err := braid.Open(dir, braid.Options{})
	must(err)
	in, err := b.CreateTopic(t.Context(), "in", braid.TopicConfig{Partitions: 2})
	must(err)
	_, err = b.CreateTopic(t.Context(), "out", braid.TopicConfig{Compression: braid.Zstd})
	must(err)
	must(publishSome(t, in, 0, 8))
	_, err = in.Split(t.Context(), 1)
	must(err)
	must(publishSome(t, in, 8, 8))
	must(useGroups(t, b, "first"))
	must(b.Close())
	extend(t, filepath.Join(dir, "partitions", "0000000003"))

	b, err = braid.Open(dir, braid.Options{})
	must(err)
	must(useGroups(t, b, "second"))
	c := &wreck.Sound{Content: contentOf(t, b), Closed: true}
	must(b.Close())
	c.Files = readFiles(t, dir)

	b, err = braid.Open(dir, braid.Options{})
	must(err)
	in, err = b.Topic("in")
	must(err)
	must(publishSome(t, in, 16, 4))
	must(useGroups(t, b, "third"))
	killed := &wreck.Sound{Before: contentOf(t, b).Store}
	tx := b.Begin()
	out, err := b.Topic("out")
	must(err)
	must(errors.Join(tx.Publish(out, &braid.Record{Value: []byte("last")}), tx.Put("last", []byte("put")), tx.Commit(t.Context())))
	killed.Content = contentOf(t, b)
	killed.Files = readFiles(t, dir)
	must(b.Close())
	for name, content := range killed.Files { // of the zeros that were made ahead a few are enough
		if strings.Contains(name, "/") && !strings.HasSuffix(name, "MANIFEST") {
			killed.Files[name] = content[:min(len(content), len(bytes.TrimRight(content, "\x00"))+16)]
		}
	}
	return []*wreck.Sound{c, killed}
}

// publishSome publishes records of a few keys, one by one.
func publishSome(t testing.TB, topic *braid.Topic, from, n int) error {
	for i := from; i < from+n; i++ {
		rec := &braid.Record{Key: fmt.Appendf(nil, "key %d", i%7), Value: fmt.Appendf(nil, "value %d", i), Headers: []braid.Header{{Key: "n", Value: []byte{byte(i)}}}}
		if err := topic.Publish(t.Context(), rec); err != nil {
			return err
		}
	}
	return nil
}

// useGroups has one group commit positions, and another one consume and produce in a transaction that changes the state too.
func useGroups(t testing.TB, b *braid.Broker, round string) error {
	in, err := b.Topic("in")
	if err != nil {
		return err
	}
	out, err := b.Topic("out")
	if err != nil {
		return err
	}
	for _, group := range []string{"plain", "exact"} {
		sub, err := in.Subscribe(t.Context(), group, braid.SubscribeOptions{})
		if err != nil {
			return err
		}
		recs, err := sub.Poll(t.Context(), 3)
		if err != nil {
			return err
		}
		if group == "plain" {
			err = sub.Commit(t.Context(), recs...)
		} else {
			tx := b.Begin()
			err = errors.Join(tx.Offsets(sub, recs...), tx.Put("round", []byte(round)), tx.Put("seen "+round, []byte("yes")),
				tx.Publish(out, &braid.Record{Key: []byte("a"), Value: []byte("output of " + round)}), tx.Commit(t.Context()))
		}
		if err := errors.Join(err, sub.Close()); err != nil {
			return err
		}
	}
	return nil
}

// extend writes to a partition of a closed broker in small segments, and leaves a torn tail in it that is set aside.
func extend(t testing.TB, dir string) {
	t.Helper()
	cfg := log.Config{FS: vfs.OS, Dir: dir, SegmentBytes: 600, IndexBytes: 100}
	for round := range 2 {
		l, _, err := log.Open(cfg, nil, log.Proof{})
		if err != nil {
			t.Fatal(err)
		}
		b := log.NewBuilder(0)
		for i := range 6 {
			l.Begin(b)
			b.Begin(l.Meta(b))
			err := errors.Join(b.Append(int64(i), []byte("key"), fmt.Appendf(nil, "written to the log, %d in round %d", i, round), nil), b.End(), l.Write(b), l.Sync())
			if err != nil {
				t.Fatal(err)
			}
		}
		segments := l.Segments()
		if err := l.Close(); err != nil || len(segments) < 2 {
			t.Fatalf("%d segments, %v", len(segments), err)
		}
		if round == 0 {
			f, err := os.OpenFile(filepath.Join(dir, segments[len(segments)-1].Name), os.O_APPEND|os.O_WRONLY, 0)
			if err == nil {
				_, err = f.WriteString("half a frame")
			}
			if err := errors.Join(err, f.Close()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func contentOf(t testing.TB, b *braid.Broker) wreck.Content {
	t.Helper()
	c, err := wreck.ReadSound(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func readFiles(t testing.TB, dir string) damage.Files {
	t.Helper()
	files, err := wreck.ReadFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// writeFiles makes a directory of files.
func writeFiles(t testing.TB, dir string, c *wreck.Sound, files damage.Files) {
	t.Helper()
	if err := c.WriteFiles(dir, files); err != nil {
		t.Fatal(err)
	}
}
