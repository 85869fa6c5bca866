package braid

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/braid-go/braid/internal/vfs"
	"github.com/braid-go/braid/log"
	"github.com/braid-go/braid/partition"
)

func split(t testing.TB, topic *Topic, id PartitionID) []PartitionID {
	t.Helper()
	ids, err := topic.Split(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func merge(t testing.TB, topic *Topic, a, b PartitionID) PartitionID {
	t.Helper()
	id, err := topic.Merge(t.Context(), a, b)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// publishFamily publishes 20 keys before, between and after a split of 1, a split of 2 and a merge of 4 and 5.
func publishFamily(t testing.TB, topic *Topic) {
	t.Helper()
	round := func(n int) {
		for k := range 20 { // each a frame of its own
			if err := topic.Publish(t.Context(), &Record{Key: fmt.Appendf(nil, "key-%d", k), Value: fmt.Append(nil, n)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	round(0)
	if diff := cmp.Diff([]PartitionID{2, 3}, split(t, topic, 1)); diff != "" {
		t.Error(diff)
	}
	round(1)
	if diff := cmp.Diff([]PartitionID{4, 5}, split(t, topic, 2)); diff != "" {
		t.Error(diff)
	}
	round(2)
	if id := merge(t, topic, 5, 4); id != 6 {
		t.Errorf("merged into %d", id)
	}
	round(3)
}

// inOrder fails unless each of 20 keys comes with 0 to 3, in this order.
func inOrder(t testing.TB, recs []*Record) {
	t.Helper()
	got := map[string]string{}
	for _, r := range recs {
		got[string(r.Key)] += string(r.Value)
	}
	if len(got) != 20 {
		t.Errorf("%d keys", len(got))
	}
	for k, v := range got {
		if v != "0123" {
			t.Errorf("%s came as %s", k, v)
		}
	}
}

func TestKeysKeepTheirOrderOverSplitsAndMerges(t *testing.T) {
	for name, opts := range map[string]Options{"disk": {}, "memory": {InMemory: true}, "os": {Durability: OS}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if opts.InMemory {
				dir = ""
			}
			b := open(t, dir, opts)
			topic := ensure(t, b, "t", TopicConfig{})
			early := subscribe(t, topic, "early", SubscribeOptions{})
			publishFamily(t, topic)
			all := func(opts ReadOptions) (out []*Record) {
				for rec, err := range topic.Read(t.Context(), opts) {
					if err != nil {
						t.Fatal(err)
					}
					out = append(out, rec)
				}
				return out
			}
			check := func() {
				t.Helper()
				inOrder(t, all(ReadOptions{}))
				late := subscribe(t, topic, "late", SubscribeOptions{}) // never commits
				inOrder(t, poll(t, late, 80))
				if err := late.Rewind(); err != nil {
					t.Fatal(err)
				}
				inOrder(t, poll(t, late, 80))
				late.Close()
				latest := subscribe(t, topic, "latest", SubscribeOptions{From: FromLatest()})
				if lags, err := latest.Lag(t.Context()); err != nil || slices.ContainsFunc(lags, func(l Lag) bool { return l.Records > 0 }) {
					t.Errorf("latest has lag %+v, %v", lags, err)
				}
				latest.Close()
			}
			check()
			inOrder(t, poll(t, early, 80))
			if err := early.CommitDelivered(t.Context()); err != nil {
				t.Fatal(err)
			}
			catchUp(t, early)
			if diff := cmp.Diff([]PartitionID{3, 6}, early.Assigned()); diff != "" {
				t.Errorf("what was read to its end is still assigned: %s", diff)
			}
			early.Close()
			type state struct {
				ID      PartitionID
				Sealed  bool
				Parents []PartitionID
				End     int64
			}
			states := func() (out []state) {
				for _, p := range topic.Partitions() {
					out = append(out, state{p.ID, p.Sealed, p.Parents, p.End})
				}
				return out
			}
			want := states()
			if want[0].End != 20 || !want[0].Sealed || want[5].Sealed || len(want[5].Parents) != 2 {
				t.Errorf("partitions %+v", want)
			}
			if opts.InMemory {
				return
			}
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			b = open(t, dir, opts)
			var err error
			if topic, err = b.Topic("t"); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, states()); diff != "" {
				t.Errorf("after reopening: %s", diff)
			}
			check()
			early = subscribe(t, topic, "early", SubscribeOptions{})
			publishTo(t, topic, 6, 1)
			if recs := poll(t, early, 1); recs[0].Partition != 6 {
				t.Errorf("delivered a record of %d", recs[0].Partition)
			}
			if diff := cmp.Diff([]PartitionID{7, 8}, split(t, topic, 6)); diff != "" {
				t.Errorf("ids of new partitions: %s", diff)
			}
		})
	}
}

// A member can seek back over splits and merges, and is delivered each key in its order again. What the group has committed to the end is the group's no
// more: that takes a reset.
func TestASeekGoesBackOverSplitsThatTheGroupHasNotPassed(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{})
	sub := subscribe(t, topic, "g", SubscribeOptions{})
	publishFamily(t, topic)
	inOrder(t, poll(t, sub, 80))
	if err := sub.Seek(t.Context(), FromEarliest()); err != nil {
		t.Fatal(err)
	}
	recs := poll(t, sub, 80)
	inOrder(t, recs)
	i := slices.IndexFunc(recs, func(r *Record) bool { return r.Partition != 1 })
	if err := sub.Commit(t.Context(), recs[i-1]); err != nil { // the first partition is passed
		t.Fatal(err)
	}
	if err := sub.Seek(t.Context(), FromEarliest()); err != nil {
		t.Fatal(err)
	}
	again := poll(t, sub, 60)
	got := map[string]string{}
	for _, r := range again {
		got[string(r.Key)] += string(r.Value)
	}
	for k, v := range got {
		if v != "123" {
			t.Errorf("%s came again as %s, want what comes behind the first partition", k, v)
		}
	}
}

func TestAReaderThatFollowsGoesOnInTheChildren(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	read := make(chan []*Record)
	go func() {
		var recs []*Record
		for rec, err := range topic.Read(ctx, ReadOptions{Follow: true}) {
			if err != nil {
				t.Error(err)
				break
			}
			if recs = append(recs, rec); len(recs) == 80 {
				break
			}
		}
		read <- recs
	}()
	publishFamily(t, topic)
	inOrder(t, <-read)
}

func TestSplitAndMergeRefuseNonsense(t *testing.T) {
	b := open(t, "", Options{InMemory: true, Limits: Limits{MaxPartitions: 4}})
	topic := ensure(t, b, "t", TopicConfig{Partitions: 3})
	for what, do := range map[string]func() error{
		"unknown":    func() error { _, err := topic.Split(t.Context(), 9); return err },
		"neighbours": func() error { _, err := topic.Merge(t.Context(), 1, 3); return err },
		"itself":     func() error { _, err := topic.Merge(t.Context(), 1, 1); return err },
	} {
		if err := do(); !errors.Is(err, ErrInvalidOption) {
			t.Errorf("%s: error %v, want ErrInvalidOption", what, err)
		}
	}
	if _, err := topic.Split(canceled(), 1); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	split(t, topic, 1)
	if _, err := topic.Split(t.Context(), 2); !errors.Is(err, ErrLimit) {
		t.Errorf("error %v, want ErrLimit", err)
	}
	if _, err := topic.Split(t.Context(), 1); !errors.Is(err, ErrInvalidOption) {
		t.Errorf("splitting what is sealed: %v", err)
	}
	if n := len(topic.Partitions()); n != 5 {
		t.Errorf("%d partitions", n)
	}
}

// While the seal waits for the disk, publishers wait too, as long as their contexts allow; then they go on in the children.
func TestPublishersWaitForASplitAndGoOn(t *testing.T) {
	b, faults := openFaulty(t, t.TempDir())
	topic := ensure(t, b, "t", TopicConfig{})
	publish(t, topic, "before")
	settled(t, b)
	inj, held, release := block(vfs.OpDatasync)
	faults.set(vfs.InjectorFunc(func(op vfs.Op) vfs.Outcome { // the children are made ready meanwhile
		if strings.Contains(op.Name, partitionDir(1)) {
			return inj.Inject(op)
		}
		return vfs.Outcome{}
	}))
	stuck := make(chan error, 1)
	go func() { stuck <- topic.Publish(context.Background(), &Record{Value: []byte("stuck")}) }()
	<-held
	splitting := make(chan error, 1)
	go func() {
		_, err := topic.Split(context.Background(), 1)
		splitting <- err
	}()
	stored := 3 // before, stuck, parked
	for live := topic.table.Load().active[0].live; ; stored++ {
		req := live.NewRequest(probe{}, 1, 1, (*partition.Request).Release)
		if err := live.Enqueue(t.Context(), req); err != nil {
			req.Release()
			if !errors.Is(err, partition.ErrSealed) {
				t.Fatal(err)
			}
			break
		}
		time.Sleep(time.Millisecond) // until the seal has begun, which nothing tells
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := topic.Publish(ctx, &Record{Value: []byte("too late")}); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("error %v, want context.DeadlineExceeded", err)
	}
	parked := make(chan error, 1)
	rec := &Record{Value: []byte("parked")}
	go func() { parked <- topic.Publish(context.Background(), rec) }()
	release()
	if err := errors.Join(<-stuck, <-splitting, <-parked); err != nil {
		t.Fatal(err)
	}
	if rec.Partition == 1 {
		t.Error("it was stored behind the seal")
	}
	if got := values(t, topic, ReadOptions{}); len(got) != stored {
		t.Errorf("stored %q", got)
	}
}

func TestCommittingARecordCommitsWhatItsPartitionContinues(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{})
	sub := subscribe(t, topic, "g", SubscribeOptions{})
	publishFamily(t, topic)
	recs := poll(t, sub, 80)
	i := slices.IndexFunc(recs, func(r *Record) bool { return r.Partition == 6 && string(r.Value) == "3" })
	if err := sub.Commit(t.Context(), recs[i]); err != nil {
		t.Fatal(err)
	}
	sub.Close()
	sub = subscribe(t, topic, "g", SubscribeOptions{})
	want, behind := 0, false
	for _, r := range recs { // what is in 3, which was not committed, and the rest of 6
		behind = behind || r == recs[i]
		if r.Partition == 3 || r.Partition == 6 && behind && r != recs[i] {
			want++
		}
	}
	again := poll(t, sub, want)
	for _, r := range again {
		if r.Partition != 3 && r.Partition != 6 {
			t.Errorf("partition %d is delivered again", r.Partition)
		}
	}
	if lags, err := sub.Lag(t.Context()); err != nil || len(lags) != 2 {
		t.Errorf("assigned %+v, %v", lags, err)
	}
}

func TestWhatWasSealedForAChangeThatFailsTakesRecordsAgain(t *testing.T) {
	b, faults := openFaulty(t, t.TempDir())
	topic := ensure(t, b, "t", TopicConfig{Partitions: 2})
	publishTo(t, topic, 1, 1)
	publishTo(t, topic, 2, 1)
	settled(t, b)
	faults.set(vfs.FailFrom(1, syscall.EIO, vfs.OpIs(vfs.OpDatasync)))
	key := func(id PartitionID) []byte {
		tab := topic.table.Load()
		for i := 0; ; i++ {
			if k := fmt.Appendf(nil, "k%d", i); tab.active[tab.layout.Route(partition.Hash(k))].id == id {
				return k
			}
		}
	}
	if err := topic.Publish(t.Context(), &Record{Key: key(2), Value: []byte("fails")}); !errors.Is(err, ErrOutcomeUnknown) {
		t.Fatal(err)
	}
	faults.off()
	if _, err := topic.Merge(t.Context(), 1, 2); !errors.Is(err, ErrPartitionFailed) {
		t.Errorf("error %v, want ErrPartitionFailed", err)
	}
	publishTo(t, topic, 1, 1)
	split(t, topic, 1)
	if err := topic.Publish(t.Context(), &Record{Key: key(2), Value: []byte("x")}); !errors.Is(err, ErrPartitionFailed) {
		t.Errorf("error %v, want ErrPartitionFailed", err)
	}
}

// probe is a record for one partition.
type probe struct{}

func (probe) AppendTo(b *log.Builder, _ int, now int64) error {
	return b.Append(now, nil, []byte("in front of the seal"), nil)
}

// Producers of all kinds, splits, merges, members that come and go: every record is counted once, and those of a key in their order.
func TestEverythingAtOnceOverSplitsAndMerges(t *testing.T) {
	const producers, keys, perKey = 4, 8, 60
	seed := rand.Uint64()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %d (chooses what is split and merged; the timing is the machine's)", seed)
		}
	})
	for name, opts := range map[string]Options{"disk": {}, "memory": {InMemory: true}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if opts.InMemory {
				dir = ""
			}
			b := open(t, dir, opts)
			topic := ensure(t, b, "t", TopicConfig{})
			ctx, finish := context.WithCancel(t.Context())
			var others, making sync.WaitGroup
			others.Go(func() { changeLayout(ctx, t, topic, rand.New(rand.NewPCG(seed, 1))) })
			for range 3 {
				others.Go(func() { countInOrder(ctx, t, topic) })
			}
			for p := range producers {
				making.Go(func() { produce(t, topic, p, keys, perKey) })
			}
			making.Wait()
			for p := range producers {
				for k := range keys {
					for !t.Failed() {
						v, _, err := b.Get(t.Context(), fmt.Sprintf("key-%d-%d", p, k))
						if err != nil {
							t.Fatal(err)
						}
						if len(v) > 0 && binary.LittleEndian.Uint32(v) == perKey {
							break
						}
						time.Sleep(time.Millisecond) // polled: nothing tells of a change of the state
					}
				}
			}
			finish()
			others.Wait()
			changed := len(topic.Partitions())
			if changed < 3 {
				t.Errorf("%d partitions: nothing was split", changed)
			}
			t.Logf("%d partitions were made", changed)
		})
	}
}

