package log

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/braid-go/braid/internal/vfs"
)

// frameSizes are such that frames lie across the ends of what is read at once, below and above the size from which on they get memory of their own.
var frameSizes = []int{100, 70_000, 30_000, 1_000, 31_000, 120_000, 120_000, 33_000, 5, 300_000, 20_000, 20_000, 20_000, 20_000}

// putFrames appends frames of the sizes, several times over, compressed as codec says. Its values tell which they are, and so do headers, if there are to be
// any. It returns how many bytes the values have.
func putFrames(t testing.TB, l *Log, rounds int, sizes []int, headers bool, codec func(frame int) Codec) (total int) {
	t.Helper()
	for i := range rounds * len(sizes) {
		b := NewBuilder(0)
		l.Begin(b)
		m := l.Meta(b)
		m.Codec = codec(i)
		b.Begin(m)
		for size := sizes[i%len(sizes)]; size > 0; size -= 1000 {
			v := valueAt(i, size)
			var with []Header
			if headers {
				with = []Header{{Key: "h", Value: v[:min(len(v), 5)]}}
			}
			if err := b.Append(int64(i), []byte("key"), v, with); err != nil {
				t.Fatal(err)
			}
			total += len(v)
		}
		if err := errors.Join(b.End(), l.Write(b), l.Sync()); err != nil {
			t.Fatal(err)
		}
	}
	return total
}

// valueAt is the value that begins where so many bytes of its frame are left, and takes up to 1000 of them. A compressor can do with half of it.
func valueAt(frame, left int) []byte {
	v := make([]byte, min(left, 1000))
	random := rand.New(rand.NewPCG(uint64(frame), uint64(left)))
	for i := range (len(v) + 1) / 2 {
		v[i] = byte(random.Uint32())
	}
	return v
}

// readAll reads a log to its end and gives each record to visit, which may be nil.
func readAll(t testing.TB, l *Log, o ReaderOptions, visit func(frame int, rec Record)) {
	t.Helper()
	r := l.NewReader(0, o)
	defer r.Close()
	for {
		f, err := r.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		for {
			var rec Record
			ok, err := f.Next(&rec)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			if visit != nil {
				visit(int(rec.Time), rec)
			}
		}
	}
}

func TestRecordsThatOwnTheirMemoryStayAsTheyAre(t *testing.T) {
	cfg := testConfig(vfs.NewMem())
	cfg.SegmentBytes = 2 << 20
	l := create(t, cfg)
	defer l.Close()
	putFrames(t, l, 6, frameSizes, true, func(i int) Codec { return Codec(i % 4 % 3) })
	kept := map[int][]Record{}
	readAll(t, l, ReaderOptions{}, func(frame int, rec Record) { kept[frame] = append(kept[frame], rec) })
	for i := range 6 * len(frameSizes) {
		size := frameSizes[i%len(frameSizes)]
		for _, rec := range kept[i] {
			want := valueAt(i, size)
			if string(rec.Key) != "key" || !bytes.Equal(rec.Value, want) || !bytes.Equal(rec.Headers[0].Value, want[:min(len(want), 5)]) {
				t.Fatalf("offset %d, kept while others were read, is %q: %.20q now, want %.20q", rec.Offset, rec.Key, rec.Value, want)
			}
			size -= 1000
		}
		if size > 0 {
			t.Fatalf("frame %d is %d bytes short", i, size)
		}
	}
}

// What a reader allocates is the memory that its records keep, and a few buffers.
func TestAReaderAllocatesWhatItsRecordsKeep(t *testing.T) {
	large, small := []int{120_000, 100_000}, []int{2_000}
	for _, c := range []struct {
		name  string
		sizes []int
		codec Codec
		reuse bool
		most  func(bytes int) int
	}{
		{"reused", large, CodecNone, true, func(int) int { return 1 << 20 }},
		{"reused, compressed", large, CodecS2, true, func(int) int { return 1 << 20 }},
		{"owned", large, CodecNone, false, func(n int) int { return n*106/100 + 1<<20 }},
		{"owned, small frames", small, CodecNone, false, func(n int) int { return n*112/100 + 1<<20 }},
		{"owned, compressed", large, CodecS2, false, func(n int) int { return n*106/100 + 1<<20 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := testConfig(vfs.NewMem())
			cfg.SegmentBytes = 64 << 20
			l := create(t, cfg)
			defer l.Close()
			total := putFrames(t, l, 24_000_000/2/c.sizes[0], c.sizes, false, func(int) Codec { return c.codec })
			got := allocated(func() { readAll(t, l, ReaderOptions{Reuse: c.reuse}, nil) })
			if most := c.most(total); got > uint64(most) {
				t.Errorf("%d bytes allocated to read %d bytes, want at most %d", got, total, most)
			}
		})
	}
}
