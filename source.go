package braid

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
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
	run    int        // records of the frame that can be loaded without looking at anything else
	next   int64      // the offset wanted next
	end    int64      // deliver nothing from here on; -1: follow the visible end
	paused bool       // deliver nothing
	// parents are the sources of what this partition continues, in the same feed: they are read to their ends first.
	parents []*source
	through bool // it was found to be reached, and no source of the feed has moved back since

	// While the source is in a feed:
	feed     *feed
	children []*source   // those that have it among their parents, also such as have left
	cancel   func()      // ends the notifying
	listed   atomic.Bool // is to be looked at; written under feed.mu

	nanos int64 // of the record loaded last, and the same as a time: those published together have one
	time  time.Time
}

func newSource(topic string, p *topicPartition, from int64, reuse bool) *source {
	return &source{
		topic: topic, part: p, next: from, end: -1,
		reader: p.log.NewReader(from, log.ReaderOptions{Reuse: reuse}),
	}
}

func (s *source) seek(offset int64) {
	s.moves()
	s.through, s.run = false, 0
	s.reader.SeekTo(offset)
	s.frame, s.next = nil, offset
	if s.sub != nil && s.reached() {
		s.sub.origin.sub.tell() // the group is to know, as when the last record is delivered
	}
}

// moves notes, before next changes or records are loaded, that it does.
func (s *source) moves() {
	if s.sub != nil && !s.sub.moved {
		s.sub.moved = true
		sub := s.sub.origin.sub
		sub.touched = append(sub.touched, s.sub)
	}
}

// ready reports, cheaply, whether open could give anything but "nothing".
func (s *source) ready() bool {
	if s.paused || s.reached() || slices.ContainsFunc(s.parents, func(p *source) bool { return !p.reached() }) {
		return false
	}
	return s.frame != nil || s.next != s.part.log.VisibleEnd() || s.part.log.Start() > s.next
}

// reached reports whether everything up to the end has been delivered, and of what it continues too: a partition in which there never was a record is at
// its end from the beginning. What the group is finished with counts too, wherever a Seek has left the reading of it since.
func (s *source) reached() bool {
	if s.through {
		return true
	}
	s.through = s.sub != nil && s.sub.over || s.end >= 0 && s.next >= s.end && !slices.ContainsFunc(s.parents, func(p *source) bool { return !p.reached() })
	if s.through {
		for _, c := range s.children { // which may be ready now
			if c.feed != nil {
				c.feed.list(c)
			}
		}
	}
	return s.through
}

// used reports whether the last record of a frame was just delivered.
func (s *source) used() bool { return s.frame != nil && s.next >= s.frame.End() }

// open makes sure that there is a record to load: run is how many there are of the frame. It returns false at the end of what is visible.
func (s *source) open() (bool, error) {
	for !s.reached() {
		if s.frame == nil {
			ok, err := s.pull()
			if at := s.reader.Offset(); err == nil && !ok && at > s.next { // over a gap that was declared, and nothing is behind it yet
				s.seek(at)
				continue
			}
			if !ok || err != nil {
				return false, err
			}
		}
		s.run = s.frame.Left()
		if s.end >= 0 {
			s.run = int(min(int64(s.run), max(s.end-s.frame.Offset(), 0)))
		}
		if s.run > 0 {
			return true, nil
		}
		if s.frame.Left() > 0 { // it begins behind the end
			s.seek(s.end)
			continue
		}
		if _, err := s.frame.Next(nil); err != nil {
			return false, logError(s.topic, s.part.id, err)
		}
		s.moves()
		s.next, s.frame = s.reader.Offset(), nil
	}
	return false, nil
}

// load decodes the next record. There must be one: run says so.
func (s *source) load(r *Record) error {
	offset := s.frame.Offset()
	nanos, err := s.frame.Decode(&r.Key, &r.Value, &r.Headers)
	if err != nil {
		s.run = 0
		return logError(s.topic, s.part.id, err)
	}
	s.next = offset + 1
	s.run--
	if nanos != s.nanos || s.time.IsZero() {
		s.nanos, s.time = nanos, time.Unix(0, nanos)
	}
	r.Time = s.time
	r.Topic, r.Partition, r.Offset, r.Ack = s.topic, s.part.id, offset, AckNone
	if s.frame.Early {
		r.Ack = AckWritten
	}
	return nil
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
//
// A feed looks at those partitions that may have something, and not at all of them: at one whose log has told of a change, or that had more when it was looked at last. Whoever changes
// anything else that decides whether there is something (pauses, seeks, ends, what continues what) has all of them looked at. A source is taken off the list before it is looked at, so
// a change that comes meanwhile puts it there again.
type feed struct {
	t       *Topic
	sources []*source
	current *source // whose turn it is, until its frame is used up
	failed  *source // whose error open returned last
	onGap   func(Gap) bool
	tab     *table // of Read that follows all partitions: the layout that it has
	reuse   bool

	mu    sync.Mutex // guards the two below, and listed of sources; nothing else is locked or called under it
	ready []*source  // to be looked at, in turn
	all   bool       // all are

	wake   chan struct{}   // receives when there is something to be looked at, and from nudge
	closed <-chan struct{} // ends waiting with ErrClosed; may be nil
}

func newFeed(t *Topic) *feed { return &feed{t: t, wake: make(chan struct{}, 1)} }

func (f *feed) add(s *source) {
	s.feed = f
	f.sources = append(f.sources, s)
	f.list(s)
	s.cancel = s.part.log.Notify(func() {
		if s.listed.Load() { // whoever has listed it sees to it that it is looked at, and it will be taken off the list before
			return
		}
		f.list(s)
		f.rouse()
	})
}

// follow says which partitions a source continues. Those that are not here are finished.
func (f *feed) follow(s *source, parents []PartitionID) {
	s.parents = f.of(parents)
	for _, p := range s.parents {
		p.children = append(p.children, s)
	}
}

func (f *feed) remove(s *source) {
	i := slices.Index(f.sources, s)
	if i < 0 {
		return
	}
	f.sources = slices.Delete(f.sources, i, i+1)
	if f.current == s {
		f.current = nil
	}
	s.cancel()
	f.unlist(s)
	f.look()
	s.feed = nil
	s.reader.Close()
}

// unlist takes a source off the list.
func (f *feed) unlist(s *source) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.listed.Load() {
		s.listed.Store(false)
		f.ready = slices.DeleteFunc(f.ready, func(o *source) bool { return o == s })
	}
}

