package braid

import (
	"errors"
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
