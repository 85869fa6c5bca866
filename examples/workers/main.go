// Command workers is a pool of workers for jobs of which some fail, some fail at first, and some panic.
//
//	go run ./examples/workers [--dir DIR] [--jobs N]
//
// It queues N divisions, and works until each has a result or, after three attempts, is in the dead-letter topic with the reason.
// Interrupted or killed, it goes on with the next run: --jobs 0 queues nothing more.
//
// A job is done at least once: again if the program was killed between its end and the commit of the position, and if an earlier job of
// the same partition was not finished by then. Work that must not happen twice belongs into a transaction, or needs a key by which it is recognised; see wordcount
// and outbox.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/braid-go/braid"
)

const (
	deadTopic   = "jobs.dead"
	groupName   = "workers"
	maxAttempts = 3
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	context.AfterFunc(ctx, stop) // a second interrupt does not wait for running jobs
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "workers:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	flags := flag.NewFlagSet("workers", flag.ContinueOnError)
	flags.SetOutput(stderr)
	dir := flags.String("dir", "workers-data", "the data `directory`")
	n := flags.Int("jobs", 40, "queue `N` jobs more")
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp // Parse has said why
	}
	if flags.NArg() > 0 || *n < 0 {
		flags.Usage()
		return flag.ErrHelp
	}
	b, err := braid.Open(*dir, braid.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	jobs, err := b.EnsureTopic(ctx, "jobs", braid.TopicConfig{Partitions: 4})
	if err != nil {
		return err
	}
	if err := queue(ctx, jobs, *n); err != nil {
		return err
	}
	if err := work(ctx, jobs, stdout); err != nil {
		return err
	}
	return report(b, jobs, stdout)
}

// queue publishes n jobs. Those of one customer have one key, and are done one after the other.
func queue(ctx context.Context, jobs *braid.Topic, n int) error {
	recs := make([]*braid.Record, n)
	for i := range recs {
		job := fmt.Sprintf("%d/%d", 6*i, i%7) // some are divisions by zero
		if i%11 == 5 {
			job = "many/few" // and some are nonsense
		}
		recs[i] = &braid.Record{Key: fmt.Appendf(nil, "customer-%d", i%20), Value: []byte(job)}
	}
	return jobs.Publish(ctx, recs...)
}

// work does the jobs that are left, until all are finished or ctx ends.
func work(ctx context.Context, jobs *braid.Topic, out io.Writer) error {
	n, err := left(ctx, jobs)
	if err != nil || n == 0 {
		return err // Consume would wait for more
	}
	ctx, finish := context.WithCancel(ctx)
	defer finish()
	w := &workers{out: out, left: n, finish: finish, finished: map[string]bool{}, tried: map[string]bool{}}
	return jobs.Consume(ctx, groupName, braid.ConsumeOptions{
		Members:     2, // they divide the partitions among them,
		Concurrency: 4, // and each does so many jobs at a time
		MaxAttempts: maxAttempts,
		MinBackoff:  10 * time.Millisecond,
		DeadLetter:  deadTopic,
		OnError:     w.failed,
	}, w.do)
}

// left returns how many jobs the group has not committed.
func left(ctx context.Context, jobs *braid.Topic) (n int, err error) {
	sub, err := jobs.Subscribe(ctx, groupName, braid.SubscribeOptions{}) // the only member for a moment: it has all partitions
	if err != nil {
		return 0, err
	}
	defer sub.Close()
	lags, err := sub.Lag(ctx)
	for _, lag := range lags {
		n += int(lag.Records)
	}
	return n, err
}

// report prints the dead letters, and what an interrupted run has left.
func report(b *braid.Broker, jobs *braid.Topic, out io.Writer) error {
	ctx := context.Background() // also after an interrupt
	dead, err := b.Topic(deadTopic)
	if errors.Is(err, braid.ErrTopicNotFound) {
		return nil // nothing has been done yet
	}
	if err != nil {
		return err
	}
	for rec, err := range dead.Read(ctx, braid.ReadOptions{}) {
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "given up: %s/%s: %s, %s attempts, the last: %s\n", header(rec, braid.HeaderDeadPartition), header(rec, braid.HeaderDeadOffset),
			rec.Value, header(rec, braid.HeaderDeadAttempts), header(rec, braid.HeaderDeadError))
	}
	n, err := left(ctx, jobs)
	if n > 0 {
		fmt.Fprintf(out, "%d jobs are left for the next run\n", n)
	}
	return err
}

// header returns the last header of a name: a job that has had such a header of its own has it before Braid's.
func header(rec *braid.Record, name string) (value []byte) {
	for _, h := range rec.Headers {
		if h.Key == name {
			value = h.Value
		}
	}
	return value
}
