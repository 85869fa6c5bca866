package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/metrics"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/braid-go/braid"
	"github.com/braid-go/braid/backpressure"
	"github.com/braid-go/braid/internal/hook"
	"github.com/braid-go/braid/internal/vfs"
)

// Disk is how slow the disk is made.
type Disk struct {
	BytesPerSecond int64
	Sync           time.Duration
}

// device is a slow disk.
type device struct {
	Disk
	mu   sync.Mutex
	free time.Time // when it is done with what it has been given
}

// Inject implements vfs.Injector: an operation returns when a disk that does one thing after the other would be done with it.
func (d *device) Inject(op vfs.Op) vfs.Outcome {
	var cost time.Duration
	switch op.Kind {
	case vfs.OpWrite:
		cost = time.Duration(float64(op.Length) / float64(d.BytesPerSecond) * float64(time.Second))
	case vfs.OpDatasync:
		cost = d.Sync
	default:
		return vfs.Outcome{}
	}
	d.mu.Lock()
	now := time.Now()
	if d.free.Before(now) {
		d.free = now
	}
	d.free = d.free.Add(cost)
	wait := d.free.Sub(now)
	d.mu.Unlock()
	time.Sleep(wait)
	return vfs.Outcome{}
}

// Load is what a strategy is put under.
type Load struct {
	For         time.Duration
	Publishers  int
	Batch       int // records a call
	RecordBytes int
	MaxRecords  int // of the queue
	Policy      backpressure.Policy
	Disk        Disk
}

// Result is what became of it.
type Result struct {
	Name     string
	Took     time.Duration
	Offered  int64 // records that publishers handed in
	Shed     int64 // refused
	Account  braid.Accounting
	Plain    int64 // stored without what Enrich adds
	Unsynced int64 // acknowledged before they were synced
	Calls    []time.Duration
	Acks     []time.Duration // from the call to the outcome, of calls that were stored
	Queued   int64           // bytes at most
	Heap     int64           // bytes at most, beyond those at the beginning
}

// run puts a new broker under the load, and closes it.
func (l *Load) run(ctx context.Context) (r *Result, err error) {
	dir, err := os.MkdirTemp("", "braid-pressure-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	opts := braid.Options{Enrich: func(rec *braid.Record) {
		rec.Headers = append(rec.Headers, braid.Header{Key: "host", Value: []byte("enriched")})
	}}
	hook.FS(&opts, vfs.NewFault(vfs.OS, &device{Disk: l.Disk}))
	b, err := braid.Open(dir, opts)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	topic, err := b.CreateTopic(ctx, "events", braid.TopicConfig{Backpressure: l.Policy})
	if err != nil {
		return nil, err
	}
	runtime.GC()
	return l.measure(ctx, b, topic)
}

// publisher is what one of them has seen. Its callbacks run on another goroutine than its calls.
type publisher struct {
	offered, shed int64
	calls         []time.Duration
	acks          []time.Duration
}

func (l *Load) measure(ctx context.Context, b *braid.Broker, topic *braid.Topic) (*Result, error) {
	begin := time.Now()
	timed, cancel := context.WithDeadline(ctx, begin.Add(l.For))
	defer cancel()
	r := &Result{}
	publishers := make([]publisher, l.Publishers)
	errs := make([]error, l.Publishers)
	var all sync.WaitGroup
	for i := range publishers {
		all.Go(func() { errs[i] = publishers[i].publish(timed, l, topic) })
	}
	watched := make(chan struct{})
	stop := make(chan struct{})
	go func() {
		defer close(watched)
		r.watch(topic, stop)
	}()
	all.Wait()
	err := topic.Flush(ctx)
	r.Took = time.Since(begin)
	close(stop)
	<-watched
	m, merr := b.Metrics(ctx)
	if err := errors.Join(append(errs, err, merr)...); err != nil {
		return nil, err
	}
	t := m.Topics[0]
	r.Account, r.Plain, r.Unsynced = t.Accounting, t.Degraded, t.Reduced
	for i := range publishers {
		p := &publishers[i]
		r.Offered, r.Shed = r.Offered+p.offered, r.Shed+p.shed
		r.Calls, r.Acks = append(r.Calls, p.calls...), append(r.Acks, p.acks...)
	}
	slices.Sort(r.Calls)
	slices.Sort(r.Acks)
	return r, r.check()
}

