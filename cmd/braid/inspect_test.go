package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/braid-go/braid"
)

func TestTopicsAreCreatedChangedAndDeleted(t *testing.T) {
	dir := t.TempDir()
	must(t, dir, "", "topics", "create", "t", "--partitions", "3", "--retention-age", "24h", "--compression", "zstd")
	must(t, dir, "", "topics", "update", "t", "--retention-bytes", "1000000", "--retention-age", "2d", "--segment-bytes", "1MiB")
	got := decode[[]topicSummary](t, must(t, dir, "", "topics", "--json"))
	want := braid.TopicConfig{Partitions: 3, Compression: braid.Zstd, SegmentBytes: 1 << 20, RetentionAge: 48 * time.Hour, RetentionBytes: 1_000_000}
	if len(got) != 1 || got[0].Name != "t" || got[0].Config != want {
		t.Errorf("got %+v", got)
	}
	out := must(t, dir, "", "topics", "update", "t", "--retention-age", "forever", "--retention-bytes", "unlimited")
	if out != "updated t: compression zstd, files of 1.0 MiB, kept for ever\n" {
		t.Errorf("update says %q", out)
	}
	must(t, dir, seq(1, 1234), "pub", "t")
	r := braidIn(t, dir, "", "topics", "delete", "t")
	if r.code != exitError || !strings.Contains(r.stderr, "--yes") || !strings.Contains(r.stderr, "t: 3 partitions, 1,234 records") {
		t.Errorf("delete without --yes: exit code %d, %q", r.code, r.stderr)
	}
	must(t, dir, "", "topics", "delete", "t", "--yes")
	if out := must(t, dir, "", "topics"); out != "no topics\n" {
		t.Errorf("after deleting: %q", out)
	}
}

// masked makes output the same from run to run.
func masked(dir, out string) string {
	out = strings.ReplaceAll(out, dir, "DIR")
	for _, m := range []struct{ expr, by string }{
		{`\d{4}-\d\d-\d\dT[0-9:.]+(Z|[+-]\d\d:\d\d)`, "TIME"},
		{`\d{4}-\d\d-\d\d \d\d:\d\d`, "DATE"},
		{`[0-9.]+ (B|KiB)`, "SIZE"},
		{`\d+ +\+\d+`, "POS LEN"},
		{` +`, " "},
		{`(?m) +$`, ""},
	} {
		out = regexp.MustCompile(m.expr).ReplaceAllString(out, m.by)
	}
	return out
}

func TestWhatThereIsIsShown(t *testing.T) {
	dir := t.TempDir()
	must(t, dir, "a:1\nb:2\n", "pub", "keyed", "--key-sep", ":", "--partitions", "2")
	must(t, dir, seq(1, 1200), "pub", "t", "--compression", "zstd")
	must(t, dir, "", "topics", "create", "void")
	for _, tc := range []struct{ args, want string }{
		{"topics", `
TOPIC PARTITIONS RECORDS SIZE CREATED COMPRESSION RETENTION
keyed 2 2 SIZE DATE none for ever
t 1 1,200 SIZE DATE zstd for ever
void 1 0 SIZE DATE none for ever
`}, {"info", `
DIR: 3 topics; nobody has it open for writing

keyed: 2 records, SIZE, compression none, kept for ever, created TIME
 PARTITION KEY HASHES START END RECORDS SIZE FILES STATE
 1 00000000..7fffffff 0 1 1 SIZE 1 ok
 2 80000000..ffffffff 0 1 1 SIZE 1 ok

t: 1,200 records, SIZE, compression zstd, kept for ever, created TIME
 PARTITION KEY HASHES START END RECORDS SIZE FILES STATE
 3 00000000..ffffffff 0 1,200 1,200 SIZE 1 ok

void: 0 records, SIZE, compression none, kept for ever, created TIME
 PARTITION KEY HASHES START END RECORDS SIZE FILES STATE
 4 00000000..ffffffff 0 0 0 SIZE 1 ok
`}, {"verify keyed t", `
keyed: 2 partitions, 2 records
 partition 1: 1 record, offsets 0 to 0, each once, in order (1 frame in 1 file, SIZE)
 partition 2: 1 record, offsets 0 to 0, each once, in order (1 frame in 1 file, SIZE)
t: 1 partition, 1,200 records, offsets 0 to 1,199, each once, in order (1 frame in 1 file, SIZE)
sound: 1,202 records in 3 partitions
`}, {"dump keyed --records", `
partitions/0000000001/00000000000000000000-000001.seg
 POS LEN offsets 0 to 0, 1 record, TIME
 0 TIME key "b" value "2" headers 0
partitions/0000000002/00000000000000000000-000001.seg
 POS LEN offsets 0 to 0, 1 record, TIME
 0 TIME key "a" value "1" headers 0
`}, {"dump t --partition 3", `
partitions/0000000003/00000000000000000000-000001.seg
 POS LEN offsets 0 to 1199, 1,200 records, TIME, zstd from SIZE
`},
	} {
		got := masked(dir, "\n"+must(t, dir, "", strings.Fields(tc.args)...))
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.args, diff)
		}
	}
}

