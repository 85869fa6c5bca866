package log

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime/metrics"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// allocated returns how many bytes f allocates.
func allocated(f func()) uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	before := sample[0].Value.Uint64()
	f()
	metrics.Read(sample)
	return sample[0].Value.Uint64() - before
}

// addGolden seeds a fuzz target with the files of the format's first version.
func addGolden(f *testing.F, names ...string) {
	f.Helper()
	for _, name := range names {
		b, err := os.ReadFile(filepath.Join("testdata", "v1", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, false, uint32(0))
		f.Add(b, true, uint32(91))
		f.Add(b[:len(b)-1], true, uint32(500))
	}
}

const fuzzSalt = 9 // of the golden frames

// FuzzFrame gives the frame decoder any bytes, and bytes whose checksum is put right so that it gets to the body. Whatever it accepts
//
//   - encodes to the same bytes again, header and uncompressed body;
//   - has the records that its header counts, with consecutive offsets, the same with and without reused memory;
//   - is refused with another log's salt, cut short by a byte, and with any one bit flipped;
//
// and nothing, accepted or not, allocates more than a small multiple of what its header says.
func FuzzFrame(f *testing.F) {
	addGolden(f, "frame-none", "frame-s2", "frame-zstd")
	f.Add([]byte{}, false, uint32(0))
	f.Add(bytes.Repeat([]byte{0}, 200), true, uint32(0))
	f.Fuzz(func(t *testing.T, b []byte, seal bool, bit uint32) {
		if h, err := ParseFrameHeader(b); seal && err == nil && h.Size() <= len(b) {
			b = bytes.Clone(b)
			h.put(fuzzSalt, b)
		}
		var records []Record
		var fr *Frame
		var err error
		claimed := 0
		got := allocated(func() { fr, records, err = decodeAll(&Decoder{}, b) })
		if h, err := ParseFrameHeader(b); err == nil {
			claimed = h.RawLen
		}
		if most := uint64(1<<20 + 64*claimed + 16*len(b)); got > most {
			t.Errorf("%d bytes allocated, at most %d", got, most)
		}
		if fr == nil {
			if err == nil {
				t.Fatal("neither a frame nor an error")
			}
			return
		}
		checkAccepted(t, fr.FrameHeader, b, bit)
		if err != nil {
			return // the body is not one; reading reports the whole frame
		}
		checkFrameRecords(t, fr.FrameHeader, b, records)
	})
}

// decodeAll decodes a frame and all of its records. An error in a record comes with the frame.
func decodeAll(d *Decoder, b []byte) (*Frame, []Record, error) {
	fr, err := d.Decode(fuzzSalt, b)
	if err != nil {
		return nil, nil, err
	}
	var records []Record
	for {
		var rec Record
		ok, err := fr.Next(&rec)
		if err != nil || !ok {
			return fr, records, err
		}
		records = append(records, rec)
	}
}

// checkAccepted checks the header of a frame whose checksum is right.
func checkAccepted(t *testing.T, h FrameHeader, b []byte, bit uint32) {
	t.Helper()
	whole := b[:h.Size()]
	again := bytes.Clone(whole)
	h.put(fuzzSalt, again)
	if !bytes.Equal(again, whole) {
		t.Errorf("header %x encodes to %x", whole[:FrameHeaderSize], again[:FrameHeaderSize])
	}
	refused := map[string]func() error{
		"with another salt": func() error { return h.Verify(fuzzSalt+1, whole) },
		"cut short":         func() error { _, err := (&Decoder{}).Decode(fuzzSalt, whole[:len(whole)-1]); return err },
		"with a flipped bit": func() error {
			flipped := bytes.Clone(whole)
			flipped[int(bit/8)%len(whole)] ^= 1 << (bit % 8)
			_, err := (&Decoder{}).Decode(fuzzSalt, flipped)
			return err
		},
	}
	for what, decode := range refused {
		if decode() == nil {
			t.Errorf("accepted %s (bit %d)", what, bit)
		}
	}
}

// checkFrameRecords checks the records of a frame that was decoded to its end.
func checkFrameRecords(t *testing.T, h FrameHeader, b []byte, records []Record) {
	t.Helper()
	if len(records) != h.Count {
		t.Errorf("%d records, the header says %d", len(records), h.Count)
	}
	body := make([]byte, 0, h.RawLen)
	for i, r := range records {
		if r.Offset != h.Base+int64(i) {
			t.Errorf("record %d has offset %d in a frame of %d", i, r.Offset, h.Base)
		}
		one := make([]byte, RecordSize(r.Key, r.Value, r.Headers))
		body = append(body, one[:putRecord(one, r.Time-h.AppendTime, r.Key, r.Value, r.Headers)]...)
	}
	raw := b[FrameHeaderSize:h.Size()]
	if h.Codec != CodecNone {
		var err error
		if raw, err = decompress(h.Codec, nil, raw, h.RawLen); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(body, raw) {
		t.Errorf("the body has two encodings: %x and %x", raw, body)
	}
	reusing := &Decoder{Reuse: true}
	if _, _, err := decodeAll(reusing, b); err != nil {
		t.Fatal(err)
	}
	if _, again, err := decodeAll(reusing, b); err != nil || !cmp.Equal(again, records) {
		t.Errorf("with reused memory: %v %s", err, cmp.Diff(records, again))
	}
}

// FuzzRecord decodes a body of so many records. What is accepted encodes to the same body, and no slice of a record reaches beyond itself.
func FuzzRecord(f *testing.F) {
	frame := aFrame(f, fuzzSalt, CodecNone)
	f.Add(frame[FrameHeaderSize:], uint16(3))
	f.Add([]byte{0, 1, 1, 0}, uint16(1))
	f.Add([]byte{0, 0, 0, 2, 0, 0, 0, 0}, uint16(1))
	f.Add([]byte{0, 0x81, 0x00, 0, 0}, uint16(1))                                              // a length with a byte too many
	f.Add([]byte{0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0}, uint16(1)) // one that would overflow
	f.Fuzz(func(t *testing.T, body []byte, count uint16) {
		h := FrameHeader{BodyLen: len(body), RawLen: len(body), Count: int(count)}
		b := append(make([]byte, FrameHeaderSize), body...)
		h.put(fuzzSalt, b)
		fr, records, err := decodeAll(&Decoder{}, b)
		if fr == nil || err != nil {
			return
		}
		checkFrameRecords(t, fr.FrameHeader, b, records)
		for _, r := range records {
			for _, s := range [][]byte{r.Key, r.Value} {
				if cap(s) != len(s) {
					t.Errorf("appending to %x would write over what follows it", s)
				}
			}
		}
	})
}

// FuzzRecordRoundTrip stores records of any content, in every codec, and reads them back.
func FuzzRecordRoundTrip(f *testing.F) {
	f.Add(int64(0), []byte("key"), []byte("value"), "name", []byte("header"), uint8(0))
	f.Add(int64(-1)<<63, []byte{}, []byte{}, "", []byte{}, uint8(0xff))
	f.Add(int64(1<<63-1), bytes.Repeat([]byte("x"), 1000), bytes.Repeat([]byte{0}, 3000), "\x00\xff", []byte(nil), uint8(0x2a))
	f.Fuzz(func(t *testing.T, at int64, key, value []byte, name string, header []byte, how uint8) {
		first := Record{Offset: 7, Time: at, Key: key, Value: value, Headers: []Header{{name, header}, {"", nil}, {name, value}}}
		if how&1 != 0 {
			first.Key = nil
		}
		if how&2 != 0 {
			first.Value = nil
		}
		if how&4 != 0 {
			first.Headers = nil
		}
		second := Record{Offset: 8, Time: -at, Key: value, Value: key, Headers: []Header{{string(header), []byte(name)}}}
		want := []Record{first, second}
		b := NewBuilder(fuzzSalt)
		b.Begin(FrameMeta{Base: 7, PrevEnd: 7, AppendTime: at / 2, Codec: Codec(how>>3) % numCodecs})
		for _, r := range want {
			if err := b.Append(r.Time, r.Key, r.Value, r.Headers); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.End(); err != nil {
			t.Fatal(err)
		}
		fr, got, err := decodeAll(&Decoder{}, b.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" || fr.MaxTime != max(at, -at) {
			t.Errorf("latest %d, %s", fr.MaxTime, diff)
		}
	})
}
