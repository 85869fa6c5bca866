package log

import (
	"fmt"
	"path"
	"time"

	"github.com/braid-go/braid/internal/vfs"
)

// Mode says when records become visible and what is synced.
type Mode uint8

const (
	// ModeFsync: records are visible when they are durable, after Sync.
	ModeFsync Mode = iota
	// ModeInterval: records are visible when they are written; Sync is called from time to time.
	ModeInterval
	// ModeOS: as ModeInterval, but nothing is synced while the log is running.
	ModeOS
)

const (
	// DefaultSegmentBytes is the size at which a new segment is begun if Config does not say.
	DefaultSegmentBytes = 64 << 20
	// DefaultIndexBytes is the distance between entries of the sparse index if Config does not say.
	DefaultIndexBytes = 64 << 10
)

// Config says where a log is and how it is written.
type Config struct {
	FS   vfs.FS
	Dir  string
	Mode Mode
	// SegmentBytes is the size at which a new segment is begun. One Write goes into one
	// segment whole, so a segment may be larger by that. Default 64 MiB.
	SegmentBytes int64
	// IndexBytes is the distance between entries of the sparse index. Default 64 KiB.
	IndexBytes int64
	// Now tells the time. Default time.Now.
	Now func() time.Time
	// ProvenSequence is the highest sequence of the commit log that is known to be durable; frames
	// carry it. Default: 0, there is no commit log.
	ProvenSequence func() uint64
	// CatchUp applies what has been announced: see Log.Announce. It is called by readers.
	CatchUp func()
}

func (c Config) withDefaults() Config {
	if c.SegmentBytes == 0 {
		c.SegmentBytes = DefaultSegmentBytes
	}
	if c.IndexBytes == 0 {
		c.IndexBytes = DefaultIndexBytes
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.ProvenSequence == nil {
		c.ProvenSequence = func() uint64 { return 0 }
	}
	return c
}

func (c *Config) path(name string) string { return path.Join(c.Dir, name) }

// Birth is a log's birth certificate: what it was made for. It never changes.
type Birth struct {
	TopicID     uint64
	PartitionID uint64
	Lo, Hi      uint64   // the range of key hashes, both included
	Parents     []uint64 // the partitions that this one continues
}

func (b *Birth) equal(o *Birth) bool {
	if b.TopicID != o.TopicID || b.PartitionID != o.PartitionID || b.Lo != o.Lo || b.Hi != o.Hi || len(b.Parents) != len(o.Parents) {
		return false
	}
	for i := range b.Parents {
		if b.Parents[i] != o.Parents[i] {
			return false
		}
	}
	return true
}

// Proof is what others know about a log that is being opened.
type Proof struct {
	// Durable: every offset below was durable.
	Durable int64
	// MinNext: no offset below may be given out again, because it has been committed as a position.
	MinNext int64
	// Logged has frames that were made durable elsewhere, in the commit log: each element one frame or several, whole. They
	// stand in for those that are missing from the segments, and Open writes all that may not be durable there.
	Logged [][]byte
}

// Report tells what opening a log found and did.
type Report struct {
	// Recovered: the log was not closed cleanly, or has lost something at its end, and was
	// brought in order.
	Recovered bool
	// Rewritten counts the frames above the proven point that were written anew, and their bytes.
	Rewritten      int
	RewrittenBytes int64
	// Restored counts those of them that were not in the segment, but in the commit log.
	Restored int
	// Torn has the tails that nothing proves and that were kept aside.
	Torn []TornTail
	// Problems lists what is damaged or missing: *CorruptError and *MissingDataError.
	Problems []error
	// GapFrom and GapNext are the offsets that will never be given out because a position beyond the
	// end had been committed; equal if there are none.
	GapFrom, GapNext int64
	// Removed lists files that were begun and never finished, or that retention had already taken out.
	Removed []string
}

// Clean reports whether there is nothing to tell.
func (r *Report) Clean() bool {
	return !r.Recovered && len(r.Problems) == 0 && r.GapFrom == r.GapNext && len(r.Removed) == 0
}

// TornTail is the end of a segment that was cut off because nothing proves that it had ever been acknowledged.
type TornTail struct {
	File  string // where it is kept
	From  int64  // the offset that would have been the first in it
	Bytes int64
}

// SegmentInfo describes a segment.
type SegmentInfo struct {
	Name       string
	Base, End  int64 // the offsets in it
	Bytes      int64
	Sealed     bool  // it takes no more frames
	LastAppend int64 // nanoseconds since 1970, 0 if it is empty
	MaxTime    int64 // the latest record time
}

// Retention says what may be removed. A field that is not positive allows nothing.
type Retention struct {
	MaxAge   time.Duration // since the last append to a segment
	MaxBytes int64         // of the whole log
	// Finished: the log takes nothing more, so that its active segment may go too; an empty one takes its place. Retain is then to be
	// called by whoever may write to the log.
	Finished bool
}

// wrap adds the operation and its object to an error.
func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), err)
}
