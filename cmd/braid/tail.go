package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/braid-go/braid"
)

type tailCmd struct {
	Topic       string        `arg:"" help:"Topic."`
	From        string        `help:"Where to begin: earliest, latest, an offset, a time (RFC 3339 or a date) or how long ago (15m)." default:"earliest"`
	Since       time.Duration `help:"Begin at records of so long ago, as --from 15m." placeholder:"15m"`
	Follow      bool          `short:"f" help:"Wait for more at the end."`
	Limit       int64         `short:"n" help:"Stop after so many records." placeholder:"N"`
	Format      string        `help:"How a record is printed." default:"%v\\n"`
	JSON        bool          `name:"json" help:"Print each record as a line of JSON."`
	Key         *string       `help:"Only records with this key."`
	Partition   []uint64      `help:"Only these partitions."`
	Group       string        `help:"Read as the member of a group and commit what was printed. Opens the directory for writing."`
	SkipDamaged bool          `help:"Go on behind records that are damaged or gone, with a warning."`
}

// Help shows examples.
func (tailCmd) Help() string {
	return `Examples:
  braid tail numbers
  braid tail orders --from 2026-01-31 --format '%t %p:%o %k = %v\n'
  braid tail orders -f --since 15m --json
  braid tail orders --group billing -n 100

In --format: %v value, %k key, %o offset, %p partition, %t time, %T topic, %h headers, %% a percent sign, \n and \t.
Records are printed in order within each partition. Without --group nothing is written, and another process may have
the directory open; of what that one is writing at this moment, what is proven durable is shown.`
}

// Run prints records.
func (c *tailCmd) Run(e *env) (err error) {
	from, err := c.position(time.Now())
	if err != nil {
		return err
	}
	p := &printer{cmd: c, out: bufio.NewWriterSize(e.stdout, 64<<10)}
	if p.format, err = parseFormat(c.Format); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.out.Flush()) }()
	if c.Group != "" {
		return c.group(e, from, p)
	}
	b, err := e.openReadOnly()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	topic, err := b.Topic(c.Topic)
	if err != nil {
		return err
	}
	at, err := from(topic)
	if err != nil {
		return err
	}
	if c.Follow {
		defer p.flushEvery(200 * time.Millisecond)()
	}
	opts := braid.ReadOptions{From: at, Follow: c.Follow, ReuseBuffers: true, OnGap: c.onGap(e)}
	for _, id := range c.Partition {
		opts.Partitions = append(opts.Partitions, braid.PartitionID(id))
	}
	return p.print(e.ctx, topic.Read(e.ctx, opts), nil)
}

// group prints as the member of a group, until the end that there was at first or, with --follow, for ever.
func (c *tailCmd) group(e *env, from func(*braid.Topic) (braid.Position, error), p *printer) (err error) {
	if len(c.Partition) > 0 {
		return errors.New("a group reads all partitions: --group and --partition exclude each other")
	}
	b, err := e.open(braid.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	topic, err := b.Topic(c.Topic)
	if err != nil {
		return err
	}
	at, err := from(topic)
	if err != nil {
		return err
	}
	sub, err := topic.Subscribe(e.ctx, c.Group, braid.SubscribeOptions{From: at, ReuseBuffers: true, OnGap: c.onGap(e)})
	if err != nil {
		return err
	}
	if c.Follow {
		defer p.flushEvery(200 * time.Millisecond)()
	}
	commit := func() error {
		if err := p.flush(); err != nil {
			return err
		}
		return p.commit(sub)
	}
	records := sub.Records(e.ctx)
	if !c.Follow {
		records = untilEnd(records, sub, topic)
	}
	err = p.print(e.ctx, records, commit)
	return errors.Join(err, commit(), sub.Close())
}

// untilEnd ends a subscription's records where the topic ends when it begins.
func untilEnd(records iter.Seq2[*braid.Record, error], sub *braid.Subscription, topic *braid.Topic) iter.Seq2[*braid.Record, error] {
	left := map[braid.PartitionID]int64{} // where each partition that is not read to its end ends
	at := sub.Committed()
	for _, p := range topic.Partitions() {
		if at[p.ID] < p.End {
			left[p.ID] = p.End
		}
	}
	return func(yield func(*braid.Record, error) bool) {
		if len(left) == 0 {
			return
		}
		for rec, err := range records {
			if err == nil && rec.Offset+1 >= left[rec.Partition] {
				delete(left, rec.Partition)
			}
			if !yield(rec, err) || len(left) == 0 {
				return
			}
		}
	}
}

func (c *tailCmd) onGap(e *env) func(braid.Gap) bool {
	if !c.SkipDamaged {
		return nil
	}
	return func(g braid.Gap) bool {
		fmt.Fprintf(e.stderr, "braid: skipping %d offsets: %v\n", g.Next-g.From, g.Err)
		return true
	}
}

// position reads --from and --since.
func (c *tailCmd) position(now time.Time) (func(*braid.Topic) (braid.Position, error), error) {
	fixed := func(p braid.Position) func(*braid.Topic) (braid.Position, error) {
		return func(*braid.Topic) (braid.Position, error) { return p, nil }
	}
	if c.Since < 0 {
		return nil, errors.New("--since looks back: it cannot be negative")
	}
	if c.Since > 0 {
		return fixed(braid.FromTime(now.Add(-c.Since))), nil
	}
	switch c.From {
	case "earliest":
		return fixed(braid.FromEarliest()), nil
	case "latest":
		return fixed(braid.FromLatest()), nil
	}
	if n, err := strconv.ParseInt(c.From, 10, 64); err == nil && n >= 0 {
		return c.fromOffset(n), nil
	}
	if d, err := time.ParseDuration(c.From); err == nil && d >= 0 {
		return fixed(braid.FromTime(now.Add(-d))), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, c.From, time.Local); err == nil {
			return fixed(braid.FromTime(t)), nil
		}
	}
	return nil, fmt.Errorf("--from %q is not earliest, latest, an offset, a time or a duration", c.From)
}

