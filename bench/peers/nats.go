package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

// nats-server runs JetStream in this process, without a port, with file storage and, where there is an fsync, SyncAlways
// (documentation of JetStream, "Syncing data to disk": sync_interval: always). Bulk publishing without fsync is the
// fast publisher (README of orbit.go/jetstreamext, "Fast publishing": "high-throughput batch publishing"; it is faster than
// PublishAsync). With SyncAlways every message is synced for itself, but a whole atomic batch, of up to 1000
// messages, once; so bulk publishing with fsync is atomic batches (the same README, "Atomic batch publishing"). Single records are
// Publish. Reading is an ordered consumer's Consume (README of nats.go/jetstream: Fetch has "worse performance ... in
// comparison to Messages() or Consume()"). Delivery is the same with PublishAsync, since Publish takes longer than
// the interval between two records.
var natsSystem = system{
	Name:   "nats",
	About:  "JetStream in process, file storage, SyncAlways where fsynced; fast publisher or atomic batches in bulk; ordered consumer",
	Checks: true,
	Open:   openNATS,
}

const (
	natsFlow    = 500 // messages for which the fast publisher gets an acknowledgement; the server allows no more
	natsTimeout = 30 * time.Second
)

var _ interface {
	streamPublisher
	publisher
	concurrentPublisher
	reader
	deliverer
	spreadPublisher
} = (*natsStore)(nil)

type natsStore struct {
	server   *server.Server
	conn     *nats.Conn
	js       jetstream.JetStream
	subjects []string // of the streams, or of the one stream over which is spread
	fsync    bool
	buf      []byte
	msgs     []*nats.Msg
}

func openNATS(ctx context.Context, s setup) (io.Closer, error) {
	srv, err := server.NewServer(&server.Options{
		ServerName: "bench",
		DontListen: true,
		NoLog:      true,
		NoSigs:     true,
		JetStream:  true,
		StoreDir:   s.Dir,
		SyncAlways: s.Fsync,
	})
	if err != nil {
		return nil, err
	}
	store := &natsStore{server: srv, fsync: s.Fsync}
	srv.Start()
	if !srv.ReadyForConnections(natsTimeout) {
		store.Close()
		return nil, errors.New("the server does not start")
	}
	if err := store.connect(ctx, s.Streams, s.Spread); err != nil {
		store.Close()
		return nil, err
	}
	return store, nil
}

func (n *natsStore) connect(ctx context.Context, streams, spread int) (err error) {
	if n.conn, err = nats.Connect("", nats.InProcessServer(n.server)); err != nil {
		return err
	}
	n.js, err = jetstream.New(n.conn, jetstream.WithDefaultTimeout(natsTimeout), jetstream.WithPublishAsyncMaxPending(window*batchRecords))
	if err != nil {
		return err
	}
	for i := range spread {
		n.subjects = append(n.subjects, fmt.Sprintf("s.0.%d", i))
	}
	for i := range streams {
		subject := fmt.Sprintf("s.%d", i)
		if spread > 0 {
			subject = "s.0.>"
		}
		_, err := n.js.CreateStream(ctx, jetstream.StreamConfig{
			Name:               fmt.Sprintf("S%d", i),
			Subjects:           []string{subject},
			Storage:            jetstream.FileStorage,
			AllowBatchPublish:  true,
			AllowAtomicPublish: true,
		})
		if err != nil {
			return fmt.Errorf("create stream %d: %w", i, err)
		}
		if spread == 0 {
			n.subjects = append(n.subjects, subject)
		}
	}
	return nil
}

func (n *natsStore) Close() error {
	if n.conn != nil {
		n.conn.Close()
	}
	n.server.Shutdown()
	n.server.WaitForShutdown()
	return nil
}

func (n *natsStore) PublishStream(ctx context.Context, next func() []record) error {
	if n.fsync {
		return n.publishAtomic(ctx, next)
	}
	return n.publishFast(ctx, next, n.subjects[:1], window)
}

