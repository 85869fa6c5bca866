package history

import "fmt"

// Kind says what an event tells.
type Kind uint8

// The kinds of event, with the fields that they use beside Seq and Client.
const (
	// Publish: a record is about to be handed in. Record; Op is the transaction's, if it is an output, else 0.
	Publish Kind = iota + 1
	// Stored: the record of the Publish event Op was acknowledged. Place.
	Stored
	// Ended: the operation that began with the event Op has ended. Outcome.
	Ended
	// Delivered: a Poll that began after event Op gave a record. Group, Place, Record.
	Delivered
	// Assigned: in a Poll that began after event Op the member has got a partition, at the position Place. Group.
	Assigned
	// Released: it has a partition no longer. Group, Partition.
	Released
	// Sought: the member has moved its reading itself. Group.
	Sought
	// Commit: a position is about to be committed. Group, Place (Offset is the position); Op is the transaction's, if it is of one, else 0.
	Commit
	// Begin: a transaction begins.
	Begin
	// Input: the transaction Op consumes a record that Group was delivered. Group, Place.
	Input
	// Mark: the transaction Op sets the state that is its own.
	Mark
	// Committing: the transaction Op is about to be committed.
	Committing
	// Crash: the broker's process ended without closing. Power says that the machine lost power, too.
	Crash
	// Reopened: the broker is open again, after a crash or after it was closed.
	Reopened
	// Lineage: partition Place.Partition is about to be made from the partition Parent by a split, or from two by a merge (two events).
	Lineage
)

var kindNames = [...]string{"", "publish", "stored", "ended", "delivered", "assigned", "released", "sought", "commit",
	"begin", "input", "mark", "committing", "crash", "reopened", "lineage"}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// Outcome is how an operation ended.
type Outcome uint8

const (
	// Pending: it has not ended, as far as anybody knows. As Unknown.
	Pending Outcome = iota
	// OK: it returned nil.
	OK
	// Refused: it certainly had no effect.
	Refused
	// Unknown: it may have had its effect, or have it later.
	Unknown
)

func (o Outcome) String() string {
	return [...]string{"pending", "ok", "refused", "unknown"}[o&3]
}

// Seq is the number of an event, from 1 on, without gaps. It also names the operation that the event begins.
type Seq uint64

// Group is a consumer group; the test chooses the number. There is no group 0.
type Group uint32

// Place is a partition and an offset in it; for a group the offset is its position.
type Place struct {
	Partition uint64
	Offset    int64
}

func (p Place) String() string { return fmt.Sprintf("%d:%d", p.Partition, p.Offset) }

// Record is what is kept of a record. The test chooses keys, 0 meaning none, and ids; an id is never
// used twice, also not when a publish is tried again. Id 0 is a record in which no id could be found.
type Record struct {
	Key, ID uint64
	Sum     uint64 // its Digest
}

// Event is something that was done or seen.
type Event struct {
	Seq     Seq
	Op      Seq
	Record  Record
	Place   Place
	Parent  uint64
	Client  uint32
	Group   Group
	Kind    Kind
	Outcome Outcome
	Power   bool
}

// String describes the event on one line.
func (e Event) String() string {
	return fmt.Sprintf("#%d client %d: %s %s op %d group %d at %s record %d of key %d",
		e.Seq, e.Client, e.Kind, e.Outcome, e.Op, e.Group, e.Place, e.Record.ID, e.Record.Key)
}
