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

// maxGeneration bounds what is read of a generation's file.
const maxGeneration = 2 << 30

func generationDir(dir string, n uint64) string { return filepath.Join(dir, fmt.Sprintf("%010d", n)) }

// generationFile is the one file of a generation; tidwall/wal names it by its first index.
func generationFile(dir string, n uint64) string {
	return filepath.Join(generationDir(dir, n), fmt.Sprintf("%020d", 1))
}

// generation is what scanning a generation has found.
type generation struct {
	entries []*entry
	torn    []byte // behind the last entry
	tornAt  int64
}

// scanGeneration reads a generation. Where an entry should begin and none does, everything from there on is torn, provided that
// nothing proves that it was durable: not proven, and no entry before or behind.
func scanGeneration(dir string, n uint64, id [16]byte, proven uint64) (*generation, error) {
	path := generationFile(dir, n)
	b, err := vfs.ReadFile(vfs.OS, path, maxGeneration)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &MissingDataError{Path: path, Reason: "is gone"}
	}
	if err != nil {
		return nil, err
	}
	if len(b) == 0 {
		return nil, &MissingDataError{Path: path, Reason: "is empty"}
	}
	g := &generation{}
	next := uint64(0)
	pos := 0
	var bad error
	for pos < len(b) {
		e, size, err := nextEntry(id, b[pos:])
		if err == nil && (len(g.entries) == 0) != (e.kind == kindSnapshot) {
			err = fmt.Errorf("an entry of kind %d as number %d", e.kind, len(g.entries)+1)
		}
		if err == nil && e.kind == kindCommits && e.seq != next {
			err = fmt.Errorf("commit %d where %d should be", e.seq, next)
		}
		if err != nil {
			bad = err
			break
		}
		g.entries = append(g.entries, e)
		next = e.last() + 1
		pos += size
		proven = max(proven, e.synced)
	}
	if len(g.entries) == 0 {
		return nil, &CorruptError{Path: path, Reason: fmt.Sprintf("no snapshot: %v", bad)}
	}
	if bad == nil {
		bad = errors.New("the file ends")
	}
	proven = max(proven, provenBehind(id, b[pos:]))
	if proven >= next {
		return nil, &CorruptError{Path: path, Pos: int64(pos), Reason: fmt.Sprintf("commit %d was durable and is not here: %v", next, bad)}
	}
	g.torn, g.tornAt = bytes.TrimRight(b[pos:], "\x00"), int64(pos)
	return g, nil
}

// nextEntry decodes the entry at the beginning of b and returns how many bytes it takes.
func nextEntry(id [16]byte, b []byte) (*entry, int, error) {
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)-size) {
		return nil, 0, errors.New("an entry that is cut short")
	}
	e, err := decodeEntry(id, b[size:size+int(n)])
	return e, size + int(n), err
}

var entryMagicBytes = binary.LittleEndian.AppendUint32(nil, entryMagic)

// provenBehind looks in what could not be read for whole entries, and returns the highest sequence
// that one of them says was durable.
func provenBehind(id [16]byte, b []byte) uint64 {
	var proven uint64
	for {
		i := bytes.Index(b, entryMagicBytes)
		if i < 0 || len(b)-i < entryHeader+entrySum {
			return proven
		}
		b = b[i:]
		size := entryHeader + uint64(binary.LittleEndian.Uint32(b[24:])) + entrySum
		if size <= uint64(len(b)) {
			if e, err := decodeEntry(id, b[:size]); err == nil {
				proven = max(proven, e.synced)
			}
		}
		b = b[1:]
	}
}

// replay makes the state that a generation's entries leave, up to and including a sequence.
func replay(g *generation, limit int64, through uint64) (*state, uint64) {
	s := newState(limit)
	var seq uint64
	for _, e := range g.entries {
		if e.kind == kindSnapshot {
			for _, x := range e.snapshot {
				s.set(string(x.Key), bytes.Clone(x.Value), x.Revision)
			}
			seq = e.seq
			continue
		}
		for i, ops := range e.commits {
			at := e.seq + uint64(i)
			if at > through {
				return s, seq
			}
			for j := range ops {
				ops[j].value = append([]byte{}, ops[j].value...)
			}
			s.apply(ops, Revision(at))
			seq = at
		}
	}
	return s, seq
}
