package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/braid-go/braid"
)

// checks are what is guarded. The bounds are twice of what a 2-core Linux VM on ext4 shows when it has nothing else to do; that of the size, which is the same
// everywhere, is a twentieth above it.
var checks = []check{
	{"publish in bulk, no fsync", "x as long as write(2)", 5.5, bulk},
	{"publish one, fsync", "x as long as write and fdatasync", 1.5, synced},
	{"publish one, fsync, 64 at once", "x as long as with the plainest shared fdatasync", 2.5, together},
	{"catch-up read", "x as long as pread", 8, catchUp},
	{"publish in bulk, no fsync", "allocations a record", 0.01, publishAllocations},
	{"catch-up read, memory reused", "allocations a record", 0.01, readAllocations},
	{"size of a program with Braid", "x that of one without", 2.8, programSize},
}

const (
	records     = 1000 // in a batch
	keyBytes    = 8
	valueBytes  = 100
	recordBytes = keyBytes + valueBytes
	callBytes   = 256 << 10 // of a write or a read of the least
	space       = 1 << 20   // of zeros
)

func open(ctx context.Context, dir string, d braid.Durability) (*braid.Broker, *braid.Topic, error) {
	b, err := braid.Open(filepath.Join(dir, "broker"), braid.Options{Durability: d})
	if err != nil {
		return nil, nil, err
	}
	t, err := b.EnsureTopic(ctx, "guarded", braid.TopicConfig{})
	if err != nil {
		return nil, nil, errors.Join(err, b.Close())
	}
	return b, t, nil
}

func batch() []*braid.Record {
	recs := make([]*braid.Record, records)
	for i := range recs {
		recs[i] = &braid.Record{Key: fmt.Appendf(nil, "%0*d", keyBytes, i), Value: make([]byte, valueBytes)}
	}
	return recs
}

// inTurn does two things in turn for some rounds, and returns how much longer the first takes, by the fastest rounds of both: what else
// happens on the machine only makes slower.
func inTurn(rounds int, braids, least func() error) (float64, error) {
	best := [2]time.Duration{time.Hour, time.Hour}
	for range rounds {
		for i, f := range []func() error{braids, least} {
			start := time.Now()
			if err := f(); err != nil {
				return 0, err
			}
			best[i] = min(best[i], time.Since(start))
		}
	}
	return float64(best[0]) / float64(best[1]), nil
}

// bulk publishes batches, beside as many bytes in calls of callBytes.
func bulk(ctx context.Context, dir string) (_ float64, err error) {
	const batches, rounds = 20, 80
	b, t, err := open(ctx, dir, braid.OS)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	f, err := os.Create(filepath.Join(dir, "least"))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	recs, p := batch(), make([]byte, callBytes)
	return inTurn(rounds, func() error {
		for range batches {
			if err := t.Publish(ctx, recs...); err != nil {
				return err
			}
		}
		return nil
	}, func() error {
		for n := 0; n < batches*records*recordBytes; n += callBytes {
			if _, err := f.Write(p); err != nil {
				return err
			}
		}
		return nil
	})
}

// synced publishes single records, beside a write of as many bytes into space that is filled with zeros and a sync: one after the other, so that whatever the
// disk has to do otherwise meets both. The median of both counts.
func synced(ctx context.Context, dir string) (_ float64, err error) {
	const rounds = 400
	b, t, err := open(ctx, dir, braid.Fsync)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	f, err := zeros(dir)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	rec := batch()[:1]
	p := make([]byte, recordBytes)
	var took [2][]time.Duration
	for i := range rounds {
		start := time.Now()
		if err := t.Publish(ctx, rec...); err != nil {
			return 0, err
		}
		between := time.Now()
		if _, err := f.WriteAt(p, int64(i)*recordBytes%(space-recordBytes)); err != nil {
			return 0, err
		}
		if err := datasync(f); err != nil {
			return 0, err
		}
		took[0], took[1] = append(took[0], between.Sub(start)), append(took[1], time.Since(between))
	}
	return float64(median(took[0])) / float64(median(took[1])), nil
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}

// together publishes single records from many goroutines, beside the plainest way of sharing syncs: whoever comes while nobody syncs does it for all
// that have come before.
func together(ctx context.Context, dir string) (_ float64, err error) {
	const rounds = 12
	b, t, err := open(ctx, dir, braid.Fsync)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	f, err := zeros(dir)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	least := sharedSync{f: f}
	least.synced.L = &least.mu
	p := make([]byte, recordBytes)
	return inTurn(rounds, func() error {
		return sideBySide(func(rec *braid.Record) error { return t.Publish(ctx, rec) })
	}, func() error {
		return sideBySide(func(*braid.Record) error { return least.publish(p) })
	})
}

