package checkpoint_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/braid-go/braid/checkpoint"
	"github.com/braid-go/braid/internal/vfs"
)

// BenchmarkCommit commits positions: a key of 24 bytes and a value of 16, with an expectation. One
// operation is one durable commit. Compare with BenchmarkDisk of the same run.
func BenchmarkCommit(b *testing.B) {
	for _, committers := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("committers=%d", committers), func(b *testing.B) {
			w := openWAL(b, b.TempDir(), checkpoint.WALOptions{Create: true})
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			for c := range committers {
				wg.Go(func() { commitPositions(b, w, c, &left) })
			}
			wg.Wait()
		})
	}
}

// commitPositions moves one position until nothing is left to do.
func commitPositions(b *testing.B, w checkpoint.Store, committer int, left *atomic.Int64) {
	key := fmt.Appendf(nil, "group/%016d", committer)
	var batch checkpoint.Batch
	var rev checkpoint.Revision
	value := make([]byte, 16)
	for i := uint64(0); left.Add(-1) >= 0; i++ {
		batch.Reset()
		batch.Expect(key, rev)
		binary.BigEndian.PutUint64(value, i)
		batch.Put(key, value)
		var err error
		if rev, err = w.Commit(context.Background(), &batch); err != nil {
			b.Error(err)
			return
		}
	}
}

// BenchmarkDisk is what the disk itself takes for the bytes of one commit.
func BenchmarkDisk(b *testing.B) {
	const record, file = 120, 16 << 20
	for name, prefilled := range map[string]bool{"append+fdatasync": false, "overwrite+fdatasync": true} {
		b.Run(name, func(b *testing.B) {
			f, err := vfs.OS.Create(filepath.Join(b.TempDir(), "f"))
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			if prefilled {
				if _, err := f.WriteAt(make([]byte, file), 0); err != nil {
					b.Fatal(err)
				}
				if err := f.Sync(); err != nil {
					b.Fatal(err)
				}
			}
			data := make([]byte, record)
			b.ResetTimer()
			for i := range b.N {
				off := int64(i) * record
				if prefilled {
					off %= file - record
				}
				if _, err := f.WriteAt(data, off); err != nil {
					b.Fatal(err)
				}
				if err := f.Datasync(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkGet(b *testing.B) {
	s := checkpoint.NewMemory(checkpoint.MemoryOptions{})
	var batch checkpoint.Batch
	const keys = 100_000
	for i := range keys {
		batch.Put(fmt.Appendf(nil, "group/%016d", i), make([]byte, 16))
	}
	if _, err := s.Commit(b.Context(), &batch); err != nil {
		b.Fatal(err)
	}
	key := []byte("group/0000000000054321")
	b.ReportAllocs()
	for b.Loop() {
		if _, rev, err := s.Get(context.Background(), key); err != nil || rev == 0 {
			b.Fatal(rev, err)
		}
	}
}
