package braid

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/braid-go/braid/group"
)

// spread publishes n records with as many keys, so that all partitions have some.
func spread(t testing.TB, topic *Topic, n int) {
	t.Helper()
	recs := make([]*Record, n)
	for i := range recs {
		recs[i] = &Record{Key: fmt.Appendf(nil, "key-%d", i), Value: fmt.Append(nil, i)}
	}
	if err := topic.Publish(t.Context(), recs...); err != nil {
		t.Fatal(err)
	}
}

// drain polls until nothing is there, and returns what came.
func drain(t testing.TB, sub *Subscription) []*Record {
	t.Helper()
	var out []*Record
	for {
		recs, err := sub.Poll(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, recs...)
		lag := int64(0)
		sub.mu.Lock()
		for _, p := range sub.parts {
			if p.ready() {
				lag++
			}
		}
		sub.mu.Unlock()
		if lag == 0 {
			return out
		}
	}
}

func TestMembersShareThePartitions(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{Partitions: 4})
	a := subscribe(t, topic, "g", SubscribeOptions{})
	b := subscribe(t, topic, "g", SubscribeOptions{})
	spread(t, topic, 100)
	seen := map[string]int{}
	count := func(recs []*Record) {
		for _, r := range recs {
			seen[string(r.Value)]++
		}
	}
	count(drain(t, b)) // a has not begun to read, so nobody waits for it
	count(drain(t, a))
	if diff := cmp.Diff([][]PartitionID{{1, 2}, {3, 4}}, [][]PartitionID{a.Assigned(), b.Assigned()}); diff != "" {
		t.Errorf("assigned: %s", diff)
	}
	if len(seen) != 100 {
		t.Errorf("%d of 100 records came", len(seen))
	}
	for v, n := range seen {
		if n != 1 {
			t.Errorf("%s came %d times", v, n)
		}
	}
}

// told notes what a member is told.
type told struct {
	mu  sync.Mutex
	log []string
}

func (l *told) options(o SubscribeOptions) SubscribeOptions {
	note := func(what string) func([]PartitionID) {
		return func(ids []PartitionID) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.log = append(l.log, fmt.Sprint(what, ids))
		}
	}
	o.OnAssigned, o.OnRevoked, o.OnLost = note("assigned"), note("revoked"), note("lost")
	return o
}

func (l *told) want(t *testing.T, want ...string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if diff := cmp.Diff(want, l.log); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	l.log = nil
}

