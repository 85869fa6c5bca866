package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/braid-go/braid/checkpoint"
)

// transactionBytes is about what one record and one position are together.
const transactionBytes = recordBytes + 64

// mostTransactions bounds the transactions of one committer in a second: more than it can do, so that it never runs out of records.
func mostTransactions(committers int) int { return max(20_000/committers, 4000) }

// transact returns a measurement of some committers, each of which commits one transaction after the other: one record in, one
// record out, and its position.
func transact(committers int) measurement {
	return func(ctx context.Context, store io.Closer, sc scale) ([]float64, error) {
		t, ok := store.(transactor)
		if !ok {
			return nil, errCannot
		}
		n := int(sc.Time.Seconds()*1.5*float64(mostTransactions(committers))) + 100
		b := newBatches(window)
		for i := range committers {
			for left := n; left > 0; left -= batchRecords {
				if err := t.Fill(ctx, i, b.take()[:min(left, batchRecords)]); err != nil {
					return nil, fmt.Errorf("fill: %w", err)
				}
			}
		}
		transactUntil := func(d time.Duration) (int64, error) {
			return sideBySide(committers, d, func(i int) error { return t.Transact(ctx, i) })
		}
		if _, err := transactUntil(sc.Time / 10); err != nil { // buffers come into being
			return nil, err
		}
		runtime.GC()
		start := time.Now()
		done, err := transactUntil(sc.Time)
		return perSecond(done, time.Since(start)), err
	}
}

// sideBySide has n goroutines call f, each with its number, until time is up, and returns how many calls there were.
func sideBySide(n int, d time.Duration, f func(i int) error) (int64, error) {
	var total atomic.Int64
	errs := make([]error, n)
	var wg sync.WaitGroup
	start := time.Now()
	for i := range n {
		wg.Go(func() {
			calls := int64(0)
			for ; errs[i] == nil && (calls == 0 || time.Since(start) < d); calls++ {
				errs[i] = f(i)
			}
			total.Add(calls)
		})
	}
	wg.Wait()
	return total.Load(), errors.Join(errs...)
}

// limitStore returns a limit of some committers that commit a position each to Braid's checkpoint store, and nothing else.
func limitStore(committers int) func(context.Context, string, scale) ([]float64, error) {
	return func(ctx context.Context, dir string, sc scale) (_ []float64, err error) {
		store, err := checkpoint.OpenWAL(filepath.Join(dir, "store"), checkpoint.WALOptions{Create: true})
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, store.Close()) }()
		revs := make([]checkpoint.Revision, committers)
		commit := func(i int) error {
			key := fmt.Appendf(nil, "group and partition %08d", i)
			var batch checkpoint.Batch
			batch.Expect(key, revs[i])
			batch.Put(key, make([]byte, 16))
			rev, err := store.Commit(ctx, &batch)
			revs[i] = rev
			return err
		}
		if _, err := sideBySide(committers, sc.Time/10, commit); err != nil {
			return nil, err
		}
		runtime.GC()
		start := time.Now()
		done, err := sideBySide(committers, sc.Time, commit)
		return perSecond(done, time.Since(start)), err
	}
}
