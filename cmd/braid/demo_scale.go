package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/braid-go/braid"
	"github.com/braid-go/braid/scaler"
)

const (
	scaleCustomers = 500
	scaleTick      = 100 * time.Millisecond // how often a batch is published
	// The peak is the work of a little more than three members, each with so many handlers.
	scaleMembers, scaleHandlers = 4, 8
	scaleBusy                   = 3.2
)

// scaleDemo is a run of the demo of scaling.
type scaleDemo struct {
	ctx  context.Context
	peak int
	slow bool
	rng  *rand.Rand

	made  [scaleCustomers]int // orders published, by customer
	began time.Time

	mu       sync.Mutex // guards the fields below
	out      *bufio.Writer
	got      [scaleCustomers]int // orders handled, by customer
	handled  int
	disorder error
	steps    map[scaler.Action]int
}

func newScaleDemo(ctx context.Context, out *bufio.Writer, peak int, seed uint64, slow bool) *scaleDemo {
	return &scaleDemo{ctx: ctx, out: out, peak: peak, slow: slow, rng: rand.New(rand.NewPCG(seed, 1)), steps: map[scaler.Action]int{}}
}

// say prints a line with the time since the beginning.
func (s *scaleDemo) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	since := time.Since(s.began).Truncate(time.Second)
	fmt.Fprintf(s.out, "%6s  %s\n", since, fmt.Sprintf(format, args...))
	_ = s.out.Flush() // somebody watches; an error comes again at the end
}

// scaled tells of a step of a scaler.
func (s *scaleDemo) scaled(_ string, d scaler.Decision) {
	what := ""
	switch d.Action {
	case scaler.Split:
		what = fmt.Sprintf("SPLIT  %d", d.Partition)
	case scaler.Merge:
		what = fmt.Sprintf("MERGE  %d and %d", d.Partition, d.Neighbor)
	case scaler.Resize:
		what = count(d.Consumers, "consumer")
	}
	s.mu.Lock()
	s.steps[d.Action]++
	s.mu.Unlock()
	if d.Err != nil {
		s.say("%s failed: %v", what, d.Err)
		return
	}
	s.say("%s: %s", what, d.Reason)
}

