package log

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/braid-go/braid/internal/vfs"
)

var testBirth = Birth{TopicID: 3, PartitionID: 7, Hi: 1<<64 - 1, Parents: []uint64{1, 2}}

func testConfig(fsys vfs.FS) Config {
	return Config{FS: fsys, Dir: "log", SegmentBytes: 4 << 10, IndexBytes: 256}
}

func create(t testing.TB, cfg Config) *Log {
	t.Helper()
	l, err := Create(cfg, testBirth, 0)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func reopen(t testing.TB, cfg Config) (*Log, *Report) {
	t.Helper()
	l, report, err := Open(cfg, &testBirth, Proof{})
	if err != nil {
		t.Fatal(err)
	}
	return l, report
}

// put appends values as one frame and, if sync is set, syncs.
func put(l *Log, sync bool, values ...string) error {
	b := NewBuilder(0)
	l.Begin(b)
	b.Begin(l.Meta(b))
	for i, v := range values {
		if err := b.Append(int64(1000*i), []byte("key"), []byte(v), nil); err != nil {
			return err
		}
	}
	if err := b.End(); err != nil {
		return err
	}
	if err := l.Write(b); err != nil || !sync {
		return err
	}
	return l.Sync()
}

func mustPut(t testing.TB, l *Log, values ...string) {
	t.Helper()
	if err := put(l, true, values...); err != nil {
		t.Fatal(err)
	}
}

// contents reads everything, skipping what is damaged. It returns the values by offset and the errors.
func contents(t testing.TB, l *Log) (map[int64]string, []error) {
	t.Helper()
	got := map[int64]string{}
	var problems []error
	r := l.NewReader(l.Start(), ReaderOptions{})
	defer r.Close()
	for {
		f, err := r.Next()
		if err == io.EOF {
			return got, problems
		}
		var corrupt *CorruptError
		var missing *MissingDataError
		switch {
		case errors.As(err, &corrupt):
			if corrupt.Next <= r.Offset() {
				t.Fatalf("no way on: %v", err)
			}
			problems = append(problems, err)
			r.SeekTo(corrupt.Next)
			continue
		case errors.As(err, &missing):
			if missing.Next <= r.Offset() {
				t.Fatalf("no way on: %v", err)
			}
			problems = append(problems, err)
			r.SeekTo(missing.Next)
			continue
		case err != nil:
			t.Fatal(err)
		}
		var rec Record
		for {
			ok, err := f.Next(&rec)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			got[rec.Offset] = string(rec.Value)
		}
	}
}

func TestWhatIsWrittenIsReadBackAcrossRollsAndReopening(t *testing.T) {
	for _, mode := range []Mode{ModeFsync, ModeInterval, ModeOS} {
		mem := vfs.NewMem()
		cfg := testConfig(mem)
		cfg.Mode = mode
		l := create(t, cfg)
		want := 0
		for round := range 5 {
			for range 100 {
				mustPut(t, l, fmt.Sprint("value ", want), fmt.Sprint("value ", want+1))
				want += 2
			}
			got, problems := contents(t, l)
			if len(got) != want || len(problems) > 0 {
				t.Fatalf("mode %d round %d: %d records, want %d; %v", mode, round, len(got), want, problems)
			}
			for off, v := range got {
				if v != fmt.Sprint("value ", off) {
					t.Fatalf("offset %d holds %q", off, v)
				}
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			var report *Report
			if l, report = reopen(t, cfg); !report.Clean() {
				t.Fatalf("mode %d: after a clean close: %+v", mode, report)
			}
		}
		if n := len(l.Segments()); n < 5 {
			t.Errorf("%d segments: the test never rolled", n)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAReaderBeginsAnywhere(t *testing.T) {
	l := create(t, testConfig(vfs.NewMem()))
	defer l.Close()
	const n = 600
	for i := 0; i < n; i += 3 {
		mustPut(t, l, fmt.Sprint(i), fmt.Sprint(i+1), fmt.Sprint(i+2))
	}
	for from := range int64(n) {
		r := l.NewReader(from, ReaderOptions{Reuse: true})
		f, err := r.Next()
		if err != nil {
			t.Fatalf("from %d: %v", from, err)
		}
		var rec Record
		if ok, err := f.Next(&rec); !ok || err != nil || rec.Offset != from || string(rec.Value) != fmt.Sprint(from) {
			t.Fatalf("from %d: %v %v, offset %d value %s", from, ok, err, rec.Offset, rec.Value)
		}
		r.Close()
	}
	r := l.NewReader(n, ReaderOptions{})
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("at the end: %v, want io.EOF", err)
	}
	r.SeekTo(n + 1)
	var oor *OffsetOutOfRangeError
	if _, err := r.Next(); !errors.As(err, &oor) || oor.Next != n {
		t.Errorf("beyond the end: %v, want out of range with next %d", err, n)
	}
}

func TestRecordsAreVisibleOnlyWhenTheModeSaysSo(t *testing.T) {
	for mode, want := range map[Mode]int{ModeFsync: 0, ModeInterval: 1, ModeOS: 1} {
		cfg := testConfig(vfs.NewMem())
		cfg.Mode = mode
		l := create(t, cfg)
		if err := put(l, false, "unsynced"); err != nil {
			t.Fatal(err)
		}
		if got, _ := contents(t, l); len(got) != want {
			t.Errorf("mode %d: %d records visible before the sync, want %d", mode, len(got), want)
		}
		if err := l.Sync(); err != nil {
			t.Fatal(err)
		}
		if got, _ := contents(t, l); len(got) != 1 {
			t.Errorf("mode %d: %d records visible after the sync, want 1", mode, len(got))
		}
		l.Close()
	}
}
