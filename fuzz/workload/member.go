package workload

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"

	"github.com/braid-go/braid"
	"github.com/braid-go/braid/fuzz/history"
)

// Member is one membership of a group, on one goroutine.
type Member struct {
	l     *Load
	c     *history.Client
	rng   *rand.Rand
	group history.Group
	sub   *braid.Subscription
	has   map[braid.PartitionID]bool
	polls int         // left before it leaves
	began history.Seq // a moment before the Poll under way
}

// Work is what a member does until it has polled often enough.
type Work func(*Member, context.Context) error

// Join is a member again and again, until ctx ends or the broker is closed.
func (l *Load) Join(ctx context.Context, rng *rand.Rand, g history.Group, work Work) {
	for ctx.Err() == nil {
		m, err := l.join(ctx, rng, g)
		if err == nil {
			err = work(m, ctx)
			m.leave()
		}
		if over(ctx, err) {
			return
		}
		if err != nil && !l.Failed(fmt.Errorf("member of %s: %w", GroupNames[g], err)) {
			return
		}
	}
}

// Drain is a member alone that reads to the end.
func (l *Load) Drain(ctx context.Context, g history.Group) error {
	m, err := l.join(ctx, l.Random(), g)
	if err != nil {
		return err
	}
	defer m.leave()
	for {
		lags, err := m.sub.Lag(ctx)
		if err != nil {
			return err
		}
		left := int64(0)
		for _, lag := range lags {
			left += lag.Records
		}
		if left == 0 {
			return nil
		}
		m.polls = 1
		if err := m.drainSome(ctx); err != nil {
			return err
		}
	}
}

func (m *Member) drainSome(ctx context.Context) error {
	if m.group == Workers {
		return m.Transact(ctx)
	}
	recs, err := m.poll(ctx)
	if err != nil {
		return err
	}
	return m.commit(ctx, recs)
}

func (l *Load) join(ctx context.Context, rng *rand.Rand, g history.Group) (*Member, error) {
	m := &Member{l: l, c: l.Recorder.Client(), rng: rng, group: g, has: map[braid.PartitionID]bool{}, polls: 5 + rng.IntN(40)}
	opts := l.Members
	opts.OnAssigned = func(ids []braid.PartitionID) {
		at := m.sub.Committed()
		for _, id := range ids {
			m.has[id] = true
			m.c.Assigned(m.began, g, history.Place{Partition: uint64(id), Offset: at[id]})
		}
	}
	opts.OnRevoked, opts.OnLost = m.released, m.released
	var err error
	m.sub, err = l.In.Subscribe(ctx, GroupNames[g], opts)
	return m, err
}

func (m *Member) released(ids []braid.PartitionID) {
	for _, id := range ids {
		delete(m.has, id)
		m.c.Released(m.group, uint64(id))
	}
}

func (m *Member) leave() {
	for id := range m.has {
		m.c.Released(m.group, uint64(id))
	}
	if err := m.sub.Close(); err != nil {
		m.l.Failed(fmt.Errorf("leave %s: %w", GroupNames[m.group], err))
	}
}

func (m *Member) poll(ctx context.Context) ([]*braid.Record, error) {
	m.polls--
	m.began = m.c.Now()
	recs, err := m.sub.Poll(ctx, 1+m.rng.IntN(100))
	m.delivered(recs)
	return recs, err
}

func (m *Member) delivered(recs []*braid.Record) {
	for _, rec := range recs {
		m.c.Delivered(m.began, m.group, PlaceOf(rec), Seen(rec))
	}
}

// behind are the positions behind records, and the ends of all partitions that theirs continue, which are committed with them.
func (m *Member) behind(recs []*braid.Record) []history.Place {
	at := map[braid.PartitionID]int64{}
	for _, rec := range recs {
		at[rec.Partition] = max(at[rec.Partition], rec.Offset+1)
	}
	parts := m.l.In.Partitions()
	out := make([]history.Place, 0, len(at))
	for i := len(parts) - 1; i >= 0; i-- { // children have higher ids than their parents
		p := parts[i]
		offset, wanted := at[p.ID]
		if !wanted {
			continue
		}
		for _, parent := range p.Parents {
			at[parent] = math.MaxInt64
		}
		out = append(out, history.Place{Partition: uint64(p.ID), Offset: min(offset, p.End)})
	}
	return out
}

