package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/braid-go/braid"
	"github.com/braid-go/braid/fuzz/history"
	"github.com/braid-go/braid/fuzz/workload"
)

// story is one directory, from its making to the last reading: a number of children that work in it one after the other, and all that is known of it.
type story struct {
	seed    uint64
	scratch string
	command func() *exec.Cmd
	count   func(what string, n int)

	rng     *rand.Rand
	dir     string
	orders  orders
	past    *past
	made    bool // by a child that had opened it
	opening time.Duration
	lives   int
}

func newStory(seed uint64, scratch string, command func() *exec.Cmd, count func(string, int)) *story {
	rng := rand.New(rand.NewPCG(seed, 0))
	s := &story{seed: seed, scratch: scratch, command: command, count: count, rng: rng, dir: filepath.Join(scratch, "data"), past: newPast(), opening: 10 * time.Millisecond}
	s.orders = orders{
		Dir: s.dir, Durability: braid.Durability(max(0, rng.IntN(5)-2)), // mostly the default
		Keys: 1 + rng.IntN(40), Hurry: rng.IntN(2) == 0,
	}
	return s
}

// tell has so many children live and die, and judges after each; then both groups read to the end, and all of it is judged once more.
func (s *story) tell(ctx context.Context, lives int) error {
	for s.lives = range lives {
		if err := s.live(); err != nil {
			return fmt.Errorf("life %d: %w", s.lives, err)
		}
		if err := s.look(ctx); err != nil {
			return fmt.Errorf("after life %d: %w", s.lives, err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if err := s.finish(ctx); err != nil {
		return fmt.Errorf("in the end: %w", err)
	}
	return nil
}

// live has one child live.
func (s *story) live() error {
	l := &life{moment: randomMoment(s.rng, s.opening), orders: s.orders}
	l.Seed, l.Seq, l.Clients, l.IDs = s.rng.Uint64(), s.past.last(), s.past.clients, s.past.ids
	if l.closing {
		l.CloseAfter = time.Duration(1+s.rng.IntN(50)) * time.Millisecond
	}
	if l.moment.fault {
		l.Fault = randomFault(s.rng)
	}
	end, err := l.live(s.command)
	for _, e := range l.events {
		s.past.event(e)
	}
	s.past.learn(l.notes)
	if l.opened {
		s.made, s.opening = true, (3*s.opening+l.took)/4
	}
	if end != endedClosed {
		s.past.crash(false)
	}
	if err == nil {
		s.countEnd(end)
	}
	if l.failing() {
		s.count("faults: "+l.Fault.Kind, 1)
	}
	return err
}

func (s *story) countEnd(end ending) {
	switch end {
	case endedClosed:
		s.count("closed by the child", 1)
		return
	case endedByFault:
		s.count("given up for a fault", 1)
		return
	}
	s.count("kills", 1)
	s.count("kills, durability "+s.orders.Durability.String(), 1)
	switch end {
	case endedOpening:
		s.count("kills while opening", 1)
	case endedClosing:
		s.count("kills while closing", 1)
	}
}

// look judges what a life has left: read-only, or on a copy, in which it is recovered, so that the next child recovers it too.
func (s *story) look(ctx context.Context) error {
	if s.made && s.rng.IntN(2) == 0 {
		s.count("looked at read-only", 1)
		return s.judge(ctx, s.dir, braid.Options{ReadOnly: true})
	}
	s.count("recovered", 1)
	dir := filepath.Join(s.scratch, "copy")
	err := os.RemoveAll(dir)
	if err == nil {
		err = os.CopyFS(dir, os.DirFS(s.dir))
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) { // it was killed before it had made the directory
		return err
	}
	return s.judge(ctx, dir, braid.Options{})
}

func (s *story) judge(ctx context.Context, dir string, opts braid.Options) error {
	b, err := braid.Open(dir, opts)
	if err != nil {
		return err
	}
	_, err = s.past.judge(ctx, b)
	return errors.Join(err, b.Close())
}

// finish opens the directory itself, has the groups read to the end, and judges.
func (s *story) finish(ctx context.Context) error {
	b, err := braid.Open(s.dir, braid.Options{})
	if err != nil {
		return err
	}
	report, err := s.drain(ctx, b)
	if err == nil {
		var verified *braid.VerifyReport
		if verified, err = b.Verify(ctx, braid.VerifyOptions{}); err == nil {
			err = errors.Join(verified.Problems()...)
		}
	}
	if err := errors.Join(err, b.Close()); err != nil {
		return err
	}
	s.count("histories", 1)
	s.count("events", report.Events)
	for what, n := range report.Outcomes {
		s.count("operations", int(n))
		s.count(what, int(n))
	}
	return nil
}

// drain has the groups read to the end, and judges.
func (s *story) drain(ctx context.Context, b *braid.Broker) (*history.Report, error) {
	in, err1 := b.EnsureTopic(ctx, topicIn, braid.TopicConfig{})
	out, err2 := b.EnsureTopic(ctx, topicOut, braid.TopicConfig{})
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	rec := history.Resume(s.past.last(), s.past.clients, s.past.event)
	rec.Reopened()
	var failed error
	load := &workload.Load{Seed: s.seed, Keys: s.orders.Keys, Recorder: rec, Broker: b, In: in, Out: out, Failed: func(err error) bool { failed = errors.Join(failed, err); return false }}
	load.StartIDs(s.past.ids)
	if err := errors.Join(load.Drain(ctx, workload.Readers), load.Drain(ctx, workload.Workers), failed); err != nil {
		return nil, err
	}
	return s.past.judge(ctx, b)
}

// store keeps what there is of it.
func (s *story) store(to string) error {
	data := os.CopyFS(filepath.Join(to, "data"), os.DirFS(s.dir))
	if errors.Is(data, os.ErrNotExist) { // nobody has made it
		data = nil
	}
	about, err := json.MarshalIndent(s.orders, "", "\t")
	return errors.Join(data, err, os.WriteFile(filepath.Join(to, "orders"), about, 0o600), s.past.store(to))
}
