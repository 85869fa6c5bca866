package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/braid-go/braid"
	"github.com/braid-go/braid/checkpoint"
)

// BenchmarkTransactions commits transactions of one record in, its position, and one record out: W6. Each committer reads a topic of its
// own; all publish to one topic. Beside them: the checkpoint store alone with a batch of the size of a position, and a bare
// write and fdatasync.
func BenchmarkTransactions(b *testing.B) {
	for _, committers := range []int{1, 64} {
		b.Run(fmt.Sprintf("committers=%d", committers), func(b *testing.B) { benchTransactions(b, committers) })
		b.Run(fmt.Sprintf("committers=%d/limit=store-alone", committers), func(b *testing.B) { benchStore(b, committers) })
	}
	b.Run("limit=fdatasync", func(b *testing.B) {
		r := openRaw(b, 4<<20)
		p := make([]byte, 300)
		for b.Loop() {
			r.write(p, true)
		}
	})
}

// share has n goroutines do f(goroutine) b.N times altogether.
func share(b *testing.B, n int, f func(i int) error) {
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ResetTimer()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := f(i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "txn/s")
}

func benchTransactions(b *testing.B, committers int) {
	br, err := braid.Open(b.TempDir(), braid.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer br.Close()
	ctx := context.Background()
	out, err := br.CreateTopic(ctx, "out", braid.TopicConfig{})
	if err != nil {
		b.Fatal(err)
	}
	subs := make([]*braid.Subscription, committers)
	for i := range subs {
		in, err := br.CreateTopic(ctx, fmt.Sprint("in", i), braid.TopicConfig{})
		if err != nil {
			b.Fatal(err)
		}
		recs := batch(b.N, 100, 0)
		for len(recs) > 0 { // any one of them may have to do all the work
			n := min(len(recs), 10_000)
			if err := in.Publish(ctx, recs[:n]...); err != nil {
				b.Fatal(err)
			}
			recs = recs[n:]
			if committers > 1 && len(recs) < b.N/2 {
				break
			}
		}
		if subs[i], err = in.Subscribe(ctx, "g", braid.SubscribeOptions{}); err != nil {
			b.Fatal(err)
		}
		defer subs[i].Close()
	}
	answer := batch(committers, 100, 0)
	share(b, committers, func(i int) error {
		recs, err := subs[i].Poll(ctx, 1)
		if err != nil {
			return err
		}
		tx := br.Begin()
		return errors.Join(tx.Offsets(subs[i], recs...), tx.Publish(out, answer[i]), tx.Commit(ctx))
	})
}

func benchStore(b *testing.B, committers int) {
	store, err := checkpoint.OpenWAL(filepath.Join(b.TempDir(), "store"), checkpoint.WALOptions{Create: true})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	value := make([]byte, 17)
	revs := make([]checkpoint.Revision, committers)
	share(b, committers, func(i int) error {
		var batch checkpoint.Batch
		key := fmt.Appendf(nil, "gxxxxxxxxg%08d", i)
		batch.Expect(key, revs[i])
		batch.Put(key, value)
		rev, err := store.Commit(context.Background(), &batch)
		revs[i] = rev
		return err
	})
}
