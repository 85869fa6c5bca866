package bench

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/puzpuzpuz/xsync/v3"

	"github.com/braid-go/braid/backpressure"
)

const (
	ringSlots = 4096
	ringBatch = 1024
)

// request stands for what a partition queues: a pointer to something that was
// there before.
type request struct{ sum int64 }

// conduit is a bounded queue between producers and one consumer: put waits while
// it is full, drain returns when n requests have come through.
type conduit struct {
	put   func(*request)
	drain func(n int) int64
}

// BenchmarkRing moves b.N requests from N producers to one consumer. One operation
// is one request, put and taken.
func BenchmarkRing(b *testing.B) {
	for _, kind := range []struct {
		name string
		make func() conduit
	}{
		{"braid-ring", braidRing},
		{"braid-queue", braidQueue},
		{"xsync-mpmcof", xsyncQueue},
		{"channel", channel},
		{"mutex-slice", mutexSlice},
	} {
		for _, producers := range []int{1, 2, 4} {
			b.Run(fmt.Sprintf("%s/producers=%d", kind.name, producers), func(b *testing.B) {
				run(b, kind.make(), producers)
			})
		}
	}
}

func run(b *testing.B, c conduit, producers int) {
	req := &request{sum: 1}
	var wg sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	for p := range producers {
		share := b.N / producers
		if p < b.N%producers {
			share++
		}
		wg.Go(func() {
			for range share {
				c.put(req)
			}
		})
	}
	sum := c.drain(b.N)
	b.StopTimer()
	wg.Wait()
	if sum != int64(b.N) {
		b.Fatalf("%d requests came through, want %d", sum, b.N)
	}
}

func braidRing() conduit {
	r := backpressure.NewRing[*request](ringSlots)
	return conduit{
		put: func(v *request) {
			for r.Push(v) != backpressure.Pushed {
				runtime.Gosched()
			}
		},
		drain: func(n int) (sum int64) {
			for n > 0 {
				if v, ok := r.Pop(); ok {
					sum += v.sum
					n--
				} else {
					runtime.Gosched()
				}
			}
			return sum
		},
	}
}

func braidQueue() conduit {
	q, err := backpressure.NewQueue(backpressure.Options{Slots: ringSlots},
		func(*request) backpressure.Weight { return backpressure.Weight{Records: 1, Bytes: 100} })
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	return conduit{
		put: func(v *request) {
			if err := q.Put(ctx, v); err != nil {
				panic(err)
			}
		},
		drain: func(n int) (sum int64) {
			batch := make([]*request, 0, ringBatch)
			for n > 0 {
				if batch = q.Take(batch[:0], ringBatch, 1<<20); len(batch) > 0 {
					for _, v := range batch {
						sum += v.sum
					}
					n -= len(batch)
				} else if q.Park() {
					<-q.Wake()
				}
			}
			return sum
		},
	}
}

func xsyncQueue() conduit {
	q := xsync.NewMPMCQueueOf[*request](ringSlots)
	return conduit{
		put: func(v *request) {
			for !q.TryEnqueue(v) {
				runtime.Gosched()
			}
		},
		drain: func(n int) (sum int64) {
			for n > 0 {
				if v, ok := q.TryDequeue(); ok {
					sum += v.sum
					n--
				} else {
					runtime.Gosched()
				}
			}
			return sum
		},
	}
}

func channel() conduit {
	ch := make(chan *request, ringSlots)
	return conduit{
		put: func(v *request) { ch <- v },
		drain: func(n int) (sum int64) {
			for range n {
				sum += (<-ch).sum
			}
			return sum
		},
	}
}

// mutexSlice is what one would write by hand: two slices that change places.
func mutexSlice() conduit {
	var mu sync.Mutex
	notFull, notEmpty := sync.NewCond(&mu), sync.NewCond(&mu)
	filling := make([]*request, 0, ringSlots)
	draining := make([]*request, 0, ringSlots)
	return conduit{
		put: func(v *request) {
			mu.Lock()
			for len(filling) == ringSlots {
				notFull.Wait()
			}
			filling = append(filling, v)
			if len(filling) == 1 {
				notEmpty.Signal()
			}
			mu.Unlock()
		},
		drain: func(n int) (sum int64) {
			for n > 0 {
				mu.Lock()
				for len(filling) == 0 {
					notEmpty.Wait()
				}
				filling, draining = draining[:0], filling
				notFull.Broadcast()
				mu.Unlock()
				for _, v := range draining {
					sum += v.sum
				}
				n -= len(draining)
			}
			return sum
		},
	}
}
