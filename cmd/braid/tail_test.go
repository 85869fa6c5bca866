package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/braid-go/braid"
)

func TestReadingWorksBesideAWriter(t *testing.T) {
	dir := t.TempDir()
	b := openBroker(t, dir, braid.Options{Durability: braid.Interval})
	topic, err := b.CreateTopic(t.Context(), "t", braid.TopicConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if err := topic.Publish(t.Context(), &braid.Record{Value: []byte("live")}); err != nil {
		t.Fatal(err)
	}
	if got := must(t, dir, "", "tail", "t"); got != "live\n" {
		t.Errorf("tail: %q", got)
	}
	for _, args := range [][]string{{"topics"}, {"topics", "--json"}, {"info"}, {"info", "t", "--json"}, {"verify"}, {"verify", "--json", "t"}, {"dump", "t"}, {"dump", "t", "--json"}} {
		if out := must(t, dir, "", args...); len(out) == 0 {
			t.Errorf("%v prints nothing", args)
		}
	}
	if out := must(t, dir, "", "info"); !strings.Contains(out, "open for writing by another process") {
		t.Errorf("info does not say that a writer is alive: %q", out)
	}
	for _, args := range [][]string{{"pub", "t"}, {"tail", "t", "--group", "g"}, {"topics", "create", "u"}, {"topics", "delete", "t", "--yes"}} {
		if r := braidIn(t, dir, "", args...); r.code != exitError || !strings.Contains(r.stderr, "locked") {
			t.Errorf("%v: exit code %d, %q; want it to say locked", args, r.code, r.stderr)
		}
	}
}

func TestFollowPrintsWhatComes(t *testing.T) {
	dir := t.TempDir()
	must(t, dir, "first\n", "pub", "t")
	c := start(t, dir, nil, "tail", "t", "-f")
	if got := c.line(t); got != "first" {
		t.Errorf("got %q", got)
	}
	must(t, dir, "second\n", "pub", "t")
	if got := c.line(t); got != "second" {
		t.Errorf("got %q", got)
	}
	c.cancel()
	if code := <-c.code; code != exitInterrupted {
		t.Errorf("exit code %d, want %d", code, exitInterrupted)
	}
}

func TestFollowEndsQuietlyWhenNobodyReads(t *testing.T) {
	dir := t.TempDir()
	must(t, dir, "first\n", "pub", "t")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	code := make(chan int)
	go func() { code <- run(t.Context(), []string{"--dir", dir, "tail", "t", "-f"}, nil, w, io.Discard) }()
	line := make([]byte, 6)
	if _, err := io.ReadFull(r, line); err != nil || string(line) != "first\n" {
		t.Fatalf("%q, %v", line, err)
	}
	r.Close()
	must(t, dir, "second\n", "pub", "t") // the flush of this one fails, and no further record comes
	if c := <-code; c != exitOK {
		t.Errorf("exit code %d", c)
	}
	w.Close()
}

func TestWhereTailBeginsAndEnds(t *testing.T) {
	dir := t.TempDir()
	var in strings.Builder
	for i := range 5 {
		fmt.Fprintf(&in, `{"value":"%d","time":"2026-01-0%dT12:00:00Z"}`+"\n", i, i+1)
	}
	must(t, dir, in.String(), "pub", "t", "--ndjson")
	for _, tc := range []struct{ args, want string }{
		{"", "01234"}, {"--from earliest", "01234"}, {"--from latest", ""}, {"--from 0", "01234"}, {"--from 3", "34"}, {"--from 99", ""},
		{"--from 2026-01-03T12:00:00Z", "234"}, {"--from 2026-01-03T12:00:01Z", "34"}, {"--from 2026-01-05", "4"}, {"--from 2027-01-01", ""},
		{"--since 87600h", "01234"}, {"--from 9999d", "01234"},
		{"-n 2", "01"}, {"-n 0", ""}, {"--from 1 -n 9", "1234"}, {"--key x", ""}, {"--partition 1 -n 1", "0"},
	} {
		if got := must(t, dir, "", append(strings.Fields("tail t --format %v"), strings.Fields(tc.args)...)...); got != tc.want {
			t.Errorf("tail %s: %q, want %q", tc.args, got, tc.want)
		}
	}
}

func TestTailBeginsAtRecordsOfSoLongAgo(t *testing.T) {
	now := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	for _, tc := range []struct {
		cmd  tailCmd
		want braid.Position
	}{
		{tailCmd{Since: time.Hour}, braid.FromTime(now.Add(-time.Hour))},
		{tailCmd{From: "90s"}, braid.FromTime(now.Add(-90 * time.Second))},
		{tailCmd{From: "2d"}, braid.FromTime(now.AddDate(0, 0, -2))},
	} {
		at, err := tc.cmd.position(now)
		if err != nil {
			t.Fatal(err)
		}
		if got := at(nil).String(); got != tc.want.String() {
			t.Errorf("%+v: %s, want %v", tc.cmd, got, tc.want)
		}
	}
}

func TestFormat(t *testing.T) {
	dir := t.TempDir()
	must(t, dir, `{"key":"k","value":"v","headers":[["a","1"],["b",null]]}`, "pub", "t", "--ndjson")
	got := must(t, dir, "", "tail", "t", "--format", `100%% %T/%p@%o %k=%v%n[%h]\t\\n\n`)
	if want := "100% t/1@0 k=v\n[a=1,b=]\t\\n\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	at := must(t, dir, "", "tail", "t", "--format", "%t")
	if when, err := time.Parse(time.RFC3339Nano, at); err != nil || time.Since(when) < 0 {
		t.Errorf("the time is %q: %v", at, err)
	}
}

func TestAGroupGoesOnWhereItStopped(t *testing.T) {
	dir := t.TempDir()
	must(t, dir, seq(1, 5), "pub", "t")
	for _, tc := range []struct{ args, want string }{{"-n 2", "1\n2\n"}, {"", "3\n4\n5\n"}, {"", ""}} {
		if got := must(t, dir, "", append(strings.Fields("tail t --group g"), strings.Fields(tc.args)...)...); got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.args, got, tc.want)
		}
	}
	must(t, dir, "6\n", "pub", "t")
	if got := must(t, dir, "", "tail", "t", "--group", "g"); got != "6\n" {
		t.Errorf("got %q", got)
	}
}