// catchUp has a member do what Poll begins with.
func catchUp(t *testing.T, sub *Subscription) {
	t.Helper()
	if err := sub.rebalance(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestAHandOverCommitsWhatIsFinishedAndTheNextOwnerGoesOnThere(t *testing.T) {
	for name, tc := range map[string]struct {
		auto  time.Duration
		again int
	}{"auto-commit": {time.Hour, 0}, "manual": {0, 10}} {
		t.Run(name, func(t *testing.T) {
			topic := ensure(t, open(t, t.TempDir(), Options{}), "t", TopicConfig{Partitions: 2})
			publishTo(t, topic, 2, 10)
			var la, lb told
			a := subscribe(t, topic, "g", la.options(SubscribeOptions{AutoCommit: tc.auto}))
			poll(t, a, 10)
			b := subscribe(t, topic, "g", lb.options(SubscribeOptions{AutoCommit: tc.auto}))
			publishTo(t, topic, 1, 1)
			got := poll(t, a, 1) // hands partition 2 over
			if got[0].Partition != 1 {
				t.Errorf("a was delivered a record of partition %d", got[0].Partition)
			}
			la.want(t, "assigned[1 2]", "revoked[2]")
			publishTo(t, topic, 2, 1)
			if recs := drain(t, b); len(recs) != tc.again+1 || recs[0].Partition != 2 {
				t.Errorf("b was delivered %d records, want %d", len(recs), tc.again+1)
			}
			lb.want(t, "assigned[2]")
			a.Close()
			catchUp(t, b)
			lb.want(t, "assigned[1]")
		})
	}
}

// publishTo publishes n records to one partition.
func publishTo(t testing.TB, topic *Topic, id PartitionID, n int) {
	t.Helper()
	tab := topic.table.Load()
	for i := 0; n > 0; i++ {
		key := fmt.Appendf(nil, "key-%d", i)
		if tab.active[tab.route(&Record{Key: key}, topic)].id != id {
			continue
		}
		if err := topic.Publish(t.Context(), &Record{Key: key, Value: fmt.Append(nil, i)}); err != nil {
			t.Fatal(err)
		}
		n--
	}
}

func TestOnRevokedIsTheMomentToCommit(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{Partitions: 2})
	publishTo(t, topic, 2, 10)
	var a *Subscription
	a = subscribe(t, topic, "g", SubscribeOptions{OnRevoked: func([]PartitionID) {
		if err := a.CommitDelivered(context.Background()); err != nil {
			t.Error(err)
		}
	}})
	recs := poll(t, a, 10)
	b := subscribe(t, topic, "g", SubscribeOptions{})
	catchUp(t, a)
	publishTo(t, topic, 2, 1)
	if got := drain(t, b); len(got) != 1 {
		t.Errorf("b was delivered %d records again", len(got)-1)
	}
	if err := a.Commit(t.Context(), recs...); err != nil {
		t.Errorf("committing what has been committed: %v", err)
	}
}

// A zombie goes on working with what it was delivered, after it has lost the partition.
func TestAZombieIsFenced(t *testing.T) {
	b := open(t, t.TempDir(), Options{})
	topic, out := ensure(t, b, "t", TopicConfig{}), ensure(t, b, "out", TopicConfig{})
	publish(t, topic, numbered("r", 10)...)
	var lz, ln told
	var takeAway atomic.Bool
	zombie := subscribe(t, topic, "g", lz.options(SubscribeOptions{RebalanceTimeout: time.Millisecond, Assignor: give{&takeAway}}))
	recs := poll(t, zombie, 10)
	takeAway.Store(true)
	next := subscribe(t, topic, "g", ln.options(SubscribeOptions{}))
	again := poll(t, next, 10) // waits until the partition has been taken away
	if err := next.Commit(t.Context(), again[:5]...); err != nil {
		t.Fatal(err)
	}
	var fenced *FencedError
	if err := zombie.Commit(t.Context(), recs...); !errors.Is(err, ErrFenced) || !errors.As(err, &fenced) || !slices.Equal(fenced.Partitions, []PartitionID{1}) {
		t.Errorf("commit: error %v, want ErrFenced", err)
	}
	if err := zombie.CommitDelivered(t.Context()); !errors.Is(err, ErrFenced) {
		t.Errorf("commit delivered: error %v, want ErrFenced", err)
	}
	tx := b.Begin()
	if err := errors.Join(tx.Publish(out, &Record{Value: []byte("of a zombie")}), tx.Put("by", []byte("zombie")), tx.Offsets(zombie, recs...)); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); !errors.Is(err, ErrFenced) {
		t.Errorf("transaction: error %v, want ErrFenced", err)
	}
	if n := len(values(t, out, ReadOptions{})); n != 0 {
		t.Errorf("%d outputs are visible", n)
	}
	if _, ok, err := b.Get(t.Context(), "by"); ok || err != nil {
		t.Errorf("its state was kept: %v", err)
	}
	if got := next.Committed()[1]; got != 5 {
		t.Errorf("committed %d, want 5", got)
	}
	zombie.Poll(canceled(), 0)
	catchUp(t, zombie)
	lz.want(t, "assigned[1]", "lost[1]")
	ln.want(t, "assigned[1]")
	if err := zombie.Commit(t.Context(), recs[9]); !errors.Is(err, ErrFenced) {
		t.Errorf("after it knows: error %v, want ErrFenced", err)
	}
	if err := next.Commit(t.Context(), again...); err != nil {
		t.Errorf("the owner cannot commit: %v", err)
	}
}

// give gives everything to the first member, or to the last.
type give struct{ last *atomic.Bool }

func (give) Name() string { return "give" }

func (g give) Assign(members []group.Member, _ []int, current []group.Member) []group.Member {
	to := members[0]
	if g.last.Load() {
		to = members[len(members)-1]
	}
	return slices.Repeat([]group.Member{to}, len(current))
}

// A member that is slow to take a partition over, and has lost it by then, does not fence the one that has it.
func TestALateTakeOverHarmsNobody(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{})
	publish(t, topic, "x")
	slow := subscribe(t, topic, "g", SubscribeOptions{})
	late := map[PartitionID]uint64{1: slow.parts[0].epoch}
	slow.Close()
	owner := subscribe(t, topic, "g", SubscribeOptions{})
	recs := poll(t, owner, 1)
	slow = subscribe(t, topic, "g", SubscribeOptions{})
	if parts, err := slow.adopt(t.Context(), late); err != nil || len(parts) > 0 {
		t.Errorf("took over %d partitions, %v", len(parts), err)
	}
	if err := owner.Commit(t.Context(), recs...); err != nil {
		t.Error(err)
	}
}