// A thousand publishers, each of its own key, and a layout that changes all the time: nobody is told of an error, and every key is whole and in order, also
// when the broker is opened again.
func TestAThousandPublishersNoticeNothingOfSplitsAndMerges(t *testing.T) {
	const publishers, perKey = 1000, 12
	seed := rand.Uint64()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %d (chooses what is split and merged; the timing is the machine's)", seed)
		}
	})
	dir := t.TempDir()
	b := open(t, dir, Options{})
	topic := ensure(t, b, "t", TopicConfig{})
	ctx, finish := context.WithCancel(t.Context())
	var relaying, making sync.WaitGroup
	relaying.Go(func() { changeLayout(ctx, t, topic, rand.New(rand.NewPCG(seed, 1))) })
	made := make([]int, publishers)
	for p := range publishers {
		key := fmt.Sprint("key ", p)
		making.Go(func() {
			for i := 0; i < perKey || len(topic.Partitions()) < 6 && !t.Failed(); i++ {
				made[p]++
				rec := &Record{Key: []byte(key), Value: fmt.Append(nil, i)}
				if err := topic.Publish(context.Background(), rec); err != nil {
					t.Errorf("%s: record %d: %v", key, i, err)
				}
			}
		})
	}
	making.Wait()
	finish()
	relaying.Wait()
	want := map[string][]string{}
	for p, n := range made {
		for i := range n {
			key := fmt.Sprint("key ", p)
			want[key] = append(want[key], fmt.Sprint(i))
		}
	}
	byKey(t, "open", topic, want)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	topic, err := open(t, dir, Options{}).Topic("t")
	if err != nil {
		t.Fatal(err)
	}
	byKey(t, "opened again", topic, want)
}

