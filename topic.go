package braid

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/puzpuzpuz/xsync/v3"

	"github.com/braid-go/braid/backpressure"
	"github.com/braid-go/braid/checkpoint"
	"github.com/braid-go/braid/group"
	"github.com/braid-go/braid/log"
	"github.com/braid-go/braid/partition"
	"github.com/braid-go/braid/scaler"
)

// Topic is a named stream of records, divided into partitions by the hash of the
// records' keys. All methods are safe for concurrent use.
type Topic struct {
	b       *Broker
	name    string
	id      uint64
	created time.Time

	config  atomic.Pointer[TopicConfig]
	table   atomic.Pointer[table]
	turn    atomic.Uint32 // whose turn it is for records without a key
	deleted atomic.Bool
	gone    chan struct{}          // closed when the topic is deleted
	moving  atomic.Pointer[moving] // a change of the layout that is under way
	stuck   atomic.Pointer[error]  // nobody knows whether the layout has changed

	scaler     atomic.Pointer[scaler.Loop] // nil: partitions change only when they are told to
	stopScaler context.CancelFunc
	holding    atomic.Int32 // partitions that hold publishers back because of MaxBacklog
	failed     atomic.Int64 // records whose publishing ended with an error
	consumed   atomic.Int64 // records delivered to members that have left
	latency    latency      // of Publish
	degraded   atomic.Int64 // records that were not enriched
	reduced    atomic.Int64 // records that were acknowledged before they were synced
	drops      dropLog
	worst      atomic.Uint32                 // BackpressureState; written by the broker's pressure
	pools      *xsync.MapOf[*pool, struct{}] // those that have scalers of their own
}

// table is a layout with its open partitions. It is immutable.
type table struct {
	layout *partition.Layout
	rev    checkpoint.Revision // of the layout in the store
	active []*topicPartition   // as layout.Active
	all    []*topicPartition   // by id, sealed ancestors included
	past   Accounting          // of partitions that have been dropped
	// replaced is closed when another table has taken this one's place.
	replaced chan struct{}
}

// topicPartition is an open partition: of a writable broker a live one, of a read-only
// broker the log alone.
type topicPartition struct {
	id   PartitionID
	log  *log.Log
	live *partition.Partition // nil read-only
	making
	// dropped: it was sealed and drained, and is the topic's no more; set before the log is closed.
	dropped atomic.Bool
	// problems are what opening it has found damaged or missing.
	problems []error
}

func (p *topicPartition) close(ctx context.Context) error {
	if p.live != nil {
		return p.live.Close(ctx)
	}
	return p.log.Close()
}

func newTopic(b *Broker, name string, meta topicMeta, layout *partition.Layout, rev checkpoint.Revision) *Topic {
	t := &Topic{b: b, name: name, id: meta.ID, created: meta.Created, gone: make(chan struct{}), pools: xsync.NewMapOf[*pool, struct{}]()}
	t.config.Store(&meta.Config)
	t.setPartitions(layout, rev, nil)
	return t
}

// setPartitions publishes a layout with the partitions that are open.
func (t *Topic) setPartitions(layout *partition.Layout, rev checkpoint.Revision, all []*topicPartition) {
	tab := &table{layout: layout, rev: rev, all: all, replaced: make(chan struct{})}
	for _, info := range layout.Active() {
		i := slices.IndexFunc(all, func(p *topicPartition) bool { return p.id == info.ID })
		if i < 0 {
			break // not open yet
		}
		tab.active = append(tab.active, all[i])
	}
	before := t.table.Load()
	if before != nil {
		tab.past = before.past
		for _, p := range before.all {
			if p.live != nil && p.dropped.Load() {
				tab.past.add(p.live.Stats())
			}
		}
	}
	t.table.Store(tab)
	if before != nil {
		close(before.replaced)
	}
}

// Name returns the topic's name.
func (t *Topic) Name() string { return t.name }

// Config returns the topic's configuration, defaults filled in.
func (t *Topic) Config() TopicConfig { return *t.config.Load() }

// Created returns when the topic was created.
func (t *Topic) Created() time.Time { return t.created }

