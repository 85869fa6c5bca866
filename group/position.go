package group

import (
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	keyMark         = 'g'
	positionVersion = 1
	positionSize    = 1 + 8 + 8
)

// ErrCorrupt reports a stored position or key that cannot be what was written.
var ErrCorrupt = errors.New("group: corrupt position")

// Position is how far a group has come in a partition, and who may move it.
type Position struct {
	Offset int64  // the next record wanted
	Epoch  uint64 // the ownership under which it was committed
}

// MarshalBinary encodes the position for the store. It never fails.
func (p Position) MarshalBinary() ([]byte, error) {
	return p.AppendBinary(make([]byte, 0, positionSize))
}

// AppendBinary is MarshalBinary that appends to b.
func (p Position) AppendBinary(b []byte) ([]byte, error) {
	b = append(b, positionVersion)
	b = binary.LittleEndian.AppendUint64(b, uint64(p.Offset))
	return binary.LittleEndian.AppendUint64(b, p.Epoch), nil
}

// UnmarshalBinary decodes what MarshalBinary made. Anything else is ErrCorrupt and leaves p alone.
func (p *Position) UnmarshalBinary(b []byte) error {
	if len(b) != positionSize || b[0] != positionVersion {
		return fmt.Errorf("%w: %d bytes %.20x", ErrCorrupt, len(b), b)
	}
	offset := int64(binary.LittleEndian.Uint64(b[1:]))
	if offset < 0 {
		return fmt.Errorf("%w: offset %d", ErrCorrupt, offset)
	}
	p.Offset, p.Epoch = offset, binary.LittleEndian.Uint64(b[9:])
	return nil
}

// TopicPrefix is the prefix of the keys of all positions in a topic.
func TopicPrefix(topic uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{keyMark}, topic)
}

// Prefix is the prefix of the keys of a group's positions in a topic.
func Prefix(topic uint64, group string) []byte {
	return append(append(TopicPrefix(topic), group...), 0)
}

// Key is the key of a group's position in a partition.
func Key(topic uint64, group string, partition uint64) []byte {
	return AppendKey(nil, topic, group, partition)
}

// AppendKey appends the key of a group's position in a partition to b.
func AppendKey(b []byte, topic uint64, group string, partition uint64) []byte {
	b = binary.BigEndian.AppendUint64(append(b, keyMark), topic)
	return binary.BigEndian.AppendUint64(append(append(b, group...), 0), partition)
}

// ParseKey takes a key apart again.
func ParseKey(key []byte) (topic uint64, group string, partition uint64, err error) {
	const fixed = 1 + 8 + 1 + 8 // all but the name
	if len(key) <= fixed || key[0] != keyMark || key[len(key)-9] != 0 {
		return 0, "", 0, fmt.Errorf("%w: key %.64q", ErrCorrupt, key)
	}
	topic = binary.BigEndian.Uint64(key[1:])
	group = string(key[9 : len(key)-9])
	return topic, group, binary.BigEndian.Uint64(key[len(key)-8:]), nil
}
