package checkpoint

import (
	"reflect"
	"unsafe"

	"github.com/tidwall/wal"
)

// tail is what tidwall/wal keeps in memory of a log: all entries of its last segment, for Log.Read, which nobody calls here. It grows them by append, so that a
// generation of 16 MiB was copied some five times over while it was being written, to fresh memory each time, and commits waited for that. There is no call that
// makes it let go of them.
type tail struct {
	bytes   *[]byte
	entries reflect.Value // a slice
}

// tailOf returns the tail of a log that has one segment and will have no other, or an empty one if the log does not look as that of tidwall/wal v1.2.1 does;
// then all is as it was, and takes longer.
func tailOf(l *wal.Log) (t tail) {
	segments := reflect.ValueOf(l).Elem().FieldByName("segments")
	if segments.Kind() != reflect.Slice || segments.Len() != 1 || segments.Index(0).Kind() != reflect.Pointer {
		return t
	}
	s := segments.Index(0).Elem()
	if s.Kind() != reflect.Struct {
		return t
	}
	bytes, entries := s.FieldByName("ebuf"), s.FieldByName("epos")
	if !bytes.IsValid() || bytes.Type() != reflect.TypeFor[[]byte]() || entries.Kind() != reflect.Slice {
		return t
	}
	t.bytes = (*[]byte)(unsafe.Pointer(bytes.UnsafeAddr()))
	t.entries = reflect.NewAt(entries.Type(), unsafe.Pointer(entries.UnsafeAddr())).Elem()
	return t
}

// keepTail is how much of the memory of the last entry is used again.
const keepTail = 1 << 20

// forget lets go of what has been written. The next entry is written behind it all the same, because that is where the file's descriptor stands; generation.check
// looks whether it is.
func (t *tail) forget() {
	if t.bytes == nil {
		return
	}
	if *t.bytes = (*t.bytes)[:0]; cap(*t.bytes) > keepTail {
		*t.bytes = nil
	}
	t.entries.SetLen(0)
}
