package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
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
	livesOfADirectory = 16 // on average
	showEvery         = 10 * time.Second
	mostKept          = 10 // failures; then it ends
)

// run tells stories until it is over, and prints the table.
func (s *soak) run(ctx context.Context) error {
	s.begun, s.shown, s.next = time.Now(), time.Now(), s.seed
	fmt.Fprintf(s.out, "again: go run ./fuzz/soak -seed %d\n", s.seed)
	for n := 0; n < s.histories && s.tally["kills"] < s.kills && time.Since(s.begun) < s.length && len(s.failures) < mostKept && ctx.Err() == nil; n++ {
		if err := s.story(ctx); err != nil {
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

// story tells one story. Only what keeps the program itself from going on is an error.
func (s *soak) story(ctx context.Context) error {
	scratch, err := os.MkdirTemp("", "braid-soak-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	st := newStory(s.next, scratch, s.command, s.tally.add)
	s.next++
	begun := time.Now()
	failure := st.tell(ctx, 4+st.rng.IntN(2*livesOfADirectory-7))
	if failure == nil {
		failure = st.ruin(ctx, time.Now().Add(time.Since(begun)/4))
	}
	if failure == nil || ctx.Err() != nil {
		return nil
	}
	again := fmt.Sprintf("go run ./fuzz/soak -seed %d -histories 1", st.seed)
	s.failures = append(s.failures, again)
	kept, err := s.store(st, failure)
	fmt.Fprintf(s.out, "FAILED: %v\n  kept in %s\n  again: %s\n", failure, kept, again)
	return err
}

// store keeps what there is of a story that has gone wrong.
func (s *soak) store(st *story, failure error) (string, error) {
	if s.keep == "" {
		dir, err := os.MkdirTemp("", "braid-soak-failed-")
		if err != nil {
			return "", err
		}
		s.keep = dir
	}
	to := filepath.Join(s.keep, fmt.Sprint("seed-", st.seed))
	var events strings.Builder
	for _, e := range st.past.events {
		fmt.Fprintln(&events, e)
	}
	about, err := json.MarshalIndent(st.orders, "", "\t")
	data := os.CopyFS(filepath.Join(to, "data"), os.DirFS(st.dir))
	if errors.Is(data, fs.ErrNotExist) { // nobody has made it
		data = nil
	}
	return to, errors.Join(err, data, os.MkdirAll(to, 0o700),
		os.WriteFile(filepath.Join(to, "failure"), fmt.Appendf(nil, "%v\n%s\n", failure, about), 0o600),
		os.WriteFile(filepath.Join(to, "history"), []byte(events.String()), 0o600))
}

// tally counts what was done.
type tally map[string]int

func (t tally) add(what string, n int) { t[what] += n }

// line is a short form.
func (t tally) line(failures int) string {
	return fmt.Sprintf("%d kills, %d histories, %d operations, %d failures", t["kills"], t["histories"], t["operations"], failures)
}

// rows are what the table has first, in this order.
var rows = []string{"kills", "kills while opening", "kills while closing", "closed by the child", "given up for a fault", "looked at read-only", "recovered", "histories", "operations", "events",
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