func TestAMemberThatStaysAwayIsEvictedAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker, err := Open("", Options{InMemory: true})
		if err != nil {
			t.Fatal(err)
		}
		defer broker.Close()
		topic := ensure(t, broker, "t", TopicConfig{Partitions: 2})
		var la, lb told
		a, _ := topic.Subscribe(t.Context(), "g", la.options(SubscribeOptions{MaxPollInterval: time.Minute}))
		b, _ := topic.Subscribe(t.Context(), "g", lb.options(SubscribeOptions{}))
		catchUp(t, a)
		publishTo(t, topic, 1, 1)
		publishTo(t, topic, 2, 1)
		recs := poll(t, a, 1)
		poll(t, b, 1)
		waiting := make(chan []*Record)
		begin := time.Now()
		go func() {
			recs, _ := b.Poll(t.Context(), 0) // waits, and so is alive
			waiting <- recs
		}()
		got := <-waiting // the record that a was given and does not return from
		if waited := time.Since(begin); waited < time.Minute || waited > time.Minute+time.Minute/looksPerInterval+time.Second {
			t.Errorf("taken after %v", waited)
		}
		if len(got) != 1 || got[0].Partition != 1 {
			t.Errorf("b was delivered %v", texts(got))
		}
		lb.want(t, "assigned[2]", "assigned[1]")
		if err := a.Commit(t.Context(), recs...); !errors.Is(err, ErrFenced) {
			t.Errorf("error %v, want ErrFenced", err)
		}
		catchUp(t, a)
		a.tell()
		catchUp(t, a)
		la.want(t, "assigned[1]", "lost[1]")
		if err := b.CommitDelivered(t.Context()); err != nil {
			t.Fatal(err)
		}
		catchUp(t, b)
		catchUp(t, a)
		la.want(t, "assigned[2]")
		lb.want(t, "revoked[2]")
		if err := errors.Join(a.Close(), b.Close()); err != nil {
			t.Error(err)
		}
	})
}

func TestANamedMemberFindsItsPartitionsWhenItReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker, err := Open("", Options{InMemory: true})
		if err != nil {
			t.Fatal(err)
		}
		defer broker.Close()
		topic := ensure(t, broker, "t", TopicConfig{Partitions: 4})
		named := func(name string) *Subscription {
			sub, err := topic.Subscribe(t.Context(), "g", SubscribeOptions{Member: name})
			if err != nil {
				t.Fatal(err)
			}
			return sub
		}
		a, b := named("a"), named("b")
		catchUp(t, a)
		catchUp(t, b)
		if _, err := topic.Subscribe(t.Context(), "g", SubscribeOptions{Member: "a"}); !errors.Is(err, ErrMemberExists) {
			t.Errorf("error %v, want ErrMemberExists", err)
		}
		had := a.Assigned()
		a.Close()
		time.Sleep(29 * time.Second)
		catchUp(t, b)
		if n := len(b.Assigned()); n != 2 {
			t.Errorf("b has %d partitions", n)
		}
		a = named("a")
		catchUp(t, a)
		if diff := cmp.Diff(had, a.Assigned()); diff != "" {
			t.Error(diff)
		}
		a.Close()
		time.Sleep(31 * time.Second)
		synctest.Wait()
		catchUp(t, b)
		if n := len(b.Assigned()); n != 4 {
			t.Errorf("b has %d partitions", n)
		}
		b.Close()
		time.Sleep(31 * time.Second) // and nobody is left
		synctest.Wait()
		if n := len(broker.groups); n != 0 {
			t.Errorf("%d groups are left", n)
		}
	})
}

func TestMembersAgreeAboutTheirGroup(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{})
	subscribe(t, topic, "g", SubscribeOptions{MaxPollInterval: time.Minute})
	for field, o := range map[string]SubscribeOptions{
		"SubscribeOptions.Assignor":         {Assignor: group.Range{}},
		"SubscribeOptions.MaxPollInterval":  {MaxPollInterval: time.Hour},
		"SubscribeOptions.RebalanceTimeout": {RebalanceTimeout: time.Hour},
		"SubscribeOptions.Absence":          {Absence: time.Hour},
	} {
		var wrong *OptionError
		if _, err := topic.Subscribe(t.Context(), "g", o); !errors.As(err, &wrong) || wrong.Field != field {
			t.Errorf("error %v, want one about %s", err, field)
		}
	}
	subscribe(t, topic, "g", SubscribeOptions{Assignor: group.Sticky{}, MaxPollInterval: time.Minute, RebalanceTimeout: 30 * time.Second})
	subscribe(t, topic, "other", SubscribeOptions{Assignor: group.Range{}})
}

