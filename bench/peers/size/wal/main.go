// Command wal publishes and reads a record with tidwall/wal: it is built for its size.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/tidwall/wal"
)

func main() {
	if err := run(context.Background(), os.TempDir()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir string) error {
	log, err := wal.Open(filepath.Join(dir, "size"), nil)
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	defer log.Close()
	if err := log.Write(1, []byte("record")); err != nil {
		return err
	}
	if _, err := log.Read(1); err != nil {
		return err
	}
	return ctx.Err()
}
