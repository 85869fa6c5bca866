package damage

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
)

// editBytes is what one edit takes of a script: kind, file, position (3), length (2), argument.
const editBytes = 8

// maxEdits bounds the edits of a script.
const maxEdits = 6

// Edit is one edit of a script.
type Edit struct {
	Kind byte
	File byte // counted through the names in order, over and over
	Pos  int  // over and over through the file
	Len  int
	Arg  byte
}

// The kinds of edits. A kind that is not one of these counts through them, over and over.
const (
	EditFlip     = iota // a bit, chosen by Arg
	EditZero            // a range
	EditGarbage         // a range, Arg being the seed
	EditTruncate        // from Pos on
	EditInsert          // bytes of value Arg
	EditCopy            // a range is overwritten with one from the file that comes Arg later
	EditDelete          // a range, so that what follows moves up
	EditRemove          // the file
	EditReplace         // the file, with the one that comes Arg later
	editKinds
)

// Bytes encodes edits as a script: for a fuzzer's seeds.
func Bytes(edits ...Edit) []byte {
	var b []byte
	for _, e := range edits {
		b = append(b, e.Kind, e.File, byte(e.Pos), byte(e.Pos>>8), byte(e.Pos>>16))
		b = append(binary.LittleEndian.AppendUint16(b, uint16(e.Len)), e.Arg)
	}
	return b
}

// Parse decodes a script. Every sequence of bytes is one.
func Parse(script []byte) []Edit {
	var edits []Edit
	for ; len(script) >= editBytes && len(edits) < maxEdits; script = script[editBytes:] {
		edits = append(edits, Edit{Kind: script[0] % editKinds, File: script[1],
			Pos: int(script[2]) | int(script[3])<<8 | int(script[4])<<16,
			Len: int(binary.LittleEndian.Uint16(script[5:])), Arg: script[7]})
	}
	return edits
}

// Apply returns a copy of the files after the edits, and says what has been done. Edits that find nothing to change do nothing.
func (f Files) Apply(edits []Edit) (Files, []string) {
	var done []string
	for _, e := range edits {
		names := f.Names()
		if len(names) == 0 {
			break
		}
		name := names[int(e.File)%len(names)]
		was := f[name]
		other := f[names[(int(e.File)+int(e.Arg))%len(names)]]
		now, what := e.edit(was, other)
		switch {
		case e.Kind == EditRemove:
			f = f.Without(name)
		case bytes.Equal(now, was):
			continue
		default:
			f = f.With(name, now)
		}
		done = append(done, fmt.Sprintf("%s: %s", name, what))
	}
	return f, done
}

// edit edits a copy of a file's content.
func (e Edit) edit(b, other []byte) ([]byte, string) {
	if len(b) == 0 && e.Kind != EditReplace {
		return b, "is empty"
	}
	at := 0
	if len(b) > 0 {
		at = e.Pos % len(b)
	}
	to := min(at+e.Len+1, len(b))
	where := fmt.Sprintf("bytes %d to %d of %d", at, to, len(b))
	switch e.Kind {
	case EditFlip:
		return Flip(b, at*8+int(e.Arg)%8), fmt.Sprintf("bit %d of byte %d flipped", e.Arg%8, at)
	case EditZero:
		return Tear{"zeros", at, to}.Apply(b, nil), where + " zeroed"
	case EditGarbage:
		return Tear{"garbage", at, to}.Apply(b, nil), where + " overwritten with garbage"
	case EditTruncate:
		return Tear{"cut", at, len(b)}.Apply(b, nil), fmt.Sprintf("truncated to %d of %d bytes", at, len(b))
	case EditInsert:
		return slices.Insert(bytes.Clone(b), at, bytes.Repeat([]byte{e.Arg}, e.Len%4096)...), fmt.Sprintf("%d bytes inserted at %d", e.Len%4096, at)
	case EditCopy:
		c := bytes.Clone(b)
		from := min(at, len(other))
		if e.Len%2 == 1 { // from the end, not from the same place
			from = max(0, len(other)-e.Len)
		}
		copy(c[at:to], other[from:])
		return c, where + " overwritten with another place"
	case EditDelete:
		return slices.Delete(bytes.Clone(b), at, to), where + " deleted"
	case EditReplace:
		return other, "replaced with another file"
	}
	return b, "removed"
}
