// Command wordcount counts the words of a text file, each of them exactly once, whatever happens to it on the way.
//
//	go run ./examples/wordcount [--dir DIR] [--top N] FILE
//
// It is two steps with a topic between them. The feeder publishes the file's lines; the counter adds up their words. Each
// works in transactions, and each transaction moves two things in one step:
//
//	feeder     lines in the topic           + the place in the file behind them
//	counter    the group's position         + the counts that include the lines before it
//
// So there is no moment at which a line is in the topic but the place is before it, or in the counts but still to be
// counted. Kill the program when you like and start it again: it goes on, and ends with the counts of a run that nothing
// has disturbed. A further run changes nothing; one after the file has grown counts what is new.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/braid-go/braid"
)

// The application's state. Sums that several transactions add to, as decimal text.
const (
	fedKey      = "lines/fed"     // lines published
	countedKey  = "lines/counted" // of them, those in the counts
	placePrefix = "place/"        // + path: the bytes of that file that have been published
	wordPrefix  = "word/"         // + word: how often it occurs
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(os.Stderr, "interrupted; the same command goes on from here")
		os.Exit(130)
	case err != nil:
		fmt.Fprintln(os.Stderr, "wordcount:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	flags := flag.NewFlagSet("wordcount", flag.ContinueOnError)
	flags.SetOutput(stderr)
	dir := flags.String("dir", "wordcount-data", "the data `directory`")
	top := flags.Int("top", 10, "print the `N` most frequent words")
	verbose := flags.Bool("v", false, "tell of every transaction")
	flags.Usage = func() {
		fmt.Fprintln(stderr, "usage: wordcount [--dir DIR] [--top N] [-v] FILE")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp // Parse has said why
	}
	if flags.NArg() != 1 {
		flags.Usage()
		return flag.ErrHelp
	}
	path, err := filepath.Abs(flags.Arg(0)) // the place in it must be found from any working directory
	if err != nil {
		return err
	}

	tell := &progress{w: stderr, always: *verbose}
	tell.step("opening %s", *dir)
	b, err := braid.Open(*dir, braid.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	// Without keys, lines go to the partitions in turn; one is enough, the counting is one transaction after another.
	lines, err := b.EnsureTopic(ctx, "lines", braid.TopicConfig{})
	if err != nil {
		return err
	}
	if err := feed(ctx, b, lines, path, tell); err != nil {
		return fmt.Errorf("feed %s: %w", path, err)
	}
	if err := count(ctx, b, lines, tell); err != nil {
		return fmt.Errorf("count: %w", err)
	}
	return printTop(ctx, b, *top, stdout)
}
