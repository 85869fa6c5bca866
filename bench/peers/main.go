// Command peers measures Braid beside other ways of storing a stream of records in a Go process, and beside the physical
// limit, in one run on one machine:
//
//	cd bench/peers && go run . [-quick] [-json | -markdown] [-into FILE] [-only W3,W5] [-rounds N] [-dir DIR] [-alone] [-profile DIR]
//
// The table says for each workload what Braid, each peer and the limit show, and the ratios, which are what carries over from
// one machine to another. Each peer is used in the way that its own documentation says is fast; the comment above its
// system says which, and where. All get the same bytes, and promise the same for them when they acknowledge.
//
// system.go has the roles that a system may have; braid.go, nats.go, pebble.go, bbolt.go and wal.go implement them;
// measure.go, transact.go, split.go and limit.go measure them, grown.go and child.go how Braid alone grows; workloads.go lists what is measured and the goals; run.go is the order of things. A new
// workload is an entry in workloads.go and, if need be, a role.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"

	"github.com/braid-go/braid/bench/peers/internal/page"
)

func main() {
	if dir := os.Getenv(childEnv); dir != "" {
		if err := child(dir, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "peers:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

var errFailures = errors.New("some measurements failed")

// run is main with its surroundings as arguments.
func run(ctx context.Context, args []string, stdout, stderr *os.File) error {
	flags := flag.NewFlagSet("peers", flag.ContinueOnError)
	flags.SetOutput(stderr)
	quick := flags.Bool("quick", false, "measure less, in under a minute")
	asJSON := flags.Bool("json", false, "print JSON instead of a table")
	asMarkdown := flags.Bool("markdown", false, "print Markdown instead of a table")
	into := flags.String("into", "", "a Markdown file whose table is replaced")
	only := flags.String("only", "", "workloads to measure, such as W3 or W1,W3-64 (default all)")
	rounds := flags.Int("rounds", 0, "rounds (default 5, with -quick 3)")
	alone := flags.Bool("alone", false, "measure Braid and the limits, and no peers")
	profiles := flags.String("profile", "", "an existing directory to which CPU profiles of Braid's part are written, W3-1.pprof and so on")
	dir := flags.String("dir", os.TempDir(), "where temporary directories are made; a disk, not memory")
	if err := flags.Parse(args); err != nil {
		return err
	}
	cfg := config{Rounds: 5, Scale: fullScale, Dir: *dir, Progress: progress(stderr)}
	if *quick {
		cfg.Rounds, cfg.Scale = 3, quickScale
	}
	if *rounds > 0 {
		cfg.Rounds = *rounds
	}
	var err error
	if cfg.Workloads, err = pick(workloads(cfg.Scale), *only); err != nil {
		return err
	}
	for i := range cfg.Workloads {
		cfg.Workloads[i].Alone = *alone
	}
	if *profiles != "" {
		profileBraid(cfg.Workloads, *profiles)
	}
	if flags.NArg() > 0 || *rounds < 0 || *asJSON && *asMarkdown {
		return fmt.Errorf("there is nothing to be done with %q and %d rounds", flags.Args(), *rounds)
	}
	if err := checkDir(cfg.Dir, stderr); err != nil {
		return err
	}
	rep, err := runAll(ctx, cfg)
	cfg.Progress("")
	if err != nil {
		return err
	}
	form := writeTable
	switch {
	case *asJSON:
		form = writeJSON
	case *asMarkdown:
		form = writeMarkdown
	}
	if err := form(stdout, rep); err != nil {
		return err
	}
	if *into != "" {
		var b bytes.Buffer
		if err := writeMarkdown(&b, rep); err != nil {
			return err
		}
		if err := page.Replace(*into, "table", b.Bytes()); err != nil {
			return err
		}
	}
	if len(rep.failures()) > 0 {
		return errFailures
	}
	return nil
}

func writeJSON(w io.Writer, rep *report) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(rep)
}

// progress returns a function that shows on a terminal what is being done, and nothing elsewhere.
func progress(f *os.File) func(string) {
	if !term.IsTerminal(int(f.Fd())) {
		return func(string) {}
	}
	return func(now string) { fmt.Fprintf(f, "\r\x1b[K%s", now) }
}
