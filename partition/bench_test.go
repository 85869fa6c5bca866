package partition

import (
	"context"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/braid-go/braid/internal/vfs"
	"github.com/braid-go/braid/log"
)

// fixed is a source of records with the same 100 bytes.
type fixed struct{ value []byte }

func (s *fixed) AppendTo(b *log.Builder, i int, now int64) error {
	return b.Append(now, nil, s.value, nil)
}

func benchPartition(b *testing.B, mode log.Mode) *Partition {
	b.Helper()
	s := NewScheduler(SchedulerOptions{Mode: mode})
	p, err := Create(Config{FS: vfs.OS, Dir: filepath.Join(b.TempDir(), "p"), Mode: mode, Scheduler: s}, log.Birth{PartitionID: 1}, 0)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { p.Close(context.Background()); s.Close() })
	return p
}

func benchPublish(b *testing.B, p *Partition, records int) {
	src := &fixed{make([]byte, 100)}
	ctx := context.Background()
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		r := p.NewRequest(src, records, int64(100*records), nil)
		if err := p.Enqueue(ctx, r); err != nil {
			b.Fatal(err)
		}
		if err := r.Wait(ctx); err != nil {
			b.Fatal(err)
		}
		r.Release()
		if n++; n%2000 == 0 && records > 1 { // bound the page cache
			if _, err := p.Log().Retain(log.Retention{MaxBytes: 256 << 20}); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n*records), "ns/record")
}

func BenchmarkPublishBulkUnsynced(b *testing.B) { benchPublish(b, benchPartition(b, log.ModeOS), 1000) }

func BenchmarkPublishOneUnsynced(b *testing.B) { benchPublish(b, benchPartition(b, log.ModeOS), 1) }

func BenchmarkPublishOneSynced(b *testing.B) {
	b.Run("braid", func(b *testing.B) { benchPublish(b, benchPartition(b, log.ModeFsync), 1) })
	b.Run("write+fdatasync", func(b *testing.B) {
		f, err := vfs.OS.Create(filepath.Join(b.TempDir(), "f"))
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt(make([]byte, 4<<20), 0); err != nil {
			b.Fatal(err)
		}
		f.Sync()
		record := make([]byte, 200)
		pos := int64(0)
		for b.Loop() {
			if _, err := f.WriteAt(record, pos%(4<<20-200)); err != nil {
				b.Fatal(err)
			}
			pos += 200
			if err := f.Datasync(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkPublishSynced64(b *testing.B) {
	p := benchPartition(b, log.ModeFsync)
	src := &fixed{make([]byte, 100)}
	b.SetParallelism((64 + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0)) // 64 publishers
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		ctx := context.Background()
		for pb.Next() {
			r := p.NewRequest(src, 1, 100, nil)
			if err := p.Enqueue(ctx, r); err != nil {
				b.Error(err)
				return
			}
			if err := r.Wait(ctx); err != nil {
				b.Error(err)
				return
			}
			r.Release()
		}
	})
	b.ReportMetric(float64(p.Stats().Stored)/float64(p.Stats().Rounds), "records/round")
}