// PartitionInfo describes a partition at one moment.
type PartitionInfo struct {
	ID PartitionID
	// KeyRange is the part of the space of key hashes that the partition holds, or held before it was sealed.
	KeyRange partition.Range
	// Sealed: it was split or merged, and takes no more records.
	Sealed bool
	// Parents are the partitions that it continues.
	Parents []PartitionID
	// Made is when it was made of them, and Why what for: what the scaler said, or "by hand". Both are zero for those that the topic began with.
	Made time.Time
	Why  string
	// Start is the oldest offset kept, End the offset behind the last visible record.
	Start, End int64
	// Bytes is the size of the partition's files, Segments their number.
	Bytes    int64
	Segments int
	// Rate is what was stored per second, averaged over Scaling.MediumWindow, by default the last minute; zero read-only.
	Rate partition.Rate
	// Err is why the partition refuses to publish, nil if it does not.
	Err error
}

// Partitions describes the topic's partitions, by id.
func (t *Topic) Partitions() []PartitionInfo {
	tab := t.table.Load()
	out := make([]PartitionInfo, 0, len(tab.all))
	for _, p := range tab.all {
		info, _ := tab.layout.Lookup(p.id)
		var rate partition.Rate
		if p.live != nil {
			rate = p.live.Load().Medium
		}
		out = append(out, PartitionInfo{
			Made: p.Made, Why: p.Why, Rate: rate,
			ID: p.id, KeyRange: info.Range, Sealed: info.State == partition.StateSealed, Parents: slices.Clone(info.Parents),
			Start: p.log.Start(), End: p.log.VisibleEnd(),
			Bytes: p.log.Size(), Segments: len(p.log.Segments()),
			Err: logError(t.name, p.id, p.log.Err()),
		})
	}
	return out
}

// birth is the certificate of a partition of the topic.
func (t *Topic) birth(info partition.Info) log.Birth {
	parents := make([]uint64, len(info.Parents))
	for i, p := range info.Parents {
		parents[i] = uint64(p)
	}
	return log.Birth{TopicID: t.id, PartitionID: uint64(info.ID), Lo: info.Range.Lo, Hi: info.Range.Hi, Parents: parents}
}

func (b *Broker) partitionPath(id PartitionID) string {
	return filepath.Join(b.dir, partitionsName, partitionDir(id))
}

func (t *Topic) partitionConfig(id PartitionID) partition.Config {
	policy, _ := t.Config().policy(t.b.Limits()) // what is not valid any more scale tells
	return partition.Config{
		Windows: policy.Windows(),
		FS:      t.b.opts.fs, Dir: t.b.partitionPath(id), Mode: t.b.opts.Durability.mode(),
		SegmentBytes: t.Config().SegmentBytes,
		Codec:        func() log.Codec { return t.config.Load().Compression.codec() },
		Pressure:     t.pressure(),
		OnPressure: func(from, to backpressure.State, depth backpressure.Weight) {
			t.b.pressure.changed(t, id, from, to, depth)
		},
		OnDropped: t.dropped,
		Backlog:   t.Config().MaxBacklog,
		OnHeld:    t.held,
		Budget:    t.b.memory,
		Scheduler: t.b.sched,
	}
}

// openPartition opens an existing partition.
func (t *Topic) openPartition(info partition.Info, proof log.Proof) (*topicPartition, *log.Report, error) {
	birth := t.birth(info)
	if t.b.opts.ReadOnly {
		l, report, err := log.OpenReadOnly(log.Config{FS: t.b.opts.fs, Dir: t.b.partitionPath(info.ID)}, &birth,
			log.ReadOnlyOptions{WriterLive: t.b.report.WriterLive, Durable: proof.Durable, Logged: proof.Logged})
		if err != nil {
			return nil, nil, err
		}
		return &topicPartition{id: info.ID, log: l}, report, nil
	}
	p, report, err := partition.Open(t.partitionConfig(info.ID), &birth, proof)
	if err != nil {
		return nil, nil, err
	}
	if info.State == partition.StateSealed {
		p.SetSealed()
	}
	return &topicPartition{id: info.ID, log: p.Log(), live: p}, report, nil
}

// createPartition makes a new partition, durably.
func (t *Topic) createPartition(info partition.Info) (*topicPartition, error) {
	p, err := partition.Create(t.partitionConfig(info.ID), t.birth(info), info.First)
	if err != nil {
		return nil, logError(t.name, info.ID, err)
	}
	return &topicPartition{id: info.ID, log: p.Log(), live: p}, nil
}

