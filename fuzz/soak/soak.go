package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/braid-go/braid"
)

// soak is one run of the program.
type soak struct {
	length           time.Duration
	kills, histories int
	seed             uint64
	keep             string
	out              io.Writer
	command          func() *exec.Cmd

	tally    tally
	next     uint64   // seed
	failures []string // commands that repeat them
	begun    time.Time
	shown    time.Time
}

const (
	livesOfADirectory   = 16 // on average
	outagesOfADirectory = 20
	showEvery           = 10 * time.Second
	mostKept            = 10 // failures; then it ends
)

// run tells stories until it is over, and prints the table.
func (s *soak) run(ctx context.Context) error {
	s.begun, s.shown, s.next = time.Now(), time.Now(), s.seed
	fmt.Fprintf(s.out, "again: go run ./fuzz/soak -seed %d\n", s.seed)
	for n := 0; n < s.histories && s.tally["kills"] < s.kills && time.Since(s.begun) < s.length && len(s.failures) < mostKept && ctx.Err() == nil; n++ {
		if err := s.round(ctx); err != nil {
			return err
		}
		if time.Since(s.shown) > showEvery {
			s.shown = time.Now()
			fmt.Fprintf(s.out, "%8v  %s\n", time.Since(s.begun).Round(time.Second), s.tally.line(len(s.failures)))
		}
	}
	s.table()
	if len(s.failures) > 0 {
		return fmt.Errorf("%d failures", len(s.failures))
	}
	return nil
}

// round tells one story, damages what it has left, and has the power fail in another. Only what keeps the program itself from going on is an error.
func (s *soak) round(ctx context.Context) error {
	scratch, err := os.MkdirTemp("", "braid-soak-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	seed := s.next
	s.next++
	st := newStory(seed, scratch, s.command, s.tally.add)
	begun := time.Now()
	failure := st.tell(ctx, 4+st.rng.IntN(2*livesOfADirectory-7))
	if failure == nil {
		failure = st.ruin(ctx, time.Now().Add(time.Since(begun)/4))
	}
	if failure != nil && ctx.Err() == nil {
		return s.failed(seed, failure, st.store)
	}
	if s.tally["kills"] >= s.kills || ctx.Err() != nil {
		return nil
	}
	o := st.orders
	o.Seed, o.Keep, o.Outages = seed, filepath.Join(scratch, "outages"), outagesOfADirectory
	if err := os.Mkdir(o.Keep, 0o700); err != nil {
		return err
	}
	if failure := s.outages(o); failure != nil {
		return s.failed(seed, failure, func(to string) error { return os.CopyFS(to, os.DirFS(o.Keep)) })
	}
	return nil
}

// outages has a child live of which the power fails.
func (s *soak) outages(o orders) error {
	scratch, err := os.MkdirTemp("/dev/shm", "braid-soak-") // its partitions are in memory; so is the rest, where the system has that
	if err != nil {
		scratch = filepath.Dir(o.Keep)
	} else {
		defer os.RemoveAll(scratch)
	}
	o.Dir, o.Durability = filepath.Join(scratch, "powered"), braid.Fsync // the others promise nothing here
	l := &life{orders: o}
	_, err = l.live(s.command)
	for _, n := range l.notes {
		if n.What == noteCount {
			s.tally.add(n.Topic, 1)
		}
	}
	return err
}

// failed keeps what there is of what has gone wrong, and says how to repeat it.
func (s *soak) failed(seed uint64, failure error, store func(dir string) error) error {
	if s.keep == "" {
		dir, err := os.MkdirTemp("", "braid-soak-failed-")
		if err != nil {
			return err
		}
		s.keep = dir
	}
	to := filepath.Join(s.keep, fmt.Sprint("seed-", seed))
	again := fmt.Sprintf("go run ./fuzz/soak -seed %d -histories 1", seed)
	s.failures = append(s.failures, again)
	fmt.Fprintf(s.out, "FAILED: %v\n  kept in %s\n  again: %s\n", failure, to, again)
	return errors.Join(os.MkdirAll(to, 0o700), store(to), os.WriteFile(filepath.Join(to, "failure"), fmt.Appendf(nil, "%v\n", failure), 0o600))
}

// tally counts what was done.
type tally map[string]int

func (t tally) add(what string, n int) { t[what] += n }

// line is a short form.
func (t tally) line(failures int) string {
	return fmt.Sprintf("%d kills, %d power cuts, %d histories, %d operations, %d failures", t["kills"], t["power cuts"], t["histories"], t["operations"], failures)
}

// rows are what the table has first, in this order.
var rows = []string{"kills", "kills while opening", "kills while closing", "closed by the child", "given up for a fault", "looked at read-only", "recovered", "histories", "operations", "events",
	"power cuts", "power cuts while opening", "power cuts, the commit log torn", "deaths between power cuts",
	"bits flipped", "torn cases", "files gone or mixed up", "damaged in several places", "damaged directories opened for writing"}

// table prints everything.
func (s *soak) table() {
	fmt.Fprintf(s.out, "\n%v on %s, %s, %s/%s, %d CPUs, seeds %d to %d\n\n", time.Since(s.begun).Round(time.Second), time.Now().UTC().Format(time.DateOnly),
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), s.seed, s.next-1)
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	rest := maps.Clone(s.tally)
	row := func(what string) {
		if n, counted := rest[what]; counted {
			fmt.Fprintf(w, "%s\t%d\t\n", what, n)
			delete(rest, what)
		}
	}
	for _, what := range slices.Concat(rows, slices.Sorted(maps.Keys(rest))) {
		row(what)
	}
	fmt.Fprintf(w, "failures\t%d\t\n", len(s.failures))
	w.Flush()
	for _, again := range s.failures {
		fmt.Fprintf(s.out, "again: %s\n", again)
	}
}
