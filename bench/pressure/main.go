// Command pressure shows what each backpressure strategy does when publishers outrun the disk: 8 of them publish at full speed, for a few seconds
// a strategy, to a topic on a disk that takes 20 MB/s and 5 ms for each sync. The disk is a file system that holds operations back; all
// else is Braid as it is. A publisher that is refused waits as long as the error tells it to.
//
//	go run ./bench/pressure [-for 3s] [-publishers 8] [-markdown]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/braid-go/braid/backpressure"
)

func main() {
	load := Load{Batch: 10, RecordBytes: 1 << 10, MaxRecords: 8192}
	flag.DurationVar(&load.For, "for", 3*time.Second, "how long each strategy is under load")
	flag.IntVar(&load.Publishers, "publishers", 8, "how many publish at once")
	flag.Int64Var(&load.Disk.BytesPerSecond, "disk", 20_000_000, "bytes a second that the disk writes")
	flag.DurationVar(&load.Disk.Sync, "sync", 5*time.Millisecond, "how long the disk syncs")
	markdown := flag.Bool("markdown", false, "print a table in Markdown")
	flag.Parse()
	if flag.NArg() > 0 || load.For <= 0 || load.Publishers < 1 || load.Disk.BytesPerSecond < 1 || load.Disk.Sync < 0 {
		flag.Usage()
		os.Exit(2)
	}
	results, err := all(context.Background(), load, func(name string) { fmt.Fprintf(os.Stderr, "%s ...\n", name) })
	if err == nil {
		err = print(os.Stdout, results, *markdown)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "pressure:", err)
		os.Exit(1)
	}
}

// all runs every strategy. DegradeQuality comes twice, with reduced acknowledgements too.
func all(ctx context.Context, load Load, begins func(name string)) ([]*Result, error) {
	var out []*Result
	for s := range backpressure.Adaptive + 1 {
		for _, reduce := range []bool{false, true} {
			if reduce && s != backpressure.DegradeQuality {
				continue
			}
			load.Policy = backpressure.Policy{Strategy: s, ReduceAck: reduce, MaxRecords: load.MaxRecords}
			name := s.String()
			if reduce {
				name += ", reduced ack"
			}
			begins(name)
			r, err := load.run(ctx)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			r.Name = name
			out = append(out, r)
		}
	}
	return out, nil
}

// print writes the table.
func print(w io.Writer, results []*Result, markdown bool) error {
	head := []string{"strategy", "offered/s", "stored/s", "dropped", "shed", "not enriched", "acked early", "call p50", "call p99", "ack p50", "ack p99", "queued", "heap"}
	rows := [][]string{head}
	for _, r := range results {
		rows = append(rows, r.cells())
	}
	if markdown {
		rows = slices.Insert(rows, 1, slices.Repeat([]string{"--:"}, len(head)))
		rows[1][0] = ":--"
		for _, row := range rows {
			if _, err := fmt.Fprintf(w, "| %s |\n", strings.Join(row, " | ")); err != nil {
				return err
			}
		}
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, row := range rows {
		fmt.Fprintln(t, strings.Join(row, "\t")+"\t")
	}
	return errors.Join(t.Flush())
}
