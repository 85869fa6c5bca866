package braid

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestPublishFillsInWhereTheRecordIs(t *testing.T) {
	for name, tc := range map[string]struct {
		opts Options
		ack  Ack
	}{
		"fsync":    {Options{}, AckDurable},
		"interval": {Options{Durability: Interval}, AckWritten},
		"os":       {Options{Durability: OS}, AckWritten},
		"memory":   {Options{InMemory: true}, AckMemory},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if tc.opts.InMemory {
				dir = ""
			}
			topic := ensure(t, open(t, dir, tc.opts), "orders", TopicConfig{})
			recs := publish(t, topic, "a", "b")
			for i, r := range recs {
				if r.Topic != "orders" || r.Offset != int64(i) || r.Partition != topic.Partitions()[0].ID || r.Ack != tc.ack {
					t.Errorf("record %d: topic %q partition %d offset %d ack %v", i, r.Topic, r.Partition, r.Offset, r.Ack)
				}
			}
		})
	}
}

func TestEveryFieldSurvivesTheWayToDiskAndBack(t *testing.T) {
	when := time.Date(2031, 5, 6, 7, 8, 9, 123456789, time.UTC)
	cases := []*Record{
		{Value: []byte("plain")},
		{Value: []byte{}},
		{Key: []byte("k"), Value: []byte("v"), Time: when},
		{Key: []byte{0, 0xff, '\n'}, Value: []byte("\x00\xff\xfe not UTF-8")},
		{Value: []byte("h"), Headers: []Header{{Key: "a", Value: []byte("1")}, {Key: "", Value: nil}, {Key: "a", Value: []byte{}}}},
		{Key: bytes.Repeat([]byte("K"), 7_000), Value: bytes.Repeat([]byte("V"), 90_000)},
		{Value: []byte("old"), Time: time.Unix(0, math.MinInt64/2)},
	}
	for _, compression := range []Compression{NoCompression, S2, Zstd} {
		t.Run(compression.String(), func(t *testing.T) {
			dir := t.TempDir()
			b := open(t, dir, Options{})
			topic := ensure(t, b, "t", TopicConfig{Compression: compression})
			want := make([]*Record, len(cases))
			for i, c := range cases {
				want[i] = c.Clone()
			}
			if err := topic.Publish(t.Context(), want...); err != nil {
				t.Fatal(err)
			}
			check := func(topic *Topic) {
				t.Helper()
				var got []*Record
				for rec, err := range topic.Read(t.Context(), ReadOptions{}) {
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, rec)
				}
				ignore := cmpopts.IgnoreFields(Record{}, "Ack")
				noTime := cmp.FilterValues(func(a, b time.Time) bool { return a.IsZero() || b.IsZero() }, cmp.Ignore())
				if diff := cmp.Diff(want, got, ignore, noTime, cmpopts.IgnoreUnexported(Record{}), cmpopts.EquateApproxTime(0)); diff != "" {
					t.Error(diff)
				}
			}
			check(topic)
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			again, err := open(t, dir, Options{}).Topic("t")
			if err != nil {
				t.Fatal(err)
			}
			check(again)
		})
	}
}

func TestZeroTimeBecomesTheTimeOfPublishing(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{})
	before := time.Now()
	rec := publish(t, topic, "x")[0]
	after := time.Now()
	if !rec.Time.IsZero() {
		t.Error("Publish changed the record's Time: publishing it again would repeat that time")
	}
	for got, err := range topic.Read(t.Context(), ReadOptions{}) {
		if err != nil || got.Time.Before(before.Round(0)) || got.Time.After(after) {
			t.Errorf("time %v (%v), want between %v and %v", got.Time, err, before, after)
		}
	}
}

