package braid

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/braid-go/braid/checkpoint"
)

// openReadOnly opens without the lock: it looks whether a writer is alive, loads the
// store as it stands on disk, and opens the logs so that they show what is proven
// durable. Nothing is written, repaired or removed.
func (b *Broker) openReadOnly() error {
	if err := b.checkDirs(); err != nil {
		return err
	}
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

// refreshTopics adds the topics that a writer has made since, follows the changes of those that are known, and closes those it has deleted.
// The caller holds changing.
func (b *Broker) refreshTopics() error {
	if b.closed.Load() {
		return ErrClosed
	}
	cat, view, err := b.loadCatalog()
	if err != nil {
		return err
	}
	fresh := &catalog{}
	known := map[uint64]*Topic{}
	for _, t := range b.Topics() {
		known[t.id] = t
	}
	var errs []error
	for _, st := range cat.topics {
		if t := known[st.meta.ID]; t != nil {
			errs = append(errs, t.follow(st, view))
			delete(known, st.meta.ID)
		} else {
			fresh.topics = append(fresh.topics, st)
		}
	}
	for _, t := range known {
		b.forget(t)
	}
	return errors.Join(append(errs, b.openTopics(fresh, view))...)
}

// follow takes over what a writer has made of a topic: its configuration and its partitions.
func (t *Topic) follow(st storedTopic, store *checkpoint.View) error {
	t.config.Store(&st.meta.Config)
	tab := t.table.Load()
	if st.rev == tab.rev {
		return nil
	}
	var all, fresh []*topicPartition
	for _, info := range st.layout.All() {
		i := slices.IndexFunc(tab.all, func(p *topicPartition) bool { return p.id == info.ID })
		if i >= 0 {
			all = append(all, tab.all[i])
			continue
		}
		j := t.openJob(st, info, store)
		if err := j.run(); err != nil {
			for _, p := range fresh {
				p.close(context.Background())
			}
			return err
		}
		all, fresh = append(all, j.opened), append(fresh, j.opened)
	}
	var gone []*topicPartition
	for _, p := range tab.all {
		if _, stays := st.layout.Lookup(p.id); !stays {
			p.dropped.Store(true)
			gone = append(gone, p)
		}
	}
	t.setPartitions(st.layout, st.rev, all)
	for _, p := range gone {
		p.close(context.Background())
	}
	return nil
}

// A read-only broker looks this often for topics and partitions that have been made since, and at most a twentieth of its time.
const followInterval = time.Second

// runFollow follows the writer's topics until the broker closes.
func (b *Broker) runFollow() {
	timer := time.NewTimer(followInterval)
	defer timer.Stop()
	for {
		select {
		case <-b.done:
			return
		case <-timer.C:
		}
		begin := time.Now()
		if b.changing.TryLock() { // whoever closes holds it, and waits for this
			if err := b.refreshTopics(); err != nil && !errors.Is(err, ErrClosed) {
				b.opts.Logger.Warn("what a writer has changed is not seen yet", "error", err)
			}
			b.changing.Unlock()
		}
		timer.Reset(max(followInterval, 20*time.Since(begin)))
	}
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