// run publishes and consumes, and shows the partitions at the peak and at the end.
func (s *scaleDemo) run(dir string, opts braid.Options) (err error) {
	s.began = time.Now()
	opts.OnScaled = s.scaled
	b, err := braid.Open(dir, opts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	topic, err := b.CreateTopic(s.ctx, "orders", braid.TopicConfig{AutoScale: true, RetentionBytes: 256 << 20, Scaling: s.policy()})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(s.ctx)
	consumed := make(chan error, 1)
	go func() {
		consumed <- topic.Consume(ctx, "billing", braid.ConsumeOptions{MaxMembers: scaleMembers, Concurrency: scaleHandlers}, s.handle)
	}()
	err = s.load(topic)
	stop()
	if err = errors.Join(err, <-consumed, s.disorder); err != nil {
		return err
	}
	return s.check(topic)
}

// policy is what the topic scales by.
func (s *scaleDemo) policy() scaler.Policy {
	p := scaler.Policy{TargetRecords: float64(s.peak) / 4, TargetBytes: braid.Unlimited, MaxLag: 2 * time.Second, ConsumerCooldown: 5 * time.Second}
	if !s.slow {
		p.ShortWindow, p.MediumWindow, p.LongWindow = 2*time.Second, 4*time.Second, 8*time.Second
		p.SplitCooldown, p.MergeCooldown = 2*time.Second, 2*time.Second
		p.MaxLag, p.ConsumerCooldown, p.QuietWindow = time.Second, 2*time.Second, 10*time.Second
	}
	return p
}

// load is what is published over the time.
func (s *scaleDemo) load(topic *braid.Topic) error {
	ramp, top := 15*time.Second, 10*time.Second
	if s.slow {
		ramp, top = 2*time.Minute, 90*time.Second
	}
	s.say("from %s to %s orders a second in %v; one partition is to carry %s", thousands(int64(s.peak/20)), thousands(int64(s.peak)), ramp, thousands(int64(s.peak/4)))
	if err := s.publish(topic, ramp, func(t float64) float64 { return float64(s.peak) * (0.05 + 0.95*t) }, nil); err != nil {
		return err
	}
	s.say("%v at the peak", top)
	if err := s.publish(topic, top, func(float64) float64 { return float64(s.peak) }, nil); err != nil {
		return err
	}
	if err := s.show(topic, "the partitions at the peak"); err != nil {
		return err
	}
	s.say("quiet: %d orders a second, until one partition is left and the consumers have caught up", s.peak/200)
	done := func() bool { return active(topic) == 1 && s.behind() <= s.peak/100 }
	if err := s.publish(topic, time.Hour, func(float64) float64 { return float64(s.peak / 200) }, done); err != nil {
		return err
	}
	return s.show(topic, "the partitions at the end")
}

// publish publishes at a rate, which depends on how much of the time has passed, until the time is over or done says so.
func (s *scaleDemo) publish(topic *braid.Topic, over time.Duration, rate func(part float64) float64, done func() bool) error {
	ticker := time.NewTicker(scaleTick)
	defer ticker.Stop()
	due, begin := 0.0, time.Now()
	for last := begin; ; {
		var now time.Time
		select {
		case <-s.ctx.Done():
			return s.ctx.Err()
		case now = <-ticker.C:
		}
		if now.Sub(begin) >= over || done != nil && done() {
			return nil
		}
		due += rate(now.Sub(begin).Seconds()/over.Seconds()) * now.Sub(last).Seconds()
		last = now
		recs := make([]*braid.Record, int(due))
		due -= float64(len(recs))
		for i := range recs {
			customer := s.rng.IntN(scaleCustomers)
			recs[i] = &braid.Record{Key: strconv.AppendInt(nil, int64(customer), 10), Value: strconv.AppendInt(nil, int64(s.made[customer]), 10)}
			s.made[customer]++
		}
		if err := topic.Publish(s.ctx, recs...); err != nil {
			return err
		}
	}
}

// handle takes a customer's next order. The work that an order would be is a wait.
func (s *scaleDemo) handle(_ context.Context, rec *braid.Record) error {
	time.Sleep(time.Duration(scaleHandlers * scaleBusy / float64(s.peak) * float64(time.Second)))
	customer, err := strconv.Atoi(string(rec.Key))
	number, err2 := strconv.Atoi(string(rec.Value))
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if want := s.got[customer]; number > want && s.disorder == nil {
		s.disorder = fmt.Errorf("customer %d: order %d came where %d was next", customer, number, want)
	} else if number == want {
		s.got[customer]++
		s.handled++
	}
	return nil
}

func active(topic *braid.Topic) (n int) {
	for _, p := range topic.Partitions() {
		if !p.Sealed {
			n++
		}
	}
	return n
}

// show draws the partitions.
func (s *scaleDemo) show(topic *braid.Topic, what string) error {
	s.say("%s:", what)
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintln(s.out)
	parts := topic.Partitions()
	nodes := nodes(parts)
	for i, p := range parts {
		if !p.Sealed {
			nodes[i].Rate = &p.Rate.Records
		}
	}
	err := printPartitions(s.out, nodes, true)
	fmt.Fprintln(s.out)
	return errors.Join(err, s.out.Flush())
}

// behind is how many orders have not been handled.
func (s *scaleDemo) behind() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := -s.handled
	for _, made := range s.made {
		n += made
	}
	return n
}

// check says whether everything came.
func (s *scaleDemo) check(topic *braid.Topic) error {
	all := 0
	for _, n := range s.made {
		all += n
	}
	g, err := topic.Group("billing")
	if err != nil {
		return err
	}
	d, err := g.Describe(s.ctx)
	if err != nil {
		return err
	}
	if s.handled+int(d.Records) < all {
		return fmt.Errorf("of %d orders %d were handled and %d are left", all, s.handled, d.Records)
	}
	s.say("%s, %s, %s. %s published, %s handled in their customers' order, %d still to come", count(s.steps[scaler.Split], "split"),
		count(s.steps[scaler.Merge], "merge"), count(s.steps[scaler.Resize], "change")+" of the consumers", thousands(int64(all)), thousands(int64(s.handled)), d.Records)
	if s.steps[scaler.Split] == 0 || s.steps[scaler.Merge] != s.steps[scaler.Split] {
		return errors.New("the partitions did not follow the load")
	}
	fmt.Fprintln(s.out, "\nall checks passed")
	return s.out.Flush()
}
