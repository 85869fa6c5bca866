package history

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// bugs are what a broken broker may do after a history in which nothing was wrong. Each must be found, under its own name and under
// no other.
var bugs = []struct {
	name string
	want Anomaly
	do   func(s *story)
}{
	{"an acknowledged record is gone", Lost, func(s *story) {
		s.publish(s.p1, 1, 1)
		s.drop(1)
	}},
	{"an acknowledged record is gone, and was delivered", Lost, func(s *story) {
		s.publish(s.p1, 1, 1)
		s.deliver(s.m1, readers, 1, s.end(1)-1, 1)
		s.drop(1)
	}},
	{"a record nobody published is stored", Phantom, func(s *story) { s.store(1, s.record(1)) }},
	{"a refused record is stored", Phantom, func(s *story) {
		rec := s.record(1)
		op := s.p1.Publish(rec)
		s.store(1, rec)
		s.p1.Ended(op, Refused)
	}},
	{"a record is delivered before its publish is invoked", Phantom, func(s *story) {
		rec := s.record(1)
		at := s.store(1, rec)
		s.deliver(s.m1, readers, 1, at.Offset, 1)
		s.p1.Stored(s.p1.Publish(rec), at)
	}},
	{"an output is delivered before its transaction is committed", Phantom, func(s *story) {
		s.consume(s.w1, 1, 5, 5, s.all(1, 5))
		tx := s.w1.Begin()
		rec := s.record(1)
		s.w1.Output(tx, rec)
		s.store(outputs, rec)
		s.deliver(s.m1, readers, outputs, s.end(outputs)-1, 1)
		s.w1.Committing(tx)
		s.w1.Ended(tx, OK)
	}},
	{"an output of a transaction that was rolled back is stored", Phantom, func(s *story) {
		tx := s.w1.Begin()
		rec := s.record(1)
		s.w1.Output(tx, rec)
		s.store(outputs, rec)
		s.w1.Ended(tx, Refused)
	}},
	{"a record is delivered, and gone after a crash", Vanished, func(s *story) {
		rec := s.record(1)
		s.p1.Publish(rec)
		s.store(1, rec)
		s.deliver(s.m1, readers, 1, s.end(1)-1, 1)
		s.r.Crash(true)
		s.drop(1)
		s.r.Reopened()
	}},
	{"other bytes are stored", Changed, func(s *story) {
		s.publish(s.p1, 1, 1)
		s.last(1).Record.Sum++
	}},
	{"other bytes are delivered", Changed, func(s *story) {
		rec, at := s.publish(s.p1, 1, 1)
		rec.Sum++
		s.m1.Delivered(s.m1.Now(), readers, at, rec)
	}},
	{"what is stored is not a value any more", Changed, func(s *story) {
		s.publish(s.p1, 1, 1)
		s.last(1).Record = Record{Key: 1, Sum: 5}
	}},
	{"a record has another key", Changed, func(s *story) {
		s.publish(s.p1, 1, 1)
		s.last(1).Record.Key = 2
	}},
	{"a record is stored twice", Duplicate, func(s *story) {
		rec, _ := s.publish(s.p1, 1, 1)
		s.store(1, rec)
	}},
	{"a record is stored in two partitions", Duplicate, func(s *story) {
		rec, _ := s.publish(s.p1, 1, 1)
		s.store(2, rec)
	}},
	{"a record is stored elsewhere than acknowledged", Moved, func(s *story) {
		s.publish(s.p1, 1, 1)
		s.last(1).Offset++
	}},
	{"a record is delivered from elsewhere than it is stored", Moved, func(s *story) {
		rec, at := s.publish(s.p1, 1, 1)
		at.Offset++
		s.m1.Delivered(s.m1.Now(), readers, at, rec)
	}},
	{"two records are acknowledged at one offset", SharedOffset, func(s *story) {
		op := s.p1.Publish(s.record(1))
		s.p1.Stored(op, Place{1, s.end(1)})
		s.publish(s.p2, 1, 2)
	}},
	{"two records are read at one offset", SharedOffset, func(s *story) {
		a, b := s.record(1), s.record(2)
		one, two := s.p1.Publish(a), s.p2.Publish(b)
		s.p1.Stored(one, s.store(1, a))
		s.p2.Ended(two, Unknown)
		s.store(1, b)
		s.last(1).Offset--
	}},
	{"a record is read twice at its offset", Duplicate, func(s *story) {
		rec, _ := s.publish(s.p1, 1, 1)
		s.store(1, rec)
		s.last(1).Offset--
	}},
	{"an offset is used again after a reopening", ReusedOffset, func(s *story) {
		s.publish(s.p1, 1, 1)
		s.r.Reopened()
		s.drop(1)
		s.publish(s.p2, 1, 2)
	}},
	{"an offset that was delivered is used again after a crash", ReusedOffset, func(s *story) {
		rec := s.record(1)
		s.p1.Publish(rec)
		s.store(1, rec)
		s.deliver(s.m1, readers, 1, s.end(1)-1, 1)
		s.r.Crash(true)
		s.r.Reopened()
		s.drop(1)
		s.publish(s.p2, 1, 2)
	}},
	{"an offset is below one that was acknowledged before the publish began", Regression, func(s *story) {
		late, early := s.record(1), s.record(2)
		op := s.p2.Publish(early)
		s.p2.Stored(op, Place{1, s.end(1) + 1})
		s.p1.Stored(s.p1.Publish(late), s.store(1, late))
		s.store(1, early)
	}},
	{"a partition is read backwards", Regression, func(s *story) {
		a, b := s.record(1), s.record(2)
		one, two := s.p1.Publish(a), s.p2.Publish(b)
		s.p1.Stored(one, s.store(1, a))
		s.p2.Stored(two, s.store(1, b))
		reads := s.final.Records[1]
		n := len(reads)
		reads[n-1], reads[n-2] = reads[n-2], reads[n-1]
	}},
	{"a producer's records of one key change their order", Reordered, func(s *story) {
		a, b := s.record(1), s.record(1)
		one, two := s.p1.Publish(a), s.p1.Publish(b)
		s.p1.Stored(two, s.store(1, b))
		s.p1.Stored(one, s.store(1, a))
	}},
	{"records of one key are stored against real time", Reordered, func(s *story) {
		early, late := s.record(1), s.record(1)
		s.p1.Stored(s.p1.Publish(early), Place{1, s.end(1) + 1})
		s.p2.Stored(s.p2.Publish(late), s.store(1, late))
		s.store(1, early)
	}},
	{"after a split a child's record is from before its parent's end", Reordered, func(s *story) {
		s.r.Split(1, 5, 6)
		late, early := s.record(1), s.record(1)
		s.p1.Stored(s.p1.Publish(early), s.store(5, early))
		s.p2.Stored(s.p2.Publish(late), s.store(1, late))
	}},
	{"a group is delivered a key's records out of order", Reordered, func(s *story) {
		s.publish(s.p1, 1, 1)
		_, at := s.publish(s.p1, 1, 1)
		s.deliver(s.m1, readers, 1, at.Offset, 1)
		s.deliver(s.m1, readers, 1, at.Offset-1, 1)
	}},
	{"a group is delivered a child's records before its parent's", Reordered, func(s *story) {
		_, at := s.publish(s.p1, 1, 1)
		s.r.Split(1, 5, 6)
		s.publish(s.p1, 5, 1)
		s.deliver(s.m2, readers, 5, 0, 1)
		s.deliver(s.m1, readers, 1, at.Offset, 1)
	}},
	{"a position is lost", Backwards, func(s *story) { s.final.Positions[readers][1]-- }},
	{"a position goes back for a moment", Backwards, func(s *story) {
		s.m2.Assigned(s.m2.Now(), readers, Place{1, 3})
	}},
	{"a new owner begins in front of what is committed", Backwards, func(s *story) {
		s.m1.Released(readers, 1)
		s.assign(s.m2, readers, 1)
		s.deliver(s.m2, readers, 1, 5, 1)
	}},
	{"a position is behind what has not been delivered", Beyond, func(s *story) {
		_, at := s.publish(s.p1, 1, 1)
		s.commit(s.m1, readers, 1, at.Offset+1)
	}},
	{"a position is behind what anybody tried to commit", Beyond, func(s *story) {
		_, at := s.publish(s.p1, 1, 1)
		s.deliver(s.m1, readers, 1, at.Offset, 1)
		s.final.Positions[readers][1] = at.Offset + 1
	}},
	{"a member skips a record", Skipped, func(s *story) {
		s.publish(s.p1, 1, 1)
		_, at := s.publish(s.p2, 1, 2)
		s.deliver(s.m1, readers, 1, at.Offset, 1)
		s.commit(s.m1, readers, 1, at.Offset+1)
	}},
	{"a member goes on reading what another has been assigned", TwoOwners, func(s *story) {
		_, at := s.publish(s.p1, 1, 1)
		s.assign(s.m2, readers, 1)
		s.deliver(s.m1, readers, 1, at.Offset, 1)
	}},
	{"a commit of the owner before is not fenced", TwoOwners, func(s *story) {
		_, at := s.publish(s.p1, 1, 1)
		s.deliver(s.m1, readers, 1, at.Offset, 1)
		s.assign(s.m2, readers, 1)
		s.commit(s.m1, readers, 1, at.Offset+1)
	}},
	{"a transaction of the owner before is not fenced", TwoOwners, func(s *story) {
		_, at := s.publish(s.p1, 1, 1)
		s.deliver(s.w1, workers, 1, 5, 9)
		s.assign(s.w2, workers, 1)
		s.consume(s.w1, 1, 5, at.Offset+1, s.all(1, at.Offset+1))
	}},
	{"a transaction's outputs are there without its position", Torn, func(s *story) {
		s.deliver(s.w1, workers, 1, 5, 1)
		s.consume(s.w1, 1, 5, 6, s.all(1, 6))
		s.final.Positions[workers][1] = 5
	}},
	{"a transaction's outputs are there without its state", Torn, func(s *story) {
		s.deliver(s.w1, workers, 1, 5, 1)
		s.consume(s.w1, 1, 5, 6, s.all(1, 6))
		s.final.Marks = map[Seq]bool{}
	}},
	{"one of a transaction's outputs is missing", Torn, func(s *story) {
		s.deliver(s.w1, workers, 1, 5, 2)
		s.consume(s.w1, 1, 5, 7, s.all(1, 7))
		s.drop(outputs)
	}},
	{"a transaction of unknown outcome took effect in part", Torn, func(s *story) {
		s.deliver(s.w1, workers, 1, 5, 2)
		s.consume(s.w1, 1, 5, 7, func(tx Seq, outs []Record) Outcome {
			s.all(1, 7)(tx, outs)
			s.drop(outputs)
			return Unknown
		})
	}},
	{"a transaction's position is there without all the rest", Torn, func(s *story) {
		s.deliver(s.w1, workers, 1, 5, 1)
		s.consume(s.w1, 1, 5, 6, func(Seq, []Record) Outcome {
			s.final.Positions[workers][1] = 6
			return Unknown
		})
	}},
	{"a refused transaction's state is there", Torn, func(s *story) {
		s.consume(s.w1, 1, 5, 6, func(tx Seq, _ []Record) Outcome {
			s.final.Marks[tx] = true
			return Refused
		})
	}},
	{"an acknowledged transaction left nothing", Torn, func(s *story) {
		tx := s.w1.Begin()
		s.w1.Output(tx, s.record(1))
		s.w1.Committing(tx)
		s.w1.Ended(tx, OK)
	}},
	{"an input is consumed twice", Twice, func(s *story) {
		s.consume(s.w1, 1, 4, 5, s.all(1, 5))
	}},
}

