package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/braid-go/braid"
)

type pubCmd struct {
	Topic       string            `arg:"" help:"Topic; it is created if there is none."`
	Partitions  int               `help:"Partitions of a new topic." default:"1"`
	Compression braid.Compression `help:"Compression of a new topic: none, s2 or zstd." default:"none"`
	Durability  braid.Durability  `help:"fsync, interval or os." default:"fsync"`
	NDJSON      bool              `name:"ndjson" xor:"shape" help:"Read a JSON object a line."`
	KeySep      string            `xor:"shape" help:"What separates the key from the value on a line; lines without it have no key." placeholder:"SEP"`
	Acks        bool              `help:"Print the number of records stored so far whenever it grows."`
}

// Help shows examples.
func (pubCmd) Help() string {
	return `Examples:
  seq 1 1000000 | braid pub numbers
  braid pub orders --partitions 4 --ndjson < orders.ndjson
  printf 'alice:1\nbob:2\n' | braid pub visits --key-sep :

A line ends with a newline, which is not part of the value; the last one may do without. With --ndjson a line is
  {"key": "k", "value": "v", "headers": {"a": "1"}, "time": "2026-01-31T12:00:00Z"}
where only the value is needed; key_base64 and value_base64 carry bytes that are not text, headers may be pairs
[["a", "1"]], and what else tail --json prints is ignored.

Records are published in calls of many, and at once when the input pauses; each call returns when its records are
as safe as --durability says. At a line that cannot be used publishing stops; what was before it is stored. An interrupt
ends the reading; the whole lines read until then are stored.`
}

// Run publishes standard input.
func (c *pubCmd) Run(e *env) (err error) {
	b, err := e.openWritable(braid.Options{Durability: c.Durability})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	topic, err := b.EnsureTopic(e.ctx, c.Topic, braid.TopicConfig{Partitions: c.Partitions, Compression: c.Compression})
	if err != nil {
		return err
	}
	p := &publisher{
		cmd: c, env: e, topic: topic, limit: b.Limits().MaxRecordBytes, bar: newBar(e, "publishing", inputBytes(e)),
		full: make(chan *batch), free: make(chan *batch, 2), sep: []byte(unescape(c.KeySep)),
	}
	begin := time.Now()
	err = p.run()
	p.bar.finish()
	if err == nil || p.stored > 0 || errors.Is(err, exitCode(exitInterrupted)) {
		fmt.Fprintf(e.stderr, "published %s to %s (%s) in %s\n", count(p.stored, "record"), c.Topic,
			count(len(topic.Partitions()), "partition"), short(time.Since(begin)))
	}
	return err
}

const (
	pubBatchRecords = 4096
	pubBatchBytes   = 512 << 10
)

// batch is some records with the memory that they share. Two of them go round between the
// goroutine that fills and the one that publishes.
type batch struct {
	recs  []*braid.Record
	lines []int // recs[i] comes from input line lines[i]
	store []braid.Record
	text  []byte
	bytes int64 // of input
}

func newBatch() *batch {
	return &batch{store: make([]braid.Record, pubBatchRecords), text: make([]byte, 0, pubBatchBytes)}
}

// add makes room for the record of a line.
func (b *batch) add(line int) *braid.Record {
	rec := &b.store[len(b.recs)]
	*rec = braid.Record{}
	b.recs, b.lines = append(b.recs, rec), append(b.lines, line)
	return rec
}

// keep copies a line; the copy is not nil, for a nil value is refused. What it returned before stays as it is: a
// larger block takes nothing away from the old.
func (b *batch) keep(line []byte) []byte {
	from := len(b.text)
	b.text = append(b.text, line...)
	return b.text[from:len(b.text):len(b.text)]
}

func (b *batch) full() bool { return len(b.recs) == pubBatchRecords || b.bytes >= pubBatchBytes }

func (b *batch) reset() {
	clear(b.store[:len(b.recs)])
	if cap(b.text) > 4*pubBatchBytes {
		b.text = make([]byte, 0, pubBatchBytes) // a very long line is not paid for ever after
	}
	b.recs, b.lines, b.text, b.bytes = b.recs[:0], b.lines[:0], b.text[:0], 0
}

