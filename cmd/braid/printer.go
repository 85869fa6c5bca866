package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/braid-go/braid"
)

// verb appends a part of a record's printed form.
type verb func([]byte, *braid.Record) []byte

// printer prints records to a buffer. One goroutine prints; a timer may flush.
type printer struct {
	format []verb
	json   *json.Encoder // to text; nil if the format holds
	text   bytes.Buffer
	line   []byte

	mu    sync.Mutex    // guards the fields below
	out   *bufio.Writer // its errors are sticky
	timer *time.Timer   // nil unless live: runs while there is something to flush
}

func newPrinter(out *bufio.Writer, c *tailCmd) (*printer, error) {
	p := &printer{out: out}
	if c.JSON {
		p.json = json.NewEncoder(&p.text)
		p.json.SetEscapeHTML(false)
		return p, nil
	}
	format := "%v\n"
	if c.Format != nil {
		format = *c.Format
	}
	var err error
	p.format, err = parseFormat(format)
	return p, err
}

// flushDelay is how long somebody who watches waits for a record that has come.
const flushDelay = 20 * time.Millisecond

// live flushes what is printed soon after, until stop is called. failed is called if that does not work.
func (p *printer) live(failed func()) (stop func()) {
	p.timer = time.AfterFunc(time.Hour, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.timer != nil && p.out.Flush() != nil {
			failed()
		}
	})
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.timer.Stop()
		p.timer = nil // a call that waits for mu does nothing
	}
}

// print prints one record.
func (p *printer) print(rec *braid.Record) error {
	p.line = p.line[:0]
	if p.json != nil {
		p.text.Reset()
		if err := p.json.Encode(toJSON(rec)); err != nil {
			return err
		}
		p.line = append(p.line, p.text.Bytes()...)
	} else {
		for _, part := range p.format {
			p.line = part(p.line, rec)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer != nil && p.out.Buffered() == 0 {
		p.timer.Reset(flushDelay)
	}
	_, err := p.out.Write(p.line)
	return err
}

func (p *printer) flush() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Flush()
}

// parseFormat makes the parts that a format consists of.
func parseFormat(format string) ([]verb, error) {
	format = unescape(format)
	var parts []verb
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
			return nil, fmt.Errorf("--format has no %%%c; there are %%v %%k %%o %%p %%t %%T %%h %%n %%%%", rest[0])
		}
		parts, format = append(parts, part), rest[1:]
	}
	return parts, nil
}

var verbs = map[byte]verb{
	'v': func(b []byte, r *braid.Record) []byte { return append(b, r.Value...) },
	'k': func(b []byte, r *braid.Record) []byte { return append(b, r.Key...) },
	'o': func(b []byte, r *braid.Record) []byte { return strconv.AppendInt(b, r.Offset, 10) },
	'p': func(b []byte, r *braid.Record) []byte { return strconv.AppendUint(b, uint64(r.Partition), 10) },
	't': func(b []byte, r *braid.Record) []byte { return r.Time.AppendFormat(b, time.RFC3339Nano) },
	'T': func(b []byte, r *braid.Record) []byte { return append(b, r.Topic...) },
	'n': func(b []byte, _ *braid.Record) []byte { return append(b, '\n') },
	'%': func(b []byte, _ *braid.Record) []byte { return append(b, '%') },
	'h': func(b []byte, r *braid.Record) []byte {
		for i, h := range r.Headers {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(append(append(b, h.Key...), '='), h.Value...)
		}
		return b
	},
}
