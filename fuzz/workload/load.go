// Package workload keeps a broker busy at random, and records in a history what was done and seen: producers, and the members of two
// groups, who read one topic; one group commits positions, the other one consumes in transactions, each of which writes a record to a second topic for
// each that it consumes, a mark of its own, and a count that all share.
//
// A seed decides what each goroutine does, but not how they interleave. Whoever uses the package opens the broker, closes it under the load as he likes, opens it again,
// and has the history judged in the end with what [Load.Final] reads.
package workload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/braid-go/braid"
	"github.com/braid-go/braid/fuzz/history"
)

// Load is a load on a broker, over one opening of it or several. The exported fields are set before it is used; Broker, In and Out again
// after each opening, when nobody is at work.
type Load struct {
	Seed uint64
	// Keys is the number of keys that records have.
	Keys int
	// Skewed: a few of the keys have most of the records.
	Skewed bool
	// Members are the options of all members.
	Members braid.SubscribeOptions
	// Failed is told of what goes wrong with a member, on its goroutine, and says whether it is to join again.
	Failed func(error) bool
	// Called, if not nil, is called after each call that publishes, on the goroutine that made it.
	Called func()

	Recorder *history.Recorder
	Broker   *braid.Broker
	In, Out  *braid.Topic // that are read, and written in transactions

	ids     atomic.Uint64 // of records
	streams atomic.Uint64 // of random numbers
}

// The groups.
const (
	Readers history.Group = 1 // commits with Commit
	Workers history.Group = 2 // commits in transactions
)

// GroupNames are the names of the groups.
var GroupNames = map[history.Group]string{Readers: "readers", Workers: "workers"}

const (
	// MarkPrefix begins the names of the transactions' marks; their numbers follow.
	MarkPrefix = "tx/"
	// CountKey is the name of the count of transactions.
	CountKey = "count"
)

// StartIDs has the records' ids begin behind id, for a load that goes on with a history. It is called before the load is used.
func (l *Load) StartIDs(id uint64) { l.ids.Store(id) }

// Random returns a goroutine's source of random numbers.
func (l *Load) Random() *rand.Rand { return rand.New(rand.NewPCG(l.Seed, l.streams.Add(1))) }

// OutcomeOf gives an error of the broker its meaning: all but one say that certainly nothing has happened.
func OutcomeOf(err error) history.Outcome {
	switch {
	case err == nil:
		return history.OK
	case errors.Is(err, braid.ErrOutcomeUnknown):
		return history.Unknown
	}
	return history.Refused
}

// over reports whether an error only says that the load ends.
func over(ctx context.Context, err error) bool {
	return errors.Is(err, braid.ErrClosed) || ctx.Err() != nil && errors.Is(err, ctx.Err())
}

// NewRecord makes a record of a key, 0 being none, and what the history keeps of it.
func (l *Load) NewRecord(rng *rand.Rand, key uint64) (*braid.Record, history.Record) {
	id := l.ids.Add(1)
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
	return rec, Seen(rec)
}

// Seen is what the history keeps of a record.
func Seen(rec *braid.Record) history.Record {
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

// PlaceOf is where a record is.
func PlaceOf(rec *braid.Record) history.Place {
	return history.Place{Partition: uint64(rec.Partition), Offset: rec.Offset}
}

// Final reads what a broker holds, when nobody uses it: all records, the positions of the groups in a topic, if it is there, and the marks. Damage is an error.
func Final(ctx context.Context, b *braid.Broker, groupsOf string) (*history.Final, error) {
	f := &history.Final{Records: map[uint64][]history.Read{}, Positions: map[history.Group]map[uint64]int64{}, Marks: map[history.Seq]bool{}}
	for _, topic := range b.Topics() {
		for rec, err := range topic.Read(ctx, braid.ReadOptions{}) {
			if err != nil {
				return nil, err
			}
			p := uint64(rec.Partition)
			f.Records[p] = append(f.Records[p], history.Read{Offset: rec.Offset, Record: Seen(rec)})
		}
		if topic.Name() != groupsOf {
			continue
		}
		for group, name := range GroupNames {
			at, err := positionsOf(ctx, topic, name)
			if err != nil {
				return nil, err
			}
			f.Positions[group] = at
		}
	}
	for e, err := range b.Scan(ctx, MarkPrefix) {
		if err != nil {
			return nil, err
		}
		n, err := strconv.ParseUint(e.Key[len(MarkPrefix):], 10, 64)
		if err != nil {
			return nil, err
		}
		f.Marks[history.Seq(n)] = true
	}
	return f, nil
}

func positionsOf(ctx context.Context, t *braid.Topic, group string) (map[uint64]int64, error) {
	g, err := t.Group(group)
	if err != nil {
		return nil, err
	}
	stored, err := g.Export(ctx)
	if err != nil {
		return nil, err
	}
	at := map[uint64]int64{}
	for id, offset := range stored.Offsets {
		at[uint64(id)] = offset
	}
	return at, nil
}

// CheckCount returns an error unless the count that the transactions share is that of their marks.
func CheckCount(ctx context.Context, b *braid.Broker, f *history.Final) error {
	value, _, err := b.Get(ctx, CountKey)
	if n, _ := strconv.Atoi(string(value)); err != nil || n != len(f.Marks) {
		return fmt.Errorf("%d transactions are marked, and counted %q: %v", len(f.Marks), value, err)
	}
	return nil
}