// publisher fills one batch while the one before is being stored.
type publisher struct {
	cmd    *pubCmd
	env    *env
	topic  *braid.Topic
	limit  int
	sep    []byte
	bar    *bar
	full   chan *batch
	free   chan *batch
	stored int64
}

// run publishes until the input ends, fails, or the command is interrupted. What was read before is stored.
func (p *publisher) run() error {
	ctx, cancel := context.WithCancel(p.env.ctx)
	defer cancel()
	p.free <- newBatch()
	p.free <- newBatch()
	read := make(chan error, 1)
	go func() {
		read <- p.read(ctx)
		close(p.full)
	}()
	var failed error
	for b := range p.full { // to its end, so that the goroutine ends
		if failed == nil {
			if failed = p.publish(b); failed != nil {
				cancel()
			}
		}
		b.reset()
		p.free <- b
	}
	switch err := <-read; {
	case failed != nil:
		return failed
	case errors.Is(err, context.Canceled):
		return exitCode(exitInterrupted)
	default:
		return err
	}
}

// publish stores a batch. If one of its records is refused, those before it are stored all the same.
func (p *publisher) publish(b *batch) error {
	err := p.store(b.recs)
	var refused *braid.RecordError
	if errors.As(err, &refused) { // then nothing of the call is stored
		line := b.lines[refused.Index]
		if err := p.store(b.recs[:refused.Index]); err != nil {
			return err
		}
		return fmt.Errorf("line %d: the record is refused: %s", line, refused.Reason)
	}
	if err == nil {
		p.bar.add(len(b.recs), b.bytes)
	}
	return err
}

func (p *publisher) store(recs []*braid.Record) error {
	// The context is not the command's: what has been read is stored even when it is interrupted.
	err := p.topic.Publish(context.Background(), recs...)
	var partly *braid.PublishError
	switch {
	case err == nil:
		p.stored += int64(len(recs))
	case errors.As(err, &partly):
		for _, err := range partly.Errs {
			if err == nil {
				p.stored++
			}
		}
	}
	if err != nil || !p.cmd.Acks || len(recs) == 0 {
		return err
	}
	fmt.Fprintln(p.env.stdout, p.stored)
	if err := p.env.stdout.Flush(); err != nil {
		// Not as a reader's broken pipe is taken: here some of the input is left.
		return fmt.Errorf("acknowledging: %v", err)
	}
	return nil
}

// read cuts the input into batches.
func (p *publisher) read(ctx context.Context) error {
	b := <-p.free
	send := func() {
		if len(b.recs) > 0 {
			p.full <- b
			b = <-p.free
		}
	}
	// What is encoded is longer than the record: "\u0000" is one byte, as is a third of a base64 digit's group.
	l := lines{limit: 6*p.limit + 64<<10, r: bufio.NewReaderSize(newInput(ctx, p.env.stdin, send), inputChunkSize)}
	for n := 1; ; n++ {
		line, err := l.next()
		if err == nil {
			err = p.add(b, n, line)
		}
		switch {
		case err == io.EOF:
			send()
			return nil
		case errors.Is(err, context.Canceled):
			send()
			return err
		case err != nil:
			send()
			return fmt.Errorf("line %d: %w", n, err)
		}
		if b.full() {
			send()
			if err := ctx.Err(); err != nil {
				return err
			}
		}
	}
}

var errEmptyKey = errors.New("the key is empty")

// add adds the record of a line.
func (p *publisher) add(b *batch, n int, line []byte) error {
	b.bytes += int64(len(line)) + 1
	if p.cmd.NDJSON {
		if len(bytes.TrimSpace(line)) == 0 {
			return nil
		}
		rec, err := parseJSON(line)
		if err == nil {
			*b.add(n) = *rec
		}
		return err
	}
	line = b.keep(line)
	key, value, found := bytes.Cut(line, p.sep)
	switch {
	case len(p.sep) == 0 || !found:
		key, value = nil, line
	case len(key) == 0:
		return errEmptyKey
	}
	rec := b.add(n)
	rec.Key, rec.Value = slices.Clip(key), value
	return nil
}