func TestOneKeyGoesToOnePartitionInOrder(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{Partitions: 7})
	const keys, each = 50, 40
	var recs []*Record
	for i := range each {
		for k := range keys {
			recs = append(recs, &Record{Key: fmt.Appendf(nil, "key-%d", k), Value: fmt.Appendf(nil, "%d", i)})
		}
	}
	if err := topic.Publish(t.Context(), recs...); err != nil {
		t.Fatal(err)
	}
	home, seen, used := map[string]PartitionID{}, map[string]int{}, map[PartitionID]bool{}
	for rec, err := range topic.Read(t.Context(), ReadOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		key := string(rec.Key)
		if id, ok := home[key]; ok && id != rec.Partition {
			t.Fatalf("%s is in partitions %d and %d", key, id, rec.Partition)
		}
		home[key] = rec.Partition
		used[rec.Partition] = true
		if want := fmt.Sprint(seen[key]); string(rec.Value) != want {
			t.Fatalf("%s: got %s, want %s", key, rec.Value, want)
		}
		seen[key]++
	}
	if len(seen) != keys || len(used) != 7 {
		t.Errorf("%d keys in %d partitions, want %d in 7", len(seen), len(used), keys)
	}
	for key, n := range seen {
		if n != each {
			t.Errorf("%s: %d records, want %d", key, n, each)
		}
	}
}

func TestRecordsWithoutKeyGoToThePartitionsInTurn(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{Partitions: 3})
	count := map[PartitionID]int{}
	for range 9 {
		recs := publish(t, topic, "a", "b")
		if recs[0].Partition != recs[1].Partition {
			t.Error("records of one call went to two partitions")
		}
		count[recs[0].Partition]++
	}
	for id, n := range count {
		if n != 3 {
			t.Errorf("partition %d got %d of 9 calls, want 3", id, n)
		}
	}
	if len(count) != 3 {
		t.Errorf("%d partitions used, want 3", len(count))
	}
}

func TestBadRecordsAreRefusedAndNothingOfTheCallIsStored(t *testing.T) {
	good := &Record{Value: []byte("good")}
	limit := defaultMaxRecordBytes
	for name, tc := range map[string]struct {
		rec   *Record
		kind  error
		field string
	}{
		"nil record":                            {nil, ErrInvalidRecord, ""},
		"empty key":                             {&Record{Key: []byte{}, Value: []byte("v")}, ErrInvalidRecord, "Key"},
		"nil value":                             {&Record{Key: []byte("k")}, ErrInvalidRecord, "Value"},
		"time too early":                        {&Record{Value: []byte("v"), Time: time.Date(1600, 1, 1, 0, 0, 0, 0, time.UTC)}, ErrInvalidRecord, "Time"},
		"time too late":                         {&Record{Value: []byte("v"), Time: time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC)}, ErrInvalidRecord, "Time"},
		"value over the limit":                  {&Record{Value: make([]byte, limit+1)}, ErrRecordTooLarge, ""},
		"key and value over the limit together": {&Record{Key: make([]byte, limit/2+1), Value: make([]byte, limit/2)}, ErrRecordTooLarge, ""},
		"headers over the limit":                {&Record{Value: []byte{}, Headers: []Header{{Key: strings.Repeat("h", limit)}}}, ErrRecordTooLarge, ""},
		"a million empty headers":               {&Record{Value: []byte{}, Headers: make([]Header, 1_000_000)}, ErrRecordTooLarge, ""},
	} {
		t.Run(name, func(t *testing.T) {
			topic := ensure(t, openMemory(t), "t", TopicConfig{Partitions: 2})
			called := false
			for api, err := range map[string]error{
				"Publish":      topic.Publish(t.Context(), good, tc.rec),
				"PublishAsync": topic.PublishAsync(t.Context(), func(*Record, error) { called = true }, good, tc.rec),
			} {
				var re *RecordError
				if !errors.Is(err, tc.kind) || !errors.As(err, &re) || re.Index != 1 || re.Field != tc.field {
					t.Errorf("%s: error %v, want %v for record 1, field %q", api, err, tc.kind, tc.field)
				}
			}
			if err := topic.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			if called {
				t.Error("PublishAsync returned an error and called done")
			}
			if got := values(t, topic, ReadOptions{}); len(got) > 0 {
				t.Errorf("stored %q", got)
			}
		})
	}
}

func TestLargestRecordIsAccepted(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{})
	if err := topic.Publish(t.Context(), &Record{Value: make([]byte, defaultMaxRecordBytes)}); err != nil {
		t.Error(err)
	}
}