// produce publishes the records of its keys in order, in each of the ways that there are.
func produce(t *testing.T, topic *Topic, p, keys, perKey int) {
	for i := range perKey {
		recs := make([]*Record, keys)
		for k := range recs {
			recs[k] = &Record{Key: fmt.Appendf(nil, "key-%d-%d", p, k), Value: binary.LittleEndian.AppendUint32(nil, uint32(i))}
		}
		var err error
		switch (i + p) % 4 {
		case 0:
			err = topic.Publish(t.Context(), recs...)
		case 1:
			for _, r := range recs {
				err = errors.Join(err, topic.Publish(t.Context(), r))
			}
		case 2:
			err = topic.PublishAsync(t.Context(), func(_ *Record, err error) {
				if err != nil {
					t.Error(err)
				}
			}, recs...)
			err = errors.Join(err, topic.Flush(t.Context())) // a transaction passes the queue by
		case 3:
			tx := topic.b.Begin()
			err = errors.Join(tx.Publish(topic, recs...), tx.Commit(t.Context()))
		}
		if err != nil {
			t.Errorf("producer %d, round %d: %v", p, i, err)
			return
		}
	}
}

// changeLayout splits and merges until ctx ends.
func changeLayout(ctx context.Context, t *testing.T, topic *Topic, rnd *rand.Rand) {
	for n := 0; ctx.Err() == nil && n < 60; n++ {
		active := topic.table.Load().layout.Active()
		i := rnd.IntN(len(active))
		var err error
		if len(active) > 1 && (len(active) > 8 || rnd.IntN(2) == 0) {
			i = min(i, len(active)-2)
			_, err = topic.Merge(ctx, active[i].ID, active[i+1].ID)
		} else {
			_, err = topic.Split(ctx, active[i].ID)
		}
		switch one := new(partition.IndivisibleError); {
		case errors.As(err, &one): // for now: only one publisher was at work lately
			n--
			runtime.Gosched()
		case err != nil && ctx.Err() == nil:
			t.Error(err)
		}
	}
}

