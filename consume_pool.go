package braid

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/braid-go/braid/scaler"
)

// pool are the members of a Consume. It begins with ConsumeOptions.Members. If there may be more, a scaler of its own
// adds one while the group is behind and takes one away when it has been quiet; a member that is taken away lets its handlers
// finish and commits, as at the end of Consume.
type pool struct {
	t      *Topic
	group  string
	opts   ConsumeOptions
	dead   *Topic
	handle Handler

	ctx  context.Context // of polling
	stop context.CancelFunc
	done chan struct{} // closed when the last member has ended
	loop *scaler.Loop  // nil if the pool stays as it is

	mu      sync.Mutex
	members []*poolMember // without those that are to end
	running int           // with them
	errs    []error
}

type poolMember struct {
	*consumer
	retire  context.CancelFunc
	retired bool
}

func newPool(ctx context.Context, t *Topic, groupName string, opts ConsumeOptions, dead *Topic, handle Handler) *pool {
	p := &pool{t: t, group: groupName, opts: opts, dead: dead, handle: handle, done: make(chan struct{})}
	p.ctx, p.stop = context.WithCancel(ctx)
	return p
}

// run runs the pool until ctx ends or a member does that was not told to.
func (p *pool) run() error {
	defer p.stop()
	first := make([]*consumer, p.opts.Members)
	for i := range first {
		c, err := p.join()
		if err != nil {
			for _, c := range first[:i] {
				c.sub.Close()
			}
			return err
		}
		first[i] = c
	}
	p.mu.Lock()
	for _, c := range first {
		p.start(c)
	}
	p.mu.Unlock()
	if p.opts.MaxMembers > p.opts.Members {
		ended, err := p.scale()
		if err != nil {
			p.stop()
			<-p.done
			return errors.Join(append(p.errs, err)...)
		}
		defer ended()
	}
	<-p.done
	return errors.Join(p.errs...)
}

func (p *pool) join() (*consumer, error) {
	return newConsumer(p.ctx, p.t, p.group, p.opts, p.dead, p.handle)
}

// start runs a member. The caller holds mu.
func (p *pool) start(c *consumer) {
	ctx, retire := context.WithCancel(p.ctx)
	m := &poolMember{consumer: c, retire: retire}
	p.members = append(p.members, m)
	p.running++
	go func() {
		defer retire()
		p.ended(m, c.run(ctx))
	}()
}

// ended notes that a member has ended. One that was not told to ends all.
func (p *pool) ended(m *poolMember, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if m.retired && errors.Is(err, errDrain) { // others are given again what it has not finished
		p.t.b.opts.Logger.Warn("a consumer that was taken away had handlers that did not end in time", "topic", p.t.name, "group", p.group)
		err = nil
	}
	p.errs = append(p.errs, err)
	if !m.retired || err != nil {
		p.stop()
	}
	if !m.retired {
		p.members = slices.DeleteFunc(p.members, func(o *poolMember) bool { return o == m })
	}
	if p.running--; p.running == 0 {
		close(p.done)
	}
}

// scale starts the pool's scaler. The function that it returns waits until that has ended, which it does when the pool does.
func (p *pool) scale() (ended func(), err error) {
	policy, err := p.policy()
	if err != nil {
		return nil, err
	}
	p.loop, err = scaler.NewLoop((*elastic)(p), scaler.Options{Policy: policy, OnScaled: p.t.onScaled})
	if err != nil {
		return nil, err
	}
	p.t.pools.Store(p, struct{}{})
	var wg sync.WaitGroup
	wg.Go(func() { _ = p.loop.Run(p.ctx) })
	return func() {
		wg.Wait()
		p.t.pools.Delete(p)
	}, nil
}

// policy is what the pool's scaler works by: the topic's, with no more consumers than the pool may have.
func (p *pool) policy() (scaler.Policy, error) {
	config := p.t.Config()
	config.Scaling.MaxConsumers = min(p.opts.MaxMembers, defaulted(config.Scaling.MaxConsumers, p.opts.MaxMembers))
	return config.policy(p.t.b.Limits())
}

// elastic is a pool as its scaler sees it.
type elastic pool

// Measure implements scaler.Topic.
func (e *elastic) Measure(ctx context.Context) (scaler.Snapshot, error) {
	p := (*pool)(e)
	policy, err := p.policy() // the topic's configuration may have changed
	if err == nil {
		err = p.loop.SetPolicy(policy)
	}
	if err != nil {
		return scaler.Snapshot{}, err
	}
	p.mu.Lock()
	members := slices.Clone(p.members)
	p.mu.Unlock()
	g := scaler.Group{Name: p.group, Consumers: len(members), Min: p.opts.Members}
	for i, m := range members {
		if i == 0 {
			g.Free = m.sub.coordinator.spare()
		}
		lag, err := m.sub.longestLag(ctx)
		if err != nil {
			return scaler.Snapshot{}, err
		}
		g.Lag = max(g.Lag, lag)
	}
	return scaler.Snapshot{Fixed: true, Groups: []scaler.Group{g}}, nil
}

// Resize implements scaler.Topic. It does not wait for members that are to end.
func (e *elastic) Resize(_ context.Context, d scaler.Decision) error {
	p, consumers := (*pool)(e), d.Consumers
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.members) > consumers {
		last := p.members[len(p.members)-1]
		p.members = p.members[:len(p.members)-1]
		last.retired = true
		last.retire()
	}
	for len(p.members) < consumers {
		p.mu.Unlock()
		c, err := p.join()
		p.mu.Lock()
		if err != nil {
			return err
		}
		if p.running == 0 { // Consume has ended meanwhile
			return errors.Join(ErrClosed, c.sub.Close())
		}
		p.start(c)
	}
	return nil
}

// Split implements scaler.Topic.
func (e *elastic) Split(context.Context, scaler.Decision) error { return errors.ErrUnsupported }

// Merge implements scaler.Topic.
func (e *elastic) Merge(context.Context, scaler.Decision) error { return errors.ErrUnsupported }

// spare is how many more members would each find a partition.
func (c *coordinator) spare() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.g.Spare()
}

// longestLag is the time by which the member is behind where it is furthest behind.
func (s *Subscription) longestLag(ctx context.Context) (longest time.Duration, err error) {
	lags, err := s.Lag(ctx)
	for _, l := range lags {
		longest = max(longest, l.Time)
	}
	return longest, err
}