func TestMoreRecordsThanTheQueueCanHoldAreRefused(t *testing.T) {
	b := open(t, "", Options{InMemory: true, Limits: Limits{MaxQueueDepth: 10}})
	topic := ensure(t, b, "t", TopicConfig{})
	recs := make([]*Record, 11)
	for i := range recs {
		recs[i] = &Record{Value: []byte("x")}
	}
	if err := topic.Publish(t.Context(), recs...); !errors.Is(err, ErrLimit) {
		t.Errorf("error %v, want ErrLimit", err)
	}
	if err := topic.Publish(t.Context(), recs[:10]...); err != nil {
		t.Error(err)
	}
	if n := len(values(t, topic, ReadOptions{})); n != 10 {
		t.Errorf("%d records stored, want 10", n)
	}
}

func TestPublishingNothingDoesNothing(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{})
	if err := topic.Publish(t.Context()); err != nil {
		t.Error(err)
	}
	if err := topic.PublishAsync(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

func TestCanceledContextStoresNothing(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{})
	err := topic.Publish(canceled(), &Record{Value: []byte("x")})
	if !errors.Is(err, context.Canceled) || errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("error %v, want context.Canceled and not ErrOutcomeUnknown", err)
	}
	if got := values(t, topic, ReadOptions{}); len(got) > 0 {
		t.Errorf("stored %q", got)
	}
}

func TestTheRecordBelongsToTheCallerAfterPublish(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{})
	rec := &Record{Key: []byte("key"), Value: []byte("0")}
	for i := range 10 {
		rec.Value[0] = byte('0' + i)
		if err := topic.Publish(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}, values(t, topic, ReadOptions{})); diff != "" {
		t.Error(diff)
	}
}

