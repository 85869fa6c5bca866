package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"github.com/braid-go/braid"
)

type demoCmd struct {
	Orders     int    `help:"How many orders to publish." default:"100000"`
	Partitions int    `help:"Partitions of the topic." default:"4"`
	Seed       uint64 `help:"Seed of the generated orders." default:"1"`
	Keep       bool   `help:"Keep the data directory."`
}

// Help says what will be seen.
func (demoCmd) Help() string {
	return `Publishes a generated stream of orders over several partitions, consumes a part of it in a group, closes the
broker, opens it again, publishes more, goes on exactly where it was, and checks the counts, the order of every
customer's orders, and every byte on disk. The data directory is a temporary one.`
}

// order is what the demo publishes. A customer's orders are numbered.
type order struct {
	Customer int    `json:"customer"`
	Number   int    `json:"number"`
	Item     string `json:"item"`
	Cents    int    `json:"cents"`
}

const demoCustomers = 2000

// demo is a run of the demo.
type demo struct {
	*demoCmd
	ctx  context.Context
	out  io.Writer
	dir  string
	rng  *rand.Rand
	made map[int]int // orders published, by customer
	last int         // the customer of the last order made

	got      map[int]int // orders consumed, by customer
	consumed int
	cents    int64
	perPart  map[braid.PartitionID]int
	step     int
}

