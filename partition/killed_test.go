package partition

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/braid-go/braid/checkpoint"
	"github.com/braid-go/braid/internal/vfs"
	"github.com/braid-go/braid/log"
)

// syncLock is a file system whose syncs can be held up.
type syncLock struct {
	vfs.FS
	mu sync.RWMutex // held shared by a sync
}

type syncLockFile struct {
	vfs.File
	mu *sync.RWMutex
}

func (l *syncLock) file(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &syncLockFile{f, &l.mu}, nil
}

func (l *syncLock) Create(name string) (vfs.File, error) { return l.file(l.FS.Create(name)) }
func (l *syncLock) Open(name string) (vfs.File, error)   { return l.file(l.FS.Open(name)) }
func (l *syncLock) OpenReadWrite(name string) (vfs.File, error) {
	return l.file(l.FS.OpenReadWrite(name))
}

func (f *syncLockFile) Sync() error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.File.Sync()
}

func (f *syncLockFile) Datasync() error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.File.Datasync()
}

// TestTheJournalAndTheSegmentsTogetherSurviveBeingKilled runs everything at once over a real commit log, takes copies of both
// at random moments, as a kill and a power cut leave them, and wants in each what had been acknowledged.
func TestTheJournalAndTheSegmentsTogetherSurviveBeingKilled(t *testing.T) {
	dir := t.TempDir()
	mem := vfs.NewMem()
	disk := &syncLock{FS: mem}
	s := NewScheduler(SchedulerOptions{})
	var settles atomic.Int64
	opts := checkpoint.WALOptions{ID: [16]byte{1}, Create: true, GenerationBytes: 64 << 10, Settle: func() []uint64 {
		settles.Add(1)
		return s.Settle()
	}}
	wal, err := checkpoint.OpenWAL(filepath.Join(dir, "live"), opts)
	if err != nil {
		t.Fatal(err)
	}
	s.SetJournal(wal)
	h := &house{s: s}
	for i := range 4 {
		p, err := Create(Config{FS: disk, Dir: fmt.Sprint("p", i), Scheduler: s, SegmentBytes: 32 << 10}, log.Birth{PartitionID: uint64(i + 1)}, 0)
		if err != nil {
			t.Fatal(err)
		}
		h.parts = append(h.parts, p)
	}
	var begun, acked [4]atomic.Int64 // of each partition's own publisher, and of the transactions, in order
	var txns atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i, p := range h.parts {
		wg.Go(func() {
			for k := int64(1); ; k++ {
				select {
				case <-stop:
					return
				default:
				}
				begun[i].Store(k)
				if _, err := publish(context.Background(), p, fmt.Sprintf("own %d %s", k, strings.Repeat("x", int(k%300)))); err != nil {
					t.Error(err)
					return
				}
				acked[i].Store(k)
			}
		})
	}
	wg.Go(func() {
		for k := int64(1); ; k++ {
			select {
			case <-stop:
				return
			default:
			}
			outs := []*Output{output(h.parts[k%4], fmt.Sprint("txn ", k)), output(h.parts[(k+1)%4], fmt.Sprint("txn ", k))}
			if _, err := s.Transact(context.Background(), put("txn", fmt.Sprint(k)), outs); err != nil {
				t.Error(err)
				return
			}
			txns.Store(k)
		}
	})
	generations := map[int64]bool{}
	for n := range 25 {
		for begin := txns.Load(); txns.Load() < begin+20 && !t.Failed(); {
			runtime.Gosched()
		}
		// Both copies must be of one moment, and the disk of the store cannot be stopped. But what the store has behind the copy of the segments harms
		// nothing, as long as they are not synced meanwhile: then no direct round ends, on which a later one in the store would count, and no generation goes
		// that has what the copy lacks. What a direct round has acknowledged must be in the copy; of what the store has, an acknowledgement that came too early would not be noticed: that is shown elsewhere.
		disk.mu.Lock()
		var want, most [4]int64
		for i := range want {
			want[i] = acked[i].Load()
		}
		wantTxn := txns.Load()
		crashed := mem.CrashClone(vfs.RandomCrash(rand.New(rand.NewPCG(uint64(n), 3))))
		view := copyStore(t, filepath.Join(dir, "live"), filepath.Join(dir, fmt.Sprint("copy", n)), checkpoint.LoadOptions{ID: opts.ID})
		disk.mu.Unlock()
		for i := range most {
			most[i] = begun[i].Load()
		}
		generations[settles.Load()] = true
		checkKilled(t, crashed, view, want, most, wantTxn)
	}
	close(stop)
	wg.Wait()
	h.close(t)
	if err := wal.Close(); err != nil {
		t.Error(err)
	}
	if len(generations) < 3 {
		t.Errorf("only %d generations", len(generations))
	}
}

// copyStore loads a copy of a store that is at work. What a change of generation has begun before may be removed meanwhile, so it may take a second try.
func copyStore(t *testing.T, live, copied string, opts checkpoint.LoadOptions) *checkpoint.View {
	t.Helper()
	var err error
	for begin := time.Now(); time.Since(begin) < tooLong; {
		if err = os.CopyFS(copied, os.DirFS(live)); err == nil {
			var view *checkpoint.View
			if view, err = checkpoint.LoadWAL(copied, opts); err == nil {
				return view
			}
		}
		os.RemoveAll(copied)
	}
	t.Fatal(err)
	return nil
}

func checkKilled(t *testing.T, crashed *vfs.Mem, view *checkpoint.View, want, most [4]int64, wantTxn int64) {
	t.Helper()
	s := NewScheduler(SchedulerOptions{})
	defer s.Close()
	v, _, err := view.Get(t.Context(), []byte("txn"))
	if err != nil {
		t.Fatal(err)
	}
	var committed int64
	fmt.Sscan(string(v), &committed)
	if committed < wantTxn {
		t.Errorf("transaction %d was acknowledged, the state says %d", wantTxn, committed)
	}
	seen := map[int64]int{}
	for i := range want {
		p, _, err := Open(Config{FS: crashed, Dir: fmt.Sprint("p", i), Scheduler: s}, nil, log.Proof{Logged: view.Frames(uint64(i + 1))})
		if err != nil {
			t.Fatal(err)
		}
		var own int64
		for _, v := range stored(t, p) {
			var k int64
			if _, err := fmt.Sscanf(v, "txn %d", &k); err == nil {
				seen[k]++
				continue
			}
			fmt.Sscanf(v, "own %d", &k)
			if k != own+1 {
				t.Fatalf("partition %d: %d follows %d", i, k, own)
			}
			own = k
		}
		if own < want[i] || own > most[i] {
			t.Errorf("partition %d: %d acknowledged, %d begun, %d there", i, want[i], most[i], own)
		}
		if err := p.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	for k := int64(1); k <= committed; k++ {
		if seen[k] != 2 {
			t.Errorf("transaction %d of %d has %d of its 2 outputs", k, committed, seen[k])
		}
		delete(seen, k)
	}
	if len(seen) > 0 {
		t.Errorf("outputs of transactions that have not happened: %v", seen)
	}
}
