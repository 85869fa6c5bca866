// Command example is a Watermill router over a Braid broker: a handler reads orders and publishes invoices, until ten have been made.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"sync/atomic"

	base "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/braid-go/braid"
	"github.com/braid-go/braid/adapters/watermill"
)

func main() {
	dir, err := os.MkdirTemp("", "braid-watermill-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := run(dir); err != nil {
		log.Fatal(err)
	}
}

func run(dir string) error {
	broker, err := braid.Open(dir, braid.Options{})
	if err != nil {
		return err
	}
	defer broker.Close()
	publisher := watermill.NewPublisher(broker, watermill.PublisherConfig{Key: byCustomer})
	defer publisher.Close()
	subscriber := watermill.NewSubscriber(broker, watermill.SubscriberConfig{Group: "billing"})
	defer subscriber.Close()

	router, err := message.NewRouter(message.RouterConfig{}, base.NopLogger{})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	router.AddHandler("invoice", "orders", subscriber, "invoices", publisher, func(order *message.Message) ([]*message.Message, error) {
		invoice := message.NewMessage(base.NewUUID(), fmt.Appendf(nil, "invoice for %s", order.Payload))
		invoice.Metadata.Set("customer", order.Metadata.Get("customer"))
		return []*message.Message{invoice}, nil
	})
	var made atomic.Int32
	router.AddConsumerHandler("print", "invoices", subscriber, func(invoice *message.Message) error {
		fmt.Printf("%s: %s\n", invoice.Metadata.Get("customer"), invoice.Payload)
		if made.Add(1) == 10 {
			stop()
		}
		return nil
	})
	for i := range 10 {
		order := message.NewMessage(base.NewUUID(), fmt.Appendf(nil, "order %d", i))
		order.Metadata.Set("customer", fmt.Sprintf("customer-%d", i%3))
		if err := publisher.Publish("orders", order); err != nil {
			return err
		}
	}
	return router.Run(ctx)
}

// byCustomer has the messages of one customer keep their order.
func byCustomer(_ string, msg *message.Message) (string, error) {
	return msg.Metadata.Get("customer"), nil
}
