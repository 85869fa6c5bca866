package main

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/braid-go/braid"
)

type verifyCmd struct {
	Topic []string `arg:"" optional:"" help:"Only these topics."`
	JSON  bool     `name:"json" help:"Print JSON."`
}

// Help says what the exit codes mean.
func (verifyCmd) Help() string {
	return `Examples:
  braid verify
  braid verify orders payments --json

Reads every file, frame and record. Nothing is written, and another process may have the directory open. The exit
code says what was found:
  0  everything is as it was written
  1  looking was not possible
  2  something is damaged (perhaps something is missing too)
  3  something is missing, and nothing damaged`
}

// verified is what verify --json prints.
type verified struct {
	Sound      bool                `json:"sound"`
	Records    int64               `json:"records"`
	Partitions []verifiedPartition `json:"partitions"`
}

type verifiedPartition struct {
	Topic     string            `json:"topic"`
	Partition braid.PartitionID `json:"partition"`
	Files     int               `json:"files"`
	Frames    int64             `json:"frames"`
	Records   int64             `json:"records"`
	Bytes     int64             `json:"bytes"`
	Start     int64             `json:"start"`
	End       int64             `json:"end"`
	Problems  []string          `json:"problems"`
}

// Run checks everything.
func (c *verifyCmd) Run(e *env) error {
	b, err := e.openReadOnly()
	if err != nil {
		return unopened(e, err)
	}
	bar := newBar(e, "verifying", 0)
	report, err := b.Verify(e.ctx, braid.VerifyOptions{Topics: c.Topic, Progress: bar.set})
	bar.finish()
	if err != nil {
		return errors.Join(err, b.Close())
	}
	addOpenProblems(report, b.OpenReport())
	if c.JSON {
		err = printJSON(e.stdout, newVerified(report))
	} else {
		printVerified(e.stdout, report)
	}
	if err := errors.Join(err, b.Close()); err != nil {
		return err
	}
	return verdict(report.Problems())
}

// unopened gives damage that keeps the directory from being opened its exit code.
func unopened(e *env, err error) error {
	code := verdict([]error{err})
	if !errors.Is(err, braid.ErrCorrupt) && !errors.Is(err, braid.ErrMissingData) {
		return err
	}
	fmt.Fprintln(e.stdout, "problem:", plain(err))
	fmt.Fprintln(e.stdout, "this keeps the directory from being opened; nothing else was looked at")
	return code
}

// verdict is the exit code for problems, nil for none.
func verdict(problems []error) error {
	switch {
	case len(problems) == 0:
		return nil
	case slices.ContainsFunc(problems, func(err error) bool { return !errors.Is(err, braid.ErrMissingData) }):
		return exitCode(exitCorrupt)
	}
	return exitCode(exitMissing)
}

// addOpenProblems adds what only opening has found, such as a damaged list of files. Where verifying has found
// something itself, opening has met the same.
func addOpenProblems(report *braid.VerifyReport, opened *braid.OpenReport) {
	for i := range report.Partitions {
		p := &report.Partitions[i]
		if len(p.Problems) == 0 {
			p.Problems = slices.Clone(openProblems(opened, p.Topic, p.Partition))
		}
	}
}

func newVerified(report *braid.VerifyReport) verified {
	out := verified{Sound: len(report.Problems()) == 0, Records: report.Records(), Partitions: []verifiedPartition{}}
	for _, p := range report.Partitions {
		v := verifiedPartition{p.Topic, p.Partition, p.Segments, p.Frames, p.Records, p.Bytes, p.Start, p.End, []string{}}
		for _, problem := range p.Problems {
			v.Problems = append(v.Problems, plain(problem))
		}
		out.Partitions = append(out.Partitions, v)
	}
	return out
}

// printVerified prints a line for each topic and each partition, or one line for both where there is one partition.
func printVerified(w io.Writer, report *braid.VerifyReport) {
	rest := report.Partitions
	for len(rest) > 0 {
		n := slices.IndexFunc(rest, func(p braid.PartitionVerify) bool { return p.Topic != rest[0].Topic })
		if n < 0 {
			n = len(rest)
		}
		printVerifiedTopic(w, rest[:n])
		rest = rest[n:]
	}
	what := fmt.Sprintf("%s in %s", count(report.Records(), "record"), count(len(report.Partitions), "partition"))
	if problems := len(report.Problems()); problems > 0 {
		fmt.Fprintf(w, "%s found; %s are sound\n", count(problems, "problem"), what)
		return
	}
	fmt.Fprintf(w, "sound: %s\n", what)
}

func printVerifiedTopic(w io.Writer, parts []braid.PartitionVerify) {
	if len(parts) == 1 {
		p := parts[0]
		fmt.Fprintf(w, "%s: 1 partition, %s, %s\n", p.Topic, count(p.Records, "record"), offsetsOf(p))
	} else {
		records := int64(0)
		for _, p := range parts {
			records += p.Records
		}
		fmt.Fprintf(w, "%s: %s, %s\n", parts[0].Topic, count(len(parts), "partition"), count(records, "record"))
	}
	for _, p := range parts {
		if len(parts) > 1 {
			fmt.Fprintf(w, "  partition %d: %s, %s\n", p.Partition, count(p.Records, "record"), offsetsOf(p))
		}
		for _, problem := range p.Problems {
			fmt.Fprintln(w, "  problem:", plain(problem))
		}
	}
}

// offsetsOf says which offsets a partition holds and how they lie on disk.
func offsetsOf(p braid.PartitionVerify) string {
	disk := fmt.Sprintf("%s in %s, %s", count(p.Frames, "frame"), count(p.Segments, "file"), bytesOf(p.Bytes))
	if p.Start == p.End {
		return "empty (" + disk + ")"
	}
	offsets := fmt.Sprintf("offsets %s to %s", thousands(p.Start), thousands(p.End-1))
	if without := p.End - p.Start - p.Records; without != 0 {
		return fmt.Sprintf("%s, %s of them without a record (%s)", offsets, thousands(without), disk)
	}
	return fmt.Sprintf("%s, each once, in order (%s)", offsets, disk)
}
