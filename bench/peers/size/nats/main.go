// Command nats publishes and reads a record with JetStream in process: it is built for its size.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func main() {
	if err := run(context.Background(), os.TempDir()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir string) error {
	srv, err := server.NewServer(&server.Options{DontListen: true, JetStream: true, StoreDir: dir})
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	srv.Start()
	defer srv.Shutdown()
	conn, err := nats.Connect("", nats.InProcessServer(srv))
	if err != nil {
		return err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "size", Subjects: []string{"size"}})
	if err != nil {
		return err
	}
	if _, err := js.Publish(ctx, "size", []byte("record")); err != nil {
		return err
	}
	consumer, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{Durable: "size"})
	if err != nil {
		return err
	}
	msg, err := consumer.Next()
	if err != nil {
		return err
	}
	return msg.DoubleAck(ctx)
}
