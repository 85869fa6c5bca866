package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"golang.org/x/sync/errgroup"
)

// pebble stores a stream under sequential keys, with the options that its own benchmark tool has (cmd/pebble/db.go in its repository): memtables of
// 64 MiB, four of them, writes never stopped for level 0. Bulk publishing writes batches (package documentation: a Batch
// "requires less memory and is faster" than single writes), committed by a few goroutines at once, since commits
// that come together share a write and a sync of the log (commit.go: the commit pipeline). The keys are
// given in order, so that the order of commits does not matter. ApplyNoSyncWait, which would fit, is
// "experimental, do not yet use outside CockroachDB". Concurrent publishers call Set.
// Without fsync (NoSync) pebble acknowledges before it has written to the operating system, which is less
// than the others do. It compresses by default, which nobody else here does, and is told not to. A transaction is a batch. Reading is an iterator, after a compaction. It tells nobody of new entries, so that there is no delivery.
var pebbleSystem = system{
	Name:   "pebble",
	About:  "its benchmark tool's options; batches committed 4 at a time in bulk, Set with Sync; an iterator after a compaction; unsynced, it acknowledges before write(2)",
	Checks: true,
	Open:   openPebble,
}

const (
	pebbleCommitters   = 4                               // bulk commits under way
	pebbleBatchOfBulk  = window / (pebbleCommitters + 1) // one more is being filled
	pebbleKeyBytes     = 12
	pebbleMemTableSize = 64 << 20
)

var _ interface {
	streamPublisher
	publisher
	concurrentPublisher
	reader
	settler
	spreadPublisher
	transactor
} = (*pebbleStore)(nil)

type pebbleStore struct {
	db    *pebble.DB
	write *pebble.WriteOptions
	last  []atomic.Uint64 // sequence numbers by stream; those that transactions consume come last
	out   int             // the number of streams that are published to
	read  []uint64        // by committer, the sequence number of the last record that it has consumed
}

// quiet keeps pebble from writing to standard error.
type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf("pebble: "+format, args...)) // it must not return
}

func openPebble(_ context.Context, s setup) (io.Closer, error) {
	cache := pebble.NewCache(64 << 20)
	defer cache.Unref()
	opts := &pebble.Options{
		Cache:                       cache,
		FormatMajorVersion:          pebble.FormatNewest,
		L0CompactionThreshold:       2,
		L0StopWritesThreshold:       1000,
		LBaseMaxBytes:               64 << 20,
		MemTableSize:                pebbleMemTableSize,
		MemTableStopWritesThreshold: 4,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 3 },
		Logger:                      quiet{},
	}
	opts.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionNone })
	db, err := pebble.Open(s.Dir, opts)
	if err != nil {
		return nil, err
	}
	store := &pebbleStore{db: db, write: pebble.NoSync, last: make([]atomic.Uint64, s.streams()+s.Inputs), out: s.streams(), read: make([]uint64, s.Inputs)}
	if s.Fsync {
		store.write = pebble.Sync
	}
	return store, nil
}

func (p *pebbleStore) Close() error { return p.db.Close() }

func pebbleKey(dst []byte, stream int, seq uint64) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(stream))
	return binary.BigEndian.AppendUint64(dst, seq)
}

func (p *pebbleStore) PublishStream(ctx context.Context, next func() []record) error {
	return p.publishSpread(ctx, next, 1)
}

// PublishSpread publishes as PublishStream does; a stream is a prefix of keys.
func (p *pebbleStore) PublishSpread(ctx context.Context, next func() []record) error {
	return p.publishSpread(ctx, next, p.out)
}

func (p *pebbleStore) publishSpread(ctx context.Context, next func() []record, streams int) error {
	stream := 0
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(pebbleCommitters)
	g := gatherer{next: next}
	for recs := g.take(pebbleBatchOfBulk); len(recs) > 0 && ctx.Err() == nil; recs = g.take(pebbleBatchOfBulk) {
		batch := p.db.NewBatch()
		for _, r := range recs {
			op := batch.SetDeferred(pebbleKeyBytes, encodedSize(r))
			pebbleKey(op.Key[:0], stream, p.last[stream].Add(1))
			stream = (stream + 1) % streams
			appendRecord(op.Value[:0], r)
			if err := op.Finish(); err != nil {
				return err
			}
		}
		group.Go(func() error {
			defer batch.Close()
			return batch.Commit(p.write)
		})
	}
	return group.Wait()
}

func (p *pebbleStore) Publish(ctx context.Context, r record) error {
	return p.PublishConcurrent(ctx, 0, r)
}

func (p *pebbleStore) PublishConcurrent(_ context.Context, stream int, r record) error {
	var key [pebbleKeyBytes]byte
	value := appendRecord(make([]byte, 0, 128), r)
	return p.db.Set(pebbleKey(key[:0], stream, p.last[stream].Add(1)), value, p.write)
}

func (p *pebbleStore) Fill(_ context.Context, committer int, recs []record) error {
	batch := p.db.NewBatch()
	defer batch.Close()
	stream := p.out + committer
	for _, r := range recs {
		if err := batch.Set(pebbleKey(nil, stream, p.last[stream].Add(1)), appendRecord(nil, r), nil); err != nil {
			return err
		}
	}
	return batch.Commit(p.write)
}

// Transact is a batch with the record and the position, which is key 0 of the committer's stream.
func (p *pebbleStore) Transact(_ context.Context, committer int) error {
	stream := p.out + committer
	next := p.read[committer] + 1
	value, closer, err := p.db.Get(pebbleKey(nil, stream, next))
	if err != nil {
		return err
	}
	defer closer.Close()
	batch := p.db.NewBatch()
	defer batch.Close()
	if err := batch.Set(pebbleKey(nil, 0, p.last[0].Add(1)), value, nil); err != nil {
		return err
	}
	if err := batch.Set(pebbleKey(nil, stream, 0), binary.BigEndian.AppendUint64(nil, next), nil); err != nil {
		return err
	}
	p.read[committer] = next
	return batch.Commit(p.write)
}

// Settle flushes the memtables and compacts what they held.
func (p *pebbleStore) Settle(ctx context.Context) error {
	if err := p.db.Flush(); err != nil {
		return err
	}
	return p.db.Compact(ctx, pebbleKey(nil, 0, 0), pebbleKey(nil, 1, 0), true)
}

func (p *pebbleStore) Read(ctx context.Context, n int, owned bool, fn func(record)) error {
	it, err := p.db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: pebbleKey(nil, 0, 0), UpperBound: pebbleKey(nil, 1, 0)})
	if err != nil {
		return err
	}
	defer it.Close()
	var mem arena
	for it.First(); it.Valid(); it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		if owned {
			v = mem.clone(v)
		}
		r, err := decodeRecord(v)
		if err != nil {
			return err
		}
		fn(r)
		if n--; n == 0 {
			return nil
		}
	}
	if err := it.Error(); err != nil {
		return err
	}
	return fmt.Errorf("the keys ended %d records early", n)
}
