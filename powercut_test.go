package braid

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/braid-go/braid/internal/vfs"
)

var (
	long    = flag.Bool("long", false, "power cuts at every operation, many times over, not at a part of them")
	cutSeed = flag.Uint64("cutseed", 0, "seed of the power cuts; 0: one of its own")
)

// grid is the power supply of a broker whose partitions are in a file system that can be crashed, and whose store is in files. Before each operation that changes a
// partition's files it notes what a power cut would leave.
//
// Of the partitions that is the synced state with any part of the rest. Of the store it is what its files hold, or, as long as that can be so, the same with
// what has been appended since the last operation torn: nobody has been told of it, and nothing has been done that waits for it. What of the store was written and not synced otherwise is package checkpoint's
// to survive, and tested there.
type grid struct {
	t    *testing.T
	dir  string
	mem  *vfs.Mem
	work *busy

	mu    sync.Mutex // one operation at a time; guards what follows
	rng   *rand.Rand
	every int // of so many operations one is noted
	ops   int
	cuts  []*powerCut
	last  map[string][]byte // the store at the last operation
	told  int               // publishers and others that had been told of something then
	dead  bool              // the process was killed: nothing happens any more
}

// powerCut is what is left.
type powerCut struct {
	mem   *vfs.Mem
	files map[string][]byte // of the store, and FORMAT
	acked int               // of what was acknowledged, so much was by then
	what  string
}

// Inject implements vfs.Injector.
func (g *grid) Inject(op vfs.Op) vfs.Outcome {
	switch op.Kind {
	case vfs.OpRead, vfs.OpSize, vfs.OpStat, vfs.OpOpen, vfs.OpOpenReadWrite, vfs.OpList, vfs.OpClose, vfs.OpReserve:
		return vfs.Outcome{}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.dead {
		return vfs.Outcome{Err: syscall.EIO}
	}
	g.ops++
	g.cut(fmt.Sprintf("before operation %d (%v of %s)", g.ops, op.Kind, filepath.Base(op.Name)))
	return vfs.Outcome{}
}

// cut notes what a power cut at this instant may leave. The caller holds mu, so that the partitions stand still; the store may be at work, and is waited for.
func (g *grid) cut(what string) {
	acked := g.work.count()
	noted := g.rng.IntN(g.every) == 0
	files := g.readStore()
	for {
		strict := g.mem.CrashClone(vfs.CrashOptions{})
		some := g.mem.CrashClone(vfs.RandomCrash(g.rng))
		told := g.work.count() // of these the store has what was appended, now that it is read
		again := g.readStore()
		if !maps.EqualFunc(files, again, bytes.Equal) {
			files = again
			continue
		}
		if noted {
			g.cuts = append(g.cuts, &powerCut{strict, files, acked, what + ", nothing unsynced kept"},
				&powerCut{some, files, acked, what + ", some of what is unsynced kept"})
			if torn, how := g.tear(files, acked); torn != nil {
				g.cuts = append(g.cuts, &powerCut{strict, torn, acked, what + ", the commit log " + how}, &powerCut{some, torn, acked, what + ", some kept, the commit log " + how})
			}
		}
		g.last, g.told = files, told
		return
	}
}

// kill ends the process, and returns what it leaves: all that it has written.
func (g *grid) kill() *powerCut {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dead = true
	acked := g.work.count()
	files := g.readStore()
	for again := g.readStore(); !maps.EqualFunc(files, again, bytes.Equal); again = g.readStore() {
		files = again // the store is still at work
	}
	return &powerCut{g.mem, files, acked, "a kill"}
}

// tear tears what was appended to the store since the last operation, if nobody can know yet that it is durable.
func (g *grid) tear(files map[string][]byte, acked int) (map[string][]byte, string) {
	if acked != g.told || len(files) != len(g.last) {
		return nil, ""
	}
	grown := ""
	for name, b := range files {
		was, there := g.last[name]
		switch {
		case !there || grown != "" && !bytes.Equal(b, was):
			return nil, ""
		case bytes.Equal(b, was):
		case len(b) > len(was) && bytes.HasPrefix(b, was) && strings.HasPrefix(name, storeName+"/0"):
			grown = name
		default:
			return nil, ""
		}
	}
	if grown == "" {
		return nil, ""
	}
	b := bytes.Clone(files[grown])
	begin := len(g.last[grown]) + zeroTail // what was there may have ended with zeros
	if begin >= len(b) {
		return nil, ""
	}
	from := begin + g.rng.IntN(len(b)-begin)
	how := fmt.Sprintf("torn at byte %d of %d", from, len(b))
	switch g.rng.IntN(3) {
	case 0:
		b = b[:from]
	case 1:
		clear(b[from:])
	default:
		for i := from; i < len(b); i++ {
			b[i] = byte(g.rng.Uint32())
		}
	}
	torn := maps.Clone(files)
	torn[grown] = b
	return torn, how
}

// zeroTail is more than the zeros with which an entry of the store ends in this test.
const zeroTail = 16

// readStore reads the files of the store, without the zeros made ahead, FORMAT and the lock.
func (g *grid) readStore() map[string][]byte {
	files := map[string][]byte{}
	_ = filepath.WalkDir(g.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // it went while we looked; then it looks different the next time
		}
		b, err := os.ReadFile(path)
		if err == nil {
			name, _ := filepath.Rel(g.dir, path)
			files[filepath.ToSlash(name)] = bytes.TrimRight(b, "\x00")
		}
		return nil
	})
	return files
}