func TestEachSeededBugIsFoundUnderItsOwnName(t *testing.T) {
	found := map[Anomaly]bool{}
	for _, bug := range bugs {
		t.Run(bug.name, func(t *testing.T) {
			s := newStory()
			s.begin()
			bug.do(s)
			report := s.check(t, Rules{})
			found[bug.want] = report.Counts[bug.want] > 0
			for a := range report.Counts {
				if a != bug.want {
					t.Errorf("also called %q", a)
				}
			}
			if !found[bug.want] {
				t.Errorf("not found")
			}
			if t.Failed() {
				t.Log(report)
			}
		})
	}
	for _, a := range []Anomaly{Lost, Phantom, Vanished, Changed, Duplicate, Moved, SharedOffset, ReusedOffset, Regression, Reordered, Backwards,
		Beyond, Skipped, TwoOwners, Torn, Twice} {
		if !found[a] {
			t.Errorf("no bug that is %q was found", a)
		}
	}
}

func TestAHistoryInWhichNothingIsWrongHasNoFindings(t *testing.T) {
	s := newStory()
	s.begin()
	report := s.check(t, Rules{})
	if len(report.Findings) > 0 {
		t.Error(report)
	}
	want := map[string]uint64{
		"publish ok": 10, "publish refused": 1, "publish unknown": 2, "publish pending": 2,
		"position ok": 6, "position refused": 1, "position unknown": 1,
		"transaction ok": 3, "transaction refused": 1, "transaction unknown": 1,
	}
	if diff := cmp.Diff(want, report.Outcomes); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
}

