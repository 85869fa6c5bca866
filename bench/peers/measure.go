package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"time"
)

const (
	keyBytes             = 8
	valueBytes           = 100
	recordBytes          = keyBytes + valueBytes
	concurrentPublishers = 64
)

// scale says how much is measured. What ends first, ends a measurement: its time or its bytes.
type scale struct {
	Time    time.Duration `json:"time_ns"` // of one measurement
	Bytes   int64         `json:"bytes"`   // written by one measurement
	Records int           `json:"records"` // of a catch-up read
	Samples int           `json:"samples"` // of latency

	Spread     int   `json:"spread"`          // streams that bulk publishing is spread over, beside fewPartitions
	Partitions int   `json:"partitions"`      // of a broker that has many
	Members    int   `json:"members"`         // of a group
	Splits     int   `json:"splits"`          // under load
	SmallLog   int64 `json:"small_log_bytes"` // bytes of records in logs that are opened
	LargeLog   int64 `json:"large_log_bytes"`
}

var (
	fullScale = scale{
		Time: time.Second, Bytes: 256 << 20, Records: 1_000_000, Samples: 20_000,
		Spread: 1000, Partitions: 10_000, Members: 1000, Splits: 12, SmallLog: 100 << 20, LargeLog: 10 << 30,
	}
	quickScale = scale{
		Time: 65 * time.Millisecond, Bytes: 48 << 20, Records: 50_000, Samples: 1500,
		Spread: 200, Partitions: 1000, Members: 1000, Splits: 3, SmallLog: 10 << 20, LargeLog: 512 << 20,
	}
)

// errCannot says that a store lacks the role that a workload needs.
var errCannot = errors.New("cannot do this")

// batches makes the batches of a bulk publisher, in memory that is used again after a window of them. The first bytes of
// each value are the record's number, from 0.
type batches struct {
	recs [][]record
	next int // number of the next batch
}

func newBatches(window int) *batches {
	b := &batches{recs: make([][]record, window)}
	for i := range b.recs {
		mem := noise(batchRecords * recordBytes)
		b.recs[i] = make([]record, batchRecords)
		for j := range b.recs[i] {
			r := mem[j*recordBytes : (j+1)*recordBytes : (j+1)*recordBytes]
			b.recs[i][j] = record{Key: r[:keyBytes:keyBytes], Value: r[keyBytes:]}
		}
	}
	return b
}

func (b *batches) take() []record {
	recs := b.recs[b.next%len(b.recs)]
	first := uint64(b.next * batchRecords)
	for i := range recs {
		binary.LittleEndian.PutUint64(recs[i].Value, first+uint64(i))
	}
	b.next++
	return recs
}

// takeUntil returns a source that ends when n batches have been taken from it.
func (b *batches) takeUntil(n int) func() []record {
	return func() []record {
		if n == 0 {
			return nil
		}
		n--
		return b.take()
	}
}

func newRecord() record {
	b := make([]byte, recordBytes)
	for i := range b {
		b[i] = byte(i)
	}
	return record{Key: b[:keyBytes:keyBytes], Value: b[keyBytes:]}
}

func perSecond(n int64, took time.Duration) []float64 {
	return []float64{float64(n) / took.Seconds()}
}

// publishStream measures bulk publishing, from the first record to the last acknowledgement.
func publishStream(ctx context.Context, store io.Closer, sc scale) ([]float64, error) {
	p, ok := store.(streamPublisher)
	if !ok {
		return nil, errCannot
	}
	b := newBatches(window)
	if err := p.PublishStream(ctx, b.takeUntil(window)); err != nil { // buffers come into being
		return nil, err
	}
	runtime.GC()
	n := int64(0)
	start := time.Now()
	err := p.PublishStream(ctx, func() []record {
		if n*recordBytes >= sc.Bytes || time.Since(start) >= sc.Time {
			return nil
		}
		n += batchRecords
		return b.take()
	})
	return perSecond(n, time.Since(start)), err
}

// publishOne measures publishing one record after the other, waiting for each.
func publishOne(ctx context.Context, store io.Closer, sc scale) ([]float64, error) {
	p, ok := store.(publisher)
	if !ok {
		return nil, errCannot
	}
	r := newRecord()
	for range 10 {
		if err := p.Publish(ctx, r); err != nil {
			return nil, err
		}
	}
	runtime.GC()
	n := int64(0)
	start := time.Now()
	for time.Since(start) < sc.Time {
		if err := p.Publish(ctx, r); err != nil {
			return nil, err
		}
		n++
	}
	return perSecond(n, time.Since(start)), nil
}

// publishConcurrently returns a measurement of concurrentPublishers goroutines, spread evenly over the streams, each of which
// publishes one record after the other, waiting for each.
func publishConcurrently(streams int) measurement {
	return func(ctx context.Context, store io.Closer, sc scale) ([]float64, error) {
		p, ok := store.(concurrentPublisher)
		if !ok {
			return nil, errCannot
		}
		keys, err := keysFor(streams)
		if err != nil {
			return nil, err
		}
		if _, err := publishUntil(ctx, p, keys, sc.Time/10); err != nil { // every stream is in use
			return nil, err
		}
		runtime.GC()
		start := time.Now()
		n, err := publishUntil(ctx, p, keys, sc.Time)
		return perSecond(n, time.Since(start)), err
	}
}

