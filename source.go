package braid

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/braid-go/braid/log"
	"github.com/braid-go/braid/partition"
)

// source reads one partition for a consumer, a frame at a time. Its consumer owns it.
type source struct {
	sub    *subPartition // whose it is; nil for Read
	topic  string
	part   *topicPartition
	reader *log.Reader
	frame  *log.Frame // what is being delivered, nil between frames
	next   int64      // the offset wanted next
	end    int64      // deliver nothing from here on; -1: follow the visible end
	paused bool       // deliver nothing
	// parents are the sources of what this partition continues, in the same feed: they are read to their ends first.
	parents []*source
	through bool   // it was found to be reached, and no source of the feed has moved back since
	cancel  func() // ends the notifying, while the source is in a feed
}

func newSource(topic string, p *topicPartition, from int64, reuse bool) *source {
	return &source{
		topic: topic, part: p, next: from, end: -1,
		reader: p.log.NewReader(from, log.ReaderOptions{Reuse: reuse}),
	}
}

func (s *source) seek(offset int64) {
	s.through = false
	s.reader.SeekTo(offset)
	s.frame, s.next = nil, offset
	if s.sub != nil && s.reached() {
		s.sub.origin.sub.tell() // the group is to know, as when the last record is delivered
	}
}

// ready reports, cheaply, whether pull or read could give anything but "nothing".
func (s *source) ready() bool {
	if s.paused || s.reached() || slices.ContainsFunc(s.parents, func(p *source) bool { return !p.reached() }) {
		return false
	}
	return s.frame != nil || s.next != s.part.log.VisibleEnd() || s.part.log.Start() > s.next
}

// reached reports whether everything up to the end has been delivered, and of what it continues too: a partition in which there never was a record is at
// its end from the beginning. What the group is finished with counts too, wherever a Seek has left the reading of it since.
func (s *source) reached() bool {
	s.through = s.through || s.sub != nil && s.sub.over || s.end >= 0 && s.next >= s.end && !slices.ContainsFunc(s.parents, func(p *source) bool { return !p.reached() })
	return s.through
}

// used reports whether the last record of a frame was just delivered.
func (s *source) used() bool { return s.frame != nil && s.next >= s.frame.End() }

// read decodes the next record. It returns false at the end of what is visible.
func (s *source) read(d *log.Record) (bool, error) {
	for {
		if s.reached() {
			return false, nil
		}
		if s.frame == nil {
			if ok, err := s.pull(); !ok || err != nil {
				return false, err
			}
		}
		ok, err := s.frame.Next(d)
		if err != nil {
			return false, logError(s.topic, s.part.id, err)
		}
		if ok {
			s.next = d.Offset + 1
			return true, nil
		}
		s.next, s.frame = s.reader.Offset(), nil
	}
}

// pull reads the next frame.
func (s *source) pull() (bool, error) {
	f, err := s.reader.Next()
	if errors.Is(err, io.EOF) {
		return false, nil
	}
	if errors.Is(err, log.ErrClosed) && s.part.dropped.Load() { // retention had removed everything before
		err = &log.OffsetOutOfRangeError{Offset: s.next, Next: s.part.log.VisibleEnd()}
	}
	if err != nil {
		return false, logError(s.topic, s.part.id, err)
	}
	s.frame = f
	return true, nil
}

// gapOf returns the gap that an error reports, if it reports one.
func gapOf(err error) (Gap, bool) {
	var corrupt *CorruptError
	var missing *MissingDataError
	var outside *OffsetOutOfRangeError
	switch {
	case errors.As(err, &corrupt):
		return Gap{corrupt.Topic, corrupt.Partition, corrupt.From, corrupt.Next, err}, true
	case errors.As(err, &missing):
		return Gap{missing.Topic, missing.Partition, missing.From, missing.Next, err}, true
	case errors.As(err, &outside):
		return Gap{outside.Topic, outside.Partition, outside.Offset, outside.Next, err}, true
	}
	return Gap{}, false
}

// feed takes records from several partitions in turn, a frame from each: what Read and
// subscriptions have in common. Its consumer serialises the calls of take.
type feed struct {
	t       *Topic
	sources []*source
	turn    int
	onGap   func(Gap) bool
	tab     *table // of Read that follows all partitions: the layout that it has
	reuse   bool

	wake   chan struct{}   // receives when a partition's visible end has moved, and from nudge
	closed <-chan struct{} // ends waiting with ErrClosed; may be nil
}

func newFeed(t *Topic) *feed { return &feed{t: t, wake: make(chan struct{}, 1)} }

func (f *feed) add(s *source) {
	s.cancel = s.part.log.Notify(f.wake)
	f.sources = append(f.sources, s)
}

