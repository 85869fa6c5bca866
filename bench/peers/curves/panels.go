package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/braid-go/braid"
)

// panel is one thing that grows.
type panel struct {
	Name, Title string
	Bytes       bool // what grows is counted in bytes
	run         func(ctx context.Context, b bounds, m *measuring) error
}

var panels = []panel{
	{Name: "partitions", Title: "partitions of a topic", run: growPartitions},
	{Name: "groups", Title: "groups of a topic", run: growGroups},
	{Name: "members", Title: "members of a group, and partitions", run: growMembers},
	{Name: "keys", Title: "keys of records", run: growKeys},
	{Name: "state", Title: "keys of the application's state", run: growState},
	{Name: "record", Title: "size of a record", Bytes: true, run: growRecord},
	{Name: "log", Title: "size of a log", Bytes: true, run: growLog},
	{Name: "transaction", Title: "records of a transaction", run: growTransaction},
}

// measuring collects a panel's points.
type measuring struct {
	panel string
	fig   *figures
	least time.Duration // of a point
	dir   string        // temporary
}

func (p panel) measure(ctx context.Context, b bounds, fig *figures) (err error) {
	fig.forget(p.Name)
	dir, err := os.MkdirTemp(b.Dir, "braid-curves-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	return p.run(ctx, b, &measuring{p.Name, fig, b.For, dir})
}

// tries is how often each point is measured; the fastest counts, since what disturbs only makes slower.
const tries = 3

// time measures what one of the ops of f costs: again and again, in tries rounds.
func (m *measuring) time(name string, most float64, x int64, ops int64, f func() error) error {
	best := time.Duration(0)
	count := int64(1)
	for range tries {
		n, start := int64(0), time.Now()
		for n == 0 || time.Since(start) < m.least/tries {
			if err := f(); err != nil {
				return fmt.Errorf("%s at %d: %w", name, x, err)
			}
			n++
		}
		took := time.Since(start)
		if best == 0 || float64(took)/float64(n) < float64(best)/float64(count) {
			best, count = took, n
		}
	}
	m.fig.add(m.panel, name, most, x, best, count*ops)
	return nil
}

// once measures something that can be done once only.
func (m *measuring) once(name string, most float64, x int64, ops int64, f func() error) error {
	start := time.Now()
	if err := f(); err != nil {
		return fmt.Errorf("%s at %d: %w", name, x, err)
	}
	m.fig.add(m.panel, name, most, x, time.Since(start), ops)
	return nil
}

// each calls f with 1, 10, 100 and so on.
func each(first, last int64, f func(n int64) error) error {
	for n := first; n <= last; n *= 10 {
		if err := f(n); err != nil {
			return err
		}
	}
	return nil
}

// broker opens a broker, has f use it, and closes it.
func (m *measuring) broker(name string, f func(*braid.Broker) error) (err error) {
	b, err := braid.Open(m.dir+"/"+name, braid.Options{Durability: braid.OS})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	return f(b)
}

// batch makes records with keys of their own.
func batch(n int, size int) []*braid.Record {
	recs := make([]*braid.Record, n)
	for i := range recs {
		recs[i] = &braid.Record{Key: fmt.Appendf(nil, "key-%d", i), Value: make([]byte, size)}
	}
	return recs
}

// perCall is the number of records that are published together, with one key, so that each of many partitions gets frames of the same size as one alone.
const perCall = 100

func growPartitions(ctx context.Context, b bounds, m *measuring) error {
	return each(1, int64(b.Partitions), func(n int64) error {
		name := fmt.Sprint(n)
		records := int64(0)
		err := m.broker(name, func(br *braid.Broker) error {
			var t *braid.Topic
			err := m.once("create, for each", 0, n, n, func() (err error) {
				t, err = br.CreateTopic(ctx, "t", braid.TopicConfig{Partitions: int(n)})
				return err
			})
			if err != nil {
				return err
			}
			recs := batch(perCall, 100)
			publish := func(key int64) error {
				for _, rec := range recs {
					rec.Key = fmt.Appendf(rec.Key[:0], "key-%d", key)
				}
				records += perCall
				return t.Publish(ctx, recs...)
			}
			for i := range 5 * n { // nearly every partition is at work
				if err := publish(i); err != nil {
					return err
				}
			}
			at := int64(0)
			return m.time("publish a record, 100 a call", 0, n, perCall, func() error {
				at++
				return publish(at % (5 * n))
			})
		})
		if err != nil {
			return err
		}
		start := time.Now()
		return m.broker(name, func(br *braid.Broker) error {
			m.fig.add(m.panel, "open, for each", 0, n, time.Since(start), n)
			t, err := br.Topic("t")
			if err != nil {
				return err
			}
			sub, err := t.Subscribe(ctx, "g", braid.SubscribeOptions{ReuseBuffers: true})
			if err != nil {
				return err
			}
			err = m.once("deliver a record", 0, n, records, func() error { return poll(ctx, sub, records) })
			if err == nil { // nothing else is there to deliver
				rec := batch(1, 100)
				err = m.time("publish and deliver one record", 0, n, 1, func() error {
					return errors.Join(t.Publish(ctx, rec...), poll(ctx, sub, 1))
				})
			}
			return errors.Join(err, sub.Close())
		})
	})
}

// poll takes n records at least.
func poll(ctx context.Context, sub *braid.Subscription, n int64) error {
	for n > 0 {
		recs, err := sub.Poll(ctx, 0)
		if err != nil {
			return err
		}
		n -= int64(len(recs))
	}
	return nil
}

func growGroups(ctx context.Context, b bounds, m *measuring) error {
	const records = 100
	return each(1, int64(b.Groups), func(n int64) error {
		return m.broker(fmt.Sprint(n), func(br *braid.Broker) error {
			t, err := br.CreateTopic(ctx, "t", braid.TopicConfig{})
			if err != nil {
				return err
			}
			subs := make([]*braid.Subscription, n)
			err = m.once("join, for each", 0, n, n, func() (err error) {
				for i := range subs {
					if subs[i], err = t.Subscribe(ctx, fmt.Sprint("g", i), braid.SubscribeOptions{ReuseBuffers: true}); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
			recs := batch(records, 100)
			if err := m.time("publish a record in a batch of 100", 0, n, records, func() error { return t.Publish(ctx, recs...) }); err != nil {
				return err
			}
			if err := m.once("deliver a record to each", 0, n, n*records, func() error {
				for _, sub := range subs {
					if err := poll(ctx, sub, records); err != nil {
						return err
					}
				}
				return nil
			}); err != nil {
				return err
			}
			last := subs[len(subs)-1]
			var at []*braid.Record
			err = m.time("commit a position", 0, n, 1, func() (err error) {
				if len(at) == 0 {
					if err := t.Publish(ctx, recs...); err != nil {
						return err
					}
					if at, err = last.Poll(ctx, 0); err != nil {
						return err
					}
				}
				rec := at[0]
				at = at[1:]
				return last.Commit(ctx, rec)
			})
			for _, sub := range subs {
				err = errors.Join(err, sub.Close())
			}
			return err
		})
	})
}

func growMembers(ctx context.Context, b bounds, m *measuring) error {
	return each(1, int64(b.Members), func(n int64) error {
		return m.broker(fmt.Sprint(n), func(br *braid.Broker) error {
			t, err := br.CreateTopic(ctx, "t", braid.TopicConfig{Partitions: int(n)})
			if err != nil {
				return err
			}
			subs := make([]*braid.Subscription, n)
			err = m.once("join, for each", 0, n, n, func() (err error) {
				for i := range subs {
					if subs[i], err = t.Subscribe(ctx, "g", braid.SubscribeOptions{}); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
			if err := t.Publish(ctx, batch(int(50*n), 10)...); err != nil { // there is one for everybody
				return err
			}
			if err := m.once("deliver a first record, for each", 0, n, n, func() error {
				for _, sub := range subs {
					if _, err := sub.Poll(ctx, 1); err != nil {
						return err
					}
				}
				return nil
			}); err != nil {
				return err
			}
			return m.once("leave, for each", 0, n, n, func() error {
				for _, sub := range subs {
					if err := sub.Close(); err != nil {
						return err
					}
				}
				return nil
			})
		})
	})
}

func growKeys(ctx context.Context, b bounds, m *measuring) error {
	const partitions = 16
	return each(1, int64(b.Keys), func(n int64) error {
		return m.broker(fmt.Sprint(n), func(br *braid.Broker) error {
			t, err := br.CreateTopic(ctx, "t", braid.TopicConfig{Partitions: partitions})
			if err != nil {
				return err
			}
			keys := make([][]byte, n)
			for i := range keys {
				keys[i] = fmt.Appendf(nil, "key-%d", i)
			}
			recs := batch(1000, 100)
			next := 0
			if err := m.time("publish a record in bulk", 0, n, int64(len(recs)), func() error {
				for _, rec := range recs {
					rec.Key = keys[next]
					next = (next + 1) % len(keys)
				}
				return t.Publish(ctx, recs...)
			}); err != nil {
				return err
			}
			return m.consume(ctx, t, n)
		})
	})
}

// consume measures handlers that run side by side, one at a time for a key.
func (m *measuring) consume(ctx context.Context, t *braid.Topic, keys int64) error {
	total := int64(0)
	for _, p := range t.Partitions() {
		total += p.End
	}
	total = min(total, 100_000)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	seen := make(chan struct{}, 1024)
	ended := make(chan error, 1)
	go func() {
		ended <- t.Consume(ctx, "g", braid.ConsumeOptions{Concurrency: 8}, func(context.Context, *braid.Record) error {
			seen <- struct{}{}
			return nil
		})
	}()
	err := m.once("handle a record by Consume", 0, keys, total, func() error {
		for range total {
			select {
			case <-seen:
			case err := <-ended:
				return errors.Join(errors.New("consuming ended early"), err)
			}
		}
		return nil
	})
	cancel()
	for {
		select {
		case <-seen:
		case ending := <-ended:
			return errors.Join(err, ending)
		}
	}
}

func growState(ctx context.Context, b bounds, m *measuring) error {
	return m.broker("state", func(br *braid.Broker) error {
		put := int64(0)
		return each(1, int64(b.Keys), func(n int64) error {
			first := put
			err := m.once("put a key, in transactions of up to 1000", 0, n, n-first, func() error {
				for put < n {
					tx := br.Begin()
					for i := 0; i < 1000 && put < n; i++ {
						if err := tx.Put(fmt.Sprint("key-", put), make([]byte, 16)); err != nil {
							return err
						}
						put++
					}
					if err := tx.Commit(ctx); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
			i := int64(0)
			if err := m.time("get a key", 0, n, 1000, func() error {
				for range 1000 {
					if _, _, err := br.Get(ctx, fmt.Sprint("key-", i*7919%n)); err != nil {
						return err
					}
					i++
				}
				return nil
			}); err != nil {
				return err
			}
			return m.time("change a key and commit", 0, n, 1, func() error {
				tx := br.Begin()
				if err := tx.Put(fmt.Sprint("key-", i*7919%n), make([]byte, 16)); err != nil {
					return err
				}
				i++
				return tx.Commit(ctx)
			})
		})
	})
}

func growRecord(ctx context.Context, b bounds, m *measuring) error {
	const volume = 128 << 20
	for _, size := range []int64{10, 100, 1000, 10_000, 100_000, 1_000_000} {
		err := m.broker(fmt.Sprint(size), func(br *braid.Broker) error {
			t, err := br.CreateTopic(ctx, "t", braid.TopicConfig{})
			if err != nil {
				return err
			}
			recs := batch(int(max(1, min(1000, (1<<20)/size))), int(size))
			written, published := int64(0), int64(0)
			if err := m.time("publish in bulk", 1, size, int64(len(recs)), func() error {
				if written > volume {
					if err := br.DeleteTopic(ctx, "t"); err != nil {
						return err
					}
					if t, err = br.CreateTopic(ctx, "t", braid.TopicConfig{}); err != nil {
						return err
					}
					written, published = 0, 0
				}
				written += size * int64(len(recs))
				published += int64(len(recs))
				return t.Publish(ctx, recs...)
			}); err != nil {
				return err
			}
			one := recs[:1]
			if err := m.time("publish one", 1, size, 1, func() error {
				published++
				return t.Publish(ctx, one...)
			}); err != nil {
				return err
			}
			return m.time("read", 1, size, published, func() error {
				for _, err := range t.Read(ctx, braid.ReadOptions{ReuseBuffers: true}) {
					if err != nil {
						return err
					}
				}
				return nil
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func growLog(ctx context.Context, b bounds, m *measuring) error {
	recs := batch(1000, 1000)
	written := int64(0)
	for size := int64(1_000_000); size <= b.LogBytes; size *= 10 {
		err := m.broker("log", func(br *braid.Broker) error {
			t, err := br.EnsureTopic(ctx, "t", braid.TopicConfig{})
			if err != nil {
				return err
			}
			for ; written < size; written += 1000 * 1000 {
				if err := errors.Join(ctx.Err(), t.Publish(ctx, recs...)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		if err := m.time("open and close", 0, size, 1, func() error {
			return m.broker("log", func(*braid.Broker) error { return nil })
		}); err != nil {
			return err
		}
		err = m.broker("log", func(br *braid.Broker) error {
			t, err := br.Topic("t")
			if err != nil {
				return err
			}
			p := t.Partitions()[0]
			at := p.Start
			if err := m.time("read one record, by offset", 0, size, 1, func() error {
				at = (at + 7_919_001) % p.End
				for _, err := range t.Read(ctx, braid.ReadOptions{From: braid.FromOffsets(map[braid.PartitionID]int64{p.ID: at})}) {
					return err
				}
				return errors.New("nothing is there")
			}); err != nil {
				return err
			}
			when := time.Now()
			return m.time("look for a time behind the end", 0, size, 1, func() error {
				for range t.Read(ctx, braid.ReadOptions{From: braid.FromTime(when)}) {
					return errors.New("there is a record of the future")
				}
				return nil
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func growTransaction(ctx context.Context, b bounds, m *measuring) error {
	return m.broker("transaction", func(br *braid.Broker) error {
		t, err := br.CreateTopic(ctx, "t", braid.TopicConfig{Partitions: 16})
		if err != nil {
			return err
		}
		return each(1, int64(b.Records), func(n int64) error {
			recs := batch(int(n), 100)
			if err := m.time("publish and commit, for each", 0, n, n, func() error {
				tx := br.Begin()
				return errors.Join(tx.Publish(t, recs...), tx.Commit(ctx))
			}); err != nil {
				return err
			}
			keys := make([]string, n)
			for i := range keys {
				keys[i] = fmt.Sprint("key-", i)
			}
			return m.time("get, put and commit, for each", 0, n, n, func() error {
				tx := br.Begin()
				for _, key := range keys {
					if _, _, err := tx.Get(key); err != nil {
						return err
					}
					if err := tx.Put(key, recs[0].Value[:16]); err != nil {
						return err
					}
				}
				return tx.Commit(ctx)
			})
		})
	})
}
