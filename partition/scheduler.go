package partition

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/braid-go/braid/checkpoint"
	"github.com/braid-go/braid/log"
)

// Journal is a commit log: frames of several partitions, and state, become durable in it with one sync. It is
// *checkpoint.WAL, or *checkpoint.Memory.
type Journal interface {
	CommitFrames(context.Context, *checkpoint.Batch, checkpoint.Carrier) (checkpoint.Revision, error)
	// Busy: something is waiting or being written, so that a frame would share its sync.
	Busy() bool
	// Crowded: frames had better be synced elsewhere.
	Crowded() bool
	// Sequence is the highest sequence that is durable.
	Sequence() uint64
}

// SchedulerOptions configures a Scheduler.
type SchedulerOptions struct {
	Mode log.Mode
	// SyncInterval is how often log.ModeInterval syncs. Default 100 ms.
	SyncInterval time.Duration
	// Gather is how long an appender waits, at most, for as many requests as the last round had, so
	// that publishers that were woken together are synced together; nor does it wait longer than half of what the last round
	// took, since that would cost more than it saves. Default 200 µs; negative: not at all. Only log.ModeFsync gathers.
	Gather time.Duration
}

// Scheduler decides, for all partitions of a broker, how what has been appended becomes durable.
type Scheduler struct {
	opts SchedulerOptions

	journal atomic.Pointer[Journal]
	active  atomic.Int32 // partitions that are storing a round
	device  busy         // somebody waits for a sync
	ahead   atomic.Int64 // bytes of requests that are encoded ahead

	mu      sync.Mutex
	dirty   []*Partition            // ModeInterval: written to since the last sync
	carried map[*Partition]struct{} // frames of theirs are in the journal

	requests requestPool
	builders builderPool

	runners runners

	stop chan struct{}
	wg   sync.WaitGroup
	once sync.Once
}

// NewScheduler returns a scheduler; Close ends it.
func NewScheduler(opts SchedulerOptions) *Scheduler {
	if opts.SyncInterval == 0 {
		opts.SyncInterval = 100 * time.Millisecond
	}
	if opts.Gather == 0 {
		opts.Gather = 200 * time.Microsecond
	}
	if opts.Mode != log.ModeFsync {
		opts.Gather = 0
	}
	s := &Scheduler{opts: opts, stop: make(chan struct{}), carried: map[*Partition]struct{}{}}
	if opts.Mode == log.ModeInterval {
		s.wg.Go(s.run)
	}
	return s
}

// Close ends the scheduler's goroutines, after a last sync. The partitions are to be closed before.
func (s *Scheduler) Close() {
	s.once.Do(func() { close(s.stop) })
	s.wg.Wait()
	s.runners.close()
}

// run syncs what has been written to, from time to time.
func (s *Scheduler) run() {
	ticker := time.NewTicker(s.opts.SyncInterval)
	defer ticker.Stop()
	for {
		select {
		case <-s.stop:
			s.syncDirty()
			return
		case <-ticker.C:
			s.syncDirty()
		}
	}
}

func (s *Scheduler) syncDirty() {
	s.mu.Lock()
	dirty := s.dirty
	s.dirty = nil
	s.mu.Unlock()
	for _, p := range dirty {
		runtime.Gosched() // as in Settle
		p.dirty.Store(false)
		p.syncs.Add(1)
		_ = p.log.Sync() // a failure stays in the log, and the next publish tells
	}
}

// SetJournal has rounds share the syncs of a commit log. The journal's Settle is the scheduler's.
func (s *Scheduler) SetJournal(j Journal) { s.journal.Store(&j) }

func (s *Scheduler) provenSequence() uint64 {
	if j := s.journal.Load(); j != nil {
		return (*j).Sequence()
	}
	return 0
}

// directBytes is the size from which on a round syncs its own segment: writing so much twice costs more than a sync.
const directBytes = 256 << 10

// shared decides how a round of a partition becomes durable: true means by way of the journal.
//
// What has to be synced anyway takes others along: if another partition is at it, or the journal, one sync does for all. One
// partition alone writes and syncs its segment, which is one write less. While frames of the partition are in the
// journal and not in the segment, or are about to be, there is no choice: offsets are in order on one path only.
//
// flying says that the partition has a sync of its own under way: what is written meanwhile shares the next one.
func (s *Scheduler) shared(p *Partition, bytes int64, flying bool) bool {
	j := s.journal.Load()
	switch {
	case j == nil:
		return false
	case p.txns.Load() > 0 || !p.pending.none():
		return true
	case s.opts.Mode != log.ModeFsync || bytes >= directBytes || flying || (*j).Crowded():
		return false
	}
	return s.active.Load() > 1 || (*j).Busy()
}

// carries notes that the journal has frames of a partition, until they are settled.
func (s *Scheduler) carries(p *Partition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.carried[p] = struct{}{}
}

// Settle makes durable in the segments all frames that the journal has carried so far, and returns the partitions for which that
// is not possible: their frames have to stay in the journal.
func (s *Scheduler) Settle() (keep []uint64) {
	s.mu.Lock()
	carried := s.carried
	s.carried = map[*Partition]struct{}{}
	s.mu.Unlock()
	for p := range carried {
		runtime.Gosched() // as vfs.Background: what is queued behind this goroutine need not wait for all of the syncs
		p.apply()
		if err := p.log.Sync(); err != nil {
			s.carries(p)
			keep = append(keep, uint64(p.ID()))
		}
	}
	return keep
}

// commit makes what has been written to the partition's own segment as safe as the mode says.
func (s *Scheduler) commit(p *Partition) error {
	switch s.opts.Mode {
	case log.ModeFsync:
		p.syncs.Add(1)
		s.device.begin()
		defer s.device.end()
		return p.log.Sync()
	case log.ModeInterval:
		if !p.dirty.Swap(true) {
			s.mu.Lock()
			s.dirty = append(s.dirty, p)
			s.mu.Unlock()
		}
	}
	return nil
}

// commitFrames has the journal make frames durable.
func (s *Scheduler) commitFrames(ctx context.Context, b *checkpoint.Batch, c checkpoint.Carrier) (checkpoint.Revision, error) {
	s.device.begin()
	defer s.device.end()
	return (*s.journal.Load()).CommitFrames(ctx, b, c)
}

// Syncing returns for how long, since the beginning, at least one round or transaction has been waiting for a sync. What of a stretch of time that is says how busy
// the device is: a device that is always at it gives partitions more only if they share its syncs better.
func (s *Scheduler) Syncing() time.Duration { return s.device.total() }

// busy measures the time in which there is at least one of something.
type busy struct {
	mu    sync.Mutex
	n     int
	since time.Time // when n became 1
	sum   time.Duration
}

func (b *busy) begin() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.n++; b.n == 1 {
		b.since = time.Now()
	}
}

func (b *busy) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.n--; b.n == 0 {
		b.sum += time.Since(b.since)
	}
}

func (b *busy) total() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.n > 0 {
		return b.sum + time.Since(b.since)
	}
	return b.sum
}
