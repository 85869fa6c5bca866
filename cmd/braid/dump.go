package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/braid-go/braid"
)

type dumpCmd struct {
	Topic     string   `arg:"" help:"Topic."`
	Partition []uint64 `help:"Only these partitions." placeholder:"ID"`
	Records   bool     `help:"Print the records of each frame too."`
	JSON      bool     `name:"json" help:"Print each frame as a line of JSON."`
}

// Help explains the output.
func (dumpCmd) Help() string {
	return `Examples:
  braid dump orders
  braid dump orders --partition 3 --records

A frame holds the records of one or several publishes. For each: its position in the file and its length in bytes, its
offsets, when it was appended, and how it is compressed. Where no frame could be read, the damaged range.`
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
	MaxTime     *time.Time         `json:"max_time,omitempty"`
	Problem     string             `json:"problem,omitempty"`
	Content     []*jsonRecord      `json:"content,omitempty"`
}

// Run shows the frames.
func (c *dumpCmd) Run(e *env) (err error) {
	b, err := e.openReadOnly()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	topic, err := b.Topic(c.Topic)
	if err != nil {
		return err
	}
	d := &dumper{cmd: c, out: e.stdout, records: frameReader{ctx: e.ctx, topic: topic}}
	defer d.records.stop()
	var opts braid.DumpOptions
	for _, id := range c.Partition {
		opts.Partitions = append(opts.Partitions, braid.PartitionID(id))
	}
	for f, err := range b.Dump(e.ctx, c.Topic, opts) {
		if err == nil {
			err = d.dump(f)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// dumper prints frames.
type dumper struct {
	cmd     *dumpCmd
	out     io.Writer
	file    string // whose frames are being printed
	records frameReader
}

func (d *dumper) dump(f *braid.FrameInfo) error {
	if d.cmd.JSON {
		return d.dumpJSON(f)
	}
	if f.File != d.file {
		d.file = f.File
		fmt.Fprintln(d.out, d.file)
	}
	if err := printFrame(d.out, f); err != nil || !d.cmd.Records || f.Problem != nil {
		return err
	}
	return d.records.of(f, func(rec *braid.Record) error {
		_, err := fmt.Fprintf(d.out, "%27d  %s  key %s  value %s  headers %d\n", rec.Offset, rec.Time.Format(time.RFC3339Nano),
			quoted(rec.Key), quoted(rec.Value), len(rec.Headers))
		return err
	})
}

func (d *dumper) dumpJSON(f *braid.FrameInfo) error {
	out := frame{Partition: f.Partition, File: f.File, Pos: f.Pos, Len: f.Len}
	if f.Problem != nil {
		out.Problem = plain(f.Problem)
	} else {
		out.Base, out.End, out.Records, out.RawBytes = &f.Base, &f.End, f.Records, f.RawBytes
		out.Compression, out.Appended, out.MaxTime = &f.Compression, &f.Appended, &f.MaxTime
		if d.cmd.Records {
			err := d.records.of(f, func(rec *braid.Record) error {
				out.Content = append(out.Content, toJSON(rec.Clone()))
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	enc := json.NewEncoder(d.out)
	enc.SetEscapeHTML(false)
	return enc.Encode(out)
}

func printFrame(w io.Writer, f *braid.FrameInfo) error {
	if f.Problem != nil {
		_, err := fmt.Fprintf(w, "  %12d %+10d  DAMAGED: %s\n", f.Pos, f.Len, plain(f.Problem))
		return err
	}
	packed := ""
	if f.Compression != braid.NoCompression {
		packed = fmt.Sprintf(", %s from %s", f.Compression, bytesOf(f.RawBytes))
	}
	_, err := fmt.Fprintf(w, "  %12d %+10d  offsets %d to %d, %s, %s%s\n", f.Pos, f.Len, f.Base, f.End-1,
		count(f.Records, "record"), f.Appended.Format(time.RFC3339Nano), packed)
	return err
}

// quoted prints the beginning of a key or value.
func quoted(b []byte) string {
	const most = 80
	switch {
	case b == nil:
		return "none"
	case len(b) > most:
		return fmt.Sprintf("%q... (%s)", b[:most], bytesOf(int64(len(b))))
	}
	return fmt.Sprintf("%q", b)
}

// frameReader reads the records of frames that come in the order of their offsets, with one reader for as long as
// they do.
type frameReader struct {
	ctx   context.Context
	topic *braid.Topic
	part  braid.PartitionID
	next  func() (*braid.Record, error, bool)
	end   func()
}

// of calls f with the frame's records. A record lives until f returns.
func (r *frameReader) of(frame *braid.FrameInfo, f func(*braid.Record) error) error {
	if r.next == nil || r.part != frame.Partition {
		r.start(frame)
	}
	for {
		rec, err, ok := r.next()
		switch {
		case err != nil:
			return err
		case !ok || rec.Offset < frame.Base || rec.Offset >= frame.End:
			return fmt.Errorf("records of the frame at offset %d have gone since it was found", frame.Base)
		}
		if err := f(rec); err != nil || rec.Offset == frame.End-1 {
			return err
		}
	}
}

func (r *frameReader) start(f *braid.FrameInfo) {
	r.stop()
	r.part = f.Partition
	r.next, r.end = iter.Pull2(r.topic.Read(r.ctx, braid.ReadOptions{
		From:       braid.FromOffsets(map[braid.PartitionID]int64{f.Partition: f.Base}),
		Partitions: []braid.PartitionID{f.Partition}, ReuseBuffers: true,
		OnGap: func(braid.Gap) bool { return true }, // the dump tells it
	}))
}

func (r *frameReader) stop() {
	if r.end != nil {
		r.end()
	}
	r.next, r.end = nil, nil
}
