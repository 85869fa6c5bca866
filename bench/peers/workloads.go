package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// measurement measures a store that has just been opened, and returns a figure for each of the workload's rows.
type measurement func(ctx context.Context, store io.Closer, sc scale) ([]float64, error)

// workload is one measurement of all systems and of the limits.
type workload struct {
	ID      string
	Rows    []rowSpec
	Fsync   bool
	Streams int
	Spread  int // see setup
	Inputs  int
	Bulk    bool // writes so much that the state of the page cache shows
	Measure measurement
	Limits  []limit // the first is the one that ratios are taken with

	// Contenders, if not nil, stands in for Measure and Limits where no store is measured.
	Contenders func() []contender
	Fixture    *fixture // if not nil, the contenders run in its directory
	Once       bool     // the figures do not vary, and are taken in the first round only
	Alone      bool     // no peers take part
}

// rowSpec is a figure that a workload yields: a row of the table.
type rowSpec struct {
	ID, Title string
	Unit      unit
	Goals     []goal
}

// limit is the physical limit of a workload.
type limit struct {
	Name string
	Run  func(ctx context.Context, dir string, sc scale) ([]float64, error)
}

// role is what a contender is there for.
type role uint8

const (
	isBraid role = iota
	isPeer
	isLimit
)

// contender is a system, or a limit, in a workload.
type contender struct {
	Name string
	Role role
	Run  func(ctx context.Context, dir string, sc scale) ([]float64, error) // dir is empty and removed afterwards, unless it is a fixture's
}

// workloads returns all workloads in the order of the table.
func workloads(sc scale) []workload {
	all := []workload{
		{
			ID: "W1", Streams: 1, Bulk: true, Measure: publishStream,
			Rows:   []rowSpec{{"W1", "publish in bulk, no fsync", recordsPerSecond, []goal{timesBestPeer(10), ofLimit(0.6)}}},
			Limits: []limit{{"write(2)", limitWrite}, {"memory copy", limitCopy}},
		},
		{
			ID: "W1-async", Streams: 1, Bulk: true, Fsync: true, Measure: publishStream,
			Rows:   []rowSpec{{"W1-async", "publish in bulk, fsync before each ack", recordsPerSecond, []goal{ofLimitOrRow(0.7, "W1")}}},
			Limits: []limit{{"write, sync per 32 batches", limitWriteSync}},
		},
		{
			ID: "W2", Streams: 1, Fsync: true, Measure: publishOne,
			Rows:   []rowSpec{{"W2", "publish one by one, fsync before each ack", recordsPerSecond, []goal{ofLimit(1 / 1.15)}}},
			Limits: []limit{{"write, sync", limitSync(1)}},
		},
	}
	for _, streams := range []int{1, 16, 64} {
		goals := []goal{timesBestPeer(2)}
		if streams == 64 {
			goals = []goal{timesBestPeer(1), ofRow(0.5, "W3-1")}
		}
		id, title := fmt.Sprintf("W3-%d", streams), "64 publishers, 1 partition, fsync before each ack"
		if streams > 1 {
			title = fmt.Sprintf("64 publishers, %d partitions, fsync before each ack", streams)
		}
		if streams == 16 {
			goals = nil
		}
		all = append(all, workload{
			ID: id, Streams: streams, Fsync: true, Measure: publishConcurrently(streams),
			Rows:   []rowSpec{{id, title, recordsPerSecond, goals}},
			Limits: []limit{{"write of 64, sync", limitSync(concurrentPublishers)}},
		})
	}
	all = append(all,
		workload{
			ID: "W4", Streams: 1, Measure: catchUp,
			Rows: []rowSpec{
				{"W4-reuse", "catch-up read, memory reused", recordsPerSecond, []goal{timesBestPeer(2.5), timesBestChecking(2.5)}},
				{"W4-owned", "catch-up read, memory owned", recordsPerSecond, []goal{timesBestPeer(1.5), timesBestChecking(1.5)}},
			},
			Limits: []limit{{"pread(2)", limitRead}},
		},
		workload{
			ID: "W5", Streams: 1, Measure: delivery,
			Rows: []rowSpec{
				{"W5-p50", "publish to delivery, no fsync, one per 100 µs: median", microseconds, []goal{timesBestPeer(5)}},
				{"W5-p99", "the same: 99th percentile", microseconds, []goal{timesBestPeer(10)}},
			},
			Limits: []limit{{"Go channel", limitChannel}},
		},
	)
	for _, committers := range []int{1, concurrentPublishers} {
		id, title := fmt.Sprintf("W6-%d", committers), "transaction: 1 record in, 1 out, and the position; one after the other"
		goals, limits := []goal{withinLimit(1.3)}, []limit{{"write, sync", limitSyncOf(transactionBytes, 1)}, {"checkpoint store", limitStore(1)}}
		if committers > 1 {
			title = fmt.Sprintf("the same, %d at once", committers)
			goals, limits = []goal{ofLimit(0.6)}, []limit{{"checkpoint store", limitStore(committers)}}
		}
		all = append(all, workload{
			ID: id, Streams: 1, Inputs: committers, Fsync: true, Measure: transact(committers),
			Rows: []rowSpec{{id, title, transactionsPerSecond, goals}}, Limits: limits,
		})
	}
	for _, spread := range []int{fewPartitions, sc.Spread} {
		id, goals := "W7-few", []goal(nil)
		if spread != fewPartitions {
			id, goals = "W7-many", []goal{ofRow(0.5, "W7-few")}
		}
		title := fmt.Sprintf("publish in bulk to %d partitions in turn, %d k on their way, no fsync", spread, spreadWindow*batchRecords/1000)
		all = append(all, workload{
			ID: id, Streams: 1, Spread: spread, Bulk: true, Measure: publishSpread(spread),
			Rows:   []rowSpec{{id, title, recordsPerSecond, goals}},
			Limits: []limit{{"write(2)", limitWrite}},
		})
	}
	return append(all,
		workload{
			ID: "W7-idle", Fixture: partitions, Contenders: braidAlone(idlePartitions),
			Rows: []rowSpec{{"W7-idle", fmt.Sprintf("heap of each of %d idle partitions", allPartitions(sc)), bytesEach, []goal{under(4<<10, "4 KiB")}}},
		},
		workload{
			ID: "W8", Fixture: logs, Contenders: braidAlone(openLogs),
			Rows: []rowSpec{
				{"W8-small", fmt.Sprintf("open a log of %d MiB", sc.SmallLog>>20), microseconds, nil},
				{"W8-large", fmt.Sprintf("open a log of %d MiB", sc.LargeLog>>20), microseconds, []goal{withinRow(1.5, "W8-small")}},
				{"W8-memory", "memory of the process that does it", mebibytes, []goal{under(64, "64 MiB")}},
			},
		},
		workload{
			ID: "W9", Streams: splitStreams, Fsync: true, Measure: splitting,
			Rows: []rowSpec{
				{"W9-wait", fmt.Sprintf("what a split adds to the wait of %d publishers to %d partitions and more, fsync: 99th percentile", concurrentPublishers, splitStreams), microseconds, []goal{under(10_000, "10 ms")}},
				{"W9-back", "the same: until throughput is back", microseconds, []goal{under(1_000_000, "1 s")}},
			},
		},
		workload{
			ID: "W10-members", Fixture: partitions, Contenders: braidAlone(membership),
			Rows: []rowSpec{{"W10-members", fmt.Sprintf("%d members join and leave one after the other", sc.Members), microseconds, []goal{under(1_000_000, "1 s")}}},
		},
		workload{
			ID: "W10-commit", Fixture: partitions, Contenders: braidAlone(commits),
			Rows: []rowSpec{
				{"W10-commit-few", fmt.Sprintf("commit a position in %d partitions", fewPartitions), microseconds, nil},
				{"W10-commit-many", fmt.Sprintf("commit a position in %d partitions", sc.Partitions), microseconds, []goal{withinRow(1.2, "W10-commit-few")}},
			},
		},
		workload{
			ID: "size", Once: true, Contenders: sizes,
			Rows: []rowSpec{{"size", "what importing it adds to a program", megabytes, []goal{atMost(3)}}},
		},
	)
}

