package fuzz

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/braid-go/braid"
	"github.com/braid-go/braid/fuzz/history"
)

// producer publishes, on one goroutine.
type producer struct {
	r    *run
	c    *history.Client
	rng  *rand.Rand
	done *progress
}

func (r *run) newProducer(done *progress) *producer {
	return &producer{r: r, c: r.rec.Client(), rng: r.random(), done: done}
}

// batch makes the records of one call and records that they are published.
func (p *producer) batch() (recs []*braid.Record, ops []history.Seq) {
	for range 1 + p.rng.IntN(4) {
		rec, seen := p.r.newRecord(p.rng, uint64(p.rng.IntN(p.r.keys+1)))
		recs, ops = append(recs, rec), append(ops, p.c.Publish(seen))
	}
	if p.rng.IntN(40) == 0 {
		recs[p.rng.IntN(len(recs))].Key = []byte{} // which is refused, and with it all of the call
	}
	return recs, ops
}

// publish makes a number of calls of Publish, some of which give up early.
func (p *producer) publish(ctx context.Context, calls int) {
	for range calls {
		recs, ops := p.batch()
		call, cancel := ctx, context.CancelFunc(func() {})
		switch p.rng.IntN(20) {
		case 0:
			call, cancel = context.WithTimeout(ctx, time.Duration(p.rng.IntN(200))*time.Microsecond)
		case 1:
			call, cancel = context.WithCancel(ctx)
			cancel()
		}
		err := p.r.in.Publish(call, recs...)
		cancel()
		p.ended(recs, ops, err)
		p.done.step()
		if errors.Is(err, braid.ErrClosed) {
			return
		}
	}
}

// ended records how the records of one call fared.
func (p *producer) ended(recs []*braid.Record, ops []history.Seq, err error) {
	var several *braid.PublishError
	for i, rec := range recs {
		one := err
		if errors.As(err, &several) {
			one = several.Errs[i]
		}
		record(p.c, ops[i], rec, one)
	}
}

// record records how one record fared.
func record(c *history.Client, op history.Seq, rec *braid.Record, err error) {
	if o := outcome(err); o != history.OK {
		c.Ended(op, o)
		return
	}
	c.Stored(op, place(rec))
}

// publishAsync makes a number of calls of PublishAsync without waiting for the records' callbacks, until the end.
func (p *producer) publishAsync(ctx context.Context, calls int) {
	var mu sync.Mutex // callbacks come on several goroutines
	c := p.r.rec.Client()
	var left sync.WaitGroup
	for range calls {
		recs, seqs := p.batch()
		ops := map[*braid.Record]history.Seq{}
		for i, rec := range recs {
			ops[rec] = seqs[i]
		}
		left.Add(len(recs))
		err := p.r.in.PublishAsync(ctx, func(rec *braid.Record, err error) {
			defer left.Done()
			mu.Lock()
			defer mu.Unlock()
			record(c, ops[rec], rec, err)
		}, recs...)
		if err != nil {
			left.Add(-len(recs))
			p.ended(recs, seqs, err)
		}
		p.done.step()
		if errors.Is(err, braid.ErrClosed) {
			break
		}
	}
	left.Wait()
}
