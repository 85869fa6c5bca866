package checkpoint

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/cespare/xxhash/v2"

	"github.com/braid-go/braid/internal/vfs"
)

const (
	currentName    = "CURRENT"
	currentVersion = 1
)

// current is what CURRENT says.
type current struct {
	id         [16]byte
	proven     uint64 // every commit up to this sequence was durable
	generation uint64
}

func (c current) encode() []byte {
	s := fmt.Sprintf("checkpoint %d\nid %x\nproven %d\ngeneration %d\n", currentVersion, c.id, c.proven, c.generation)
	return fmt.Appendf(nil, "%ssum %016x\n", s, xxhash.Sum64String(s))
}

func decodeCurrent(b []byte) (current, error) {
	var c current
	var version int
	var id, sum string
	if _, err := fmt.Sscanf(string(b), "checkpoint %d\nid %s\nproven %d\ngeneration %d\nsum %s\n", &version, &id, &c.proven, &c.generation, &sum); err != nil {
		return c, fmt.Errorf("not what CURRENT looks like: %w", err)
	}
	if version != currentVersion {
		return c, fmt.Errorf("version %d", version)
	}
	if n, err := hex.Decode(c.id[:], []byte(id)[:min(len(id), 32)]); err != nil || n != len(c.id) {
		return c, errors.New("bad id")
	}
	if string(c.encode()) != string(b) {
		return c, errors.New("checksum mismatch")
	}
	return c, nil
}

// readCurrent reads a store's CURRENT, which must be of the store with an id.
func readCurrent(dir string, id [16]byte) (current, error) {
	path := filepath.Join(dir, currentName)
	b, err := vfs.ReadFile(vfs.OS, path, 4096)
	if errors.Is(err, fs.ErrNotExist) {
		return current{}, &MissingDataError{Path: path, Reason: "is gone"}
	}
	if err != nil {
		return current{}, err
	}
	if len(b) == 0 {
		return current{}, &MissingDataError{Path: path, Reason: "is empty"}
	}
	c, err := decodeCurrent(b)
	if err != nil {
		return c, &CorruptError{Path: path, Reason: err.Error()}
	}
	if c.id != id {
		return c, &MissingDataError{Path: path, Reason: fmt.Sprintf("belongs to the store of broker %x, not of %x", c.id, id)}
	}
	return c, nil
}

func writeCurrent(dir string, c current) error {
	return vfs.WriteFileAtomic(vfs.OS, filepath.Join(dir, currentName), c.encode())
}
