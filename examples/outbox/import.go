package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/braid-go/braid"
)

const (
	// importedKey is the key of the state that has the number of the last change imported.
	importedKey = "outbox/imported"
	// importBatch is how many changes a transaction imports at most.
	importBatch = 100
)

// change is what the source says. Numbers increase, and may leave gaps, as those of database sequences do.
type change struct {
	Seq     int64  `json:"seq"`
	Account string `json:"account"`
	Cents   int64  `json:"cents"`

	line []byte // as the source has it
}

// importChanges publishes the changes that have not been imported yet.
func importChanges(ctx context.Context, b *braid.Broker, changes *braid.Topic, path string, tell func(string, ...any)) error {
	last, err := imported(ctx, b)
	if err != nil {
		return err
	}
	tell("importing: after change %d", last)
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	source := &changeLog{in: bufio.NewReader(f)}
	for {
		batch, err := source.after(last, importBatch)
		if err != nil || len(batch) == 0 {
			return err
		}
		tx := b.Begin()
		for _, c := range batch {
			if err := tx.Publish(changes, &braid.Record{Key: []byte(c.Account), Value: c.line}); err != nil {
				return fmt.Errorf("change %d: %w", c.Seq, err)
			}
		}
		last = batch[len(batch)-1].Seq
		if err := tx.Put(importedKey, strconv.AppendInt(nil, last, 10)); err != nil {
			return err
		}
		tell("committing: import up to change %d", last)
		if err := tx.Commit(ctx); err != nil {
			return err
		}
	}
}

// imported returns the number of the last change imported, 0 if there is none.
func imported(ctx context.Context, b *braid.Broker) (int64, error) {
	v, ok, err := b.Get(ctx, importedKey)
	if err != nil || !ok {
		return 0, err
	}
	return strconv.ParseInt(string(v), 10, 64)
}

// changeLog is the source. With a database, after would be a query: WHERE seq > $1 ORDER BY seq LIMIT $2.
type changeLog struct {
	in   *bufio.Reader
	read int   // lines
	seq  int64 // of the last one
}

// after returns the next changes, at most max, whose numbers are above seq; none at the end.
func (l *changeLog) after(seq int64, max int) ([]change, error) {
	var batch []change
	for len(batch) < max {
		line, err := l.in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break // a line without an end is still being written
		}
		if err != nil {
			return nil, err
		}
		l.read++
		c := change{line: bytes.TrimSpace(line)}
		if err := json.Unmarshal(c.line, &c); err != nil {
			return nil, fmt.Errorf("line %d: %w", l.read, err)
		}
		if c.Seq <= l.seq || c.Account == "" {
			return nil, fmt.Errorf("line %d: change %d of account %q after change %d", l.read, c.Seq, c.Account, l.seq)
		}
		l.seq = c.Seq
		if c.Seq > seq {
			batch = append(batch, c)
		}
	}
	return batch, nil
}
