package braid

import (
	"context"
	"time"
)

// Lag is how far a group is behind in a partition.
type Lag struct {
	Partition PartitionID
	// Committed is the group's position, End the offset behind the last visible record.
	Committed, End int64
	// Records is how many records are still to be committed. Those that retention has removed do not count.
	Records int64
	// Time is how old the first of them is by its Time; 0 if there is none.
	Time time.Duration
}

// Lag tells how far the group is behind in the partitions that this member has, by id. It reads one record of each partition that is not
// committed to the end. Errors: ctx's, ErrClosed, and those of reading.
func (s *Subscription) Lag(ctx context.Context) ([]Lag, error) {
	if s.closed() {
		return nil, ErrClosed
	}
	type place struct {
		part *topicPartition
		at   int64
	}
	s.mu.Lock()
	places := make([]place, len(s.parts))
	for i, p := range s.parts {
		places[i] = place{p.part, p.committed}
	}
	s.mu.Unlock()
	out := make([]Lag, len(places))
	for i, p := range places {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var err error
		if out[i], err = p.part.lag(s.t.name, p.at, time.Now()); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// lag tells how far a position is behind.
func (p *topicPartition) lag(topic string, committed int64, now time.Time) (Lag, error) {
	lag := Lag{Partition: p.id, Committed: committed, End: p.log.VisibleEnd()}
	first := max(committed, p.log.Start())
	if lag.Records = max(0, lag.End-first); lag.Records == 0 {
		return lag, nil
	}
	src := newSource(topic, p, first, true)
	defer src.reader.Close()
	var rec Record
	for {
		ok, err := src.open()
		if ok {
			err = src.load(&rec)
		}
		if err == nil {
			if ok {
				lag.Time = max(0, now.Sub(rec.Time))
			}
			return lag, nil
		}
		gap, is := gapOf(err)
		if !is || gap.Next <= src.next {
			return lag, err
		}
		src.seek(gap.Next) // what cannot be had is not waited for
	}
}
