package braid

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/braid-go/braid/checkpoint"
)

// openReadOnly opens without the lock: it looks whether a writer is alive, loads the
// store as it stands on disk, and opens the logs so that they show what is proven
// durable. Nothing is written, repaired or removed.
func (b *Broker) openReadOnly() error {
	cat, view, err := b.loadCatalog()
	if err != nil {
		return err
	}
	return b.openTopics(cat, view)
}

// loadCatalog reads the metadata of a directory that another broker may be writing to.
func (b *Broker) loadCatalog() (*catalog, *checkpoint.View, error) {
	live, err := writerLive(b.dir)
	if err != nil {
		return nil, nil, err
	}
	b.report.WriterLive = live
	f, err := readFormat(b.dir)
	if err == nil && !f.ready {
		return nil, nil, fmt.Errorf("%w: %s is still being created", ErrMissingData, b.dir)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("%w: not a data directory: %w", ErrMissingData, err)
	}
	if err != nil {
		return nil, nil, err
	}
	view, err := checkpoint.LoadWAL(filepath.Join(b.dir, storeName), checkpoint.LoadOptions{ID: f.id, WriterLive: live})
	if err != nil {
		return nil, nil, storeError(err)
	}
	cat, err := readCatalog(context.Background(), view)
	return cat, view, err
}

// refreshTopics adds the topics that a writer has made since, and closes those it has deleted.
func (b *Broker) refreshTopics(context.Context) error {
	b.changing.Lock()
	defer b.changing.Unlock()
	if b.closed.Load() {
		return ErrClosed
	}
	cat, view, err := b.loadCatalog()
	if err != nil {
		return err
	}
	fresh := &catalog{}
	stored := map[uint64]bool{}
	known := map[uint64]bool{}
	for _, t := range b.Topics() {
		known[t.id] = true
	}
	for _, st := range cat.topics {
		stored[st.meta.ID] = true
		if !known[st.meta.ID] {
			fresh.topics = append(fresh.topics, st)
		}
	}
	for _, t := range b.Topics() {
		if !stored[t.id] {
			b.forget(t)
		}
	}
	return b.openTopics(fresh, view)
}

// forget takes a topic that was deleted out of a read-only broker.
func (b *Broker) forget(t *Topic) {
	b.mu.Lock()
	delete(b.topics, t.name)
	b.mu.Unlock()
	t.deleted.Store(true)
	close(t.gone)
	for _, p := range t.table.Load().all {
		p.log.Close()
	}
}
