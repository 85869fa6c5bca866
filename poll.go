package braid

import (
	"context"
	"errors"
	"iter"
	"slices"
)

// defaultPoll is how many records Poll returns at most if not told otherwise.
const defaultPoll = 500

// errChanged: what the member has has changed, which is to be followed before anything else.
var errChanged = errors.New("braid: assignment has changed")

// begin marks a Poll or Records as under way.
func (s *Subscription) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !s.polling.CompareAndSwap(false, true) {
		return ErrBusy
	}
	s.polls.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.touched { // asking for more says that what came before is finished
		p.finished, p.moved = max(p.finished, p.delivered()), false
	}
	clear(s.touched)
	s.touched = s.touched[:0]
	s.current = nil
	return nil
}

func (s *Subscription) end() { s.polling.Store(false) }

// Poll returns between one and max records (max <= 0 means 500) as soon as there are any, in order
// within each partition, or an error and no records: ctx's when it ends first, ErrClosed,
// ErrTopicNotFound when the topic is deleted, ErrBusy, the error of a failed automatic commit, or, for
// records that cannot be had, a [*CorruptError], [*MissingDataError] or [*OffsetOutOfRangeError]; then that
// partition's position stays until Seek, and other partitions are delivered by further
// Polls.
//
// Calling Poll says that the records of earlier Polls are finished. It is also in Poll that a member follows its group: it gives partitions up
// and takes others over, and the callbacks of SubscribeOptions are called.
func (s *Subscription) Poll(ctx context.Context, max int) ([]*Record, error) {
	if max <= 0 {
		max = defaultPoll
	}
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	for {
		if err := s.rebalance(ctx); err != nil {
			return nil, err
		}
		recs, err := s.collect(max)
		if len(recs) > 0 || err != nil {
			return recs, err
		}
		if err := s.wait(ctx, nil); err != nil {
			return nil, err
		}
	}
}

// wait returns nil when there may be something to deliver or to follow, or when other, which may be nil, receives. Whoever waits is alive.
func (s *Subscription) wait(ctx context.Context, other <-chan struct{}) error {
	s.waiting.Store(true)
	defer s.waiting.Store(false)
	return s.feed.wait(ctx, other)
}

// idle follows the group without taking records, until room receives, something has happened, or ctx ends.
func (s *Subscription) idle(ctx context.Context, room <-chan struct{}) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	if err := s.rebalance(ctx); err != nil {
		return err
	}
	return s.wait(ctx, room)
}

// collect delivers up to max records without waiting.
func (s *Subscription) collect(max int) ([]*Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(); err != nil {
		return nil, err
	}
	var fresh slab
	recs := s.reused[:0]
	for len(recs) < max {
		src, err := s.feed.open()
		if src == nil && len(recs) == 0 {
			return nil, err
		}
		if err != nil {
			s.feed.retry() // in the next Poll
		}
		if src == nil {
			break
		}
		before, n := len(recs), min(src.run, max-len(recs))
		recs = slices.Grow(recs, n)
		for ; n > 0 && err == nil; n-- {
			var rec *Record
			if i := len(recs); s.opts.ReuseBuffers && recs[:i+1][i] != nil {
				rec = recs[:i+1][i]
			} else {
				rec = fresh.take(n, max-len(recs))
			}
			if err = s.deliver(src, rec); err == nil {
				recs = append(recs, rec)
			}
		}
		s.delivered.Add(uint64(len(recs) - before))
		if err != nil && len(recs) == 0 {
			return nil, err
		}
		if err != nil || s.opts.ReuseBuffers && src.used() {
			break // the next frame would take the place of these records
		}
	}
	if s.opts.ReuseBuffers {
		s.reused = recs
	}
	return recs, nil
}

// check returns why nothing can be delivered. The caller holds mu.
func (s *Subscription) check() error {
	if s.closed() {
		return ErrClosed
	}
	err := s.failed
	s.failed = nil
	return err
}

// deliver loads the next record of a source that has one. The caller holds mu.
func (s *Subscription) deliver(src *source, rec *Record) error {
	err := src.load(rec)
	if src.run == 0 {
		s.feed.pass(src, err)
	}
	if err != nil {
		return err
	}
	p := src.sub
	rec.origin, rec.originOffset = p.origin, rec.Offset
	p.last = rec.Offset
	if src.run == 0 && src.reached() {
		s.changed.Store(true) // the group is to know
	}
	return nil
}

// Records iterates over the group's records, waiting for more at the end. It ends in one of two ways: the
// loop's body breaks out, which keeps the membership and leaves the record unfinished until the next
// Poll or Records; or with exactly one (nil, err), where err is as Poll's.
//
// A record is finished when its iteration has ended normally.
func (s *Subscription) Records(ctx context.Context) iter.Seq2[*Record, error] {
	return func(yield func(*Record, error) bool) {
		if err := s.begin(ctx); err != nil {
			yield(nil, err)
			return
		}
		defer s.end()
		var memory slab
		rec := new(Record)
		for n := 0; ; n++ {
			looked := ctx
			if n%checkEvery != 0 {
				looked = context.Background()
			}
			next, err := s.step(looked, rec, &memory)
			switch {
			case err == errChanged:
				err = s.rebalance(ctx)
			case next == nil && err == nil:
				err = s.wait(ctx, nil)
			}
			if next == nil && err == nil {
				continue
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(next, nil) {
				return
			}
		}
	}
}

// step finishes the record before and, unless ctx has ended, delivers the next one: rec, or with memory of its own. None and no error: there is none now.
func (s *Subscription) step(ctx context.Context, rec *Record, memory *slab) (*Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.current; p != nil {
		p.finished = max(p.finished, p.last+1)
		s.current = nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	if s.changed.Load() {
		return nil, errChanged
	}
	src, err := s.feed.open()
	if src == nil {
		return nil, err
	}
	if !s.opts.ReuseBuffers {
		rec = memory.take(src.run, slabRecords)
	}
	if err := s.deliver(src, rec); err != nil {
		return nil, err
	}
	s.delivered.Add(1)
	s.current = src.sub
	return rec, nil
}