// restore makes the directory as a power cut has left it, for the file system it has left.
func (c *powerCut) restore(t *testing.T, dir string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for name, b := range c.files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(name, storeName+"/0") {
			b = append(b[:len(b):len(b)], make([]byte, zeroTail)...)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// openPowered opens a broker on a grid.
func openPowered(t *testing.T, g *grid) (*Broker, error) {
	return Open(g.dir, Options{fs: vfs.NewFault(g.mem, g)})
}

// newGrid makes a grid of an empty directory.
func newGrid(t *testing.T, dir string, every int, rng *rand.Rand) *grid {
	t.Helper()
	mem := vfs.NewMem()
	made := "."
	for _, part := range strings.Split(strings.Trim(filepath.ToSlash(dir), "/"), "/") {
		next := filepath.Join(made, part)
		if err := mem.Mkdir(next); err != nil {
			t.Fatal(err)
		}
		if err := mem.SyncDir(made); err != nil {
			t.Fatal(err)
		}
		made = next
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return &grid{t: t, dir: dir, mem: mem, rng: rng, every: every, work: &busy{}}
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
	b, err := openPowered(t, g)
	if err != nil {
		t.Fatal(err)
	}
	g.work.run(t, b)
	if err := b.Close(); err != nil || t.Failed() {
		t.Fatal(err)
	}
	recovering, torn := 0, 0
	for i, c := range g.cuts {
		if strings.Contains(c.what, "torn") {
			torn++
		}
		if again > 0 && (len(g.cuts)-i)%max(1, len(g.cuts)/again) == 0 {
			recovering += g.cutDuringRecovery(c, rand.New(rand.NewPCG(seed, uint64(2+i))))
		}
		g.check(c)
	}
	t.Logf("power cuts: %d, %d of them during recovery, %d with a torn commit log, at one in %d of %d operations",
		len(g.cuts)+recovering, recovering, torn, every, g.ops)
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
		b, err := openPowered(t, g)
		if err != nil {
			t.Fatal(err)
		}
		g.work.run(t, b)
		killed := g.kill()
		_ = b.Close() // it is dead
		killed.restore(t, dir)
		after := &grid{t: t, dir: dir, mem: g.mem, rng: g.rng, every: 1, work: g.work}
		if b, err = openPowered(t, after); err != nil {
			t.Fatal(err)
		}
		after.mu.Lock()
		after.cut("after a kill and opening again")
		after.mu.Unlock()
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		for i, c := range after.cuts {
			if i%5 == 0 || *long || strings.Contains(c.what, "after a kill") {
				c.acked = killed.acked
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
func (g *grid) cutDuringRecovery(c *powerCut, rng *rand.Rand) int {
	g.t.Helper()
	second := &grid{t: g.t, dir: g.dir, mem: c.mem.CrashClone(vfs.CrashOptions{}), rng: rng, every: 1, work: &busy{acked: g.work.acked[:c.acked]}}
	c.restore(g.t, g.dir)
	second.last = second.readStore()
	b, err := openPowered(g.t, second)
	if err != nil {
		g.t.Errorf("%s: %v", c.what, err)
		return 0
	}
	if err := b.Close(); err != nil {
		g.t.Error(err)
	}
	checked := 0
	for i, again := range second.cuts {
		if i%9 == 0 || *long {
			again.what = c.what + "; then " + again.what
			second.check(again)
			checked++
		}
	}
	return checked
}
