// Package partition holds what a topic is divided into: ids, ranges of key hashes, the immutable [Layout]
// that routes by them, and the live [Partition]: a queue, an appender and a log.
//
// # A request's life
//
// A publisher hands a [Request], the part of one call that goes to one partition, to [Partition.Enqueue]. It is
//
//	queued    in the partition's ring; its publisher may still withdraw it, and then it is certainly not stored
//	encoding  its records are being copied into a frame; memory only
//	encoded   the publisher's memory is not needed any more; the frame is on its way to the disk
//	done      stored, or failed; the result is in the request
//
// Each step is one atomic change of the request's state, so that a publisher that gives up and the
// appender that takes the request agree on who was first.
//
// # The appender
//
// One goroutine per partition with work to do takes requests from the ring, encodes all that are there
// into frames, in memory that all partitions share and that a round takes for itself, and hands it to the [Scheduler]. Nothing that a publisher needs in order to enqueue or
// withdraw is held during I/O, and no publisher whose context can end does any. The ring and the goroutine come into being with the
// first request and are let go when the partition has been idle, so that ten thousand idle partitions cost next to nothing; and the ring is as large as what it has held, so that
// a thousand that are at work cost little.
//
// While the appender is busy, a publisher with many records encodes them itself before it queues them (see encodeAhead), and the appender copies them. They are still
// queued then: they may be withdrawn or dropped, and their offsets and their frame are decided by the appender.
//
// While the appender rests, a publisher that would only wait for it may be it: see [Partition.Submit]. What the appender works with is one value, which is in a channel while its
// goroutine rests; whoever takes it out is the appender, until it is put back. The goroutine takes it out before it does anything, so a publisher's round is like one of its own: nothing
// passes it by, and closing, sealing and letting go wait for it.
//
// # Letting go
//
// An idle appender closes its ring, under the partition's lock, and takes the partition's pointer to it back. A
// claim after the close fails, and its producer makes a new ring. What was claimed before is
// still drained and stored by the old appender; the new one waits for the old one's end before it
// touches the log, so the log has one writer at a time and the order of each producer's requests is kept.
//
// # Durability: two ways
//
// [Scheduler] decides, round by round, how a partition's frames become durable.
//
// Directly: the appender writes and syncs the partition's own segment, on its own goroutine, so that a single publisher waits for one
// hand-over and one fdatasync. It is the way of a partition that is alone at work, and of rounds that are large.
//
// Through the journal, the broker's commit log: when several partitions are at work, or state is being committed, their frames share one entry and
// one sync, so that durable publishing does not become slower as a topic is divided. The appender hands the journal a carrier and
// waits; when the journal makes its next round, its goroutine has the appender encode what is queued by then and give it offsets. As soon as the
// entry is durable the publishers are told. The segment is written later, several rounds at a time, or when a reader looks (log.Announce), and
// synced later still, when the journal wants to let go of a generation (Settle).
//
// A transaction takes the journal's way always: its frames, for however many partitions, and the change of state are in one entry. It passes the queues by.
//
// # Who may do what
//
// ordering is the right to decide what comes next in the log, writing the right to write to it; ordering is taken first. A direct round holds both until it
// is durable. The journal takes ordering only to give offsets, which is memory only: offsets that were given cannot be taken back, so it happens when
// nothing but a failing disk can stop the entry any more. A partition is on one way at a time: nothing is written directly while frames of it travel through
// the journal, and nothing travels behind something that is not durable. That the journal may have to wait for a direct round of one partition is the
// price; while a transaction is under way in it, a partition goes the journal's way too, so it is paid once.
//
// If the journal fails under frames, nobody knows whether it has them. Their partitions fail, since other frames at the
// same offsets could contradict them; the rest go on, each directly.
//
// # Sealing
//
// A partition that is split or merged is sealed first: its queue is closed, what was accepted is stored and made durable in the segments, and what comes
// afterwards gets [ErrSealed], whereupon publishers wait for the new layout and take their requests to the children. So every record that
// was accepted by the parent is in front of the seal, and every one that was accepted by a child comes after it: consumers that read the parent to its
// end before they begin with a child see a key's records in their order. The layout that makes the seal durable is committed afterwards; until
// then Unseal takes it back.
//
// # Errors
//
// A full disk refuses the requests of the round and nothing else. Any other error of a write or a sync fails the partition
// for good: requests whose frames were on their way get [ErrOutcomeUnknown], the rest [ErrFailed].
package partition
