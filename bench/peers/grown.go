package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/braid-go/braid"
)

// Some of what Braid has to do is about how it grows, and nothing that a peer does is the same. It is measured in brokers that are
// made once for a run.

// fixture makes, once for a run, what its workloads measure.
type fixture struct {
	ID   string
	Make func(ctx context.Context, dir string, sc scale) error // dir is empty, and removed after the run
}

// braidAlone is the contender of workloads in which no peer takes part.
func braidAlone(run func(ctx context.Context, dir string, sc scale) ([]float64, error)) func() []contender {
	return func() []contender { return []contender{{systems()[0].Name, isBraid, run}} }
}

// logs are two logs, one much larger than the other, in brokers of their own that were closed.
var logs = &fixture{ID: "logs", Make: func(ctx context.Context, dir string, sc scale) error {
	return errors.Join(
		makeLog(ctx, filepath.Join(dir, "small"), sc.SmallLog),
		makeLog(ctx, filepath.Join(dir, "large"), sc.LargeLog),
	)
}}

// logRecords is the number of records in a log of some bytes.
func logRecords(bytes int64) int64 {
	return (bytes/recordBytes + batchRecords - 1) / batchRecords * batchRecords
}

func makeLog(ctx context.Context, dir string, bytes int64) (err error) {
	store, err := openBraid(ctx, setup{Dir: dir, Streams: 1})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	next := newBatches(window).takeUntil(int(logRecords(bytes) / batchRecords))
	return store.(streamPublisher).PublishStream(ctx, func() []record {
		if ctx.Err() != nil {
			return nil
		}
		return next()
	})
}

// openLogs measures how long the small and the large log take to open, in microseconds, and the memory of the process that opens the large one.
func openLogs(ctx context.Context, dir string, sc scale) ([]float64, error) {
	var figures []float64
	for _, l := range []struct {
		name  string
		bytes int64
	}{{"small", sc.SmallLog}, {"large", sc.LargeLog}} {
		o, err := openInChild(ctx, filepath.Join(dir, l.name))
		if err != nil {
			return nil, err
		}
		if want := logRecords(l.bytes); o.Records != want {
			return nil, fmt.Errorf("the %s log has %d records, want %d", l.name, o.Records, want)
		}
		figures = append(figures, inMicroseconds(o.Took))
		if l.name == "large" {
			figures = append(figures, float64(o.PeakBytes)/(1<<20))
		}
	}
	return figures, nil
}

// partitions is a broker with topics of few partitions, of many, and of as many as there will be members, that was closed. In each partition
// there is a record.
var partitions = &fixture{ID: "partitions", Make: func(ctx context.Context, dir string, sc scale) (err error) {
	broker, err := braid.Open(dir, braid.Options{Durability: braid.OS})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, broker.Close()) }()
	for name, n := range map[string]int{"few": fewPartitions, "many": sc.Partitions, membersTopic(sc): sc.Members} {
		topic, err := broker.CreateTopic(ctx, name, braid.TopicConfig{Partitions: n})
		if err != nil {
			return err
		}
		keys, err := keysFor(n)
		if err != nil {
			return err
		}
		recs := make([]*braid.Record, n)
		for i := range recs {
			recs[i] = &braid.Record{Key: keys[i], Value: newRecord().Value}
		}
		if err := topic.Publish(ctx, recs...); err != nil {
			return err
		}
	}
	return nil
}}

const fewPartitions = 10

// membersTopic is the topic with as many partitions as there will be members.
func membersTopic(sc scale) string {
	if sc.Members == sc.Partitions {
		return "many"
	}
	return "members"
}

// allPartitions is the number of partitions in the broker.
func allPartitions(sc scale) int {
	if sc.Members == sc.Partitions {
		return fewPartitions + sc.Partitions
	}
	return fewPartitions + sc.Partitions + sc.Members
}

// idlePartitions measures the heap that an idle partition takes, in bytes.
func idlePartitions(ctx context.Context, dir string, sc scale) ([]float64, error) {
	o, err := openInChild(ctx, dir)
	if err != nil {
		return nil, err
	}
	if want := allPartitions(sc); o.Partitions != want || o.Records < int64(want) { // commits has published more
		return nil, fmt.Errorf("there are %d records in %d partitions, want %d in as many at least", o.Records, o.Partitions, want)
	}
	return []float64{float64(o.HeapBytes) / float64(o.Partitions)}, nil
}

