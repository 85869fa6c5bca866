package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

// forEachStore runs a test with a new store of each system, with and without fsync, and checks that closing it leaves
// no goroutine.
func forEachStore(t *testing.T, streams int, test func(t *testing.T, store io.Closer, closeStore func() error)) {
	forEachStoreOf(t, setup{Streams: streams}, test)
}

func forEachStoreOf(t *testing.T, of setup, test func(t *testing.T, store io.Closer, closeStore func() error)) {
	for _, s := range systems() {
		for _, fsync := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/fsync=%v", s.Name, fsync), func(t *testing.T) {
				before := goleak.IgnoreCurrent()
				of := of
				of.Dir, of.Fsync = t.TempDir(), fsync
				store, err := s.Open(t.Context(), of)
				if err != nil {
					t.Fatal(err)
				}
				closeStore := sync.OnceValue(store.Close)
				t.Cleanup(func() { closeStore() })
				test(t, store, closeStore)
				if err := closeStore(); err != nil {
					t.Error(err)
				}
				goleak.VerifyNone(t, before)
			})
		}
	}
}

// as returns a store as one of the roles, or skips the test.
func as[R any](t *testing.T, store io.Closer) R {
	t.Helper()
	r, ok := store.(R)
	if !ok {
		t.Skip("this system does not do that")
	}
	return r
}

func clone(r record) record {
	return record{Key: bytes.Clone(r.Key), Value: bytes.Clone(r.Value)}
}

// numbered makes n records that differ from each other.
func numbered(n int) []record {
	recs := make([]record, n)
	for i := range recs {
		recs[i] = record{Key: fmt.Appendf(nil, "key-%d", i), Value: fmt.Appendf(nil, "value number %d", i)}
	}
	return recs
}

// compare reports the first difference between records.
func compare(t *testing.T, want, got []record) {
	t.Helper()
	if len(want) != len(got) {
		t.Errorf("%d records, want %d", len(got), len(want))
	}
	for i := range min(len(want), len(got)) {
		if diff := cmp.Diff(want[i], got[i]); diff != "" {
			t.Errorf("record %d (-want +got):\n%s", i, diff)
			return
		}
	}
}