func TestConcurrentPublishersLoseAndDoubleNothing(t *testing.T) {
	const publishers, each = 1000, 20
	topic := ensure(t, openMemory(t), "t", TopicConfig{Partitions: 4})
	var wg sync.WaitGroup
	for p := range publishers {
		wg.Go(func() {
			key := fmt.Appendf(nil, "p%d", p)
			for i := range each {
				if err := topic.Publish(context.Background(), &Record{Key: key, Value: fmt.Appendf(nil, "%d", i)}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	next := map[string]int{}
	for rec, err := range topic.Read(t.Context(), ReadOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprint(next[string(rec.Key)]); string(rec.Value) != want {
			t.Fatalf("%s: got %s, want %s", rec.Key, rec.Value, want)
		}
		next[string(rec.Key)]++
	}
	if len(next) != publishers {
		t.Errorf("%d keys, want %d", len(next), publishers)
	}
}

func TestPublishAsyncCallsBackOncePerRecordInOffsetOrder(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{Partitions: 3})
	const n = 5000
	var mu sync.Mutex
	last, count := map[PartitionID]int64{}, 0
	done := func(rec *Record, err error) {
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			t.Error(err)
		}
		if prev, ok := last[rec.Partition]; ok && rec.Offset != prev+1 {
			t.Errorf("partition %d: offset %d after %d", rec.Partition, rec.Offset, prev)
		}
		last[rec.Partition] = rec.Offset
		count++
	}
	for i := range n / 5 {
		var recs []*Record
		for j := range 5 {
			recs = append(recs, &Record{Key: fmt.Appendf(nil, "%d", j), Value: fmt.Appendf(nil, "%d", i)})
		}
		if err := topic.PublishAsync(t.Context(), done, recs...); err != nil {
			t.Fatal(err)
		}
	}
	if err := topic.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if count != n {
		t.Errorf("%d callbacks after Flush, want %d", count, n)
	}
}

func TestPublishToADeletedTopicOrClosedBroker(t *testing.T) {
	b := openMemory(t)
	topic := ensure(t, b, "t", TopicConfig{})
	if err := b.DeleteTopic(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	rec := &Record{Value: []byte("x")}
	if err := topic.Publish(t.Context(), rec); !errors.Is(err, ErrTopicNotFound) {
		t.Errorf("deleted: error %v, want ErrTopicNotFound", err)
	}
	topic = ensure(t, b, "t", TopicConfig{})
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"Publish":      topic.Publish(t.Context(), rec),
		"PublishAsync": topic.PublishAsync(t.Context(), nil, rec),
		"Flush":        topic.Flush(t.Context()),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s: error %v, want ErrClosed", name, err)
		}
	}
}

func TestRecordsInBulkKeepTheirFieldsWhoeverEncodesThem(t *testing.T) {
	when := time.Date(2031, 5, 6, 7, 8, 9, 123456789, time.UTC)
	topic := ensure(t, open(t, t.TempDir(), Options{Durability: OS}), "t", TopicConfig{})
	var want []*Record
	for call := range 60 { // so many, and in a row, that publisher and appender both encode
		recs := make([]*Record, 500)
		for i := range recs {
			n := call*len(recs) + i
			recs[i] = &Record{Key: fmt.Append(nil, n), Value: fmt.Appendf(nil, "%d %s", n, strings.Repeat("v", n%200))}
			if n%7 == 0 {
				recs[i].Headers = []Header{{Key: "n", Value: fmt.Append(nil, n)}}
			}
			if call%3 == 0 && i%100 == 50 { // which only the appender can encode
				recs[i].Time = when.Add(time.Duration(n))
			}
		}
		want = append(want, recs...)
		if err := topic.PublishAsync(t.Context(), func(_ *Record, err error) {
			if err != nil {
				t.Error(err)
			}
		}, recs...); err != nil {
			t.Fatal(err)
		}
	}
	if err := topic.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := 0
	for got, err := range topic.Read(t.Context(), ReadOptions{ReuseBuffers: true}) {
		if err != nil {
			t.Fatal(err)
		}
		w := want[n]
		same := w.Offset == int64(n) && got.Offset == w.Offset && bytes.Equal(got.Key, w.Key) && bytes.Equal(got.Value, w.Value) && len(got.Headers) == len(w.Headers)
		same = same && (w.Time.IsZero() || got.Time.Equal(w.Time)) && (len(w.Headers) == 0 || bytes.Equal(got.Headers[0].Value, w.Headers[0].Value))
		if !same {
			t.Fatalf("record %d is\n%+v, want\n%+v", n, got, w)
		}
		n++
	}
	if n != len(want) {
		t.Errorf("%d records, want %d", n, len(want))
	}
}

// What a call is divided into: each record once, with those of its key, in the caller's order, and known by its place in the call; and each part weighs what its records weigh.
func TestACallIsDividedByKeysInOrder(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{Partitions: 7})
	for _, n := range []int{2, 100, 3000} {
		recs := make([]*Record, n)
		for i := range recs {
			recs[i] = &Record{Value: make([]byte, i%90)}
			if i%10 > 0 { // the others have no key, and go together
				recs[i].Key = fmt.Append(nil, i%43)
			}
		}
		c := newCall(topic, recs)
		if err := c.prepare(); err != nil {
			t.Fatal(err)
		}
		seen := make([]bool, n)
		of := map[string]PartitionID{}
		for i := range c.parts {
			p := &c.parts[i]
			last, bytes := -1, int64(0)
			for j, rec := range p.recs {
				at := int(c.order[p.place(j)])
				if recs[at] != rec || seen[at] || at <= last {
					t.Fatalf("of %d: record %d of partition %d is said to be the caller's %d, after %d", n, j, p.to.id, at, last)
				}
				seen[at], last = true, at
				if to, ok := of[string(rec.Key)]; ok && to != p.to.id {
					t.Fatalf("of %d: key %q goes to partitions %d and %d", n, rec.Key, to, p.to.id)
				}
				of[string(rec.Key)] = p.to.id
				size, _ := checkRecord(rec, math.MaxInt)
				bytes += int64(size)
			}
			if p.bytes != bytes || bytes == 0 {
				t.Errorf("of %d: the part for partition %d weighs %d, and its records %d", n, p.to.id, p.bytes, bytes)
			}
		}
		if i := slices.Index(seen, false); i >= 0 {
			t.Errorf("of %d: record %d goes nowhere", n, i)
		}
		c.free()
	}
}
