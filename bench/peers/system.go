package main

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
)

// record is what is stored: the same bytes for every system.
type record struct{ Key, Value []byte }

// setup is what a store is opened for.
type setup struct {
	Dir     string // an empty directory of its own
	Fsync   bool   // an acknowledgement comes only after an fsync that covers the record
	Streams int    // partitions, streams, buckets or logs to publish to, numbered from 0
	Spread  int    // if not 0, what bulk publishing is spread over, numbered from 0; Streams is 1
	Inputs  int    // streams of their own that transactions consume, one for each committer
}

// streams is the number of streams that records are published to.
func (s setup) streams() int { return max(s.Streams, s.Spread) }

// system is something that stores records: Braid, or one of its peers. What a store of it can do it says by
// implementing the roles below; a workload whose role it lacks is not measured for it.
type system struct {
	Name   string
	About  string // how it is used, in a line
	Checks bool   // what it reads it compares with checksums, so that damage is not taken for records
	Open   func(ctx context.Context, s setup) (io.Closer, error)
}

// systems returns Braid, and then its peers.
func systems() []system {
	return []system{braidSystem, natsSystem, pebbleSystem, bboltSystem, walSystem}
}

const (
	// batchRecords is the number of records in which a bulk publisher gets its work.
	batchRecords = 1000
	// window bounds the batches that a bulk publisher may have accepted and not acknowledged.
	window = 32
	// spreadWindow is the window of one that publishes to many streams: it is what lingers, so that there is something for each of them to write.
	spreadWindow = 400
)

// streamPublisher publishes in bulk, from one goroutine, to stream 0.
type streamPublisher interface {
	// PublishStream publishes the batches that next returns, until it returns none, and returns when all are
	// acknowledged. The memory of a batch is used again once next has been called window more times; by then the
	// batch has to be acknowledged. How many batches make a write, a commit or a transaction is the store's choice.
	PublishStream(ctx context.Context, next func() []record) error
}

// spreadPublisher publishes in bulk, from one goroutine, to many streams.
type spreadPublisher interface {
	// PublishSpread is PublishStream, but that record i of all that next returns goes to stream i modulo setup.Spread. Its key is the one that
	// keysFor gives for it. The window is spreadWindow.
	PublishSpread(ctx context.Context, next func() []record) error
}

// transactor consumes and publishes in transactions.
type transactor interface {
	// Fill publishes records that a committer is to consume, to its own stream.
	Fill(ctx context.Context, committer int, recs []record) error
	// Transact takes the next record of the committer's own stream, publishes it to stream 0, and moves the committer's position
	// behind it; all in one step, durable when it returns. setup.Inputs goroutines call it, each for its own committer.
	Transact(ctx context.Context, committer int) error
}

// splitter divides streams while they are published to.
type splitter interface {
	// Split divides one of the streams in two, by key.
	Split(ctx context.Context) error
}

// publisher publishes single records to stream 0 from one goroutine.
type publisher interface {
	// Publish returns when the record is acknowledged.
	Publish(ctx context.Context, r record) error
}

// concurrentPublisher publishes single records from many goroutines.
type concurrentPublisher interface {
	// PublishConcurrent returns when the record is acknowledged. concurrentPublishers goroutines call it.
	PublishConcurrent(ctx context.Context, stream int, r record) error
}

// reader reads stream 0.
type reader interface {
	// Read calls fn with the first n records in the order in which they were published. If owned, the memory of a record
	// is fn's to keep; otherwise it may be used again once fn has returned.
	Read(ctx context.Context, n int, owned bool, fn func(record)) error
}

// deliverer delivers records to a subscriber as they are published to stream 0.
type deliverer interface {
	// Send publishes a record. It need not wait for the acknowledgement.
	Send(ctx context.Context, r record) error
	// Deliver calls ready once it is subscribed, and then fn with each record in order until ctx ends, which is no error.
	// The record's memory may be used again once fn has returned.
	Deliver(ctx context.Context, ready func(), fn func(record)) error
}

// settler is a store that can bring what it holds into the form in which it is read fastest.
type settler interface {
	Settle(ctx context.Context) error
}

// appendRecord encodes a record for systems that store one string of bytes.
func appendRecord(dst []byte, r record) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(r.Key)))
	dst = append(dst, r.Key...)
	return append(dst, r.Value...)
}

// encodedSize is the number of bytes that appendRecord appends.
func encodedSize(r record) int {
	size := 1
	for n := len(r.Key); n >= 0x80; n >>= 7 {
		size++
	}
	return size + len(r.Key) + len(r.Value)
}

var errEncoding = errors.New("stored bytes are not a record")

// decodeRecord is the inverse of appendRecord. The record is part of b.
func decodeRecord(b []byte) (record, error) {
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)-size) {
		return record{}, errEncoding
	}
	end := size + int(n)
	return record{Key: b[size:end:end], Value: b[end:]}, nil
}

// arena copies records, so that they own their memory, at the least cost: many share one block, as Braid's do.
type arena struct{ block []byte }

const arenaBlock = 64 << 10

func (a *arena) clone(b []byte) []byte {
	if len(b) > cap(a.block)-len(a.block) {
		a.block = make([]byte, 0, max(arenaBlock, len(b)))
	}
	from := len(a.block)
	a.block = append(a.block, b...)
	return a.block[from:len(a.block):len(a.block)]
}

// gathered is the number of batches that bbolt and tidwall/wal get in one transaction or write: the fastest of 1, 4, 8, 16
// and 32 for both, with and without fsync.
const gathered = 8

// gatherer collects batches into larger ones, for systems that are fast with few large transactions.
type gatherer struct {
	next func() []record
	recs []record
}

// take returns the records of up to n batches, valid until the next call, or none at the end.
func (g *gatherer) take(n int) []record {
	g.recs = g.recs[:0]
	for range n {
		batch := g.next()
		if len(batch) == 0 {
			break
		}
		g.recs = append(g.recs, batch...)
	}
	return g.recs
}
