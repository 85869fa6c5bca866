package log

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// refusesFlip checks that a decoder does not accept b with one bit flipped.
func refusesFlip(t *testing.T, b []byte, bit uint32, decode func([]byte) error) {
	t.Helper()
	flipped := bytes.Clone(b)
	flipped[int(bit/8)%len(b)] ^= 1 << (bit % 8)
	if decode(flipped) == nil {
		t.Errorf("accepted with bit %d flipped", bit)
	}
}

// FuzzSegmentHeader, FuzzManifest and FuzzIndex decode any bytes, and bytes whose checksum is put right. What is accepted encodes to the
// same bytes and is refused with any one bit flipped; what a manifest or an index is accepted with makes sense; nothing allocates more
// than a small multiple of its input; only a higher version is ErrVersion.
func FuzzSegmentHeader(f *testing.F) {
	addGolden(f, "segment-header")
	f.Fuzz(func(t *testing.T, b []byte, seal bool, bit uint32) {
		if seal && len(b) >= segmentHeaderSize {
			b = sealed(b[:segmentHeaderSize])
		}
		h, err := decodeSegmentHeader(b)
		if err != nil {
			if errors.Is(err, ErrVersion) && binary.LittleEndian.Uint32(b[4:]) <= segmentVersion {
				t.Errorf("%v", err)
			}
			return
		}
		if b = b[:segmentHeaderSize]; !bytes.Equal(h.encode(), b) {
			t.Errorf("%x is accepted and encodes to %x", b, h.encode())
		}
		refusesFlip(t, b, bit, func(b []byte) error { _, err := decodeSegmentHeader(b); return err })
	})
}

func FuzzManifest(f *testing.F) {
	addGolden(f, "manifest")
	m := &manifest{birth: testBirth, nextUnique: 2, segments: []segmentEntry{{unique: 1}}}
	f.Add(m.encode(), false, uint32(3))
	f.Fuzz(func(t *testing.T, b []byte, seal bool, bit uint32) {
		if seal {
			b = sealed(b)
		}
		var m *manifest
		var err error
		if got, most := allocated(func() { m, err = decodeManifest(b) }), uint64(1<<20+16*len(b)); got > most {
			t.Errorf("%d bytes allocated, at most %d", got, most)
		}
		if err != nil {
			if errors.Is(err, ErrVersion) && binary.LittleEndian.Uint32(b[4:]) <= manifestVersion {
				t.Errorf("%v", err)
			}
			return
		}
		if !bytes.Equal(m.encode(), b) {
			t.Errorf("%x is accepted and encodes to %x", b, m.encode())
		}
		refusesFlip(t, b, bit, func(b []byte) error { _, err := decodeManifest(b); return err })
		checkManifest(t, m)
	})
}

// checkManifest checks what the rest of the package relies on.
func checkManifest(t *testing.T, m *manifest) {
	t.Helper()
	var end int64
	var unique uint32
	for i, s := range m.segments {
		switch {
		case s.sealed != (i < len(m.segments)-1):
			t.Errorf("segment %d of %d: sealed is %v", i, len(m.segments), s.sealed)
		case s.base < end || s.sealed && s.end < s.base:
			t.Errorf("segment %d begins at %d behind %d and ends at %d", i, s.base, end, s.end)
		case i > 0 && s.unique <= unique || s.unique >= m.nextUnique:
			t.Errorf("segment %d has number %d behind %d, the next would be %d", i, s.unique, unique, m.nextUnique)
		case s.sealed && s.size < segmentHeaderSize:
			t.Errorf("segment %d has %d bytes", i, s.size)
		case !s.sealed && s != segmentEntry{base: s.base, unique: s.unique}:
			t.Errorf("the active segment says %+v", s)
		}
		end, unique = s.end, s.unique
	}
	if m.durable < 0 {
		t.Errorf("durable end %d", m.durable)
	}
}

func FuzzIndex(f *testing.F) {
	addGolden(f, "index")
	f.Fuzz(func(t *testing.T, b []byte, seal bool, bit uint32) {
		if seal {
			b = sealed(b)
		}
		var x *index
		var err error
		if got, most := allocated(func() { x, _, err = decodeIndex(b) }), uint64(1<<20+4*len(b)); got > most {
			t.Errorf("%d bytes allocated, at most %d", got, most)
		}
		if err != nil {
			return
		}
		if again, _ := x.encode(); !bytes.Equal(again, b) {
			t.Errorf("%x is accepted and encodes to %x", b, again)
		}
		refusesFlip(t, b, bit, func(b []byte) error { _, _, err := decodeIndex(b); return err })
		for i, e := range x.entries {
			if e.pos < segmentHeaderSize || i > 0 && (e.pos <= x.entries[i-1].pos || e.base <= x.entries[i-1].base || e.maxTime < x.entries[i-1].maxTime) {
				t.Errorf("entry %d, %+v, does not come behind those before", i, e)
			}
			if at := x.before(e.base); at != e.pos {
				t.Errorf("offset %d is looked for at %d, it is at %d", e.base, at, e.pos)
			}
		}
	})
}

// FuzzLogged gives a log that is being opened any bytes as frames that the commit log has kept: it takes them apart without a rest, or says that they are corrupt.
func FuzzLogged(f *testing.F) {
	for _, codec := range []Codec{CodecNone, CodecZstd} {
		b := aFrame(f, fuzzSalt, codec)
		f.Add(b, uint64(4), true)
		f.Add(append(bytes.Clone(b), b...), uint64(4), true)
		f.Add(b[:len(b)-1], uint64(4), false)
		f.Add(b, uint64(5), true)
	}
	f.Fuzz(func(t *testing.T, b []byte, partition uint64, seal bool) {
		b = bytes.Clone(b)
		for rest := b; seal; {
			h, err := ParseFrameHeader(rest)
			if err != nil || h.Size() > len(rest) {
				break
			}
			h.put(fuzzSalt, rest)
			rest = rest[h.Size():]
		}
		l := &Log{salt: fuzzSalt, birth: Birth{PartitionID: partition}}
		frames, err := l.parseLogged([][]byte{b})
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("error %v, want ErrCorrupt", err)
			}
			return
		}
		at := map[int64][]byte{} // the first frame of each offset
		for rest := b; len(rest) > 0; {
			h, err := ParseFrameHeader(rest)
			if err != nil || h.Partition != partition {
				t.Fatalf("accepted with a frame of partition %d, %v", h.Partition, err)
			}
			if _, twice := at[h.Base]; !twice {
				at[h.Base] = rest[:h.Size()]
			}
			rest = rest[h.Size():]
		}
		if len(frames) != len(at) {
			t.Errorf("%d frames, want %d", len(frames), len(at))
		}
		for i, fr := range frames {
			if i > 0 && fr.Base <= frames[i-1].Base {
				t.Errorf("offset %d behind %d", fr.Base, frames[i-1].Base)
			}
			if diff := cmp.Diff(at[fr.Base], fr.data); diff != "" {
				t.Errorf("offset %d: %s", fr.Base, diff)
			}
		}
	})
}
