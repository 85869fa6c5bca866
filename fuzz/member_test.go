package fuzz

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"

	"github.com/braid-go/braid"
	"github.com/braid-go/braid/fuzz/history"
)

// member is one membership of a group, on one goroutine.
type member struct {
	r     *run
	c     *history.Client
	rng   *rand.Rand
	group history.Group
	sub   *braid.Subscription
	has   map[braid.PartitionID]bool
	polls int         // left before it leaves
	began history.Seq // a moment before the Poll under way
}

// members is a goroutine that is a member again and again, until the phase is over.
func (r *run) members(ctx context.Context, rng *rand.Rand, g history.Group, work func(*member, context.Context) error) {
	for ctx.Err() == nil {
		m, err := r.join(ctx, rng, g)
		if err == nil {
			err = work(m, ctx)
			m.leave()
		}
		if over(ctx, err) {
			return
		}
		if err != nil {
			r.t.Errorf("member of %s: %v", groupNames[g], err)
			return
		}
	}
}

func (r *run) join(ctx context.Context, rng *rand.Rand, g history.Group) (*member, error) {
	m := &member{r: r, c: r.rec.Client(), rng: rng, group: g, has: map[braid.PartitionID]bool{}, polls: 5 + rng.IntN(40)}
	opts := r.subs
	opts.OnAssigned = func(ids []braid.PartitionID) {
		for _, id := range ids {
			m.has[id] = true
			m.c.Assigned(m.began, g, history.Place{Partition: uint64(id), Offset: m.sub.Committed()[id]})
		}
	}
	opts.OnRevoked, opts.OnLost = m.released, m.released
	var err error
	m.sub, err = r.in.Subscribe(ctx, groupNames[g], opts)
	return m, err
}

func (m *member) released(ids []braid.PartitionID) {
	for _, id := range ids {
		delete(m.has, id)
		m.c.Released(m.group, uint64(id))
	}
}

func (m *member) leave() {
	for id := range m.has {
		m.c.Released(m.group, uint64(id))
	}
	if err := m.sub.Close(); err != nil {
		m.r.t.Errorf("leave %s: %v", groupNames[m.group], err)
	}
}

func (m *member) poll(ctx context.Context) ([]*braid.Record, error) {
	m.polls--
	m.began = m.c.Now()
	recs, err := m.sub.Poll(ctx, 1+m.rng.IntN(100))
	m.delivered(recs)
	return recs, err
}

func (m *member) delivered(recs []*braid.Record) {
	for _, rec := range recs {
		m.c.Delivered(m.began, m.group, place(rec), seen(rec))
	}
}

// positions are those behind records.
func positions(recs []*braid.Record) []history.Place {
	at := map[uint64]int64{}
	var order []uint64
	for _, rec := range recs {
		p := uint64(rec.Partition)
		if _, known := at[p]; !known {
			order = append(order, p)
		}
		at[p] = max(at[p], rec.Offset+1)
	}
	out := make([]history.Place, len(order))
	for i, p := range order {
		out[i] = history.Place{Partition: p, Offset: at[p]}
	}
	return out
}

// readSome polls and commits, now and then only a part, nothing, or with a context that has ended, and rewinds.
func (m *member) readSome(ctx context.Context) error {
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

func (m *member) commit(ctx context.Context, recs []*braid.Record) error {
	var ops []history.Seq
	for _, at := range positions(recs) {
		ops = append(ops, m.c.Commit(m.group, at))
	}
	err := m.sub.Commit(ctx, recs...)
	for _, op := range ops {
		m.c.Ended(op, outcome(err))
	}
	if errors.Is(err, braid.ErrFenced) || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

const (
	markPrefix = "tx/"
	countKey   = "count"
)

// work is a transaction that a member fills.
type work struct {
	m    *member
	tx   *braid.Txn
	op   history.Seq
	outs []history.Seq
}

// fill consumes records: an output for each, a mark, and one more in a count that all transactions share. The caller sees to the positions.
func (m *member) fill(tx *braid.Txn, recs []*braid.Record) (*work, error) {
	w := &work{m: m, tx: tx, op: m.c.Begin()}
	for _, rec := range recs {
		m.c.Input(w.op, m.group, place(rec))
		key := seen(rec).Key
		if key != 0 {
			key += 1000
		}
		out, seen := m.r.newRecord(m.rng, key)
		w.outs = append(w.outs, m.c.Output(w.op, seen))
		if err := tx.Publish(m.r.out, out); err != nil {
			return w, err
		}
	}
	for _, at := range positions(recs) {
		m.c.Offset(w.op, m.group, at)
	}
	m.c.Mark(w.op)
	if err := tx.Put(markPrefix+strconv.FormatUint(uint64(w.op), 10), nil); err != nil {
		return w, err
	}
	value, _, err := tx.Get(countKey)
	if err != nil {
		return w, err
	}
	n, _ := strconv.Atoi(string(value))
	return w, tx.Put(countKey, []byte(strconv.Itoa(n+1)))
}

// ended records how the transaction ended.
func (w *work) ended(o history.Outcome) {
	w.m.c.Ended(w.op, o)
	if o != history.OK {
		return
	}
	for i, rec := range w.tx.Outputs() {
		w.m.c.Stored(w.outs[i], place(rec))
	}
}

// transactSome polls and consumes in transactions, some of which are rolled back.
func (m *member) transactSome(ctx context.Context) error {
	for m.polls > 0 {
		recs, err := m.poll(ctx)
		if err != nil {
			return err
		}
		tx := m.r.b.Begin()
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
			w.ended(outcome(err))
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

// process consumes with Process, which commits after the function has returned: how that ended is known when it calls
// the function again, or returns.
func (m *member) process(ctx context.Context) error {
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