// With partitions taken by force a member may be told of one when it has lost it again.
func TestAMemberThatIsToldTooLateProvesNothing(t *testing.T) {
	s := newStory()
	s.begin()
	_, at := s.publish(s.p1, 1, 1)
	began, position := s.m1.Now(), s.final.Positions[readers][1]
	s.assign(s.m2, readers, 1)
	s.deliver(s.m2, readers, 1, at.Offset, 1)
	s.commit(s.m2, readers, 1, at.Offset+1)
	s.m1.Assigned(began, readers, Place{1, position})
	s.m1.Delivered(began, readers, at, s.last(1).Record)
	_, at = s.publish(s.p1, 1, 1)
	s.deliver(s.m2, readers, 1, at.Offset, 1)
	if report := s.check(t, Rules{}); len(report.Findings) > 0 {
		t.Error(report)
	}
}

func TestAllFindingsAreCountedAndTheFirstOfAKindDescribed(t *testing.T) {
	s := newStory()
	for range 100 {
		s.store(1, s.record(1))
	}
	if report := s.check(t, Rules{}); len(report.Findings) != findingsOfAKind || report.Counts[Phantom] != 100 {
		t.Error(report)
	}
}

func TestAPowerCutMayTakeBackWhatAVolatileBrokerAcknowledged(t *testing.T) {
	s := newStory()
	s.begin()
	s.publish(s.p1, 1, 1)
	s.deliver(s.m1, readers, 1, s.end(1)-1, 1)
	s.publish(s.p2, 1, 2)
	s.r.Crash(true)
	s.r.Reopened()
	s.drop(1)
	s.drop(1)
	_, at := s.publish(s.p1, 1, 1)
	if report := s.check(t, Rules{Volatile: true}); len(report.Findings) > 0 {
		t.Errorf("volatile: %s", report)
	}
	if report := s.check(t, Rules{}); report.Counts[Lost] != 1 || report.Counts[ReusedOffset] != 1 {
		t.Errorf("durable: %s", report)
	}
	s.commit(s.m1, readers, 1, at.Offset+1)
	if report := s.check(t, Rules{Volatile: true}); report.Counts[Beyond] == 0 && report.Counts[Skipped] == 0 {
		t.Errorf("the new record was never delivered, and its position is committed: %s", report)
	}
}
