package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/braid-go/braid"
)

// jsonRecord is a record as JSON: what pub --ndjson reads and tail --json prints. Bytes that are not UTF-8 are in the
// fields that end in base64.
type jsonRecord struct {
	Topic       string             `json:"topic,omitempty"`
	Partition   *braid.PartitionID `json:"partition,omitempty"`
	Offset      *int64             `json:"offset,omitempty"`
	Time        *time.Time         `json:"time,omitempty"`
	Key         *string            `json:"key,omitempty"`
	KeyBase64   *string            `json:"key_base64,omitempty"`
	Value       *string            `json:"value,omitempty"`
	ValueBase64 *string            `json:"value_base64,omitempty"`
	Headers     jsonHeaders        `json:"headers,omitempty"`
}

// jsonHeaders are written as pairs, and read as pairs or as an object.
type jsonHeaders []braid.Header

// MarshalJSON writes [["name","value"],...]; bytes that are not UTF-8 are replaced, as JSON has no others.
func (h jsonHeaders) MarshalJSON() ([]byte, error) {
	pairs := make([][2]*string, len(h))
	for i := range h {
		pairs[i][0] = &h[i].Key
		if h[i].Value != nil {
			value := string(h[i].Value)
			pairs[i][1] = &value
		}
	}
	return json.Marshal(pairs)
}

// UnmarshalJSON reads pairs or an object.
func (h *jsonHeaders) UnmarshalJSON(b []byte) error {
	*h = nil
	if bytes.HasPrefix(bytes.TrimSpace(b), []byte("{")) {
		return h.unmarshalObject(b)
	}
	var pairs [][]*string
	if err := json.Unmarshal(b, &pairs); err != nil {
		return err
	}
	for _, p := range pairs {
		if len(p) != 2 || p[0] == nil {
			return errors.New("a header is a pair of a name and a value")
		}
		header := braid.Header{Key: *p[0]}
		if p[1] != nil {
			header.Value = []byte(*p[1])
		}
		*h = append(*h, header)
	}
	return nil
}

// unmarshalObject keeps the order in which the names stand.
func (h *jsonHeaders) unmarshalObject(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	if _, err := d.Token(); err != nil {
		return err
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		var value *string
		if err := d.Decode(&value); err != nil {
			return err
		}
		header := braid.Header{Key: name.(string)}
		if value != nil {
			header.Value = []byte(*value)
		}
		*h = append(*h, header)
	}
	return nil
}

// parseJSON makes a record of a line of JSON.
func parseJSON(line []byte) (*braid.Record, error) {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	var j jsonRecord
	if err := d.Decode(&j); err != nil {
		return nil, fmt.Errorf("not a record: %w", err)
	}
	if d.More() {
		return nil, errors.New("not a record: something follows the object")
	}
	rec := &braid.Record{Headers: j.Headers}
	var err error
	if rec.Key, err = oneOf("key", j.Key, j.KeyBase64); err != nil {
		return nil, err
	}
	if rec.Value, err = oneOf("value", j.Value, j.ValueBase64); err != nil {
		return nil, err
	}
	if rec.Value == nil {
		return nil, errors.New("a record needs a value")
	}
	if j.Time != nil {
		rec.Time = *j.Time
	}
	return rec, nil
}

// oneOf returns the bytes of a field that is given as text or as base64.
func oneOf(name string, text, encoded *string) ([]byte, error) {
	switch {
	case text != nil && encoded != nil:
		return nil, fmt.Errorf("%s and %s_base64 are both given", name, name)
	case text != nil:
		return []byte(*text), nil
	case encoded != nil:
		b, err := base64.StdEncoding.DecodeString(*encoded)
		if err != nil {
			return nil, fmt.Errorf("%s_base64: %w", name, err)
		}
		return b, nil
	}
	return nil, nil
}

// toJSON makes a line of JSON of a record.
func toJSON(rec *braid.Record) ([]byte, error) {
	j := jsonRecord{Topic: rec.Topic, Partition: &rec.Partition, Offset: &rec.Offset, Time: &rec.Time, Headers: rec.Headers}
	j.Key, j.KeyBase64 = textOrBase64(rec.Key)
	j.Value, j.ValueBase64 = textOrBase64(rec.Value)
	return json.Marshal(j)
}

func textOrBase64(b []byte) (text, encoded *string) {
	if b == nil {
		return nil, nil
	}
	if utf8.Valid(b) {
		s := string(b)
		return &s, nil
	}
	s := base64.StdEncoding.EncodeToString(b)
	return nil, &s
}
