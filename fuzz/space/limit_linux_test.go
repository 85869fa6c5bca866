package space

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/braid-go/braid"
	"github.com/braid-go/braid/internal/hook"
	"github.com/braid-go/braid/internal/vfs"
)

// childEnv, in the environment, makes the test's program a child; its value is the orders.
const childEnv = "BRAID_SPACE_CHILD"

func TestMain(m *testing.M) {
	if text := os.Getenv(childEnv); text != "" {
		if err := runChild(text); err != nil {
			fmt.Println("failed", strings.ReplaceAll(err.Error(), "\n", "; "))
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// orders are what a child is to do.
type orders struct {
	Dir          string
	Limit        uint64 // bytes that a file may have
	Durability   braid.Durability
	SegmentBytes int64
	Record, Put  int  // bytes of a record, and of what a transaction puts
	Bulk         int  // records that are published at once to one partition, too
	Unreserved   bool // the file system of the partitions cannot reserve space, so that it shows only when writing
	Resume       bool // the limit is lifted, and everything goes on
	Kill         bool // the child kills itself in the end
	Hold         bool // it opens the directory, says so, and waits to be killed
	OpenOnly     bool // it only tries to open the directory, which is refused
}

// child does one thing after the other, and prints what it was told: "acked" and a record, "refused" and a record, "state" and a number, "position" and a partition and an offset.
type child struct {
	orders
	out     *bufio.Writer
	b       *braid.Broker
	in, to  *braid.Topic
	sub     *braid.Subscription
	n       int
	acked   map[string]bool
	refused int
}

func runChild(text string) error {
	c := &child{out: bufio.NewWriter(os.Stdout), acked: map[string]bool{}}
	if err := json.Unmarshal([]byte(text), &c.orders); err != nil {
		return err
	}
	defer c.out.Flush()
	signal.Ignore(syscall.SIGXFSZ) // the signal's default is to end the process; then write(2) says EFBIG
	var lifted syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &lifted); err != nil {
		return err
	}
	limited := lifted
	limited.Cur = c.Limit
	if c.OpenOnly {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limited); err != nil {
			return err
		}
		if _, err := braid.Open(c.Dir, braid.Options{}); !errors.Is(err, braid.ErrNoSpace) {
			return fmt.Errorf("open: error %w, want ErrNoSpace", err)
		}
		c.say("end")
		return nil
	}
	if err := c.open(); err != nil {
		return err
	}
	if c.Hold {
		c.say("open")
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limited); err != nil {
		return err
	}
	for c.refused < 10 {
		if err := c.step(); err != nil {
			return err
		}
		if c.n > 20_000 {
			return errors.New("the limit has never been reached")
		}
	}
	for range 2 * min(c.Bulk, 1) { // the last write to each partition is a short one, of several frames of which some are whole
		if err := c.bulk(); err != nil {
			return err
		}
	}
	if err := c.reads(); err != nil {
		return fmt.Errorf("at the limit: %w", err)
	}
	if c.Resume {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &lifted); err != nil {
			return err
		}
		before := c.refused
		for range 10 {
			if err := c.step(); err != nil {
				return err
			}
		}
		if c.refused > before {
			return fmt.Errorf("the limit is lifted, and %d of what was tried were refused", c.refused-before)
		}
		if err := c.reads(); err != nil {
			return fmt.Errorf("after the limit: %w", err)
		}
	}
	c.say("end")
	if c.Kill {
		c.out.Flush()
		return syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	return errors.Join(c.sub.Close(), c.b.Close())
}

func (c *child) say(what string, args ...any) {
	fmt.Fprintln(c.out, append([]any{what}, args...)...)
	c.out.Flush()
}

// open opens the broker, before there is a limit.
func (c *child) open() (err error) {
	opts := braid.Options{Durability: c.Durability}
	if c.Unreserved {
		hook.FS(&opts, unreserved{vfs.OS})
	}
	if c.b, err = braid.Open(c.Dir, opts); err != nil {
		return err
	}
	ctx := context.Background()
	var err1, err2, err3 error
	c.in, err1 = c.b.EnsureTopic(ctx, "in", braid.TopicConfig{Partitions: 2, SegmentBytes: c.SegmentBytes})
	c.to, err2 = c.b.EnsureTopic(ctx, "out", braid.TopicConfig{SegmentBytes: c.SegmentBytes})
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	c.sub, err3 = c.in.Subscribe(ctx, "g", braid.SubscribeOptions{})
	return err3
}

// record is the n-th record.
func record(n, size int) *braid.Record {
	return &braid.Record{Key: strconv.AppendInt(nil, int64(n), 10), Value: append(fmt.Appendf(nil, "%d ", n), strings.Repeat("x", size)...)}
}

// outcome takes the outcome of one attempt: it happened, or there was no space and it has not. Nothing else may come of a limit, neither a failure
// nor doubt.
func (c *child) outcome(err error, what string, args ...any) error {
	switch {
	case err == nil:
		c.say(what, args...)
		return nil
	case !errors.Is(err, braid.ErrNoSpace) || errors.Is(err, braid.ErrOutcomeUnknown) || errors.Is(err, braid.ErrPartitionFailed) || errors.Is(err, braid.ErrStoreFailed):
		return fmt.Errorf("%s %v: %w, want ErrNoSpace", what, args, err)
	}
	c.refused++
	c.say("refused", args...)
	return nil
}

// step publishes a record, commits the position behind one, and commits a transaction.
func (c *child) step() error {
	ctx := context.Background()
	c.n++
	rec := record(c.n, c.Record)
	err := c.in.Publish(ctx, rec)
	if err := c.outcome(err, "acked", "in", c.n); err != nil {
		return err
	}
	if err == nil {
		c.acked[fmt.Sprint("in ", c.n)] = true
		recs, err := c.sub.Poll(ctx, 1)
		if err != nil {
			return err
		}
		// Positions need little space, but they do need some in the commit log.
		if err := c.outcome(c.sub.Commit(ctx, recs...), "position", recs[0].Partition, recs[0].Offset+1); err != nil {
			return err
		}
	}
	if err := c.bulk(); err != nil {
		return err
	}
	c.n++
	tx := c.b.Begin()
	err = errors.Join(tx.Publish(c.to, record(c.n, c.Record)), tx.Publish(c.in, record(c.n, 10)), tx.Put("n", strconv.AppendInt(nil, int64(c.n), 10)), tx.Put("large", make([]byte, c.Put)))
	if err != nil {
		return err
	}
	if err = tx.Commit(ctx); err == nil {
		c.acked[fmt.Sprint("out ", c.n)], c.acked[fmt.Sprint("in ", c.n)] = true, true
		c.say("state", c.n)
		c.say("acked", "in", c.n)
	} else {
		c.say("refused", "in", c.n)
	}
	return c.outcome(err, "acked", "out", c.n)
}

// bulk publishes many records with one call: their frames are written with one write.
func (c *child) bulk() error {
	recs := make([]*braid.Record, c.Bulk)
	for i := range recs {
		recs[i] = record(c.n+1+i, c.Record)
		recs[i].Key = nil // then they go to one partition
	}
	err := c.in.Publish(context.Background(), recs...)
	var each *braid.PublishError
	errors.As(err, &each)
	for i := range recs {
		c.n++
		if each != nil {
			err = each.Errs[i]
		}
		if err == nil {
			c.acked[fmt.Sprint("in ", c.n)] = true
		}
		if err := c.outcome(err, "acked", "in", c.n); err != nil {
			return err
		}
	}
	return nil
}

// reads reads everything.
func (c *child) reads() error {
	got, err := contents(c.b)
	if err != nil {
		return err
	}
	if !maps.Equal(got, c.acked) {
		return fmt.Errorf("what is readable is not what was acknowledged: %s", cmp.Diff(c.acked, got))
	}
	return nil
}

// contents returns what there is: the name of the topic and the number for each record.
func contents(b *braid.Broker) (map[string]bool, error) {
	got := map[string]bool{}
	for _, t := range b.Topics() {
		for rec, err := range t.Read(context.Background(), braid.ReadOptions{}) {
			if err != nil {
				return nil, err
			}
			n, rest, _ := strings.Cut(string(rec.Value), " ")
			what := t.Name() + " " + n
			if rec.Key != nil && n != string(rec.Key) || strings.Trim(rest, "x") != "" || got[what] {
				return nil, fmt.Errorf("record %s is %.20q, or there twice", what, rec.Value)
			}
			got[what] = true
		}
	}
	return got, nil
}

// unreserved is a file system on which space cannot be reserved.
type unreserved struct{ vfs.FS }

type unreservedFile struct{ vfs.File }

func (unreservedFile) Reserve(int64, int64) error { return nil }

func wrapped(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return unreservedFile{f}, nil
}

func (u unreserved) Create(name string) (vfs.File, error) { return wrapped(u.FS.Create(name)) }
func (u unreserved) OpenReadWrite(name string) (vfs.File, error) {
	return wrapped(u.FS.OpenReadWrite(name))
}

// told is what a child has said.
type told struct {
	acked, refused map[string]bool
	state          string
	positions      map[string]string
	ended          bool
	failed         string
}

func listen(out string) told {
	t := told{acked: map[string]bool{}, refused: map[string]bool{}, positions: map[string]string{}}
	for line := range strings.Lines(out) {
		what, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch what {
		case "acked":
			t.acked[rest] = true
		case "refused":
			t.refused[rest] = true
		case "state":
			t.state = rest
		case "position":
			p, off, _ := strings.Cut(rest, " ")
			t.positions[p] = off
		case "end":
			t.ended = true
		case "failed":
			t.failed = rest
		}
	}
	return t
}

// The files of a process may not become larger than a limit, which is reached by segments, or by the commit log, with small and with large writes, in each durability. What does not
// fit is refused with ErrNoSpace and is not there, everything else goes on; once the limit is lifted, all goes on without reopening. However the process
// ends, the next one finds exactly what was acknowledged.
func TestWhatDoesNotFitIsRefusedAndWhatWasAcknowledgedStays(t *testing.T) {
	for name, o := range map[string]orders{
		"segments, small records":                  {Limit: 300_000, SegmentBytes: 8 << 20, Record: 1000},
		"segments, small records, interval":        {Limit: 300_000, SegmentBytes: 8 << 20, Record: 1000, Durability: braid.Interval},
		"segments, small records, os":              {Limit: 300_000, SegmentBytes: 8 << 20, Record: 1000, Durability: braid.OS},
		"segments, large records":                  {Limit: 1_500_000, SegmentBytes: 8 << 20, Record: 200_000},
		"segments, large records, os":              {Limit: 1_500_000, SegmentBytes: 8 << 20, Record: 200_000, Durability: braid.OS},
		"segments, large records, short writes":    {Limit: 1_500_000, SegmentBytes: 8 << 20, Record: 200_000, Unreserved: true},
		"segments, bulk, short writes":             {Limit: 2_300_000, SegmentBytes: 8 << 20, Record: 30_000, Bulk: 20, Unreserved: true},
		"segments, bulk, short writes, os":         {Limit: 2_300_000, SegmentBytes: 8 << 20, Record: 30_000, Bulk: 20, Unreserved: true, Durability: braid.OS},
		"segments, small records, short, interval": {Limit: 300_000, SegmentBytes: 8 << 20, Record: 1000, Unreserved: true, Durability: braid.Interval},
		"segments, small records, short, os":       {Limit: 300_000, SegmentBytes: 8 << 20, Record: 1000, Unreserved: true, Durability: braid.OS},
		"commit log, small batches":                {Limit: 900_000, SegmentBytes: 64 << 10, Record: 10, Put: 5000},
		"commit log, large batches":                {Limit: 2_000_000, SegmentBytes: 64 << 10, Record: 1000, Put: 300_000},
	} {
		for _, end := range []string{"closed", "killed", "resumed and closed", "resumed and killed"} {
			t.Run(name+"/"+end, func(t *testing.T) {
				o := o
				dir := t.TempDir()
				if end != "killed" { // a file system in memory has the same limits, and is quicker
					dir = inMemory(t)
				}
				o.Dir = filepath.Join(dir, "data")
				o.Resume, o.Kill = strings.HasPrefix(end, "resumed"), strings.HasSuffix(end, "killed")
				out := runOrders(t, o)
				told := listen(out)
				if told.failed != "" || !told.ended {
					t.Fatalf("the child: %s", out[max(0, len(out)-2000):])
				}
				if len(told.acked) == 0 || len(told.refused) < 10 || told.state == "" {
					t.Errorf("not worth it: %d records acknowledged, %d refused", len(told.acked), len(told.refused))
				}
				told.check(t, o)
			})
		}
	}
}

// check opens the directory without a limit: what was acknowledged is there, of what was refused nothing is, and it goes on.
func (told told) check(t *testing.T, o orders) {
	t.Helper()
	for round := range 2 {
		b, err := braid.Open(o.Dir, braid.Options{Durability: o.Durability})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range b.OpenReport().Partitions {
			if len(p.Problems) > 0 || p.GapFrom != p.GapNext {
				t.Errorf("reported: %+v", p)
			}
		}
		got, err := contents(b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(told.acked, got); diff != "" {
			t.Errorf("round %d: %s", round, diff)
		}
		state, _, err := b.Get(t.Context(), "n")
		if err != nil || string(state) != told.state {
			t.Errorf("the state is %s, %v, committed was %s", state, err, told.state)
		}
		in, err := b.Topic("in")
		if err != nil {
			t.Fatal(err)
		}
		told.checkPositions(t, in)
		rec := record(1_000_000+round, 10)

		if err := in.Publish(t.Context(), rec); err != nil {
			t.Errorf("publishing without the limit: %v", err)
		}
		told.acked[fmt.Sprintf("in %s", rec.Key)] = true
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// checkPositions compares the group's positions with those that were committed.
func (told told) checkPositions(t *testing.T, in *braid.Topic) {
	t.Helper()
	if len(told.positions) == 0 {
		return
	}
	g, err := in.Group("g")
	if err != nil {
		t.Fatal(err)
	}
	d, err := g.Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, p := range d.Partitions {
		if p.Committed > 0 { // else nothing of it has been delivered yet
			got[fmt.Sprint(p.Partition)] = fmt.Sprint(p.Committed)
		}
	}
	if diff := cmp.Diff(told.positions, got); diff != "" {
		t.Errorf("positions: %s", diff)
	}
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

// runOrders has a child carry out orders, and returns what it says.
func runOrders(t *testing.T, o orders) string {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	out, err := cmd.CombinedOutput()
	if killed := err != nil && cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL; killed != o.Kill {
		t.Fatalf("the child: %v\n%s", err, out[max(0, len(out)-2000):])
	}
	return string(out)
}

// What does not even open under a limit says so, and loses nothing.
func TestOpeningWithoutSpaceIsRefusedAndLosesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	b, err := braid.Open(dir, braid.Options{})
	if err != nil {
		t.Fatal(err)
	}
	in, err := b.CreateTopic(t.Context(), "in", braid.TopicConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(in.Publish(t.Context(), record(1, 10)), b.Close()); err != nil {
		t.Fatal(err)
	}
	out := runOrders(t, orders{Dir: dir, Limit: 60_000, OpenOnly: true})
	if told := listen(out); told.failed != "" || !told.ended {
		t.Errorf("the child: %s", out)
	}
	told{acked: map[string]bool{"in 1": true}, positions: map[string]string{}}.check(t, orders{Dir: dir})
}
