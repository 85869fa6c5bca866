package fuzz

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/braid-go/braid"
	"github.com/braid-go/braid/fuzz/history"
	"github.com/braid-go/braid/internal/damage"
	"github.com/braid-go/braid/internal/vfs"
	"github.com/braid-go/braid/log"
)

// corpus is a data directory with one of everything: several segments and indexes, a torn tail that was set aside, a partition that was split, so that it is sealed,
// transactions that went through the commit log, groups with positions, and the application's state.
type corpus struct {
	files  damage.Files
	closed bool
	acked  content
	// before is what the store's part of it was before the last entry of the commit log, which after an unclean stop nothing proves.
	before storeContent
}

// at is where a record is stored.
type at struct {
	topic     string
	partition braid.PartitionID
	offset    int64
}

// content is what a broker holds.
type content struct {
	records map[at]string
	storeContent
}

// storeContent is what its store holds of groups and state, and the layouts.
type storeContent string

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

// corpora are a directory that was closed, and one that was left by a kill.
func corpora(t testing.TB) []*corpus {
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
	c := &corpus{acked: contentOf(t, b), closed: true}
	must(b.Close())
	c.files = readFiles(t, dir)

	b, err = braid.Open(dir, braid.Options{})
	must(err)
	in, err = b.Topic("in")
	must(err)
	must(publishSome(t, in, 16, 4))
	must(useGroups(t, b, "third"))
	killed := &corpus{before: contentOf(t, b).storeContent}
	tx := b.Begin()
	out, err := b.Topic("out")
	must(err)
	must(errors.Join(tx.Publish(out, &braid.Record{Value: []byte("last")}), tx.Put("last", []byte("put")), tx.Commit(t.Context())))
	killed.acked = contentOf(t, b)
	killed.files = readFiles(t, dir)
	must(b.Close())
	for name, content := range killed.files { // of the zeros that were made ahead a few are enough
		if strings.Contains(name, "/") && !strings.HasSuffix(name, "MANIFEST") {
			killed.files[name] = content[:min(len(content), len(bytes.TrimRight(content, "\x00"))+16)]
		}
	}
	return []*corpus{c, killed}
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

// readFiles reads all files of a directory, by their paths in it.
func readFiles(t testing.TB, dir string) damage.Files {
	t.Helper()
	files := damage.Files{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		files[filepath.ToSlash(name)], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// writeFiles makes a directory of files, and of their directories although a file in them is missing.
func (c *corpus) writeFiles(t testing.TB, dir string, files damage.Files) {
	t.Helper()
	err := os.RemoveAll(dir)
	for name := range c.files {
		err = errors.Join(err, os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o700))
	}
	for name, content := range files {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), content, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// contentOf reads all that a broker holds, of which nothing may be damaged.
func contentOf(t testing.TB, b *braid.Broker) content {
	t.Helper()
	c, gaps, err := readContent(t, b)
	if err != nil || len(gaps) > 0 {
		t.Fatalf("%v, %v", gaps, err)
	}
	return c
}

// readContent reads all that a broker holds, and the gaps that it reports.
func readContent(t testing.TB, b *braid.Broker) (content, []braid.Gap, error) {
	c := content{records: map[at]string{}}
	var gaps []braid.Gap
	for _, topic := range b.Topics() {
		for rec, err := range topic.Read(t.Context(), braid.ReadOptions{OnGap: func(g braid.Gap) bool { gaps = append(gaps, g); return len(gaps) < 1000 }}) {
			if err != nil {
				return c, gaps, err
			}
			c.records[at{rec.Topic, rec.Partition, rec.Offset}] = show(rec)
		}
	}
	store, err := storeOf(t, b)
	c.storeContent = store
	return c, gaps, err
}

func show(rec *braid.Record) string {
	parts := [][]byte{rec.Key, rec.Value}
	for _, h := range rec.Headers {
		parts = append(parts, []byte(h.Key), h.Value)
	}
	return fmt.Sprintf("%d %q %d", history.Digest(parts...), rec.Value, rec.Time.UnixNano())
}

// storeOf renders what the store holds: configurations, layouts, positions and state.
func storeOf(t testing.TB, b *braid.Broker) (storeContent, error) {
	var out strings.Builder
	for _, topic := range b.Topics() {
		fmt.Fprintf(&out, "topic %s: %+v\n", topic.Name(), topic.Config())
		for _, p := range topic.Partitions() {
			fmt.Fprintf(&out, "  partition %d of %v, sealed %v, continues %v\n", p.ID, p.KeyRange, p.Sealed, p.Parents)
		}
		groups, err := topic.Groups(t.Context())
		if err != nil {
			return "", err
		}
		for _, name := range groups {
			g, err := topic.Group(name)
			if err != nil {
				return "", err
			}
			p, err := g.Export(t.Context())
			if err != nil {
				return "", err
			}
			fmt.Fprintf(&out, "  group %s: %v\n", name, p.Offsets)
		}
	}
	state := map[string]string{}
	for e, err := range b.Scan(t.Context(), "") {
		if err != nil {
			return "", err
		}
		state[e.Key] = string(e.Value)
	}
	fmt.Fprintf(&out, "state %q\n", state)
	return storeContent(out.String()), nil
}
