// Package braid is an embedded event broker: topics, partitions and consumer groups inside an
// application's own process, durable in one directory, with no server.
//
//	b, err := braid.Open("data", braid.Options{})
//	defer b.Close()
//	orders, err := b.EnsureTopic(ctx, "orders", braid.TopicConfig{Partitions: 4})
//	err = orders.Publish(ctx, &braid.Record{Key: []byte("customer-7"), Value: []byte(`{"total": 12}`)})
//
//	sub, err := orders.Subscribe(ctx, "billing", braid.SubscribeOptions{})
//	defer sub.Close()
//	for rec, err := range sub.Records(ctx) {
//		if err != nil {
//			return err
//		}
//		// ... work on rec ...
//		if err := sub.Commit(ctx, rec); err != nil {
//			return err
//		}
//	}
//
// # Records, partitions, order
//
// A [Topic] is divided into partitions, each of which is a log: records get
// consecutive offsets and are never changed. The hash of a record's key decides its partition, so
// records of one key are stored, and delivered, in the order in which they were published.
// Between partitions there is no order. Offsets are never reused; they may have gaps.
//
// # What an acknowledgement means
//
// With the default [Durability], [Topic.Publish] returns nil only after an fsync that covers
// the record, and nobody sees the record before. Publishers that come at the same time share one fsync. [Interval] and [OS] promise
// less and say what. [Topic.PublishAsync] gives the same promise through a callback. Every record
// handed in ends in exactly one way: stored, refused with an error that means "certainly not
// stored", or [ErrOutcomeUnknown].
//
// # Reading
//
// [Topic.Read] reads without leaving a trace. [Topic.Subscribe] reads as a member of a group, whose
// positions are committed durably and survive restarts; delivery is at least once: what was delivered but not committed
// comes again. The members of a group share the partitions. [Topic.Consume] does all of that around a handler.
//
// # Damage
//
// Every byte that Braid stores is covered by a checksum. What does not match is reported, as a
// [CorruptError] or [MissingDataError] with file and offsets, and never returned as data; what lies
// before and after it stays readable. Nothing is ever deleted as a repair. [Broker.Verify]
// looks at everything.
//
// # Concurrency and memory
//
// A [Broker] and a [Topic] are safe for concurrent use; of a [Subscription] one reading call may run at a time.
// After a publish has returned, or its callback has run, the records belong to the caller again. Delivered
// records own their memory unless a reader asked for ReuseBuffers.
//
// The packages below this one (log, partition, backpressure, checkpoint, group) are its building
// blocks. They can be used and tested alone, but only this package is the stable surface.
package braid