func TestAGroupIsGivenEveryRecordOnceHoweverItIsCutUp(t *testing.T) {
	const n, keys = 3000, 10
	dir := t.TempDir()
	var in strings.Builder
	for i := range n {
		fmt.Fprintf(&in, "k%d:%d\n", i%keys, i)
	}
	must(t, dir, in.String(), "pub", "t", "--key-sep", ":", "--partitions", "3")
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	total := 0
	next := map[string]int{}
	for total < n {
		limit := 1 + rng.IntN(900)
		lines := strings.Fields(must(t, dir, "", "tail", "t", "--group", "g", "-n", fmt.Sprint(limit), "--format", `%k:%v\n`))
		if len(lines) != min(limit, n-total) {
			t.Fatalf("seed %d: -n %d prints %d records after %d", seed, limit, len(lines), total)
		}
		for _, line := range lines {
			var key, number int
			if _, err := fmt.Sscanf(line, "k%d:%d", &key, &number); err != nil || number != next[line[:2]]*keys+key {
				t.Fatalf("seed %d: %s comes when %d records of its key have come: %v", seed, line, next[line[:2]], err)
			}
			next[line[:2]]++
		}
		total += len(lines)
	}
	if out := must(t, dir, "", "tail", "t", "--group", "g"); out != "" {
		t.Errorf("after all %d, %q", n, out)
	}
}

func TestAGroupCommitsTheRecordsThatAFilterLeavesOut(t *testing.T) {
	dir := t.TempDir()
	must(t, dir, "a:1\nb:2\na:3\nb:4\na:5\nb:6\n", "pub", "t", "--key-sep", ":")
	for _, tc := range []struct{ args, want string }{{"--key b -n 1", "2\n"}, {"--key b -n 1", "4\n"}, {"-n 1", "5\n"}, {"--key a", ""}, {"", ""}} {
		if got := must(t, dir, "", append(strings.Fields("tail t --group g"), strings.Fields(tc.args)...)...); got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.args, got, tc.want)
		}
	}
}

func TestAGroupThatCannotPrintCommitsNothing(t *testing.T) {
	dir := t.TempDir()
	must(t, dir, seq(1, 100), "pub", "t")
	if code := run(t.Context(), []string{"--dir", dir, "tail", "t", "--group", "g"}, nil, failingWriter{io.ErrShortWrite}, io.Discard); code != exitError {
		t.Errorf("exit code %d", code)
	}
	if got := must(t, dir, "", "tail", "t", "--group", "g"); got != seq(1, 100) {
		t.Errorf("then it prints %q", got)
	}
}

