// Command outbox stands between two systems that know nothing of Braid: it imports the change log of one, and tells the other of
// every change.
//
//	go run ./examples/outbox [--dir DIR] [--to URL] [-v] FILE
//
// The two directions need two different techniques, because a transaction ends at the edge of the data directory:
//
//   - In: the source numbers its changes. The number of the last one imported is put in the same transaction as
//     the records, so after a kill Broker.Get says exactly where to go on. Nothing is imported twice, nothing is left out.
//   - Out: a call to another system cannot be part of a transaction. It is made first and the position committed afterwards, so after a
//     kill some calls are made again. Each carries a key made of the record's topic, partition and offset, which
//     never change, and by which the receiver recognises what it has had.
//
// FILE has a line of JSON for each change, as changes.jsonl has, and may be appended to. Each run imports and sends what is new.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/braid-go/braid"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "outbox:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	flags := flag.NewFlagSet("outbox", flag.ContinueOnError)
	flags.SetOutput(stderr)
	dir := flags.String("dir", "outbox-data", "the data `directory`")
	to := flags.String("to", "", "post the changes to this `URL`; they are printed without it")
	verbose := flags.Bool("v", false, "tell of every step")
	flags.Usage = func() {
		fmt.Fprintln(stderr, "usage: outbox [--dir DIR] [--to URL] [-v] FILE")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp // Parse has said why
	}
	if flags.NArg() != 1 {
		flags.Usage()
		return flag.ErrHelp
	}
	tell := func(format string, args ...any) {
		if *verbose {
			fmt.Fprintf(stderr, format+"\n", args...)
		}
	}
	var out receiver = printer{stdout}
	if *to != "" {
		out = &gateway{url: *to, client: &http.Client{Timeout: 30 * time.Second}}
	}

	b, err := braid.Open(*dir, braid.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	// Changes of one account have one key, so they stay in order.
	changes, err := b.EnsureTopic(ctx, "changes", braid.TopicConfig{Partitions: 4})
	if err != nil {
		return err
	}
	if err := importChanges(ctx, b, changes, flags.Arg(0), tell); err != nil {
		return fmt.Errorf("import %s: %w", flags.Arg(0), err)
	}
	return send(ctx, changes, out, tell)
}