func publishUntil(ctx context.Context, p concurrentPublisher, keys [][]byte, d time.Duration) (int64, error) {
	recs := make([]record, concurrentPublishers)
	for i := range recs {
		recs[i] = newRecord()
		recs[i].Key = keys[i%len(keys)]
	}
	return sideBySide(concurrentPublishers, d, func(i int) error { return p.PublishConcurrent(ctx, i%len(keys), recs[i]) })
}

// publishSpread returns a measurement of bulk publishing to many streams, from the first record to the last acknowledgement.
func publishSpread(streams int) measurement {
	return func(ctx context.Context, store io.Closer, sc scale) ([]float64, error) {
		p, ok := store.(spreadPublisher)
		if !ok {
			return nil, errCannot
		}
		keys, err := keysFor(streams)
		if err != nil {
			return nil, err
		}
		b := newBatches(spreadWindow)
		at := 0
		take := func() []record {
			recs := b.take()
			for i := range recs {
				recs[i].Key = keys[at]
				at = (at + 1) % len(keys)
			}
			return recs
		}
		left := window
		err = p.PublishSpread(ctx, func() []record { // buffers come into being, in every stream
			if left--; left < 0 && at == 0 {
				return nil
			}
			return take()
		})
		if err != nil {
			return nil, err
		}
		runtime.GC()
		n := int64(0)
		start := time.Now()
		err = p.PublishSpread(ctx, func() []record {
			if n*recordBytes >= sc.Bytes || time.Since(start) >= sc.Time {
				return nil
			}
			n += batchRecords
			return take()
		})
		return perSecond(n, time.Since(start)), err
	}
}

// catchUp measures reading what lies in the page cache: with memory that is used again, and with memory that the reader
// may keep. That the records are the right ones, in order, is checked while they are read.
func catchUp(ctx context.Context, store io.Closer, sc scale) ([]float64, error) {
	p, ok := store.(streamPublisher)
	r, ok2 := store.(reader)
	if !ok || !ok2 {
		return nil, errCannot
	}
	if err := p.PublishStream(ctx, newBatches(window).takeUntil(sc.Records/batchRecords)); err != nil {
		return nil, err
	}
	if s, ok := store.(settler); ok {
		if err := s.Settle(ctx); err != nil {
			return nil, err
		}
	}
	n := sc.Records / batchRecords * batchRecords
	var rates []float64
	for _, owned := range []bool{false, true} {
		if err := readInOrder(ctx, r, n/10, owned); err != nil { // buffers come into being
			return nil, err
		}
		runtime.GC()
		total := int64(0)
		start := time.Now()
		for total == 0 || time.Since(start) < sc.Time/2 {
			if err := readInOrder(ctx, r, n, owned); err != nil {
				return nil, err
			}
			total += int64(n)
		}
		rates = append(rates, perSecond(total, time.Since(start))...)
	}
	return rates, nil
}

func readInOrder(ctx context.Context, r reader, n int, owned bool) error {
	seq, wrong := uint64(0), uint64(0)
	err := r.Read(ctx, n, owned, func(r record) {
		wrong |= seq ^ binary.LittleEndian.Uint64(r.Value)
		seq++
	})
	if err == nil && (wrong != 0 || seq != uint64(n)) {
		err = fmt.Errorf("read %d records, want %d in the order of publishing", seq, n)
	}
	return err
}

// sendInterval is the time between two records of a latency measurement.
const sendInterval = 100 * time.Microsecond

// delivery measures from the moment at which a record was to be published until the subscriber has it, and returns the
// median and the 99th percentile in microseconds. A publisher that falls behind is not forgiven: the times are fixed beforehand. It
// waits by asking for the time again and again, which takes one processor.
func delivery(ctx context.Context, store io.Closer, sc scale) ([]float64, error) {
	d, ok := store.(deliverer)
	if !ok {
		return nil, errCannot
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	warm := sc.Samples / 10
	took := make([]time.Duration, 0, sc.Samples+warm)
	begin := time.Now()
	all, ready, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- d.Deliver(ctx, func() { close(ready) }, func(r record) {
			took = append(took, time.Since(begin)-time.Duration(binary.LittleEndian.Uint64(r.Value)))
			if len(took) == cap(took) {
				close(all)
			}
		})
	}()
	select {
	case <-ready:
	case err := <-ended:
		return nil, errors.Join(errors.New("delivery did not begin"), err)
	}
	runtime.GC()
	sendErr := sendAtIntervals(ctx, d, cap(took), begin)
	if sendErr == nil {
		select {
		case <-all:
		case <-ctx.Done():
			sendErr = fmt.Errorf("not all records were delivered: %w", ctx.Err())
		case err := <-ended:
			return nil, errors.Join(errors.New("delivery ended early"), err)
		}
	}
	cancel()
	if err := errors.Join(sendErr, <-ended); err != nil {
		return nil, err
	}
	took = took[warm:]
	slices.Sort(took)
	at := func(p float64) float64 {
		return float64(took[int(float64(len(took)-1)*p)]) / float64(time.Microsecond)
	}
	return []float64{at(0.50), at(0.99)}, nil
}

func sendAtIntervals(ctx context.Context, d deliverer, n int, begin time.Time) error {
	r := newRecord()
	start := time.Since(begin)
	for i := range n {
		due := start + time.Duration(i)*sendInterval
		for time.Since(begin) < due {
			runtime.Gosched()
		}
		binary.LittleEndian.PutUint64(r.Value, uint64(due))
		if err := d.Send(ctx, r); err != nil {
			return err
		}
	}
	return nil
}
