package scaler

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/braid-go/braid/internal/sorting"
)

const (
	// DefaultEvery is how often a Loop measures, unless a fifth of the policy's ShortWindow is less.
	DefaultEvery = 2 * time.Second
	// A Loop remembers so many decisions to do something, and so many others.
	keptSteps, keptIdle = 64, 32
)

// Topic is what a Loop measures and changes. Its methods are called one at a time.
type Topic interface {
	Measure(ctx context.Context) (Snapshot, error)
	// Split cuts d.Partition, which is active, in two: d.At is the first hash of the upper child.
	Split(ctx context.Context, d Decision) error
	// Merge joins two active neighbours, d.Partition, which is the lower one, and d.Neighbor.
	Merge(ctx context.Context, d Decision) error
	// Resize lets d.Group have d.Consumers.
	Resize(ctx context.Context, d Decision) error
}

// Options are a Loop's. The zero value of a field is its default.
type Options struct {
	Policy   Policy
	Every    time.Duration    // between measurements; default: see DefaultEvery
	Now      func() time.Time // the clock; default time.Now
	OnScaled func(Decision)   // called after each step that was carried out or failed, before the next; it must not call Tick
}

// Loop measures a topic, decides, and carries the decision out: one step at a time. Its methods are safe for concurrent use.
type Loop struct {
	topic Topic
	opts  Options

	step    chan struct{} // holds a token during a tick, which owns history
	history History

	mu     sync.Mutex
	policy Policy
	steps  []Decision
	idle   []Decision
}

// NewLoop returns a loop that does nothing until Run or Tick is called. It fails with a [*PolicyError].
func NewLoop(topic Topic, opts Options) (*Loop, error) {
	policy, err := opts.Policy.Resolve()
	if err != nil {
		return nil, err
	}
	if opts.Every < 0 {
		return nil, &PolicyError{"Every", opts.Every, "must be positive"}
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	return &Loop{topic: topic, opts: opts, policy: policy, step: make(chan struct{}, 1)}, nil
}

// Run ticks until ctx ends, and returns its error. A step that is being carried out is given ctx, and Run returns when it has returned.
// Time that a step takes is not caught up.
func (l *Loop) Run(ctx context.Context) error {
	every := l.every()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
			if ctx.Err() == nil {
				l.Tick(ctx)
			}
		}
		if now := l.every(); now != every {
			every = now
			ticker.Reset(every)
		}
	}
}

// every is how long it is from one measurement to the next.
func (l *Loop) every() time.Duration {
	if l.opts.Every > 0 {
		return l.opts.Every
	}
	policy := l.Policy()
	return min(DefaultEvery, policy.ShortWindow/5)
}

// Tick measures once, decides, carries the decision out and returns it with the outcome. What fails is in its Err, becomes
// part of later reasons, and is tried again after 5 s, 10 s and so on up to 5 min. While another Tick is at work it waits, bounded by ctx.
func (l *Loop) Tick(ctx context.Context) Decision {
	select {
	case l.step <- struct{}{}:
		defer func() { <-l.step }()
	case <-ctx.Done():
		return Decision{Time: l.opts.Now(), Reason: fmt.Sprintf("nothing: another step is in flight: %v", ctx.Err()), Err: ctx.Err()}
	}
	snap, err := l.topic.Measure(ctx)
	now := l.opts.Now()
	if err != nil {
		d := Decision{Time: now, Reason: fmt.Sprintf("nothing: measuring failed: %v", err), Err: err}
		l.remember(d)
		return d
	}
	policy := l.Policy()
	l.history.Observe(snap, policy, now)
	d := Decide(snap, policy, &l.history, now)
	if d.Action != None {
		d.Err = l.carryOut(ctx, d)
		end := l.opts.Now()
		d.Took = end.Sub(now)
		l.history.Done(d, d.Err, end)
	}
	l.remember(d)
	if d.Action != None && l.opts.OnScaled != nil {
		l.opts.OnScaled(d)
	}
	return d
}

func (l *Loop) carryOut(ctx context.Context, d Decision) error {
	switch d.Action {
	case Split:
		return l.topic.Split(ctx, d)
	case Merge:
		return l.topic.Merge(ctx, d)
	}
	return l.topic.Resize(ctx, d)
}

func (l *Loop) remember(d Decision) {
	l.mu.Lock()
	defer l.mu.Unlock()
	kept, most := &l.idle, keptIdle
	if d.Action != None {
		kept, most = &l.steps, keptSteps
	}
	if len(*kept) == most {
		*kept = slices.Delete(*kept, 0, 1)
	}
	*kept = append(*kept, d)
}

// Explain returns the last decisions, the oldest first: the last 64 steps, however long ago, and the last 32 decisions not to take one.
func (l *Loop) Explain() []Decision {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := slices.Concat(l.steps, l.idle)
	sorting.StableFunc(all, func(a, b Decision) int { return a.Time.Compare(b.Time) })
	return all
}

// Policy returns the policy in force, with its defaults filled in.
func (l *Loop) Policy() Policy {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.policy
}

// SetPolicy changes the policy from the next tick on. It fails with a [*PolicyError], and then nothing has changed.
func (l *Loop) SetPolicy(p Policy) error {
	p, err := p.Resolve()
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.policy = p
	return nil
}

// String tells a decision in one line.
func (d Decision) String() string {
	s := d.Time.Format("15:04:05.000 ")
	switch d.Action {
	case None:
		return s + d.Reason
	case Split:
		s += fmt.Sprintf("split %d at %#x", d.Partition, d.At)
	case Merge:
		s += fmt.Sprintf("merge %d and %d", d.Partition, d.Neighbor)
	case Resize:
		s += fmt.Sprintf("%d consumers for %q", d.Consumers, d.Group)
	}
	s += ": " + d.Reason
	if d.Err != nil {
		s += ": failed: " + d.Err.Error()
	}
	return s
}
