// Command guard notices when Braid has become much slower, or larger:
//
//	go run ./bench/guard
//
// Each check is a ratio of two things that are measured in turn, in one process, within a few seconds: Braid, and the least that the machine could do for the
// same. No time is compared with a time of another run or another machine, so that the bounds hold on fast machines and slow ones, and on busy
// ones. They leave room for what else a machine is doing: a check fails when its ratio is beyond its bound three times. What becomes two to three times
// as slow is noticed; what becomes a little slower is not, and is for the benchmarks. The size of a program that imports Braid does not waver, and its bound
// is close: what adds a twentieth is noticed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"
)

func main() {
	dir := flag.String("dir", os.TempDir(), "where temporary directories are made; a disk, not memory")
	flag.Parse()
	if err := run(context.Background(), *dir, checks, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "guard:", err)
		os.Exit(1)
	}
}

// check is a ratio with a bound.
type check struct {
	name string
	of   string // what the ratio is of
	most float64
	// measure returns the ratio. dir is empty.
	measure func(ctx context.Context, dir string) (float64, error)
}

// attempts is how often a check may be beyond its bound before it has failed.
const attempts = 3

var errWorse = errors.New("worse than it was")

// run carries out the checks and says what came of them.
func run(ctx context.Context, parent string, all []check, out io.Writer) (err error) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	defer func() { err = errors.Join(err, w.Flush()) }()
	for _, c := range all {
		start := time.Now()
		ratio, slow := 0.0, error(nil)
		for try := range attempts {
			now, err := c.once(ctx, parent)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			if try == 0 || now < ratio {
				ratio = now
			}
			if slow = nil; ratio <= c.most {
				break
			}
			slow = fmt.Errorf("%w: %s: %.3g %s, three times beyond %.3g", errWorse, c.name, ratio, c.of, c.most)
		}
		verdict := "ok"
		if slow != nil {
			verdict, err = "WORSE", errors.Join(err, slow)
		}
		fmt.Fprintf(w, "%s\t%s\t%.3g\t%s\tat most %.3g\t%v\n", verdict, c.name, ratio, c.of, c.most, time.Since(start).Round(10*time.Millisecond))
	}
	return err
}

func (c check) once(ctx context.Context, parent string) (_ float64, err error) {
	dir, err := os.MkdirTemp(parent, "braid-guard-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	return c.measure(ctx, dir)
}
