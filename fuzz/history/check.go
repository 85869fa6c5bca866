package history

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Anomaly is something that a correct broker cannot have done; the package comment defines each.
type Anomaly string

// The anomalies.
const (
	Lost         Anomaly = "lost"
	Phantom      Anomaly = "phantom"
	Vanished     Anomaly = "vanished"
	Changed      Anomaly = "changed"
	Duplicate    Anomaly = "duplicate"
	Moved        Anomaly = "moved"
	SharedOffset Anomaly = "shared offset"
	ReusedOffset Anomaly = "reused offset"
	Regression   Anomaly = "regression"
	Reordered    Anomaly = "reordered"
	Backwards    Anomaly = "backwards"
	Beyond       Anomaly = "beyond"
	Skipped      Anomaly = "skipped"
	TwoOwners    Anomaly = "two owners"
	Torn         Anomaly = "torn"
	Twice        Anomaly = "twice"
)

// Finding is an anomaly in a history.
type Finding struct {
	Anomaly Anomaly
	Detail  string
}

func (f Finding) String() string { return string(f.Anomaly) + ": " + f.Detail }

// Final is what the broker holds in the end, when nothing is under way.
type Final struct {
	// Records are those of each partition, in the order in which they were read.
	Records map[uint64][]Read
	// Positions are the groups' committed positions; the groups to judge. A partition that is missing is at 0.
	Positions map[Group]map[uint64]int64
	// Marks has the transactions whose mark is in the state.
	Marks map[Seq]bool
}

// Read is a record that was read.
type Read struct {
	Offset int64
	Record Record
}

// Rules say what the broker has promised.
type Rules struct {
	// Volatile: a power cut may take back what was acknowledged or delivered before, unless it was part of a transaction.
	Volatile bool
}

// Report is what Check has found.
type Report struct {
	Events   int
	Findings []Finding         // the first of each kind
	Counts   map[Anomaly]int   // of all
	Outcomes map[string]uint64 // of operations, by "publish ok" and the like: to see that a history is worth checking
}

// findingsOfAKind is how many findings of a kind are described.
const findingsOfAKind = 5

// String lists the findings.
func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d events", r.Events)
	for _, a := range slices.Sorted(maps.Keys(r.Counts)) {
		fmt.Fprintf(&b, ", %d %s", r.Counts[a], a)
	}
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "\n  %s", f)
	}
	return b.String()
}

// Check judges a history. It takes time and memory proportional to the number of events and records.
func Check(events []Event, final *Final, rules Rules) *Report {
	c := &checker{
		events: events, final: final,
		report:  &Report{Events: len(events), Counts: map[Anomaly]int{}, Outcomes: map[string]uint64{}},
		records: map[uint64]*record{}, publishes: map[Seq]*record{}, txns: map[Seq]*txn{}, commits: map[Seq]*commit{},
		at: map[Place]stored{}, ranks: map[uint64]int{}, held: map[Place]holder{},
	}
	c.index(rules)
	c.readFinal()
	c.content()
	c.missing()
	c.order()
	g := newGroups(c)
	g.check()
	c.transactions(g)
	return c.report
}

// checker is one Check.
type checker struct {
	events []Event
	final  *Final
	report *Report

	records   map[uint64]*record // by id
	inOrder   []*record          // in the order of their Publish events
	publishes map[Seq]*record
	txns      map[Seq]*txn
	txnOrder  []*txn
	commits   map[Seq]*commit
	openings  []Seq // of Reopened
	ends      []Seq // of Crash and Reopened: what was pending has ended
	forgiven  Seq   // what happened before may be gone

	ranks map[uint64]int // of partitions: a child's is higher than its parents'
	parts []uint64       // with stored records, in the order of rank and id
	at    map[Place]stored
	held  map[Place]holder
}

// record is one that was handed in.
type record struct {
	Record
	client    uint32
	published Seq // the Publish event
	txn       *txn
	outcome   Outcome
	ended     Seq
	acked     bool
	delivered bool
	home      Place // where it is stored; before that is known, where it was acknowledged or delivered
	homed     bool
	stored    int // how often
	chain     int // its place among the stored records of its key, from 1 on
	phantom   bool
}

// invoked is the moment from which on the record may be stored, 0 if it was never handed in.
func (r *record) invoked() Seq {
	if r.txn != nil {
		return r.txn.committing
	}
	return r.published
}

// result is how the publish ended.
func (r *record) result() Outcome {
	if r.txn != nil {
		return r.txn.outcome
	}
	return r.outcome
}

// end is the moment from which on the record was stored, if it ever is; 0 if there is none.
func (r *record) end() Seq {
	if r.txn != nil {
		return r.txn.ended
	}
	return r.ended
}

// txn is a transaction.
type txn struct {
	begun, committing, ended Seq
	outcome                  Outcome
	outputs                  []*record
	inputs                   []Event
	positions                []*commit
	marks                    bool
}

// commit is the commit of one position.
type commit struct {
	op       Seq
	client   uint32
	group    Group
	position Place
	outcome  Outcome
	txn      *txn
	stale    bool // it began when another member had the partition
}

// stored is a record of the final reading.
type stored struct {
	index int // in the partition
	rec   *record
}

// holder is the record that was last seen in a place.
type holder struct {
	rec     *record
	opening int
}

func (c *checker) find(a Anomaly, format string, args ...any) {
	c.report.Counts[a]++
	if c.report.Counts[a] <= findingsOfAKind {
		c.report.Findings = append(c.report.Findings, Finding{a, fmt.Sprintf(format, args...)})
	}
}

