package braid

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/braid-go/braid/backpressure"
)

// BackpressureState says how full queues are: Normal, Warning, Critical or Shedding, at 70, 85 and 95 % of what TopicConfig.Backpressure allows unless that
// says otherwise.
type BackpressureState = backpressure.State

// BackpressureEvent is a change of the state of a partition, a topic or the broker. Topics and the broker are as their worst partition is.
type BackpressureEvent struct {
	Time              time.Time
	Topic             string      // "" for the broker
	Partition         PartitionID // 0 for a topic and for the broker
	Previous, Current BackpressureState
	// Records and Bytes were queued in the partition whose change it was, which is At for a topic and the broker.
	Records int
	Bytes   int64
	At      PartitionID
	// Missed is how many events before this one were not delivered, because the listener was too slow for more than 10,000 of them.
	Missed int
}

// Subsystem names what has changed: "broker", "topic orders" or "topic orders partition 3".
func (e BackpressureEvent) Subsystem() string {
	switch {
	case e.Topic == "":
		return "broker"
	case e.Partition == 0:
		return "topic " + e.Topic
	}
	return fmt.Sprintf("topic %s partition %d", e.Topic, e.Partition)
}

func (e BackpressureEvent) String() string {
	return fmt.Sprintf("%s: %v after %v, with %d records, %d bytes queued in partition %d", e.Subsystem(), e.Current, e.Previous, e.Records, e.Bytes, e.At)
}

// maxEvents is how many events wait for a listener.
const maxEvents = 10_000

// pressure knows the states of all partitions that are not normal, and tells listeners of changes. Its lock is a leaf, taken under a queue's.
type pressure struct {
	mu        sync.Mutex
	broker    worst
	topics    map[*Topic]*worst
	listeners []*pressureListener
	closed    bool
	running   sync.WaitGroup
}

// worst counts partitions by their state.
type worst [backpressure.Shedding + 1]int

func (w *worst) move(from, to BackpressureState) {
	if from != backpressure.Normal {
		w[from]--
	}
	if to != backpressure.Normal {
		w[to]++
	}
}

func (w *worst) state() BackpressureState {
	for s := backpressure.Shedding; s > backpressure.Normal; s-- {
		if w[s] > 0 {
			return s
		}
	}
	return backpressure.Normal
}

// changed takes in the change of a partition.
func (h *pressure) changed(t *Topic, id PartitionID, from, to BackpressureState, depth backpressure.Weight) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.topics == nil {
		h.topics = map[*Topic]*worst{}
	}
	of := h.topics[t]
	if of == nil {
		of = new(worst)
		h.topics[t] = of
	}
	e := BackpressureEvent{Time: time.Now(), Records: depth.Records, Bytes: depth.Bytes, At: id}
	e.Topic, e.Partition, e.Previous, e.Current = t.name, id, from, to
	h.tell(e)
	topicWas, brokerWas := of.state(), h.broker.state()
	of.move(from, to)
	h.broker.move(from, to)
	if e.Partition, e.Previous, e.Current = 0, topicWas, of.state(); e.Current != e.Previous {
		t.worst.Store(uint32(e.Current))
		h.tell(e)
	}
	if e.Topic, e.Previous, e.Current = "", brokerWas, h.broker.state(); e.Current != e.Previous {
		h.tell(e)
	}
	if *of == (worst{}) {
		delete(h.topics, t)
	}
}

func (h *pressure) tell(e BackpressureEvent) {
	for _, l := range h.listeners {
		l.add(h, e)
	}
}

// pressureListener is a listener with the events that wait for it. Its fields are guarded by pressure.mu.
type pressureListener struct {
	f       func(BackpressureEvent)
	failed  func(panicked any, stack []byte)
	waiting []BackpressureEvent
	missed  int
	busy    bool // a goroutine calls f
	gone    bool
}

// add queues an event. The caller holds mu.
func (l *pressureListener) add(h *pressure, e BackpressureEvent) {
	if h.closed {
		return
	}
	if len(l.waiting) == maxEvents {
		l.waiting = slices.Delete(l.waiting, 0, 1)
		l.missed++
	}
	l.waiting = append(l.waiting, e)
	if !l.busy {
		l.busy = true
		h.running.Go(func() { l.run(h) })
	}
}

// run calls the listener until nothing waits.
func (l *pressureListener) run(h *pressure) {
	for {
		h.mu.Lock()
		if len(l.waiting) == 0 || l.gone || h.closed {
			l.busy = false
			h.mu.Unlock()
			return
		}
		e := l.waiting[0]
		l.waiting = l.waiting[1:]
		e.Missed, l.missed = l.missed, 0
		h.mu.Unlock()
		l.call(e)
	}
}

func (l *pressureListener) call(e BackpressureEvent) {
	defer func() {
		if p := recover(); p != nil {
			l.failed(p, debug.Stack())
		}
	}()
	l.f(e)
}

// close ends the listeners, and waits for calls that are under way, until ctx ends.
func (h *pressure) close(ctx context.Context) {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.running.Wait()
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// begin runs f beside the listeners, unless they are ended already.
func (h *pressure) begin(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.running.Go(f)
	}
}

