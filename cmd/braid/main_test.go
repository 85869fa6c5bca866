package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/braid-go/braid"
)

// TestMain lets the test binary stand in for the command, so that it can be killed.
func TestMain(m *testing.M) {
	if args := os.Getenv("BRAID_TEST_ARGS"); args != "" {
		os.Exit(run(context.Background(), strings.Split(args, " "), os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// result is what a command line did.
type result struct {
	code           int
	stdout, stderr string
}

// braidIn runs a command line on a data directory.
func braidIn(t *testing.T, dir, stdin string, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	code := run(t.Context(), append([]string{"--dir", dir}, args...), strings.NewReader(stdin), &out, &errs)
	return result{code, out.String(), errs.String()}
}

// must runs a command line that must succeed and returns what it printed.
func must(t *testing.T, dir, stdin string, args ...string) string {
	t.Helper()
	r := braidIn(t, dir, stdin, args...)
	if r.code != 0 {
		t.Fatalf("braid %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

func seq(from, to int) string {
	var b strings.Builder
	for i := from; i <= to; i++ {
		fmt.Fprintln(&b, i)
	}
	return b.String()
}

func TestWhatIsPublishedIsPrintedOnceAndInOrder(t *testing.T) {
	dir := t.TempDir()
	in := seq(1, 100_000)
	must(t, dir, in, "pub", "numbers")
	if got := must(t, dir, "", "tail", "numbers", "--from", "earliest"); got != in {
		t.Errorf("%d bytes came back of %d", len(got), len(in))
	}
	out := must(t, dir, "", "verify")
	if !strings.Contains(out, "100,000 records") || !strings.Contains(out, "offsets 0 to 99999, each once, in order") {
		t.Errorf("verify says %q", out)
	}
	must(t, dir, "x\ny", "pub", "numbers") // the last line has no newline
	if got := must(t, dir, "", "tail", "numbers", "--from", "100000"); got != "x\ny\n" {
		t.Errorf("got %q", got)
	}
}

func TestSeveralPartitionsKeepEachKeysOrder(t *testing.T) {
	dir := t.TempDir()
	var in strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&in, "k%d:%d\n", i%17, i)
	}
	must(t, dir, in.String(), "pub", "t", "--partitions", "4", "--key-sep", ":", "--compression", "s2")
	last := map[string]int{}
	lines := strings.Fields(must(t, dir, "", "tail", "t", "--format", `%k %v\n`))
	for i := 0; i < len(lines); i += 2 {
		n, _ := strconv.Atoi(lines[i+1])
		if prev, ok := last[lines[i]]; ok && n != prev+17 {
			t.Fatalf("%s: %d follows %d", lines[i], n, prev)
		}
		last[lines[i]] = n
	}
	if len(lines) != 10_000 || len(last) != 17 {
		t.Errorf("%d records of %d keys", len(lines)/2, len(last))
	}
	if got := must(t, dir, "", "tail", "t", "--key", "k3", "-n", "2"); got != "3\n20\n" {
		t.Errorf("--key -n: %q", got)
	}
}

func TestNDJSONRoundTrip(t *testing.T) {
	dir := t.TempDir()
	must(t, dir, `{"key":"k","value":"v","headers":{"b":"2","a":"1"},"time":"2031-02-03T04:05:06.000000007Z"}
{"value_base64":"//4=","headers":[["x",null],["x",""]]}
{"value":""}
`, "pub", "t", "--ndjson")
	var got []map[string]any
	for line := range strings.Lines(must(t, dir, "", "tail", "t", "--json")) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		if len(got) > 0 {
			delete(m, "time")
		} else if at, err := time.Parse(time.RFC3339Nano, m["time"].(string)); err == nil {
			m["time"] = at.UTC().Format(time.RFC3339Nano)
		}
		got = append(got, m)
	}
	pair := func(k string, v any) any { return []any{k, v} }
	want := []map[string]any{
		{"topic": "t", "partition": 1., "offset": 0., "key": "k", "value": "v", "time": "2031-02-03T04:05:06.000000007Z",
			"headers": []any{pair("b", "2"), pair("a", "1")}},
		{"topic": "t", "partition": 1., "offset": 1., "value_base64": "//4=", "headers": []any{pair("x", nil), pair("x", "")}},
		{"topic": "t", "partition": 1., "offset": 2., "value": ""},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestABadLineIsNamedAndWhatCameBeforeIsStored(t *testing.T) {
	for name, tc := range map[string]struct{ line, says string }{
		"not JSON":      {`{"value":`, "line 3"},
		"unknown field": {`{"value":"x","colour":"red"}`, "colour"},
		"no value":      {`{"key":"x"}`, "needs a value"},
		"both values":   {`{"value":"x","value_base64":"eA=="}`, "both given"},
		"bad base64":    {`{"value_base64":"***"}`, "value_base64"},
		"two objects":   {`{"value":"x"}{"value":"y"}`, "follows"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			r := braidIn(t, dir, "{\"value\":\"1\"}\n{\"value\":\"2\"}\n"+tc.line+"\n{\"value\":\"4\"}\n", "pub", "t", "--ndjson")
			if r.code != exitError || !strings.Contains(r.stderr, "line 3") || !strings.Contains(r.stderr, tc.says) {
				t.Errorf("exit code %d, %q", r.code, r.stderr)
			}
			if got := must(t, dir, "", "tail", "t"); got != "1\n2\n" {
				t.Errorf("stored %q", got)
			}
		})
	}
	dir := t.TempDir()
	if r := braidIn(t, dir, strings.Repeat("x", 3<<20), "pub", "t"); r.code != exitError || !strings.Contains(r.stderr, "line 1") {
		t.Errorf("a line of 3 MiB: exit code %d, %q", r.code, r.stderr)
	}
}

func TestReadingWorksBesideAWriter(t *testing.T) {
	dir := t.TempDir()
	b, err := braid.Open(dir, braid.Options{Durability: braid.Interval})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
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

func TestAGroupGoesOnWhereItStopped(t *testing.T) {
	dir := t.TempDir()
	must(t, dir, seq(1, 5), "pub", "t")
	if got := must(t, dir, "", "tail", "t", "--group", "g", "-n", "2"); got != "1\n2\n" {
		t.Errorf("got %q", got)
	}
	if got := must(t, dir, "", "tail", "t", "--group", "g"); got != "3\n4\n5\n" {
		t.Errorf("got %q", got)
	}
	if got := must(t, dir, "", "tail", "t", "--group", "g"); got != "" {
		t.Errorf("at the end: got %q", got)
	}
	must(t, dir, "6\n", "pub", "t")
	if got := must(t, dir, "", "tail", "t", "--group", "g"); got != "6\n" {
		t.Errorf("got %q", got)
	}
}

func TestFollowPrintsWhatComes(t *testing.T) {
	dir := t.TempDir()
	must(t, dir, "first\n", "pub", "t")
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	code := make(chan int)
	go func() {
		code <- run(ctx, []string{"--dir", dir, "tail", "t", "-f"}, strings.NewReader(""), w, io.Discard)
		w.Close()
	}()
	lines := bufio.NewScanner(r)
	lines.Scan()
	must(t, dir, "second\n", "pub", "t")
	first := lines.Text()
	lines.Scan()
	if first != "first" || lines.Text() != "second" {
		t.Errorf("got %q, %q", first, lines.Text())
	}
	cancel()
	if c := <-code; c != exitInterrupted {
		t.Errorf("exit code %d, want %d", c, exitInterrupted)
	}
}

func TestInterruptingPubStoresWhatItHasRead(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	in, feed := io.Pipe()
	acks, out := io.Pipe()
	code := make(chan int)
	go func() { code <- run(ctx, []string{"--dir", dir, "pub", "t", "--acks"}, in, out, io.Discard) }()
	go feed.Write([]byte("one\ntwo\n"))
	lines := bufio.NewScanner(acks)
	for lines.Scan() && lines.Text() != "2" {
	}
	cancel() // while it waits for a third line
	if c := <-code; c != exitInterrupted {
		t.Errorf("exit code %d, want %d", c, exitInterrupted)
	}
	feed.Close()
	if got := must(t, dir, "", "tail", "t"); got != "one\ntwo\n" {
		t.Errorf("stored %q", got)
	}
}

func TestTopicsAreCreatedChangedAndDeleted(t *testing.T) {
	dir := t.TempDir()
	must(t, dir, "", "topics", "create", "t", "--partitions", "3", "--retention-age", "24h", "--compression", "zstd")
	must(t, dir, "", "topics", "update", "t", "--retention-bytes", "1000000")
	var got []topicSummary
	if err := json.Unmarshal([]byte(must(t, dir, "", "topics", "--json")), &got); err != nil {
		t.Fatal(err)
	}
	want := braid.TopicConfig{Partitions: 3, Compression: braid.Zstd, SegmentBytes: 64 << 20, RetentionAge: 24 * time.Hour, RetentionBytes: 1_000_000}
	if len(got) != 1 || got[0].Name != "t" || got[0].Config != want {
		t.Errorf("got %+v", got)
	}
	if r := braidIn(t, dir, "", "topics", "delete", "t"); r.code != exitError || !strings.Contains(r.stderr, "--yes") {
		t.Errorf("delete without --yes: exit code %d, %q", r.code, r.stderr)
	}
	must(t, dir, "", "topics", "delete", "t", "--yes")
	if out := must(t, dir, "", "topics"); out != "no topics\n" {
		t.Errorf("after deleting: %q", out)
	}
}

func TestVerifyAndTailReportDamage(t *testing.T) {
	dir := t.TempDir()
	for i := range 5 {
		must(t, dir, seq(10*i+1, 10*i+10), "pub", "t")
	}
	damage(t, dir, 0.5)
	r := braidIn(t, dir, "", "verify")
	if r.code != exitCorrupt || !strings.Contains(r.stdout, "problem: ") || !strings.Contains(r.stdout, "1 problem found; 40 records are sound") {
		t.Errorf("verify: exit code %d\n%s", r.code, r.stdout)
	}
	if r := braidIn(t, dir, "", "tail", "t"); r.code != exitError || !strings.Contains(r.stderr, "corrupt") {
		t.Errorf("tail: exit code %d, %q", r.code, r.stderr)
	}
	if got := must(t, dir, "", "tail", "t", "--skip-damaged"); got != seq(1, 20)+seq(31, 50) {
		t.Errorf("tail --skip-damaged prints %q", got)
	}
	if out := must(t, dir, "", "dump", "t"); strings.Count(out, "DAMAGED") != 1 || strings.Count(out, "offsets ") < 4 {
		t.Errorf("dump: %s", out)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "partitions", "*", "*.seg"))
	if err := os.Truncate(files[0], 300); err != nil {
		t.Fatal(err)
	}
	if r := braidIn(t, dir, "", "verify"); r.code == 0 {
		t.Errorf("verify of a truncated file: exit code %d\n%s", r.code, r.stdout)
	}
}

// damage flips a byte of the only segment, somewhere along its length.
func damage(t *testing.T, dir string, at float64) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "partitions", "*", "*.seg"))
	if err != nil || len(files) != 1 {
		t.Fatalf("segments: %v, %v", files, err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	b[int(float64(len(b))*at)] ^= 0x40
	if err := os.WriteFile(files[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestMistakesAreExplained(t *testing.T) {
	dir := t.TempDir()
	if r := braidIn(t, dir, "", "tail", "t"); r.code != exitError || !strings.Contains(r.stderr, "not a Braid data directory") {
		t.Errorf("no directory: exit code %d, %q", r.code, r.stderr)
	}
	must(t, dir, "x\n", "pub", "t")
	for _, args := range [][]string{
		{"tail", "nosuch"}, {"tail", "t", "--from", "yesterday"}, {"tail", "t", "--format", "%q"}, {"tail", "t", "--format", "%"},
		{"tail", "t", "--since=-5m"}, {"tail", "t", "--partition", "99"}, {"tail", "t", "--group", "g", "--partition", "1"},
		{"dump", "nosuch"}, {"info", "nosuch"}, {"verify", "nosuch"}, {"pub", "bad/name"}, {"pub", "t2", "--partitions=-1"},
	} {
		r := braidIn(t, dir, "", args...)
		if r.code != exitError || !strings.HasPrefix(r.stderr, "braid: ") || strings.HasPrefix(r.stderr, "braid: braid:") {
			t.Errorf("%v: exit code %d, %q", args, r.code, r.stderr)
		}
	}
	if r := braidIn(t, dir, "", "frobnicate"); r.code == 0 || r.code == -1 {
		t.Errorf("an unknown command: exit code %d", r.code)
	}
	for _, args := range [][]string{{"--help"}, {"pub", "--help"}, {"tail", "--help"}, {"verify", "--help"}, {"version"}} {
		if r := braidIn(t, dir, "", args...); r.code != 0 || len(r.stdout) == 0 {
			t.Errorf("%v: exit code %d, %q", args, r.code, r.stderr)
		}
	}
}

func TestDemoPasses(t *testing.T) {
	var out bytes.Buffer
	if code := run(t.Context(), []string{"demo", "--orders", "5000"}, strings.NewReader(""), &out, &out); code != 0 {
		t.Fatalf("exit code %d\n%s", code, out.String())
	}
	if !strings.HasSuffix(out.String(), "\nall checks passed\n") {
		t.Errorf("the demo ends with %q", out.String())
	}
}

// Killing pub at any moment leaves exactly what it has acknowledged, and perhaps whole calls that it had not yet.
func TestKillingPubLeavesTheAcknowledgedPrefix(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	next := 1 // the first number that is not stored yet
	for round := range 8 {
		child := exec.Command(exe)
		child.Env = append(os.Environ(), "BRAID_TEST_ARGS=--dir "+dir+" pub t --acks")
		in, err := child.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		fed := make(chan struct{})
		go func() {
			defer close(fed)
			w := bufio.NewWriterSize(in, 700*(round+1))
			for n := next; ; n++ { // until the pipe breaks
				if _, err := fmt.Fprintln(w, n); err != nil {
					return
				}
			}
		}()
		acks := bufio.NewScanner(out)
		acked := 0
		for range 3 + 5*round {
			if acks.Scan() {
				acked, _ = strconv.Atoi(acks.Text())
			}
		}
		child.Process.Kill()
		for acks.Scan() { // what it had said before it died
			if n, err := strconv.Atoi(acks.Text()); err == nil {
				acked = n
			}
		}
		child.Wait()
		<-fed
		acked += next - 1
		lines := strings.Fields(must(t, dir, "", "tail", "t", "--group", fmt.Sprint("check-", round))) // opens for writing: recovers
		if len(lines) < acked {
			t.Fatalf("round %d: %d acknowledged, %d stored", round, acked, len(lines))
		}
		for i, line := range lines {
			if line != strconv.Itoa(i+1) {
				t.Fatalf("round %d: record %d is %s", round, i, line)
			}
		}
		must(t, dir, "", "verify")
		next = len(lines) + 1
	}
}
