package log

import (
	"bytes"
	"errors"
	"flag"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/braid-go/braid/internal/damage"
	"github.com/braid-go/braid/internal/vfs"
)

var long = flag.Bool("long", false, "enumerate every case of tears and flips, not a part of them")

// tornLog is a log that was not closed, of whose active segment a region may be torn.
type tornLog struct {
	files  damage.Files
	active string
	region mark // its first offset, and where it begins in the active segment
	proof  Proof
	frames []FrameHeader // those in the region, one behind the other
	held   map[int64]string
	end    int64
}

// readRegion takes the frames of the region out of the active segment.
func (l *tornLog) readRegion(t *testing.T) {
	t.Helper()
	for b := l.files[l.active][l.region.pos:]; len(b) > 0; {
		h, err := ParseFrameHeader(b)
		if err != nil {
			break
		}
		l.frames = append(l.frames, h)
		b = b[h.Size():]
	}
	if len(l.frames) < 2 || l.frames[0].Base != l.region.off {
		t.Fatalf("the region has %d frames", len(l.frames))
	}
}

// afterWorkload is the log of the torture tests, torn within its last batch.
func afterWorkload(t *testing.T) *tornLog {
	t.Helper()
	files, w := built(t, false)
	l := &tornLog{files: files, active: activeName(t, files), held: w.acked}
	for pos := segmentHeaderSize; ; {
		h, err := ParseFrameHeader(files[l.active][pos:])
		if err != nil {
			break
		}
		if l.end = h.End(); l.region.off != h.DurableThrough {
			l.region = mark{h.DurableThrough, int64(pos)}
		}
		pos += h.Size()
	}
	l.readRegion(t)
	for off := range l.held { // retention has taken the oldest
		if off < firstOffset(t, files) {
			delete(l.held, off)
		}
	}
	return l
}

func firstOffset(t *testing.T, files damage.Files) int64 {
	t.Helper()
	m, err := decodeManifest(files[manifestName])
	if err != nil {
		t.Fatal(err)
	}
	return m.segments[0].base
}

// afterApplying is a log with frames that the commit log has, of which the last was not applied.
func afterApplying(t *testing.T) *tornLog {
	t.Helper()
	mem := vfs.NewMem()
	l := create(t, tortureConfig(mem))
	mustPut(t, l, "direct")
	mustPut(t, l, "direct too")
	torn := &tornLog{region: mark{l.End(), l.w.end.pos}, held: map[int64]string{0: "direct", 1: "direct too"}}
	for i, values := range [][]string{{"a", "b"}, {strings.Repeat("c", 50)}, {"not applied"}} {
		for _, v := range values {
			torn.held[int64(len(torn.held))] = v
		}
		p := assign(t, l, values...)
		torn.proof.Logged = append(torn.proof.Logged, p.entry)
		if i < 2 {
			p.apply(t, l)
		}
	}
	torn.end, torn.files = l.End(), read(t, mem)
	torn.active = activeName(t, torn.files)
	torn.readRegion(t)
	return torn
}