// commits measures commits of the position behind one record, in the topics of few and of many partitions, now in one and now in the other, so that whatever
// the disk has to do otherwise meets both: the medians, in microseconds.
func commits(ctx context.Context, dir string, sc scale) (_ []float64, err error) {
	broker, err := braid.Open(dir, braid.Options{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, broker.Close()) }()
	var all [2]*committer
	for i, name := range []string{"few", "many"} {
		topic, err := broker.Topic(name)
		if err != nil {
			return nil, err
		}
		if all[i], err = newCommitter(ctx, topic); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, all[i].sub.Close()) }()
	}
	for start := time.Now(); time.Since(start) < 2*sc.Time; {
		for _, c := range all {
			if err := c.commit(ctx); err != nil {
				return nil, err
			}
		}
	}
	return []float64{inMicroseconds(all[0].median()), inMicroseconds(all[1].median())}, nil
}

// committer is a new group that commits record by record.
type committer struct {
	topic   *braid.Topic
	sub     *braid.Subscription
	publish []*braid.Record
	polled  []*braid.Record
	took    []time.Duration
}

func newCommitter(ctx context.Context, topic *braid.Topic) (*committer, error) {
	c := &committer{topic: topic, publish: make([]*braid.Record, batchRecords)}
	for i := range c.publish {
		c.publish[i] = &braid.Record{Key: []byte("key"), Value: newRecord().Value}
	}
	var err error
	c.sub, err = topic.Subscribe(ctx, fmt.Sprint("commits-", time.Now().UnixNano()), braid.SubscribeOptions{From: braid.FromLatest()})
	return c, err
}

func (c *committer) commit(ctx context.Context) (err error) {
	if len(c.polled) == 0 {
		if err := c.topic.Publish(ctx, c.publish...); err != nil {
			return err
		}
		if c.polled, err = c.sub.Poll(ctx, 0); err != nil {
			return err
		}
	}
	start := time.Now()
	err = c.sub.Commit(ctx, c.polled[0])
	c.took = append(c.took, time.Since(start))
	c.polled = c.polled[1:]
	return err
}

func (c *committer) median() time.Duration {
	slices.Sort(c.took)
	return c.took[len(c.took)/2]
}

// membership measures how long it takes that members join a group and leave it again, one after the other, in microseconds. There are as many
// partitions as members.
func membership(ctx context.Context, dir string, sc scale) (_ []float64, err error) {
	broker, err := braid.Open(dir, braid.Options{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, broker.Close()) }()
	topic, err := broker.Topic(membersTopic(sc))
	if err != nil {
		return nil, err
	}
	group := fmt.Sprint("members-", time.Now().UnixNano())
	subs := make([]*braid.Subscription, sc.Members)
	start := time.Now()
	for i := range subs {
		if subs[i], err = topic.Subscribe(ctx, group, braid.SubscribeOptions{}); err != nil {
			return nil, err
		}
	}
	for _, sub := range subs {
		if err := sub.Close(); err != nil {
			return nil, err
		}
	}
	return []float64{inMicroseconds(time.Since(start))}, nil
}

// fixtures are those that a run has made.
type fixtures struct {
	parent string
	made   map[string]string // directories by ID
}

// dir returns where a fixture is, and makes it if it is not there yet.
func (f *fixtures) dir(ctx context.Context, fix *fixture, sc scale) (string, error) {
	if dir, ok := f.made[fix.ID]; ok {
		return dir, nil
	}
	dir, err := os.MkdirTemp(f.parent, "braid-peers-")
	if err != nil {
		return "", err
	}
	if err := fix.Make(ctx, dir, sc); err != nil {
		return "", errors.Join(fmt.Errorf("make the %s: %w", fix.ID, err), os.RemoveAll(dir))
	}
	f.made[fix.ID] = dir
	return dir, nil
}

func (f *fixtures) remove() error {
	var errs []error
	for _, dir := range f.made {
		errs = append(errs, os.RemoveAll(dir))
	}
	return errors.Join(errs...)
}