// Run runs the demo.
func (c *demoCmd) Run(e *env) (err error) {
	if c.Orders < 10 || c.Partitions < 1 {
		return errors.New("the demo needs at least 10 orders and a partition")
	}
	dir, err := os.MkdirTemp("", "braid-demo-")
	if err != nil {
		return err
	}
	if !c.Keep {
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	d := &demo{demoCmd: c, ctx: e.ctx, out: e.stdout, dir: dir, rng: rand.New(rand.NewPCG(c.Seed, 0)),
		made: map[int]int{}, got: map[int]int{}, perPart: map[braid.PartitionID]int{}}
	fmt.Fprintf(d.out, "Braid demo: %s orders of %s customers, seed %d\n", thousands(int64(c.Orders)), thousands(demoCustomers), c.Seed)
	for _, step := range []func() error{d.first, d.second, d.verify} {
		if err := step(); err != nil {
			return err
		}
	}
	if c.Keep {
		fmt.Fprintf(d.out, "\nThe data is in %s: try braid --dir %s info\n", dir, dir)
	}
	_, err = fmt.Fprintln(d.out, "\nall checks passed")
	return err
}

// say prints a numbered step.
func (d *demo) say(format string, args ...any) {
	d.step++
	fmt.Fprintf(d.out, "\n%d. %s\n", d.step, fmt.Sprintf(format, args...))
}

// first publishes most orders, consumes some, and closes the broker in the middle of the work.
func (d *demo) first() (err error) {
	b, err := braid.Open(d.dir, braid.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	topic, err := b.CreateTopic(d.ctx, "orders", braid.TopicConfig{Partitions: d.Partitions})
	if err != nil {
		return err
	}
	d.say("Opened %s and created the topic \"orders\" with %s.", d.dir, count(d.Partitions, "partition"))
	if err := d.publish(topic, d.Orders*9/10); err != nil {
		return err
	}
	sub, err := topic.Subscribe(d.ctx, "billing", braid.SubscribeOptions{})
	if err != nil {
		return err
	}
	stop := d.Orders * 4 / 10
	begin := time.Now()
	if err := d.consume(sub, stop); err != nil {
		return err
	}
	// Some more are delivered but not committed: after the restart they come again.
	extra, err := sub.Poll(d.ctx, 100)
	if err != nil {
		return err
	}
	d.say("The group \"billing\" consumed and committed %s in %s, was given %s more, and did not commit them.",
		orders(stop), short(time.Since(begin)), orders(len(extra)))
	fmt.Fprintln(d.out, "   Closing the broker.")
	return nil
}

// second opens the broker again and finishes the work, after more orders have come.
func (d *demo) second() (err error) {
	begin := time.Now()
	b, err := braid.Open(d.dir, braid.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	topic, err := b.Topic("orders")
	if err != nil {
		return err
	}
	d.say("Opened it again in %s; nothing had to be recovered: %v.", short(time.Since(begin)), len(b.OpenReport().Partitions) == 0)
	if err := d.publish(topic, d.Orders-d.Orders*9/10); err != nil {
		return err
	}
	sub, err := topic.Subscribe(d.ctx, "billing", braid.SubscribeOptions{})
	if err != nil {
		return err
	}
	before := d.consumed
	begin = time.Now()
	if err := d.consume(sub, d.Orders-before); err != nil {
		return err
	}
	d.say("\"billing\" went on where it had committed and consumed the other %s in %s.", orders(d.Orders-before), short(time.Since(begin)))
	return d.check()
}

// publish publishes generated orders, some hundred a call, durably.
func (d *demo) publish(topic *braid.Topic, n int) error {
	begin := time.Now()
	const perCall = 500
	var bytes int64
	for left := n; left > 0; {
		recs := make([]*braid.Record, min(left, perCall))
		for i := range recs {
			value, err := json.Marshal(d.next())
			if err != nil {
				return err
			}
			recs[i] = &braid.Record{Key: d.key(), Value: value}
			bytes += int64(len(value))
		}
		if err := topic.Publish(d.ctx, recs...); err != nil {
			return err
		}
		left -= len(recs)
	}
	took := time.Since(begin)
	d.say("Published %s, %s of JSON, in %s: %s a second, every one on disk before its publish returned.",
		orders(n), bytesOf(bytes), short(took), thousands(int64(float64(n)/took.Seconds())))
	return nil
}

// next makes an order; key is its customer's.
func (d *demo) next() order {
	customer := int(float64(demoCustomers) * d.rng.Float64() * d.rng.Float64()) // some buy much more than others
	o := order{Customer: customer, Number: d.made[customer], Cents: 100 + d.rng.IntN(20_000),
		Item: []string{"tea", "rope", "lamp", "river map", "oar", "kettle"}[d.rng.IntN(6)]}
	d.made[customer]++
	d.last = customer
	return o
}

func (d *demo) key() []byte { return fmt.Appendf(nil, "customer-%d", d.last) }

// consume takes n orders, checks that each is its customer's next, and commits.
func (d *demo) consume(sub *braid.Subscription, n int) error {
	for left := n; left > 0; {
		recs, err := sub.Poll(d.ctx, min(left, 1000))
		if err != nil {
			return err
		}
		for _, rec := range recs {
			var o order
			if err := json.Unmarshal(rec.Value, &o); err != nil {
				return err
			}
			if want := d.got[o.Customer]; o.Number != want {
				return fmt.Errorf("customer %d: order %d came where %d was next", o.Customer, o.Number, want)
			}
			d.got[o.Customer]++
			d.cents += int64(o.Cents)
			d.perPart[rec.Partition]++
		}
		if err := sub.Commit(d.ctx, recs...); err != nil {
			return err
		}
		d.consumed += len(recs)
		left -= len(recs)
	}
	return nil
}

// check compares what was consumed with what was published.
func (d *demo) check() error {
	total := 0
	for customer, n := range d.made {
		if d.got[customer] != n {
			return fmt.Errorf("customer %d: %d orders published, %d consumed", customer, n, d.got[customer])
		}
		total += n
	}
	if total != d.Orders || d.consumed != total {
		return fmt.Errorf("%d orders published, %d consumed, %d wanted", total, d.consumed, d.Orders)
	}
	d.say("Every one of %s was consumed exactly once by its count, and each of %s customers' orders came in their order.\n   Turnover: %s.%02d.",
		orders(total), thousands(int64(len(d.made))), thousands(d.cents/100), d.cents%100)
	return nil
}

// verify looks at every byte, from a read-only broker.
func (d *demo) verify() (err error) {
	b, err := braid.Open(d.dir, braid.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	begin := time.Now()
	report, err := b.Verify(d.ctx, braid.VerifyOptions{})
	if err != nil {
		return err
	}
	d.say("Verified every frame and record on disk in %s:", short(time.Since(begin)))
	err = table(d.out, func(w io.Writer) {
		fmt.Fprintln(w, "   PARTITION\tRECORDS\tCONSUMED\tFRAMES\tSIZE")
		for _, p := range report.Partitions {
			fmt.Fprintf(w, "   %d\t%s\t%s\t%s\t%s\n", p.Partition, thousands(p.Records), thousands(int64(d.perPart[p.Partition])),
				thousands(p.Frames), bytesOf(p.Bytes))
		}
	})
	if err != nil {
		return err
	}
	for _, p := range report.Partitions {
		if int64(d.perPart[p.Partition]) != p.Records {
			return fmt.Errorf("partition %d: %d records stored, %d consumed", p.Partition, p.Records, d.perPart[p.Partition])
		}
	}
	return errors.Join(report.Problems()...)
}

func orders(n int) string { return count(n, "order") }
