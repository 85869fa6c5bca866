package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/braid-go/braid"
	"github.com/braid-go/braid/fuzz/history"
	"github.com/braid-go/braid/fuzz/workload"
	"github.com/braid-go/braid/internal/hook"
	"github.com/braid-go/braid/internal/vfs"
	"github.com/braid-go/braid/partition"
)

// childEnv, in the environment, makes the program a child; its value is the orders.
const childEnv = "BRAID_SOAK_CHILD"

// orders are what a child is to do.
type orders struct {
	Dir        string
	Durability braid.Durability
	Seed       uint64
	Keys       int
	Hurry      bool // members hand partitions over at once, or lose them

	// Where the history ends that the child goes on with.
	Seq     history.Seq
	Clients uint32
	IDs     uint64

	CloseAfter time.Duration // 0: it runs until it is killed
	Fault      fault         // that the disk has; zero: none
	Outages    int           // not 0: it is another program, see runOutages
	Keep       string        // where that keeps what goes wrong
}

// Names and bounds of what the child works with.
const (
	topicIn      = "in"
	topicOut     = "out"
	topicPassing = "passing" // with retention
	groupReset   = "reset"   // of topicIn, which has no members

	mostActive     = 6  // partitions that a topic has in use
	mostPartitions = 60 // and in all
)

// runChild is a child, from its orders to its end. It returns the exit code.
func runChild(text string) int {
	var o orders
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		fmt.Fprintln(os.Stderr, "orders:", err)
		return 1
	}
	v := &voice{w: os.Stdout}
	c := &child{orders: o, event: v.event, tell: v.note}
	if o.Outages > 0 {
		return runOutages(o, v)
	}
	if o.Fault.Kind != "" {
		disk := &failingDisk{fault: o.Fault, said: func() { c.tell(note{What: noteFault}) }}
		c.fs, c.excuses = vfs.NewFault(vfs.OS, disk), disk.excuses
	}
	err := c.run()
	switch {
	case err == nil:
		return 0
	case c.failed(err):
		return exitFault
	}
	return 1
}

// exitFault is the exit code of a child that had to give up because of its disk.
const exitFault = 3

// child is a process that does everything at once.
type child struct {
	orders
	event   func(history.Event) // is told what goes into the history
	tell    func(note)          // and what does not
	fs      vfs.FS              // of the partitions; nil: the system's
	excuses func(error) bool    // says what is no wonder with that; nil: nothing is
	load    *workload.Load
	passing *braid.Topic
	work    sync.WaitGroup
}

// failed takes an error. It reports whether that is no wonder, with this disk.
func (c *child) failed(err error) bool {
	if c.excuses != nil && c.excuses(err) {
		return true
	}
	c.tell(note{What: noteFailed, Error: err.Error()})
	return false
}

// open opens the directory and makes what is missing.
func (c *child) open() error {
	rec := history.Resume(c.Seq, c.Clients, c.event)
	c.load = &workload.Load{Seed: c.Seed, Keys: c.Keys, Recorder: rec, Failed: c.failed, Called: pause}
	c.load.StartIDs(c.IDs)
	if c.Hurry {
		c.load.Members.RebalanceTimeout = time.Millisecond
	}
	opts := braid.Options{Durability: c.Durability, SyncInterval: 5 * time.Millisecond}
	if c.fs != nil {
		hook.FS(&opts, c.fs)
	}
	b, err := braid.Open(c.Dir, opts)
	if err != nil {
		return err
	}
	c.load.Broker = b
	rec.Reopened()
	return errors.Join(undamaged(b), c.ensureTopics())
}

func (c *child) run() error {
	if err := c.open(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c.start(ctx)
	if c.CloseAfter == 0 {
		select {}
	}
	<-time.After(c.CloseAfter)
	c.tell(note{What: noteClosing})
	if c.Seed%2 == 0 { // let those who work come to an end
		cancel()
		c.work.Wait()
	}
	if err := c.load.Broker.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	cancel()
	c.work.Wait()
	return nil
}

// undamaged returns an error if opening has found something wrong: a kill is no damage.
func undamaged(b *braid.Broker) error {
	for _, p := range b.OpenReport().Partitions {
		if len(p.Problems) > 0 || p.GapFrom != p.GapNext {
			return fmt.Errorf("after a kill this is reported: %+v", p)
		}
	}
	return nil
}

// pause has producers leave some time to the others.
func pause() { time.Sleep(rand.N(time.Millisecond)) }

func (c *child) ensureTopics() error {
	ctx := context.Background()
	var err1, err2, err3 error
	c.load.In, err1 = c.load.Broker.EnsureTopic(ctx, topicIn, braid.TopicConfig{Partitions: 4, Compression: braid.S2, SegmentBytes: 128 << 10})
	c.load.Out, err2 = c.load.Broker.EnsureTopic(ctx, topicOut, braid.TopicConfig{Partitions: 2, SegmentBytes: 64 << 10})
	c.passing, err3 = c.load.Broker.EnsureTopic(ctx, topicPassing, braid.TopicConfig{SegmentBytes: 64 << 10, RetentionBytes: 100_000})
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	c.tell(note{What: noteMade, Topic: topicPassing, Partitions: partitionsOf(c.passing)})
	return nil
}

func partitionsOf(t *braid.Topic) []uint64 {
	var ids []uint64
	for _, p := range t.Partitions() {
		ids = append(ids, uint64(p.ID))
	}
	return ids
}

// start begins all that goes on at once, until ctx ends or the broker is closed.
func (c *child) start(ctx context.Context) {
	const forever = 1 << 30
	for range 3 {
		p := c.load.Producer()
		c.work.Go(func() { _ = p.Publish(ctx, forever) }) // the history has it
	}
	async := c.load.Producer()
	c.work.Go(func() { async.PublishAsync(ctx, forever) })
	for range 2 {
		p := c.load.ProducerTo(c.passing, 0)
		c.work.Go(func() { _ = p.Publish(ctx, forever) })
	}
	for range 3 {
		rng := c.load.Random()
		c.work.Go(func() { c.load.Join(ctx, rng, workload.Readers, (*workload.Member).Read) })
	}
	for _, work := range []workload.Work{(*workload.Member).Transact, (*workload.Member).Transact, (*workload.Member).Process} {
		rng := c.load.Random()
		c.work.Go(func() { c.load.Join(ctx, rng, workload.Workers, work) })
	}
	for _, step := range []func(context.Context, *rand.Rand) error{
		c.relayIn, c.pass, c.briefly, c.reset,
	} {
		rng := c.load.Random()
		c.work.Go(func() { c.repeat(ctx, rng, step) })
	}
}

// repeat takes a step again and again, with pauses.
func (c *child) repeat(ctx context.Context, rng *rand.Rand, step func(context.Context, *rand.Rand) error) {
	for ctx.Err() == nil {
		err := step(ctx, rng)
		if errors.Is(err, braid.ErrClosed) || ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			return
		}
		if err != nil && !c.failed(err) {
			return
		}
		time.Sleep(time.Duration(rng.IntN(10_000)) * time.Microsecond)
	}
}

