package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestWhatIsPublishedIsPrintedOnceAndInOrder(t *testing.T) {
	dir := t.TempDir()
	in := seq(1, 100_000)
	must(t, dir, in, "pub", "numbers")
	if got := must(t, dir, "", "tail", "numbers", "--from", "earliest"); got != in {
		t.Errorf("%d bytes came back of %d", len(got), len(in))
	}
	out := must(t, dir, "", "verify")
	if !strings.Contains(out, "100,000 records") || !strings.Contains(out, "offsets 0 to 99,999, each once, in order") {
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
		m := decode[map[string]any](t, line)
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

func TestBytesThatAreNotTextRoundTripThroughJSON(t *testing.T) {
	dir := t.TempDir()
	must(t, dir, `{"value":"<&>","key_base64":"gA==","headers":[["n",null],["e",""],{"name":"b","value_base64":"/w=="},{"name_base64":"/g==","value":"t"},["ü","ö"]]}`,
		"pub", "t", "--ndjson")
	first := must(t, dir, "", "tail", "t", "--json")
	if !strings.Contains(first, `"<&>"`) {
		t.Errorf("printed %s", first)
	}
	must(t, dir, first, "pub", "u", "--ndjson")
	second := strings.Replace(must(t, dir, "", "tail", "u", "--json"), `"topic":"u","partition":2`, `"topic":"t","partition":1`, 1)
	if diff := cmp.Diff(first, second); diff != "" {
		t.Error(diff)
	}
}

func TestABadLineIsNamedAndWhatCameBeforeIsStored(t *testing.T) {
	for name, tc := range map[string]struct{ line, says string }{
		"not JSON":       {`{"value":`, "line 3"},
		"unknown field":  {`{"value":"x","colour":"red"}`, "colour"},
		"no value":       {`{"key":"x"}`, "needs a value"},
		"both values":    {`{"value":"x","value_base64":"eA=="}`, "both given"},
		"bad base64":     {`{"value_base64":"***"}`, "value_base64"},
		"two objects":    {`{"value":"x"}{"value":"y"}`, "follows"},
		"a brace more":   {`{"value":"x"}}`, "follows"},
		"empty key":      {`{"key":"","value":"x"}`, "key is empty"},
		"bad header":     {`{"value":"x","headers":[["a"]]}`, "pair"},
		"no name":        {`{"value":"x","headers":[{"value":"a"}]}`, "needs a name"},
		"a number":       {`{"value":1}`, "number"},
		"not UTF-8":      {"{\"value\":\"\xff\"}", "UTF-8"},
		"bad time":       {`{"value":"x","time":"noon"}`, "noon"},
		"a time too far": {`{"value":"x","time":"9999-01-01T00:00:00Z"}`, "refused"},
		"too large":      {`{"value":"` + strings.Repeat("x", 2<<20) + `"}`, "limit"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			r := braidIn(t, dir, "{\"value\":\"1\"}\n{\"value\":\"2\"}\n"+tc.line+"\n{\"value\":\"4\"}\n", "pub", "t", "--ndjson")
			if r.code != exitError || !strings.Contains(r.stderr, "line 3") || !strings.Contains(r.stderr, tc.says) {
				t.Errorf("exit code %d, %.300q", r.code, r.stderr)
			}
			if got := must(t, dir, "", "tail", "t"); got != "1\n2\n" {
				t.Errorf("stored %q", got)
			}
		})
	}
}

func TestARefusedRecordIsNamedByItsLineAndThoseBeforeItAreStored(t *testing.T) {
	for name, tc := range map[string]struct {
		line, says string
		args       []string
	}{
		"larger than a record may be": {strings.Repeat("x", 2<<20), "limit", nil},
		"longer than is looked at":    {strings.Repeat("x", 9<<20), "too long", nil},
		"empty key":                   {":x", "key is empty", []string{"--key-sep", ":"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			r := braidIn(t, dir, seq(1, 5000)+tc.line+"\n7\n", append([]string{"pub", "t", "--acks"}, tc.args...)...)
			if r.code != exitError || !strings.Contains(r.stderr, "line 5001: ") || !strings.Contains(r.stderr, tc.says) ||
				!strings.Contains(r.stderr, "published 5,000 records") || !strings.HasSuffix(r.stdout, "\n5000\n") {
				t.Errorf("exit code %d, %.300q, %q", r.code, r.stderr, r.stdout)
			}
			if got := must(t, dir, "", "tail", "t"); got != seq(1, 5000) {
				t.Errorf("%d bytes stored", len(got))
			}
		})
	}
}

func TestWhatALineMayHold(t *testing.T) {
	dir := t.TempDir()
	in := "\n\r\n\xff\xfe\x00\n" + strings.Repeat("x", 1<<20) + "\n  a b \n"
	must(t, dir, in, "pub", "t")
	if got := must(t, dir, "", "tail", "t"); got != in {
		t.Errorf("%d bytes came back of %d: %.40q", len(got), len(in), got)
	}
	must(t, dir, "a\t1\tx\nplain\nb\t\n", "pub", "keyed", `--key-sep`, `\t`)
	if got, want := must(t, dir, "", "tail", "keyed", "--format", "[%k][%v]"), "[a][1\tx][][plain][b][]"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	must(t, dir, "", "pub", "nothing")
	must(t, dir, " \n\n{\"value\":\"x\"}\n\n", "pub", "nothing", "--ndjson")
	if got := must(t, dir, "", "tail", "nothing"); got != "x\n" {
		t.Errorf("got %q", got)
	}
}

func TestAPauseOfTheInputStoresTheLinesSoFar(t *testing.T) {
	in, feed := io.Pipe()
	c := start(t, t.TempDir(), in, "pub", "t", "--acks")
	io.WriteString(feed, "a\nb\nhalf ")
	for c.line(t) != "2" { // they may be stored in one call or in two
	}
	io.WriteString(feed, "a line")
	feed.Close()
	if n, code := c.line(t), <-c.code; n != "3" || code != 0 {
		t.Errorf("acknowledged %s, exit code %d, %s", n, code, c.stderr.String())
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

func TestAnInterruptStoresTheWholeLinesReadSoFar(t *testing.T) {
	dir := t.TempDir()
	c := child(t, "--dir", dir, "pub", "t", "--acks")
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	io.WriteString(in, seq(1, 10)+"hal") // standard input stays open
	acks := bufio.NewScanner(out)
	for acks.Scan() && acks.Text() != "10" {
	}
	c.Process.Signal(os.Interrupt)
	c.Wait()
	if code := c.ProcessState.ExitCode(); code != exitInterrupted {
		t.Errorf("%v, want exit code %d", c.ProcessState, exitInterrupted)
	}
	if got := must(t, dir, "", "tail", "t"); got != seq(1, 10) {
		t.Errorf("stored %q", got)
	}
}

// Killing pub at any moment leaves exactly what it has acknowledged, and perhaps the whole call that it had not yet.
func TestKillingPubLeavesTheAcknowledgedPrefix(t *testing.T) {
	dir := t.TempDir()
	stored := 0
	for round := range 8 {
		acked := stored + killPub(t, dir, stored+1, 3+5*round, 700*(round+1))
		lines := strings.Fields(must(t, dir, "", "tail", "t", "--group", fmt.Sprint("check-", round))) // opens for writing: recovers
		if len(lines) < acked || len(lines) > acked+pubBatchRecords {                                  // one call is under way at a time
			t.Fatalf("round %d: %d acknowledged, %d stored", round, acked, len(lines))
		}
		for i, line := range lines {
			if line != strconv.Itoa(i+1) {
				t.Fatalf("round %d: record %d is %s", round, i, line)
			}
		}
		must(t, dir, "", "verify")
		stored = len(lines)
	}
}

// killPub publishes numbers from first on, some bytes a write, kills the publisher after some acknowledgements,
// and returns how many records it has acknowledged.
func killPub(t *testing.T, dir string, first, acks, bytes int) int {
	t.Helper()
	c := child(t, "--dir", dir, "pub", "t", "--acks")
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	fed := make(chan struct{})
	go func() {
		defer close(fed)
		w := bufio.NewWriterSize(in, bytes)
		for n := first; ; n++ { // until the pipe breaks
			if _, err := fmt.Fprintln(w, n); err != nil {
				return
			}
		}
	}()
	said := bufio.NewScanner(out)
	acked := 0
	for n := 0; said.Scan(); n++ { // also what it had said before it died
		if err := json.Unmarshal(said.Bytes(), &acked); err != nil {
			t.Fatal(err)
		}
		if n == acks {
			c.Process.Kill()
		}
	}
	c.Wait()
	<-fed
	return acked
}