// publish publishes until ctx ends, each call as soon as the one before has returned.
func (p *publisher) publish(ctx context.Context, l *Load, topic *braid.Topic) error {
	value := make([]byte, l.RecordBytes)
	for ctx.Err() == nil {
		recs := make([]*braid.Record, l.Batch)
		for i := range recs {
			recs[i] = &braid.Record{Value: value}
		}
		begin := time.Now()
		var left atomic.Int64
		left.Store(int64(l.Batch))
		p.offered += int64(l.Batch)
		err := topic.PublishAsync(context.WithoutCancel(ctx), func(_ *braid.Record, err error) {
			if left.Add(-1) == 0 && err == nil {
				p.acks = append(p.acks, time.Since(begin))
			}
		}, recs...)
		p.calls = append(p.calls, time.Since(begin))
		var over *braid.OverloadError
		switch {
		case errors.As(err, &over):
			p.shed += int64(l.Batch)
			select {
			case <-time.After(over.RetryAfter):
			case <-ctx.Done():
			}
		case err != nil:
			return err
		}
	}
	return nil
}

// watch notes the most that is used, until stop is closed.
func (r *Result) watch(topic *braid.Topic, stop <-chan struct{}) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	begin := heap()
	for {
		r.Queued = max(r.Queued, topic.Backpressure().Bytes)
		r.Heap = max(r.Heap, heap()-begin)
		select {
		case <-stop:
			return
		case <-tick.C:
		}
	}
}

// heap is how many bytes objects have on the heap, dead ones that have not been collected yet among them.
func heap() int64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	return int64(s[0].Value.Uint64())
}

// check has the account agree with what publishers were told.
func (r *Result) check() error {
	a := r.Account
	if a.Accepted != r.Offered-r.Shed || a.Accepted != a.Stored+a.Dropped || a.Pending != 0 || a.Unknown != 0 {
		return fmt.Errorf("%d offered, %d shed, and the account is %+v", r.Offered, r.Shed, a)
	}
	return nil
}

// cells is the result's row of the table.
func (r *Result) cells() []string {
	rate := func(n int64) string { return fmt.Sprintf("%.1f k", float64(n)/r.Took.Seconds()/1000) }
	share := func(n, of int64) string {
		if n == 0 {
			return "0"
		}
		return fmt.Sprintf("%.1f %%", 100*float64(n)/float64(of))
	}
	return []string{
		r.Name, rate(r.Offered), rate(r.Account.Stored), share(r.Account.Dropped, r.Offered), share(r.Shed, r.Offered),
		share(r.Plain, r.Offered), share(r.Unsynced, r.Account.Stored),
		short(at(r.Calls, 0.5)), short(at(r.Calls, 0.99)), short(at(r.Acks, 0.5)), short(at(r.Acks, 0.99)),
		megabytes(r.Queued), megabytes(r.Heap),
	}
}

// at returns the value below which a share of sorted ones is.
func at(sorted []time.Duration, share float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(share*float64(len(sorted))))]
}

func short(d time.Duration) string {
	switch {
	case d < 10*time.Microsecond:
		return fmt.Sprintf("%.1f µs", d.Seconds()*1e6)
	case d < time.Millisecond:
		return fmt.Sprintf("%.0f µs", d.Seconds()*1e6)
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", d.Seconds()*1e3)
	}
	return fmt.Sprintf("%.0f ms", d.Seconds()*1e3)
}

func megabytes(n int64) string { return fmt.Sprintf("%.0f MB", float64(n)/1e6) }
