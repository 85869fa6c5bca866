package history

import "testing"

// story tells a history step by step, together with what a broker would hold after it.
type story struct {
	r     *Recorder
	final *Final
	ids   uint64
	// Producers, and members of groups: readers commits plainly, workers in transactions.
	p1, p2, m1, m2, w1, w2 *Client
}

const (
	readers Group = 1
	workers Group = 2
	// Partition outputs is where transactions publish.
	outputs = 9
)

func newStory() *story {
	s := &story{r: NewRecorder(), final: &Final{
		Records:   map[uint64][]Read{},
		Positions: map[Group]map[uint64]int64{readers: {}, workers: {}},
		Marks:     map[Seq]bool{},
	}}
	for _, c := range []**Client{&s.p1, &s.p2, &s.m1, &s.m2, &s.w1, &s.w2} {
		*c = s.r.Client()
	}
	return s
}

// record makes a record.
func (s *story) record(key uint64) Record {
	s.ids++
	return Record{Key: key, ID: s.ids, Sum: s.ids * 7}
}

// store is the broker storing a record.
func (s *story) store(partition uint64, rec Record) Place {
	reads := s.final.Records[partition]
	at := Place{partition, 0}
	if n := len(reads); n > 0 {
		at.Offset = reads[n-1].Offset + 1
	}
	s.final.Records[partition] = append(reads, Read{at.Offset, rec})
	return at
}

// publish is a publish that goes well.
func (s *story) publish(c *Client, partition, key uint64) (Record, Place) {
	rec := s.record(key)
	op := c.Publish(rec)
	at := s.store(partition, rec)
	c.Stored(op, at)
	return rec, at
}

// deliver gives a member the next records of a partition that are stored from an offset on.
func (s *story) deliver(c *Client, g Group, partition uint64, from int64, n int) {
	began := c.Now()
	for _, read := range s.final.Records[partition] {
		if read.Offset >= from && n > 0 {
			c.Delivered(began, g, Place{partition, read.Offset}, read.Record)
			n--
		}
	}
}

// assign gives a member a partition.
func (s *story) assign(c *Client, g Group, partition uint64) {
	c.Assigned(c.Now(), g, Place{partition, s.final.Positions[g][partition]})
}

// commit is a commit that goes well.
func (s *story) commit(c *Client, g Group, partition uint64, position int64) {
	op := c.Commit(g, Place{partition, position})
	s.final.Positions[g][partition] = max(s.final.Positions[g][partition], position)
	c.Ended(op, OK)
}

// consume is a transaction of the workers over inputs [from, to) of a partition, with one output for each; what is stored of
// it is up to the caller's do, and how it ends, too.
func (s *story) consume(c *Client, partition uint64, from, to int64, do func(tx Seq, outs []Record) Outcome) {
	tx := c.Begin()
	var outs []Record
	var ops []Seq
	for o := from; o < to; o++ {
		c.Input(tx, workers, Place{partition, o})
		rec := s.record(100 + partition)
		outs = append(outs, rec)
		ops = append(ops, c.Output(tx, rec))
	}
	c.Offset(tx, workers, Place{partition, to})
	c.Mark(tx)
	c.Committing(tx)
	outcome := do(tx, outs)
	c.Ended(tx, outcome)
	if outcome != OK {
		return
	}
	for i, rec := range outs {
		for _, read := range s.final.Records[outputs] {
			if read.Record == rec {
				c.Stored(ops[i], Place{outputs, read.Offset})
			}
		}
	}
}

// all is a transaction that takes effect wholly.
func (s *story) all(partition uint64, to int64) func(Seq, []Record) Outcome {
	return func(tx Seq, outs []Record) Outcome {
		for _, rec := range outs {
			s.store(outputs, rec)
		}
		s.final.Positions[workers][partition] = to
		s.final.Marks[tx] = true
		return OK
	}
}

// begin tells a history with a bit of everything in which nothing is wrong. It leaves partition 1 with records of the keys
// 1 and 2, partition 2 of key 3, all delivered and committed by m1 and m2, and 1 but for the last two records consumed by w1.
func (s *story) begin() {
	s.assign(s.m1, readers, 1)
	s.assign(s.m1, readers, 2)
	s.assign(s.w1, workers, 1)
	for range 3 {
		s.publish(s.p1, 1, 1)
		s.publish(s.p2, 1, 2)
		s.publish(s.p1, 2, 3)
	}
	refused := s.p1.Publish(s.record(1))
	s.p1.Ended(refused, Refused)
	s.p1.Ended(s.p1.Publish(s.record(1)), Unknown) // and it is not stored
	unknown := s.record(3)
	op := s.p1.Publish(unknown)
	s.store(2, unknown)
	s.p1.Ended(op, Unknown)
	s.deliver(s.m1, readers, 1, 0, 6)
	s.deliver(s.m1, readers, 2, 0, 2)
	s.commit(s.m1, readers, 1, 6)
	s.m1.Released(readers, 2)
	s.assign(s.m2, readers, 2)
	s.deliver(s.m2, readers, 2, 0, 4) // again: nothing was committed
	s.commit(s.m2, readers, 2, 4)
	s.deliver(s.w1, workers, 1, 0, 4)
	s.consume(s.w1, 1, 0, 2, s.all(1, 2))
	s.consume(s.w1, 1, 2, 4, func(Seq, []Record) Outcome { return Refused })
	s.deliver(s.w1, workers, 1, 2, 2)
	s.consume(s.w1, 1, 2, 4, s.all(1, 4))
	s.reopen()
}

// reopen closes and opens the broker in the middle of a publish and a transaction.
func (s *story) reopen() {
	s.p2.Publish(s.record(2))
	s.consume(s.w1, 1, 4, 5, func(Seq, []Record) Outcome { return Unknown })
	s.r.Crash(false)
	s.r.Reopened()
	s.assign(s.m1, readers, 1)
	s.assign(s.m2, readers, 2)
	s.assign(s.w1, workers, 1)
	_, at := s.publish(s.p1, 1, 1)
	s.deliver(s.m1, readers, 1, at.Offset, 1)
	s.commit(s.m1, readers, 1, at.Offset+1)
	s.deliver(s.w1, workers, 1, 4, 1)
	s.consume(s.w1, 1, 4, 5, s.all(1, 5))
	pending := s.record(3) // its call never returns
	s.p2.Publish(pending)
	s.store(2, pending)
}

func (s *story) check(t *testing.T, rules Rules) *Report {
	t.Helper()
	return Check(s.r.Events(), s.final, rules)
}

// end returns the offset behind a partition's last record.
func (s *story) end(partition uint64) int64 {
	reads := s.final.Records[partition]
	return reads[len(reads)-1].Offset + 1
}

// last returns the last record of a partition.
func (s *story) last(partition uint64) *Read {
	reads := s.final.Records[partition]
	return &reads[len(reads)-1]
}

// drop takes the last record of a partition away.
func (s *story) drop(partition uint64) {
	reads := s.final.Records[partition]
	s.final.Records[partition] = reads[:len(reads)-1]
}
