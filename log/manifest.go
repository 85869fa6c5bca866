package log

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"

	"github.com/braid-go/braid/internal/vfs"
)

const (
	manifestName    = "MANIFEST"
	manifestMagic   = 0xe1b96d4a
	manifestVersion = 1
	maxManifest     = 64 << 20
	maxParents      = 1 << 16
)

// manifest lists a log's segments. It is written whole.
//
//	magic u32 | version u32 | topic u64 | partition u64 | range u64 u64 | parents: count u32, u64 each |
//	salt u32 | next unique number u32 | durable end i64 |
//	segments: count u32, then each: base i64, unique u32, sealed u8, size i64, end i64,
//	max time i64, last append i64, index checksum u32 |
//	CRC32C u32 of all before
//
// The last segment is the active one: its size, end and times are zero here.
type manifest struct {
	birth      Birth
	salt       uint32
	nextUnique uint32
	durable    int64 // every offset below is durable
	segments   []segmentEntry
}

// segmentEntry is a segment in the manifest.
type segmentEntry struct {
	base       int64
	unique     uint32
	sealed     bool
	size, end  int64
	maxTime    int64
	lastAppend int64
	indexSum   uint32
}

func (m *manifest) encode() []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, manifestMagic)
	b = le.AppendUint32(b, manifestVersion)
	for _, v := range []uint64{m.birth.TopicID, m.birth.PartitionID, m.birth.Lo, m.birth.Hi} {
		b = le.AppendUint64(b, v)
	}
	b = le.AppendUint32(b, uint32(len(m.birth.Parents)))
	for _, p := range m.birth.Parents {
		b = le.AppendUint64(b, p)
	}
	b = le.AppendUint32(b, m.salt)
	b = le.AppendUint32(b, m.nextUnique)
	b = le.AppendUint64(b, uint64(m.durable))
	b = le.AppendUint32(b, uint32(len(m.segments)))
	for _, s := range m.segments {
		b = le.AppendUint64(b, uint64(s.base))
		b = le.AppendUint32(b, s.unique)
		sealed := byte(0)
		if s.sealed {
			sealed = 1
		}
		b = append(b, sealed)
		for _, v := range []int64{s.size, s.end, s.maxTime, s.lastAppend} {
			b = le.AppendUint64(b, uint64(v))
		}
		b = le.AppendUint32(b, s.indexSum)
	}
	return le.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// fields takes fixed-size numbers from an encoding.
type fields struct {
	b   []byte
	bad bool
}

func (f *fields) take(n int) []byte {
	if len(f.b) < n {
		f.b, f.bad = nil, true
		return make([]byte, n)
	}
	v := f.b[:n]
	f.b = f.b[n:]
	return v
}

func (f *fields) u32() uint32 { return binary.LittleEndian.Uint32(f.take(4)) }
func (f *fields) u64() uint64 { return binary.LittleEndian.Uint64(f.take(8)) }
func (f *fields) i64() int64  { return int64(f.u64()) }

// checkVersion refuses the version of a file that this package does not know.
func checkVersion(what string, version, known uint32) error {
	switch {
	case version == known:
		return nil
	case version > known:
		return fmt.Errorf("%w: %s version %d", ErrVersion, what, version)
	}
	return fmt.Errorf("%s version %d", what, version)
}

func decodeManifest(b []byte) (*manifest, error) {
	if len(b) < 12 {
		return nil, fmt.Errorf("manifest is cut short at %d bytes", len(b))
	}
	body, sum := b[:len(b)-4], binary.LittleEndian.Uint32(b[len(b)-4:])
	if got := crc32.Checksum(body, castagnoli); got != sum {
		return nil, fmt.Errorf("manifest: checksum is %08x, should be %08x", got, sum)
	}
	f := &fields{b: body}
	if magic := f.u32(); magic != manifestMagic {
		return nil, fmt.Errorf("not a manifest: magic %08x", magic)
	}
	if err := checkVersion("manifest", f.u32(), manifestVersion); err != nil {
		return nil, err
	}
	m := &manifest{}
	m.birth = Birth{TopicID: f.u64(), PartitionID: f.u64(), Lo: f.u64(), Hi: f.u64()}
	parents := f.u32()
	if parents > maxParents || int(parents)*8 > len(f.b) {
		return nil, fmt.Errorf("manifest: %d parents", parents)
	}
	for range parents {
		m.birth.Parents = append(m.birth.Parents, f.u64())
	}
	m.salt, m.nextUnique = f.u32(), f.u32()
	m.durable = f.i64()
	const entrySize = 8 + 4 + 1 + 4*8 + 4
	n := f.u32()
	if n == 0 || uint64(n)*entrySize != uint64(len(f.b)) {
		return nil, fmt.Errorf("manifest: %d segments in %d bytes", n, len(f.b))
	}
	for range n {
		s := segmentEntry{base: f.i64(), unique: f.u32()}
		sealed := f.take(1)[0]
		f.bad = f.bad || sealed > 1
		s.sealed = sealed == 1
		s.size, s.end, s.maxTime, s.lastAppend = f.i64(), f.i64(), f.i64(), f.i64()
		s.indexSum = f.u32()
		m.segments = append(m.segments, s)
	}
	if f.bad {
		return nil, errors.New("manifest: a field has a value that it cannot have")
	}
	return m, m.check()
}

// check refuses a manifest that contradicts itself.
func (m *manifest) check() error {
	end, unique := int64(0), int64(-1)
	for i, s := range m.segments {
		last := i == len(m.segments)-1
		possible := s.base >= end && int64(s.unique) > unique && s.unique < m.nextUnique && s.sealed != last
		if s.sealed {
			possible = possible && s.end >= s.base && s.size >= segmentHeaderSize
		} else {
			possible = possible && s == segmentEntry{base: s.base, unique: s.unique}
		}
		if !possible {
			return fmt.Errorf("manifest: segment %d is impossible: %+v", i, s)
		}
		end, unique = max(s.base, s.end), int64(s.unique)
	}
	if m.durable < 0 {
		return fmt.Errorf("manifest: durable end %d", m.durable)
	}
	return nil
}

// readManifest reads a log's manifest. One that is gone is MissingDataError, one that is damaged is
// CorruptError.
func readManifest(c *Config) (*manifest, error) {
	b, err := vfs.ReadFile(c.FS, c.path(manifestName), maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &MissingDataError{Dir: c.Dir, File: manifestName, Reason: "the manifest is gone"}
	}
	if errors.Is(err, vfs.ErrTooLarge) || errors.Is(err, vfs.ErrNotRegular) {
		return nil, &CorruptError{Dir: c.Dir, File: manifestName, Len: -1, Reason: err.Error()}
	}
	if err != nil {
		return nil, err
	}
	m, err := decodeManifest(b)
	if err != nil && !errors.Is(err, ErrVersion) {
		err = &CorruptError{Dir: c.Dir, File: manifestName, Len: int64(len(b)), Reason: err.Error()}
	}
	return m, err
}

func writeManifest(c *Config, m *manifest) error {
	return wrap(vfs.WriteFileAtomic(c.FS, c.path(manifestName), m.encode()), "write manifest")
}
