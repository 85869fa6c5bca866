package braid

import (
	"bytes"
	"slices"
	"time"

	"github.com/braid-go/braid/log"
	"github.com/braid-go/braid/partition"
)

// PartitionID names a partition. Ids are unique in a broker and never reused.
type PartitionID = partition.ID

// Header is one of a record's headers: a name and a value, in the order given. Names may
// repeat. A nil value and an empty one are told apart.
type Header = log.Header

// Ack says what had been done for a record when its publish returned.
type Ack uint8

const (
	// AckNone: the record has not been published.
	AckNone Ack = iota
	// AckWritten: handed to the operating system; a killed process loses nothing, a power cut may.
	AckWritten
	// AckDurable: covered by an fsync.
	AckDurable
	// AckMemory: in memory, in a broker opened with Options.InMemory.
	AckMemory
)

func (a Ack) String() string {
	switch a {
	case AckNone:
		return "none"
	case AckWritten:
		return "written"
	case AckDurable:
		return "durable"
	case AckMemory:
		return "memory"
	}
	return "invalid"
}

// Record is what is published and delivered.
//
// To publish one, set Value and, as wanted, Key, Headers and Time; the call
// that publishes it sets Topic, Partition, Offset and Ack.
// The caller may change or reuse a record and its memory as soon as Publish has returned
// or the callback of PublishAsync has run.
//
// A delivered record owns its memory, unless it comes from a reader with ReuseBuffers, where
// it lives until the next one is asked for. Records delivered together may share one
// block of memory, so that keeping one of them keeps the block: Clone what is kept for long.
type Record struct {
	// Key decides the partition: records of one key keep their order. A nil key is no key:
	// the record goes to any partition. An empty key that is not nil is refused.
	Key []byte
	// Value is the payload. It may be empty but not nil.
	Value []byte
	// Headers travel with the record.
	Headers []Header
	// Time is when the thing happened, to the nanosecond, between the years 1678 and 2262. Where it
	// is zero the time of publishing is stored.
	Time time.Time

	// Topic, Partition and Offset say where the record is stored.
	Topic     string
	Partition PartitionID
	Offset    int64
	// Ack says how safe the record was when its publish returned. On delivery it is AckNone, but AckWritten for a record that backpressure
	// had acknowledged before its sync (ReduceAck in TopicConfig.Backpressure): that is stored with it.
	Ack Ack

	// origin and originOffset say which subscription delivered the record and where it
	// then stood, however the fields above have been changed since. Commit uses only these.
	origin       *delivery
	originOffset int64
}

// delivery is the origin shared by the records that one subscription delivered from one
// partition under one ownership.
type delivery struct {
	sub  *Subscription
	part *subPartition
}

// Clone returns a copy that shares no memory with r. It can be committed like r.
func (r *Record) Clone() *Record {
	c := *r
	buf := make([]byte, 0, len(r.Key)+len(r.Value))
	c.Key, buf = cloneInto(buf, r.Key)
	c.Value, _ = cloneInto(buf, r.Value)
	c.Headers = slices.Clone(r.Headers)
	for i, h := range c.Headers {
		c.Headers[i] = Header{Key: string([]byte(h.Key)), Value: bytes.Clone(h.Value)}
	}
	return &c
}

// cloneInto appends b to memory that has room for it, and returns what was appended, which is nil if b is, and the memory behind it.
func cloneInto(buf, b []byte) (clone, rest []byte) {
	if b == nil {
		return nil, buf
	}
	n := len(b)
	buf = append(buf, b...)
	return buf[:n:n], buf[n:]
}
