package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
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

	Scale bool `help:"Instead: ramp a load up and down, and watch partitions split and merge. Takes about a minute."`
	Peak  int  `help:"With --scale: orders a second at the peak." default:"20000"`
	Slow  bool `help:"With --scale: by the windows that a topic has by default. Takes about twenty minutes."`
}

// Help says what will be seen.
func (demoCmd) Help() string {
	return `Examples:
  braid demo
  braid demo --orders 1000000 --partitions 8 --keep
  braid demo --scale
  braid demo --scale --slow

Publishes a generated stream of orders over several partitions, consumes a part of it in a group, closes the
broker, opens it again, publishes more, goes on exactly where it was, and checks the counts, the order of every
customer's orders, and every byte on disk. The data directory is a temporary one, removed afterwards unless --keep
is given; or the one of --dir, which must be empty and is kept. $BRAID_DIR is left alone.

With --scale a topic of one partition gets more and more orders, up to --peak a second, and then next to none. Its
partitions split as the load grows, and merge when they have been quiet for a while; so do the consumers, by how
far they are behind. Every customer's orders must come in their order all the time. The load is averaged over 2, 4 and
8 seconds instead of 10 s, 1 min and 5 min, so that there is something to see; --slow leaves these as they are.`
}

// located is where a record is stored.
type located struct {
	partition braid.PartitionID
	offset    int64
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
	out  *bufio.Writer
	dir  string
	step int
	rng  *rand.Rand
	made map[int]int // orders published, by customer

	got         map[int]int // orders consumed, by customer
	consumed    int
	cents       int64
	perPart     map[braid.PartitionID]int
	uncommitted map[located]bool // delivered before the restart and not committed
	again       int              // of these, delivered again
}

// Run runs the demo.
func (c *demoCmd) Run(e *env) (err error) {
	if c.Orders < 10 || c.Partitions < 1 || c.Peak < 100 {
		return errors.New("the demo needs at least 10 orders, a partition, and a peak of 100 a second")
	}
	dir, err := c.directory(e)
	if err != nil {
		return err
	}
	keep := c.Keep || e.dirNamed
	if !keep {
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	if c.Scale {
		s := newScaleDemo(e.ctx, e.stdout, c.Peak, c.Seed, c.Slow)
		return s.run(dir, braid.Options{})
	}
	d := &demo{demoCmd: c, ctx: e.ctx, out: e.stdout, dir: dir, rng: rand.New(rand.NewPCG(c.Seed, 0)), made: map[int]int{},
		got: map[int]int{}, perPart: map[braid.PartitionID]int{}, uncommitted: map[located]bool{}}
	fmt.Fprintf(d.out, "Braid demo: %s of %s customers, seed %d\n", orders(c.Orders), thousands(demoCustomers), c.Seed)
	for _, step := range []func() error{d.first, d.second, d.verify} {
		if err := step(); err != nil {
			return err
		}
	}
	if keep {
		fmt.Fprintf(d.out, "\nThe data is in %s: try braid --dir %s info\n", dir, dir)
	}
	fmt.Fprintln(d.out, "\nTo watch partitions split and merge with their load, in a minute: braid demo --scale")
	fmt.Fprintln(d.out, "\nall checks passed")
	return nil
}

// directory makes the demo's directory.
func (c *demoCmd) directory(e *env) (string, error) {
	if !e.dirNamed {
		return os.MkdirTemp("", "braid-demo-")
	}
	entries, err := os.ReadDir(e.dir)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return "", err
	case len(entries) > 0:
		return "", fmt.Errorf("the demo needs a directory of its own: %s is not empty", e.dir)
	}
	return e.dir, nil
}

// say prints a numbered step.
func (d *demo) say(format string, args ...any) {
	d.step++
	fmt.Fprintf(d.out, "\n%d. %s\n", d.step, fmt.Sprintf(format, args...))
	_ = d.out.Flush() // somebody watches; an error comes again at the end
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
	took := time.Since(begin)
	extra, err := sub.Poll(d.ctx, 100)
	if err != nil {
		return err
	}
	for _, rec := range extra {
		d.uncommitted[located{rec.Partition, rec.Offset}] = true
	}
	d.say("The group \"billing\" consumed and committed %s in %s, %s a second. It took %s more and did not commit them.\n"+
		"   Closing the broker in the middle of that work.", orders(stop), short(took), perSecond(stop, took), orders(len(extra)))
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
	recovered := "it had been closed cleanly, and nothing had to be recovered"
	if n := len(b.OpenReport().Partitions); n > 0 {
		recovered = count(n, "partition") + " had to be recovered"
	}
	d.say("Opened it again in %s: %s.", short(time.Since(begin)), recovered)
	if err := d.publish(topic, d.Orders-d.Orders*9/10); err != nil {
		return err
	}
	sub, err := topic.Subscribe(d.ctx, "billing", braid.SubscribeOptions{})
	if err != nil {
		return err
	}
	rest := d.Orders - d.consumed
	begin = time.Now()
	if err := d.consume(sub, rest); err != nil {
		return err
	}
	took := time.Since(begin)
	if d.again != len(d.uncommitted) {
		return fmt.Errorf("of %d orders that had been delivered and not committed, %d came again", len(d.uncommitted), d.again)
	}
	d.say("\"billing\" went on exactly where it had committed: the %s came again, and with them all the others, %s in %s,\n   %s a second.",
		orders(d.again), orders(rest), short(took), perSecond(rest, took))
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
			o := d.next()
			value, err := json.Marshal(o)
			if err != nil {
				return err
			}
			recs[i] = &braid.Record{Key: fmt.Appendf(nil, "customer-%d", o.Customer), Value: value}
			bytes += int64(len(value))
		}
		if err := topic.Publish(d.ctx, recs...); err != nil {
			return err
		}
		left -= len(recs)
	}
	took := time.Since(begin)
	d.say("Published %s, %s of JSON, in %s: %s orders and %.1f MB a second, every one on disk before its publish returned.",
		orders(n), bytesOf(bytes), short(took), perSecond(n, took), float64(bytes)/1e6/took.Seconds())
	return nil
}

// next makes an order.
func (d *demo) next() order {
	customer := int(float64(demoCustomers) * d.rng.Float64() * d.rng.Float64()) // some buy much more than others
	o := order{Customer: customer, Number: d.made[customer], Cents: 100 + d.rng.IntN(20_000),
		Item: []string{"tea", "rope", "lamp", "river map", "oar", "kettle"}[d.rng.IntN(6)]}
	d.made[customer]++
	return o
}

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
			if d.uncommitted[located{rec.Partition, rec.Offset}] {
				d.again++
			}
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
	d.say("Each of %s was consumed and counted once, and the orders of each of %s customers came in their order.\n   Turnover: %s.%02d.",
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

// perSecond prints a rate.
func perSecond(n int, took time.Duration) string {
	return thousands(int64(float64(n) / took.Seconds()))
}