// PublishSpread spreads over subjects of one stream (documentation of NATS, "Subject Mapping and Partitioning").
func (n *natsStore) PublishSpread(ctx context.Context, next func() []record) error {
	return n.publishFast(ctx, next, n.subjects, window) // the server closes a publisher that has many more on their way
}

func (n *natsStore) publishFast(ctx context.Context, next func() []record, subjects []string, window int) error {
	fast, err := jetstreamext.NewFastPublisher(n.js, jetstreamext.FastPublishFlowControl{
		Flow:               natsFlow,
		MaxOutstandingAcks: uint16((window - 1) * batchRecords / natsFlow), // the batch being added is not acknowledged either
		AckTimeout:         natsTimeout,
	})
	if err != nil {
		return err
	}
	at := 0
	for batch := next(); len(batch) > 0; batch = next() {
		for _, r := range batch {
			n.buf = appendRecord(n.buf[:0], r) // the connection copies it
			if _, err := fast.Add(subjects[at], n.buf); err != nil {
				return err
			}
			at = (at + 1) % len(subjects)
		}
	}
	_, err = fast.Close(ctx)
	return err
}

// publishAtomic makes every batch an atomic one.
func (n *natsStore) publishAtomic(ctx context.Context, next func() []record) error {
	for batch := next(); len(batch) > 0; batch = next() {
		for len(n.msgs) < len(batch) {
			n.msgs = append(n.msgs, nats.NewMsg(n.subjects[0]))
		}
		for i, r := range batch {
			n.msgs[i].Reply = ""
			n.msgs[i].Data = appendRecord(n.msgs[i].Data[:0], r)
		}
		if _, err := jetstreamext.PublishMsgBatch(ctx, n.js, n.msgs[:len(batch)]); err != nil {
			return err
		}
	}
	return nil
}

func (n *natsStore) Publish(ctx context.Context, r record) error {
	return n.PublishConcurrent(ctx, 0, r)
}

func (n *natsStore) PublishConcurrent(ctx context.Context, stream int, r record) error {
	_, err := n.js.Publish(ctx, n.subjects[stream], appendRecord(make([]byte, 0, 128), r))
	return err
}

// consume calls fn with the data of each message until it returns false or ctx ends.
func (n *natsStore) consume(ctx context.Context, ready func(), fn func([]byte) bool) error {
	consumer, err := n.js.OrderedConsumer(ctx, "S0", jetstream.OrderedConsumerConfig{})
	if err != nil {
		return err
	}
	done := make(chan struct{})
	ended := false
	consuming, err := consumer.Consume(func(m jetstream.Msg) { // one at a time
		if !ended && !fn(m.Data()) {
			ended = true
			close(done)
		}
	}, jetstream.PullMaxMessages(10*batchRecords))
	if err != nil {
		return err
	}
	ready()
	select {
	case <-done:
	case <-ctx.Done():
	}
	consuming.Stop()
	<-consuming.Closed()
	return nil
}

// Read gives records that own their memory in either case: a message's data does.
func (n *natsStore) Read(ctx context.Context, count int, _ bool, fn func(record)) error {
	var failed error
	err := n.consume(ctx, func() {}, func(b []byte) bool {
		r, err := decodeRecord(b)
		if err != nil {
			failed = err
			return false
		}
		fn(r)
		count--
		return count > 0
	})
	if err == nil && failed == nil && count > 0 {
		err = fmt.Errorf("%d records have not come: %w", count, ctx.Err())
	}
	return errors.Join(err, failed)
}

func (n *natsStore) Send(_ context.Context, r record) error {
	_, err := n.js.PublishAsync(n.subjects[0], appendRecord(make([]byte, 0, 128), r))
	return err
}

func (n *natsStore) Deliver(ctx context.Context, ready func(), fn func(record)) error {
	var failed error
	err := n.consume(ctx, ready, func(b []byte) bool {
		r, err := decodeRecord(b)
		if err != nil {
			failed = err
			return false
		}
		fn(r)
		return true
	})
	return errors.Join(err, failed)
}