// fromOffset begins at one offset in all partitions that are read, or at the end of those that are shorter.
func (c *tailCmd) fromOffset(n int64) func(*braid.Topic) (braid.Position, error) {
	return func(t *braid.Topic) (braid.Position, error) {
		offsets := map[braid.PartitionID]int64{}
		for _, p := range t.Partitions() {
			offsets[p.ID] = min(max(n, p.Start), p.End)
		}
		return braid.FromOffsets(offsets), nil
	}
}

// printer prints records.
type printer struct {
	cmd     *tailCmd
	format  []func([]byte, *braid.Record) []byte
	mu      chan struct{} // held while out is used, if a goroutine flushes it; nil otherwise
	out     *bufio.Writer
	line    []byte
	printed int64
	last    map[braid.PartitionID]*braid.Record // with --group: the last record handled of each partition
}

// commitEvery is after how many records tail --group commits.
const commitEvery = 10_000

func (p *printer) print(ctx context.Context, records iter.Seq2[*braid.Record, error], commit func() error) error {
	if commit != nil {
		p.last = map[braid.PartitionID]*braid.Record{}
	}
	seen := 0
	for rec, err := range records {
		if err != nil {
			return err
		}
		if p.cmd.Key == nil || rec.Key != nil && string(rec.Key) == *p.cmd.Key {
			if err := p.one(rec); err != nil {
				return err
			}
			p.printed++
		}
		if p.last != nil {
			p.last[rec.Partition] = &braid.Record{}
			*p.last[rec.Partition] = *rec
		}
		if seen++; commit != nil && seen%commitEvery == 0 {
			if err := commit(); err != nil {
				return err
			}
		}
		if p.cmd.Limit > 0 && p.printed >= p.cmd.Limit {
			return nil
		}
	}
	return nil
}

// commit commits what has been handled.
func (p *printer) commit(sub *braid.Subscription) error {
	recs := make([]*braid.Record, 0, len(p.last))
	for _, rec := range p.last {
		recs = append(recs, rec)
	}
	clear(p.last)
	return sub.Commit(context.Background(), recs...)
}

// one prints one record.
func (p *printer) one(rec *braid.Record) error {
	p.line = p.line[:0]
	if p.cmd.JSON {
		b, err := toJSON(rec)
		if err != nil {
			return err
		}
		p.line = append(append(p.line, b...), '\n')
	} else {
		for _, part := range p.format {
			p.line = part(p.line, rec)
		}
	}
	p.lock()
	defer p.unlock()
	_, err := p.out.Write(p.line)
	return err
}

func (p *printer) flush() error {
	p.lock()
	defer p.unlock()
	return p.out.Flush()
}

func (p *printer) lock() {
	if p.mu != nil {
		p.mu <- struct{}{}
	}
}

func (p *printer) unlock() {
	if p.mu != nil {
		<-p.mu
	}
}

// flushEvery flushes from time to time, for somebody who watches, until stop is called.
func (p *printer) flushEvery(interval time.Duration) (stop func()) {
	p.mu = make(chan struct{}, 1)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				_ = p.flush() // the next write tells
			}
		}
	}()
	return func() { close(done); <-ended }
}

// parseFormat makes the parts that a format consists of.
func parseFormat(format string) ([]func([]byte, *braid.Record) []byte, error) {
	format = strings.NewReplacer(`\\`, `\`, `\n`, "\n", `\t`, "\t").Replace(format)
	var parts []func([]byte, *braid.Record) []byte
	for format != "" {
		text, rest, found := strings.Cut(format, "%")
		if text != "" {
			parts = append(parts, func(b []byte, _ *braid.Record) []byte { return append(b, text...) })
		}
		if !found {
			break
		}
		if rest == "" {
			return nil, errors.New("--format ends with a single %")
		}
		part, ok := verbs[rest[0]]
		if !ok {
			return nil, fmt.Errorf("--format has no %%%c; there are %%v %%k %%o %%p %%t %%T %%h %%%%", rest[0])
		}
		parts, format = append(parts, part), rest[1:]
	}
	return parts, nil
}

var verbs = map[byte]func([]byte, *braid.Record) []byte{
	'v': func(b []byte, r *braid.Record) []byte { return append(b, r.Value...) },
	'k': func(b []byte, r *braid.Record) []byte { return append(b, r.Key...) },
	'o': func(b []byte, r *braid.Record) []byte { return strconv.AppendInt(b, r.Offset, 10) },
	'p': func(b []byte, r *braid.Record) []byte { return strconv.AppendUint(b, uint64(r.Partition), 10) },
	't': func(b []byte, r *braid.Record) []byte { return r.Time.AppendFormat(b, time.RFC3339Nano) },
	'T': func(b []byte, r *braid.Record) []byte { return append(b, r.Topic...) },
	'%': func(b []byte, _ *braid.Record) []byte { return append(b, '%') },
	'h': func(b []byte, r *braid.Record) []byte {
		var w bytes.Buffer
		for i, h := range r.Headers {
			if i > 0 {
				io.WriteString(&w, ",")
			}
			fmt.Fprintf(&w, "%s=%s", h.Key, h.Value)
		}
		return append(b, w.Bytes()...)
	},
}
