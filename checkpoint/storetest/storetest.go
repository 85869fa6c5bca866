// Package storetest is the conformance suite of [checkpoint.Store]. Whoever writes a
// store of their own runs it in a test:
//
//	func TestStore(t *testing.T) {
//		storetest.TestStore(t, func(t *testing.T) checkpoint.Store { return open(t) }, storetest.Features{})
//	}
//
// What no test from outside can show is durability: that a commit which has returned nil
// outlives a crash of the machine. Reopen is as near as it gets.
package storetest

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/braid-go/braid/checkpoint"
)

// Features says what a store offers beyond the minimum.
type Features struct {
	// Reopen closes a store and opens it again with what it held. Nil: the store does
	// not outlive Close.
	Reopen func(t *testing.T, s checkpoint.Store) checkpoint.Store
	// Bounded: the store refuses what exceeds MaxKeyBytes, MaxValueBytes, MaxBatchBytes
	// and MaxBatchLen with ErrLimit.
	Bounded bool
}

// suite is what each test gets.
type suite struct {
	open     func(t *testing.T) checkpoint.Store
	features Features
}

// TestStore runs the suite. open returns an empty store, a new one each time; the suite closes it.
func TestStore(t *testing.T, open func(t *testing.T) checkpoint.Store, features Features) {
	s := suite{open, features}
	for _, test := range []struct {
		name string
		run  func(*testing.T, suite)
	}{
		{"an absent key has no value and revision 0", absentKey},
		{"any bytes are a key and a value", anyBytes},
		{"an empty value is not an absent key", emptyValue},
		{"revisions rise with every write of a key, also after a delete", risingRevisions},
		{"all keys of a batch get the revision that Commit returns", oneRevision},
		{"the last write of a key in a batch counts", lastWriteCounts},
		{"a batch whose expectation fails does nothing", conflict},
		{"expectations look at the state before the batch", expectBefore},
		{"an empty batch commits nothing", emptyBatch},
		{"a batch of expectations only checks", checkOnly},
		{"memory is not shared with the caller", ownership},
		{"a batch can be committed again and reused", reuse},
		{"scan yields a prefix in key order", scanOrder},
		{"scan sees one moment", scanSnapshot},
		{"scan can be stopped and started again", scanStop},
		{"a context that has ended refuses everything and changes nothing", endedContext},
		{"oversized keys, values and batches are refused", limits},
		{"a closed store answers ErrClosed", closed},
		{"everything survives reopening", reopen},
		{"random batches agree with a map", model},
		{"concurrent increments are never lost", increments},
		{"concurrent commits are seen whole", wholeCommits},
		{"closing during commits leaves each done or refused", closeDuringCommits},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, s) })
	}
}

// start opens a store that the test's end closes.
func (s suite) start(t *testing.T) checkpoint.Store {
	t.Helper()
	st := s.open(t)
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return st
}

func batch(fill func(b *checkpoint.Batch)) *checkpoint.Batch {
	var b checkpoint.Batch
	fill(&b)
	return &b
}

func put(key, value string) *checkpoint.Batch {
	return batch(func(b *checkpoint.Batch) { b.Put([]byte(key), []byte(value)) })
}

func commit(t *testing.T, s checkpoint.Store, b *checkpoint.Batch) checkpoint.Revision {
	t.Helper()
	rev, err := s.Commit(t.Context(), b)
	if err != nil {
		t.Fatalf("commit: %v", err)
	}
	return rev
}

// want checks one key; a value of "-" stands for an absent key.
func want(t *testing.T, s checkpoint.Store, key, value string, rev checkpoint.Revision) {
	t.Helper()
	got, gotRev, err := s.Get(t.Context(), []byte(key))
	if err != nil {
		t.Fatalf("get %q: %v", key, err)
	}
	switch {
	case value == "-":
		if got != nil || gotRev != 0 {
			t.Errorf("key %.40q is %.40q at %d, want absent", key, got, gotRev)
		}
	case got == nil || string(got) != value || gotRev != rev:
		t.Errorf("key %.40q is %.40q at %d, want %.40q at %d", key, got, gotRev, value, rev)
	}
}

// pair is an entry as the tests compare it.
type pair struct {
	Key, Value string
	Rev        checkpoint.Revision
}

func scan(t *testing.T, s checkpoint.Store, prefix string) []pair {
	t.Helper()
	all := []pair{}
	for e, err := range s.Scan(t.Context(), []byte(prefix)) {
		if err != nil {
			t.Fatalf("scan %q: %v", prefix, err)
		}
		all = append(all, pair{string(e.Key), string(e.Value), e.Revision})
	}
	return all
}

func wantScan(t *testing.T, s checkpoint.Store, prefix string, want ...pair) {
	t.Helper()
	if diff := cmp.Diff(append([]pair{}, want...), scan(t, s, prefix)); diff != "" {
		t.Errorf("scan %q (-want +got):\n%s", prefix, diff)
	}
}

// wantConflict checks that a batch is refused, and why.
func wantConflict(t *testing.T, s checkpoint.Store, b *checkpoint.Batch, key string, expected, actual checkpoint.Revision) {
	t.Helper()
	_, err := s.Commit(t.Context(), b)
	var conflict *checkpoint.ConflictError
	if !errors.Is(err, checkpoint.ErrConflict) || !errors.As(err, &conflict) {
		t.Fatalf("commit: error %v, want a *ConflictError", err)
	}
	if !bytes.Equal(conflict.Key, []byte(key)) || conflict.Expected != expected || conflict.Actual != actual {
		t.Errorf("conflict is about %+v, want key %q, expected %d, actual %d", conflict, key, expected, actual)
	}
}
