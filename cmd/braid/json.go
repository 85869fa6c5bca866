package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"github.com/braid-go/braid"
)

// jsonRecord is a record as JSON: what pub --ndjson reads and tail --json prints. Bytes that are not UTF-8 are in the
// fields that end in base64. Topic, partition and offset are ignored when it is read.
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

// jsonHeaders are written as a list of pairs, [["name","value"],...], where null is a nil value. A header that
// is not UTF-8 is written as an object, as jsonHeader. Both are read, mixed as they come, and so is one
// object, {"name":"value",...}, in the order of its names.
type jsonHeaders []braid.Header

// jsonHeader is a header that need not be UTF-8.
type jsonHeader struct {
	Name        *string `json:"name,omitempty"`
	NameBase64  *string `json:"name_base64,omitempty"`
	Value       *string `json:"value,omitempty"`
	ValueBase64 *string `json:"value_base64,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (h jsonHeaders) MarshalJSON() ([]byte, error) {
	list := make([]any, len(h))
	for i := range h {
		name, value := h[i].Key, h[i].Value
		switch {
		case !utf8.ValidString(name) || !utf8.Valid(value):
			var j jsonHeader
			j.Name, j.NameBase64 = textOrBase64([]byte(name))
			j.Value, j.ValueBase64 = textOrBase64(value)
			list[i] = j
		case value == nil:
			list[i] = [2]any{name, nil}
		default:
			list[i] = [2]any{name, string(value)}
		}
	}
	return json.Marshal(list)
}

// UnmarshalJSON implements json.Unmarshaler.
func (h *jsonHeaders) UnmarshalJSON(b []byte) error {
	*h = nil
	if bytes.HasPrefix(bytes.TrimSpace(b), []byte("{")) {
		return h.unmarshalObject(b)
	}
	var list []json.RawMessage
	if err := json.Unmarshal(b, &list); err != nil {
		return err
	}
	for _, raw := range list {
		header, err := parseHeader(raw)
		if err != nil {
			return err
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
		*h = append(*h, braid.Header{Key: name.(string), Value: bytesOrNil(value)})
	}
	return nil
}

// parseHeader reads a pair or a jsonHeader.
func parseHeader(raw json.RawMessage) (braid.Header, error) {
	if bytes.HasPrefix(raw, []byte("{")) {
		var j jsonHeader
		if err := decodeWhole(raw, &j); err != nil {
			return braid.Header{}, err
		}
		name, err := oneOf("name", j.Name, j.NameBase64)
		if err != nil {
			return braid.Header{}, err
		}
		if name == nil {
			return braid.Header{}, errors.New("a header needs a name")
		}
		value, err := oneOf("value", j.Value, j.ValueBase64)
		return braid.Header{Key: string(name), Value: value}, err
	}
	var pair []*string
	if err := json.Unmarshal(raw, &pair); err != nil {
		return braid.Header{}, err
	}
	if len(pair) != 2 || pair[0] == nil {
		return braid.Header{}, errors.New("a header is a pair of a name and a value")
	}
	return braid.Header{Key: *pair[0], Value: bytesOrNil(pair[1])}, nil
}

// bytesOrNil keeps the difference between null and "".
func bytesOrNil(s *string) []byte {
	if s == nil {
		return nil
	}
	return []byte(*s)
}

// parseJSON makes a record of a line of JSON.
func parseJSON(line []byte) (*braid.Record, error) {
	// The decoder would put U+FFFD where bytes are not UTF-8, and so store something else than what was given.
	if !utf8.Valid(line) {
		return nil, errors.New("not a record: not UTF-8; key_base64 and value_base64 take any bytes")
	}
	var j jsonRecord
	if err := decodeWhole(line, &j); err != nil {
		return nil, fmt.Errorf("not a record: %w", err)
	}
	rec := &braid.Record{Headers: j.Headers}
	var err error
	if rec.Key, err = oneOf("key", j.Key, j.KeyBase64); err != nil {
		return nil, err
	}
	if rec.Value, err = oneOf("value", j.Value, j.ValueBase64); err != nil {
		return nil, err
	}
	switch {
	case rec.Value == nil:
		return nil, errors.New("a record needs a value")
	case rec.Key != nil && len(rec.Key) == 0:
		return nil, errEmptyKey
	}
	if j.Time != nil {
		rec.Time = *j.Time
	}
	return rec, nil
}

// decodeWhole decodes one value that nothing follows and that has no field too many.
func decodeWhole(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return errors.New("the line ends in the middle of it")
		}
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows the object")
	}
	return nil
}

// oneOf returns the bytes of a field that is given as text or as base64, nil if it is not given.
func oneOf(name string, text, encoded *string) ([]byte, error) {
	switch {
	case text != nil && encoded != nil:
		return nil, fmt.Errorf("%s and %s_base64 are both given", name, name)
	case encoded != nil:
		b, err := base64.StdEncoding.DecodeString(*encoded)
		if err != nil {
			return nil, fmt.Errorf("%s_base64: %w", name, err)
		}
		return b, nil
	}
	return bytesOrNil(text), nil
}

// toJSON makes the JSON form of a record.
func toJSON(rec *braid.Record) *jsonRecord {
	j := &jsonRecord{Topic: rec.Topic, Partition: &rec.Partition, Offset: &rec.Offset, Time: &rec.Time, Headers: rec.Headers}
	j.Key, j.KeyBase64 = textOrBase64(rec.Key)
	j.Value, j.ValueBase64 = textOrBase64(rec.Value)
	return j
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
