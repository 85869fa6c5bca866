package log

import (
	"fmt"
	"strings"
	"sync"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// Codec says how a frame's body is compressed.
type Codec uint8

const (
	CodecNone Codec = iota
	CodecS2         // github.com/klauspost/compress/s2, a block
	CodecZstd       // github.com/klauspost/compress/zstd, a frame
	numCodecs
)

var codecNames = [numCodecs]string{"none", "s2", "zstd"}

func (c Codec) String() string {
	if c < numCodecs {
		return codecNames[c]
	}
	return fmt.Sprintf("Codec(%d)", uint8(c))
}

// ParseCodec is the inverse of Codec.String.
func ParseCodec(s string) (Codec, error) {
	for i, name := range codecNames {
		if strings.EqualFold(s, name) {
			return Codec(i), nil
		}
	}
	return 0, fmt.Errorf("log: unknown codec %q: not one of none, s2, zstd", s)
}

// The zstd coders hold tables of some hundred KiB and are safe for concurrent use, so there is
// one of each, made when first needed. Neither starts a goroutine for whole blocks. They are kept as functions: a variable of type
// *zstd.Encoder in generic code has the linker keep whatever an io.Writer has, which is the half that works on streams.
var (
	encodeZstd = sync.OnceValues(func() (func(raw, dst []byte) []byte, error) {
		enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderCRC(false))
		return enc.EncodeAll, err
	})
	decodeZstd = sync.OnceValues(func() (func(body, dst []byte) ([]byte, error), error) {
		dec, err := zstd.NewReader(nil, zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderMaxMemory(MaxFrameBytes))
		return dec.DecodeAll, err
	})
)

// compress appends the compressed raw to dst.
func compress(c Codec, dst, raw []byte) ([]byte, error) {
	switch c {
	case CodecS2:
		n, room := len(dst), s2.MaxEncodedLen(len(raw))
		if cap(dst)-n < room {
			dst = append(make([]byte, 0, n+room), dst...)
		}
		block := s2.Encode(dst[n:n+room], raw)
		return dst[:n+len(block)], nil
	case CodecZstd:
		encode, err := encodeZstd()
		if err != nil {
			return nil, err
		}
		return encode(raw, dst), nil
	}
	return append(dst, raw...), nil
}

// decompress decodes body, which must give exactly size bytes, into dst's memory if that is large enough.
// size has been bounded; no more than that is ever allocated.
func decompress(c Codec, dst, body []byte, size int) ([]byte, error) {
	if cap(dst) < size {
		dst = make([]byte, 0, size)
	}
	var out []byte
	var err error
	switch c {
	case CodecS2:
		var n int
		if n, err = s2.DecodedLen(body); err == nil && n != size {
			err = fmt.Errorf("block says %d bytes, header %d", n, size)
		}
		if err == nil {
			out, err = s2.Decode(dst[:size], body)
		}
	case CodecZstd:
		var decode func(body, dst []byte) ([]byte, error)
		if decode, err = decodeZstd(); err == nil {
			out, err = decode(body, dst[:0:size])
		}
	default:
		return nil, fmt.Errorf("unknown codec %d", c)
	}
	if err == nil && len(out) != size {
		err = fmt.Errorf("%d bytes instead of %d", len(out), size)
	}
	if err != nil {
		return nil, fmt.Errorf("decompress %v: %w", c, err)
	}
	return out, nil
}
