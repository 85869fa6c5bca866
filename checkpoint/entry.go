package checkpoint

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"
)

const (
	entryMagic   = 0xb3e6a9d4
	entryVersion = 1
	entryHeader  = 28
	entrySum     = 8
	sectionHead  = 5

	kindSnapshot = 1
	kindCommits  = 2

	sectionCommit   = 1
	sectionSnapshot = 2

	opPut    = 1
	opDelete = 2
)

// entry is a decoded entry. Its slices are the encoding's memory.
type entry struct {
	kind     byte
	seq      uint64 // of the first commit, or what a snapshot contains
	synced   uint64
	commits  [][]op
	snapshot []Entry
}

// last is the highest sequence in the entry.
func (e *entry) last() uint64 {
	if e.kind == kindSnapshot {
		return e.seq
	}
	return e.seq + uint64(len(e.commits)) - 1
}

// beginEntry begins an encoding; endEntry seals it.
func beginEntry(b []byte, kind byte, seq, synced uint64) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, entryMagic)
	b = append(b, entryVersion, kind, 0, 0)
	b = le.AppendUint64(b, seq)
	b = le.AppendUint64(b, synced)
	return le.AppendUint32(b, 0)
}

func endEntry(b []byte, id [16]byte) []byte {
	binary.LittleEndian.PutUint32(b[24:], uint32(len(b)-entryHeader))
	return binary.LittleEndian.AppendUint64(b, checksum(id, b))
}

func checksum(id [16]byte, b []byte) uint64 {
	h := xxhash.New()
	h.Write(id[:])
	h.Write(b)
	return h.Sum64()
}

// appendSection adds a section whose content fill appends.
func appendSection(b []byte, kind byte, fill func([]byte) []byte) []byte {
	at := len(b)
	b = append(b, kind, 0, 0, 0, 0)
	b = fill(b)
	binary.LittleEndian.PutUint32(b[at+1:], uint32(len(b)-at-sectionHead))
	return b
}

func appendBytes(b, s []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}

func appendCommit(b []byte, ops []op) []byte {
	return appendSection(b, sectionCommit, func(b []byte) []byte {
		for _, o := range ops {
			if o.delete {
				b = appendBytes(append(b, opDelete), o.key)
				continue
			}
			b = appendBytes(append(b, opPut), o.key)
			b = appendBytes(b, o.value)
		}
		return b
	})
}

func encodeSnapshot(id [16]byte, s *state, seq uint64) []byte {
	b := beginEntry(nil, kindSnapshot, seq, seq)
	b = appendSection(b, sectionSnapshot, func(b []byte) []byte {
		for _, e := range s.entries(nil) {
			b = binary.LittleEndian.AppendUint64(b, uint64(e.Revision))
			b = appendBytes(b, e.Key)
			b = appendBytes(b, e.Value)
		}
		return b
	})
	return endEntry(b, id)
}

// cursor takes an encoding apart; the first thing that does not fit sets bad.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) take(n uint64) []byte {
	if n > uint64(len(c.b)) {
		c.b, c.bad = nil, true
		return nil
	}
	v := c.b[:n:n]
	c.b = c.b[n:]
	return v
}

func (c *cursor) u8() byte {
	if v := c.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (c *cursor) u32() uint32 {
	if v := c.take(4); v != nil {
		return binary.LittleEndian.Uint32(v)
	}
	return 0
}

func (c *cursor) u64() uint64 {
	if v := c.take(8); v != nil {
		return binary.LittleEndian.Uint64(v)
	}
	return 0
}

// value takes a length and that many bytes; never nil.
func (c *cursor) value() []byte {
	if v := c.take(uint64(c.u32())); v != nil {
		return v
	}
	return []byte{}
}

var errNoEntry = errors.New("no entry begins here")

// decodeEntry decodes an entry that b holds exactly. What comes out is what went in, or an error.
func decodeEntry(id [16]byte, b []byte) (*entry, error) {
	if len(b) < entryHeader+entrySum || binary.LittleEndian.Uint32(b) != entryMagic {
		return nil, errNoEntry
	}
	body, sum := b[:len(b)-entrySum], binary.LittleEndian.Uint64(b[len(b)-entrySum:])
	if got := checksum(id, body); got != sum {
		return nil, fmt.Errorf("checksum is %016x, should be %016x", got, sum)
	}
	c := &cursor{b: body[4:]}
	version, e := c.u8(), &entry{kind: c.u8()}
	reserved := c.take(2)
	e.seq, e.synced = c.u64(), c.u64()
	length := c.u32()
	if version != entryVersion || reserved[0]|reserved[1] != 0 || uint64(length) != uint64(len(c.b)) {
		return nil, fmt.Errorf("version %d, %d bytes of sections, %d said", version, len(c.b), length)
	}
	for len(c.b) > 0 {
		kind := c.u8()
		content := &cursor{b: c.take(uint64(c.u32()))}
		switch {
		case c.bad:
		case kind == sectionCommit && e.kind == kindCommits:
			e.commits = append(e.commits, content.commit())
		case kind == sectionSnapshot && e.kind == kindSnapshot && e.snapshot == nil:
			e.snapshot = content.snapshot()
		default:
			return nil, fmt.Errorf("section of kind %d in an entry of kind %d", kind, e.kind)
		}
		if c.bad || content.bad {
			return nil, errors.New("a section that does not end where it should")
		}
	}
	if e.kind == kindCommits && len(e.commits) == 0 || e.kind == kindSnapshot && e.snapshot == nil || e.synced > e.last() {
		return nil, errors.New("an entry that says nothing")
	}
	return e, nil
}

func (c *cursor) commit() []op {
	ops := []op{}
	for len(c.b) > 0 && !c.bad {
		switch c.u8() {
		case opPut:
			ops = append(ops, op{key: c.value(), value: c.value()})
		case opDelete:
			ops = append(ops, op{key: c.value(), delete: true})
		default:
			c.bad = true
		}
	}
	return ops
}

func (c *cursor) snapshot() []Entry {
	entries := []Entry{}
	for len(c.b) > 0 && !c.bad {
		entries = append(entries, Entry{Revision: Revision(c.u64()), Key: c.value(), Value: c.value()})
	}
	return entries
}
