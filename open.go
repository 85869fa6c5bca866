package braid

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/braid-go/braid/backpressure"
	"github.com/braid-go/braid/checkpoint"
	"github.com/braid-go/braid/internal/vfs"
	"github.com/braid-go/braid/log"
	"github.com/braid-go/braid/partition"
)

// OpenReport tells what Open found and did. A clean start leaves all but Created empty.
type OpenReport struct {
	// Created: the directory was empty and a new broker was made in it.
	Created bool
	// WriterLive: read-only, and another broker had the directory open for writing.
	WriterLive bool
	// Store tells what was found in the store of positions and configurations.
	Store checkpoint.WALReport
	// Partitions has those that were not closed cleanly, or have lost something.
	Partitions []PartitionReport
	// SetAside lists directories of partitions whose creation was never finished. They hold no
	// record and have been renamed.
	SetAside []string
}

// PartitionReport tells what opening one partition found and did. Its Problems are [CorruptError] and [MissingDataError].
type PartitionReport struct {
	Topic     string
	Partition PartitionID
	log.Report
}

// Open opens the broker that lives in a directory, making the directory (mode 0700) if it does not
// exist. While it is open no other broker can be, except with Options.ReadOnly: ErrLocked.
//
// After an unclean stop Open recovers by itself, in the time that one segment per partition takes to read, and OpenReport
// says what it did. It never deletes a record. Damage that concerns single records does not keep
// it from opening: readers meet it as [CorruptError] or [MissingDataError]. Damage
// to what everything depends on does: ErrCorrupt, ErrMissingData, and ErrVersion for the
// directory of a newer Braid.
//
// A failed Open has released everything.
func Open(dir string, opts Options) (*Broker, error) {
	opts, err := opts.resolve(dir)
	if err != nil {
		return nil, err
	}
	b := &Broker{
		dir: dir, opts: opts, report: &OpenReport{},
		topics: map[string]*Topic{}, subs: map[*Subscription]struct{}{}, groups: map[groupKey]*coordinator{},
		done: make(chan struct{}),
	}
	b.limits.Store(&opts.Limits)
	b.backlog.look = make(chan struct{}, 1)
	b.memory = backpressure.NewBudget(int64(opts.Limits.MaxMemoryBytes))
	switch {
	case opts.InMemory:
		err = b.openMemory()
	case opts.ReadOnly:
		err = b.openReadOnly()
	default:
		err = b.openWritable()
	}
	if err != nil {
		b.closePartitions(context.Background())
		b.release()
		if vfs.NoSpace(err) && !errors.Is(err, ErrNoSpace) {
			err = fmt.Errorf("%w: %w", ErrNoSpace, err)
		}
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	if !opts.ReadOnly {
		b.background.Go(b.runRetention)
		b.background.Go(b.runBacklog)
	} else {
		b.background.Go(b.runFollow)
	}
	for _, t := range b.topics {
		t.scale()
	}
	return b, nil
}

func (b *Broker) openMemory() error {
	mem := checkpoint.NewMemory(checkpoint.MemoryOptions{})
	b.store = mem
	b.counters = counters{Topic: 1, Partition: 1}
	b.startScheduler()
	b.sched.SetJournal(mem)
	return b.opts.fs.Mkdir(partitionsName)
}

func (b *Broker) startScheduler() {
	b.sched = partition.NewScheduler(partition.SchedulerOptions{
		Mode: b.opts.Durability.mode(), SyncInterval: b.opts.SyncInterval,
	})
}

func (b *Broker) openWritable() error {
	if err := makeDir(b.dir); err != nil {
		return err
	}
	var err error
	if b.dir, err = target(b.dir); err != nil {
		return err
	}
	if b.lock, err = lockDir(b.dir); err != nil {
		return err
	}
	if err := b.checkDirs(); err != nil {
		return err
	}
	f, err := prepareDir(b.dir)
	if err != nil {
		return err
	}
	b.report.Created = !f.ready
	if !f.ready {
		if err := b.makePartitionsDir(); err != nil {
			return err
		}
	}
	b.counters = counters{Topic: 1, Partition: 1}
	b.startScheduler()
	var tombstones []PartitionID
	wal, err := checkpoint.OpenWAL(filepath.Join(b.dir, storeName), checkpoint.WALOptions{
		ID: f.id, Create: !f.ready, Settle: b.sched.Settle,
		Redo: func(v *checkpoint.View) (err error) {
			tombstones, err = b.redo(v)
			return err
		},
	})
	if err != nil {
		return storeError(err)
	}
	b.store, b.report.Store = wal, wal.Report()
	b.sched.SetJournal(wal)
	if !f.ready {
		f.ready = true
		if err := writeFormat(b.dir, f); err != nil {
			return err
		}
	}
	return b.dropTombstones(tombstones)
}

// redo opens the partitions with the frames that the store carries for them: what is in a segment from then on is durable there. The store
// goes on only afterwards, so that opening can end anywhere and begin again. It returns the
// tombstones whose directories are durably gone.
func (b *Broker) redo(v *checkpoint.View) ([]PartitionID, error) {
	cat, err := readCatalog(context.Background(), v)
	if err != nil {
		return nil, err
	}
	b.counters = cat.counters
	if err := b.sweepPartitions(cat); err != nil {
		return nil, err
	}
	return cat.tombstones, b.openTopics(cat, v)
}

func (b *Broker) makePartitionsDir() error {
	path := filepath.Join(b.dir, partitionsName)
	if err := b.opts.fs.Mkdir(path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return b.opts.fs.SyncDir(b.dir)
}

// openTopics opens the partitions of all topics and registers the topics, or, after an error,
// closes what it has opened.
//
// A frame that says which sequence of the store was durable proves that the store, if it ends below, has lost commits.
func (b *Broker) openTopics(cat *catalog, store *checkpoint.View) error {
	var jobs []*openJob
	byTopic := map[*Topic][]*openJob{}
	for _, st := range cat.topics {
		t := newTopic(b, st.name, st.meta, st.layout, st.rev)
		byTopic[t] = nil
		for _, info := range st.layout.All() {
			j := t.openJob(st, info, store)
			jobs, byTopic[t] = append(jobs, j), append(byTopic[t], j)
		}
	}
	err := inParallel(len(jobs), func(i int) error { return jobs[i].run() })
	for _, j := range jobs {
		if err == nil && !b.report.WriterLive && j.opened.log.ProvenSequence() > store.Sequence() {
			err = fmt.Errorf("%w: the store ends with sequence %d, but a record of topic %s, partition %d, proves that %d was durable",
				ErrCorrupt, store.Sequence(), j.topic.name, j.info.ID, j.opened.log.ProvenSequence())
		}
	}
	if err != nil {
		for _, j := range jobs {
			if j.opened != nil {
				j.opened.close(context.Background())
			}
		}
		return err
	}
	for t, jobs := range byTopic {
		parts := make([]*topicPartition, len(jobs))
		for i, j := range jobs {
			parts[i] = j.opened
			if !j.report.Clean() {
				for i, problem := range j.report.Problems {
					j.report.Problems[i] = logError(t.name, j.info.ID, problem)
				}
				j.opened.problems = j.report.Problems
				b.report.Partitions = append(b.report.Partitions, PartitionReport{t.name, j.info.ID, *j.report})
			}
		}
		tab := t.table.Load()
		t.setPartitions(tab.layout, tab.rev, parts)
		b.mu.Lock()
		b.topics[t.name] = t
		b.mu.Unlock()
	}
	return nil
}

// openJob is the opening of one partition.
type openJob struct {
	topic  *Topic
	info   partition.Info
	making making
	proof  log.Proof
	opened *topicPartition
	report *log.Report
}

func (t *Topic) openJob(st storedTopic, info partition.Info, store *checkpoint.View) *openJob {
	proof := log.Proof{MinNext: max(st.committed[info.ID], info.End), Logged: store.Frames(uint64(info.ID))}
	if info.State == partition.StateSealed { // what it held was durable before the layout said so
		proof.Durable = info.End
	}
	return &openJob{topic: t, info: info, making: st.makings[info.ID], proof: proof}
}

func (j *openJob) run() (err error) {
	j.opened, j.report, err = j.topic.openPartition(j.info, j.proof)
	if err == nil {
		j.opened.making = j.making
	}
	if err == nil && j.info.State == partition.StateSealed && j.opened.log.VisibleEnd() > j.info.End {
		j.report.Problems = append(j.report.Problems, fmt.Errorf("%w: there are records up to offset %d behind the end %d at which it was sealed",
			ErrCorrupt, j.opened.log.VisibleEnd(), j.info.End))
	}
	return logError(j.topic.name, j.info.ID, err)
}

// sweepPartitions looks at the directories under partitions/ that no layout names: one
// with a tombstone was being deleted and goes; an empty one was being made when the process
// ended, and is set aside; anything else is evidence that commits of the store are lost.
func (b *Broker) sweepPartitions(cat *catalog) error {
	known := map[string]bool{}
	for _, t := range cat.topics {
		for _, p := range t.layout.All() {
			known[partitionDir(p.ID)] = true
		}
	}
	doomed := map[string]bool{}
	for _, id := range cat.tombstones {
		doomed[partitionDir(id)] = true
	}
	root := filepath.Join(b.dir, partitionsName)
	entries, err := b.opts.fs.List(root)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s is gone", ErrMissingData, root)
	}
	if err != nil {
		return err
	}
	changed := false
	for _, e := range entries {
		name := e.Name()
		if _, err := strconv.ParseUint(name, 10, 64); err != nil || known[name] {
			continue // not ours, set aside earlier, or in use
		}
		changed = true
		path := filepath.Join(root, name)
		if !e.IsDir() {
			return fmt.Errorf("%w: %w", ErrCorrupt, &fs.PathError{Op: "open", Path: path, Err: errNotDirectory})
		}
		if doomed[name] {
			err = b.removePartition(path)
		} else {
			err = b.setAside(path)
		}
		if err != nil {
			return err
		}
	}
	if !changed && len(cat.tombstones) == 0 {
		return nil
	}
	return b.opts.fs.SyncDir(root)
}

// setAside renames the directory of a partition that was never finished.
func (b *Broker) setAside(path string) error {
	empty, err := log.Empty(b.opts.fs, path)
	if err != nil {
		return err
	}
	if !empty {
		return fmt.Errorf("%w: %s holds records but no topic knows it: the store has lost commits", ErrCorrupt, path)
	}
	aside := fmt.Sprintf("%s.unfinished-%d", path, time.Now().UnixNano())
	b.report.SetAside = append(b.report.SetAside, aside)
	return b.opts.fs.Rename(path, aside)
}

// removePartition removes the directory of a deleted partition.
func (b *Broker) removePartition(path string) error {
	entries, err := b.opts.fs.List(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	for _, e := range entries {
		if err := b.opts.fs.Remove(filepath.Join(path, e.Name())); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return b.opts.fs.Remove(path)
}

// dropTombstones forgets tombstones whose directories are durably gone.
func (b *Broker) dropTombstones(ids []PartitionID) error {
	if len(ids) == 0 {
		return nil
	}
	var batch checkpoint.Batch
	for _, id := range ids {
		batch.Delete(tombstoneKey(id))
	}
	_, err := b.store.Commit(context.Background(), &batch)
	return storeError(err)
}

// partitionDir is the name of a partition's directory under partitions/.
func partitionDir(id PartitionID) string { return fmt.Sprintf("%010d", id) }
