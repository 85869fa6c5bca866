package braid

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/braid-go/braid/partition"
)

// Metrics is what a broker has done since Open and how it stands, at one moment. Counters only grow, so that rates can be had from two
// readings. A read-only broker counts nothing of its own: it shows partitions, groups and lag as they stand on the disk.
type Metrics struct {
	Time   time.Time
	Limits Limits

	Partitions int // that take records, of all topics
	Groups     int // that have positions
	Consumers  int // members of groups, in this process

	// Published counts the records that were stored, by transactions too; Failed those of Publish and PublishAsync that ended with an error, refused ones
	// included; Consumed those that groups were delivered.
	Published, Failed, Consumed int64
	// Accounting is what became of all records. It and the three before include topics that have been deleted.
	Accounting Accounting
	// Rate is what was stored per second, averaged over each topic's Scaling.MediumWindow, by default the last minute.
	Rate partition.Rate
	// PublishTime is how long Publish took on average in the last 10 to 20 seconds; 0 if it was not called.
	PublishTime time.Duration
	// Backpressure is the state of the fullest partition.
	Backpressure BackpressureState
	// QueuedRecords and QueuedBytes wait to be stored.
	QueuedRecords int
	QueuedBytes   int64
	// Lag is the time by which the group is behind that is furthest behind.
	Lag time.Duration

	// Positions is how many positions of groups the store holds; StateKeys and StateBytes all that it holds, which is in memory.
	Positions  int
	StateKeys  int
	StateBytes int64

	Topics []TopicMetrics // by name
}

// TopicMetrics is a topic's part of [Metrics].
type TopicMetrics struct {
	Name                        string
	Published, Failed, Consumed int64
	Accounting                  Accounting
	Degraded                    int64 // records that were not enriched because of backpressure
	Reduced                     int64 // records that were acknowledged before they were synced because of it
	Backpressure                BackpressureState
	Rate                        partition.Rate
	PublishTime                 time.Duration
	Partitions                  []PartitionMetrics // that take records, by the range of their keys
	Sealed                      int                // partitions that have been split or merged and still hold records
	Groups                      []GroupMetrics     // by name
}

// PartitionMetrics is a partition's part of [Metrics].
type PartitionMetrics struct {
	ID            PartitionID
	Published     int64
	Rate          partition.Rate
	QueuedRecords int
	QueuedBytes   int64
	Bytes         int64 // on disk
}

// GroupMetrics is a group's part of [Metrics].
type GroupMetrics struct {
	Name    string
	Members int
	Records int64         // not committed
	Lag     time.Duration // how old the oldest of them is
}

// Metrics reads the figures. It takes no lock that publishing or consuming takes for long, and reads one record of each partition in which a group
// is behind. Errors: ctx's, ErrClosed, and those of reading.
func (b *Broker) Metrics(ctx context.Context) (*Metrics, error) {
	m := &Metrics{Time: time.Now(), Limits: b.Limits()}
	r, err := b.stateReader()
	if err != nil {
		return nil, err
	}
	if sized, ok := r.(interface{ Size() (int, int64) }); ok {
		m.StateKeys, m.StateBytes = sized.Size()
	}
	var spent, calls int64
	topics, past := b.counted()
	m.Published, m.Failed, m.Consumed, m.Accounting = past.Stored, past.failed, past.consumed, past.Accounting
	slices.SortFunc(topics, func(x, y *Topic) int { return strings.Compare(x.name, y.name) })
	for _, t := range topics {
		if t.deleted.Load() {
			a := t.Accounting()
			m.Published, m.Failed, m.Consumed = m.Published+a.Stored, m.Failed+t.failed.Load(), m.Consumed+t.delivered()
			m.Accounting.sum(a)
			continue
		}
		tm, err := t.metrics(ctx, r, m)
		if err != nil {
			return nil, fmt.Errorf("metrics of topic %s: %w", t.name, err)
		}
		sum, n := t.latency.recent(m.Time)
		spent, calls = spent+sum, calls+n
		m.add(tm)
	}
	m.PublishTime = time.Duration(spent / max(1, calls))
	return m, nil
}

