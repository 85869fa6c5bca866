// Command mutants disables one safeguard of Braid at a time and shows that the tests notice, and which of them.
//
//	go run ./fuzz/mutants            all of them, some minutes
//	go run ./fuzz/mutants -short     a choice that takes less than a minute
//	go run ./fuzz/mutants -list      what there is, why, and who should notice
//	go run ./fuzz/mutants -v -run NAME
//
// A test suite that passes says little as long as nobody knows what it would take for it to fail. So each mutant is the product with one
// thing taken out that a promise rests on: a sync, a checksum, an expectation. The tests that should notice are compiled against it and run. A
// mutant that none of them notices SURVIVES, and the command fails: then a test is missing.
//
// The product carries no mutants, and the working tree is not touched: the changed file is written among the system's temporary files, and the go command
// is told to take it in place of the other (-overlay). What counts as noticed is a test that fails, or crashes, or does not end within its time, which the
// table says. So that this means something, the same tests are run without the mutant first, and must pass; and a mutant that does not compile
// is an error, not a success.
//
// # Adding a mutant
//
// Add an entry to one of the tables, those of package log's safeguards being in table_log.go and so on: a name, why the safeguard is there, the file, a
// piece of it that occurs there exactly once, and what is to stand in its place; and the tests that should notice, as few and as fast as
// will do. The tests of this package say at once if an entry no longer fits the file because that has changed: change the entry then. Run it with -run NAME -v. If it
// survives, write the test that it lacks beside the package that it is about, in whose terms the safeguard can be described.
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
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"text/tabwriter"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "mutants:", err)
		}
		stop()
		os.Exit(1)
	}
}

// run is the program.
func run(ctx context.Context, args []string, out, progress io.Writer) error {
	var short, list, verbose bool
	var name string
	parallel := 2
	flags := flag.NewFlagSet("mutants", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.BoolVar(&short, "short", false, "only those that are marked as short")
	flags.BoolVar(&list, "list", false, "list the mutants, and run nothing")
	flags.BoolVar(&verbose, "v", false, "print the change and what the tests print, too")
	flags.StringVar(&name, "run", "", "only those whose names match this regular expression")
	flags.IntVar(&parallel, "parallel", parallel, "how many are worked on at the same time")
	if err := flags.Parse(args); err != nil {
		return err
	}
	pattern, err := regexp.Compile(name)
	switch {
	case flags.NArg() > 0:
		return fmt.Errorf("what is %q?", flags.Args())
	case err != nil:
		return fmt.Errorf("-run: %w", err)
	case parallel < 1:
		return fmt.Errorf("-parallel %d", parallel)
	}
	var chosen []mutant
	for _, m := range all() {
		if pattern.MatchString(m.name) && (m.short || !short) {
			chosen = append(chosen, m)
		}
	}
	if len(chosen) == 0 {
		return errors.New("no mutant is called so")
	}
	if list {
		return printList(out, chosen)
	}
	root, err := moduleRoot(ctx)
	if err != nil {
		return err
	}
	r := &runner{root: root, parallel: parallel, progress: progress, verbose: verbose}
	results, err := r.run(ctx, chosen)
	if len(results) > 0 { // also after an interrupt
		err = errors.Join(err, printTable(out, results))
	}
	if err != nil {
		return err
	}
	return verdict(results)
}

// moduleRoot is the directory of the module that the command was begun in.
func moduleRoot(ctx context.Context) (string, error) {
	b, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	file := strings.TrimSpace(string(b))
	if err != nil || filepath.Base(file) != "go.mod" {
		return "", fmt.Errorf("where is go.mod? %q %w", file, err)
	}
	return filepath.Dir(file), nil
}

// verdict is an error if any of the mutants was not noticed, or could not be tried.
func verdict(results []result) error {
	var errs []error
	survivors := 0
	for _, r := range results {
		if r.err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", r.mutant.name, r.err))
		} else if !r.caught() {
			survivors++
		}
	}
	if survivors > 0 {
		errs = append(errs, fmt.Errorf("%d of %d mutants survive: tests are missing", survivors, len(results)))
	}
	return errors.Join(errs...)
}

// printTable prints what has become of each mutant.
func printTable(w io.Writer, results []result) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "mutant\t\tby\tseconds")
	for _, r := range results {
		by := "-"
		if r.caught() {
			by = r.by.dir + ": " + strings.Join(r.failed, ", ")
		}
		if r.note != "" {
			by += " (" + r.note + ")"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%.1f\n", r.mutant.name, r.word(), by, r.took.Seconds())
	}
	return t.Flush()
}

// printList prints what there is.
func printList(w io.Writer, mutants []mutant) error {
	for _, m := range mutants {
		mark := ""
		if m.short {
			mark = " (short)"
		}
		fmt.Fprintf(w, "%s%s\n    %s\n    %s\n", m.name, mark, m.why, m.file)
		for _, by := range m.noticed {
			fmt.Fprintf(w, "    %s: %s\n", by.dir, strings.Join(by.names, ", "))
		}
	}
	return nil
}
