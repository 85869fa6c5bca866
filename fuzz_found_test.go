package braid

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What a group without positions exports names no partition. Importing it into another group moved that one to the beginning of all.
func TestImportingThePositionsOfAGroupThatHasNoneMovesNothing(t *testing.T) {
	b := openMemory(t)
	topic := ensure(t, b, "t", TopicConfig{Partitions: 2})
	for _, v := range numbered("v", 10) {
		publish(t, topic, v) // in turn to one and the other
	}
	g, err := topic.Group("g")
	if err != nil {
		t.Fatal(err)
	}
	want := map[PartitionID]int64{1: 2, 2: 0}
	plan, err := g.PlanImport(t.Context(), &Positions{Version: 1, Offsets: map[PartitionID]int64{1: 2}})
	if err != nil {
		t.Fatal(err)
	}
	if err := plan.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	other, err := topic.Group("other")
	if err != nil {
		t.Fatal(err)
	}
	empty, err := other.Export(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if plan, err = g.PlanImport(t.Context(), empty); err != nil || len(plan.Moves()) != 0 {
		t.Fatalf("planned %+v, %v; want no moves", plan.Moves(), err)
	}
	if err := plan.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, exported(t, g)); diff != "" {
		t.Error(diff)
	}
	if _, err := g.PlanImport(t.Context(), &Positions{}); !errors.Is(err, ErrInvalidOption) || errors.Is(err, ErrVersion) {
		t.Errorf("what is no export: %v, want ErrInvalidOption", err)
	}
}

// A file that has grown beyond what is read of it gave the error of the reading, which says nothing of damage.
func TestFilesThatHaveGrownBeyondAllSenseAreCorrupt(t *testing.T) {
	for _, name := range []string{formatName, filepath.Join(storeName, "CURRENT"), filepath.Join(partitionsName, "0000000001", "MANIFEST"),
		filepath.Join(storeName, "0000000001", "00000000000000000001")} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			b := open(t, dir, Options{})
			publish(t, ensure(t, b, "t", TopicConfig{}), "x")
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(filepath.Join(dir, name), 9<<30); err != nil {
				t.Skipf("no sparse files of that size here: %v", err)
			}
			for _, opts := range []Options{{}, {ReadOnly: true}} {
				b, err := Open(dir, opts)
				if err == nil && opts.ReadOnly && len(b.OpenReport().Partitions) > 0 { // the segments stand in for their manifest
					if err = b.OpenReport().Partitions[0].Problems[0]; b.Close() != nil {
						t.Error("close")
					}
				}
				if !errors.Is(err, ErrCorrupt) {
					t.Errorf("error %v, want ErrCorrupt", err)
				}
			}
		})
	}
}