func TestPausedPartitionsAreNotDelivered(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{Partitions: 2})
	sub := subscribe(t, topic, "g", SubscribeOptions{})
	if err := sub.Pause(3); !errors.Is(err, ErrNotAssigned) {
		t.Errorf("error %v, want ErrNotAssigned", err)
	}
	if err := sub.Pause(2); err != nil {
		t.Fatal(err)
	}
	publishTo(t, topic, 2, 1)
	publishTo(t, topic, 1, 1)
	if recs := drain(t, sub); len(recs) != 1 || recs[0].Partition != 1 {
		t.Errorf("delivered %d", len(recs))
	}
	done := make(chan []*Record)
	go func() {
		recs, _ := sub.Poll(t.Context(), 0)
		done <- recs
	}()
	if err := sub.Resume(); err != nil { // wakes a Poll that waits
		t.Fatal(err)
	}
	if recs := <-done; len(recs) != 1 || recs[0].Partition != 2 {
		t.Errorf("delivered %d after resuming", len(recs))
	}
}

func TestLagIsRecordsAndTime(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{Partitions: 2})
	sub := subscribe(t, topic, "g", SubscribeOptions{})
	publishTo(t, topic, 2, 1)
	old := time.Now().Add(-time.Hour)
	for range 3 {
		if err := topic.Publish(t.Context(), &Record{Key: []byte("key-0"), Value: []byte("x"), Time: old}); err != nil {
			t.Fatal(err)
		}
		old = old.Add(time.Minute)
	}
	recs := drain(t, sub)
	i := slices.IndexFunc(recs, func(r *Record) bool { return string(r.Key) == "key-0" && string(r.Value) == "x" })
	if err := sub.Commit(t.Context(), recs[i]); err != nil {
		t.Fatal(err)
	}
	lags, err := sub.Lag(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var mine Lag
	total := int64(0)
	for _, l := range lags {
		total += l.Records
		if l.Partition == recs[i].Partition {
			mine = l
		}
	}
	if len(lags) != 2 || total > 3 || mine.Records != 2 || mine.End-mine.Committed != 2 {
		t.Errorf("lag %+v", lags)
	}
	if want := 59 * time.Minute; mine.Time < want || mine.Time > want+time.Minute/2 {
		t.Errorf("lag %v, want about %v", mine.Time, want)
	}
	if err := sub.CommitDelivered(t.Context()); err != nil {
		t.Fatal(err)
	}
	lags, _ = sub.Lag(t.Context())
	for _, l := range lags {
		if l.Records != 0 || l.Time != 0 {
			t.Errorf("lag %+v, want none", l)
		}
	}
}

// Members come and go while records are published and counted in transactions: each is counted once, and those of a key in their order.
func TestMembersThatComeAndGoCountEveryRecordOnceAndInOrder(t *testing.T) {
	const keys, perKey = 20, 100
	for name, opts := range map[string]Options{"disk": {}, "memory": {InMemory: true}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if opts.InMemory {
				dir = ""
			}
			b := open(t, dir, opts)
			topic := ensure(t, b, "t", TopicConfig{Partitions: 7})
			ctx, finish := context.WithCancel(t.Context())
			var members sync.WaitGroup
			count := func(tx *Txn, recs []*Record) error {
				for _, r := range recs {
					var next byte
					if v, ok, err := tx.Get(string(r.Key)); err != nil {
						return err
					} else if ok {
						next = v[0]
					}
					if r.Value[0] != next {
						return fmt.Errorf("key %s: record %d, want %d", r.Key, r.Value[0], next)
					}
					if err := tx.Put(string(r.Key), []byte{next + 1}); err != nil {
						return err
					}
				}
				return nil
			}
			for range 6 {
				members.Go(func() {
					for ctx.Err() == nil {
						sub, err := topic.Subscribe(ctx, "g", SubscribeOptions{RebalanceTimeout: 20 * time.Millisecond})
						if err != nil {
							if ctx.Err() == nil {
								t.Error(err)
							}
							return
						}
						life, end := context.WithTimeout(ctx, time.Duration(rand.IntN(40))*time.Millisecond)
						if err := sub.Process(life, count); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
							t.Error(err)
						}
						end()
						sub.Close()
					}
				})
			}
			for i := range perKey {
				recs := make([]*Record, keys)
				for k := range recs {
					recs[k] = &Record{Key: fmt.Appendf(nil, "key-%d", k), Value: []byte{byte(i)}}
				}
				if err := topic.Publish(t.Context(), recs...); err != nil {
					t.Fatal(err)
				}
			}
			for k := 0; k < keys; k++ {
				for {
					v, ok, err := b.Get(t.Context(), fmt.Sprintf("key-%d", k))
					if err != nil {
						t.Fatal(err)
					}
					if ok && v[0] == perKey {
						break
					}
					if t.Failed() {
						break
					}
					time.Sleep(time.Millisecond) // polled: nothing tells of a change of the state
				}
			}
			finish()
			members.Wait()
		})
	}
}
