package log

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"slices"
	"sort"
	"strings"

	"github.com/braid-go/braid/internal/vfs"
)

const (
	indexMagic   = 0xd27a58c9
	indexVersion = 1
	indexEntryAt = 12 // size of an index file's header
	indexEntrySz = 24
)

// indexEntry says where a frame begins.
type indexEntry struct {
	base    int64 // the frame's first offset
	pos     int64
	maxTime int64 // the latest record time in the segment before this frame
}

// index is the sparse index of a segment: some frames, in order. The first is always the segment's first.
type index struct {
	entries []indexEntry
	bytes   int64 // between entries
	maxTime int64 // of all frames so far
}

// add tells the index of a frame; it keeps one about every so many bytes.
func (x *index) add(base, pos, maxTime int64) {
	if n := len(x.entries); n == 0 || pos-x.entries[n-1].pos >= x.bytes {
		before := x.maxTime
		if n == 0 {
			before = minTime
		}
		x.entries = append(x.entries, indexEntry{base, pos, before})
	}
	x.maxTime = max(x.maxTime, maxTime)
}

// minTime is before every time.
const minTime = -1 << 63

// before returns the position of a frame that begins at or before an offset.
func (x *index) before(offset int64) int64 {
	i := sort.Search(len(x.entries), func(i int) bool { return x.entries[i].base > offset })
	if i == 0 {
		return segmentHeaderSize
	}
	return x.entries[i-1].pos
}

// beforeTime returns the position of a frame that begins at or before the first record with a time of at least t.
func (x *index) beforeTime(t int64) int64 {
	i := sort.Search(len(x.entries), func(i int) bool { return x.entries[i].maxTime >= t })
	if i == 0 {
		return segmentHeaderSize
	}
	return x.entries[i-1].pos
}

func indexName(segment string) string {
	return strings.TrimSuffix(segment, segmentSuffix) + indexSuffix
}

// encode lays an index file out: magic u32 | version u32 | count u32 | entries: base, position, time |
// CRC32C of all before. The checksum is in the manifest too.
func (x *index) encode() ([]byte, uint32) {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, indexMagic)
	b = le.AppendUint32(b, indexVersion)
	b = le.AppendUint32(b, uint32(len(x.entries)))
	for _, e := range x.entries {
		b = le.AppendUint64(b, uint64(e.base))
		b = le.AppendUint64(b, uint64(e.pos))
		b = le.AppendUint64(b, uint64(e.maxTime))
	}
	sum := crc32.Checksum(b, castagnoli)
	return le.AppendUint32(b, sum), sum
}

func decodeIndex(b []byte) (*index, uint32, error) {
	le := binary.LittleEndian
	if len(b) < indexEntryAt+4 || le.Uint32(b) != indexMagic || le.Uint32(b[4:]) != indexVersion {
		return nil, 0, errors.New("not an index of this version")
	}
	sum := crc32.Checksum(b[:len(b)-4], castagnoli)
	if sum != le.Uint32(b[len(b)-4:]) {
		return nil, 0, fmt.Errorf("index: checksum is %08x, should be %08x", sum, le.Uint32(b[len(b)-4:]))
	}
	n := int64(le.Uint32(b[8:]))
	if n*indexEntrySz != int64(len(b)-indexEntryAt-4) {
		return nil, 0, fmt.Errorf("index: %d entries in %d bytes", n, len(b))
	}
	x := &index{entries: make([]indexEntry, n)}
	for i := range x.entries {
		e := b[indexEntryAt+i*indexEntrySz:]
		x.entries[i] = indexEntry{int64(le.Uint64(e)), int64(le.Uint64(e[8:])), int64(le.Uint64(e[16:]))}
		if !x.entries[i].follows(x.entries[:i]) {
			return nil, 0, fmt.Errorf("index: entry %d is impossible: %+v", i, x.entries[i])
		}
	}
	return x, sum, nil
}

// follows reports whether an entry may come behind others: searching relies on their order.
func (e indexEntry) follows(others []indexEntry) bool {
	if len(others) == 0 {
		return e.pos >= segmentHeaderSize
	}
	last := others[len(others)-1]
	return e.base > last.base && e.pos > last.pos && e.maxTime >= last.maxTime
}

// writeIndex writes the index file of a segment that is about to be sealed and returns its checksum, which the manifest keeps. The
// index is only a help, so it is not synced: a file that a crash has spoiled does not have that checksum, and readers make their own
// index. If it cannot be written the checksum is 0.
func writeIndex(c *Config, s *segment) uint32 {
	s.mu.Lock()
	b, sum := s.index.encode()
	s.mu.Unlock()
	name := c.path(indexName(s.name()))
	f, err := c.FS.Create(name)
	if errors.Is(err, fs.ErrExist) { // left by a recovery that was cut short
		if err = c.FS.Remove(name); err == nil {
			f, err = c.FS.Create(name)
		}
	}
	if err != nil {
		return 0
	}
	_, err = f.WriteAt(b, 0)
	if errors.Join(err, f.Close()) != nil {
		return 0
	}
	return sum
}

// lookup asks a segment's index. A sealed segment's index is loaded when first needed, and made anew where the file
// is missing or is not the one that the manifest knows.
func (l *Log) lookup(s *segment, ask func(*index) int64) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.index == nil {
		x, err := l.loadIndex(s)
		if err != nil {
			return 0, err
		}
		s.index = x
	}
	return ask(s.index), nil
}

func (l *Log) loadIndex(s *segment) (*index, error) {
	b, err := vfs.ReadFile(l.cfg.FS, l.cfg.path(indexName(s.name())), maxManifest)
	if err == nil {
		if x, sum, err := decodeIndex(b); err == nil && s.indexSum != 0 && sum == s.indexSum {
			return x, nil
		}
	}
	return l.buildIndex(s)
}

// buildIndex makes the index of a sealed segment from its frames, passing over damage.
func (l *Log) buildIndex(s *segment) (*index, error) {
	x := &index{bytes: l.cfg.IndexBytes, maxTime: minTime}
	f, err := l.cfg.FS.Open(l.cfg.path(s.name()))
	if errors.Is(err, fs.ErrNotExist) {
		return x, nil // the reader that asks will find that out
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sc := l.scanner(f, s.size)
	for pos, expect := int64(segmentHeaderSize), s.base; pos < s.size; {
		h, _, bad, err := sc.frame(pos)
		if err == nil && (bad != nil || h.Base < expect) {
			var ok bool
			if pos, h, ok, err = sc.find(pos+1, expect); err == nil && !ok {
				break
			}
		}
		if err != nil {
			return nil, err
		}
		x.add(h.Base, pos, h.MaxTime)
		pos, expect = pos+int64(h.Size()), h.End()
	}
	x.entries = slices.Clip(x.entries)
	return x, nil
}

// scanner returns one over a file of the log.
func (l *Log) scanner(f vfs.File, limit int64) *scanner {
	return &scanner{window: window{f: f, limit: limit}, salt: l.salt, partition: l.birth.PartitionID}
}
