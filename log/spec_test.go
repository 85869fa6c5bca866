package log

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/leanovate/gopter"
	"github.com/leanovate/gopter/gen"
	"github.com/leanovate/gopter/prop"

	"github.com/braid-go/braid/internal/vfs"
)

func TestNoOffsetBelowACommittedPositionIsGivenOutAgain(t *testing.T) {
	cfg := testConfig(vfs.NewMem())
	cfg.Mode = ModeOS
	l := create(t, cfg)
	mustPut(t, l, "a", "b")
	l.Close()
	l, report, err := Open(cfg, &testBirth, Proof{MinNext: 10})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if report.GapFrom != 2 || report.GapNext != 10 || l.VisibleEnd() != 10 || report.Clean() {
		t.Errorf("report %+v, visible end %d; want the gap from 2 to 10 reported", report, l.VisibleEnd())
	}
	r := l.NewReader(10, ReaderOptions{})
	defer r.Close()
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("reading at the committed position: %v, want io.EOF", err)
	}
	mustPut(t, l, "c")
	got, problems := contents(t, l)
	if diff := cmp.Diff(map[int64]string{0: "a", 1: "b", 10: "c"}, got); diff != "" || len(problems) > 0 {
		t.Error(diff, problems)
	}
}

func TestWhatTheCallerProvesWasDurableIsMissedIfItIsNotThere(t *testing.T) {
	cfg := testConfig(vfs.NewMem())
	l := create(t, cfg)
	mustPut(t, l, "a", "b")
	l.Close()
	l, report, err := Open(cfg, &testBirth, Proof{Durable: 5})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if !covered(report.Problems, 2) || !covered(report.Problems, 4) || covered(report.Problems, 1) || l.End() != 5 {
		t.Errorf("%v, end %d; want offsets 2 to 4 reported and 5 next", report.Problems, l.End())
	}
}

func TestASegmentThatIsGoneIsReportedAndTheRestReadable(t *testing.T) {
	mem := vfs.NewMem()
	cfg := testConfig(mem)
	l := create(t, cfg)
	for i := range 300 {
		mustPut(t, l, fmt.Sprint(i))
	}
	segments := l.Segments()
	l.Close()
	gone := segments[1]
	if err := mem.Remove("log/" + gone.Name); err != nil {
		t.Fatal(err)
	}
	l, report := reopen(t, cfg)
	defer l.Close()
	got, problems := contents(t, l)
	for _, list := range [][]error{report.Problems, problems} {
		var m *MissingDataError
		if len(list) != 1 || !errors.As(list[0], &m) || m.From != gone.Base || m.Next != gone.End || m.File != gone.Name {
			t.Errorf("problems %v, want %s from %d to %d missing", list, gone.Name, gone.Base, gone.End)
		}
	}
	if want := 300 - int(gone.End-gone.Base); len(got) != want {
		t.Errorf("%d records readable, want %d", len(got), want)
	}
}

