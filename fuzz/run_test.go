package fuzz

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/braid-go/braid"
	"github.com/braid-go/braid/fuzz/history"
)

// run is a broker under concurrent use, over several openings of its directory.
type run struct {
	t    *testing.T
	dir  string
	opts braid.Options
	subs braid.SubscribeOptions // of all members
	seed uint64
	keys int

	rec     *history.Recorder
	ids     atomic.Uint64 // of records
	streams atomic.Uint64 // of random numbers

	b       *braid.Broker
	in, out *braid.Topic
}

const (
	readers history.Group = 1 // commits with Commit
	workers history.Group = 2 // commits in transactions
)

var groupNames = map[history.Group]string{readers: "readers", workers: "workers"}

// random returns a goroutine's source of random numbers.
func (r *run) random() *rand.Rand { return rand.New(rand.NewPCG(r.seed, r.streams.Add(1))) }

// open opens the broker, for the first time or again.
func (r *run) open() {
	r.t.Helper()
	if r.b != nil {
		r.rec.Reopened()
	}
	var err error
	if r.b, err = braid.Open(r.dir, r.opts); err != nil {
		r.t.Fatal(err)
	}
	if r.in, err = r.b.EnsureTopic(r.t.Context(), "in", braid.TopicConfig{Partitions: 4, Compression: braid.S2}); err != nil {
		r.t.Fatal(err)
	}
	if r.out, err = r.b.EnsureTopic(r.t.Context(), "out", braid.TopicConfig{Partitions: 2}); err != nil {
		r.t.Fatal(err)
	}
}

// close closes the broker. If it is in use, ctx may end the waiting for that.
func (r *run) close(ctx context.Context) {
	r.t.Helper()
	if err := r.b.Shutdown(ctx); err != nil && !errors.Is(err, ctx.Err()) && !errors.Is(err, braid.ErrClosed) {
		r.t.Errorf("close: %v", err)
	}
}

// phase runs producers, which publish a number of calls each, and members that come and go, on an open broker. It ends when the
// producers are done, or, with cut, in the middle of everything by a Shutdown that waits for nobody. Then the broker is opened again.
func (r *run) phase(calls int, cut bool) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(r.t.Context())
	defer cancel()
	var producers, members sync.WaitGroup
	done := &progress{target: int64(4 * calls / 2), reached: make(chan struct{})}
	for range 3 {
		p := r.newProducer(done)
		producers.Go(func() { p.publish(ctx, calls) })
	}
	async := r.newProducer(done)
	producers.Go(func() { async.publishAsync(ctx, calls) })
	for range 3 {
		rng := r.random()
		members.Go(func() { r.members(ctx, rng, readers, (*member).readSome) })
	}
	for _, f := range []func(*member, context.Context) error{(*member).transactSome, (*member).transactSome, (*member).process} {
		rng := r.random()
		members.Go(func() { r.members(ctx, rng, workers, f) })
	}
	if cut {
		<-done.reached
		now, end := context.WithCancel(context.Background())
		end()
		r.close(now)
	}
	producers.Wait()
	cancel()
	members.Wait()
	if cut {
		r.open()
		return
	}
	if !r.opts.InMemory {
		r.close(context.Background())
		r.open()
	}
}

// progress tells when producers have come to a point.
type progress struct {
	calls   atomic.Int64
	target  int64
	reached chan struct{}
}

func (p *progress) step() {
	if p.calls.Add(1) == p.target {
		close(p.reached)
	}
}

// outcome gives an error of the broker its meaning: all but one say that certainly nothing has happened.
func outcome(err error) history.Outcome {
	switch {
	case err == nil:
		return history.OK
	case errors.Is(err, braid.ErrOutcomeUnknown):
		return history.Unknown
	}
	return history.Refused
}

// over reports whether an error only says that the phase is.
func over(ctx context.Context, err error) bool {
	return errors.Is(err, braid.ErrClosed) || ctx.Err() != nil && errors.Is(err, ctx.Err())
}

// newRecord makes a record of a key, 0 being none, and what the history keeps of it.
func (r *run) newRecord(rng *rand.Rand, key uint64) (*braid.Record, history.Record) {
	id := r.ids.Add(1)
	size := rng.IntN(100)
	if rng.IntN(50) == 0 {
		size = rng.IntN(20_000)
	}
	rec := &braid.Record{Value: history.Value(id, size)}
	if key != 0 {
		rec.Key = fmt.Appendf(nil, "key-%d", key)
	}
	if rng.IntN(3) == 0 {
		rec.Headers = []braid.Header{{Key: "h", Value: []byte(strconv.FormatUint(id, 36))}}
	}
	return rec, seen(rec)
}

// seen is what the history keeps of a record.
func seen(rec *braid.Record) history.Record {
	parts := [][]byte{rec.Key, rec.Value}
	for _, h := range rec.Headers {
		parts = append(parts, []byte(h.Key), h.Value)
	}
	var key uint64
	if rec.Key != nil {
		key, _ = strconv.ParseUint(strings.TrimPrefix(string(rec.Key), "key-"), 10, 64)
	}
	return history.Record{Key: key, ID: history.ID(rec.Value), Sum: history.Digest(parts...)}
}

func place(rec *braid.Record) history.Place {
	return history.Place{Partition: uint64(rec.Partition), Offset: rec.Offset}
}

// final reads what the broker holds, when nobody uses it.
func (r *run) final() *history.Final {
	r.t.Helper()
	f := &history.Final{Records: map[uint64][]history.Read{}, Positions: map[history.Group]map[uint64]int64{}, Marks: map[history.Seq]bool{}}
	for _, topic := range []*braid.Topic{r.in, r.out} {
		for rec, err := range topic.Read(r.t.Context(), braid.ReadOptions{}) {
			if err != nil {
				r.t.Fatal(err)
			}
			p := uint64(rec.Partition)
			f.Records[p] = append(f.Records[p], history.Read{Offset: rec.Offset, Record: seen(rec)})
		}
	}
	for group, name := range groupNames {
		sub, err := r.in.Subscribe(r.t.Context(), name, r.subs)
		if err != nil {
			r.t.Fatal(err)
		}
		f.Positions[group] = map[uint64]int64{}
		for id, at := range sub.Committed() {
			f.Positions[group][uint64(id)] = at
		}
		if err := sub.Close(); err != nil {
			r.t.Error(err)
		}
	}
	for e, err := range r.b.Scan(r.t.Context(), markPrefix) {
		if err != nil {
			r.t.Fatal(err)
		}
		n, err := strconv.ParseUint(e.Key[len(markPrefix):], 10, 64)
		if err != nil {
			r.t.Fatal(err)
		}
		f.Marks[history.Seq(n)] = true
	}
	return f
}