func (m *Metrics) add(t TopicMetrics) {
	m.Topics = append(m.Topics, t)
	m.Partitions += len(t.Partitions)
	m.Published, m.Failed, m.Consumed = m.Published+t.Published, m.Failed+t.Failed, m.Consumed+t.Consumed
	m.Accounting.sum(t.Accounting)
	m.Backpressure = max(m.Backpressure, t.Backpressure)
	m.Rate.Records, m.Rate.Bytes = m.Rate.Records+t.Rate.Records, m.Rate.Bytes+t.Rate.Bytes
	for _, p := range t.Partitions {
		m.QueuedRecords += p.QueuedRecords
		m.QueuedBytes += p.QueuedBytes
	}
	m.Groups += len(t.Groups)
	for _, g := range t.Groups {
		m.Consumers += g.Members
		m.Lag = max(m.Lag, g.Lag)
	}
}

// metrics returns the topic's part of m, whose positions it counts.
func (t *Topic) metrics(ctx context.Context, r metaReader, m *Metrics) (TopicMetrics, error) {
	out := TopicMetrics{Name: t.name, Failed: t.failed.Load(), Consumed: t.delivered()}
	sum, n := t.latency.recent(m.Time)
	out.PublishTime = time.Duration(sum / max(1, n))
	tab := t.table.Load()
	out.Sealed = len(tab.all) - len(tab.active)
	out.Accounting = t.Accounting()
	out.Published = out.Accounting.Stored
	out.Degraded, out.Reduced, out.Backpressure = t.degraded.Load(), t.reduced.Load(), t.Backpressure().State
	for _, p := range tab.active {
		pm := PartitionMetrics{ID: p.id, Bytes: p.log.Size()}
		if p.live != nil {
			s := p.live.Stats()
			pm.Published, pm.QueuedRecords, pm.QueuedBytes = s.Stored, s.QueuedRecords, s.QueuedBytes
			pm.Rate = p.live.Load().Medium
		}
		out.Rate.Records += pm.Rate.Records
		out.Rate.Bytes += pm.Rate.Bytes
		out.Partitions = append(out.Partitions, pm)
	}
	return out, t.groupMetrics(ctx, r, tab, m, &out)
}

// groupMetrics adds the topic's groups.
func (t *Topic) groupMetrics(ctx context.Context, r metaReader, tab *table, m *Metrics, out *TopicMetrics) error {
	parts := map[PartitionID]*topicPartition{}
	for _, p := range tab.all {
		parts[p.id] = p
	}
	members := t.members()
	for at, err := range positions(ctx, r, t.id, t.name) {
		if err != nil {
			return err
		}
		m.Positions++
		if n := len(out.Groups); n == 0 || out.Groups[n-1].Name != at.of {
			out.Groups = append(out.Groups, GroupMetrics{Name: at.of, Members: members[at.of]})
		}
		p := parts[at.part]
		if p == nil {
			continue // dropped since
		}
		lag, err := p.lag(t.name, at.Offset, m.Time)
		if err != nil {
			return err
		}
		g := &out.Groups[len(out.Groups)-1]
		g.Records += lag.Records
		g.Lag = max(g.Lag, lag.Time)
	}
	return nil
}

// members counts the members of the topic's groups.
func (t *Topic) members() map[string]int {
	b := t.b
	b.joining.Lock()
	defer b.joining.Unlock()
	out := map[string]int{}
	for key, c := range b.groups {
		if key.topic == t.id {
			c.mu.Lock()
			out[key.name] = len(c.subs)
			c.mu.Unlock()
		}
	}
	return out
}

// delivered counts the records that groups were delivered.
func (t *Topic) delivered() int64 {
	t.b.mu.RLock()
	defer t.b.mu.RUnlock()
	n := t.consumed.Load()
	for s := range t.b.subs {
		if s.t == t {
			n += int64(s.delivered.Load())
		}
	}
	return n
}

