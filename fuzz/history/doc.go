// Package history records what concurrent clients of a broker did and saw, and finds in it what a correct broker cannot have
// done. It knows nothing of Braid: a test writes down what it hands in and gets back, and [Check] judges that together with
// what the broker holds in the end.
//
// # Recording
//
// A [Recorder] hands out [Client]s, one for each goroutine. A client appends events of fixed size to memory of its own; all
// that clients share is one atomic counter. An event's number is taken inside the call that records it, so an operation that was recorded as
// ended has a lower number than one whose beginning is recorded afterwards by anybody: the numbers respect real time, and that
// is all that the checks rely on. So the order of the calls matters: what begins an operation is recorded before the operation is
// called, what it gave is recorded after it has returned, and a delivery before the commit that is behind it.
//
// Records are told apart by an id that is their own, which [Value] puts into the value and [ID] finds there again, and
// compared by a [Digest] of all of their bytes.
//
// # Anomalies
//
// "Stored" below means that the record is in the final reading; a place is a partition and an offset; a record's publish
// is invoked when the call begins, or, in a transaction, when Commit begins.
//
//	Lost             acknowledged, not stored, and nothing else is stored in its place.
//	Phantom          read or delivered, but never handed in, certainly refused, rolled back, or seen before its publish was invoked.
//	Vanished         delivered but not acknowledged, not stored, and nothing else is stored in its place: it was visible before it
//	                 was durable.
//	Changed          read or delivered with other bytes, or another key, than were handed in.
//	Duplicate        one record stored in two places.
//	Moved            acknowledged or delivered in one place, and stored or delivered in another one, but stored once at most.
//	SharedOffset     two records were acknowledged, delivered or stored in one place between two openings of the broker.
//	ReusedOffset     the same, with a reopening between the two.
//	Regression       a record has an offset below that of one with another key, or with no key, whose publish had ended before its own
//	                 was invoked; or the reading of a partition went back.
//	Reordered        two records of one key are stored against the order in which one client invoked them, or against real time
//	                 (the publish of one had ended before that of the other was invoked); or a group was delivered them for
//	                 the first time in another order than they are stored in, over all partitions that the key has been in.
//	Backwards        a member was assigned a partition at a position below one whose commit had ended, or was then delivered what
//	                 had been committed, or the position is below that in the end.
//	Beyond           a group's position went over a stored record that is above everything that the group had been delivered of the
//	                 partition, or was seen above every position that anybody had tried to commit.
//	Skipped          a group's position went over a stored record that no member had been delivered, although a later one had been.
//	TwoOwners        a member was delivered records of a partition by a Poll that began when another member had been assigned it, or
//	                 moved its position with a commit that began then.
//	Torn             of a transaction's outputs, positions and mark in the state some are there and others are not; or it was
//	                 refused and its mark is there; or none of it is there although it was acknowledged; or, in a group that commits
//	                 only in transactions, the position went over an input that no transaction consumed that took effect.
//	Twice            a record that a group was delivered was consumed by two transactions that took effect.
//
// Each is judged by its own rule, and a fact is reported once, under the most specific name: a record that was overwritten is a
// ReusedOffset and not also Lost.
//
// # What is not seen
//
// The checker cannot know of what was not recorded. Groups are taken to begin at the first offset of each partition, and all commits to be
// recorded (no automatic ones). Retention, dead letters and strategies that drop records are not modelled: use none, or
// expect Lost. A record that is delivered again without need is not an anomaly: delivery is at least once.
// Unacknowledged records may be stored or not. The checks are sound, so that what they report has happened; they are not complete in
// the sense of a linearisability checker, which would have to search, whereas all of this takes time
// proportional to the number of events.
package history