func (f *feed) close() {
	for len(f.sources) > 0 {
		f.remove(f.sources[len(f.sources)-1])
	}
}

// list has a source be looked at, after those that are to be already.
func (f *feed) list(s *source) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !s.listed.Load() {
		s.listed.Store(true)
		f.ready = append(f.ready, s)
	}
}

// retry has the source whose error open returned last be looked at first: nobody was told.
func (f *feed) retry() {
	s := f.failed
	f.unlist(s)
	f.mu.Lock()
	defer f.mu.Unlock()
	s.listed.Store(true)
	f.ready = slices.Insert(f.ready, 0, s)
}

// look has all sources be looked at.
func (f *feed) look() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = true
}

// rouse ends a wait.
func (f *feed) rouse() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// nudge ends a wait: there may be something to do, in any of the sources.
func (f *feed) nudge() {
	f.look()
	f.rouse()
}

// take takes the next source off the list, nil if there is none.
func (f *feed) take() *source {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.all {
		f.all = false
		for _, s := range f.sources {
			if !s.listed.Load() {
				s.listed.Store(true)
				f.ready = append(f.ready, s)
			}
		}
	}
	if len(f.ready) == 0 {
		return nil
	}
	s := f.ready[0]
	f.ready[0] = nil
	if len(f.ready) == 1 {
		f.ready = f.ready[:0] // its memory serves again
	} else {
		f.ready = f.ready[1:]
	}
	s.listed.Store(false)
	return s
}

// open returns the source whose turn it is, with at least one record to load; nil means that there is none now. An
// error leaves the position of its partition alone, and the turn goes on to the next.
func (f *feed) open() (*source, error) {
	for {
		if f.current == nil {
			f.current = f.take()
		}
		s := f.current
		if s == nil {
			return nil, nil
		}
		next := s.next
		ok, err := s.run > 0, error(nil)
		if !ok {
			ok, err = f.openOne(s)
		}
		if ok {
			s.moves()
			return s, nil
		}
		f.current = nil
		if s.next != next { // past a gap: what continues it may be ready now
			f.look()
		}
		if err == nil {
			continue
		}
		f.list(s)
		f.failed = s
		if errors.Is(err, ErrClosed) && f.t.deleted.Load() {
			return nil, fmt.Errorf("%w: %s was deleted", ErrTopicNotFound, f.t.name)
		}
		return nil, err
	}
}

// openOne opens one partition, skipping the gaps that onGap lets it skip.
func (f *feed) openOne(s *source) (bool, error) {
	for s.ready() {
		ok, err := s.open()
		if err == nil {
			return ok, nil
		}
		gap, is := gapOf(err)
		if !is || gap.Next <= s.next || f.onGap == nil || !f.onGap(gap) {
			return false, err
		}
		s.seek(gap.Next)
	}
	return false, nil
}

// pass lets the turn go on if the frame of the source whose turn it is has been used up, or cannot be decoded.
func (f *feed) pass(s *source, err error) {
	if err != nil || s.used() {
		f.current = nil
		f.list(s)
	}
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
			f.follow(f.sources[i], info.Parents)
		}
		if s := f.sources[i]; info.State == partition.StateSealed {
			s.end = info.End
		}
	}
	f.look()
	for _, s := range slices.Clone(f.sources) {
		if s.part.dropped.Load() && s.reached() {
			f.remove(s)
		}
	}
	return nil
}

// of returns the sources of partitions.
func (f *feed) of(ids []PartitionID) []*source {
	if len(ids) == 0 {
		return nil
	}
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
	defer f.look()
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
	size  int // of the last block
}

const slabRecords = 64

// take returns a record. With it wanted records are known to be wanted, and at most most may still be. A block is larger than what is known only where those
// before it were used up, so that few records make no block of many.
func (s *slab) take(wanted, most int) *Record {
	if len(s.block) == 0 {
		s.size = min(max(wanted, 2*s.size), most, slabRecords)
		s.block = make([]Record, s.size)
	}
	r := &s.block[0]
	s.block = s.block[1:]
	return r
}
