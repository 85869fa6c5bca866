package history

import (
	"sync"
	"sync/atomic"
)

// Recorder collects the events of one run. Its methods are safe for concurrent use.
type Recorder struct {
	last atomic.Uint64 // number of the last event

	mu      sync.Mutex // guards clients; the clients' events are their goroutines'
	clients []*Client
	own     *Client // records what no client did; used under mu

	sink    func(Event) // takes the events instead of the clients' memory, if not nil
	sinking sync.Mutex  // held while an event gets its number and is given to sink
	before  uint32      // clients there were before this recorder's
}

// NewRecorder begins a history.
func NewRecorder() *Recorder {
	r := &Recorder{}
	r.own = r.Client()
	return r
}

// Resume goes on with a history that somebody else keeps, which ends with the event last and has so many clients: in a process that may be killed,
// whose parent has its history. Each event is given to sink before the call that records it returns: one at a time, in order, and with the numbers and clients following
// those that there were. Nothing is kept.
func Resume(last Seq, clients uint32, sink func(Event)) *Recorder {
	r := &Recorder{sink: sink, before: clients}
	r.last.Store(uint64(last))
	r.own = r.Client()
	return r
}

// Client returns a new client. It stands for one goroutine, which alone may call its methods, and for one member of a group
// at most: a second subscription needs a second client.
func (r *Recorder) Client() *Client {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := &Client{r: r, id: r.before + uint32(len(r.clients))}
	r.clients = append(r.clients, c)
	return c
}

// Crash records that the broker's process has ended without closing, and whether power was lost, too.
func (r *Recorder) Crash(power bool) { r.add(Event{Kind: Crash, Power: power}) }

// Reopened records that the broker is open again. It is called before anybody uses it.
func (r *Recorder) Reopened() { r.add(Event{Kind: Reopened}) }

// Split records that a partition is about to be split.
func (r *Recorder) Split(parent uint64, children ...uint64) {
	for _, c := range children {
		r.add(Event{Kind: Lineage, Place: Place{Partition: c}, Parent: parent})
	}
}

// Merge records that partitions are about to be merged.
func (r *Recorder) Merge(child uint64, parents ...uint64) {
	for _, p := range parents {
		r.add(Event{Kind: Lineage, Place: Place{Partition: child}, Parent: p})
	}
}

func (r *Recorder) add(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.own.add(e)
}

// Events returns the whole history in order; of one that is resumed, nothing. The clients' goroutines must have ended, or hold still.
func (r *Recorder) Events() []Event {
	if r.sink != nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Event, r.last.Load())
	for _, c := range r.clients {
		for _, chunk := range c.chunks {
			for _, e := range chunk {
				out[e.Seq-1] = e
			}
		}
	}
	return out
}

// Client records what one goroutine does and sees.
type Client struct {
	r      *Recorder
	id     uint32
	chunks [][]Event
}

// chunk is how many events a client makes room for at once, so that what is recorded is never copied.
const chunk = 512

func (c *Client) add(e Event) Seq {
	e.Client = c.id
	if c.r.sink != nil {
		return c.r.give(e)
	}
	n := len(c.chunks) - 1
	if n < 0 || len(c.chunks[n]) == chunk {
		c.chunks = append(c.chunks, make([]Event, 0, chunk))
		n++
	}
	e.Seq = Seq(c.r.last.Add(1))
	c.chunks[n] = append(c.chunks[n], e)
	return e.Seq
}

// give gives an event to the sink.
func (r *Recorder) give(e Event) Seq {
	r.sinking.Lock()
	defer r.sinking.Unlock()
	e.Seq = Seq(r.last.Load()) + 1
	r.sink(e)
	r.last.Store(uint64(e.Seq)) // not before: Now is a moment that the sink has seen
	return e.Seq
}

// Now returns a moment, for Delivered and Assigned.
func (c *Client) Now() Seq { return Seq(c.r.last.Load()) }

// Publish records that a record is about to be published. Those of one call are recorded in their order.
func (c *Client) Publish(rec Record) Seq { return c.add(Event{Kind: Publish, Record: rec}) }

// Output records that a record is put into a transaction.
func (c *Client) Output(tx Seq, rec Record) Seq {
	return c.add(Event{Kind: Publish, Op: tx, Record: rec})
}

// Stored records that the publish of a record, or the transaction that it is an output of, returned nil and where the record is said to be.
func (c *Client) Stored(publish Seq, at Place) {
	c.add(Event{Kind: Stored, Op: publish, Place: at})
}

// Ended records how a publish, a commit or a transaction ended. A publish that was acknowledged is Stored instead.
func (c *Client) Ended(op Seq, outcome Outcome) {
	c.add(Event{Kind: Ended, Op: op, Outcome: outcome})
}

// Delivered records that a Poll that began at a moment given by Now has given a record.
func (c *Client) Delivered(began Seq, g Group, at Place, rec Record) {
	c.add(Event{Kind: Delivered, Op: began, Group: g, Place: at, Record: rec})
}

// Assigned records, when the member is told, that it has got a partition in a Poll that began at a moment given by Now, and the group's
// position there.
func (c *Client) Assigned(began Seq, g Group, position Place) {
	c.add(Event{Kind: Assigned, Op: began, Group: g, Place: position})
}

// Released records that the member has a partition no longer: when it is told so, or before it closes.
func (c *Client) Released(g Group, partition uint64) {
	c.add(Event{Kind: Released, Group: g, Place: Place{Partition: partition}})
}

// Sought records that the member is about to move its reading somewhere.
func (c *Client) Sought(g Group) { c.add(Event{Kind: Sought, Group: g}) }

// Commit records that a position is about to be committed, which is the offset behind the last record finished.
func (c *Client) Commit(g Group, position Place) Seq {
	return c.add(Event{Kind: Commit, Group: g, Place: position})
}

// Begin records that a transaction begins.
func (c *Client) Begin() Seq { return c.add(Event{Kind: Begin}) }

// Input records that a transaction consumes a record that the group was delivered.
func (c *Client) Input(tx Seq, g Group, at Place) {
	c.add(Event{Kind: Input, Op: tx, Group: g, Place: at})
}

// Offset records that a transaction commits a position.
func (c *Client) Offset(tx Seq, g Group, position Place) {
	c.add(Event{Kind: Commit, Op: tx, Group: g, Place: position})
}

// Mark records that a transaction sets a piece of state that is its own: see Final.Marks.
func (c *Client) Mark(tx Seq) { c.add(Event{Kind: Mark, Op: tx}) }

// Committing records that a transaction is about to be committed.
func (c *Client) Committing(tx Seq) { c.add(Event{Kind: Committing, Op: tx}) }
