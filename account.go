package braid

import (
	"slices"

	"github.com/braid-go/braid/partition"
)

// Accounting is what became of the records that were published: Accepted = Stored + Dropped + Unknown + Pending, at any moment. Records of transactions
// are among them; records that were refused, or withdrawn before they were written, are not.
//
// The numbers of a partition are of one moment, those of a topic and of the broker are sums over partitions that are read one after the other.
type Accounting struct {
	Accepted int64
	Stored   int64
	Dropped  int64 // by DropOldest; certainly not stored
	Unknown  int64 // ErrOutcomeUnknown
	Pending  int64 // no outcome yet: they wait for room in a queue, are queued, or are being written
}

func (a *Accounting) add(s partition.Stats) {
	a.sum(Accounting{s.Accepted, s.Stored, s.Dropped, s.Unknown, s.Pending()})
}

func (a *Accounting) sum(b Accounting) {
	a.Accepted, a.Stored, a.Dropped, a.Unknown, a.Pending = a.Accepted+b.Accepted, a.Stored+b.Stored, a.Dropped+b.Dropped, a.Unknown+b.Unknown, a.Pending+b.Pending
}

// Accounting tells what became of the topic's records since Open. It takes no lock.
func (t *Topic) Accounting() Accounting {
	tab := t.table.Load()
	out := tab.past
	for _, p := range tab.all {
		if p.live != nil {
			out.add(p.live.Stats())
		}
	}
	return out
}

// Accounting tells what became of the records of all topics since Open, also of those that have been deleted. It can be read after Close too.
func (b *Broker) Accounting() Accounting {
	topics, past := b.counted()
	for _, t := range topics {
		past.Accounting.sum(t.Accounting())
	}
	return past.Accounting
}

// counts are a topic's counters.
type counts struct {
	Accounting
	failed, consumed int64
}

// counted returns the topics whose records have been counted since Open, and what has been counted of those that are not among them any more.
func (b *Broker) counted() ([]*Topic, counts) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	out := slices.Clone(b.leaving)
	for _, t := range b.topics {
		out = append(out, t)
	}
	return out, b.past
}

// remember takes over what has been counted of a topic that has been deleted, whose partitions are closed.
func (b *Broker) remember(t *Topic) {
	last := counts{t.Accounting(), t.failed.Load(), t.delivered()}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.leaving = slices.DeleteFunc(b.leaving, func(o *Topic) bool { return o == t })
	b.past.Accounting.sum(last.Accounting)
	b.past.failed, b.past.consumed = b.past.failed+last.failed, b.past.consumed+last.consumed
}
