package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/braid-go/braid"
)

const (
	// feedLines is how many lines a transaction publishes at most: many, because each costs an fsync, and few enough that
	// they fit into the 16 MiB of a transaction even if each is a piece of maxPiece bytes.
	feedLines = 500
	maxPiece  = 16 << 10
)

// feed publishes the lines of the file that have not been published yet.
func feed(ctx context.Context, b *braid.Broker, lines *braid.Topic, path string, tell *progress) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	placeKey := placePrefix + path
	place, err := sum(ctx, b, placeKey)
	if err != nil {
		return err
	}
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if end < place {
		return fmt.Errorf("the file has %d bytes, but %d have been read: it is not the same", end, place)
	}
	if _, err := f.Seek(place, io.SeekStart); err != nil {
		return err
	}

	in := bufio.NewScanner(f)
	in.Buffer(make([]byte, maxPiece), maxPiece)
	in.Split(pieces)
	for in.Scan() {
		tell.step("feeding from byte %d", place)
		tx := b.Begin()
		if place, err = feedOnce(tx, lines, in, placeKey); err != nil {
			return err
		}
		tell.step("committing lines: %d of %d bytes", place, end)
		if err := tx.Commit(ctx); err != nil {
			return err
		}
	}
	return in.Err()
}

// feedOnce publishes the line that in has and some more, and moves the place behind them, which it returns.
func feedOnce(tx *braid.Txn, lines *braid.Topic, in *bufio.Scanner, placeKey string) (int64, error) {
	n, size := int64(0), int64(0)
	for {
		if err := tx.Publish(lines, &braid.Record{Value: in.Bytes()}); err != nil { // copies it
			return 0, err
		}
		n, size = n+1, size+int64(len(in.Bytes()))
		if n == feedLines || !in.Scan() {
			break
		}
	}
	if _, err := add(tx, fedKey, n); err != nil {
		return 0, err
	}
	return add(tx, placeKey, size)
}

// pieces is a bufio.SplitFunc that gives lines with their line ends, so that their lengths add up to the place in the
// file. A line that is longer than maxPiece is cut behind a space, where no word is.
func pieces(data []byte, atEOF bool) (advance int, token []byte, err error) {
	n := bytes.IndexByte(data, '\n') + 1
	if n == 0 && len(data) >= maxPiece {
		n = bytes.LastIndexAny(data, " \t") + 1 // without one the Scanner gives up: that is no text
	} else if n == 0 && atEOF {
		n = len(data)
	}
	if n == 0 {
		return 0, nil, nil // needs more
	}
	return n, data[:n], nil
}
