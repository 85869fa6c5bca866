package braid

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// descriptorsUnder lists what is open below a part of a directory.
func descriptorsUnder(t *testing.T, dir, part string) []string {
	t.Helper()
	return slices.DeleteFunc(descriptors(t), func(s string) bool { return !strings.HasPrefix(s, filepath.Join(dir, part)) })
}

// snapshot lists a directory with sizes and modification times.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		b := []byte{}
		if info.Mode().IsRegular() {
			if b, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		out[path] = info.Mode().String() + " " + info.ModTime().String() + " " + string(b)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// records is a snapshot without the store, which every Open writes anew, and without the times of directories.
func records(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := snapshot(t, dir)
	for path := range out {
		if strings.Contains(path, "/checkpoint") || path == dir {
			delete(out, path)
		}
	}
	return out
}

func TestRecordsSurviveReopeningAndOffsetsGoOn(t *testing.T) {
	for _, durability := range []Durability{Fsync, Interval, OS} {
		t.Run(durability.String(), func(t *testing.T) {
			noLeaks(t)
			dir := t.TempDir()
			var want []string
			for round := range 4 {
				b, err := Open(dir, Options{Durability: durability})
				if err != nil {
					t.Fatal(err)
				}
				if r := b.OpenReport(); r.Created != (round == 0) || len(r.Partitions) > 0 || len(r.SetAside) > 0 {
					t.Errorf("round %d: report %+v", round, r)
				}
				topic := ensure(t, b, "t", TopicConfig{})
				if diff := cmp.Diff(append([]string{}, want...), values(t, topic, ReadOptions{})); diff != "" {
					t.Errorf("round %d: %s", round, diff)
				}
				recs := publish(t, topic, "a", "b")
				if recs[0].Offset != int64(2*round) {
					t.Errorf("round %d: offset %d, want %d", round, recs[0].Offset, 2*round)
				}
				want = append(want, "a", "b")
				if err := b.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestASecondOpenerIsLockedOutAndWritesNothing(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, Options{})
	publish(t, ensure(t, b, "t", TopicConfig{}), "x")
	before := snapshot(t, dir)
	noLeaks(t)
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrLocked) {
		t.Errorf("error %v, want ErrLocked", err)
	}
	after := snapshot(t, dir)
	for _, s := range []map[string]string{before, after} {
		for path := range s {
			if strings.HasSuffix(path, "MANIFEST") || strings.HasSuffix(path, "partitions/0000000001") {
				delete(s, path) // the open broker's own idle mark
			}
		}
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Error(diff)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, dir, Options{})
}

func TestOpenRefusesNonsense(t *testing.T) {
	noLeaks(t)
	dir := t.TempDir()
	for field, tc := range map[string]struct {
		dir  string
		opts Options
	}{
		"Options.Durability":    {dir, Options{Durability: 7}},
		"Options.SyncInterval":  {dir, Options{SyncInterval: -time.Second}},
		"Options.ReadOnly":      {"", Options{InMemory: true, ReadOnly: true}},
		"dir":                   {"", Options{}},
		"Limits.MaxPartitions":  {dir, Options{Limits: Limits{MaxPartitions: -1}}},
		"Limits.MaxQueueDepth":  {dir, Options{Limits: Limits{MaxQueueDepth: 1 << 30}}},
		"Limits.MaxRecordBytes": {dir, Options{Limits: Limits{MaxRecordBytes: 1 << 30}}},
	} {
		var oe *OptionError
		if _, err := Open(tc.dir, tc.opts); !errors.Is(err, ErrInvalidOption) || !errors.As(err, &oe) || oe.Field != field {
			t.Errorf("%s: error %v, want ErrInvalidOption for it", field, err)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) > 0 {
		t.Errorf("a refused Open made %v", entries)
	}
}

func TestOpenOfWhatCannotBeADataDirectory(t *testing.T) {
	noLeaks(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	var pe *fs.PathError
	if _, err := Open(file, Options{}); !errors.As(err, &pe) {
		t.Errorf("a file: error %v, want a *fs.PathError", err)
	}
	if _, err := Open(filepath.Join(file, "below"), Options{}); !errors.As(err, &pe) {
		t.Errorf("below a file: error %v, want a *fs.PathError", err)
	}
	foreign := t.TempDir()
	if err := os.WriteFile(filepath.Join(foreign, "notes.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, opts := range map[string]Options{"writable": {}, "read-only": {ReadOnly: true}} {
		if _, err := Open(foreign, opts); !errors.Is(err, ErrMissingData) {
			t.Errorf("a directory of something else, %s: error %v, want ErrMissingData", name, err)
		}
	}
	if _, err := os.Stat(filepath.Join(foreign, "FORMAT")); err == nil {
		t.Error("a refused Open made a FORMAT")
	}
}

func TestFormatFile(t *testing.T) {
	noLeaks(t)
	make := func(t *testing.T) string {
		dir := t.TempDir()
		b, err := Open(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		publish(t, ensure(t, b, "t", TopicConfig{}), "x")
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	for name, tc := range map[string]struct {
		change func(dir, format string) error
		want   error
	}{
		"a newer version": {func(dir, path string) error {
			return os.WriteFile(path, []byte("braid 2\nwhatever comes\n"), 0o600)
		}, ErrVersion},
		"gone":    {func(dir, path string) error { return os.Remove(path) }, ErrMissingData},
		"emptied": {func(dir, path string) error { return os.Truncate(path, 0) }, ErrCorrupt},
		"another's": {func(dir, path string) error {
			return os.WriteFile(path, format{id: [16]byte{1}, ready: true}.encode(), 0o600)
		}, ErrMissingData},
		"store gone":   {func(dir, path string) error { return os.RemoveAll(filepath.Join(dir, "checkpoint")) }, ErrMissingData},
		"logs gone":    {func(dir, path string) error { return os.RemoveAll(filepath.Join(dir, "partitions")) }, ErrMissingData},
		"one log gone": {func(dir, path string) error { return os.RemoveAll(filepath.Join(dir, "partitions", "0000000001")) }, ErrMissingData},
		"a symlink": {func(dir, path string) error {
			if err := os.Rename(path, path+".real"); err != nil {
				return err
			}
			return os.Symlink(path+".real", path)
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir := make(t)
			if err := tc.change(dir, filepath.Join(dir, "FORMAT")); err != nil {
				t.Fatal(err)
			}
			before := records(t, dir)
			for mode, opts := range map[string]Options{"writable": {}, "read-only": {ReadOnly: true}} {
				b, err := Open(dir, opts)
				if err == nil {
					b.Close()
				}
				if err == nil || tc.want != nil && !errors.Is(err, tc.want) {
					t.Errorf("%s: error %v, want %v", mode, err, tc.want)
				}
			}
			if diff := cmp.Diff(before, records(t, dir)); diff != "" {
				t.Errorf("a refused Open changed the directory: %s", diff)
			}
		})
	}
}

func TestEveryFlippedBitOfFormatIsNoticed(t *testing.T) {
	good := format{id: [16]byte{1, 2, 3}, ready: true}.encode()
	for i := range len(good) * 8 {
		bad := slices.Clone(good)
		bad[i/8] ^= 1 << (i % 8)
		if _, err := decodeFormat("FORMAT", bad); err == nil {
			t.Errorf("bit %d of byte %d flipped unnoticed: %q", i%8, i/8, bad)
		}
	}
}

func TestADirectoryWhoseCreationWasCutIsMadeAnew(t *testing.T) {
	for name, prepare := range map[string]func(dir string) error{
		"only the lock": func(dir string) error { return os.WriteFile(filepath.Join(dir, "LOCK"), nil, 0o600) },
		"only FORMAT":   func(dir string) error { return writeFormat(dir, newFormat()) },
		"FORMAT and partitions": func(dir string) error {
			return errors.Join(writeFormat(dir, newFormat()), os.Mkdir(filepath.Join(dir, "partitions"), 0o700))
		},
		"an empty store": func(dir string) error {
			return errors.Join(writeFormat(dir, newFormat()), os.Mkdir(filepath.Join(dir, "checkpoint"), 0o700))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := prepare(dir); err != nil {
				t.Fatal(err)
			}
			b := open(t, dir, Options{})
			if !b.OpenReport().Created {
				t.Error("not reported as created")
			}
			publish(t, ensure(t, b, "t", TopicConfig{}), "x")
		})
	}
}

func TestLimitsAreResolved(t *testing.T) {
	want := Limits{MaxPartitions: 10_000, MaxConsumers: 1024, MaxQueueDepth: 65_536, MaxRecordBytes: 1 << 20, MaxTxnBytes: 16 << 20, MaxMemoryBytes: 256 << 20}
	if diff := cmp.Diff(want, openMemory(t).Limits()); diff != "" {
		t.Error(diff)
	}
}

func TestCloseTwiceAndUseAfterClose(t *testing.T) {
	b := openMemory(t)
	topic := ensure(t, b, "t", TopicConfig{})
	for range 2 {
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_, err1 := b.Topic("t")
	_, err2 := b.CreateTopic(t.Context(), "u", TopicConfig{})
	_, err3 := topic.Subscribe(t.Context(), "g", SubscribeOptions{})
	err4 := b.DeleteTopic(t.Context(), "t")
	err5 := b.UpdateTopic(t.Context(), "t", func(*TopicConfig) error { return nil })
	var err6 error
	for _, err := range topic.Read(t.Context(), ReadOptions{}) {
		err6 = err
	}
	for i, err := range []error{err1, err2, err3, err4, err5, err6} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("call %d: error %v, want ErrClosed", i+1, err)
		}
	}
	if n := len(b.Topics()); n != 0 {
		t.Errorf("%d topics after Close", n)
	}
}

func TestACreationThatWasKilledBeforeItsFirstFileWasWholeBeginsAgain(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, formatName+".tmp"), []byte("braid 1\nid"), 0o600); err != nil {
		t.Fatal(err)
	}
	publish(t, ensure(t, open(t, dir, Options{}), "t", TopicConfig{}), "x")
	lost := t.TempDir()
	if err := errors.Join(os.WriteFile(filepath.Join(lost, formatName+".tmp"), nil, 0o600), os.Mkdir(filepath.Join(lost, partitionsName), 0o700)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(lost, Options{}); !errors.Is(err, ErrMissingData) {
		t.Errorf("error %v, want ErrMissingData: there is more than a creation that was cut leaves", err)
	}
}
