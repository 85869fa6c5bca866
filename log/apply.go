package log

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/braid-go/braid/internal/sorting"
	"github.com/braid-go/braid/internal/vfs"
)

// Frames may be made durable by something else than this log, the commit log, which holds those of many logs
// behind one sync. They are then assigned first, which fixes their offsets, and applied when they are durable:
//
//	Room                  space is made sure of
//	Begin, Meta, Assign   in memory; the next frame comes behind these
//	...                   the commit log writes and syncs them
//	Apply                 they are written to the segment and visible; Sync makes them durable there, some time later
//
// What was assigned must be applied, in the same order, before anything is written with Write; if the commit log fails, the log
// must be failed too, since another frame at the same offsets could contradict the first.

// Assign takes note of the frames of b, which were begun with Meta: what comes next comes behind them. It does no
// I/O and cannot fail.
func (l *Log) Assign(b *Builder) {
	frames := b.Frames()
	if len(frames) == 0 {
		return
	}
	last := &frames[len(frames)-1]
	l.tail = tail{last.End, last.AppendTime}
	l.next.Store(last.End)
}

// Announce says that there are durable frames to be applied, and wakes readers. Whoever looks before they are applied calls Config.CatchUp, so that nobody
// sees less than what is durable, and frames that nobody looks at can be applied together.
func (l *Log) Announce() {
	l.announced.Add(1)
	l.listeners.notify()
}

// Announced counts the calls of Announce.
func (l *Log) Announced() int64 { return l.announced.Load() }

// Caught says that everything has been applied that was there when Announced gave n. Not before: somebody who looks while it is being applied waits for it, in
// CatchUp.
func (l *Log) Caught(n int64) { l.caught.Store(n) }

func (l *Log) catchUp() {
	if l.caught.Load() != l.announced.Load() {
		l.cfg.CatchUp()
	}
}

// AssignedEnd returns where the frames end that have been decided upon.
func (l *Log) AssignedEnd() int64 { return l.tail.end }

// Room makes sure of space for n bytes of frames that are to be applied, those included that Room was
// called for before and that have not been applied yet. Errors are as Write's.
func (l *Log) Room(n int64) error {
	if err := l.writable(); err != nil {
		return err
	}
	if err := l.openActive(); err != nil {
		return err
	}
	return l.reserve(n)
}

// Apply writes frames that were assigned and are durable in the commit log, and makes them visible. They are all of
// one builder. An error is a *FailedError and stays; the frames stand all the same, and opening the log with them finds them.
func (l *Log) Apply(data []byte, frames []FrameInfo) error {
	if len(frames) == 0 {
		return nil
	}
	if err := l.writable(); err != nil {
		return err
	}
	// Without room for another segment this one, in which there is room, grows.
	if err := l.rollIfFull(int64(len(data)), frames[0].Base); err != nil && !errors.Is(err, ErrNoSpace) && !errors.Is(err, ErrNoDescriptors) {
		return err
	}
	if err := l.openActive(); err != nil {
		return l.fail(err)
	}
	if err := l.reserve(int64(len(data))); err != nil {
		return l.fail(wrap(err, "apply logged frames"))
	}
	if _, err := l.w.file.WriteAt(data, l.w.end.pos); err != nil {
		return l.fail(wrap(err, "apply logged frames"))
	}
	l.wrote(frames, data)
	l.raiseDurable(l.w.end.off)
	l.show(l.w.end)
	return nil
}

// loggedFrame is a frame that the commit log has kept.
type loggedFrame struct {
	FrameHeader
	data []byte
}

// parseLogged takes the frames apart that the commit log has kept and puts them in order. One may be there
// more than once.
func (l *Log) parseLogged(logged [][]byte) ([]loggedFrame, error) {
	var out []loggedFrame
	for _, b := range logged {
		for len(b) > 0 {
			h, err := ParseFrameHeader(b)
			if err == nil {
				err = h.Verify(l.salt, b)
			}
			if err == nil && h.Partition != l.birth.PartitionID {
				err = fmt.Errorf("a frame of partition %d", h.Partition)
			}
			if err != nil {
				return nil, &CorruptError{Dir: l.cfg.Dir, File: "", Len: -1, Reason: "a frame from the commit log: " + err.Error()}
			}
			out = append(out, loggedFrame{h, b[:h.Size()]})
			b = b[h.Size():]
		}
	}
	sorting.StableFunc(out, func(a, b loggedFrame) int { return cmp.Compare(a.Base, b.Base) })
	return slices.CompactFunc(out, func(a, b loggedFrame) bool { return a.Base == b.Base }), nil
}

// overlay is a segment file in which logged frames stand that are not there, for reading only.
type overlay struct {
	vfs.File
	patches []patch // by position
	size    int64
}

type patch struct {
	pos  int64
	data []byte
}

func newOverlay(f vfs.File, patches []patch) (*overlay, error) {
	size, err := f.Size()
	for _, p := range patches {
		size = max(size, p.pos+int64(len(p.data)))
	}
	return &overlay{f, patches, size}, err
}

func (o *overlay) Size() (int64, error) { return o.size, nil }

func (o *overlay) ReadAt(b []byte, pos int64) (int, error) {
	n, err := o.File.ReadAt(b, pos)
	if err != nil && !errors.Is(err, io.EOF) {
		return n, err
	}
	if end := int(min(int64(len(b)), o.size-pos)); end > n {
		clear(b[n:end])
		n = end
	}
	for _, p := range o.patches {
		if from := p.pos - pos; from >= 0 && from < int64(n) {
			copy(b[from:n], p.data)
		} else if from < 0 && -from < int64(len(p.data)) {
			copy(b[:n], p.data[-from:])
		}
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}
