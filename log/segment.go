package log

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/braid-go/braid/internal/vfs"
)

const (
	segmentHeaderSize = 128
	segmentReserved   = 56 // zeros from here to the checksum
	segmentMagic      = 0x9c0fe3b7
	segmentVersion    = 1
	segmentSuffix     = ".seg"
	indexSuffix       = ".idx"
	tornSuffix        = ".torn"
)

// segmentHeader is what a segment's first bytes say: enough to read the log without a manifest.
type segmentHeader struct {
	Birth  Birth // without parents
	Salt   uint32
	Base   int64
	Unique uint32
}

// encode lays the header out:
//
//	 0 magic | 4 version | 8 salt | 12 unique number | 16 base offset | 24 topic | 32 partition |
//	40 range, lowest hash | 48 range, highest hash | 56 zeros | 124 CRC32C of all before
func (h *segmentHeader) encode() []byte {
	b := make([]byte, segmentHeaderSize)
	le := binary.LittleEndian
	le.PutUint32(b[0:], segmentMagic)
	le.PutUint32(b[4:], segmentVersion)
	le.PutUint32(b[8:], h.Salt)
	le.PutUint32(b[12:], h.Unique)
	le.PutUint64(b[16:], uint64(h.Base))
	le.PutUint64(b[24:], h.Birth.TopicID)
	le.PutUint64(b[32:], h.Birth.PartitionID)
	le.PutUint64(b[40:], h.Birth.Lo)
	le.PutUint64(b[48:], h.Birth.Hi)
	le.PutUint32(b[segmentHeaderSize-4:], crc32.Checksum(b[:segmentHeaderSize-4], castagnoli))
	return b
}

func decodeSegmentHeader(b []byte) (segmentHeader, error) {
	var h segmentHeader
	if len(b) < segmentHeaderSize {
		return h, fmt.Errorf("segment header is cut short at %d bytes", len(b))
	}
	le := binary.LittleEndian
	if le.Uint32(b) != segmentMagic {
		return h, fmt.Errorf("not a segment: magic %08x", le.Uint32(b))
	}
	if sum := crc32.Checksum(b[:segmentHeaderSize-4], castagnoli); sum != le.Uint32(b[segmentHeaderSize-4:]) {
		return h, fmt.Errorf("segment header: checksum is %08x, should be %08x", sum, le.Uint32(b[segmentHeaderSize-4:]))
	}
	if err := checkVersion("segment", le.Uint32(b[4:]), segmentVersion); err != nil {
		return h, err
	}
	if slices.ContainsFunc(b[segmentReserved:segmentHeaderSize-4], func(c byte) bool { return c != 0 }) {
		return h, errors.New("segment header: something is where this version has zeros")
	}
	h.Salt, h.Unique = le.Uint32(b[8:]), le.Uint32(b[12:])
	h.Base = int64(le.Uint64(b[16:]))
	h.Birth = Birth{TopicID: le.Uint64(b[24:]), PartitionID: le.Uint64(b[32:]), Lo: le.Uint64(b[40:]), Hi: le.Uint64(b[48:])}
	return h, nil
}

// segment is one file of a log. Of a sealed one nothing changes but the three fields at the end; of the
// active one the log's lock guards what changes.
type segment struct {
	base       int64
	unique     uint32
	sealed     bool
	size       int64 // sealed: where its frames end in the file
	end        int64 // sealed: where the next segment's offsets begin, unless a gap was declared there
	maxTime    int64
	lastAppend int64
	indexSum   uint32 // sealed: checksum of the index file, 0 if there is none

	mu      sync.Mutex // guards what follows
	patches []patch    // read-only: frames that are in the commit log and not in the file
	index   *index     // active: growing; sealed: loaded when first needed
	file    vfs.File   // shared by all readers, open while there are any
	users   int
}

// Inlined with each name in an error, it would be 4 KB of instructions.
//
//go:noinline
func segmentName(base int64, unique uint32) string {
	return fmt.Sprintf("%020d-%06d%s", base, unique, segmentSuffix)
}

// begin is where the segment's first frame is.
func (s *segment) begin() mark { return mark{s.base, segmentHeaderSize} }

// holdsNone reports whether no record from an offset on is in the segment, because it was sealed before.
func (s *segment) holdsNone(off int64) bool { return s.sealed && off >= s.end }

func (s *segment) name() string { return segmentName(s.base, s.unique) }

// acquire returns the segment's file for reading; release gives it back.
func (s *segment) acquire(c *Config) (vfs.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users == 0 {
		f, err := openSegment(c, s.name())
		if errors.Is(err, vfs.ErrNotRegular) { // a link, most likely: the file that was written is not there
			err = fmt.Errorf("%w: %w", fs.ErrNotExist, err)
		}
		if err != nil {
			return nil, err
		}
		if s.file = f; len(s.patches) > 0 {
			if s.file, err = newOverlay(f, s.patches); err != nil {
				return nil, errors.Join(err, f.Close())
			}
		}
	}
	s.users++
	return s.file, nil
}

func (s *segment) release() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users--; s.users > 0 {
		return nil
	}
	f := s.file
	s.file = nil
	return f.Close()
}

// openSegment opens a segment for reading. It may still have the name under which a recovery has prepared it: see Log.putInPlace.
func openSegment(c *Config, name string) (vfs.File, error) {
	f, err := c.FS.Open(c.path(name))
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	prepared, other := c.FS.Open(c.path(name + vfs.TempSuffix))
	if errors.Is(other, fs.ErrNotExist) {
		return nil, err
	}
	return prepared, other
}

// createSegment makes a segment file that is durable but for its name, to which a suffix is added. On an error nothing of it is left.
func createSegment(c *Config, h segmentHeader, suffix string) (vfs.File, error) {
	name := c.path(segmentName(h.Base, h.Unique) + suffix)
	f, err := c.FS.Create(name)
	if err != nil {
		return nil, wrap(err, "create segment")
	}
	_, err = f.WriteAt(h.encode(), 0)
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		f.Close()
		_ = c.FS.Remove(name) // it holds nothing; what stays is swept at the next open
		return nil, wrap(err, "begin segment %s", name)
	}
	return f, nil
}

// segmentFiles lists the segment files in a log's directory.
func segmentFiles(c *Config) ([]fs.FileInfo, error) {
	entries, err := c.FS.List(c.Dir)
	if err != nil {
		return nil, err
	}
	var out []fs.FileInfo
	for _, e := range entries {
		if _, _, ok := parseSegmentName(e.Name()); ok {
			out = append(out, e)
		}
	}
	return out, nil
}

func parseSegmentName(name string) (base int64, unique uint32, ok bool) {
	first, second, _ := strings.Cut(strings.TrimSuffix(name, segmentSuffix), "-")
	base, err := strconv.ParseInt(first, 10, 64)
	n, err2 := strconv.ParseUint(second, 10, 32)
	unique = uint32(n)
	return base, unique, err == nil && err2 == nil && name == segmentName(base, unique)
}
