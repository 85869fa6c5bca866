package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/braid-go/braid"
)

// TestMain lets the test binary stand in for the command, signals and all, so that it can be killed and interrupted.
func TestMain(m *testing.M) {
	if args := os.Getenv("BRAID_TEST_ARGS"); args != "" {
		os.Args = append([]string{"braid"}, strings.Split(args, " ")...)
		main()
	}
	os.Exit(m.Run())
}

// child makes the command as a process of its own.
func child(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), exe)
	c.Env = append(os.Environ(), "BRAID_TEST_ARGS="+strings.Join(args, " "))
	return c
}

// result is what a command line did.
type result struct {
	code           int
	stdout, stderr string
}

func braidIn(t *testing.T, dir, stdin string, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	code := run(t.Context(), append([]string{"--dir", dir}, args...), strings.NewReader(stdin), &out, &errs)
	return result{code, out.String(), errs.String()}
}

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

func TestMistakesAreExplained(t *testing.T) {
	dir := t.TempDir()
	if r := braidIn(t, dir, "", "tail", "t"); r.code != exitError || !strings.Contains(r.stderr, "not a Braid data directory") {
		t.Errorf("no directory: exit code %d, %q", r.code, r.stderr)
	}
	must(t, dir, "x\n", "pub", "t")
	for _, args := range [][]string{
		{"tail", "nosuch"}, {"tail", "t", "--from", "yesterday"}, {"tail", "t", "--format", "%q"}, {"tail", "t", "--format", "%"},
		{"tail", "t", "--since=-5m"}, {"tail", "t", "--partition", "99"}, {"tail", "t", "--limit=-1"}, {"tail", "t", "--from=-1"},
		{"tail", "nosuch", "--group", "g"}, {"tail", "t", "--group", "bad/name"},
		{"dump", "nosuch"}, {"info", "nosuch"}, {"verify", "nosuch"}, {"pub", "bad/name"}, {"pub", "t2", "--partitions=-1"},
		{"topics", "create", "t"}, {"topics", "update", "nosuch"}, {"topics", "delete", "nosuch", "--yes"},
		{"topics", "create", "t3", "--segment-bytes", "1KiB"}, {"demo"}, {"demo", "--orders", "3"},
	} {
		r := braidIn(t, dir, "", args...)
		if r.code != exitError || r.stdout != "" || !strings.HasPrefix(r.stderr, "braid: ") || strings.HasPrefix(r.stderr, "braid: braid:") {
			t.Errorf("%v: exit code %d, %q, %q", args, r.code, r.stdout, r.stderr)
		}
	}
}

func TestACommandLineThatIsNotUnderstoodEndsWithEighty(t *testing.T) {
	for _, args := range [][]string{
		{}, {"frobnicate"}, {"pub"}, {"pub", "t", "--partitons", "3"}, {"pub", "t", "--durability", "maybe"}, {"pub", "t", "--ndjson", "--key-sep", ":"},
		{"tail", "t", "--from", "3", "--since", "5m"}, {"tail", "t", "--group", "g", "--partition", "1"}, {"tail", "t", "--json", "--format", "%v"},
		{"topics", "create", "t", "--retention-age", "soon"}, {"topics", "create", "t", "--retention-bytes", "much"},
	} {
		dir := filepath.Join(t.TempDir(), "d")
		r := braidIn(t, dir, "", args...)
		if r.code != 80 || r.stdout != "" || !strings.HasPrefix(r.stderr, "braid: ") || !strings.Contains(r.stderr, "--help") {
			t.Errorf("%v: exit code %d, %q, %q", args, r.code, r.stdout, r.stderr)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%v has made a data directory", args)
		}
	}
}

func TestEveryCommandHasHelpWithExamples(t *testing.T) {
	for _, command := range []string{"pub", "tail", "topics", "topics list", "topics create", "topics update", "topics delete", "info", "verify", "dump", "demo"} {
		r := braidIn(t, t.TempDir(), "", append(strings.Fields(command), "--help")...)
		if r.code != 0 || !strings.Contains(r.stdout, "Example") || !strings.Contains(r.stdout, "    braid "+command) && command != "topics list" {
			t.Errorf("%s: exit code %d, %q, %q", command, r.code, r.stdout, r.stderr)
		}
	}
	if out := must(t, t.TempDir(), "", "--help"); !strings.Contains(out, "Exit codes") || !strings.Contains(out, "130") {
		t.Errorf("braid --help: %s", out)
	}
	if out := must(t, t.TempDir(), "", "version"); !strings.HasPrefix(out, "braid ") {
		t.Errorf("braid version: %q", out)
	}
}

// failingWriter fails with err.
type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

func TestOutputThatCannotBeWrittenIsAnErrorUnlessNobodyReadsIt(t *testing.T) {
	dir := t.TempDir()
	must(t, dir, seq(1, 50_000), "pub", "t")
	for _, args := range [][]string{{"tail", "t"}, {"tail", "t", "--group", "g"}, {"topics"}, {"info"}, {"verify"}, {"dump", "t"}, {"version"}} {
		for err, want := range map[error]int{syscall.EPIPE: exitOK, syscall.ENOSPC: exitError} {
			var stderr bytes.Buffer
			code := run(t.Context(), append([]string{"--dir", dir}, args...), strings.NewReader(""), failingWriter{err}, &stderr)
			if code != want || (stderr.Len() > 0) != (want == exitError) {
				t.Errorf("%v, %v: exit code %d, %q", args, err, code, stderr.String())
			}
		}
	}
	var stderr bytes.Buffer
	code := run(t.Context(), []string{"--dir", dir, "pub", "t", "--acks"}, strings.NewReader("x\n"), failingWriter{syscall.EPIPE}, &stderr)
	if code != exitError || !strings.Contains(stderr.String(), "acknowledging") {
		t.Errorf("pub --acks that nobody reads: exit code %d, %q", code, stderr.String())
	}
}

// A process whose standard output is closed early is sent SIGPIPE, which must not kill it.
func TestHeadEndsTailQuietly(t *testing.T) {
	dir := t.TempDir()
	must(t, dir, seq(1, 100_000), "pub", "t")
	c := child(t, "--dir", dir, "tail", "t")
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "1\n" {
		t.Errorf("first line %q, %v", line, err)
	}
	out.Close()
	if err := c.Wait(); err != nil || stderr.Len() > 0 {
		t.Errorf("tail ends with %v, %q", err, stderr.String())
	}
}

// openBroker opens a broker beside which commands are run.
func openBroker(t *testing.T, dir string, opts braid.Options) *braid.Broker {
	t.Helper()
	b, err := braid.Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// command is a command line that runs while the test goes on.
type command struct {
	stdout *bufio.Scanner
	code   chan int
	cancel context.CancelFunc
	stderr bytes.Buffer // to be read after code
}

// start runs a command line that reads stdin.
func start(t *testing.T, dir string, stdin io.Reader, args ...string) *command {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	r, w := io.Pipe()
	c := &command{stdout: bufio.NewScanner(r), code: make(chan int, 1), cancel: cancel}
	go func() {
		code := run(ctx, append([]string{"--dir", dir}, args...), stdin, w, &c.stderr)
		w.Close()
		c.code <- code
	}()
	return c
}

// line returns the next line that the command prints.
func (c *command) line(t *testing.T) string {
	t.Helper()
	if !c.stdout.Scan() {
		t.Fatalf("the command has ended: exit code %d, %s", <-c.code, c.stderr.String())
	}
	return c.stdout.Text()
}
