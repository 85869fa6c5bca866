package bench

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/braid-go/braid"
)

// BenchmarkPublishToPartitions publishes in bulk, unsynced, to more and more partitions, over which the keys are spread evenly: W7. There is no linger: a
// partition stores in one round what has been queued for it, which is one call's share if each call is waited for (batch), and that of several if
// others are under way (underway, of 10,000 records a call). cpu-ns is what a record takes of the processors.
func BenchmarkPublishToPartitions(b *testing.B) {
	for _, partitions := range []int{1, 10, 100, 1000} {
		if testing.Short() && partitions > 100 {
			continue // making them takes long
		}
		for _, n := range []int{10_000, 50_000} {
			b.Run(fmt.Sprintf("batch=%d/partitions=%d", n, partitions), func(b *testing.B) {
				benchUnderWay(b, partitions, 1, n)
			})
		}
		b.Run(fmt.Sprintf("underway=400000/partitions=%d", partitions), func(b *testing.B) { benchUnderWay(b, partitions, 40, 10_000) })
	}
}

// benchUnderWay publishes batches without waiting for each.
func benchUnderWay(b *testing.B, partitions, window, n int) {
	t := openTopic(b, braid.Options{Durability: braid.OS}, braid.TopicConfig{Partitions: partitions})
	ctx := context.Background()
	batches, left := make([][]*braid.Record, window), make([]atomic.Int32, window)
	free := make(chan int, window)
	for i := range batches {
		batches[i] = batch(n, 100, i*n)
		free <- i
	}
	if err := t.Publish(ctx, batches[0]...); err != nil { // the queues and the buffers come into being
		b.Fatal(err)
	}
	before, cpu := memStats(), cpuTime(b)
	calls := int64(0)
	for b.Loop() {
		i := <-free
		left[i].Store(int32(n))
		err := t.PublishAsync(ctx, func(_ *braid.Record, err error) {
			if err != nil {
				b.Error(err)
			}
			if left[i].Add(-1) == 0 {
				free <- i
			}
		}, batches[i]...)
		if err != nil {
			b.Fatal(err)
		}
		calls++
		bytes := int64(n * (100 + frameOverhead))
		if t.written+bytes >= volume {
			if err := t.Flush(ctx); err != nil {
				b.Fatal(err)
			}
		}
		t.count(bytes)
	}
	if err := t.Flush(ctx); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(cpuTime(b)-cpu)/float64(calls*int64(n)), "cpu-ns/record")
	report(b, calls*int64(n), before)
}

// BenchmarkIdlePartitions makes a topic of many partitions and reports the heap that each of them holds: never-used-B, when nothing was ever published to them;
// gone-idle-B, when each has stored a record and has then been idle for half a minute, so that queue, buffers, goroutine and file have been let go;
// reopened-B, when a broker has opened them and nothing has come; and gone-idle-goroutines, of all of them together.
func BenchmarkIdlePartitions(b *testing.B) {
	partitions := 10_000
	if testing.Short() {
		partitions = 100
	}
	ctx := context.Background()
	dir := b.TempDir()
	for b.Loop() { // the measuring is one iteration, whatever its length
		none, goroutines := heap(), runtime.NumGoroutine()
		each := func(name string) { b.ReportMetric(float64(heap()-none)/float64(partitions), name) }
		broker := openOS(b, dir)
		topic, err := broker.CreateTopic(ctx, "idle", braid.TopicConfig{Partitions: partitions})
		if err != nil {
			b.Fatal(err)
		}
		each("never-used-B")
		for range partitions { // those without a key go to the partitions in turn
			if err := topic.Publish(ctx, &braid.Record{Value: []byte("once")}); err != nil {
				b.Fatal(err)
			}
		}
		each("at-work-B")
		for left := runtime.NumGoroutine(); !testing.Short() && left > goroutines+100; left = runtime.NumGoroutine() {
			time.Sleep(time.Second) // polled: nothing tells
		}
		each("gone-idle-B")
		b.ReportMetric(float64(runtime.NumGoroutine()-goroutines), "gone-idle-goroutines")
		if err := broker.Close(); err != nil {
			b.Fatal(err)
		}
		broker = openOS(b, dir)
		each("reopened-B")
		if err := broker.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(0, "ns/op")
}

func openOS(b *testing.B, dir string) *braid.Broker {
	b.Helper()
	broker, err := braid.Open(dir, braid.Options{Durability: braid.OS})
	if err != nil {
		b.Fatal(err)
	}
	return broker
}

// heap returns the bytes of the heap that are in use.
func heap() int64 {
	runtime.GC()
	runtime.GC() // what finalizers have let go
	return int64(memStats().HeapAlloc)
}
