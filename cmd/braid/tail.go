package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/braid-go/braid"
)

type tailCmd struct {
	Topic       string        `arg:"" help:"Topic."`
	From        string        `xor:"from" help:"Where to begin: earliest, latest, an offset, a time (RFC 3339 or a date) or how long ago (15m, 7d). Default: earliest." placeholder:"earliest"`
	Since       time.Duration `xor:"from" help:"Begin at records of so long ago, as --from 15m." placeholder:"15m"`
	Follow      bool          `short:"f" help:"Wait for more at the end."`
	Limit       *int64        `short:"n" help:"Stop after so many records." placeholder:"N"`
	Format      *string       `xor:"shape" help:"How a record is printed. Default: '%v\\n'." placeholder:"%v\\n"`
	JSON        bool          `xor:"shape" name:"json" help:"Print each record as a line of JSON."`
	Key         *string       `help:"Only records with this key."`
	Partition   []uint64      `xor:"whole" help:"Only these partitions." placeholder:"ID"`
	Group       string        `xor:"whole" help:"Read as the member of a group and commit what was printed. Opens the directory for writing." placeholder:"NAME"`
	SkipDamaged bool          `help:"Go on behind records that are damaged or gone, with a warning."`
}

// Help shows examples.
func (tailCmd) Help() string {
	return `Examples:
  braid tail numbers
  braid tail orders --from 2026-01-31 --format '%t %p:%o %k = %v\n'
  braid tail orders -f --since 15m --json
  braid tail orders --group billing -n 100

In --format: %v value, %k key, %o offset, %p partition, %t time, %T topic, %h headers, %n newline, %% a percent sign;
and \n, \t, \\.

Records are printed in order within each partition, up to the end that there was at the beginning. An
offset counts in each partition; one that is not there means the nearest one that is. A time begins at the first record that is not older.
Without --group nothing is written, and another process may have the directory open: what is proven durable of what that one
writes is shown.

A group goes on where it has committed; --from says where a new one begins. It commits what has been written to
standard output, so end it with -n and not with a pipe to head. If it is killed, the last records come again.`
}

// place says where in a topic to begin.
type place func(*braid.Topic) braid.Position

// Run prints records.
func (c *tailCmd) Run(e *env) error {
	from, err := c.position(time.Now())
	if err != nil {
		return err
	}
	if c.Limit != nil && *c.Limit < 0 {
		return errors.New("--limit cannot be negative")
	}
	p, err := newPrinter(e.stdout, c)
	if err != nil {
		return err
	}
	if c.Group != "" {
		err = c.consume(e, from, p)
	} else {
		err = c.read(e, from, p)
	}
	if !c.SkipDamaged && (errors.Is(err, braid.ErrCorrupt) || errors.Is(err, braid.ErrMissingData) || errors.Is(err, braid.ErrOffsetOutOfRange)) {
		err = fmt.Errorf("%w (--skip-damaged goes on behind it)", err)
	}
	return err
}

// read prints without leaving a trace.
func (c *tailCmd) read(e *env, from place, p *printer) (err error) {
	b, err := e.openReadOnly()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	topic, err := b.Topic(c.Topic)
	if err != nil || c.done(0) {
		return err
	}
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	if c.Follow {
		defer p.live(cancel)()
	}
	opts := braid.ReadOptions{From: from(topic), Follow: c.Follow, ReuseBuffers: true, OnGap: c.onGap(e)}
	for _, id := range c.Partition {
		opts.Partitions = append(opts.Partitions, braid.PartitionID(id))
	}
	printed := int64(0)
	for rec, err := range topic.Read(ctx, opts) {
		if err != nil && ctx.Err() != nil && e.ctx.Err() == nil {
			return p.flush() // it is what ended the reading
		}
		if err != nil {
			return err
		}
		if !c.wanted(rec) {
			continue
		}
		if err := p.print(rec); err != nil {
			return err
		}
		if printed++; c.done(printed) {
			return nil
		}
	}
	return nil
}

func (c *tailCmd) wanted(rec *braid.Record) bool {
	return c.Key == nil || rec.Key != nil && string(rec.Key) == *c.Key
}

func (c *tailCmd) done(printed int64) bool { return c.Limit != nil && printed >= *c.Limit }

func (c *tailCmd) onGap(e *env) func(braid.Gap) bool {
	if !c.SkipDamaged {
		return nil
	}
	return func(g braid.Gap) bool {
		fmt.Fprintf(e.stderr, "braid: skipping %s: %s\n", count(g.Next-g.From, "offset"), plain(g.Err))
		return true
	}
}

// position reads --from and --since.
func (c *tailCmd) position(now time.Time) (place, error) {
	fixed := func(p braid.Position) (place, error) {
		return func(*braid.Topic) braid.Position { return p }, nil
	}
	if c.Since < 0 {
		return nil, errors.New("--since looks back: it cannot be negative")
	}
	if c.Since > 0 {
		return fixed(braid.FromTime(now.Add(-c.Since)))
	}
	switch c.From {
	case "", "earliest":
		return fixed(braid.FromEarliest())
	case "latest":
		return fixed(braid.FromLatest())
	}
	if n, err := strconv.ParseInt(c.From, 10, 64); err == nil && n >= 0 {
		return fromOffset(n), nil
	}
	if d, err := parsePeriod(c.From); err == nil && d >= 0 {
		return fixed(braid.FromTime(now.Add(-d)))
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, c.From, time.Local); err == nil {
			return fixed(braid.FromTime(t))
		}
	}
	return nil, fmt.Errorf("--from %q is not earliest, latest, an offset, a time or a period", c.From)
}

// fromOffset begins at one offset in all partitions, or at the nearest one that each has.
func fromOffset(n int64) place {
	return func(t *braid.Topic) braid.Position {
		offsets := map[braid.PartitionID]int64{}
		for _, p := range t.Partitions() {
			offsets[p.ID] = min(max(n, p.Start), p.End)
		}
		return braid.FromOffsets(offsets)
	}
}
