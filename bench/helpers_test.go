package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/braid-go/braid"
)

// Volume is bounded by making the topic, or the file, anew after this many bytes, outside of the timer: the page cache is
// reused, and the disk's speed is not what is measured.
const volume = 256 << 20

// topic is a topic that is made anew from time to time.
type topic struct {
	*braid.Topic
	b       *testing.B
	broker  *braid.Broker
	config  braid.TopicConfig
	written int64
}

func openTopic(b *testing.B, opts braid.Options, config braid.TopicConfig) *topic {
	b.Helper()
	broker, err := braid.Open(b.TempDir(), opts)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := broker.Close(); err != nil {
			b.Error(err)
		}
	})
	t := &topic{b: b, broker: broker, config: config}
	t.make()
	return t
}

func (t *topic) make() {
	var err error
	if t.Topic, err = t.broker.CreateTopic(context.Background(), "bench", t.config); err != nil {
		t.b.Fatal(err)
	}
}

// count counts bytes and bounds the volume. Only one goroutine may be publishing.
func (t *topic) count(bytes int64) {
	if t.written += bytes; t.written < volume {
		return
	}
	t.b.StopTimer()
	defer t.b.StartTimer()
	t.written = 0
	if err := t.broker.DeleteTopic(context.Background(), "bench"); err != nil {
		t.b.Fatal(err)
	}
	t.make()
}

// batch makes n records of a size with keys of their own.
func batch(n, size, first int) []*braid.Record {
	recs := make([]*braid.Record, n)
	for i := range recs {
		recs[i] = &braid.Record{Key: fmt.Appendf(nil, "key-%d", first+i), Value: make([]byte, size)}
	}
	return recs
}

// report reports what one record took.
func report(b *testing.B, records int64, before runtime.MemStats) {
	var after runtime.MemStats
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(records), "ns/record")
	b.ReportMetric(float64(records)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/float64(records), "allocs/record")
	b.ReportMetric(0, "ns/op")
}

// cpuTime is what the process has used of the processors: on a machine that others use too, a better measure of work than the time.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func memStats() (m runtime.MemStats) {
	runtime.ReadMemStats(&m)
	return m
}

// rawFile is the limit: the same bytes through bare system calls.
type rawFile struct {
	b    *testing.B
	f    *os.File
	pos  int64
	size int64 // zero-filled, and written over again and again; 0: the file grows up to the volume
}

func openRaw(b *testing.B, zeroed int64) *rawFile {
	b.Helper()
	f, err := os.Create(filepath.Join(b.TempDir(), "raw"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	if zeroed > 0 {
		if _, err := f.Write(make([]byte, zeroed)); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
	return &rawFile{b: b, f: f, size: zeroed}
}

func (r *rawFile) write(p []byte, sync bool) {
	limit := r.size
	if limit == 0 {
		limit = volume
	}
	if r.pos+int64(len(p)) > limit {
		r.pos = 0
		if r.size == 0 {
			r.b.StopTimer()
			if err := r.f.Truncate(0); err != nil {
				r.b.Fatal(err)
			}
			r.b.StartTimer()
		}
	}
	if _, err := r.f.WriteAt(p, r.pos); err != nil {
		r.b.Fatal(err)
	}
	r.pos += int64(len(p))
	if sync {
		if err := syscall.Fdatasync(int(r.f.Fd())); err != nil {
			r.b.Fatal(err)
		}
	}
}
