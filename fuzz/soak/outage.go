package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/braid-go/braid"
	"github.com/braid-go/braid/fuzz/history"
	"github.com/braid-go/braid/fuzz/power"
	"github.com/braid-go/braid/internal/hook"
	"github.com/braid-go/braid/internal/vfs"
)

// outages is a broker that does what a child does, in a directory of which the partitions are in a file system in memory: its power fails, again and again, before some operation of that. What was
// synced is left, with any part of the rest, and the commit log may be torn. Now and then the broker only dies, which leaves what was written, and the power
// fails later.
type outages struct {
	orders
	rng   *rand.Rand
	past  *past
	disk  *power.Disk
	below func(vfs.FS) vfs.FS // what the broker gets instead of the disk, if not nil
	count func(what string)

	gate sync.Mutex   // held by who records an event, and while it is noted what is left
	told atomic.Int64 // how many events and notes there are, for who does not hold the gate
	dead atomic.Bool
	down chan struct{} // closed when it has happened
}

// runOutages is a child of which the power fails so often, and which looks at what is left itself. It runs apart from the parent so that a panic is a failure like any other.
func runOutages(o orders, v *voice) int {
	s := &outages{orders: o, rng: rand.New(rand.NewPCG(o.Seed, 0)), past: newPast(), count: func(what string) { v.note(note{What: noteCount, Topic: what}) }}
	if err := s.run(context.Background()); err != nil {
		v.note(note{What: noteFailed, Error: fmt.Sprintf("%.2500s", err)})
	}
	return 0
}

func (s *outages) run(ctx context.Context) error {
	var err error
	if s.disk, err = power.NewDisk(s.Dir, s.rng, func() int { return int(s.told.Load()) }); err != nil {
		return err
	}
	s.disk.Crashing = func() func() {
		s.gate.Lock()
		return func() {
			s.dead.Store(true)
			close(s.down)
			s.gate.Unlock()
		}
	}
	for n := range s.Outages {
		cut, err := s.outage()
		if err != nil {
			return fmt.Errorf("outage %d: %w", n, err)
		}
		if s.rng.IntN(3) == 0 && n < s.Outages-1 {
			continue // the next one finds it as it is
		}
		before := cut.Mem.CrashClone(vfs.CrashOptions{})
		if err := s.look(ctx); err != nil {
			return errors.Join(fmt.Errorf("after outage %d, %s: %w", n, cut.What, err), s.store(cut, before))
		}
	}
	return nil
}

// fs is the file system of the partitions.
func (s *outages) fs() vfs.FS {
	if s.below != nil {
		return s.below(s.disk.FS())
	}
	return s.disk.FS()
}

// outage has a broker live until its power fails.
func (s *outages) outage() (*power.Cut, error) {
	s.dead.Store(false)
	s.down = make(chan struct{})
	after := int(math.Pow(600, s.rng.Float64()))
	fails := s.rng.IntN(4) > 0
	early := s.rng.IntN(3) == 0
	if early {
		s.disk.Arm(after/10, fails)
	}
	c := &child{orders: s.orders, event: s.event, tell: s.note, fs: s.fs(), excuses: func(error) bool { return s.dead.Load() }}
	c.Seed, c.Seq, c.Clients, c.IDs = s.rng.Uint64(), s.past.last(), s.past.clients, s.past.ids
	err := c.open()
	opened := err == nil
	if err != nil && !c.failed(err) {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if opened {
		if !early {
			s.disk.Arm(after, fails)
		}
		c.start(ctx)
		select {
		case <-s.down:
		case <-time.After(longest):
		}
	}
	cut, err := s.disk.Crash(fails, func() {
		cancel()
		if b := c.load.Broker; b != nil {
			_ = b.Close() // it is dead
		}
		c.work.Wait()
	})
	s.past.crash(fails)
	s.countCut(cut, fails, opened)
	return cut, err
}

func (s *outages) countCut(c *power.Cut, fails, opened bool) {
	if !fails {
		s.count("deaths between power cuts")
		return
	}
	s.count("power cuts")
	if c.Torn {
		s.count("power cuts, the commit log torn")
	}
	if !opened {
		s.count("power cuts while opening")
	}
}

// event takes an event, unless it is too late. While it is noted what is left nobody gets past here, so that what has an effect has been recorded, and what was recorded as
// acknowledged was so before.
func (s *outages) event(e history.Event) {
	s.gate.Lock()
	defer s.gate.Unlock()
	if !s.dead.Load() {
		s.past.event(e)
		s.told.Add(1)
	}
}

func (s *outages) note(n note) {
	s.gate.Lock()
	defer s.gate.Unlock()
	if !s.dead.Load() {
		s.past.learn([]note{n})
		s.told.Add(1)
		if n.What == noteFailed {
			s.past.failed = errors.Join(s.past.failed, errors.New(n.Error))
		}
	}
}

// look opens what is left, and compares it with the past.
func (s *outages) look(ctx context.Context) error {
	s.dead.Store(false)
	if s.past.failed != nil {
		return s.past.failed
	}
	opts := braid.Options{}
	hook.FS(&opts, s.fs())
	b, err := braid.Open(s.Dir, opts)
	if err != nil {
		return err
	}
	_, err = s.past.judge(ctx, b)
	return errors.Join(err, b.Close())
}

// store keeps what a power cut has left, and the history.
func (s *outages) store(c *power.Cut, mem vfs.FS) error {
	to := filepath.Join(s.Keep, "data")
	return errors.Join(c.Restore(to), copyFrom(mem, s.Dir, to), s.past.store(s.Keep))
}

// copyFrom copies a directory out of a file system.
func copyFrom(fsys vfs.FS, from, to string) error {
	entries, err := fsys.List(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		name, target := from+"/"+e.Name(), filepath.Join(to, e.Name())
		if e.IsDir() {
			err = errors.Join(os.MkdirAll(target, 0o700), copyFrom(fsys, name, target))
		} else {
			var content []byte
			if content, err = vfs.ReadFile(fsys, name, e.Size()); err == nil {
				err = os.WriteFile(target, content, 0o600)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}
