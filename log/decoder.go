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
	in      cursor
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
	d.frame = Frame{FrameHeader: h, dec: d, in: cursor{rest: raw}, left: h.Count, next: h.Base, headers: headers}
	return &d.frame, nil
}

// Next decodes the next record into rec and returns false when there is none left. The record's slices are the
// frame's memory, its header names are not. A body that is not as it must be, though its checksum is right, is an
// error.
func (f *Frame) Next(rec *Record) (bool, error) {
	if f.left == 0 {
		if len(f.in.rest) > 0 {
			return false, fmt.Errorf("%d bytes behind the last record", len(f.in.rest))
		}
		return false, nil
	}
	delta := f.in.uvarint()
	rec.Time = f.AppendTime + (int64(delta>>1) ^ -int64(delta&1))
	rec.Key = f.in.nullable()
	rec.Value = f.in.nullable()
	rec.Headers = nil
	if n := f.in.uvarint(); n > 0 {
		f.decodeHeaders(rec, n)
	}
	if f.in.bad {
		f.left = 0
		return false, fmt.Errorf("record %d of %d cannot be decoded", f.next-f.Base+1, f.Count)
	}
	rec.Offset, rec.Early = f.next, f.Early
	f.next++
	f.left--
	return true, nil
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

func (f *Frame) decodeHeaders(rec *Record, n uint64) {
	if n > uint64(len(f.in.rest))/2 { // each takes at least two bytes
		f.in.fail()
		return
	}
	begin := len(f.headers)
	for range n {
		name := f.in.bytes(f.in.uvarint())
		f.headers = append(f.headers, Header{Key: f.dec.intern(name), Value: f.in.nullable()})
	}
	rec.Headers = f.headers[begin:len(f.headers):len(f.headers)]
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