// readAll reads n records.
func readAll(t *testing.T, store io.Closer, n int, owned bool) []record {
	t.Helper()
	r, ok := store.(reader)
	if !ok {
		t.Fatal("every system reads")
	}
	var got []record
	err := r.Read(t.Context(), n, owned, func(r record) {
		if !owned {
			r = clone(r)
		}
		got = append(got, r)
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestWhatIsPublishedInBulkIsReadBackInOrderAndTheBatchesMemoryCanBeReused(t *testing.T) {
	forEachStore(t, 1, func(t *testing.T, store io.Closer, closeStore func() error) {
		p := as[streamPublisher](t, store)
		const n = window + 5 // so that the memory of the first batches is used again
		var want []record
		b := newBatches(window)
		batches := 0
		err := p.PublishStream(t.Context(), func() []record {
			if batches++; batches > n {
				return nil
			}
			recs := b.take()[:200] // together more than any buffer holds
			for _, r := range recs {
				want = append(want, clone(r))
			}
			return recs
		})
		if err != nil {
			t.Fatal(err)
		}
		if s, ok := store.(settler); ok {
			if err := s.Settle(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		compare(t, want, readAll(t, store, len(want), false))
		owned := readAll(t, store, len(want), true)
		if err := closeStore(); err != nil { // what is owned outlives its store
			t.Error(err)
		}
		compare(t, want, owned)
	})
}

func TestWhatIsPublishedOneByOneIsReadBackInOrder(t *testing.T) {
	forEachStore(t, 1, func(t *testing.T, store io.Closer, _ func() error) {
		p := as[publisher](t, store)
		want := numbered(20)
		for _, r := range want {
			if err := p.Publish(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		compare(t, want, readAll(t, store, len(want), true))
	})
}

func TestWhatIsPublishedConcurrentlyIsAllInItsStream(t *testing.T) {
	const streams, each = 4, 40
	keys, err := keysFor(streams)
	if err != nil {
		t.Fatal(err)
	}
	forEachStore(t, streams, func(t *testing.T, store io.Closer, _ func() error) {
		p := as[concurrentPublisher](t, store)
		var want []string
		var wg sync.WaitGroup
		for stream := range streams {
			for i := range each {
				r := record{Key: keys[stream], Value: fmt.Appendf(nil, "%d of stream %d", i, stream)}
				if stream == 0 {
					want = append(want, string(r.Value))
				}
				wg.Go(func() {
					if err := p.PublishConcurrent(t.Context(), stream, r); err != nil {
						t.Error(err)
					}
				})
			}
		}
		wg.Wait()
		var got []string
		for _, r := range readAll(t, store, each, false) {
			if !bytes.Equal(r.Key, keys[0]) {
				t.Errorf("a record with the key %q is in stream 0, want %q", r.Key, keys[0])
			}
			got = append(got, string(r.Value))
		}
		slices.Sort(want)
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("stream 0 (-want +got):\n%s", diff)
		}
	})
}

func TestWhatIsPublishedInBulkToManyStreamsIsInEachInOrder(t *testing.T) {
	const streams = 7
	keys, err := keysFor(streams)
	if err != nil {
		t.Fatal(err)
	}
	forEachStoreOf(t, setup{Streams: 1, Spread: streams}, func(t *testing.T, store io.Closer, _ func() error) {
		p := as[spreadPublisher](t, store)
		var want []record // of stream 0
		all := 0
		b := newBatches(spreadWindow)
		batches := 0
		err := p.PublishSpread(t.Context(), func() []record {
			if batches++; batches > window+5 { // so that the memory of the first batches is used again
				return nil
			}
			recs := b.take()[:200]
			for i := range recs {
				if recs[i].Key = keys[all%streams]; all%streams == 0 {
					want = append(want, clone(recs[i]))
				}
				all++
			}
			return recs
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, one := store.(*natsStore); one { // its streams are subjects of one, which is in the order of all
			var got []record
			for _, r := range readAll(t, store, all, false) {
				if bytes.Equal(r.Key, keys[0]) {
					got = append(got, r)
				}
			}
			compare(t, want, got)
			return
		}
		compare(t, want, readAll(t, store, len(want), false))
	})
}

func TestEachTransactionForwardsTheNextRecordOfItsCommitter(t *testing.T) {
	const committers, each = 3, 20
	forEachStoreOf(t, setup{Streams: 1, Inputs: committers}, func(t *testing.T, store io.Closer, _ func() error) {
		tr := as[transactor](t, store)
		want := map[string][]string{}
		for i := range committers {
			recs := numbered(each)
			for j := range recs {
				recs[j].Key = fmt.Appendf(nil, "committer %d", i)
				want[string(recs[j].Key)] = append(want[string(recs[j].Key)], string(recs[j].Value))
			}
			for _, half := range [][]record{recs[:each/2], recs[each/2:]} {
				if err := tr.Fill(t.Context(), i, half); err != nil {
					t.Fatal(err)
				}
			}
		}
		var wg sync.WaitGroup
		for i := range committers {
			wg.Go(func() {
				for range each {
					if err := tr.Transact(t.Context(), i); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		got := map[string][]string{}
		for _, r := range readAll(t, store, committers*each, false) {
			got[string(r.Key)] = append(got[string(r.Key)], string(r.Value))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("stream 0 (-want +got):\n%s", diff)
		}
	})
}

func TestASplitDividesAStreamThatIsPublishedTo(t *testing.T) {
	forEachStore(t, 1, func(t *testing.T, store io.Closer, _ func() error) {
		s, p := as[splitter](t, store), as[concurrentPublisher](t, store)
		for _, r := range numbered(200) {
			if err := p.PublishConcurrent(t.Context(), 0, r); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if err := s.Split(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(store.(*braidStore).topic.Partitions()); n != 5 { // of which two are sealed
			t.Errorf("%d partitions after two splits of one, want 5", n)
		}
	})
}

func TestReadingMoreThanThereIsIsAnError(t *testing.T) {
	forEachStore(t, 1, func(t *testing.T, store io.Closer, _ func() error) {
		if err := as[publisher](t, store).Publish(t.Context(), newRecord()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond) // some systems wait for more
		defer cancel()
		if err := as[reader](t, store).Read(ctx, 2, false, func(record) {}); err == nil {
			t.Error("reading 2 records of 1 succeeded")
		}
	})
}

func TestWhatIsSentIsDeliveredInOrder(t *testing.T) {
	forEachStore(t, 1, func(t *testing.T, store io.Closer, _ func() error) {
		d := as[deliverer](t, store)
		want := numbered(100)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var got []record
		ready, all, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		go func() {
			ended <- d.Deliver(ctx, func() { close(ready) }, func(r record) {
				if got = append(got, clone(r)); len(got) == len(want) {
					close(all)
				}
			})
		}()
		<-ready
		for _, r := range want {
			if err := d.Send(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		<-all
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the end of delivery: %v", err)
		}
		compare(t, want, got)
	})
}

func TestAStoreWithoutARoleIsNotMeasured(t *testing.T) {
	for name, measure := range map[string]measurement{
		"publishStream": publishStream, "publishOne": publishOne, "publishConcurrently": publishConcurrently(1),
		"catchUp": catchUp, "delivery": delivery, "publishSpread": publishSpread(1), "transact": transact(1), "splitting": splitting,
	} {
		if _, err := measure(t.Context(), io.NopCloser(nil), scale{}); !errors.Is(err, errCannot) {
			t.Errorf("%s: %v, want errCannot", name, err)
		}
	}
}

// tampered gives back other records than it was given.
type tampered struct{ seqs []uint64 }

func (s tampered) Read(_ context.Context, _ int, _ bool, fn func(record)) error {
	for _, seq := range s.seqs {
		fn(record{Value: append([]byte{byte(seq)}, make([]byte, valueBytes-1)...)})
	}
	return nil
}

func TestACatchUpReadOfOtherRecordsThanWerePublishedFails(t *testing.T) {
	for _, tt := range []struct {
		name string
		seqs []uint64
		ok   bool
	}{
		{"all, in order", []uint64{0, 1, 2}, true},
		{"one is missing", []uint64{0, 2}, false},
		{"the last is missing", []uint64{0, 1}, false},
		{"one comes twice", []uint64{0, 1, 1, 2}, false},
		{"two have changed places", []uint64{0, 2, 1}, false},
	} {
		err := readInOrder(t.Context(), tampered{tt.seqs}, 3, false)
		if (err == nil) != tt.ok {
			t.Errorf("%s: error %v", tt.name, err)
		}
	}
}

// lossy loses one record on its way.
type lossy struct {
	channelStore
	left *int
}

func (l lossy) Send(ctx context.Context, r record) error {
	if *l.left--; *l.left == 0 {
		return nil
	}
	return l.channelStore.Send(ctx, r)
}

func TestAMeasurementOfDeliveryThatLosesARecordFails(t *testing.T) {
	left := 10
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := delivery(ctx, lossy{channelStore{make(chan record, 1024)}, &left}, scale{Samples: 100})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want that time is up", err)
	}
}

func TestRecordsSurviveEncoding(t *testing.T) {
	for _, want := range []record{{[]byte("key"), []byte("value")}, {[]byte(""), []byte("")}, {bytes.Repeat([]byte("k"), 300), []byte("v")}} {
		got, err := decodeRecord(appendRecord(nil, want))
		if err != nil || !cmp.Equal(got, want) {
			t.Errorf("%v: got %v, %v", want, got, err)
		}
		if size := len(appendRecord(nil, want)); encodedSize(want) != size {
			t.Errorf("%v: a size of %d, but %d bytes", want, encodedSize(want), size)
		}
	}
	for _, b := range []string{"", "\x05key", "\xff"} {
		if r, err := decodeRecord([]byte(b)); err == nil {
			t.Errorf("%q was decoded: %v", b, r)
		}
	}
}

func TestPickTakesNamesAndWhatGoesOnWithAHyphen(t *testing.T) {
	ids := func(names string) string {
		some, err := pick(workloads(quickScale), names)
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, w := range some {
			ids = append(ids, w.ID)
		}
		return strings.Join(ids, " ")
	}
	for names, want := range map[string]string{
		"W3":           "W3-1 W3-16 W3-64",
		"w3-16":        "W3-16",
		"W5, W1-async": "W1-async W5",
		"W1":           "W1 W1-async",
	} {
		if got := ids(names); got != want {
			t.Errorf("%q: %q, want %q", names, got, want)
		}
	}
	if _, err := pick(workloads(quickScale), "W3,W99"); err == nil {
		t.Error("a workload that does not exist was picked")
	}
}
