// Command bbolt publishes and reads a record with bbolt: it is built for its size.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"
)

func main() {
	if err := run(context.Background(), os.TempDir()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir string) error {
	db, err := bbolt.Open(filepath.Join(dir, "size"), 0o600, nil)
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	defer db.Close()
	err = db.Update(func(tx *bbolt.Tx) error {
		bucket, err := tx.CreateBucketIfNotExists([]byte("size"))
		if err != nil {
			return err
		}
		return bucket.Put([]byte("key"), []byte("record"))
	})
	if err != nil {
		return err
	}
	return db.View(func(tx *bbolt.Tx) error {
		tx.Bucket([]byte("size")).Cursor().First()
		return ctx.Err()
	})
}
