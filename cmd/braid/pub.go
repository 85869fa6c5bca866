package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/braid-go/braid"
)

type pubCmd struct {
	Topic       string            `arg:"" help:"Topic; it is created if there is none."`
	Partitions  int               `help:"Partitions of a new topic." default:"1"`
	Compression braid.Compression `help:"Compression of a new topic: none, s2 or zstd." default:"none"`
	Durability  braid.Durability  `help:"fsync, interval or os." default:"fsync"`
	NDJSON      bool              `name:"ndjson" help:"A JSON object a line: key, value, headers, time; or key_base64, value_base64."`
	KeySep      string            `help:"What separates the key from the value on a line; lines without it have no key." placeholder:"SEP"`
	Acks        bool              `help:"Print the number of records stored so far whenever it grows."`
}

// Help shows examples.
func (pubCmd) Help() string {
	return `Examples:
  seq 1 1000000 | braid pub numbers
  braid pub orders --partitions 4 --ndjson < orders.ndjson
  printf 'alice:1\nbob:2\n' | braid pub visits --key-sep :

A line ends with a newline, which is not part of the value; so does the last one, if it has one. Records are
published in calls of many; each call returns when its records are as safe as --durability says. At a line that
cannot be used publishing stops; what was before it is stored.`
}

const (
	pubBatchRecords = 4096
	pubBatchBytes   = 512 << 10
)

// Run publishes standard input.
func (c *pubCmd) Run(e *env) (err error) {
	b, err := e.open(braid.Options{Durability: c.Durability})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	topic, err := b.EnsureTopic(e.ctx, c.Topic, braid.TopicConfig{Partitions: c.Partitions, Compression: c.Compression})
	if err != nil {
		return err
	}
	p := &publisher{cmd: c, env: e, topic: topic, limit: b.Limits().MaxRecordBytes, bar: newBar(e, "publishing")}
	begin := time.Now()
	err = p.run()
	p.bar.finish()
	if err == nil || p.stored > 0 {
		fmt.Fprintf(e.stderr, "published %s records to %s (%s) in %s\n", thousands(p.stored), c.Topic,
			count(len(topic.Partitions()), "partition"), short(time.Since(begin)))
	}
	return err
}

// publisher reads one batch while the one before is being stored.
type publisher struct {
	cmd    *pubCmd
	env    *env
	topic  *braid.Topic
	limit  int
	bar    *bar
	stored int64
}

// batch is some records and the memory that they share.
type batch struct {
	recs  []*braid.Record
	bytes int64 // of input
}

// run publishes until the input ends, fails, or the command is interrupted. What was read before is stored. The
// goroutine that reads may outlive an interrupted command by the line that it waits for.
func (p *publisher) run() error {
	batches := make(chan *batch)
	stop := make(chan struct{})
	defer close(stop)
	readErr := make(chan error, 1)
	go func() {
		defer close(batches)
		readErr <- p.read(batches, stop)
	}()
	for {
		select {
		case <-p.env.ctx.Done():
			return exitCode(exitInterrupted)
		case b, more := <-batches:
			if !more {
				return <-readErr
			}
			if err := p.publish(b); err != nil {
				return err
			}
		}
	}
}

func (p *publisher) publish(b *batch) error {
	// The context is not the command's: what has been read is stored even when it is interrupted.
	if err := p.topic.Publish(context.Background(), b.recs...); err != nil {
		return err
	}
	p.stored += int64(len(b.recs))
	p.bar.add(b.bytes)
	if p.cmd.Acks {
		_, err := fmt.Fprintln(p.env.stdout, p.stored)
		return err
	}
	return nil
}

// read cuts the input into batches.
func (p *publisher) read(out chan<- *batch, stop <-chan struct{}) error {
	lines := bufio.NewReaderSize(p.env.stdin, 1<<20)
	b := &batch{}
	send := func() bool {
		if len(b.recs) == 0 {
			return true
		}
		select {
		case out <- b:
			b = &batch{}
			return true
		case <-stop:
			return false
		}
	}
	for n := 1; ; n++ {
		line, err := readLine(lines, 2*p.limit+1024)
		if err == nil {
			var rec *braid.Record
			if rec, err = p.cmd.parse(line); err == nil {
				b.recs = append(b.recs, rec)
				b.bytes += int64(len(line)) + 1
			}
		}
		if err != nil {
			if !send() || err == io.EOF {
				return nil
			}
			return fmt.Errorf("line %d: %w", n, err)
		}
		full := len(b.recs) >= pubBatchRecords || b.bytes >= pubBatchBytes || lines.Buffered() == 0
		if full && !send() {
			return nil
		}
	}
}

var errLongLine = errors.New("the line is too long")

// readLine returns the next line, in memory of its own, without its newline.
func readLine(r *bufio.Reader, limit int) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > limit {
			return nil, errLongLine
		}
		line = append(line, part...)
		switch {
		case err == nil:
			return line[:len(line)-1], nil
		case errors.Is(err, bufio.ErrBufferFull):
		case err == io.EOF && len(line) > 0:
			return line, nil
		default:
			return nil, err
		}
	}
}

// parse makes a record of a line.
func (c *pubCmd) parse(line []byte) (*braid.Record, error) {
	if c.NDJSON {
		return parseJSON(line)
	}
	rec := &braid.Record{Value: line}
	if line == nil {
		rec.Value = []byte{}
	}
	if c.KeySep != "" {
		if key, value, ok := bytes.Cut(line, []byte(c.KeySep)); ok {
			rec.Key, rec.Value = key, value
		}
	}
	return rec, nil
}

// bar is a progress bar, where there is a terminal to show it on.
type bar struct{ *progressbar.ProgressBar }

// newBar makes a bar over the bytes of standard input, if it is a file, or without an end.
func newBar(e *env, what string) *bar {
	size := int64(-1)
	if f, ok := e.stdin.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			size = info.Size()
		}
	}
	return newBarOf(e, what, size)
}

func newBarOf(e *env, what string, size int64) *bar {
	f, ok := e.stderr.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return &bar{}
	}
	return &bar{progressbar.NewOptions64(size, progressbar.OptionSetWriter(f), progressbar.OptionSetDescription(what),
		progressbar.OptionShowBytes(true), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())}
}

func (b *bar) add(n int64) {
	if b.ProgressBar != nil {
		_ = b.Add64(n)
	}
}

func (b *bar) set(n int64) {
	if b.ProgressBar != nil {
		_ = b.Set64(n)
	}
}

func (b *bar) finish() {
	if b.ProgressBar != nil {
		_ = b.Finish()
	}
}