// relayIn splits or merges partitions of the topic that is read.
func (c *child) relayIn(ctx context.Context, rng *rand.Rand) error {
	return c.relay(ctx, rng, c.load.In)
}

// pass splits or merges partitions of the topic with retention, and applies that.
func (c *child) pass(ctx context.Context, rng *rand.Rand) error {
	if rng.IntN(4) == 0 {
		if err := c.relay(ctx, rng, c.passing); err != nil {
			return err
		}
		c.tell(note{What: noteMade, Topic: topicPassing, Partitions: partitionsOf(c.passing)})
	}
	return hook.Retain(c.passing)
}

// relay splits a partition or merges two.
func (c *child) relay(ctx context.Context, rng *rand.Rand, t *braid.Topic) error {
	all := t.Partitions()
	if len(all) >= mostPartitions {
		return nil
	}
	active := slices.DeleteFunc(slices.Clone(all), func(p braid.PartitionInfo) bool { return p.Sealed })
	slices.SortFunc(active, func(x, y braid.PartitionInfo) int {
		if x.KeyRange.Lo < y.KeyRange.Lo {
			return -1
		}
		return 1
	})
	i := rng.IntN(len(active))
	c.tell(note{What: noteRelaying, Topic: t.Name()})
	var err error
	if i > 0 && (rng.IntN(2) == 0 || len(active) >= mostActive) {
		_, err = t.Merge(ctx, active[i-1].ID, active[i].ID)
	} else if len(active) < mostActive {
		_, err = t.Split(ctx, active[i].ID)
	}
	if indivisible := (*partition.IndivisibleError)(nil); errors.As(err, &indivisible) {
		return nil
	}
	return err
}

// briefly makes a topic, publishes to it, and deletes it, perhaps while somebody publishes still.
func (c *child) briefly(ctx context.Context, rng *rand.Rand) error {
	name := fmt.Sprint("brief-", rng.IntN(3))
	t, err := c.load.Broker.EnsureTopic(ctx, name, braid.TopicConfig{Partitions: 1 + rng.IntN(3), SegmentBytes: 64 << 10})
	if err != nil {
		return err
	}
	of := partitionsOf(t)
	c.tell(note{What: noteMade, Topic: name, Partitions: of})
	var others sync.WaitGroup
	defer others.Wait()
	for range 2 {
		p := c.load.ProducerTo(t, 0)
		n := 1 + rng.IntN(10)
		others.Go(func() { _ = p.Publish(ctx, n) })
	}
	if rng.IntN(2) == 0 {
		others.Wait()
	}
	if rng.IntN(3) == 0 {
		return nil // it stays until it is met again
	}
	c.tell(note{What: noteDeleting, Topic: name, Partitions: of})
	if err := c.load.Broker.DeleteTopic(ctx, name); err != nil {
		return err
	}
	c.tell(note{What: noteDeleted, Topic: name, Partitions: of})
	return nil
}

// reset moves a group that has no members.
func (c *child) reset(ctx context.Context, rng *rand.Rand) error {
	g, err := c.load.In.Group(groupReset)
	if err != nil {
		return err
	}
	to := braid.FromEarliest()
	switch rng.IntN(3) {
	case 0:
		to = braid.FromLatest()
	case 1:
		at := map[braid.PartitionID]int64{}
		for _, p := range c.load.In.Partitions() {
			at[p.ID] = p.Start + rng.Int64N(p.End-p.Start+1)
		}
		to = braid.FromOffsets(at)
	}
	plan, err := g.PlanReset(ctx, to)
	if err != nil {
		return err
	}
	offsets := map[uint64]int64{}
	for _, m := range plan.Moves() {
		offsets[uint64(m.Partition)] = m.To
	}
	c.tell(note{What: noteResetting, Offsets: offsets})
	switch err := plan.Apply(ctx); {
	case err == nil:
		c.tell(note{What: noteReset})
	case errors.Is(err, braid.ErrConflict): // a partition was split meanwhile
		c.tell(note{What: noteNotReset})
	default:
		return err
	}
	return nil
}
