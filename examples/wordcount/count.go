package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/braid-go/braid"
)

// count adds the words of all lines that are fed and not counted yet to the counts.
func count(ctx context.Context, b *braid.Broker, lines *braid.Topic, tell *progress) error {
	fed, err := sum(ctx, b, fedKey)
	if err != nil {
		return err
	}
	counted, err := sum(ctx, b, countedKey)
	if err != nil || counted == fed { // Process would wait for lines that do not come
		return err
	}
	sub, err := lines.Subscribe(ctx, "counter", braid.SubscribeOptions{})
	if err != nil {
		return err
	}
	defer sub.Close()

	counting, finish := context.WithCancel(ctx)
	defer finish()
	err = sub.Process(counting, func(tx *braid.Txn, recs []*braid.Record) error {
		tell.step("counting %d lines", len(recs))
		if err := addWords(tx, recs); err != nil {
			return err
		}
		counted, err := add(tx, countedKey, int64(len(recs)))
		if err != nil {
			return err
		}
		if counted == fed {
			finish() // Process commits what fn has done, and returns then
		}
		tell.step("committing counts: %d of %d lines", counted, fed)
		return nil
	})
	if !errors.Is(err, context.Canceled) || ctx.Err() != nil {
		return err
	}
	return nil
}

// addWords adds the words of lines to the counts. Words repeat: summing them up first reads and writes each of them once.
func addWords(tx *braid.Txn, recs []*braid.Record) error {
	words := map[string]int64{}
	for _, rec := range recs {
		for word := range eachWord(string(rec.Value)) {
			words[word]++
		}
	}
	for word, n := range words {
		if _, err := add(tx, wordPrefix+word, n); err != nil {
			return err
		}
	}
	return nil
}

// eachWord iterates over the words of a text, in lower case: letters, digits, and apostrophes between them.
func eachWord(text string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for word := range strings.FieldsFuncSeq(strings.ToLower(text), func(r rune) bool {
			return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '\''
		}) {
			if word = strings.Trim(word, "'"); word != "" && !yield(word) {
				return
			}
		}
	}
}

// add adds to a sum in the state and returns what it is then.
func add(tx *braid.Txn, key string, n int64) (int64, error) {
	v, _, err := tx.Get(key)
	if err != nil {
		return 0, err
	}
	old, err := parseSum(key, v)
	if err != nil {
		return 0, err
	}
	return old + n, tx.Put(key, strconv.AppendInt(nil, old+n, 10))
}

// sum reads a committed sum.
func sum(ctx context.Context, b *braid.Broker, key string) (int64, error) {
	v, _, err := b.Get(ctx, key)
	if err != nil {
		return 0, err
	}
	return parseSum(key, v)
}

func parseSum(key string, v []byte) (int64, error) {
	if v == nil {
		return 0, nil
	}
	n, err := strconv.ParseInt(string(v), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("state %s: %w", key, err)
	}
	return n, nil
}

// printTop prints the words that occur most often.
func printTop(ctx context.Context, b *braid.Broker, top int, w io.Writer) error {
	type entry struct {
		word string
		n    int64
	}
	var words []entry
	for e, err := range b.Scan(ctx, wordPrefix) {
		if err != nil {
			return err
		}
		n, err := parseSum(e.Key, e.Value)
		if err != nil {
			return err
		}
		words = append(words, entry{strings.TrimPrefix(e.Key, wordPrefix), n})
	}
	slices.SortFunc(words, func(a, b entry) int {
		return cmp.Or(cmp.Compare(b.n, a.n), cmp.Compare(a.word, b.word))
	})
	for _, e := range words[:min(max(top, 0), len(words))] {
		if _, err := fmt.Fprintf(w, "%8d %s\n", e.n, e.word); err != nil {
			return err
		}
	}
	return nil
}
