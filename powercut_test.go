package braid

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/braid-go/braid/fuzz/power"
	"github.com/braid-go/braid/internal/vfs"
)

var (
	long    = flag.Bool("long", false, "power cuts at every operation, many times over, not at a part of them")
	cutSeed = flag.Uint64("cutseed", 0, "seed of the power cuts; 0: one of its own")
)

// grid is the power supply of a broker that is kept busy.
type grid struct {
	*power.Grid
	t    *testing.T
	rng  *rand.Rand
	work *busy
}

// newGrid makes a grid of an empty directory.
func newGrid(t *testing.T, dir string, every int, rng *rand.Rand) *grid {
	t.Helper()
	g := &grid{t: t, rng: rng, work: &busy{}}
	var err error
	if g.Grid, err = power.New(dir, every, rng, g.work.count); err != nil {
		t.Fatal(err)
	}
	return g
}

// on makes a grid of the same directory, on what was left in memory.
func (g *grid) on(mem *vfs.Mem, rng *rand.Rand, work *busy) *grid {
	return &grid{Grid: power.On(mem, g.Dir, 1, rng, work.count), t: g.t, rng: rng, work: work}
}

// openPowered opens a broker on a grid.
func openPowered(g *grid) (*Broker, error) {
	return Open(g.Dir, Options{fs: g.FS()})
}

// restore makes the directory as a power cut has left it.
func (g *grid) restore(c *power.Cut) {
	g.t.Helper()
	if err := c.Restore(g.Dir); err != nil {
		g.t.Fatal(err)
	}
}

// busy is what is done to a broker, and what was acknowledged of it.
type busy struct {
	mu    sync.Mutex
	acked []ack
}

// ack is something that was acknowledged: a record, or a transaction with its positions, or new partitions, or a record that retention may have taken since, or the deletion
// of a topic.
type ack struct {
	rec      *Record
	txn      string
	position map[PartitionID]int64
	split    []PartitionID
	passing  *Record
	deleted  string
}

func (w *busy) ack(a ack) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.acked = append(w.acked, a)
}

func (w *busy) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.acked)
}

// publishAll publishes numbered records one by one, some of them large, so that segments end.
func (w *busy) publishAll(ctx context.Context, topic *Topic, n int) error {
	for i := range n {
		rec := &Record{Key: fmt.Appendf(nil, "key %d", i%5), Value: fmt.Appendf(nil, "%s %d", topic.Name(), i)}
		if i%9 == 8 {
			rec.Headers = []Header{{Key: "large", Value: bytes.Repeat([]byte("x"), 30_000)}}
		}
		if err := topic.Publish(ctx, rec); err != nil {
			return err
		}
		w.ack(ack{rec: rec})
	}
	return nil
}

// transact moves a group and writes to two topics and the state, n times.
func (w *busy) transact(ctx context.Context, in, out *Topic, n int) error {
	sub, err := in.Subscribe(ctx, "exact", SubscribeOptions{})
	if err != nil {
		return err
	}
	defer sub.Close()
	positions := map[PartitionID]int64{}
	for i := range n {
		recs, err := sub.Poll(ctx, 2)
		if err != nil {
			return err
		}
		for _, r := range recs {
			positions[r.Partition] = max(positions[r.Partition], r.Offset+1)
		}
		name := fmt.Sprint("txn ", i)
		at, err := json.Marshal(positions)
		if err != nil {
			return err
		}
		tx := in.b.Begin()
		a, b := &Record{Key: []byte("key 1"), Value: []byte(name + " a")}, &Record{Key: []byte("key 2"), Value: []byte(name + " b")}
		for _, step := range []func() error{
			func() error { return tx.Offsets(sub, recs...) },
			func() error { return tx.Publish(in, a) }, func() error { return tx.Publish(out, b) },
			func() error { return tx.Put(name, []byte("done")) }, func() error { return tx.Put("at", at) },
			func() error { return tx.Commit(ctx) },
		} {
			if err := step(); err != nil {
				return err
			}
		}
		for _, rec := range tx.Outputs() {
			w.ack(ack{rec: rec})
		}
		w.ack(ack{txn: name, position: maps.Clone(positions)})
	}
	return nil
}

// relayout splits both partitions and merges the two children in the middle.
func (w *busy) relayout(ctx context.Context, in *Topic) error {
	var middle []PartitionID
	for i, id := range []PartitionID{1, 2} {
		children, err := in.Split(ctx, id)
		if err != nil {
			return err
		}
		w.ack(ack{split: children})
		middle = append(middle, children[1-i])
	}
	merged, err := in.Merge(ctx, middle[0], middle[1])
	if err == nil {
		w.ack(ack{split: []PartitionID{merged}})
	}
	return err
}

