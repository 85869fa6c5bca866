package log

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"testing"

	"github.com/braid-go/braid/internal/damage"
	"github.com/braid-go/braid/internal/vfs"
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

// A segment that recovery has sealed keeps, behind its end, what was torn. Its offsets have been given out again since. Without the manifest, which knows where the
// segment ends, that is neither read in the place of the new records nor taken for damage.
func TestWithoutItsManifestALogDoesNotShowWhatRecoveryHasCut(t *testing.T) {
	mem := vfs.NewMem()
	cfg := tortureConfig(mem)
	w := newWorkload(create(t, cfg))
	if err := errors.Join(w.write(0, 2), w.write(0, 1, 1, 2)); err != nil {
		t.Fatal(err)
	}
	frames := w.l.w.end.pos
	files := read(t, mem)
	w.l.Close()
	name := activeName(t, files)
	b := bytes.Clone(files[name])
	second := bytes.Index(b[segmentHeaderSize+1:], magicBytes) + segmentHeaderSize + 1 // the first of the second batch
	hole := bytes.Index(b[second+1:], magicBytes) + second + 1
	b[hole+FrameHeaderSize] ^= 1
	fsys := place(t, files.With(name, b[:frames]))
	l, report, err := Open(tortureConfig(fsys), &testBirth, Proof{})
	if err != nil || len(report.Torn) != 1 || l.End() != 3 {
		t.Fatalf("not what this test is about: %+v, %v", report, err)
	}
	if err := errors.Join(put(l, true, "new 3", "new 4", "new 5", "new 6"), put(l, true, "new 7"), l.Close()); err != nil {
		t.Fatal(err)
	}
	want := map[int64]string{0: w.acked[0], 1: w.acked[1], 2: w.acked[2], 3: "new 3", 4: "new 4", 5: "new 5", 6: "new 6", 7: "new 7"}
	files = read(t, fsys)
	l, report, err = OpenReadOnly(tortureConfig(place(t, files.With(manifestName, []byte("spoiled")))), &testBirth, ReadOnlyOptions{})
	if err != nil || len(report.Problems) != 1 {
		t.Fatalf("%+v, %v", report, err)
	}
	defer l.Close()
	for from := range int64(8) {
		got := map[int64]string{}
		r := l.NewReader(from, ReaderOptions{})
		for {
			f, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("from %d: %v", from, err)
			}
			var rec Record
			for ok, err := f.Next(&rec); ok; ok, err = f.Next(&rec) {
				if got[rec.Offset] = string(rec.Value); err != nil {
					t.Fatal(err)
				}
			}
		}
		r.Close()
		for off := from; off < 8; off++ {
			if got[off] != want[off] {
				t.Errorf("from %d: offset %d holds %q, want %q", from, off, got[off], want[off])
			}
		}
	}
	if verified, err := l.Verify(t.Context(), nil); err != nil || len(verified.Problems) > 0 || verified.Records != 8 {
		t.Errorf("verify: %+v, %v", verified, err)
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

// The manifest and the header of the first segment are damaged: its records were passed over, as if the log began behind them.
func TestWithoutItsManifestALogReadsASegmentWhoseHeaderIsDamaged(t *testing.T) {
	mem := vfs.NewMem()
	l := create(t, testConfig(mem))
	want := 0
	for range 300 {
		mustPut(t, l, "value")
		want++
	}
	segments := l.Segments()
	l.Close()
	files := read(t, mem).With(manifestName, []byte("spoiled"))
	for _, s := range []int{0, 1, len(segments) - 1} {
		name := segments[s].Name
		l, _, err := OpenReadOnly(testConfig(place(t, files.With(name, damage.Flip(files[name], 500)))), &testBirth, ReadOnlyOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got, problems := contents(t, l); len(got) != want || len(problems) > 0 || l.Start() != 0 {
			t.Errorf("header of %s: %d records of %d from %d on, %v", name, len(got), want, l.Start(), problems)
		}
		if report, err := l.Verify(t.Context(), nil); err != nil || len(report.Problems) != 1 {
			t.Errorf("header of %s: verify: %+v, %v", name, report, err)
		}
		l.Close()
	}
}