// countInOrder is a member that comes and goes and counts the records of each key, in transactions.
func countInOrder(ctx context.Context, t *testing.T, topic *Topic) {
	for ctx.Err() == nil {
		sub, err := topic.Subscribe(ctx, "g", SubscribeOptions{RebalanceTimeout: time.Second})
		if err != nil {
			if ctx.Err() == nil {
				t.Error(err)
			}
			return
		}
		life, end := context.WithTimeout(ctx, time.Duration(5+rand.IntN(60))*time.Millisecond)
		err = sub.Process(life, func(tx *Txn, recs []*Record) error {
			for _, r := range recs {
				v, _, err := tx.Get(string(r.Key))
				if err != nil {
					return err
				}
				var next uint32
				if len(v) > 0 {
					next = binary.LittleEndian.Uint32(v)
				}
				if got := binary.LittleEndian.Uint32(r.Value); got != next {
					return fmt.Errorf("%s: record %d, want %d (partition %d offset %d)", r.Key, got, next, r.Partition, r.Offset)
				}
				if err := tx.Put(string(r.Key), binary.LittleEndian.AppendUint32(nil, next+1)); err != nil {
					return err
				}
			}
			return nil
		})
		if life.Err() == nil {
			t.Error(err)
		}
		end()
		sub.Close()
	}
}
