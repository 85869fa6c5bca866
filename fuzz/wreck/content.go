package wreck

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/braid-go/braid"
	"github.com/braid-go/braid/fuzz/history"
	"github.com/braid-go/braid/internal/damage"
)

// At is where a record is stored.
type At struct {
	Topic     string
	Partition braid.PartitionID
	Offset    int64
}

// Content is what a broker holds.
type Content struct {
	Records map[At]string // what was read at each place, in short
	Store
}

// Store is what a broker's store holds of configurations, layouts, groups and state, rendered.
type Store string

// Read reads all that a broker holds, and the gaps that it reports.
func Read(ctx context.Context, b *braid.Broker) (Content, []braid.Gap, error) {
	c := Content{Records: map[At]string{}}
	var gaps []braid.Gap
	for _, topic := range b.Topics() {
		for rec, err := range topic.Read(ctx, braid.ReadOptions{OnGap: func(g braid.Gap) bool { gaps = append(gaps, g); return len(gaps) < 1000 }}) {
			if err != nil {
				return c, gaps, err
			}
			c.Records[At{rec.Topic, rec.Partition, rec.Offset}] = show(rec)
		}
	}
	store, err := storeOf(ctx, b)
	c.Store = store
	return c, gaps, err
}

// ReadSound reads all that a broker holds, of which nothing may be damaged.
func ReadSound(ctx context.Context, b *braid.Broker) (Content, error) {
	c, gaps, err := Read(ctx, b)
	if err == nil && len(gaps) > 0 {
		err = fmt.Errorf("gaps: %v", gaps)
	}
	return c, err
}

func show(rec *braid.Record) string {
	parts := [][]byte{rec.Key, rec.Value}
	for _, h := range rec.Headers {
		parts = append(parts, []byte(h.Key), h.Value)
	}
	return fmt.Sprintf("%d %.16q %d", history.Digest(parts...), rec.Value, rec.Time.UnixNano())
}

// storeOf renders what the store holds: configurations, layouts, positions and state.
func storeOf(ctx context.Context, b *braid.Broker) (Store, error) {
	var out strings.Builder
	for _, topic := range b.Topics() {
		fmt.Fprintf(&out, "topic %s: %+v\n", topic.Name(), topic.Config())
		for _, p := range topic.Partitions() {
			fmt.Fprintf(&out, "  partition %d of %v, sealed %v, continues %v\n", p.ID, p.KeyRange, p.Sealed, p.Parents)
		}
		groups, err := topic.Groups(ctx)
		if err != nil {
			return "", err
		}
		for _, name := range groups {
			g, err := topic.Group(name)
			if err != nil {
				return "", err
			}
			p, err := g.Export(ctx)
			if err != nil {
				return "", err
			}
			fmt.Fprintf(&out, "  group %s: %v\n", name, p.Offsets)
		}
	}
	state := map[string]string{}
	for e, err := range b.Scan(ctx, "") {
		if err != nil {
			return "", err
		}
		state[e.Key] = string(e.Value)
	}
	fmt.Fprintf(&out, "state %q\n", state)
	return Store(out.String()), nil
}

// ReadFiles reads all files of a directory, by their paths in it.
func ReadFiles(dir string) (damage.Files, error) {
	files := damage.Files{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		files[filepath.ToSlash(name)], err = os.ReadFile(path)
		return err
	})
	return files, err
}

// WriteFiles makes a directory of files, and of their directories although a file in them is missing.
func (s *Sound) WriteFiles(dir string, files damage.Files) error {
	err := os.RemoveAll(dir)
	for name := range s.Files {
		err = errors.Join(err, os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o700))
	}
	for name, content := range files {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), content, 0o600))
	}
	return err
}
