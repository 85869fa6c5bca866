package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/tidwall/wal"
)

// tidwall/wal writes batches (README: "Batch writes"), each of which is synced once. It has no
// group commit: concurrent publishers take turns, a log for each stream. Reading gets the stored bytes without a copy
// (Options.NoCopy: "an optimization to help minimize allocations"). It tells nobody of new entries, so that
// there is no delivery.
var walSystem = system{
	Name:  "wal",
	About: "tidwall/wal: WriteBatch of 8 batches in bulk; a log for each stream, WriteBatch of all that is on its way for it; Read with NoCopy, which is not checked; the last 20 MB are in its memory",
	Open:  openWAL,
}

var _ interface {
	streamPublisher
	publisher
	concurrentPublisher
	reader
	spreadPublisher
} = (*walStore)(nil)

type walStore struct {
	logs  []walLog
	batch wal.Batch
	buf   []byte
}

type walLog struct {
	mu    sync.Mutex
	log   *wal.Log
	last  uint64
	buf   []byte
	batch wal.Batch // of PublishSpread
}

func openWAL(_ context.Context, s setup) (io.Closer, error) {
	store := &walStore{logs: make([]walLog, s.streams())}
	for i := range store.logs {
		opts := *wal.DefaultOptions
		opts.NoSync, opts.NoCopy = !s.Fsync, true
		var err error
		if store.logs[i].log, err = wal.Open(filepath.Join(s.Dir, strconv.Itoa(i)), &opts); err != nil {
			store.Close()
			return nil, err
		}
	}
	return store, nil
}

func (w *walStore) Close() error {
	var errs []error
	for i := range w.logs {
		if w.logs[i].log != nil {
			errs = append(errs, w.logs[i].log.Close())
		}
	}
	return errors.Join(errs...)
}

func (w *walStore) PublishStream(_ context.Context, next func() []record) error {
	l := &w.logs[0]
	g := gatherer{next: next}
	for recs := g.take(gathered); len(recs) > 0; recs = g.take(gathered) {
		w.batch.Clear()
		for _, r := range recs {
			w.buf = appendRecord(w.buf[:0], r)
			l.last++
			w.batch.Write(l.last, w.buf)
		}
		if err := l.log.WriteBatch(&w.batch); err != nil {
			return err
		}
	}
	return nil
}

// PublishSpread gathers as many batches as a publisher may have without acknowledgement, so that a log's batch has the more records.
func (w *walStore) PublishSpread(_ context.Context, next func() []record) error {
	g := gatherer{next: next}
	stream := 0
	for recs := g.take(spreadWindow); len(recs) > 0; recs = g.take(spreadWindow) {
		for _, r := range recs {
			l := &w.logs[stream]
			w.buf = appendRecord(w.buf[:0], r)
			l.last++
			l.batch.Write(l.last, w.buf)
			stream = (stream + 1) % len(w.logs)
		}
		for i := range w.logs {
			if err := w.logs[i].log.WriteBatch(&w.logs[i].batch); err != nil { // it is empty again
				return err
			}
		}
	}
	return nil
}

func (w *walStore) Publish(ctx context.Context, r record) error {
	return w.PublishConcurrent(ctx, 0, r)
}

func (w *walStore) PublishConcurrent(_ context.Context, stream int, r record) error {
	l := &w.logs[stream]
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = appendRecord(l.buf[:0], r)
	if err := l.log.Write(l.last+1, l.buf); err != nil {
		return err
	}
	l.last++
	return nil
}

func (w *walStore) Read(_ context.Context, n int, owned bool, fn func(record)) error {
	var mem arena
	for i := range uint64(n) {
		b, err := w.logs[0].log.Read(i + 1)
		if err != nil {
			return fmt.Errorf("entry %d: %w", i+1, err)
		}
		if owned {
			b = mem.clone(b)
		}
		r, err := decodeRecord(b)
		if err != nil {
			return err
		}
		fn(r)
	}
	return nil
}
