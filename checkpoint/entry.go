package checkpoint

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"github.com/cespare/xxhash/v2"
)

// The layout of an entry; the package comment describes it.
const (
	entryMagic   = 0xB17E1DC5
	entryVersion = 1
	headerBytes  = 40
	hashAt       = 32
	sectionBytes = 5 // kind and length

	sectionCommit   = 1
	sectionSnapshot = 2
	sectionFrames   = 3

	chunkHeader = 8 + 4 + 1 + 8 // base, index, final, total

	// maxPayload bounds the sections of an entry: a full round, or one batch of the
	// largest kind with its lengths and frames, and a chunk of a snapshot.
	maxPayload = MaxBatchBytes + MaxBatchLen*maxOpHead + MaxCarriedBytes + maxRoundBytes + 2*maxChunkBytes + MaxValueBytes
	// maxFrameHead is the most that tidwall/wal puts before an entry.
	maxFrameHead = binary.MaxVarintLen64
)

var errNoEntry = errors.New("no entry begins here")

// saltOf returns what seeds the hashes of a generation. So an entry of another store or
// generation is none here, wherever its bytes come from.
func saltOf(id [16]byte, generation uint64) uint64 {
	return xxhash.Sum64(binary.LittleEndian.AppendUint64(id[:], generation))
}

// encoder builds one entry at a time in memory that it reuses.
type encoder struct {
	buf     []byte
	commits uint32
}

func (e *encoder) begin() {
	e.buf, e.commits = append(e.buf[:0], make([]byte, headerBytes)...), 0
}

func (e *encoder) payload() int { return len(e.buf) - headerBytes }

func (e *encoder) beginSection(kind byte) (at int) {
	e.buf = append(e.buf, kind, 0, 0, 0, 0)
	return len(e.buf)
}

func (e *encoder) endSection(at int) {
	binary.LittleEndian.PutUint32(e.buf[at-4:], uint32(len(e.buf)-at))
}

func (e *encoder) bytes(b []byte) {
	e.buf = append(binary.AppendUvarint(e.buf, uint64(len(b))), b...)
}

// commit adds a batch's writes. Its sequence number is the entry's first plus the
// number of batches before it.
func (e *encoder) commit(b *Batch) {
	at := e.beginSection(sectionCommit)
	for o, a := range b.all {
		if o.kind == opExpect {
			continue
		}
		e.buf = append(e.buf, byte(o.kind))
		e.bytes(a.key)
		if o.kind == opPut {
			e.bytes(a.value)
		}
	}
	e.endSection(at)
	e.commits++
}

// frames adds somebody's frames.
func (e *encoder) frames(f Frames) {
	at := e.beginSection(sectionFrames)
	e.buf = append(binary.LittleEndian.AppendUint64(e.buf, f.Owner), f.Data...)
	e.endSection(at)
}

// chunk is a piece of a snapshot: the state after sequence base.
type chunk struct {
	base  uint64
	index uint32
	final bool
	total uint64 // keys in all chunks, in the final one
	items []byte
}

// snapshot adds a chunk with these items.
func (e *encoder) snapshot(c chunk, items []*item) {
	at := e.beginSection(sectionSnapshot)
	le := binary.LittleEndian
	e.buf = le.AppendUint32(le.AppendUint64(e.buf, c.base), c.index)
	var final byte
	if c.final {
		final = 1
	}
	e.buf = le.AppendUint64(append(e.buf, final), c.total)
	for _, it := range items {
		e.buf = binary.AppendUvarint(e.buf, uint64(it.rev))
		e.bytes(it.key)
		e.bytes(it.value)
	}
	e.endSection(at)
}

// count is how many sequence numbers the entry takes: one for each commit, and at least one.
func (e *encoder) count() uint32 { return max(e.commits, 1) }

// seal completes the entry and returns it; it is valid until the next begin.
func (e *encoder) seal(salt, first, synced uint64) []byte {
	le := binary.LittleEndian
	h := e.buf[:headerBytes]
	le.PutUint32(h, entryMagic)
	h[4] = entryVersion
	le.PutUint32(h[8:], uint32(e.payload()))
	le.PutUint32(h[12:], e.count())
	le.PutUint64(h[16:], first)
	le.PutUint64(h[24:], synced)
	le.PutUint64(h[hashAt:], hashOf(salt, e.buf))
	return e.buf
}

// hashOf hashes all bytes of an entry but the hash.
func hashOf(salt uint64, b []byte) uint64 {
	d := xxhash.NewWithSeed(salt)
	d.Write(b[:hashAt])
	d.Write(b[headerBytes:])
	return d.Sum64()
}

// entry is a decoded entry. Its slices are the encoding's memory.
type entry struct {
	first, synced uint64
	count         uint32
	commits       [][]byte // the contents of the commit sections
	chunks        []chunk
	frames        []Frames
}

