package bench

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/braid-go/braid/checkpoint"
	"github.com/braid-go/braid/internal/vfs"
	"github.com/braid-go/braid/log"
	"github.com/braid-go/braid/partition"
)

// value is a partition's source of one record.
type value []byte

func (v value) AppendTo(b *log.Builder, _ int, now int64) error { return b.Append(now, nil, v, nil) }

// BenchmarkRounds publishes single records, each waiting for its sync, from 64 goroutines that are spread evenly over some partitions:
// with rounds through the commit log, and with one fdatasync per partition.
func BenchmarkRounds(b *testing.B) {
	for _, partitions := range []int{1, 16, 64} {
		for _, way := range []string{"rounds", "fdatasync-each"} {
			b.Run(fmt.Sprintf("partitions=%d/%s", partitions, way), func(b *testing.B) {
				benchRounds(b, partitions, way == "rounds")
			})
		}
	}
}

func benchRounds(b *testing.B, partitions int, rounds bool) {
	const publishers, perRound = 64, 3200
	dir := b.TempDir()
	s := partition.NewScheduler(partition.SchedulerOptions{})
	defer s.Close()
	wal, err := checkpoint.OpenWAL(filepath.Join(dir, "checkpoint"), checkpoint.WALOptions{Create: true, Settle: s.Settle})
	if err != nil {
		b.Fatal(err)
	}
	defer wal.Close()
	if rounds {
		s.SetJournal(wal)
	}
	parts := make([]*partition.Partition, partitions)
	for i := range parts {
		parts[i], err = partition.Create(partition.Config{FS: vfs.OS, Dir: filepath.Join(dir, fmt.Sprint(i)), Scheduler: s}, log.Birth{PartitionID: uint64(i + 1)}, 0)
		if err != nil {
			b.Fatal(err)
		}
		defer parts[i].Close(context.Background())
	}
	ctx := context.Background()
	v := value(make([]byte, 100))
	before := memStats()
	total := int64(0)
	var left atomic.Int64
	for b.Loop() {
		left.Store(perRound)
		var wg sync.WaitGroup
		for i := range publishers {
			p := parts[i%partitions]
			wg.Go(func() {
				for left.Add(-1) >= 0 {
					r := p.NewRequest(v, 1, 116, nil)
					err := p.Enqueue(ctx, r)
					if err == nil {
						err = r.Wait(ctx)
					}
					r.Release()
					if err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		total += perRound
	}
	report(b, total, before)
}