// Read polls and commits, now and then only a part, nothing, or with a context that has ended, and rewinds.
func (m *Member) Read(ctx context.Context) error {
	for m.polls > 0 {
		recs, err := m.poll(ctx)
		if err != nil {
			return err
		}
		switch m.rng.IntN(10) {
		case 0:
			continue
		case 1:
			if err := m.sub.Rewind(); err != nil {
				return err
			}
			continue
		case 2:
			recs = recs[:m.rng.IntN(len(recs)+1)]
		}
		call, cancel := context.WithCancel(context.Background())
		if m.rng.IntN(20) == 0 {
			cancel()
		}
		err = m.commit(call, recs)
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

func (m *Member) commit(ctx context.Context, recs []*braid.Record) error {
	var ops []history.Seq
	for _, at := range m.behind(recs) {
		ops = append(ops, m.c.Commit(m.group, at))
	}
	err := m.sub.Commit(ctx, recs...)
	for _, op := range ops {
		m.c.Ended(op, OutcomeOf(err))
	}
	if errors.Is(err, braid.ErrFenced) || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// work is a transaction that a member fills.
type work struct {
	m    *Member
	tx   *braid.Txn
	op   history.Seq
	outs []history.Seq
}

// fill consumes records: an output for each, a mark, and one more in a count that all transactions share. The caller sees to the positions.
func (m *Member) fill(tx *braid.Txn, recs []*braid.Record) (*work, error) {
	w := &work{m: m, tx: tx, op: m.c.Begin()}
	for _, rec := range recs {
		m.c.Input(w.op, m.group, PlaceOf(rec))
		key := Seen(rec).Key
		if key != 0 {
			key += 1000
		}
		out, seen := m.l.NewRecord(m.rng, key)
		w.outs = append(w.outs, m.c.Output(w.op, seen))
		if err := tx.Publish(m.l.Out, out); err != nil {
			return w, err
		}
	}
	for _, at := range m.behind(recs) {
		m.c.Offset(w.op, m.group, at)
	}
	m.c.Mark(w.op)
	if err := tx.Put(MarkPrefix+strconv.FormatUint(uint64(w.op), 10), nil); err != nil {
		return w, err
	}
	value, _, err := tx.Get(CountKey)
	if err != nil {
		return w, err
	}
	n, _ := strconv.Atoi(string(value))
	return w, tx.Put(CountKey, []byte(strconv.Itoa(n+1)))
}

// ended records how the transaction ended.
func (w *work) ended(o history.Outcome) {
	w.m.c.Ended(w.op, o)
	if o != history.OK {
		return
	}
	for i, rec := range w.tx.Outputs() {
		w.m.c.Stored(w.outs[i], PlaceOf(rec))
	}
}

// Transact polls and consumes in transactions, some of which are rolled back.
func (m *Member) Transact(ctx context.Context) error {
	for m.polls > 0 {
		recs, err := m.poll(ctx)
		if err != nil {
			return err
		}
		tx := m.l.Broker.Begin()
		w, err := m.fill(tx, recs)
		if err == nil {
			err = tx.Offsets(m.sub, recs...)
		}
		if err != nil || m.rng.IntN(15) == 0 {
			tx.Rollback()
			w.ended(history.Refused)
		} else {
			m.c.Committing(w.op)
			err = tx.Commit(context.Background())
			w.ended(OutcomeOf(err))
			if err == nil {
				continue
			}
		}
		if err != nil && !errors.Is(err, braid.ErrConflict) && !errors.Is(err, braid.ErrFenced) {
			return err
		}
		if err := m.sub.Rewind(); err != nil {
			return err
		}
	}
	return nil
}

var errRollback = errors.New("as the test wants it")

// Process consumes with Process, which commits after the function has returned: how that ended is known when it calls
// the function again, or returns.
func (m *Member) Process(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var open *work
	settle := func(err error) {
		if open == nil {
			return
		}
		o := history.Refused
		if open.tx.Outputs()[0].Ack != braid.AckNone {
			o = history.OK
		} else if errors.Is(err, braid.ErrOutcomeUnknown) {
			o = history.Unknown
		}
		open.ended(o)
		open = nil
	}
	m.began = m.c.Now()
	for {
		err := m.sub.Process(ctx, func(tx *braid.Txn, recs []*braid.Record) error {
			settle(nil)
			m.delivered(recs)
			if m.polls--; m.polls <= 0 {
				return errRollback
			}
			w, err := m.fill(tx, recs)
			if err == nil && m.rng.IntN(15) == 0 {
				err = errRollback
			}
			if err != nil {
				w.ended(history.Refused)
				return err
			}
			m.c.Committing(w.op)
			open, m.began = w, m.c.Now()
			return nil
		})
		settle(err)
		if !errors.Is(err, errRollback) {
			return err
		}
		if m.polls <= 0 {
			return nil
		}
	}
}
