package partition

import (
	"sync"
	"time"

	"github.com/braid-go/braid/log"
)

// SchedulerOptions configures a Scheduler.
type SchedulerOptions struct {
	Mode log.Mode
	// SyncInterval is how often log.ModeInterval syncs. Default 100 ms.
	SyncInterval time.Duration
	// Gather is how long an appender waits, at most, for as many requests as the last round had, so
	// that publishers that were woken together are synced together. Default 30 µs, which is a small
	// part of what a sync takes; negative: not at all. Only log.ModeFsync gathers.
	Gather time.Duration
}

// Scheduler decides, for all partitions of a broker, how what has been appended becomes durable.
type Scheduler struct {
	opts SchedulerOptions

	mu    sync.Mutex
	dirty []*Partition // ModeInterval: written to since the last sync

	requests requestPool

	callers sync.Map // ids of the goroutines that run callbacks

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
		opts.Gather = 30 * time.Microsecond
	}
	if opts.Mode != log.ModeFsync {
		opts.Gather = 0
	}
	s := &Scheduler{opts: opts, stop: make(chan struct{})}
	if opts.Mode == log.ModeInterval {
		s.wg.Go(s.run)
	}
	return s
}

// Close ends the scheduler's goroutine, after a last sync. The partitions are to be closed before.
func (s *Scheduler) Close() {
	s.once.Do(func() { close(s.stop) })
	s.wg.Wait()
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
		p.dirty.Store(false)
		p.syncs.Add(1)
		_ = p.log.Sync() // a failure stays in the log, and the next publish tells
	}
}

// commit makes the frames in b as safe as the mode says, and returns nil when they are stored. It is called by
// the partition's appender. This is the seam: everything about when and how durability is reached, for one partition or for several at a
// time, is behind it.
func (s *Scheduler) commit(p *Partition, b *log.Builder) error {
	if err := p.log.Write(b); err != nil {
		return err
	}
	switch s.opts.Mode {
	case log.ModeFsync:
		p.syncs.Add(1)
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