func TestASegmentTheManifestDoesNotKnowRefusesWriting(t *testing.T) {
	mem := vfs.NewMem()
	cfg := testConfig(mem)
	l := create(t, cfg)
	mustPut(t, l, "a")
	l.Close()
	old, err := vfs.ReadFile(mem, "log/"+manifestName, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	l, _ = reopen(t, cfg)
	for i := range 300 {
		mustPut(t, l, fmt.Sprint(i))
	}
	l.Close()
	if err := vfs.WriteFileAtomic(mem, "log/"+manifestName, old); err != nil { // rolled back
		t.Fatal(err)
	}
	if _, _, err := Open(cfg, &testBirth, Proof{}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("error %v, want ErrCorrupt", err)
	}
}

func TestALogOpensForReadingWithoutItsManifest(t *testing.T) {
	mem := vfs.NewMem()
	cfg := testConfig(mem)
	l := create(t, cfg)
	for i := range 300 {
		mustPut(t, l, fmt.Sprint(i))
	}
	l.Close()
	f, err := mem.OpenReadWrite("log/" + manifestName)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{0xff}, 20); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if _, _, err := Open(cfg, &testBirth, Proof{}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("for writing: error %v, want ErrCorrupt", err)
	}
	l, report, err := OpenReadOnly(cfg, &testBirth, ReadOnlyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got, problems := contents(t, l); len(got) != 300 || len(problems) > 0 || len(report.Problems) == 0 {
		t.Errorf("%d records, %v; want 300, and the manifest reported: %v", len(got), problems, report.Problems)
	}
}

func TestAnotherLogsDirectoryIsRefused(t *testing.T) {
	cfg := testConfig(vfs.NewMem())
	create(t, cfg).Close()
	other := testBirth
	other.PartitionID++
	if _, _, err := Open(cfg, &other, Proof{}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("error %v, want ErrCorrupt", err)
	}
	cfg.Dir = "nowhere"
	if _, _, err := Open(cfg, nil, Proof{}); !errors.Is(err, ErrMissingData) {
		t.Errorf("no directory: error %v, want ErrMissingData", err)
	}
}

func TestOffsetAtFindsTheFirstRecordOfATime(t *testing.T) {
	l := create(t, testConfig(vfs.NewMem()))
	defer l.Close()
	b := NewBuilder(0)
	for i := range 200 { // times rise by 10 with every frame of three records
		l.Begin(b)
		b.Begin(l.Meta(b))
		for j := range 3 {
			if err := b.Append(int64(10*i+j), nil, []byte("some text to fill the segments"), nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(b.End(), l.Write(b), l.Sync()); err != nil {
			t.Fatal(err)
		}
	}
	for at, want := range map[int64]int64{math.MinInt64: 0, -5: 0, 0: 0, 1: 1, 3: 3, 10: 3, 505: 153, 1992: 599, 1993: 600, math.MaxInt64: 600} {
		if got, err := l.OffsetAt(at); err != nil || got != want {
			t.Errorf("time %d: offset %d, %v; want %d", at, got, err, want)
		}
	}
}

func TestAgeRemovesSegmentsAndAJumpingClockDoesNot(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	cfg := testConfig(vfs.NewMem())
	cfg.Now = func() time.Time { return now }
	l := create(t, cfg)
	defer l.Close()
	for i := range 300 {
		mustPut(t, l, fmt.Sprint(i))
	}
	segments := len(l.Segments())
	policy := Retention{MaxAge: time.Hour}
	retain := func() int {
		t.Helper()
		removed, err := l.Retain(policy)
		if err != nil {
			t.Fatal(err)
		}
		return len(removed)
	}
	if n := retain(); n != 0 {
		t.Errorf("%d segments removed that are not old", n)
	}
	now = now.Add(48 * time.Hour) // in no time at all
	if n := retain(); n != 0 {
		t.Errorf("%d segments removed because the clock was set forward", n)
	}
	if n := retain(); n != segments-1 { // the clock has been right for a while, as far as anybody can tell
		t.Errorf("%d of %d segments removed, want all but the active one", n, segments)
	}
	now = now.Add(-24 * 365 * time.Hour)
	mustPut(t, l, "written while the clock was wrong")
	b := NewBuilder(0)
	l.Begin(b)
	if m := l.Meta(b); m.AppendTime < time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano() {
		t.Errorf("the append time fell to %v", time.Unix(0, m.AppendTime))
	}
}

func TestAFailedLogStaysFailed(t *testing.T) {
	l := create(t, testConfig(vfs.NewMem()))
	mustPut(t, l, "a")
	cause := errors.New("cause")
	l.Fail(cause)
	l.Fail(errors.New("a later one"))
	for name, err := range map[string]error{"Write": put(l, false, "b"), "Sync": l.Sync(), "Mark": l.Mark(), "Err": l.Err()} {
		if !errors.Is(err, ErrFailed) || !errors.Is(err, cause) {
			t.Errorf("%s: %v, want ErrFailed with the first cause", name, err)
		}
	}
	if got, _ := contents(t, l); len(got) != 1 {
		t.Errorf("%d records readable, want 1", len(got))
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := l.NewReader(0, ReaderOptions{}).Next(); !errors.Is(err, ErrClosed) {
		t.Errorf("reading after Close: %v, want ErrClosed", err)
	}
}

func TestNotifyTellsOfEveryChange(t *testing.T) {
	l := create(t, testConfig(vfs.NewMem()))
	ch := make(chan struct{}, 1)
	cancel := l.Notify(func() {
		select {
		case ch <- struct{}{}:
		default:
		}
	})
	told := func() bool {
		select {
		case <-ch:
			return true
		default:
			return false
		}
	}
	mustPut(t, l, "a")
	if !told() {
		t.Error("not told of a record")
	}
	l.Fail(errors.New("x"))
	if !told() {
		t.Error("not told of the failure")
	}
	l.Close()
	if !told() {
		t.Error("not told of the close")
	}
	cancel()
	cancel()
}

func TestFramesOfEveryCodecRoundTrip(t *testing.T) {
	properties := gopter.NewProperties(nil)
	properties.Property("records come back as they went in", prop.ForAll(
		func(keys, values []string, times []int64, codec uint8, nilKey, early bool) bool {
			b := NewBuilder(77)
			b.Begin(FrameMeta{Base: 5, PrevEnd: 3, AppendTime: 1000, Partition: 9, Codec: Codec(codec % 3), Early: early})
			var want []Record
			for i, v := range values {
				r := Record{Offset: 5 + int64(i), Value: []byte(v), Headers: []Header{{Key: v, Value: nil}, {Key: "", Value: []byte(v)}}, Early: early}
				if i < len(keys) && !nilKey {
					r.Key = []byte(keys[i])
				}
				if i < len(times) {
					r.Time = times[i]
				}
				if i%2 == 0 {
					r.Headers = nil
				}
				if err := b.Append(r.Time, r.Key, r.Value, r.Headers); err != nil {
					return false
				}
				want = append(want, r)
			}
			if b.End() != nil {
				return false
			}
			if len(want) == 0 {
				return len(b.Bytes()) == 0
			}
			for _, reuse := range []bool{false, true} {
				d := Decoder{Reuse: reuse}
				f, err := d.Decode(77, b.Bytes())
				if err != nil || f.End() != 5+int64(len(want)) || f.PrevEnd != 3 || f.Partition != 9 {
					return false
				}
				for i := range want {
					var got Record
					if ok, err := f.Next(&got); !ok || err != nil || !cmp.Equal(want[i], got) {
						return false
					}
				}
				if ok, err := f.Next(&Record{}); ok || err != nil {
					return false
				}
			}
			return true
		},
		gen.SliceOf(gen.AnyString()), gen.SliceOf(gen.AnyString()), gen.SliceOf(gen.Int64()), gen.UInt8(), gen.Bool(), gen.Bool()))
	properties.TestingRun(t)
}

// aFrame returns a frame with records of all kinds.
func aFrame(t testing.TB, salt uint32, codec Codec) []byte {
	t.Helper()
	return frameOf(t, salt, FrameMeta{Base: 100, PrevEnd: 98, AppendTime: 1_700_000_000_000_000_000, DurableThrough: 90, Partition: 4, TxnID: 5, ProvenSequence: 6, Codec: codec, Weak: true})
}

// anEarlyFrame returns one whose records were acknowledged before they were synced.
func anEarlyFrame(t testing.TB, salt uint32) []byte {
	t.Helper()
	return frameOf(t, salt, FrameMeta{Base: 100, PrevEnd: 98, AppendTime: 1_700_000_000_000_000_000, DurableThrough: 90, Partition: 4, ProvenSequence: 6, Early: true})
}

func frameOf(t testing.TB, salt uint32, meta FrameMeta) []byte {
	t.Helper()
	b := NewBuilder(salt)
	b.Begin(meta)
	for _, r := range []Record{
		{Time: 1_700_000_000_000_000_001, Value: []byte("value")},
		{Time: 1_699_999_999_999_999_999, Key: []byte{}, Value: nil},
		{Time: 0, Key: []byte("key"), Value: bytes.Repeat([]byte("compressible "), 40), Headers: []Header{{Key: "h", Value: []byte("1")}, {Key: "", Value: nil}, {Key: "e", Value: []byte{}}}},
	} {
		if err := b.Append(r.Time, r.Key, r.Value, r.Headers); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.End(); err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(b.Bytes())
}

func TestEveryFlippedBitOfAFrameIsNoticed(t *testing.T) {
	for _, codec := range []Codec{CodecNone, CodecS2, CodecZstd} {
		good := aFrame(t, 1, codec)
		for bit := range len(good) * 8 {
			bad := bytes.Clone(good)
			bad[bit/8] ^= 1 << (bit % 8)
			if _, err := (&Decoder{}).Decode(1, bad); err == nil {
				t.Fatalf("%v: bit %d of byte %d flipped unnoticed", codec, bit%8, bit/8)
			}
		}
	}
}

func TestAFrameInsideARecordIsNotTakenForOne(t *testing.T) {
	mem := vfs.NewMem()
	cfg := testConfig(mem)
	cfg.SegmentBytes = 1 << 20
	l := create(t, cfg)
	foreign := aFrame(t, l.salt+1, CodecNone)
	own := bytes.Clone(foreign)
	h, err := ParseFrameHeader(own)
	if err != nil {
		t.Fatal(err)
	}
	h.Partition, h.Base, h.PrevEnd, h.DurableThrough = testBirth.PartitionID, 50, 50, 50
	h.put(l.salt+1, own) // all but the salt is right
	mustPut(t, l, string(foreign), string(own))
	mustPut(t, l, "last")
	active := l.Segments()[0].Name
	l.Close()
	f, err := mem.OpenReadWrite("log/" + active)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{0}, segmentHeaderSize); err != nil { // the frame around them is damaged: recovery looks inside
		t.Fatal(err)
	}
	f.Close()
	l, _ = reopen(t, cfg)
	defer l.Close()
	got, problems := contents(t, l)
	if diff := cmp.Diff(map[int64]string{2: "last"}, got); diff != "" || len(problems) != 1 {
		t.Error(diff, problems)
	}
}

func TestLyingLengthsAreRefusedBeforeAnythingIsAllocated(t *testing.T) {
	bomb := NewBuilder(1)
	bomb.Begin(FrameMeta{Codec: CodecZstd})
	if err := bomb.Append(0, nil, make([]byte, 32<<20), nil); err != nil {
		t.Fatal(err)
	}
	if err := bomb.End(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*FrameHeader){
		"says less than it unpacks to": func(h *FrameHeader) { h.RawLen = 100 },
		"says more":                    func(h *FrameHeader) { h.RawLen += 1 },
	} {
		b := bytes.Clone(bomb.Bytes())
		h, err := ParseFrameHeader(b)
		if err != nil {
			t.Fatal(err)
		}
		change(&h)
		h.put(1, b)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := (&Decoder{}).Decode(1, b); err == nil {
			t.Errorf("%s: not noticed", name)
		}
		runtime.ReadMemStats(&after)
		if got, most := after.TotalAlloc-before.TotalAlloc, uint64(h.RawLen+4<<20); got > most {
			t.Errorf("%s: %d bytes allocated, at most %d", name, got, most)
		}
	}
	for name, h := range map[string]FrameHeader{
		"body of 4 GiB":          {BodyLen: math.MaxUint32, RawLen: math.MaxUint32, Count: 1},
		"no records":             {BodyLen: 10, RawLen: 10},
		"more records than fit":  {BodyLen: 10, RawLen: 10, Count: 3},
		"base below its gap":     {BodyLen: 10, RawLen: 10, Count: 1, FrameMeta: FrameMeta{Base: 1, PrevEnd: 2}},
		"offsets that overflow":  {BodyLen: 10, RawLen: 10, Count: 1, FrameMeta: FrameMeta{Base: math.MaxInt64}},
		"negative base":          {BodyLen: 10, RawLen: 10, Count: 1, FrameMeta: FrameMeta{Base: -5, PrevEnd: -5}},
		"proves its own future":  {BodyLen: 10, RawLen: 10, Count: 1, FrameMeta: FrameMeta{DurableThrough: 1}},
		"unpacked but not equal": {BodyLen: 10, RawLen: 11, Count: 1},
	} {
		b := make([]byte, FrameHeaderSize+10)
		small := h
		small.BodyLen = min(h.BodyLen, 10)
		small.put(1, b)
		if h.BodyLen > 10 {
			h.put0(b)
		}
		if _, err := ParseFrameHeader(b); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// put0 writes the lengths of a header that cannot be sealed.
func (h *FrameHeader) put0(b []byte) {
	copy(b[atBodyLen:], []byte{0xff, 0xff, 0xff, 0xff})
	copy(b[atRawLen:], []byte{0xff, 0xff, 0xff, 0xff})
}

var update = flag.Bool("update", false, "write the golden files anew")

// The encodings of version 1 are fixed: what is written today must be read by every later version.
func TestGoldenFilesOfVersion1(t *testing.T) {
	m := &manifest{birth: testBirth, salt: 7, nextUnique: 3, durable: 12, segments: []segmentEntry{
		{base: 0, unique: 1, sealed: true, size: 500, end: 10, maxTime: 3, lastAppend: 4, indexSum: 5}, {base: 11, unique: 2}}}
	x := &index{bytes: 100, maxTime: minTime}
	x.add(0, 128, 10)
	x.add(5, 300, 20)
	encodedIndex, _ := x.encode()
	h := segmentHeader{Birth: Birth{TopicID: 1, PartitionID: 2, Lo: 3, Hi: 4}, Salt: 5, Base: 6, Unique: 7}
	for name, b := range map[string][]byte{
		"frame-none": aFrame(t, 9, CodecNone), "frame-s2": aFrame(t, 9, CodecS2), "frame-zstd": aFrame(t, 9, CodecZstd), "frame-early": anEarlyFrame(t, 9),
		"manifest": m.encode(), "index": encodedIndex, "segment-header": h.encode(),
	} {
		path := filepath.Join("testdata", "v1", name)
		if *update {
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, b, 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		golden, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if name != "frame-s2" && name != "frame-zstd" && !bytes.Equal(golden, b) { // a compressor may change what it writes
			t.Errorf("%s is encoded as\n%x, was\n%x", name, b, golden)
		}
		if name[:5] == "frame" {
			readGoldenFrame(t, name, golden)
		}
	}
	golden, _ := os.ReadFile("testdata/v1/manifest")
	got, err := decodeManifest(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(m, got, cmp.AllowUnexported(manifest{}, segmentEntry{})); diff != "" {
		t.Error(diff)
	}
}

func readGoldenFrame(t *testing.T, name string, b []byte) {
	t.Helper()
	f, err := (&Decoder{}).Decode(9, b)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	var offsets []int64
	var rec Record
	for {
		ok, err := f.Next(&rec)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		offsets = append(offsets, rec.Offset)
	}
	if diff := cmp.Diff([]int64{100, 101, 102}, offsets); diff != "" || string(rec.Key) != "key" || len(rec.Headers) != 3 || rec.Early != (name == "frame-early") {
		t.Errorf("%s: %s %+v", name, diff, rec)
	}
}

func benchRecords(size int) (key, value []byte) { return []byte("key-12345"), make([]byte, size) }

func BenchmarkEncode(b *testing.B) {
	for _, size := range []int{100, 1024} {
		b.Run(fmt.Sprint("size=", size), func(b *testing.B) {
			key, value := benchRecords(size)
			bu := NewBuilder(1)
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				if bu.FrameBytes() == 0 {
					bu.Begin(FrameMeta{})
				}
				bu.Append(0, key, value, nil)
				if bu.FrameBytes() > 128<<10 {
					bu.End()
					bu.Reset(1)
				}
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, size := range []int{100, 1024} {
		b.Run(fmt.Sprint("size=", size), func(b *testing.B) {
			key, value := benchRecords(size)
			bu := NewBuilder(1)
			bu.Begin(FrameMeta{})
			for bu.FrameBytes() < 128<<10 {
				bu.Append(0, key, value, nil)
			}
			bu.End()
			d := Decoder{Reuse: true}
			var f *Frame
			var rec Record
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				if f != nil {
					if ok, _ := f.Next(&rec); ok {
						continue
					}
				}
				f, _ = d.Decode(1, bu.Bytes())
			}
		})
	}
}

func TestAFinishedLogIsEmptiedAndKeepsItsEnd(t *testing.T) {
	cfg := testConfig(vfs.NewMem())
	l := create(t, cfg)
	for i := range 300 {
		mustPut(t, l, fmt.Sprint(i))
	}
	if _, err := l.Retain(Retention{MaxBytes: 1}); err != nil || l.Start() == 300 {
		t.Fatalf("a log that is in use has been emptied: start %d, %v", l.Start(), err)
	}
	if _, err := l.Retain(Retention{MaxBytes: 1, Finished: true}); err != nil || l.Start() != 300 || l.VisibleEnd() != 300 {
		t.Fatalf("start %d, end %d, %v; want both 300", l.Start(), l.VisibleEnd(), err)
	}
	if removed, err := l.Retain(Retention{MaxBytes: 1, Finished: true}); err != nil || len(removed) > 0 {
		t.Errorf("an empty log gave %d segments, %v", len(removed), err)
	}
	l.Close()
	l, report := reopen(t, cfg)
	defer l.Close()
	if l.Start() != 300 || l.End() != 300 || !report.Clean() {
		t.Errorf("opened again: start %d, end %d, %+v", l.Start(), l.End(), report)
	}
}