// Map returns the figures under stable names, for whatever collects metrics: numbers (int, int64 or float64) only. Names may be added, but
// keep their meaning.
//
//	partition.count, partition.max            partitions that take records; Limits.MaxPartitions, of each topic
//	consumer.groups, consumer.totalConsumers  groups with positions; members
//	consumer.max                              Limits.MaxConsumers, of each group
//	throughput.published, .consumed, .errors  records since Open
//	throughput.recordsPerSecond, .bytesPerSecond
//	throughput.avgLatencyMs                   of Publish
//	lag.maxMs                                 of the group furthest behind
//	checkpoint.positions
//	cache.size, .memoryBytes, .hitRate        keys and bytes of the store; it is all in memory, so the rate is 1
//	backpressure.queueDepth, .queueBytes      waiting to be stored
//	backpressure.state                        0 normal, 1 warning, 2 critical, 3 shedding
//	backpressure.dropped, .pending            records
//	topic.NAME.published, .consumed, .errors, .recordsPerSecond, .bytesPerSecond, .avgLatencyMs, .partitions
//	topic.NAME.partition.ID.published, .recordsPerSecond, .bytesPerSecond, .queueDepth, .bytes
//	topic.NAME.group.NAME.members, .lagRecords, .lagMs
func (m *Metrics) Map() map[string]any {
	out := map[string]any{
		"partition.count": m.Partitions, "partition.max": m.Limits.MaxPartitions,
		"consumer.groups": m.Groups, "consumer.totalConsumers": m.Consumers, "consumer.max": m.Limits.MaxConsumers,
		"throughput.published": m.Published, "throughput.consumed": m.Consumed, "throughput.errors": m.Failed,
		"throughput.recordsPerSecond": m.Rate.Records, "throughput.bytesPerSecond": m.Rate.Bytes,
		"throughput.avgLatencyMs": millis(m.PublishTime), "lag.maxMs": millis(m.Lag),
		"checkpoint.positions": m.Positions, "cache.size": m.StateKeys, "cache.memoryBytes": m.StateBytes, "cache.hitRate": 1.0,
		"backpressure.state": int(m.Backpressure), "backpressure.dropped": m.Accounting.Dropped, "backpressure.pending": m.Accounting.Pending,
		"backpressure.queueDepth": m.QueuedRecords, "backpressure.queueBytes": m.QueuedBytes,
	}
	for _, t := range m.Topics {
		t.addTo(out)
	}
	return out
}

func (t *TopicMetrics) addTo(out map[string]any) {
	topic := "topic." + t.Name + "."
	out[topic+"published"], out[topic+"consumed"], out[topic+"errors"] = t.Published, t.Consumed, t.Failed
	out[topic+"recordsPerSecond"], out[topic+"bytesPerSecond"] = t.Rate.Records, t.Rate.Bytes
	out[topic+"avgLatencyMs"], out[topic+"partitions"] = millis(t.PublishTime), len(t.Partitions)
	for _, p := range t.Partitions {
		part := fmt.Sprintf("%spartition.%d.", topic, p.ID)
		out[part+"published"], out[part+"queueDepth"], out[part+"bytes"] = p.Published, p.QueuedRecords, p.Bytes
		out[part+"recordsPerSecond"], out[part+"bytesPerSecond"] = p.Rate.Records, p.Rate.Bytes
	}
	for _, g := range t.Groups {
		grp := topic + "group." + g.Name + "."
		out[grp+"members"], out[grp+"lagRecords"], out[grp+"lagMs"] = g.Members, g.Records, millis(g.Lag)
	}
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// latencyWindow is how long times are collected before they begin to be forgotten.
const latencyWindow = 10 * time.Second

// latency is the mean of the times of the present window and the one before. A time that is noted while the windows change may be
// missed; nothing waits.
type latency [2]struct{ window, sum, n atomic.Int64 }

func (l *latency) note(now time.Time, took time.Duration) {
	window := now.UnixNano() / int64(latencyWindow)
	s := &l[window&1]
	if was := s.window.Load(); was != window && s.window.CompareAndSwap(was, window) {
		s.sum.Store(0)
		s.n.Store(0)
	}
	s.sum.Add(int64(took))
	s.n.Add(1)
}

// recent returns the sum of the times and their number.
func (l *latency) recent(now time.Time) (sum, n int64) {
	window := now.UnixNano() / int64(latencyWindow)
	for i := range l {
		if s := &l[i]; window-s.window.Load() <= 1 {
			sum, n = sum+s.sum.Load(), n+s.n.Load()
		}
	}
	return sum, n
}
