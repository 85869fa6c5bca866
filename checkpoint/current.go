package checkpoint

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/braid-go/braid/internal/vfs"
)

const (
	currentName    = "CURRENT"
	formatVersion  = 1
	maxCurrent     = 4 << 10
	maxGenerations = 16 // that CURRENT lists; there are never more than two
)

// current is what CURRENT says.
type current struct {
	id          [16]byte
	proven      uint64 // every sequence up to this one was durable
	generations []uint64
}

func (c *current) encode() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "checkpoint %d\nid %x\nproven %d\n", formatVersion, c.id, c.proven)
	for _, g := range c.generations {
		fmt.Fprintf(&b, "generation %d\n", g)
	}
	fmt.Fprintf(&b, "sum %016x\n", xxhash.Sum64(b.Bytes()))
	return b.Bytes()
}

// decodeCurrent accepts what encode makes and nothing else.
func decodeCurrent(b []byte) (*current, error) {
	body, sum, found := strings.Cut(string(b), "sum ")
	if !found || sum != fmt.Sprintf("%016x\n", xxhash.Sum64String(body)) {
		return nil, errors.New("the checksum does not match")
	}
	c := &current{}
	lines := strings.Split(body, "\n")
	version, err := field(lines[0], "checkpoint ")
	if err != nil {
		return nil, fmt.Errorf("version: %w", err)
	}
	if version > formatVersion {
		return nil, fmt.Errorf("%w: version %d", ErrVersion, version)
	}
	if len(lines) < 5 || len(lines) > 4+maxGenerations {
		return nil, fmt.Errorf("%d lines", len(lines))
	}
	id, err := hex.DecodeString(strings.TrimPrefix(lines[1], "id "))
	if err != nil {
		return nil, fmt.Errorf("id: %w", err)
	}
	copy(c.id[:], id)
	if c.proven, err = field(lines[2], "proven "); err != nil {
		return nil, fmt.Errorf("proven sequence: %w", err)
	}
	for _, line := range lines[3 : len(lines)-1] {
		g, err := field(line, "generation ")
		if err != nil {
			return nil, fmt.Errorf("generation: %w", err)
		}
		if n := len(c.generations); g == 0 || n > 0 && g <= c.generations[n-1] {
			return nil, fmt.Errorf("generation %d comes behind %v", g, c.generations)
		}
		c.generations = append(c.generations, g)
	}
	if !bytes.Equal(c.encode(), b) {
		return nil, errors.New("not as this package writes it")
	}
	return c, nil
}

// field returns the number that follows a name.
func field(line, name string) (uint64, error) {
	return strconv.ParseUint(strings.TrimPrefix(line, name), 10, 64)
}

// readCurrent reads the CURRENT of the store with an id. The error of a file that is not
// there is fs.ErrNotExist too.
func readCurrent(dir string, id [16]byte) (*current, error) {
	path := filepath.Join(dir, currentName)
	if err := checkDirectory(dir); err != nil {
		return nil, err
	}
	b, err := vfs.ReadFile(vfs.OS, path, maxCurrent)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: %w", &MissingDataError{path, "the file is gone"}, err)
	case errors.Is(err, vfs.ErrTooLarge), errors.Is(err, vfs.ErrNotRegular):
		return nil, &CorruptError{path, 0, -1, err.Error()}
	case err != nil:
		return nil, err
	case len(b) == 0:
		return nil, &MissingDataError{path, "the file is empty"}
	}
	c, err := decodeCurrent(b)
	switch {
	case errors.Is(err, ErrVersion):
		return nil, fmt.Errorf("%s: %w", path, err)
	case err != nil:
		return nil, &CorruptError{path, 0, int64(len(b)), err.Error()}
	case c.id != id:
		return nil, &MissingDataError{path, fmt.Sprintf("it belongs to store %x, not to %x", c.id, id)}
	}
	return c, nil
}