func (f *feed) remove(s *source) {
	i := slices.Index(f.sources, s)
	if i < 0 {
		return
	}
	f.sources = slices.Delete(f.sources, i, i+1)
	if f.turn > i {
		f.turn--
	}
	s.cancel()
	s.reader.Close()
}

func (f *feed) close() {
	for len(f.sources) > 0 {
		f.remove(f.sources[len(f.sources)-1])
	}
}

// nudge ends a wait: there may be something to do.
func (f *feed) nudge() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// take decodes the next record of any partition; a nil source means that there is none now. An
// error leaves the position of its partition alone, and the turn goes on to the next.
func (f *feed) take(d *log.Record) (*source, error) {
	for quiet := 0; quiet < len(f.sources); quiet++ { // so many, one after the other, have had nothing
		if f.turn >= len(f.sources) {
			f.turn = 0
		}
		s := f.sources[f.turn]
		next := s.next
		ok, err := f.takeFrom(s, d)
		if !ok || s.used() {
			f.turn++
		}
		if err != nil && errors.Is(err, ErrClosed) && f.t.deleted.Load() {
			return nil, fmt.Errorf("%w: %s was deleted", ErrTopicNotFound, f.t.name)
		}
		if err != nil {
			return nil, err
		}
		if ok {
			return s, nil
		}
		if s.next != next { // past a gap: what continues it may be ready now
			quiet = -1
		}
	}
	return nil, nil
}

// takeFrom decodes the next record of one partition, skipping the gaps that onGap lets it skip.
func (f *feed) takeFrom(s *source, d *log.Record) (bool, error) {
	for s.ready() {
		ok, err := s.read(d)
		if err == nil {
			return ok, nil
		}
		gap, is := gapOf(err)
		if !is || gap.Next <= s.next || f.onGap == nil || !f.onGap(gap) {
			return ok, err
		}
		s.seek(gap.Next)
	}
	return false, nil
}

// How often a read-only broker looks for what the writer has added.
const refreshInterval = 50 * time.Millisecond

// wait returns nil when there may be something to take, or when other, which may be nil, receives.
func (f *feed) wait(ctx context.Context, other <-chan struct{}) error {
	var poll <-chan time.Time
	if f.t.b.opts.ReadOnly {
		timer := time.NewTimer(refreshInterval)
		defer timer.Stop()
		poll = timer.C
	}
	var replaced <-chan struct{}
	if f.tab != nil {
		replaced = f.tab.replaced
	}
	select {
	case <-f.wake:
		return nil
	case <-replaced:
		return f.grow()
	case <-other:
		return nil
	case <-poll:
		return f.refresh()
	case <-ctx.Done():
		return ctx.Err()
	case <-f.closed:
		return ErrClosed
	case <-f.t.b.done:
		return ErrClosed
	case <-f.t.gone:
		return fmt.Errorf("%w: %s was deleted", ErrTopicNotFound, f.t.name)
	}
}

// grow takes over a new layout: partitions have been sealed, and others continue them.
func (f *feed) grow() error {
	f.tab = f.t.table.Load()
	for _, p := range f.tab.all {
		info, _ := f.tab.layout.Lookup(p.id)
		i := slices.IndexFunc(f.sources, func(s *source) bool { return s.part == p })
		if i < 0 {
			i = len(f.sources)
			f.add(newSource(f.t.name, p, info.First, f.reuse))
			f.sources[i].parents = f.of(info.Parents)
		}
		if s := f.sources[i]; info.State == partition.StateSealed {
			s.end = info.End
		}
	}
	for _, s := range slices.Clone(f.sources) {
		if s.part.dropped.Load() && s.reached() {
			f.remove(s)
		}
	}
	return nil
}

// of returns the sources of partitions.
func (f *feed) of(ids []PartitionID) []*source {
	var out []*source
	for _, s := range f.sources {
		if slices.Contains(ids, s.part.id) {
			out = append(out, s)
		}
	}
	return out
}

// refresh looks for what the writer of a directory opened read-only has added.
func (f *feed) refresh() error {
	for _, s := range f.sources {
		if err := s.part.log.Refresh(); err != nil && !s.part.dropped.Load() {
			return logError(f.t.name, s.part.id, err)
		}
	}
	return nil
}

// slab hands out records from blocks, so that a delivered record costs no allocation of its own.
type slab struct {
	block []Record
	most  int // records that may still be wanted, so that a Poll of one makes no block of many; 0: nobody knows
}

const slabRecords = 64

func (s *slab) take() *Record {
	if len(s.block) == 0 {
		n := slabRecords
		if s.most > 0 {
			n = min(n, s.most)
			s.most -= n
		}
		s.block = make([]Record, n)
	}
	r := &s.block[0]
	s.block = s.block[1:]
	return r
}
