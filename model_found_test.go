package braid

import "testing"

// What package fuzz/model has found.

// The files of a merged partition named its parents in the order of their ranges, the layout in that of their ids, and Open took the one for the
// files of another partition.
func TestPartitionsMergeAlsoWhereTheUpperOneIsTheOlder(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, Options{})
	topic := ensure(t, b, "t", TopicConfig{Partitions: 2})
	children, err := topic.Split(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := topic.Merge(t.Context(), children[1], 2); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, dir, Options{})
}