func TestDumpedFramesHoldTheRecordsAndLieOneBehindTheOther(t *testing.T) {
	dir := t.TempDir()
	must(t, dir, seq(1, 10_000), "pub", "t", "--compression", "s2")
	must(t, dir, seq(10_001, 10_050), "pub", "t")
	next, pos := int64(0), int64(0)
	var values strings.Builder
	for line := range strings.Lines(must(t, dir, "", "dump", "t", "--json", "--records")) {
		f := decode[frame](t, line)
		if *f.Base != next || *f.End-*f.Base != int64(f.Records) || len(f.Content) != f.Records || f.Pos < pos || f.Len <= 0 {
			t.Fatalf("frame of offsets %d to %d, %d records, %d shown, at %d; want it to begin with %d behind %d",
				*f.Base, *f.End, f.Records, len(f.Content), f.Pos, next, pos)
		}
		next, pos = *f.End, f.Pos+f.Len
		for _, rec := range f.Content {
			values.WriteString(*rec.Value + "\n")
		}
	}
	if values.String() != seq(1, 10_050) {
		t.Errorf("the frames hold %d bytes of lines", values.Len())
	}
}

func TestDamageIsReportedByEveryCommandThatMeetsIt(t *testing.T) {
	dir := t.TempDir()
	for i := range 5 {
		must(t, dir, seq(10*i+1, 10*i+10), "pub", "t")
	}
	damageFrame(t, dir, 2)
	r := braidIn(t, dir, "", "verify")
	if r.code != exitCorrupt || !strings.Contains(r.stdout, "offsets 0 to 49, 10 of them without a record") || strings.Count(r.stdout, "problem: ") != 1 ||
		!strings.HasSuffix(r.stdout, "1 problem found; 40 records in 1 partition are sound\n") {
		t.Errorf("verify: exit code %d\n%s", r.code, r.stdout)
	}
	r = braidIn(t, dir, "", "verify", "--json")
	if v := decode[verified](t, r.stdout); r.code != exitCorrupt || v.Sound || v.Records != 40 || len(v.Partitions[0].Problems) != 1 {
		t.Errorf("verify --json: exit code %d\n%s", r.code, r.stdout)
	}
	if r := braidIn(t, dir, "", "tail", "t"); r.code != exitError || r.stdout != seq(1, 20) || !strings.Contains(r.stderr, "corrupt") {
		t.Errorf("tail: exit code %d, %q, %q", r.code, r.stdout, r.stderr)
	}
	r = braidIn(t, dir, "", "tail", "t", "--skip-damaged")
	if r.code != 0 || r.stdout != seq(1, 20)+seq(31, 50) || !strings.Contains(r.stderr, "skipping 10 offsets") {
		t.Errorf("tail --skip-damaged: exit code %d, %q, %q", r.code, r.stdout, r.stderr)
	}
	out := must(t, dir, "", "dump", "t", "--records")
	if strings.Count(out, "DAMAGED") != 1 || strings.Count(out, "value ") != 40 || !strings.Contains(out, "offsets 30 to 39, 10 records") {
		t.Errorf("dump --records: %s", out)
	}
}

func TestVerifyTellsMissingFromDamaged(t *testing.T) {
	for name, tc := range map[string]struct {
		harm func(t *testing.T, dir string, segments []string) error
		code int
	}{
		"nothing":        {func(*testing.T, string, []string) error { return nil }, exitOK},
		"a file is gone": {func(_ *testing.T, _ string, s []string) error { return os.Remove(s[1]) }, exitMissing},
		"a file is gone and another damaged": {func(t *testing.T, _ string, s []string) error {
			flip(t, s[0], 1000)
			return os.Remove(s[1])
		}, exitCorrupt},
		"a file ends inside a frame":        {func(_ *testing.T, _ string, s []string) error { return os.Truncate(s[1], 300) }, exitCorrupt},
		"the last file ends inside a frame": {func(_ *testing.T, _ string, s []string) error { return os.Truncate(s[len(s)-1], 300) }, exitCorrupt},
		"a damaged manifest": {func(t *testing.T, _ string, s []string) error {
			flip(t, filepath.Join(filepath.Dir(s[0]), "MANIFEST"), 30)
			return nil
		}, exitCorrupt},
		"no FORMAT": {func(_ *testing.T, dir string, _ []string) error { return os.Remove(filepath.Join(dir, "FORMAT")) }, exitMissing},
		"no positions and configurations": {func(_ *testing.T, dir string, _ []string) error {
			return os.RemoveAll(filepath.Join(dir, "checkpoint"))
		}, exitMissing},
		"nothing at all": {func(_ *testing.T, dir string, _ []string) error { return os.RemoveAll(dir) }, exitError},
	} {
		t.Run(name, func(t *testing.T) {
			dir, segments := severalFiles(t)
			if err := tc.harm(t, dir, segments); err != nil {
				t.Fatal(err)
			}
			r := braidIn(t, dir, "", "verify")
			if r.code != tc.code || strings.Contains(r.stdout, "problem: ") != (tc.code > exitError) {
				t.Errorf("exit code %d, want %d\n%s%s", r.code, tc.code, r.stdout, r.stderr)
			}
		})
	}
}

// severalFiles makes a directory with a partition of several files.
func severalFiles(t *testing.T) (dir string, segments []string) {
	t.Helper()
	dir = t.TempDir()
	must(t, dir, "", "topics", "create", "t", "--segment-bytes", "64KiB")
	must(t, dir, seq(1, 40_000), "pub", "t")
	segments, err := filepath.Glob(filepath.Join(dir, "partitions", "*", "*.seg"))
	if err != nil || len(segments) < 3 {
		t.Fatalf("files: %v, %v", segments, err)
	}
	return dir, segments
}

// decode reads JSON that a command printed.
func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

// flip flips a bit of a file.
func flip(t *testing.T, path string, at int64) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[at] ^= 0x40
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
