package workload

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/braid-go/braid"
	"github.com/braid-go/braid/fuzz/history"
)

// Producer publishes, on one goroutine.
type Producer struct {
	l     *Load
	topic *braid.Topic
	keys  int
	c     *history.Client
	rng   *rand.Rand
}

// Producer makes a producer of the topic that is read.
func (l *Load) Producer() *Producer { return l.ProducerTo(l.In, l.Keys) }

// ProducerTo makes a producer of any topic. With no keys, the records have none. Keys of several topics are not told apart: only one may have some, beside In
// and Out.
func (l *Load) ProducerTo(t *braid.Topic, keys int) *Producer {
	return &Producer{l: l, topic: t, keys: keys, c: l.Recorder.Client(), rng: l.Random()}
}

// batch makes the records of one call and records that they are published.
func (p *Producer) batch() (recs []*braid.Record, ops []history.Seq) {
	for range 1 + p.rng.IntN(4) {
		key := p.rng.IntN(p.keys + 1)
		if p.l.Skewed {
			key = p.rng.IntN(key + 1)
		}
		rec, seen := p.l.NewRecord(p.rng, uint64(key))
		recs, ops = append(recs, rec), append(ops, p.c.Publish(seen))
	}
	if p.rng.IntN(40) == 0 {
		recs[p.rng.IntN(len(recs))].Key = []byte{} // which is refused, and with it all of the call
	}
	return recs, ops
}

// Publish makes a number of calls of Publish, some of which give up early. It ends when ctx does, with the broker, or with the topic, and returns what was
// wrong with the last call.
func (p *Producer) Publish(ctx context.Context, calls int) error {
	for range calls {
		recs, ops := p.batch()
		call, cancel := ctx, context.CancelFunc(func() {})
		switch n := p.rng.IntN(20); {
		case n == 0:
			call, cancel = context.WithTimeout(ctx, time.Duration(p.rng.IntN(200))*time.Microsecond)
		case n == 1:
			call, cancel = context.WithCancel(ctx)
			cancel()
		case n < 10: // a publisher that cannot give up may store what it has itself
			call = context.WithoutCancel(ctx)
		}
		err := p.topic.Publish(call, recs...)
		cancel()
		p.ended(recs, ops, err)
		p.called()
		if over(ctx, err) || errors.Is(err, braid.ErrTopicNotFound) {
			return err
		}
	}
	return nil
}

func (p *Producer) called() {
	if p.l.Called != nil {
		p.l.Called()
	}
}

// ended records how the records of one call fared.
func (p *Producer) ended(recs []*braid.Record, ops []history.Seq, err error) {
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
	if o := OutcomeOf(err); o != history.OK {
		c.Ended(op, o)
		return
	}
	c.Stored(op, PlaceOf(rec))
}

// PublishAsync makes a number of calls of PublishAsync without waiting for the records' callbacks, until the end.
func (p *Producer) PublishAsync(ctx context.Context, calls int) {
	var mu sync.Mutex // callbacks come on several goroutines
	c := p.l.Recorder.Client()
	var left sync.WaitGroup
	for range calls {
		recs, seqs := p.batch()
		ops := map[*braid.Record]history.Seq{}
		for i, rec := range recs {
			ops[rec] = seqs[i]
		}
		left.Add(len(recs))
		err := p.topic.PublishAsync(ctx, func(rec *braid.Record, err error) {
			defer left.Done()
			mu.Lock()
			defer mu.Unlock()
			record(c, ops[rec], rec, err)
		}, recs...)
		if err != nil {
			left.Add(-len(recs))
			p.ended(recs, seqs, err)
		}
		p.called()
		if over(ctx, err) {
			break
		}
	}
	left.Wait()
}
