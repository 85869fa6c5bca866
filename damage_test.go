package braid

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// copyDir copies a data directory, changing the content of one file.
func copyDir(t *testing.T, from string, change func(name string, b []byte) []byte) string {
	t.Helper()
	to := t.TempDir()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(from, path)
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, name), 0o700)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, name), change(name, b), 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// A directory with one of everything, damaged in one place of one file, many times over: never a panic, never altered
// data, never a silent loss.
func TestDamageAnywhereInADirectoryIsReported(t *testing.T) {
	dir := t.TempDir()
	b, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	topic := ensure(t, b, "t", TopicConfig{Partitions: 2, SegmentBytes: 64 << 10, Compression: S2})
	written := map[string]bool{}
	for i := range 6 {
		v := fmt.Sprint("value ", i)
		written[v] = true
		publish(t, topic, v)
	}
	sub := subscribe(t, topic, "g", SubscribeOptions{})
	poll(t, sub, 4)
	if err := sub.CommitDelivered(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	sizes := map[string]int{}
	copyDir(t, dir, func(name string, b []byte) []byte { sizes[name] = len(b); return b })
	step := 17
	if testing.Short() {
		step = 101
	}
	cases := 0
	for name, size := range sizes {
		for at := cases % step; at < size; at += step {
			cases++
			what := fmt.Sprintf("byte %d of %s", at, name)
			bad := copyDir(t, dir, func(n string, b []byte) []byte {
				if n == name {
					b[at] ^= 1 << (cases % 8)
				}
				return b
			})
			checkDamaged(t, bad, what, name, written)
		}
		for _, kind := range []string{"truncated", "emptied"} {
			if size == 0 {
				continue
			}
			bad := copyDir(t, dir, func(n string, b []byte) []byte {
				if n == name && kind == "truncated" {
					return b[:len(b)/2]
				}
				if n == name {
					return nil
				}
				return b
			})
			checkDamaged(t, bad, name+" "+kind, name, written)
			cases++
		}
	}
	t.Logf("%d cases over %d files", cases, len(sizes))
}

// checkDamaged opens a damaged directory both ways. What is lost must be reported by somebody.
func checkDamaged(t *testing.T, dir, what, name string, written map[string]bool) {
	t.Helper()
	for mode, opts := range map[string]Options{"read-only": {ReadOnly: true}, "writable": {}} {
		b, err := Open(dir, opts)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrMissingData) && !errors.Is(err, ErrVersion) {
				t.Errorf("%s, %s: error %v, want a typed one", what, mode, err)
			}
			continue
		}
		reported := len(b.OpenReport().Partitions) > 0
		report, err := b.Verify(t.Context(), VerifyOptions{})
		if err != nil {
			t.Errorf("%s, %s: verify: %v", what, mode, err)
		} else {
			reported = reported || len(report.Problems()) > 0
		}
		found := 0
		topic, err := b.Topic("t")
		if err != nil {
			t.Errorf("%s, %s: %v", what, mode, err)
		} else {
			for rec, err := range topic.Read(t.Context(), ReadOptions{OnGap: func(Gap) bool { reported = true; return true }}) {
				if err != nil {
					t.Errorf("%s, %s: read: %v", what, mode, err)
					break
				}
				if !written[string(rec.Value)] {
					t.Errorf("%s, %s: altered data %q", what, mode, rec.Value)
				}
				found++
			}
		}
		if found < len(written) && !reported {
			t.Errorf("%s, %s: %d of %d records, and nobody says why", what, mode, found, len(written))
		}
		if strings.HasSuffix(name, ".seg") && !reported && mode == "read-only" {
			t.Errorf("%s: not noticed", what)
		}
		if err := b.Close(); err != nil {
			t.Errorf("%s, %s: close: %v", what, mode, err)
		}
	}
}