// sideBySide has many goroutines call f often, each with a record of its own.
func sideBySide(f func(*braid.Record) error) error {
	const publishers, each = 64, 40
	var wg sync.WaitGroup
	errs := make([]error, publishers)
	for i, rec := range batch()[:publishers] {
		wg.Go(func() {
			for n := 0; n < each && errs[i] == nil; n++ {
				errs[i] = f(rec)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// sharedSync is a log whose publishers share syncs.
type sharedSync struct {
	f       *os.File
	mu      sync.Mutex
	synced  sync.Cond
	waiting []byte // what is not written yet
	writing []byte
	round   int // of which waiting is
	done    int // rounds before it are on disk
	busy    bool
	err     error
}

func (s *sharedSync) publish(p []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = append(s.waiting, p...)
	mine := s.round
	for s.done <= mine {
		if s.busy {
			s.synced.Wait()
			continue
		}
		s.busy = true
		s.writing, s.waiting = s.waiting, s.writing[:0]
		s.round++
		s.mu.Unlock()
		_, err := s.f.WriteAt(s.writing, 0)
		err = errors.Join(err, datasync(s.f))
		s.mu.Lock()
		s.busy, s.done, s.err = false, s.round, errors.Join(s.err, err)
		s.synced.Broadcast()
	}
	return s.err
}

// zeros makes a file that is filled with zeros, on disk.
func zeros(dir string) (*os.File, error) {
	f, err := os.Create(filepath.Join(dir, "least"))
	if err != nil {
		return nil, err
	}
	if _, err = f.Write(make([]byte, space)); err == nil {
		err = f.Sync()
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// catchUp reads what lies in the page cache, with memory that is used again, beside the same files in calls of callBytes.
func catchUp(ctx context.Context, dir string) (_ float64, err error) {
	const batches, rounds = 300, 15
	b, t, err := published(ctx, dir, batches)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	names, err := filepath.Glob(filepath.Join(b.Dir(), "partitions", "*", "*.seg"))
	if err != nil || len(names) == 0 {
		return 0, fmt.Errorf("%d segments: %w", len(names), err)
	}
	p := make([]byte, callBytes)
	return inTurn(rounds, func() error { return read(ctx, t, batches*records) }, func() error {
		for _, name := range names {
			if err := readFile(name, p); err != nil {
				return err
			}
		}
		return nil
	})
}

// readFile reads a file into p, again and again.
func readFile(name string, p []byte) (err error) {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for err == nil {
		_, err = f.Read(p)
	}
	if err == io.EOF {
		return nil
	}
	return err
}

// published returns a topic with batches in it.
func published(ctx context.Context, dir string, batches int) (*braid.Broker, *braid.Topic, error) {
	b, t, err := open(ctx, dir, braid.OS)
	if err != nil {
		return nil, nil, err
	}
	recs := batch()
	for range batches {
		if err := t.Publish(ctx, recs...); err != nil {
			return nil, nil, errors.Join(err, b.Close())
		}
	}
	return b, t, nil
}

func read(ctx context.Context, t *braid.Topic, want int) error {
	n := 0
	for _, err := range t.Read(ctx, braid.ReadOptions{ReuseBuffers: true}) {
		if err != nil {
			return err
		}
		n++
	}
	if n != want {
		return fmt.Errorf("read %d records, want %d", n, want)
	}
	return nil
}

// allocations returns how many there are in one of n.
func allocations(n int, f func() error) (float64, error) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := f()
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / float64(n), err
}

func publishAllocations(ctx context.Context, dir string) (_ float64, err error) {
	const batches = 100
	b, t, err := published(ctx, dir, 10) // buffers have come into being
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	recs := batch()
	return allocations(batches*records, func() error {
		for range batches {
			if err := t.Publish(ctx, recs...); err != nil {
				return err
			}
		}
		return nil
	})
}

func readAllocations(ctx context.Context, dir string) (_ float64, err error) {
	const batches = 100
	b, t, err := published(ctx, dir, batches)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	return allocations(batches*records, func() error { return read(ctx, t, batches*records) })
}