// pick returns the workloads that a list such as "W1,W3-64" names. A name stands for all that go on with a hyphen, too.
func pick(all []workload, names string) ([]workload, error) {
	if names == "" {
		return all, nil
	}
	picked := map[string]bool{}
	for name := range strings.SplitSeq(names, ",") {
		found := false
		for _, w := range all {
			id, want := strings.ToLower(w.ID), strings.ToLower(strings.TrimSpace(name))
			if id == want || strings.HasPrefix(id, want+"-") {
				picked[w.ID], found = true, true
			}
		}
		if !found {
			return nil, fmt.Errorf("there is no workload %q", name)
		}
	}
	var some []workload
	for _, w := range all {
		if picked[w.ID] {
			some = append(some, w)
		}
	}
	return some, nil
}

// contenders returns who takes part in a workload: Braid, its peers, the limits.
func (w *workload) contenders() []contender {
	if w.Contenders != nil {
		return w.Contenders()
	}
	var all []contender
	for i, s := range systems() {
		if w.Alone && i > 0 {
			break
		}
		c := contender{Name: s.Name, Role: isPeer, Run: func(ctx context.Context, dir string, sc scale) ([]float64, error) {
			return w.measure(ctx, s, dir, sc)
		}}
		if i == 0 {
			c.Role = isBraid
		}
		all = append(all, c)
	}
	for _, l := range w.Limits {
		all = append(all, contender{l.Name, isLimit, l.Run})
	}
	return all
}

// measure opens a store, measures it and closes it.
func (w *workload) measure(ctx context.Context, s system, dir string, sc scale) (_ []float64, err error) {
	store, err := s.Open(ctx, setup{Dir: dir, Fsync: w.Fsync, Streams: w.Streams, Spread: w.Spread, Inputs: w.Inputs})
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return w.Measure(ctx, store, sc)
}

// inTempDir runs a contender in a directory of its own below parent.
func inTempDir(ctx context.Context, parent string, c contender, sc scale) (_ []float64, err error) {
	dir, err := os.MkdirTemp(parent, "braid-peers-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	return c.Run(ctx, dir, sc)
}
