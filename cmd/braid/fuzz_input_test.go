package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/braid-go/braid"
)

// FuzzLines cuts any input, handed over in any portions and then ended or cut off, into lines: those between the newlines, a last one without only at a proper end, and an error for a
// line beyond the limit.
func FuzzLines(f *testing.F) {
	f.Add([]byte("one\ntwo\n\nfour"), uint8(3), false, uint8(16))
	f.Add([]byte("a line that is longer than the buffer\n"), uint8(0), false, uint8(200))
	f.Add([]byte("a line that is longer than the limit"), uint8(1), true, uint8(17))
	f.Add(bytes.Repeat([]byte("\n"), 40), uint8(2), true, uint8(1))
	f.Fuzz(func(t *testing.T, b []byte, portions uint8, cut bool, limit uint8) {
		var r io.Reader = bytes.NewReader(b)
		if cut {
			r = io.MultiReader(r, iotest.ErrReader(errCut))
		}
		switch portions % 3 {
		case 0:
			r = iotest.OneByteReader(r)
		case 1:
			r = iotest.HalfReader(r)
		case 2:
			r = iotest.DataErrReader(r)
		}
		const buffer = 16 // the smallest that bufio has
		l := lines{r: bufio.NewReaderSize(newInput(t.Context(), r, func() {}), buffer), limit: buffer + int(limit)}
		for rest := b; ; {
			line, err := l.next()
			i := bytes.IndexByte(rest, '\n')
			want := rest
			if i >= 0 {
				want = rest[:i]
			}
			switch {
			case errors.Is(err, errLongLine):
				if len(want)+1 <= l.limit {
					t.Errorf("a line of %d bytes is too long, the limit is %d", len(want), l.limit)
				}
				return
			case i < 0 && (cut || len(rest) == 0):
				if wantErr := map[bool]error{false: io.EOF, true: errCut}[cut]; !errors.Is(err, wantErr) {
					t.Errorf("line %q, error %v, want %v", line, err, wantErr)
				}
				return
			case err != nil || !bytes.Equal(line, want):
				t.Fatalf("line %q, %v, want %q", line, err, want)
			}
			if i < 0 {
				return
			}
			rest = rest[i+1:]
		}
	})
}

var errCut = errors.New("cut off")

// FuzzParseJSON reads any line as a record. What is accepted has a value and no empty key, and is, printed and read again, the same record.
func FuzzParseJSON(f *testing.F) {
	for _, s := range []string{
		`{"value":"v"}`, `{"key":"k","value":"","time":"2024-05-06T07:08:09.000000001Z","headers":{"a":"1","b":null,"a":""}}`,
		`{"key_base64":"/w==","value_base64":"AAE=","headers":[["n","v"],["n",null],{"name_base64":"/g==","value_base64":""}]}`,
		`{"key":"","value":"v"}`, `{"value":null}`, `{"value":"v"} {"value":"w"}`, `{"value":"v","valeu":1}`, `null`, `[]`, `"`, "{\"value\":\"\xff\"}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		rec, err := parseJSON(line)
		if err != nil {
			return
		}
		if rec.Value == nil || rec.Key != nil && len(rec.Key) == 0 {
			t.Errorf("accepted %+v", rec)
		}
		printed, err := json.Marshal(toJSON(rec))
		if err != nil {
			if rec.Time.IsZero() || rec.Time.Year() < 0 || rec.Time.Year() > 9999 {
				return // no JSON has such a time
			}
			t.Fatal(err)
		}
		again, err := parseJSON(printed)
		if err != nil {
			t.Fatalf("%s: %v", printed, err)
		}
		if diff := cmp.Diff(rec, again, cmpopts.IgnoreUnexported(braid.Record{})); diff != "" {
			t.Errorf("printed as %s: %s", printed, diff)
		}
	})
}
