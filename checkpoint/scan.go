package checkpoint

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/braid-go/braid/internal/vfs"
)

// maxGenerationFile bounds what is read of a generation's file: far above what MaxBytes
// and GenerationBytes make of it.
const maxGenerationFile = 8 << 30

func generationDir(dir string, number uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%010d", number))
}

// segmentPath is the one file of a generation; tidwall/wal names it by the index of its first entry.
func segmentPath(dir string, number uint64) string {
	return filepath.Join(generationDir(dir, number), fmt.Sprintf("%020d", 1))
}

// scanned is what the file of a generation holds.
type scanned struct {
	number  uint64
	path    string
	data    []byte
	entries []located // from the beginning on, without a gap
	end     int64     // where the last of them ends
	damage  error     // what is wrong with the bytes from end on; nil if there are none but zeros
	behind  []located // whole entries found behind the damage
}

// located is an entry and where it is in the file.
type located struct {
	*entry
	at, end int64
}

// raw is an entry's encoding, without the length that is before it.
func (s *scanned) raw(e located) []byte {
	framed := s.data[e.at:e.end]
	_, head := binary.Uvarint(framed)
	return framed[head:]
}

// checkDirectory refuses what is there and no directory: a link would be followed by whatever names something below it.
func checkDirectory(path string) error {
	if info, err := vfs.OS.Stat(path); err == nil && !info.IsDir() {
		return &CorruptError{path, 0, -1, "not a directory"}
	}
	return nil
}

// readGeneration scans the file of a generation.
func readGeneration(dir string, number uint64, id [16]byte) (*scanned, error) {
	path := segmentPath(dir, number)
	if err := checkDirectory(generationDir(dir, number)); err != nil {
		return nil, err
	}
	data, err := vfs.ReadFile(vfs.OS, path, maxGenerationFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &MissingDataError{path, "the file is gone"}
	}
	if errors.Is(err, vfs.ErrTooLarge) || errors.Is(err, vfs.ErrNotRegular) {
		return nil, &CorruptError{path, 0, -1, err.Error()}
	}
	if err != nil {
		return nil, err
	}
	s := findEntries(data, saltOf(id, number))
	s.number, s.path = number, path
	return s, nil
}

// findEntries finds the entries in the bytes of a generation's file.
func findEntries(data []byte, salt uint64) *scanned {
	s := &scanned{data: data}
	for {
		rest := data[s.end:]
		if len(rest) == 0 || rest[0] == 0 && allZero(rest) {
			return s
		}
		e, n, err := nextEntry(salt, rest)
		if err != nil {
			s.damage = err
			s.resync(salt)
			return s
		}
		s.entries = append(s.entries, located{e, s.end, s.end + int64(n)})
		s.end += int64(n)
	}
}

// nextEntry decodes the entry at the beginning of b, as tidwall/wal frames it, and
// returns the length of the frame.
func nextEntry(salt uint64, b []byte) (*entry, int, error) {
	n, head := binary.Uvarint(b)
	switch {
	case head <= 0 || head != len(binary.AppendUvarint(nil, n)) || n < headerBytes || n > headerBytes+maxPayload:
		return nil, 0, errNoEntry
	case n > uint64(len(b)-head):
		return nil, 0, fmt.Errorf("an entry of %d bytes is cut short after %d", n, len(b)-head)
	}
	e, err := decodeEntry(salt, b[head:head+int(n)])
	return e, head + int(n), err
}

// resync looks for whole entries behind a damage: they tell what was durable.
func (s *scanned) resync(salt uint64) {
	magic := binary.LittleEndian.AppendUint32(nil, entryMagic)
	var last uint64
	if len(s.entries) > 0 {
		last = s.entries[len(s.entries)-1].last()
	}
	for at := s.end; ; {
		i := bytes.Index(s.data[at:], magic)
		if i < 0 {
			return
		}
		at += int64(i)
		rest := s.data[at:]
		n := entryLength(rest)
		// Sequences only rise. So a value that contains an old entry of this very
		// file does not pass for a later one.
		if n > 0 && n <= len(rest) && binary.LittleEndian.Uint64(rest[16:]) > last {
			if e, err := decodeEntry(salt, rest[:n]); err == nil {
				s.behind = append(s.behind, located{e, at, at + int64(n)})
				at, last = at+int64(n), e.last()
				continue
			}
		}
		at++
	}
}

func allZero(b []byte) bool {
	for len(b) >= 8 {
		if binary.LittleEndian.Uint64(b) != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// proven returns the highest sequence that any entry here says was durable.
func (s *scanned) proven() uint64 {
	var p uint64
	for _, list := range [][]located{s.entries, s.behind} {
		for _, e := range list {
			p = max(p, e.synced)
		}
	}
	return p
}