// CreateTopic creates a topic. It is durable on return. A topic of that name is
// ErrTopicExists; a bad name or configuration is a [NameError] or an [OptionError].
func (b *Broker) CreateTopic(ctx context.Context, name string, config TopicConfig) (*Topic, error) {
	if err := checkName("topic", name); err != nil {
		return nil, err
	}
	config, err := config.resolve(b.Limits())
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b.changing.Lock()
	defer b.changing.Unlock()
	if err := b.check(); err != nil {
		return nil, fmt.Errorf("create topic %s: %w", name, err)
	}
	if _, err := b.lookup(name); err == nil {
		return nil, fmt.Errorf("%w: %s", ErrTopicExists, name)
	}
	t, err := b.createTopic(ctx, name, config)
	if err != nil {
		return nil, fmt.Errorf("create topic %s: %w", name, err)
	}
	return t, nil
}

// createTopic makes the partitions' directories first, then commits topic, layout and counters in
// one step. A crash in between leaves empty directories that the next Open sets aside. The caller holds changing.
func (b *Broker) createTopic(ctx context.Context, name string, config TopicConfig) (*Topic, error) {
	next := b.counters
	meta := topicMeta{ID: next.Topic, Created: time.Now().Round(0), Config: config}
	layout, err := partition.NewLayout(next.Partition, config.Partitions)
	if err != nil {
		return nil, err
	}
	next.Topic++
	next.Partition += PartitionID(config.Partitions)
	b.counters = next // also if this fails: ids are not tried twice
	t := newTopic(b, name, meta, layout, 0)
	infos := layout.All()
	parts := make([]*topicPartition, len(infos))
	err = inParallel(len(infos), func(i int) (err error) {
		parts[i], err = t.createPartition(infos[i])
		return err
	})
	var rev checkpoint.Revision
	if err == nil {
		rev, err = b.commitCreation(ctx, name, meta, layout)
	}
	if err != nil {
		b.abandonPartitions(t, parts, err)
		return nil, err
	}
	t.setPartitions(layout, rev, parts)
	b.mu.Lock()
	b.topics[name] = t
	b.mu.Unlock()
	b.announce()
	t.scale()
	return t, nil
}

// announce lets read-only brokers beside this one see a change of the topics at once, and not only when the next commit
// proves it.
func (b *Broker) announce() {
	if s, ok := b.store.(interface{ Prove() error }); ok {
		if err := s.Prove(); err != nil {
			b.opts.Logger.Warn("readers in other processes do not see the latest change of the topics yet", "error", err)
		}
	}
}

// commitCreation is the moment at which a topic exists. It returns the revision of the layout.
func (b *Broker) commitCreation(ctx context.Context, name string, meta topicMeta, layout *partition.Layout) (checkpoint.Revision, error) {
	encoded, err := layout.MarshalBinary()
	if err != nil {
		return 0, err
	}
	var batch checkpoint.Batch
	batch.Expect(topicKey(name), 0)
	batch.Put(layoutKey(meta.ID), encoded)
	if err := errors.Join(putJSON(&batch, topicKey(name), meta), putJSON(&batch, countersKey(), b.counters)); err != nil {
		return 0, err
	}
	rev, err := b.store.Commit(ctx, &batch)
	return rev, storeError(err)
}

// abandonPartitions closes partitions whose topic could not be created and removes their
// directories, unless it may have been created after all.
func (b *Broker) abandonPartitions(t *Topic, parts []*topicPartition, cause error) {
	for _, p := range parts {
		if p == nil {
			continue
		}
		p.close(context.Background())
		if errors.Is(cause, ErrOutcomeUnknown) {
			continue
		}
		if err := b.removePartition(b.partitionPath(p.id)); err != nil {
			b.opts.Logger.Warn("unfinished partition stays until the next open", "partition", p.id, "error", err)
		}
	}
}

// EnsureTopic returns the topic of a name, creating it with config if there is none. The
// configuration of one that exists is left as it is.
func (b *Broker) EnsureTopic(ctx context.Context, name string, config TopicConfig) (*Topic, error) {
	for {
		t, err := b.Topic(name)
		if !errors.Is(err, ErrTopicNotFound) {
			return t, err
		}
		t, err = b.CreateTopic(ctx, name, config)
		if !errors.Is(err, ErrTopicExists) {
			return t, err
		}
	}
}