func TestAGroupThatFollowsCommitsAsItGoes(t *testing.T) {
	dir := t.TempDir()
	must(t, dir, seq(1, 3), "pub", "t")
	c := start(t, dir, nil, "tail", "t", "--group", "g", "-f")
	for range 3 {
		c.line(t)
	}
	c.cancel()
	if code := <-c.code; code != exitInterrupted {
		t.Errorf("exit code %d: %s", code, c.stderr.String())
	}
	must(t, dir, "4\n", "pub", "t")
	if got := must(t, dir, "", "tail", "t", "--group", "g"); got != "4\n" {
		t.Errorf("got %q", got)
	}
}

func TestAGroupGoesPastDamageOnlyWhenToldTo(t *testing.T) {
	for name, tc := range map[string]struct {
		frame int // of five
		want  string
	}{
		"at the beginning": {0, seq(11, 50)},
		"in the middle":    {2, seq(1, 20) + seq(31, 50)},
		"at the end":       {4, seq(1, 40)},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for i := range 5 {
				must(t, dir, seq(10*i+1, 10*i+10), "pub", "t")
			}
			damageFrame(t, dir, tc.frame)
			if r := braidIn(t, dir, "", "tail", "t", "--group", "g"); r.code != exitError || !strings.Contains(r.stderr, "--skip-damaged") {
				t.Errorf("exit code %d, %q, %q", r.code, r.stdout, r.stderr)
			}
			r := braidIn(t, dir, "", "tail", "t", "--group", "h", "--skip-damaged")
			if r.code != 0 || r.stdout != tc.want || !strings.Contains(r.stderr, "skipping 10 offsets") {
				t.Errorf("exit code %d, %q, %q", r.code, r.stdout, r.stderr)
			}
			r = braidIn(t, dir, "", "tail", "t", "--group", "h", "--skip-damaged")
			if r.code != 0 || r.stdout != "" || strings.Contains(r.stderr, "skipping") {
				t.Errorf("again: exit code %d, %q, %q", r.code, r.stdout, r.stderr)
			}
		})
	}
}

// In the weaker modes the end of a partition may lie behind what a power cut has left of it, because a group
// had committed there.
func TestAGroupEndsBeforeAGapAtTheEnd(t *testing.T) {
	dir, lost := t.TempDir(), t.TempDir()
	b := openBroker(t, dir, braid.Options{Durability: braid.OS})
	topic, err := b.CreateTopic(t.Context(), "t", braid.TopicConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		if err := topic.Publish(t.Context(), &braid.Record{Value: fmt.Append(nil, i)}); err != nil {
			t.Fatal(err)
		}
	}
	sub, err := topic.Subscribe(t.Context(), "ahead", braid.SubscribeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for got := 0; got < 4; {
		recs, err := sub.Poll(t.Context(), 4)
		if err != nil {
			t.Fatal(err)
		}
		got += len(recs)
	}
	if err := sub.CommitDelivered(t.Context()); err != nil {
		t.Fatal(err)
	}
	frames := framesOf(t, dir)
	if err := os.CopyFS(lost, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(lost, frames[2].File), frames[2].Pos); err != nil {
		t.Fatal(err)
	}
	r := braidIn(t, lost, "", "tail", "t", "--group", "behind")
	if r.code != 0 || r.stdout != "0\n1\n" || !strings.Contains(r.stderr, "offsets 2 to 3 will not be given out") {
		t.Errorf("exit code %d, %q, %q", r.code, r.stdout, r.stderr)
	}
}

// framesOf lists the frames of the topic t.
func framesOf(t *testing.T, dir string) []frame {
	t.Helper()
	var frames []frame
	for line := range strings.Lines(must(t, dir, "", "dump", "t", "--json")) {
		frames = append(frames, decode[frame](t, line))
	}
	return frames
}

// damageFrame flips a bit in the middle of the n-th frame of the topic t.
func damageFrame(t *testing.T, dir string, n int) {
	t.Helper()
	f := framesOf(t, dir)[n]
	flip(t, filepath.Join(dir, f.File), f.Pos+f.Len/2)
}