// pass publishes to a topic whose retention takes the oldest away meanwhile, and deletes another topic.
func (w *busy) pass(ctx context.Context, b *Broker) error {
	old, err := b.EnsureTopic(ctx, "old", TopicConfig{SegmentBytes: 64 << 10, RetentionBytes: 100_000})
	if err != nil {
		return err
	}
	doomed, err := b.EnsureTopic(ctx, "doomed", TopicConfig{})
	if err != nil {
		return err
	}
	for i := range 12 {
		rec := &Record{Value: fmt.Appendf(nil, "old %d", i), Headers: []Header{{Key: "large", Value: bytes.Repeat([]byte("y"), 30_000)}}}
		if err := old.Publish(ctx, rec); err != nil {
			return err
		}
		w.ack(ack{passing: rec})
		if err := old.retain(); err != nil {
			return err
		}
		if err := doomed.Publish(ctx, &Record{Value: fmt.Appendf(nil, "doomed %d", i)}); i < 6 && err != nil {
			return err
		}
		if i == 5 {
			if err := b.DeleteTopic(ctx, "doomed"); err != nil {
				return err
			}
			w.ack(ack{deleted: "doomed"})
		}
	}
	return nil
}

// run does everything at once.
func (w *busy) run(t *testing.T, b *Broker) {
	t.Helper()
	ctx := t.Context()
	in := ensure(t, b, "in", TopicConfig{Partitions: 2, SegmentBytes: 64 << 10})
	out := ensure(t, b, "out", TopicConfig{SegmentBytes: 64 << 10, Compression: S2})
	var wg sync.WaitGroup
	for _, do := range []func() error{
		func() error { return w.publishAll(ctx, in, 40) },
		func() error { return w.publishAll(ctx, out, 40) },
		func() error { return w.transact(ctx, in, out, 12) },
		func() error { return w.relayout(ctx, in) },
		func() error { return w.pass(ctx, b) },
	} {
		wg.Go(func() {
			if err := do(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// Power is cut before every operation on a partition's files, while records are published to several topics, transactions move a group and write to two of them, partitions split and merge, segments end,
// retention takes some away, and a topic is deleted. What was acknowledged is there, everything has happened wholly or not at all, and the broker goes on.
func TestPowerCutsOfAWholeBroker(t *testing.T) {
	seed := *cutSeed
	if seed == 0 {
		seed = rand.Uint64()>>1 | 1
	}
	t.Logf("seed %d; again (without the schedule): go test -run '^%s$' -cutseed %d .", seed, t.Name(), seed)
	dir := filepath.Join(inMemory(t), "data")
	every, again := 5, 4
	if *long {
		every, again = 1, 40
	}
	g := newGrid(t, dir, every, rand.New(rand.NewPCG(seed, 1)))
	b, err := openPowered(g)
	if err != nil {
		t.Fatal(err)
	}
	g.work.run(t, b)
	if err := b.Close(); err != nil || t.Failed() {
		t.Fatal(err)
	}
	recovering, torn := 0, 0
	for i, c := range g.Cuts() {
		if c.Torn {
			torn++
		}
		if again > 0 && (len(g.Cuts())-i)%max(1, len(g.Cuts())/again) == 0 {
			recovering += g.cutDuringRecovery(c, rand.New(rand.NewPCG(seed, uint64(2+i))))
		}
		g.check(c)
	}
	t.Logf("power cuts: %d, %d of them during recovery, %d with a torn commit log, at one in %d of %d operations",
		len(g.Cuts())+recovering, recovering, torn, every, g.Ops())
}

// A process is killed, which leaves in the page cache what was never synced; the broker is opened again and shows it; then the power fails. What was shown stays.
func TestPowerFailsAfterAKill(t *testing.T) {
	seed := *cutSeed
	if seed == 0 {
		seed = rand.Uint64()>>1 | 1
	}
	t.Logf("seed %d; again (without the schedule): go test -run '^%s$' -cutseed %d .", seed, t.Name(), seed)
	rounds := 3
	if *long {
		rounds = 200
	}
	cuts := 0
	for round := range uint64(rounds) {
		dir := filepath.Join(inMemory(t), "data")
		g := newGrid(t, dir, 1<<30, rand.New(rand.NewPCG(seed, round)))
		b, err := openPowered(g)
		if err != nil {
			t.Fatal(err)
		}
		g.work.run(t, b)
		killed := g.Kill()
		_ = b.Close() // it is dead
		g.restore(killed)
		after := g.on(g.Mem, g.rng, g.work)
		if b, err = openPowered(after); err != nil {
			t.Fatal(err)
		}
		after.Note("after a kill and opening again")
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		for i, c := range after.Cuts() {
			if i%5 == 0 || *long || strings.Contains(c.What, "after a kill") {
				c.Acked = killed.Acked
				after.check(c)
				cuts++
			}
		}
	}
	t.Logf("power cuts: %d, after %d kills", cuts, rounds)
}

// inMemory is a directory in memory, where the system has one.
func inMemory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "braid-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// cutDuringRecovery opens what a power cut has left, and has the power cut again while it is opened.
func (g *grid) cutDuringRecovery(c *power.Cut, rng *rand.Rand) int {
	g.t.Helper()
	second := g.on(c.Mem.CrashClone(vfs.CrashOptions{}), rng, &busy{acked: g.work.acked[:c.Acked]})
	g.restore(c)
	second.Look()
	b, err := openPowered(second)
	if err != nil {
		g.t.Errorf("%s: %v", c.What, err)
		return 0
	}
	if err := b.Close(); err != nil {
		g.t.Error(err)
	}
	checked := 0
	for i, again := range second.Cuts() {
		if i%9 == 0 || *long {
			again.What = c.What + "; then " + again.What
			second.check(again)
			checked++
		}
	}
	return checked
}
