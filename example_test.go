package braid_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/braid-go/braid"
	"github.com/braid-go/braid/backpressure"
	"github.com/braid-go/braid/scaler"
)

// The quick start of the README.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	dir, err := os.MkdirTemp("", "braid-example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	b, err := braid.Open(filepath.Join(dir, "data"), braid.Options{}) // one directory is the whole state
	if err != nil {
		log.Fatal(err)
	}
	defer b.Close()

	orders, err := b.EnsureTopic(ctx, "orders", braid.TopicConfig{Partitions: 4})
	if err != nil {
		log.Fatal(err)
	}

	// Publish returns when the record is on disk.
	err = orders.Publish(ctx, &braid.Record{Key: []byte("alice"), Value: []byte("two lamps")})
	if err != nil {
		log.Fatal(err)
	}

	// A group goes on where it has committed, also after a restart.
	sub, err := orders.Subscribe(ctx, "billing", braid.SubscribeOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer sub.Close()

	for rec, err := range sub.Records(ctx) {
		if errors.Is(err, context.Canceled) {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s bought %s\n", rec.Key, rec.Value)
		if err := sub.Commit(ctx, rec); err != nil {
			log.Fatal(err)
		}
		stop() // the example ends here
	}
	// Output: alice bought two lamps
}

// memory opens a broker for an example.
func memory() (*braid.Broker, *braid.Topic) {
	b, err := braid.Open("", braid.Options{InMemory: true})
	if err != nil {
		log.Fatal(err)
	}
	topic, err := b.CreateTopic(context.Background(), "events", braid.TopicConfig{})
	if err != nil {
		log.Fatal(err)
	}
	return b, topic
}

func ExampleTopic_Publish() {
	b, events := memory()
	defer b.Close()
	ctx := context.Background()

	// One call with many records is far cheaper than many calls.
	recs := []*braid.Record{
		{Key: []byte("a"), Value: []byte("1")},
		{Key: []byte("b"), Value: []byte("2"), Headers: []braid.Header{{Key: "trace", Value: []byte("42")}}},
	}
	if err := events.Publish(ctx, recs...); err != nil {
		log.Fatal(err)
	}
	fmt.Println(recs[1].Topic, recs[1].Offset)

	err := events.Publish(ctx, &braid.Record{Key: []byte("no value")})
	fmt.Println(errors.Is(err, braid.ErrInvalidRecord))
	// Output:
	// events 1
	// true
}

func ExampleTopic_PublishAsync() {
	b, events := memory()
	defer b.Close()
	ctx := context.Background()

	done := func(rec *braid.Record, err error) {
		if err != nil {
			log.Print(err)
			return
		}
		fmt.Printf("%s is at offset %d\n", rec.Value, rec.Offset)
	}
	for _, v := range []string{"first", "second"} {
		if err := events.PublishAsync(ctx, done, &braid.Record{Value: []byte(v)}); err != nil {
			log.Fatal(err)
		}
	}
	if err := events.Flush(ctx); err != nil { // both callbacks have returned
		log.Fatal(err)
	}
	// Output:
	// first is at offset 0
	// second is at offset 1
}

func ExampleTopic_Read() {
	b, events := memory()
	defer b.Close()
	ctx := context.Background()
	for _, v := range []string{"x", "y", "z"} {
		if err := events.Publish(ctx, &braid.Record{Value: []byte(v)}); err != nil {
			log.Fatal(err)
		}
	}

	from := braid.FromOffsets(map[braid.PartitionID]int64{events.Partitions()[0].ID: 1})
	for rec, err := range events.Read(ctx, braid.ReadOptions{From: from}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(rec.Offset, string(rec.Value))
	}
	// Output:
	// 1 y
	// 2 z
}

func ExampleSubscription_Poll() {
	b, events := memory()
	defer b.Close()
	ctx := context.Background()
	for i := range 5 {
		if err := events.Publish(ctx, &braid.Record{Value: fmt.Appendf(nil, "event %d", i)}); err != nil {
			log.Fatal(err)
		}
	}

	sub, err := events.Subscribe(ctx, "audit", braid.SubscribeOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer sub.Close()
	for seen := 0; seen < 5; {
		recs, err := sub.Poll(ctx, 3) // at least one, at most three
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(len(recs), "records")
		seen += len(recs)
		if err := sub.CommitDelivered(ctx); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// 3 records
	// 2 records
}

// Counting words exactly once: the count and the positions are committed in one step.
func ExampleSubscription_Process() {
	b, err := braid.Open("", braid.Options{InMemory: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer b.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	lines, _ := b.CreateTopic(ctx, "lines", braid.TopicConfig{})
	_ = lines.Publish(ctx, &braid.Record{Value: []byte("to be or not")}, &braid.Record{Value: []byte("to be")})
	sub, err := lines.Subscribe(ctx, "counter", braid.SubscribeOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer sub.Close()
	err = sub.Process(ctx, func(tx *braid.Txn, recs []*braid.Record) error {
		for _, rec := range recs {
			for _, word := range strings.Fields(string(rec.Value)) {
				n, _, err := tx.Get(word)
				if err != nil {
					return err
				}
				if err := tx.Put(word, append(n, '|')); err != nil {
					return err
				}
			}
		}
		cancel() // this is enough for an example
		return nil
	})
	fmt.Println(err)
	for e, err := range b.Scan(context.Background(), "") {
		fmt.Printf("%s %s %v\n", e.Key, e.Value, err)
	}
	// Output:
	// context canceled
	// be || <nil>
	// not | <nil>
	// or | <nil>
	// to || <nil>
}

// Handlers run side by side; what fails too often goes to the dead letters.
func ExampleTopic_Consume() {
	b, err := braid.Open("", braid.Options{InMemory: true})
	if err != nil {
		log.Fatal(err)
	}
	defer b.Close()
	ctx, cancel := context.WithCancel(context.Background())
	jobs, err := b.EnsureTopic(ctx, "jobs", braid.TopicConfig{Partitions: 2})
	if err != nil {
		log.Fatal(err)
	}
	err = jobs.Publish(ctx,
		&braid.Record{Key: []byte("anna"), Value: []byte("welcome")},
		&braid.Record{Key: []byte("nobody"), Value: []byte("welcome")})
	if err != nil {
		log.Fatal(err)
	}
	go func() { // ends the example when the dead letter has come
		dead, err := b.EnsureTopic(ctx, "jobs.dead", braid.TopicConfig{})
		if err != nil {
			log.Fatal(err)
		}
		for rec, err := range dead.Read(ctx, braid.ReadOptions{Follow: true}) {
			if err != nil {
				log.Fatal(err)
			}
			fmt.Printf("dead: %s\n", rec.Key)
			cancel()
			break
		}
	}()
	err = jobs.Consume(ctx, "mailer", braid.ConsumeOptions{
		Concurrency: 8, MaxAttempts: 3, DeadLetter: "jobs.dead", MinBackoff: time.Millisecond,
		OnError: func(rec *braid.Record, attempts int, err error) {},
	}, func(ctx context.Context, rec *braid.Record) error {
		if string(rec.Key) == "nobody" {
			return errors.New("no such address")
		}
		return nil
	})
	fmt.Println(err)
	// Output:
	// dead: nobody
	// <nil>
}

// A topic that sheds load refuses what does not fit and says when to come back. Here the queue is full because of a group that reads nothing, in front of a
// topic that lets none be further behind than ten records.
func ExampleOverloadError() {
	ctx := context.Background()
	b, err := braid.Open("", braid.Options{InMemory: true})
	if err != nil {
		log.Fatal(err)
	}
	defer b.Close()
	events, err := b.CreateTopic(ctx, "events", braid.TopicConfig{
		MaxBacklog:   10,
		Backpressure: backpressure.Policy{Strategy: backpressure.ShedLoad},
	})
	if err != nil {
		log.Fatal(err)
	}
	slow, err := events.Subscribe(ctx, "slow", braid.SubscribeOptions{})
	if err != nil {
		log.Fatal(err)
	}

	var over *braid.OverloadError
	for over == nil {
		if err := events.PublishAsync(ctx, nil, &braid.Record{Value: []byte("tick")}); err != nil && !errors.As(err, &over) {
			log.Fatal(err)
		}
	}
	fmt.Println("refused:", errors.Is(over, braid.ErrOverloaded), over.Topic)

	for last := false; !last; { // the group wakes up
		recs, err := slow.Poll(ctx, 100)
		if err != nil {
			log.Fatal(err)
		}
		if err := slow.CommitDelivered(ctx); err != nil {
			log.Fatal(err)
		}
		last = recs[len(recs)-1].Offset+1 == events.Accounting().Accepted
	}
	for {
		err := events.Publish(ctx, &braid.Record{Value: []byte("tock")})
		if !errors.As(err, &over) {
			fmt.Println("in the end:", err)
			break
		}
		time.Sleep(over.RetryAfter)
	}
	// Output:
	// refused: true events
	// in the end: <nil>
}

// A listener hears of each change once, of partitions, topics and the broker as a whole.
func ExampleBroker_OnBackpressureChanged() {
	ctx := context.Background()
	b, err := braid.Open("", braid.Options{InMemory: true})
	if err != nil {
		log.Fatal(err)
	}
	defer b.Close()
	changes := make(chan braid.BackpressureEvent, 10)
	cancel := b.OnBackpressureChanged(func(e braid.BackpressureEvent) {
		if e.Subsystem() == "broker" {
			changes <- e
		}
	})
	defer cancel()

	// A group that reads nothing, and a topic that lets none be further behind than ten records.
	events, err := b.CreateTopic(ctx, "events", braid.TopicConfig{MaxBacklog: 10})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := events.Subscribe(ctx, "slow", braid.SubscribeOptions{}); err != nil {
		log.Fatal(err)
	}
	for range 11 {
		if err := events.PublishAsync(ctx, nil, &braid.Record{Value: []byte("tick")}); err != nil {
			log.Fatal(err)
		}
	}
	e := <-changes
	fmt.Println(e.Subsystem(), "is", e.Current, "and was", e.Previous)
	now := b.Backpressure()
	fmt.Println("the worst:", now.State, "in partition", now.Partition, "of", now.Topic)
	// Output:
	// broker is shedding and was normal
	// the worst: shedding in partition 1 of events
}

// A topic of one partition splits while more is published than one is to carry. The windows are short, so that there is something to see at once.
func ExampleTopicConfig_autoScale() {
	ctx := context.Background()
	scaled := make(chan scaler.Decision, 1)
	b, err := braid.Open("", braid.Options{InMemory: true, OnScaled: func(topic string, d scaler.Decision) {
		select {
		case scaled <- d:
		default:
		}
	}})
	if err != nil {
		log.Fatal(err)
	}
	defer b.Close()
	orders, err := b.EnsureTopic(ctx, "orders", braid.TopicConfig{AutoScale: true, Scaling: scaler.Policy{
		TargetRecords: 100, // a second and partition; default 100,000
		ShortWindow:   time.Second, MediumWindow: 2 * time.Second, LongWindow: 4 * time.Second,
	}})
	if err != nil {
		log.Fatal(err)
	}
	for n := 0; ; n++ {
		err := orders.Publish(ctx, &braid.Record{Key: fmt.Append(nil, "customer ", n%50), Value: []byte("a lamp")})
		if err != nil {
			log.Fatal(err)
		}
		select {
		case d := <-scaled:
			fmt.Printf("%s of partition %d: %v\n", d.Action, d.Partition, d.Err)
			for _, p := range orders.Partitions() {
				fmt.Printf("partition %d continues %v, sealed: %v\n", p.ID, p.Parents, p.Sealed)
			}
			return
		case <-time.After(2 * time.Millisecond):
		}
	}
	// Output:
	// split of partition 1: <nil>
	// partition 1 continues [], sealed: true
	// partition 2 continues [1], sealed: false
	// partition 3 continues [1], sealed: false
}

// Partitions can be split and merged by hand, too, while they are in use.
func ExampleTopic_Split() {
	ctx := context.Background()
	b, err := braid.Open("", braid.Options{InMemory: true})
	if err != nil {
		log.Fatal(err)
	}
	defer b.Close()
	orders, err := b.CreateTopic(ctx, "orders", braid.TopicConfig{})
	if err != nil {
		log.Fatal(err)
	}
	publish := func(what string) {
		if err := orders.Publish(ctx, &braid.Record{Key: []byte("alice"), Value: []byte(what)}); err != nil {
			log.Fatal(err)
		}
	}
	publish("two lamps")
	children, err := orders.Split(ctx, 1)
	if err != nil {
		log.Fatal(err)
	}
	publish("a rope")
	one, err := orders.Merge(ctx, children[0], children[1])
	if err != nil {
		log.Fatal(err)
	}
	publish("an oar")
	fmt.Println(children, one)
	for rec, err := range orders.Read(ctx, braid.ReadOptions{}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s: %s\n", rec.Key, rec.Value)
	}
	// Output:
	// [2 3] 4
	// alice: two lamps
	// alice: a rope
	// alice: an oar
}