func (e *entry) last() uint64 { return e.first + uint64(e.count) - 1 }

// entryLength reads from a header how long the entry is, or 0 if this is no header.
func entryLength(b []byte) int {
	le := binary.LittleEndian
	if len(b) < headerBytes || le.Uint32(b) != entryMagic {
		return 0
	}
	n := le.Uint32(b[8:])
	if n > maxPayload {
		return 0
	}
	return headerBytes + int(n)
}

// decodeEntry decodes an entry that is exactly b. It accepts what an encoder makes and
// nothing else; it never allocates more than a small multiple of len(b).
func decodeEntry(salt uint64, b []byte) (*entry, error) {
	if n := entryLength(b); n == 0 || n != len(b) {
		return nil, errNoEntry
	}
	le := binary.LittleEndian
	if want, got := le.Uint64(b[hashAt:]), hashOf(salt, b); got != want {
		return nil, fmt.Errorf("the hash is %016x, the entry says %016x", got, want)
	}
	e := &entry{count: le.Uint32(b[12:]), first: le.Uint64(b[16:]), synced: le.Uint64(b[24:])}
	if b[4] != entryVersion || b[5]|b[6]|b[7] != 0 {
		return nil, fmt.Errorf("version %d, reserved bytes %x", b[4], b[5:8])
	}
	if err := e.sections(b[headerBytes:]); err != nil {
		return nil, err
	}
	if int(e.count) != max(len(e.commits), 1) || e.first == 0 || e.last() < e.first || e.synced >= e.first {
		return nil, fmt.Errorf("sequence %d, %d numbers for %d commits, synced through %d", e.first, e.count, len(e.commits), e.synced)
	}
	return e, nil
}

func (e *entry) sections(b []byte) error {
	for len(b) > 0 {
		if len(b) < sectionBytes {
			return errors.New("a section is cut short")
		}
		kind, n := b[0], int64(binary.LittleEndian.Uint32(b[1:]))
		if b = b[sectionBytes:]; n > int64(len(b)) {
			return errors.New("a section is cut short")
		}
		body := b[:n:n]
		b = b[n:]
		var err error
		switch kind {
		case sectionCommit:
			e.commits = append(e.commits, body)
			err = eachWrite(body, func(opKind, []byte, []byte) {})
		case sectionSnapshot:
			err = e.addChunk(body)
		case sectionFrames:
			if len(body) <= framesHead {
				return errors.New("section: frames without an owner, or none")
			}
			e.frames = append(e.frames, Frames{binary.LittleEndian.Uint64(body), body[framesHead:]})
		default:
			err = fmt.Errorf("unknown kind %d", kind)
		}
		if err != nil {
			return fmt.Errorf("section: %w", err)
		}
	}
	return nil
}

func (e *entry) addChunk(b []byte) error {
	if len(b) < chunkHeader || b[12] > 1 {
		return errors.New("bad snapshot header")
	}
	le := binary.LittleEndian
	c := chunk{base: le.Uint64(b), index: le.Uint32(b[8:]), final: b[12] == 1, total: le.Uint64(b[13:]), items: b[chunkHeader:]}
	e.chunks = append(e.chunks, c)
	return eachItem(c.items, func([]byte, []byte, Revision) {})
}

// reader takes an encoding apart; after the first thing that does not fit it is bad.
type reader struct {
	b   []byte
	bad bool
}

// uvarint takes a number, which has no more bytes than it needs: what is stored has one encoding.
func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || n != (bits.Len64(v|1)+6)/7 {
		r.b, r.bad = nil, true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) bytes(most uint64) []byte {
	n := r.uvarint()
	if n > most || n > uint64(len(r.b)) {
		r.b, r.bad = nil, true
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

// eachWrite takes apart the content of a commit section.
func eachWrite(b []byte, do func(kind opKind, key, value []byte)) error {
	for r := (reader{b: b}); len(r.b) > 0; {
		kind := opKind(r.b[0])
		r.b = r.b[1:]
		key, value := r.bytes(MaxKeyBytes), []byte(nil)
		switch kind {
		case opPut:
			value = r.bytes(MaxValueBytes)
		case opDelete:
		default:
			return fmt.Errorf("unknown operation %d", kind)
		}
		if r.bad {
			return errors.New("bad length in a commit")
		}
		do(kind, key, value)
	}
	return nil
}

// eachItem takes apart the items of a chunk.
func eachItem(b []byte, do func(key, value []byte, rev Revision)) error {
	for r := (reader{b: b}); len(r.b) > 0; {
		rev := Revision(r.uvarint())
		key, value := r.bytes(MaxKeyBytes), r.bytes(MaxValueBytes)
		if r.bad || rev == 0 {
			return errors.New("bad item in a snapshot")
		}
		do(key, value, rev)
	}
	return nil
}
