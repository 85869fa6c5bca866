package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/braid-go/braid"
)

type infoCmd struct {
	Topic string `arg:"" optional:"" help:"Only this topic."`
	JSON  bool   `name:"json" help:"Print JSON."`
}

// Help shows examples.
func (infoCmd) Help() string {
	return `Examples:
  braid info
  braid info orders --json

Only what opening looks at is looked at here; verify looks at everything.`
}

// info is what info --json prints.
type info struct {
	Dir        string      `json:"dir"`
	WriterLive bool        `json:"writer_live"`
	Topics     []topicInfo `json:"topics"`
}

type topicInfo struct {
	topicSummary
	Parts []partitionInfo `json:"partition_list"`
}

type partitionInfo struct {
	ID       braid.PartitionID `json:"id"`
	RangeLo  string            `json:"range_lo"`
	RangeHi  string            `json:"range_hi"`
	Start    int64             `json:"start"`
	End      int64             `json:"end"` // behind the last record
	Bytes    int64             `json:"bytes"`
	Segments int               `json:"segments"`
	State    string            `json:"state"` // "ok", "sealed" or "damaged"
	Problems []string          `json:"problems,omitempty"`
}

// Run describes the directory.
func (c *infoCmd) Run(e *env) (err error) {
	b, err := e.openReadOnly()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	topics := b.Topics()
	if c.Topic != "" {
		t, err := b.Topic(c.Topic)
		if err != nil {
			return err
		}
		topics = []*braid.Topic{t}
	}
	i := info{Dir: e.dir, WriterLive: b.OpenReport().WriterLive, Topics: []topicInfo{}}
	for _, t := range topics {
		i.Topics = append(i.Topics, describe(t, b.OpenReport()))
	}
	if c.JSON {
		return printJSON(e.stdout, i)
	}
	return i.print(e.stdout)
}

func describe(t *braid.Topic, report *braid.OpenReport) topicInfo {
	ti := topicInfo{topicSummary: summarise(t)}
	for _, p := range t.Partitions() {
		pi := partitionInfo{
			ID: p.ID, RangeLo: fmt.Sprintf("%016x", p.KeyRange.Lo), RangeHi: fmt.Sprintf("%016x", p.KeyRange.Hi),
			Start: p.Start, End: p.End, Bytes: p.Bytes, Segments: p.Segments, State: "ok",
		}
		if p.Sealed {
			pi.State = "sealed"
		}
		for _, problem := range openProblems(report, t.Name(), p.ID) {
			pi.State, pi.Problems = "damaged", append(pi.Problems, plain(problem))
		}
		ti.Parts = append(ti.Parts, pi)
	}
	return ti
}

// openProblems returns what opening has found damaged or missing in a partition.
func openProblems(report *braid.OpenReport, topic string, id braid.PartitionID) []error {
	for _, p := range report.Partitions {
		if p.Topic == topic && p.Partition == id {
			return p.Problems
		}
	}
	return nil
}

func (i *info) print(w io.Writer) error {
	writer := "nobody has it open for writing"
	if i.WriterLive {
		writer = "open for writing by another process: what that one has not proven durable yet is not shown"
	}
	fmt.Fprintf(w, "%s: %s; %s\n", i.Dir, count(len(i.Topics), "topic"), writer)
	for _, t := range i.Topics {
		fmt.Fprintf(w, "\n%s: %s, %s, compression %s, kept %s, created %s\n", t.Name, count(t.Records, "record"), bytesOf(t.Bytes),
			t.Config.Compression, retention(t.Config), t.Created.Local().Format(time.RFC3339))
		err := table(w, func(w io.Writer) {
			fmt.Fprintln(w, "  PARTITION\tKEY HASHES\tSTART\tEND\tRECORDS\tSIZE\tFILES\tSTATE")
			for _, p := range t.Parts {
				fmt.Fprintf(w, "  %d\t%s..%s\t%s\t%s\t%s\t%s\t%d\t%s\n", p.ID, p.RangeLo[:8], p.RangeHi[:8], thousands(p.Start), thousands(p.End),
					thousands(p.End-p.Start), bytesOf(p.Bytes), p.Segments, p.State)
			}
		})
		if err != nil {
			return err
		}
		for _, p := range t.Parts {
			for _, problem := range p.Problems {
				fmt.Fprintf(w, "  partition %d: %s\n", p.ID, problem)
			}
		}
	}
	return nil
}
