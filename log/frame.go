package log

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
)

const (
	// FrameHeaderSize is the size of a frame's header in bytes.
	FrameHeaderSize = 88
	// MaxFrameBytes bounds a frame's body, compressed and not.
	MaxFrameBytes = 80 << 20
	// MaxRecordBytes bounds key, value and headers of one record together.
	MaxRecordBytes = 64 << 20

	frameMagic   = 0xf5a7d1b6 // as it lies in the file: b6 d1 a7 f5; no ASCII, not valid UTF-8
	frameVersion = 1

	flagCodec = 0x03
	flagWeak  = 0x04
	flagEarly = 0x08

	knownFlags = flagCodec | flagWeak | flagEarly

	kindData = 0
)

// Where the header's fields are.
const (
	atMagic          = 0
	atVersion        = 4
	atFlags          = 5
	atKind           = 6
	atReserved       = 7
	atCRC            = 8
	atBodyLen        = 12
	atRawLen         = 16
	atCount          = 20
	atBase           = 24
	atPrevEnd        = 32
	atAppendTime     = 40
	atMaxTime        = 48
	atPartition      = 56
	atTxnID          = 64
	atDurableThrough = 72
	atProvenSequence = 80
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// FrameMeta is what the writer of a frame says about it.
type FrameMeta struct {
	Base           int64  // offset of the first record
	PrevEnd        int64  // where the frame before ended; below Base: the offsets between are a declared gap
	AppendTime     int64  // nanoseconds since 1970, never falling within a log
	DurableThrough int64  // every offset below was proven durable when the frame was written
	Partition      uint64 // whose frame it is
	TxnID          uint64 // commit-log sequence of the entry that carried it, 0 if none
	ProvenSequence uint64 // highest commit-log sequence proven durable when the frame was written
	Codec          Codec
	Weak           bool // written in a mode that shows records before they are synced
	Early          bool // its records were acknowledged before they were synced, though the mode is not one that does
}

// FrameHeader is a frame's header.
type FrameHeader struct {
	FrameMeta
	BodyLen int // as stored
	RawLen  int // uncompressed
	Count   int // records
	MaxTime int64
	CRC     uint32
}

// End is the offset behind the frame's last record.
func (h *FrameHeader) End() int64 { return h.Base + int64(h.Count) }

// Size is the size of the whole frame in bytes.
func (h *FrameHeader) Size() int { return FrameHeaderSize + h.BodyLen }

var (
	errNoFrame    = errors.New("no frame begins here")
	errShortFrame = errors.New("frame is cut short")
)

// ParseFrameHeader decodes the header at the beginning of b and checks every field that can be checked without
// the body; the checksum is Verify's. A version that is newer is ErrVersion.
func ParseFrameHeader(b []byte) (FrameHeader, error) {
	var h FrameHeader
	if len(b) < 4 || binary.LittleEndian.Uint32(b[atMagic:]) != frameMagic {
		return h, errNoFrame
	}
	if len(b) < FrameHeaderSize {
		return h, errShortFrame
	}
	if v := b[atVersion]; v != frameVersion {
		if v > frameVersion {
			return h, fmt.Errorf("%w: frame version %d", ErrVersion, v)
		}
		return h, fmt.Errorf("frame version %d", v)
	}
	flags := b[atFlags]
	h.Codec, h.Weak, h.Early = Codec(flags&flagCodec), flags&flagWeak != 0, flags&flagEarly != 0
	h.CRC = binary.LittleEndian.Uint32(b[atCRC:])
	bodyLen := binary.LittleEndian.Uint32(b[atBodyLen:])
	rawLen := binary.LittleEndian.Uint32(b[atRawLen:])
	count := binary.LittleEndian.Uint32(b[atCount:])
	h.Base = int64(binary.LittleEndian.Uint64(b[atBase:]))
	h.PrevEnd = int64(binary.LittleEndian.Uint64(b[atPrevEnd:]))
	h.AppendTime = int64(binary.LittleEndian.Uint64(b[atAppendTime:]))
	h.MaxTime = int64(binary.LittleEndian.Uint64(b[atMaxTime:]))
	h.Partition = binary.LittleEndian.Uint64(b[atPartition:])
	h.TxnID = binary.LittleEndian.Uint64(b[atTxnID:])
	h.DurableThrough = int64(binary.LittleEndian.Uint64(b[atDurableThrough:]))
	h.ProvenSequence = binary.LittleEndian.Uint64(b[atProvenSequence:])
	switch {
	case flags&^knownFlags != 0 || b[atKind] != kindData || b[atReserved] != 0:
		return h, fmt.Errorf("unknown flags %#x, kind %d, reserved %d", flags, b[atKind], b[atReserved])
	case h.Codec >= numCodecs:
		return h, fmt.Errorf("unknown codec %d", h.Codec)
	case bodyLen > MaxFrameBytes || rawLen > MaxFrameBytes:
		return h, fmt.Errorf("body of %d bytes, %d uncompressed", bodyLen, rawLen)
	case h.Codec == CodecNone && bodyLen != rawLen:
		return h, fmt.Errorf("uncompressed body of %d bytes says %d", bodyLen, rawLen)
	case count == 0 || uint64(count)*minRecordSize > uint64(rawLen):
		return h, fmt.Errorf("%d records in %d bytes", count, rawLen)
	case h.PrevEnd < 0 || h.Base < h.PrevEnd || h.Base > math.MaxInt64-int64(count):
		return h, fmt.Errorf("base offset %d behind %d", h.Base, h.PrevEnd)
	case h.DurableThrough < 0 || h.DurableThrough > h.Base:
		return h, fmt.Errorf("durable through %d at base offset %d", h.DurableThrough, h.Base)
	}
	h.BodyLen, h.RawLen, h.Count = int(bodyLen), int(rawLen), int(count)
	return h, nil
}

// Verify checks the checksum of the frame that begins at frame[0] and has the header h.
func (h *FrameHeader) Verify(salt uint32, frame []byte) error {
	if len(frame) < h.Size() {
		return errShortFrame
	}
	if got := frameCRC(salt, frame[:h.Size()]); got != h.CRC {
		return fmt.Errorf("checksum is %08x, should be %08x", got, h.CRC)
	}
	return nil
}

// frameCRC is the checksum of a whole frame: of every byte but the checksum itself, beginning from the
// log's salt, so that a record whose value is a frame cannot pass for one.
func frameCRC(salt uint32, frame []byte) uint32 {
	crc := crc32.Update(salt, castagnoli, frame[:atCRC])
	return crc32.Update(crc, castagnoli, frame[atCRC+4:])
}

// put encodes the header into the beginning of frame, whose body is in place, and seals it with the checksum.
func (h *FrameHeader) put(salt uint32, frame []byte) {
	flags := byte(h.Codec)
	if h.Weak {
		flags |= flagWeak
	}
	if h.Early {
		flags |= flagEarly
	}
	binary.LittleEndian.PutUint32(frame[atMagic:], frameMagic)
	frame[atVersion], frame[atFlags], frame[atKind], frame[atReserved] = frameVersion, flags, kindData, 0
	binary.LittleEndian.PutUint32(frame[atBodyLen:], uint32(h.BodyLen))
	binary.LittleEndian.PutUint32(frame[atRawLen:], uint32(h.RawLen))
	binary.LittleEndian.PutUint32(frame[atCount:], uint32(h.Count))
	binary.LittleEndian.PutUint64(frame[atBase:], uint64(h.Base))
	binary.LittleEndian.PutUint64(frame[atPrevEnd:], uint64(h.PrevEnd))
	binary.LittleEndian.PutUint64(frame[atAppendTime:], uint64(h.AppendTime))
	binary.LittleEndian.PutUint64(frame[atMaxTime:], uint64(h.MaxTime))
	binary.LittleEndian.PutUint64(frame[atPartition:], h.Partition)
	binary.LittleEndian.PutUint64(frame[atTxnID:], h.TxnID)
	binary.LittleEndian.PutUint64(frame[atDurableThrough:], uint64(h.DurableThrough))
	binary.LittleEndian.PutUint64(frame[atProvenSequence:], h.ProvenSequence)
	h.CRC = frameCRC(salt, frame[:h.Size()])
	binary.LittleEndian.PutUint32(frame[atCRC:], h.CRC)
}
