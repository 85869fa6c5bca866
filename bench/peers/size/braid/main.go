// Command braid publishes and reads a record with Braid: it is built for its size.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/braid-go/braid"
)

func main() {
	if err := run(context.Background(), os.TempDir()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir string) error {
	b, err := braid.Open(dir, braid.Options{})
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	defer b.Close()
	topic, err := b.EnsureTopic(ctx, "size", braid.TopicConfig{})
	if err != nil {
		return err
	}
	if err := topic.Publish(ctx, &braid.Record{Value: []byte("record")}); err != nil {
		return err
	}
	sub, err := topic.Subscribe(ctx, "size", braid.SubscribeOptions{})
	if err != nil {
		return err
	}
	defer sub.Close()
	recs, err := sub.Poll(ctx, 1)
	if err != nil {
		return err
	}
	return sub.Commit(ctx, recs...)
}
