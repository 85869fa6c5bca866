package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"path/filepath"

	"go.etcd.io/bbolt"
)

// bbolt stores a stream as a bucket with sequential keys (README: "Autoincrementing integer for the bucket"; Bucket.FillPercent: "increase this
// amount if you know that your write workloads are mostly append-only"). Bulk publishing is a transaction for several
// batches (README: the wait of an Update "can be minimized by combining multiple updates").
// Concurrent publishers use DB.Batch, and MaxBatchSize is their number, so that a full batch begins at once and
// not after MaxBatchDelay. The free list is a hash map, "faster in almost all circumstances", and not synced
// (Options.NoFreelistSync). Reading is a cursor. It tells nobody of new entries, so that there is no delivery.
var bboltSystem = system{
	Name:  "bbolt",
	About: "transactions of 8 batches in bulk, DB.Batch with MaxBatchSize = publishers; sequential keys, FillPercent 1; a cursor over the mapped file, which is not checked",
	Open:  openBbolt,
}

var _ interface {
	streamPublisher
	publisher
	concurrentPublisher
	reader
	spreadPublisher
	transactor
} = (*bboltStore)(nil)

type bboltStore struct {
	db      *bbolt.DB
	buckets [][]byte // those that transactions consume come last
	out     int      // the number of buckets that are published to
	inputs  int
}

func openBbolt(_ context.Context, s setup) (io.Closer, error) {
	db, err := bbolt.Open(filepath.Join(s.Dir, "db"), 0o600, &bbolt.Options{
		NoSync:         !s.Fsync,
		NoFreelistSync: true,
		FreelistType:   bbolt.FreelistMapType,
	})
	if err != nil {
		return nil, err
	}
	db.MaxBatchSize = concurrentPublishers
	store := &bboltStore{db: db, out: s.streams(), inputs: s.Inputs}
	err = db.Update(func(tx *bbolt.Tx) error {
		for i := range s.streams() + s.Inputs {
			name := fmt.Appendf(nil, "stream-%d", i)
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
			store.buckets = append(store.buckets, name)
		}
		return nil
	})
	if err != nil {
		db.Close()
		return nil, err
	}
	return store, nil
}

func (b *bboltStore) Close() error { return b.db.Close() }

// put appends records to a stream.
func (b *bboltStore) put(tx *bbolt.Tx, stream int, recs ...record) error {
	bucket := tx.Bucket(b.buckets[stream])
	bucket.FillPercent = 1
	size := 0
	for _, r := range recs {
		size += encodedSize(r)
	}
	values := make([]byte, 0, size) // bbolt keeps a value until the commit, and copies a key
	var key [8]byte
	for _, r := range recs {
		seq, err := bucket.NextSequence()
		if err != nil {
			return err
		}
		from := len(values)
		values = appendRecord(values, r)
		binary.BigEndian.PutUint64(key[:], seq)
		if err := bucket.Put(key[:], values[from:]); err != nil {
			return err
		}
	}
	return nil
}

func (b *bboltStore) PublishStream(_ context.Context, next func() []record) error {
	g := gatherer{next: next}
	for recs := g.take(gathered); len(recs) > 0; recs = g.take(gathered) {
		if err := b.db.Update(func(tx *bbolt.Tx) error { return b.put(tx, 0, recs...) }); err != nil {
			return err
		}
	}
	return nil
}

// PublishSpread brings a transaction's records into the order of their buckets, since one bucket after the other is faster.
func (b *bboltStore) PublishSpread(_ context.Context, next func() []record) error {
	g := gatherer{next: next}
	sorted := make([][]record, b.out)
	stream := 0
	for recs := g.take(gathered); len(recs) > 0; recs = g.take(gathered) {
		for _, r := range recs {
			sorted[stream] = append(sorted[stream], r)
			stream = (stream + 1) % b.out
		}
		err := b.db.Update(func(tx *bbolt.Tx) error {
			for i, recs := range sorted {
				if err := b.put(tx, i, recs...); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		for i := range sorted {
			sorted[i] = sorted[i][:0]
		}
	}
	return nil
}

func (b *bboltStore) Fill(_ context.Context, committer int, recs []record) error {
	return b.db.Update(func(tx *bbolt.Tx) error { return b.put(tx, b.out+committer, recs...) })
}

// Transact is DB.Batch where several commit at once; the position is a key beside the records that sorts before them.
func (b *bboltStore) Transact(_ context.Context, committer int) error {
	step := b.db.Update
	if b.inputs > 1 {
		step = b.db.Batch
	}
	return step(func(tx *bbolt.Tx) error {
		in := tx.Bucket(b.buckets[b.out+committer])
		position := []byte{0}
		next := uint64(1)
		if at := in.Get(position); at != nil {
			next = binary.BigEndian.Uint64(at) + 1
		}
		key := binary.BigEndian.AppendUint64(nil, next)
		value := in.Get(key)
		if value == nil {
			return fmt.Errorf("committer %d has no record %d", committer, next)
		}
		r, err := decodeRecord(value)
		if err != nil {
			return err
		}
		if err := b.put(tx, 0, r); err != nil {
			return err
		}
		return in.Put(position, key)
	})
}

func (b *bboltStore) Publish(_ context.Context, r record) error {
	return b.db.Update(func(tx *bbolt.Tx) error { return b.put(tx, 0, r) })
}

func (b *bboltStore) PublishConcurrent(_ context.Context, stream int, r record) error {
	return b.db.Batch(func(tx *bbolt.Tx) error { return b.put(tx, stream, r) })
}

func (b *bboltStore) Read(_ context.Context, n int, owned bool, fn func(record)) error {
	return b.db.View(func(tx *bbolt.Tx) error {
		var mem arena
		c := tx.Bucket(b.buckets[0]).Cursor()
		for k, v := c.First(); k != nil; k, v = c.Next() {
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
		return fmt.Errorf("the bucket ended %d records early", n)
	})
}
