package log

import "fmt"

// maxInterned bounds the header names that a decoder remembers.
const maxInterned = 256

// Decoder turns frames into records. With Reuse the memory of one frame's records is used again for the
// next frame's; without, they own it. It is not safe for concurrent use.
type Decoder struct {
	Reuse bool

	frame Frame
	raw   []byte            // decompressed bodies, with Reuse
	names map[string]string // header names seen, so that a name is allocated once and never lies in a reused buffer
}

// Frame is a frame whose checksum was right, being decoded record by record.
type Frame struct {
	FrameHeader
	dec     *Decoder
	body    []byte   // uncompressed
	at      int      // where in it the next record begins; -1: that cannot be decoded
	left    int      // records
	next    int64    // offset of the next record
	headers []Header // of this frame's records, one behind the other
}

// Decode begins decoding a frame that begins at b[0]. Without Reuse its records keep b, or a decompressed
// copy; with Reuse b must stay as it is until the next Decode. The Frame is the decoder's and
// valid until the next Decode.
func (d *Decoder) Decode(salt uint32, b []byte) (*Frame, error) {
	h, err := ParseFrameHeader(b)
	if err != nil {
		return nil, err
	}
	if err := h.Verify(salt, b); err != nil {
		return nil, err
	}
	return d.DecodeVerified(h, b)
}

// DecodeVerified is Decode of a frame whose header was parsed and whose checksum was verified.
func (d *Decoder) DecodeVerified(h FrameHeader, b []byte) (*Frame, error) {
	raw := b[FrameHeaderSize:h.Size():h.Size()]
	if h.Codec != CodecNone {
		var err error
		if raw, err = decompress(h.Codec, d.raw, raw, h.RawLen); err != nil {
			return nil, err
		}
		if d.Reuse {
			d.raw = raw
		}
	}
	headers := d.frame.headers[:0]
	if !d.Reuse {
		headers = nil
	}
	d.frame = Frame{FrameHeader: h, dec: d, body: raw, left: h.Count, next: h.Base, headers: headers}
	return &d.frame, nil
}

// Left is how many records are still to be decoded.
func (f *Frame) Left() int { return f.left }

// Offset is that of the record to be decoded next.
func (f *Frame) Offset() int64 { return f.next }

// Next decodes the next record into rec and returns false when there is none left. The record's slices are the
// frame's memory, its header names are not. A body that is not as it must be, though its checksum is right, is an
// error, and stays one.
func (f *Frame) Next(rec *Record) (bool, error) {
	if f.left == 0 {
		if n := len(f.body) - f.at; n > 0 {
			return false, fmt.Errorf("%d bytes behind the last record", n)
		}
		return false, nil
	}
	offset := f.next
	time, err := f.Decode(&rec.Key, &rec.Value, &rec.Headers)
	if err != nil {
		return false, err
	}
	rec.Offset, rec.Time, rec.Early = offset, time, f.Early
	return true, nil
}

// Decode is Next into variables of the caller's, and returns the record's time: what Offset and Early say of it is known before. There must be
// one left. After an error the variables are as they were. It is where reading spends its time, and so the short way of every number is written out.
func (f *Frame) Decode(key, value *[]byte, headers *[]Header) (time int64, err error) {
	var k, v []byte
	var h []Header
	var delta, n uint64
	b, i := f.body, f.at
	if uint(i) < uint(len(b)) && b[i] < 0x80 {
		delta, i = uint64(b[i]), i+1
	} else {
		delta, i = longUvarintAt(b, i)
	}
	if uint(i) < uint(len(b)) && b[i] < 0x80 {
		n, i = uint64(b[i]), i+1
	} else {
		n, i = longUvarintAt(b, i)
	}
	if n > 0 {
		k, i = bytesAt(b, i, n-1)
	}
	if uint(i) < uint(len(b)) && b[i] < 0x80 {
		n, i = uint64(b[i]), i+1
	} else {
		n, i = longUvarintAt(b, i)
	}
	if n > 0 {
		v, i = bytesAt(b, i, n-1)
	}
	if uint(i) < uint(len(b)) && b[i] < 0x80 {
		n, i = uint64(b[i]), i+1
	} else {
		n, i = longUvarintAt(b, i)
	}
	if n > 0 {
		h, i = f.decodeHeaders(i, n)
	}
	if i < 0 {
		f.at = -1
		return 0, fmt.Errorf("record %d of %d cannot be decoded", f.next-f.Base+1, f.Count)
	}
	*key, *value, *headers = k, v, h
	f.at = i
	f.next++
	f.left--
	return f.AppendTime + (int64(delta>>1) ^ -int64(delta&1)), nil
}

// skip moves to the record of an offset within the frame.
func (f *Frame) skip(offset int64) error {
	var rec Record
	for f.next < offset {
		if ok, err := f.Next(&rec); !ok {
			return err
		}
	}
	return nil
}

// decodeHeaders decodes n headers at an index of the body.
func (f *Frame) decodeHeaders(i int, n uint64) ([]Header, int) {
	b := f.body
	if n > uint64(len(b)-i)/2 { // each takes at least two bytes
		return nil, -1
	}
	begin := len(f.headers)
	for range n {
		var name, value []byte
		size, j := uvarintAt(b, i)
		name, i = bytesAt(b, j, size)
		if value, i = nullableAt(b, i); i < 0 {
			return nil, -1
		}
		f.headers = append(f.headers, Header{Key: f.dec.intern(name), Value: value})
	}
	return f.headers[begin:len(f.headers):len(f.headers)], i
}

// intern returns name as a string that no buffer backs, the same one for the same name.
func (d *Decoder) intern(name []byte) string {
	if s, ok := d.names[string(name)]; ok {
		return s
	}
	if d.names == nil || len(d.names) >= maxInterned {
		d.names = make(map[string]string)
	}
	s := string(name)
	d.names[s] = s
	return s
}
