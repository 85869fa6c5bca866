// Command pebble publishes and reads a record with pebble: it is built for its size.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/cockroachdb/pebble/v2"
)

func main() {
	if err := run(context.Background(), os.TempDir()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir string) error {
	db, err := pebble.Open(dir, &pebble.Options{})
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	defer db.Close()
	if err := db.Set([]byte("key"), []byte("record"), pebble.Sync); err != nil {
		return err
	}
	it, err := db.NewIterWithContext(ctx, nil)
	if err != nil {
		return err
	}
	it.First()
	return it.Close()
}