// UpdateTopic changes a topic's configuration: change is given a copy of it to edit, and must not itself create, update
// or delete topics. If change
// returns an error, or leaves a configuration that is refused, nothing changes. The number of
// partitions cannot be changed here. New settings hold from the next frame, the next file or the
// next round of retention on.
func (b *Broker) UpdateTopic(ctx context.Context, name string, change func(*TopicConfig) error) error {
	b.changing.Lock()
	defer b.changing.Unlock()
	if err := b.check(); err != nil {
		return fmt.Errorf("update topic %s: %w", name, err)
	}
	t, err := b.Topic(name)
	if err != nil {
		return err
	}
	config := t.Config()
	if err := change(&config); err != nil {
		return err
	}
	limits, was := b.Limits(), t.Config().Partitions
	limits.MaxPartitions = max(limits.MaxPartitions, was) // which may have been allowed then, and cannot be changed now
	if config, err = config.resolve(limits); err != nil {
		return err
	}
	policy, err := config.policy(b.Limits())
	if config.AutoScale && err != nil {
		return err
	}
	if config.Partitions != was {
		return &OptionError{Field: "TopicConfig.Partitions", Value: config.Partitions,
			Reason: fmt.Sprintf("the topic has %d; UpdateTopic cannot change that", was)}
	}
	var batch checkpoint.Batch
	if err := putJSON(&batch, topicKey(name), topicMeta{ID: t.id, Created: t.created, Config: config}); err != nil {
		return err
	}
	if _, err := b.store.Commit(ctx, &batch); err != nil {
		return fmt.Errorf("update topic %s: %w", name, storeError(err))
	}
	t.config.Store(&config)
	for _, p := range t.table.Load().all {
		p.log.SetSegmentBytes(config.SegmentBytes)
		p.live.SetWindows(policy.Windows())
	}
	if err := t.applyPressure(); err != nil {
		return err
	}
	t.scale()
	b.announce()
	return nil
}

// DeleteTopic deletes a topic with its records and all groups' positions in it. Publishers,
// readers and subscriptions of it end with ErrTopicNotFound. The deletion is durable on return; a name can be
// used again at once.
func (b *Broker) DeleteTopic(ctx context.Context, name string) error {
	b.changing.Lock()
	defer b.changing.Unlock()
	if err := b.check(); err != nil {
		return fmt.Errorf("delete topic %s: %w", name, err)
	}
	t, err := b.Topic(name)
	if err != nil {
		return err
	}
	if err := b.commitDeletion(ctx, t); err != nil {
		return fmt.Errorf("delete topic %s: %w", name, err)
	}
	b.mu.Lock()
	delete(b.topics, name)
	b.leaving = append(b.leaving, t)
	b.mu.Unlock()
	t.deleted.Store(true)
	close(t.gone)
	b.announce()
	b.reclaim(name, t.table.Load().all)
	b.remember(t)
	return nil
}

// commitDeletion is the moment at which a topic is gone: its keys go, tombstones for its partitions
// come, in one commit.
func (b *Broker) commitDeletion(ctx context.Context, t *Topic) error {
	var batch checkpoint.Batch
	batch.Delete(topicKey(t.name))
	batch.Delete(layoutKey(t.id))
	for e, err := range b.store.Scan(ctx, group.TopicPrefix(t.id)) {
		if err != nil {
			return storeError(err)
		}
		batch.Delete(e.Key)
	}
	for _, p := range t.table.Load().all {
		batch.Delete(makingKey(t.id, p.id))
		batch.Put(tombstoneKey(p.id), []byte{})
	}
	_, err := b.store.Commit(ctx, &batch)
	return storeError(err)
}

// reclaim gives the space of partitions back that are no topic's any more. What fails here is done by the next Open, which
// finds the tombstones.
func (b *Broker) reclaim(topic string, parts []*topicPartition) {
	err := inParallel(len(parts), func(i int) error {
		return errors.Join(parts[i].close(context.Background()), b.removePartition(b.partitionPath(parts[i].id)))
	})
	if err == nil {
		err = b.opts.fs.SyncDir(filepath.Join(b.dir, partitionsName))
	}
	if err == nil {
		ids := make([]PartitionID, len(parts))
		for i, p := range parts {
			ids[i] = p.id
		}
		err = b.dropTombstones(ids)
	}
	if err != nil {
		b.opts.Logger.Warn("what is left of removed partitions stays until the next open", "topic", topic, "error", err)
	}
}

func putJSON(b *checkpoint.Batch, key []byte, v any) error {
	value, err := json.Marshal(v)
	if err != nil {
		return err
	}
	b.Put(key, value)
	return nil
}
