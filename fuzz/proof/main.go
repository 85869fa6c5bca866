// Command proof runs the tests that turn "it should survive" into figures, at the counts that Braid is to be seen to survive, and prints what they have counted. It fails if
// a test fails, or has counted less than is wanted.
//
//	go run ./fuzz/proof
//
// Nothing is counted here: the tests say, when they are over, how many cases they have been through, and those lines are added up. What else there is of figures, over hours instead
// of minutes, is command soak's.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

func main() {
	jobs := flag.Int("jobs", runtime.NumCPU(), "how many test programs run at once")
	flag.Parse()
	if flag.NArg() > 0 || *jobs < 1 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout, *jobs); err != nil {
		fmt.Fprintln(os.Stderr, "proof:", err)
		stop()
		os.Exit(1)
	}
}

// run runs all there is and prints the table.
func run(ctx context.Context, out io.Writer, jobs int) error {
	begun := time.Now()
	targets, err := fuzzTargets(ctx)
	if err != nil {
		return err
	}
	c := newCounts(targets)
	var mu sync.Mutex // guards c and failed
	var failed []error
	queue := make(chan test)
	var wg sync.WaitGroup
	for range jobs {
		wg.Go(func() {
			for t := range queue {
				start := time.Now()
				text, err := t.do(ctx)
				mu.Lock()
				if c.add(text); err != nil {
					failed = append(failed, fmt.Errorf("%s: %w\n%s", t, err, text))
				}
				fmt.Fprintf(os.Stderr, "%6v  %s\n", time.Since(start).Round(time.Second), t)
				mu.Unlock()
			}
		})
	}
	for _, t := range tests {
		queue <- t
	}
	close(queue)
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	table(out, c, time.Since(begun))
	return errors.Join(append(failed, c.missing())...)
}

// table prints what was counted.
func table(out io.Writer, c *counts, took time.Duration) {
	fmt.Fprintf(out, "%v on %s, %s, %s/%s, %d CPUs\n\n", took.Round(time.Second), time.Now().UTC().Format(time.DateOnly), runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "what\tcounted\twanted\t\n")
	for i, row := range c.rows {
		fmt.Fprintf(w, "%s\t%d\t%d\t\n", row.what, c.n[i], row.want)
	}
	w.Flush()
}

// test is one run of a package's tests.
type test struct {
	pkg, run string
	flags    []string // of the test program
}

func (t test) String() string {
	return strings.Join(append([]string{"go test -v -count=1 -run", "'" + t.run + "'", t.pkg}, t.flags...), " ")
}

// do runs it and returns what it prints.
func (t test) do(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", append([]string{"test", "-v", "-count=1", "-timeout=15m", "-run", t.run, t.pkg}, t.flags...)...).CombinedOutput()
	return string(out), err
}

// fuzzTargets counts the fuzz targets of this module.
func fuzzTargets(ctx context.Context) (int, error) {
	out, err := exec.CommandContext(ctx, "go", "test", "-list", "^Fuzz", "./...").Output()
	if err != nil {
		return 0, fmt.Errorf("list the fuzz targets: %w", err)
	}
	n := 0
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "Fuzz") {
			n++
		}
	}
	return n, nil
}
