// Package backpressure bounds the work that waits in memory between many
// producers and one consumer, and decides what happens when it piles up.
//
// It has two layers. [Ring] is a lock-free bounded queue: many goroutines push,
// one pops. [Queue] is a Ring that begins small and grows with what it holds, with
// a gauge of that (records and bytes) and a line in which producers wait, first
// come first served, while it is full.
// The package knows nothing of what is queued; a function given to [NewQueue]
// says what an item weighs.
//
// # Limits
//
// A Queue is full for an item when any of three limits would be passed: items
// (slots of the ring), records, bytes. Records and bytes share one 64-bit word
// with the flag that says that somebody waits, so one compare-and-swap admits an
// item, and nobody is admitted that way while the flag is set. Depth is claimed
// before the push and released after the pop; hence the gauge never shows less
// than the ring holds, and for a moment it may show an item that is on its way in.
//
// # The line
//
// A producer that finds the queue full joins the line with its item. Whoever
// makes room moves items from the front of the line into the ring and then tells
// their producers. Because the item is moved on its producer's behalf, the order
// of arrival in the line is the order in the ring, whatever the scheduler does
// with the producers. Room is handed out once the queue has fallen below 70 % of
// all three limits, and then up to the limits: a producer that waits is worth
// waking only when a batch of them can go on. An empty queue is below 70 %, so the
// rule never leaves anybody behind.
//
// A [Budget] bounds the bytes of several queues together.
//
// # Strategies
//
// What Put does when the queue is full is a [Strategy], part of a [Policy] that can be
// changed at any time: wait in the line (BlockProducer, the default), drop the oldest
// items (DropOldest), refuse with an [*OverloadError] that says when to come back
// (ShedLoad), wait while the owner does less for each item (DegradeQuality), or the one
// or the other by the moving average of the depth (Adaptive; Queue.Picked says which). TryPut never drops and Wait always waits. The
// strategy is looked at only when the queue has been found full, so none of them costs
// anything before.
//
// How full the queue is is a [State], with thresholds and hysteresis. A producer notices
// that it has reached the next one by a comparison with what it has just claimed; the
// drainer looks whenever it takes. A state is reached at once, and ends when the depth
// has not come near it for 100 ms (Policy.Settle): a timer runs only while a queue is not Normal.
//
// # Who owns what
//
// Producers that find room take no lock. One mutex, held for memory operations
// only, guards the consuming end of the ring and the line. The consumer holds no
// lock while it works on what it took. See [Queue] for the argument that no
// wake-up is lost.
package backpressure
