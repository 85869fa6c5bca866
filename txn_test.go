package braid

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// killed returns a copy of a broker's directory as a kill -9 at this moment would leave it.
func killed(t testing.TB, b *Broker) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "killed")
	if err := os.CopyFS(dir, os.DirFS(b.dir)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// state returns the application's whole state.
func state(t testing.TB, b *Broker) map[string]string {
	t.Helper()
	out := map[string]string{}
	for e, err := range b.Scan(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		out[e.Key] = string(e.Value)
	}
	return out
}

func rec(key, value string) *Record {
	r := &Record{Value: []byte(value)}
	if key != "" {
		r.Key = []byte(key)
	}
	return r
}

// brokers calls f with a broker of each kind.
func brokers(t *testing.T, f func(t *testing.T, b *Broker)) {
	for _, opts := range []Options{{}, {Durability: Interval}, {Durability: OS}, {InMemory: true}} {
		name := opts.Durability.String()
		dir := ""
		if opts.InMemory {
			name = "memory"
		} else {
			dir = t.TempDir()
		}
		t.Run(name, func(t *testing.T) { f(t, open(t, dir, opts)) })
	}
}

func TestATransactionMakesOutputsPositionsAndStateDurableAtOnce(t *testing.T) {
	brokers(t, func(t *testing.T, b *Broker) {
		in, out := ensure(t, b, "in", TopicConfig{}), ensure(t, b, "out", TopicConfig{Partitions: 3})
		publish(t, in, "one", "two", "three")
		sub := subscribe(t, in, "g", SubscribeOptions{})
		recs := poll(t, sub, 2)
		tx := b.Begin()
		if err := errors.Join(tx.Offsets(sub, recs...), tx.Publish(out, rec("k", "a"), rec("k", "b"), rec("", "c")), tx.Publish(in, rec("", "four")),
			tx.Put("count", []byte("2")), tx.Put("gone", nil), tx.Delete("gone")); err != nil {
			t.Fatal(err)
		}
		if n := len(values(t, out, ReadOptions{})); n != 0 || len(state(t, b)) != 0 {
			t.Error("something is visible before the commit")
		}
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		check := func(b *Broker) {
			t.Helper()
			out, _ := b.Topic("out")
			in, _ := b.Topic("in")
			got := values(t, out, ReadOptions{})
			slices.Sort(got)
			if diff := cmp.Diff([]string{"a", "b", "c"}, got); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff([]string{"one", "two", "three", "four"}, values(t, in, ReadOptions{})); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(map[string]string{"count": "2"}, state(t, b)); diff != "" {
				t.Error(diff)
			}
		}
		check(b)
		ack := AckDurable
		if b.opts.InMemory {
			ack = AckMemory
		}
		for _, o := range tx.Outputs() {
			if o.Partition == 0 || o.Ack != ack || o.Topic == "" {
				t.Errorf("%+v is not told where it is", o)
			}
		}
		if o := tx.Outputs(); o[1].Offset != o[0].Offset+1 || o[3].Offset != 3 || tx.Pending() != nil {
			t.Errorf("offsets %d, %d, %d, pending %v", o[0].Offset, o[1].Offset, o[3].Offset, tx.Pending())
		}
		if at := slices.Collect(maps.Values(sub.Committed())); !slices.Equal(at, []int64{2}) {
			t.Errorf("committed %v, want 2", at)
		}
		if b.opts.InMemory {
			return
		}
		again := open(t, killed(t, b), Options{})
		check(again)
		in, _ = again.Topic("in")
		if got := texts(poll(t, subscribe(t, in, "g", SubscribeOptions{}), 2)); !slices.Equal(got, []string{"three", "four"}) {
			t.Errorf("the group goes on with %v", got)
		}
	})
}

func TestWhatIsRolledBackOrRefusedLeavesNothing(t *testing.T) {
	b := openMemory(t)
	topic := ensure(t, b, "topic", TopicConfig{})
	publish(t, topic, "x")
	sub := subscribe(t, topic, "g", SubscribeOptions{})
	recs := poll(t, sub, 1)
	fill := func() *Txn {
		tx := b.Begin()
		if err := errors.Join(tx.Offsets(sub, recs...), tx.Publish(topic, rec("", "y")), tx.Put("k", []byte("v"))); err != nil {
			t.Fatal(err)
		}
		return tx
	}
	tx := fill()
	tx.Rollback()
	if err := tx.Commit(t.Context()); !errors.Is(err, ErrTxnEnded) {
		t.Errorf("commit after rollback: error %v, want ErrTxnEnded", err)
	}
	tx = fill()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := tx.Commit(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	for _, err := range []error{tx.Put("k", nil), tx.Delete("k"), tx.Publish(topic, rec("", "z")), tx.Offsets(sub, recs...)} {
		if !errors.Is(err, ErrTxnEnded) {
			t.Errorf("error %v, want ErrTxnEnded", err)
		}
	}
	if _, _, err := tx.Get("k"); !errors.Is(err, ErrTxnEnded) {
		t.Errorf("error %v, want ErrTxnEnded", err)
	}
	if len(state(t, b)) > 0 || len(values(t, topic, ReadOptions{})) != 1 || slices.Max(slices.Collect(maps.Values(sub.Committed()))) != 0 {
		t.Error("something has happened")
	}
	publish(t, topic, "next")
	if got := texts(poll(t, sub, 1)); !slices.Equal(got, []string{"next"}) {
		t.Errorf("%v", got)
	}
}

func TestATransactionReadsItsOwnWritesAndTheSameTwice(t *testing.T) {
	b := openMemory(t)
	set := func(key, value string) {
		tx := b.Begin()
		if err := errors.Join(tx.Put(key, []byte(value)), tx.Commit(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	set("a", "1")
	tx := b.Begin()
	want := func(key, value string) {
		t.Helper()
		v, ok, err := tx.Get(key)
		if err != nil || string(v) != value || ok != (value != "") {
			t.Errorf("%s is %q, %v, %v, want %q", key, v, ok, err, value)
		}
	}
	want("a", "1")
	want("b", "")
	set("a", "2")
	want("a", "1")
	tx.Put("a", []byte("3"))
	want("a", "3")
	tx.Delete("a")
	want("a", "")
	var conflict *ConflictError
	if err := tx.Commit(t.Context()); !errors.As(err, &conflict) || conflict.Key != "a" || !errors.Is(err, ErrConflict) {
		t.Errorf("error %v, want a conflict about a", err)
	}
	tx = b.Begin()
	tx.Put("a", []byte("blind")) // nothing was read, so nothing can conflict
	set("a", "4")
	if err := tx.Commit(t.Context()); err != nil {
		t.Error(err)
	}
	if v, ok, err := b.Get(t.Context(), "a"); string(v) != "blind" || !ok || err != nil {
		t.Errorf("%s, %v, %v", v, ok, err)
	}
	if _, ok, err := b.Get(t.Context(), "nothing"); ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
}

func TestNoUpdateIsLostWhenManyAddToOneCounter(t *testing.T) {
	brokers(t, func(t *testing.T, b *Broker) {
		out := ensure(t, b, "out", TopicConfig{Partitions: 2})
		const adders, each = 16, 25
		var wg sync.WaitGroup
		for i := range adders {
			wg.Go(func() {
				for n := 0; n < each; {
					tx := b.Begin()
					v, _, err := tx.Get("total")
					total, _ := strconv.Atoi(string(v))
					err = errors.Join(err, tx.Put("total", []byte(strconv.Itoa(total+1))), tx.Publish(out, rec(fmt.Sprint(i), "added")), tx.Commit(t.Context()))
					switch {
					case err == nil:
						n++
					case !errors.Is(err, ErrConflict):
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		if got := state(t, b)["total"]; got != fmt.Sprint(adders*each) {
			t.Errorf("total %s, want %d", got, adders*each)
		}
		if n := len(values(t, out, ReadOptions{})); n != adders*each {
			t.Errorf("%d outputs, want %d: one of each transaction that happened", n, adders*each)
		}
	})
}

func TestTransactionsAreBounded(t *testing.T) {
	b := open(t, "", Options{InMemory: true, Limits: Limits{MaxTxnBytes: 10_000}})
	topic := ensure(t, b, "topic", TopicConfig{})
	large := make([]byte, 6000)
	tx := b.Begin()
	if err := tx.Publish(topic, &Record{Value: large}); err != nil {
		t.Fatal(err)
	}
	_, _, getErr := tx.Get(strings.Repeat("k", 70_000))
	for what, err := range map[string]error{
		"records": tx.Publish(topic, &Record{Value: large}), "values": tx.Put("k", large),
		"a value": tx.Put("k", make([]byte, 17<<20)), "a key": tx.Delete(strings.Repeat("k", 70_000)), "a key read": getErr,
	} {
		if !errors.Is(err, ErrLimit) {
			t.Errorf("%s: error %v, want ErrLimit", what, err)
		}
	}
	var invalid *RecordError
	if err := tx.Publish(topic, rec("", "fine"), &Record{}); !errors.As(err, &invalid) || invalid.Index != 1 {
		t.Errorf("error %v, want a RecordError of record 1", err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := len(values(t, topic, ReadOptions{})); got != 1 {
		t.Errorf("%d records, want the one that was accepted", got)
	}
}

func TestALargeTransactionIsOneStep(t *testing.T) {
	b := open(t, t.TempDir(), Options{})
	topic := ensure(t, b, "topic", TopicConfig{Partitions: 2})
	tx := b.Begin()
	for i := range 100 {
		r := rec(fmt.Sprint(i), strings.Repeat("v", 100_000))
		r.Headers = slices.Repeat([]Header{{Key: "h", Value: []byte{}}}, 500)
		if err := errors.Join(tx.Publish(topic, r), tx.Put(fmt.Sprint(i), make([]byte, 20_000))); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	again := open(t, killed(t, b), Options{})
	topic, _ = again.Topic("topic")
	if n := len(values(t, topic, ReadOptions{})); n != 100 || len(state(t, again)) != 100 {
		t.Errorf("%d records, %d keys", n, len(state(t, again)))
	}
}

func TestATransactionIsRefusedWhereItCannotHappen(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, Options{})
	topic := ensure(t, b, "topic", TopicConfig{})
	other := ensure(t, openMemory(t), "topic", TopicConfig{})
	tx := b.Begin()
	if err := tx.Publish(other, rec("", "x")); !errors.Is(err, ErrTopicNotFound) {
		t.Errorf("another broker's topic: error %v", err)
	}
	sub := subscribe(t, topic, "g", SubscribeOptions{})
	if err := tx.Offsets(sub, rec("", "never delivered")); !errors.Is(err, ErrNotDelivered) {
		t.Errorf("error %v, want ErrNotDelivered", err)
	}
	if err := tx.Publish(topic, rec("", "x")); err != nil {
		t.Fatal(err)
	}
	if err := b.DeleteTopic(t.Context(), "topic"); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); !errors.Is(err, ErrTopicNotFound) {
		t.Errorf("a deleted topic: error %v, want ErrTopicNotFound", err)
	}
	tx = b.Begin()
	tx.Put("k", []byte("v"))
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	ro := open(t, dir, Options{ReadOnly: true})
	tx = ro.Begin()
	tx.Put("k", []byte("w"))
	if err := tx.Commit(t.Context()); !errors.Is(err, ErrReadOnly) {
		t.Errorf("read-only: error %v, want ErrReadOnly", err)
	}
	closed := open(t, t.TempDir(), Options{})
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	tx = closed.Begin()
	tx.Put("k", nil)
	if err := tx.Commit(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: error %v, want ErrClosed", err)
	}
	if _, _, err := closed.Get(t.Context(), "k"); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: error %v, want ErrClosed", err)
	}
}

func TestTheStateCanBeReadBesideALiveWriter(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, Options{})
	for i := range 2 { // the second proves that the first was durable
		tx := b.Begin()
		tx.Put(fmt.Sprint("key", i), []byte("v"))
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ro := open(t, dir, Options{ReadOnly: true})
	if v, ok, err := ro.Get(t.Context(), "key0"); !ok || string(v) != "v" || err != nil {
		t.Errorf("%s, %v, %v", v, ok, err)
	}
	if got := state(t, ro); got["key0"] != "v" {
		t.Errorf("%v", got)
	}
}

func TestProcessCountsEveryRecordOnceWhateverGoesWrong(t *testing.T) {
	brokers(t, func(t *testing.T, b *Broker) {
		topic := ensure(t, b, "topic", TopicConfig{Partitions: 3})
		const n = 300
		for i := range n {
			if err := topic.Publish(t.Context(), rec(fmt.Sprint(i%20), fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
		}
		sub := subscribe(t, topic, "g", SubscribeOptions{})
		failure := errors.New("not today")
		calls, failures, conflicts := 0, 0, 0
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for {
			err := sub.Process(ctx, func(tx *Txn, recs []*Record) error {
				calls++
				v, _, err := tx.Get("count")
				if err != nil {
					return err
				}
				count, _ := strconv.Atoi(string(v))
				for _, r := range recs {
					if len(r.Key) > 0 {
						count++
						if err := tx.Publish(topic, rec("", "echo of "+string(r.Value))); err != nil {
							return err
						}
					}
				}
				if calls%5 == 1 {
					failures++
					return failure
				}
				if calls%5 == 3 { // somebody else touches what was read
					conflicts++
					other := b.Begin()
					other.Put("count", v)
					if err := other.Commit(t.Context()); err != nil {
						return err
					}
				}
				if count == n && len(recs) > 0 && len(recs[0].Key) == 0 {
					cancel()
				}
				return tx.Put("count", []byte(strconv.Itoa(count)))
			})
			if errors.Is(err, context.Canceled) {
				break
			}
			if !errors.Is(err, failure) {
				t.Fatal(err)
			}
		}
		if got := state(t, b)["count"]; got != fmt.Sprint(n) || failures == 0 || conflicts == 0 {
			t.Errorf("counted %s, want %d; %d failures, %d conflicts", got, n, failures, conflicts)
		}
		echoes := map[string]int{}
		for _, v := range values(t, topic, ReadOptions{}) {
			if strings.HasPrefix(v, "echo") {
				echoes[v]++
			}
		}
		for v, times := range echoes {
			if times != 1 {
				t.Errorf("%s: %d times", v, times)
			}
		}
		if len(echoes) != n {
			t.Errorf("%d echoes, want %d", len(echoes), n)
		}
	})
}

// A store that was rolled back would have half a transaction: its records, without its positions and state.
func TestAnOlderCopyOfTheStoreIsNoticed(t *testing.T) {
	for _, how := range []string{"closed", "killed"} {
		t.Run(how, func(t *testing.T) {
			dir := t.TempDir()
			b := open(t, dir, Options{})
			topic := ensure(t, b, "topic", TopicConfig{})
			old := killed(t, b)
			tx := b.Begin()
			if err := errors.Join(tx.Publish(topic, rec("", "x")), tx.Put("k", []byte("v")), tx.Commit(t.Context())); err != nil {
				t.Fatal(err)
			}
			if how == "closed" {
				if err := b.Close(); err != nil {
					t.Fatal(err)
				}
			} else {
				topic.table.Load().all[0].log.VisibleEnd() // it reaches the segment
			}
			mixed := killed(t, b)
			if err := errors.Join(os.RemoveAll(filepath.Join(mixed, storeName)),
				os.CopyFS(filepath.Join(mixed, storeName), os.DirFS(filepath.Join(old, storeName)))); err != nil {
				t.Fatal(err)
			}
			for _, opts := range []Options{{}, {ReadOnly: true}} {
				if b, err := Open(mixed, opts); !errors.Is(err, ErrCorrupt) {
					t.Errorf("%+v: error %v, want ErrCorrupt", opts, err)
					if err == nil {
						b.Close()
					}
				}
			}
		})
	}
}
