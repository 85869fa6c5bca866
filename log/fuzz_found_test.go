package log

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"
)

// What the fuzz targets have found: files whose checksum is right and which this package would not have written.
func TestFilesThatNobodyWroteAreRefused(t *testing.T) {
	m := &manifest{birth: testBirth, salt: 7, nextUnique: 4, durable: 12, segments: []segmentEntry{
		{base: 0, unique: 1, sealed: true, size: 500, end: 10}, {base: 10, unique: 2, sealed: true, size: 400, end: 12}, {base: 12, unique: 3}}}
	manifestWith := func(change func(m *manifest)) func() error {
		c := *m
		c.segments = append([]segmentEntry{}, m.segments...)
		change(&c)
		return func() error { _, err := decodeManifest(c.encode()); return err }
	}
	x := &index{bytes: 1, maxTime: minTime}
	x.add(3, 128, 10)
	x.add(5, 300, 20)
	indexWith := func(change func(x *index)) func() error {
		c := *x
		c.entries = append([]indexEntry{}, x.entries...)
		change(&c)
		b, _ := c.encode()
		return func() error { _, _, err := decodeIndex(b); return err }
	}
	header := (&segmentHeader{Birth: testBirth, Base: 6, Unique: 7}).encode()
	headerWith := func(at int, v byte) func() error {
		b := append([]byte{}, header...)
		b[at] = v
		return func() error { _, err := decodeSegmentHeader(sealed(b)); return err }
	}
	for name, tc := range map[string]struct {
		decode func() error
		ok     bool
	}{
		"a manifest":       {manifestWith(func(*manifest) {}), true},
		"an index":         {indexWith(func(*index) {}), true},
		"a segment header": {headerWith(4, 1), true},
		"a segment that is neither sealed nor not": {func() error {
			b := m.encode()
			b[len(b)-4-4-4*8-1] = 2
			_, err := decodeManifest(sealed(b))
			return err
		}, false},
		"two segments of one number":            {manifestWith(func(m *manifest) { m.segments[1].unique = 1 }), false},
		"an active segment with a size":         {manifestWith(func(m *manifest) { m.segments[2].size = 500 }), false},
		"an index entry before the first frame": {indexWith(func(x *index) { x.entries[0].pos = -1 }), false},
		"index entries out of order":            {indexWith(func(x *index) { x.entries[1].base = 3 }), false},
		"something in the reserved bytes":       {headerWith(100, 1), false},
	} {
		if err := tc.decode(); (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := headerWith(4, 0)(); errors.Is(err, ErrVersion) || err == nil {
		t.Errorf("a segment of version 0: %v; it is not newer", err)
	}
	if err := headerWith(4, 2)(); !errors.Is(err, ErrVersion) {
		t.Errorf("a segment of version 2: %v, want ErrVersion", err)
	}
}

// sealed returns a copy of b whose last four bytes are the checksum of those before.
func sealed(b []byte) []byte {
	if len(b) < 4 {
		return b
	}
	b = bytes.Clone(b)
	binary.LittleEndian.PutUint32(b[len(b)-4:], crc32.Checksum(b[:len(b)-4], castagnoli))
	return b
}
