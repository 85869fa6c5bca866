package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/braid-go/braid"
)

// runProgram runs the program and returns the lines that it prints.
func runProgram(t *testing.T, args ...string) []string {
	t.Helper()
	var out bytes.Buffer
	if err := run(t.Context(), args, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
}

// reasons are why jobs fail for good.
var reasons = map[string]string{
	"/0":   "panic: runtime error: integer divide by zero",
	"/few": `strconv.Atoi: parsing "many": invalid syntax`,
}

// want reads the queue and returns what is to be printed of the jobs in the end: of each its result, or that it is given up and why.
func want(t *testing.T, dir string) (done, given map[string]bool) {
	t.Helper()
	b, err := braid.Open(dir, braid.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	jobs, err := b.Topic("jobs")
	if err != nil {
		t.Fatal(err)
	}
	done, given = map[string]bool{}, map[string]bool{}
	for rec, err := range jobs.Read(t.Context(), braid.ReadOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		job := string(rec.Value)
		if reason := reasons[job[strings.IndexByte(job, '/'):]]; reason != "" {
			given[fmt.Sprintf("given up: %s: %s, 3 attempts, the last: %s", name(rec), job, reason)] = true
			continue
		}
		var x, y int
		if _, err := fmt.Sscanf(job, "%d/%d", &x, &y); err != nil {
			t.Fatal(err)
		}
		done[fmt.Sprintf("done: %s: %s = %d", name(rec), job, x/y)] = true
	}
	return done, given
}

// with returns the lines that begin with a prefix, as a set, and how many there are.
func with(lines []string, prefix string) (set map[string]bool, n int) {
	set = map[string]bool{}
	for _, line := range lines {
		if strings.HasPrefix(line, prefix) {
			set[line] = true
			n++
		}
	}
	return set, n
}

func TestEveryJobIsDoneOrADeadLetterWithItsReason(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	lines := runProgram(t, "--dir", dir, "--jobs", "200")
	done, given := want(t, dir)
	if len(done) < 100 || len(given) < 30 {
		t.Fatalf("%d jobs can be done and %d cannot: not much of a test", len(done), len(given))
	}
	gotDone, n := with(lines, "done: ")
	if diff := cmp.Diff(done, gotDone); diff != "" || n != len(done) {
		t.Errorf("%d jobs done (-want +got):\n%s", n, diff)
	}
	gotGiven, n := with(lines, "given up: ")
	if diff := cmp.Diff(given, gotGiven); diff != "" || n != len(given) {
		t.Errorf("%d dead letters (-want +got):\n%s", n, diff)
	}
	helped := false
	for _, line := range lines {
		job, busy := strings.CutSuffix(line, ", is tried again: "+errBusy.Error())
		_, n := with(lines, strings.Replace(job, "failed", "done", 1)+" = ")
		helped = helped || busy && n == 1
	}
	if !helped {
		t.Error("no job was busy at first and done later")
	}
	if again, n := with(runProgram(t, "--dir", dir, "--jobs", "0"), "done"); n > 0 {
		t.Errorf("a second run did %v", again)
	}
}

// interrupter interrupts the program when it has printed some lines.
type interrupter struct {
	mu     sync.Mutex
	out    bytes.Buffer
	left   int
	cancel context.CancelFunc
}

func (i *interrupter) Write(p []byte) (int, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.left--; i.left == 0 {
		i.cancel()
	}
	return i.out.Write(p)
}

func TestAnInterruptedPoolGoesOnWithTheNextRun(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	var lines []string
	jobs := "100"
	for _, after := range []int{7, 1, 40} {
		ctx, cancel := context.WithCancel(t.Context())
		out := &interrupter{left: after, cancel: cancel}
		if err := run(ctx, []string{"--dir", dir, "--jobs", jobs}, out, io.Discard); err != nil {
			t.Fatal(err)
		}
		said := strings.Split(strings.TrimSuffix(out.out.String(), "\n"), "\n")
		if last := said[len(said)-1]; !strings.HasSuffix(last, "are left for the next run") {
			t.Errorf("interrupted after %d lines the program ends with %q", after, last)
		}
		lines = append(lines, said...)
		jobs = "0"
	}
	last := runProgram(t, "--dir", dir, "--jobs", jobs)
	lines = append(lines, last...)
	done, given := want(t, dir)
	gotDone, _ := with(lines, "done: ")
	if diff := cmp.Diff(done, gotDone); diff != "" {
		t.Errorf("jobs done (-want +got):\n%s", diff)
	}
	gotGiven, n := with(last, "given up: ")
	if diff := cmp.Diff(given, gotGiven); diff != "" || n != len(given) {
		t.Errorf("%d dead letters (-want +got):\n%s", n, diff)
	}
}
