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
// into frames in one reused buffer, and hands it to the [Scheduler]. No publisher does I/O, and nothing that a
// publisher needs in order to enqueue or withdraw is held during I/O. The ring, the buffer and the goroutine come into being with the
// first request and are let go when the partition has been idle, so that ten thousand idle partitions cost next to nothing.
//
// # Letting go
//
// An idle appender closes its ring, under the partition's lock, and takes the partition's pointer to it back. A
// claim after the close fails, and its producer makes a new ring. What was claimed before is
// still drained and stored by the old appender; the new one waits for the old one's end before it
// touches the log, so the log has one writer at a time and the order of each producer's requests is kept.
//
// # The scheduler's seam
//
// [Scheduler] is where durability happens for the whole broker: every appender calls commit with its frames
// and gets the verdict. Today a commit writes and syncs the partition's own segment, on the appender's own goroutine, so that
// a single publisher waits for one hand-over and one fdatasync. Sharing one sync among several partitions
// is a change of that one method.
//
// # Errors
//
// A full disk refuses the requests of the round and nothing else. Any other error of a write or a sync fails the partition
// for good: requests whose frames were on their way get [ErrOutcomeUnknown], the rest [ErrFailed].
package partition
