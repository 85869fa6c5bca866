package main

import (
	"encoding/json"
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
	End      int64             `json:"end"`
	Bytes    int64             `json:"bytes"`
	Segments int               `json:"segments"`
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
		ti := topicInfo{topicSummary: summarise(t)}
		for _, p := range t.Partitions() {
			ti.Parts = append(ti.Parts, partitionInfo{ID: p.ID, RangeLo: fmt.Sprintf("%016x", p.KeyRange.Lo),
				RangeHi: fmt.Sprintf("%016x", p.KeyRange.Hi), Start: p.Start, End: p.End, Bytes: p.Bytes, Segments: p.Segments})
		}
		i.Topics = append(i.Topics, ti)
	}
	if c.JSON {
		return printJSON(e.stdout, i)
	}
	if err := i.print(e.stdout); err != nil {
		return err
	}
	for _, p := range b.OpenReport().Partitions {
		for _, problem := range p.Problems {
			fmt.Fprintln(e.stdout, "problem:", problem)
		}
	}
	return nil
}

func (i *info) print(w io.Writer) error {
	writer := "nobody has it open for writing"
	if i.WriterLive {
		writer = "open for writing by another process: what it is writing at this moment is not shown"
	}
	fmt.Fprintf(w, "%s: %s; %s\n", i.Dir, count(len(i.Topics), "topic"), writer)
	for _, t := range i.Topics {
		fmt.Fprintf(w, "\n%s: %s, %s, compression %s, kept %s, created %s\n", t.Name, records(t.Records), bytesOf(t.Bytes),
			t.Config.Compression, retention(t.Config), t.Created.Local().Format(time.RFC3339))
		err := table(w, func(w io.Writer) {
			fmt.Fprintln(w, "  PARTITION\tKEY HASHES\tOFFSETS\tRECORDS\tSIZE\tFILES")
			for _, p := range t.Parts {
				fmt.Fprintf(w, "  %d\t%s..%s\t%d to %d\t%s\t%s\t%d\n", p.ID, p.RangeLo[:8], p.RangeHi[:8], p.Start, p.End,
					thousands(p.End-p.Start), bytesOf(p.Bytes), p.Segments)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

type verifyCmd struct {
	Topic []string `arg:"" optional:"" help:"Only these topics."`
	JSON  bool     `name:"json" help:"Print JSON."`
}

// Help says what the exit codes mean.
func (verifyCmd) Help() string {
	return `Reads every file, frame and record. The exit code says what was found:
  0  everything is as it was written
  1  looking was not possible
  2  something is damaged (perhaps something is missing too)
  3  something is missing, and nothing damaged`
}

// verified is what verify --json prints for a partition.
type verified struct {
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
func (c *verifyCmd) Run(e *env) (err error) {
	b, err := e.openReadOnly()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	var total int64
	for _, t := range b.Topics() {
		total += summarise(t).Bytes
	}
	bar := newBarOf(e, "verifying", total)
	report, err := b.Verify(e.ctx, braid.VerifyOptions{Topics: c.Topic, Progress: func(done, _ int64) { bar.set(done) }})
	bar.finish()
	if err != nil {
		return err
	}
	problems := report.Problems()
	if c.JSON {
		if err := printVerifiedJSON(e.stdout, report); err != nil {
			return err
		}
	} else {
		printVerified(e.stdout, report)
	}
	for _, p := range problems {
		if errors.Is(p, braid.ErrCorrupt) {
			return exitCode(exitCorrupt)
		}
	}
	if len(problems) > 0 {
		return exitCode(exitMissing)
	}
	return nil
}

func printVerifiedJSON(w io.Writer, report *braid.VerifyReport) error {
	out := []verified{}
	for _, p := range report.Partitions {
		v := verified{p.Topic, p.Partition, p.Segments, p.Frames, p.Records, p.Bytes, p.Start, p.End, []string{}}
		for _, problem := range p.Problems {
			v.Problems = append(v.Problems, problem.Error())
		}
		out = append(out, v)
	}
	return printJSON(w, out)
}

func printVerified(w io.Writer, report *braid.VerifyReport) {
	for _, p := range report.Partitions {
		fmt.Fprintf(w, "%s partition %d: %s in %s and %s, %s", p.Topic, p.Partition, records(p.Records),
			count(int(p.Frames), "frame"), count(p.Segments, "file"), bytesOf(p.Bytes))
		switch missing := p.End - p.Start - p.Records; {
		case p.End == p.Start:
		case missing == 0 && len(p.Problems) == 0:
			fmt.Fprintf(w, "; offsets %d to %d, each once, in order", p.Start, p.End-1)
		default:
			fmt.Fprintf(w, "; offsets %d to %d, in order, %s without a record", p.Start, p.End-1, thousands(missing))
		}
		fmt.Fprintln(w)
		for _, problem := range p.Problems {
			fmt.Fprintln(w, "  problem:", problem)
		}
	}
	switch problems := len(report.Problems()); problems {
	case 0:
		fmt.Fprintf(w, "sound: %s in %s\n", records(report.Records()), count(len(report.Partitions), "partition"))
	default:
		fmt.Fprintf(w, "%s found; %s are sound\n", count(problems, "problem"), records(report.Records()))
	}
}

type dumpCmd struct {
	Topic     string   `arg:"" help:"Topic."`
	Partition []uint64 `help:"Only these partitions."`
	JSON      bool     `name:"json" help:"Print each frame as a line of JSON."`
}

// frame is what dump --json prints.
type frame struct {
	Partition   braid.PartitionID  `json:"partition"`
	File        string             `json:"file"`
	Pos         int64              `json:"pos"`
	Len         int64              `json:"len"`
	Base        *int64             `json:"base,omitempty"`
	End         *int64             `json:"end,omitempty"`
	Records     int                `json:"records,omitempty"`
	RawBytes    int64              `json:"raw_bytes,omitempty"`
	Compression *braid.Compression `json:"compression,omitempty"`
	Appended    *time.Time         `json:"appended,omitempty"`
	Problem     string             `json:"problem,omitempty"`
}

// Run shows the frames.
func (c *dumpCmd) Run(e *env) (err error) {
	b, err := e.openReadOnly()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	var opts braid.DumpOptions
	for _, id := range c.Partition {
		opts.Partitions = append(opts.Partitions, braid.PartitionID(id))
	}
	enc := json.NewEncoder(e.stdout)
	file := ""
	for f, err := range b.Dump(e.ctx, c.Topic, opts) {
		if err != nil {
			return err
		}
		if c.JSON {
			err = enc.Encode(frameJSON(f))
		} else {
			if f.File != file {
				file = f.File
				fmt.Fprintf(e.stdout, "%s\n", file)
			}
			err = printFrame(e.stdout, f)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func frameJSON(f *braid.FrameInfo) frame {
	out := frame{Partition: f.Partition, File: f.File, Pos: f.Pos, Len: f.Len}
	if f.Problem != nil {
		out.Problem = f.Problem.Error()
		return out
	}
	out.Base, out.End, out.Records, out.RawBytes = &f.Base, &f.End, f.Records, f.RawBytes
	out.Compression, out.Appended = &f.Compression, &f.Appended
	return out
}

func printFrame(w io.Writer, f *braid.FrameInfo) error {
	if f.Problem != nil {
		_, err := fmt.Fprintf(w, "  %10d %+8d  DAMAGED: %v\n", f.Pos, f.Len, f.Problem)
		return err
	}
	packed := ""
	if f.Compression != braid.NoCompression {
		packed = fmt.Sprintf(", %s from %s", f.Compression, bytesOf(f.RawBytes))
	}
	_, err := fmt.Fprintf(w, "  %10d %+8d  offsets %d to %d, %s, %s%s\n", f.Pos, f.Len, f.Base, f.End-1,
		count(f.Records, "record"), f.Appended.Format(time.RFC3339Nano), packed)
	return err
}