// index finds what belongs together.
func (c *checker) index(rules Rules) {
	for i := range c.events {
		e := &c.events[i]
		switch e.Kind {
		case Publish:
			c.indexPublish(e)
		case Stored:
			if r := c.publishes[e.Op]; r != nil && r.txn == nil {
				r.outcome, r.ended, r.acked = OK, e.Seq, true
			}
		case Begin:
			c.txns[e.Seq] = &txn{begun: e.Seq}
			c.txnOrder = append(c.txnOrder, c.txns[e.Seq])
		case Input, Mark, Committing:
			if t := c.txns[e.Op]; t != nil {
				t.note(e)
			}
		case Commit:
			m := &commit{op: e.Seq, client: e.Client, group: e.Group, position: e.Place, txn: c.txns[e.Op]}
			c.commits[e.Seq] = m
			if m.txn != nil {
				m.txn.positions = append(m.txn.positions, m)
			}
		case Ended:
			c.indexEnd(e)
		case Crash, Reopened:
			c.ends = append(c.ends, e.Seq)
			if e.Kind == Reopened {
				c.openings = append(c.openings, e.Seq)
			} else if rules.Volatile && e.Power {
				c.forgiven = e.Seq
			}
		case Lineage:
			c.ranks[e.Place.Partition] = max(c.ranks[e.Place.Partition], c.ranks[e.Parent]+1)
		}
	}
	c.endPending()
}

func (c *checker) indexPublish(e *Event) {
	r := &record{Record: e.Record, client: e.Client, published: e.Seq, txn: c.txns[e.Op]}
	c.records[r.ID], c.publishes[e.Seq] = r, r
	c.inOrder = append(c.inOrder, r)
	if r.txn != nil {
		r.txn.outputs = append(r.txn.outputs, r)
	}
}

func (t *txn) note(e *Event) {
	switch e.Kind {
	case Input:
		t.inputs = append(t.inputs, *e)
	case Mark:
		t.marks = true
	case Committing:
		t.committing = e.Seq
	}
}

func (c *checker) indexEnd(e *Event) {
	if r := c.publishes[e.Op]; r != nil {
		r.outcome, r.ended = e.Outcome, e.Seq
	} else if t := c.txns[e.Op]; t != nil {
		t.outcome, t.ended = e.Outcome, e.Seq
		for _, r := range t.outputs {
			r.acked = e.Outcome == OK
		}
		for _, m := range t.positions {
			m.outcome = e.Outcome
		}
	} else if m := c.commits[e.Op]; m != nil {
		m.outcome = e.Outcome
	}
}

// endPending ends what nobody saw the end of when the broker did, and counts.
func (c *checker) endPending() {
	end := func(begun, ended Seq) Seq {
		if ended != 0 || begun == 0 {
			return ended
		}
		if i, _ := slices.BinarySearch(c.ends, begun); i < len(c.ends) {
			return c.ends[i]
		}
		return 0
	}
	for _, r := range c.inOrder {
		if r.txn == nil {
			r.ended = end(r.published, r.ended)
			c.report.Outcomes["publish "+r.outcome.String()]++
		}
	}
	for _, t := range c.txnOrder {
		t.ended = end(t.committing, t.ended)
		if t.committing == 0 {
			t.outcome = Refused // rolled back, or given up
			for _, m := range t.positions {
				m.outcome = Refused
			}
		}
		c.report.Outcomes["transaction "+t.outcome.String()]++
	}
	for _, m := range c.commits {
		c.report.Outcomes["position "+m.outcome.String()]++
	}
}

// opening says how often the broker had been reopened at a moment.
func (c *checker) opening(at Seq) int {
	i, _ := slices.BinarySearch(c.openings, at)
	return i
}

// readFinal takes in what is stored.
func (c *checker) readFinal() {
	for p := range c.final.Records {
		c.parts = append(c.parts, p)
	}
	slices.SortFunc(c.parts, func(x, y uint64) int {
		return cmp.Or(cmp.Compare(c.ranks[x], c.ranks[y]), cmp.Compare(x, y))
	})
	chains := map[uint64]int{}
	for _, p := range c.parts {
		last := int64(-1)
		for i, read := range c.final.Records[p] {
			here := Place{p, read.Offset}
			r := c.recognise(read.Record, here, "read", 0)
			if before, taken := c.at[here]; taken {
				if before.rec != r || r == nil {
					c.find(SharedOffset, "two records were read at %v: %s and %s", here, before.rec, r)
				} else {
					c.find(Duplicate, "%s was read twice at %v", r, here)
				}
				continue
			}
			if read.Offset < last {
				c.find(Regression, "%v was read behind offset %d", here, last)
			}
			last = max(last, read.Offset)
			c.at[here] = stored{i, r}
			if r == nil {
				continue
			}
			if r.stored++; r.stored == 1 {
				r.home, r.homed = here, true
				chains[r.Key]++
				r.chain = chains[r.Key]
			} else {
				c.find(Duplicate, "%s is stored at %v and at %v", r, r.home, here)
			}
		}
	}
}

// String names a record in a finding.
func (r *record) String() string {
	if r == nil {
		return "an unknown record"
	}
	return fmt.Sprintf("record %d of key %d by client %d (published #%d, ended #%d %s)", r.ID, r.Key, r.client, r.invoked(), r.end(), r.result())
}