// OnBackpressureChanged has f told of each change of a partition's, a topic's or the broker's backpressure state, once and in order, until
// cancel is called or the broker is closed. f runs on a goroutine of its own, one call at a time: if it is slow, events wait for it, and nobody waits for it but Close (and
// Shutdown as long as its context allows) for a call that is under way; if it panics, that is logged. f may change topics and limits and call cancel, which
// does not wait for a call that is under way; it must not close the broker, which would wait for it.
func (b *Broker) OnBackpressureChanged(f func(BackpressureEvent)) (cancel func()) {
	l := &pressureListener{f: f, failed: func(p any, stack []byte) {
		b.opts.Logger.Error("a backpressure listener panicked", "panic", p, "stack", string(stack))
	}}
	h := &b.pressure
	h.mu.Lock()
	defer h.mu.Unlock()
	h.listeners = append(h.listeners, l)
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		l.gone, l.waiting = true, nil
		h.listeners = slices.DeleteFunc(h.listeners, func(o *pressureListener) bool { return o == l })
	}
}

// BackpressureStatus is how full the fullest partition is.
type BackpressureStatus struct {
	State     BackpressureState
	Topic     string
	Partition PartitionID
	Records   int
	Bytes     int64
}

// Backpressure tells how full the topic's fullest partition is.
func (t *Topic) Backpressure() BackpressureStatus {
	out := BackpressureStatus{Topic: t.name}
	for i, p := range t.table.Load().active {
		if p.live == nil {
			return out
		}
		state, depth := p.live.Pressure()
		if i == 0 || state > out.State || state == out.State && depth.Records > out.Records {
			out.State, out.Partition, out.Records, out.Bytes = state, p.id, depth.Records, depth.Bytes
		}
	}
	return out
}

// Backpressure tells how full the broker's fullest partition is.
func (b *Broker) Backpressure() (out BackpressureStatus) {
	for i, t := range b.Topics() {
		if s := t.Backpressure(); i == 0 || s.State > out.State || s.State == out.State && s.Records > out.Records {
			out = s
		}
	}
	return out
}

// pressure is what the queues of the topic's partitions do under pressure.
func (c TopicConfig) pressure(l Limits) (backpressure.Policy, error) {
	p := c.Backpressure
	p.MaxRecords = min(defaulted(p.MaxRecords, l.MaxQueueDepth), l.MaxQueueDepth)
	p, err := p.Resolve()
	var wrong *backpressure.OptionError
	if errors.As(err, &wrong) {
		err = &OptionError{Field: "TopicConfig.Backpressure." + wrong.Field, Value: wrong.Value, Reason: wrong.Reason}
	}
	return p, err
}

func (t *Topic) pressure() backpressure.Policy {
	p, err := t.Config().pressure(t.b.Limits())
	if err != nil { // one that was valid when it was stored
		t.b.opts.Logger.Error("backpressure is the default", "topic", t.name, "error", err)
		p, _ = TopicConfig{}.pressure(t.b.Limits())
	}
	return p
}

// applyPressure puts the topic's configuration in force.
func (t *Topic) applyPressure() error {
	policy := t.pressure()
	for _, p := range t.table.Load().all {
		if p.live == nil {
			continue
		}
		if err := p.live.SetPressure(policy); err != nil {
			return logError(t.name, p.id, err)
		}
		p.live.SetBacklog(t.Config().MaxBacklog)
	}
	return nil
}

// enrich completes records, unless the topic is so busy that it is to do less.
func (t *Topic) enrich(recs []*Record) {
	f := t.b.opts.Enrich
	if f == nil {
		return
	}
	if BackpressureState(t.worst.Load()) >= backpressure.Critical && t.degrades(backpressure.Critical) {
		t.degraded.Add(int64(len(recs)))
		return
	}
	for _, rec := range recs {
		if rec != nil {
			f(rec)
		}
	}
}

// degrades reports whether a partition's queue is so full that less is to be done for each record.
func (t *Topic) degrades(from BackpressureState) bool {
	return slices.ContainsFunc(t.table.Load().active, func(p *topicPartition) bool { return p.live != nil && p.live.Degrades(from) })
}

// dropLog has the logger told that records are dropped.
type dropLog struct {
	records atomic.Int64 // since it was told last
	running atomic.Bool
}

// dropLogInterval is how often the logger is told at most, of each topic.
const dropLogInterval = 10 * time.Second

// dropped takes note of records that DropOldest has dropped. It runs under a queue's lock.
func (t *Topic) dropped(records int) {
	t.drops.records.Add(int64(records))
	if !t.drops.running.Load() && t.drops.running.CompareAndSwap(false, true) {
		t.b.pressure.begin(t.logDrops)
	}
}

// logDrops tells the logger, at once and then from time to time until nothing more is dropped.
func (t *Topic) logDrops() {
	d, again := &t.drops, time.NewTicker(dropLogInterval)
	defer again.Stop()
	for closing := false; ; {
		n := d.records.Swap(0)
		if n > 0 {
			t.b.opts.Logger.Warn("records are dropped: publishers outrun the disk", "topic", t.name, "records", n)
		}
		if closing {
			return
		}
		if n == 0 {
			d.running.Store(false)
			if d.records.Load() == 0 || !d.running.CompareAndSwap(false, true) {
				return
			}
			continue
		}
		select {
		case <-again.C:
		case <-t.b.done:
			closing = true
		}
	}
}