// read returns the files of a log.
func read(t testing.TB, fsys vfs.FS) damage.Files {
	t.Helper()
	entries, err := fsys.List("log")
	if err != nil {
		t.Fatal(err)
	}
	files := damage.Files{}
	for _, e := range entries {
		if files[e.Name()], err = vfs.ReadFile(fsys, "log/"+e.Name(), 1<<20); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// keptEnd is where the frames end that are whole in other bytes of the active segment, from the region's beginning on.
func (l *tornLog) keptEnd(torn []byte) int64 {
	whole := l.files[l.active]
	end, pos := l.region.off, int(l.region.pos)
	for _, h := range l.frames {
		next := pos + h.Size()
		if next > len(torn) || !bytes.Equal(torn[pos:next], whole[pos:next]) {
			break
		}
		end, pos = h.End(), next
	}
	return end
}

// check opens the torn log: it ends with the given offset, holds everything before it and nothing else, reports no damage, has kept what it
// cut, takes a record, and is the same when it is opened again.
func (l *tornLog) check(t *testing.T, tear damage.Tear, torn []byte, end int64) {
	t.Helper()
	fsys := place(t, l.files.With(l.active, torn))
	cfg := tortureConfig(fsys)
	log, report, err := Open(cfg, &testBirth, l.proof)
	if err != nil {
		t.Fatalf("%v: %v", tear, err)
	}
	want := maps.Clone(l.held)
	maps.DeleteFunc(want, func(off int64, _ string) bool { return off >= end })
	l.compare(t, tear, log, report, want)
	if log.End() != end {
		t.Fatalf("%v: ends at %d, want %d", tear, log.End(), end)
	}
	kept := 0
	for name, b := range read(t, fsys) {
		if strings.Contains(name, tornSuffix) {
			kept++
			if !bytes.Contains(torn, b) || len(report.Torn) != 1 || report.Torn[0].File != name {
				t.Fatalf("%v: kept %x, reported %+v", tear, b, report.Torn)
			}
		}
	}
	if lost := len(bytes.TrimRight(torn[l.bytesBefore(end, torn):], "\x00")) > 0; len(l.proof.Logged) == 0 && lost != (kept == 1) {
		t.Fatalf("%v: %d files kept of what was cut", tear, kept)
	}
	if err := errors.Join(put(log, true, "goes on"), log.Close()); err != nil {
		t.Fatalf("%v: %v", tear, err)
	}
	want[end] = "goes on"
	log, report, err = Open(cfg, &testBirth, Proof{})
	if err != nil || report.Recovered {
		t.Fatalf("%v, opened again: %+v, %v", tear, report, err)
	}
	l.compare(t, tear, log, report, want)
	log.Close()
}

// bytesBefore is where the frames below an offset end in torn.
func (l *tornLog) bytesBefore(end int64, torn []byte) int {
	pos := int(l.region.pos)
	for _, h := range l.frames {
		if h.End() <= end {
			pos += h.Size()
		}
	}
	return min(pos, len(torn))
}

func (l *tornLog) compare(t *testing.T, tear damage.Tear, log *Log, report *Report, want map[int64]string) {
	t.Helper()
	got, problems := contents(t, log)
	if !maps.Equal(got, want) || len(problems)+len(report.Problems) > 0 {
		t.Fatalf("%v: %s %v %v", tear, cmp.Diff(want, got), problems, report.Problems)
	}
}

// The last batch, torn: cut at every byte, or any range of it zeros or garbage. Its whole frames in front stand, the rest is kept aside.
func TestEveryTearOfTheLastBatchLeavesItsWholeFrames(t *testing.T) {
	l := afterWorkload(t)
	whole := l.files[l.active]
	end := int(l.region.pos)
	for _, h := range l.frames {
		end += h.Size()
	}
	cases := 0
	for tear := range damage.Tears(int(l.region.pos), end, damage.Step(*long, 7), "zeros", "garbage") {
		torn := tear.Apply(whole, nil)
		l.check(t, tear, torn, l.keptEnd(torn))
		cases++
	}
	t.Logf("torn cases: %d", cases)
}

// Frames that the commit log has, torn in the segment, with zeros that were made ahead behind them: all of them are there.
func TestEveryTearOfLoggedFramesIsMadeGood(t *testing.T) {
	l := afterApplying(t)
	whole := l.files[l.active]
	end := int(l.region.pos) + 24 // into the zeros
	for _, h := range l.frames {
		end += h.Size()
	}
	cases := 0
	for tear := range damage.Tears(int(l.region.pos), min(end, len(whole)), damage.Step(*long, 5), "zeros", "garbage") {
		l.check(t, tear, tear.Apply(whole, nil), l.end)
		cases++
	}
	t.Logf("torn cases: %d", cases)
}
