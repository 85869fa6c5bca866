package braid

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func theGroup(t testing.TB, topic *Topic, name string) *Group {
	t.Helper()
	g, err := topic.Group(name)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func describe(t testing.TB, g *Group) *GroupDescription {
	t.Helper()
	d, err := g.Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestGroupsAreListedAndDescribed(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, Options{})
	topic := ensure(t, b, "t", TopicConfig{Partitions: 2})
	other := ensure(t, b, "t2", TopicConfig{})
	if d := describe(t, theGroup(t, topic, "g")); d.Exists || len(d.Partitions) > 0 {
		t.Errorf("a group that is not there: %+v", d)
	}
	publishTo(t, topic, 1, 3)
	publishTo(t, topic, 2, 1)
	sub := subscribe(t, topic, "g", SubscribeOptions{Member: "anna"})
	subscribe(t, topic, "a", SubscribeOptions{}).Close()
	subscribe(t, other, "z", SubscribeOptions{}).Close()
	recs := poll(t, sub, 4)
	for _, r := range recs {
		if r.Partition == 2 || r.Offset == 0 {
			if err := sub.Commit(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
	}
	names, err := topic.Groups(t.Context())
	if diff := cmp.Diff([]string{"a", "g"}, names); err != nil || diff != "" {
		t.Errorf("groups: %v, %s", err, diff)
	}
	d := describe(t, theGroup(t, topic, "g"))
	if len(d.Members) != 1 || d.Members[0].Name != "anna" || len(d.Members[0].Partitions) != 2 || d.Assignor != "sticky" || d.Generation == 0 {
		t.Errorf("members: %+v", d)
	}
	if d.Records != 2 || d.Time <= 0 || d.Partitions[0].Committed != 1 || d.Partitions[0].Records != 2 || d.Partitions[1].Records != 0 {
		t.Errorf("lag: %+v", d)
	}
	reader := open(t, dir, Options{ReadOnly: true})
	theirs, err := reader.Topic("t")
	if err != nil {
		t.Fatal(err)
	}
	if d := describe(t, theGroup(t, theirs, "g")); len(d.Members) != 0 || len(d.Partitions) != 2 {
		t.Errorf("from another broker: %+v", d)
	}
	if err := theGroup(t, theirs, "g").Delete(t.Context()); !errors.Is(err, ErrReadOnly) {
		t.Errorf("error %v, want ErrReadOnly", err)
	}
	if _, err := topic.Group("a/b"); !errors.Is(err, ErrInvalidName) {
		t.Errorf("error %v, want ErrInvalidName", err)
	}
}

func TestAResetIsPlannedFirstAndAppliedWhenNobodyIsThere(t *testing.T) {
	b := open(t, t.TempDir(), Options{})
	topic := ensure(t, b, "t", TopicConfig{Partitions: 2})
	publishTo(t, topic, 1, 5)
	publishTo(t, topic, 2, 5)
	sub := subscribe(t, topic, "g", SubscribeOptions{})
	poll(t, sub, 10)
	if err := sub.CommitDelivered(t.Context()); err != nil {
		t.Fatal(err)
	}
	g := theGroup(t, topic, "g")
	for name, tc := range map[string]struct {
		plan func() (*ResetPlan, error)
		want []Move
	}{
		"earliest":      {func() (*ResetPlan, error) { return g.PlanReset(t.Context(), FromEarliest()) }, []Move{{1, 5, 0, false}, {2, 5, 0, false}}},
		"latest":        {func() (*ResetPlan, error) { return g.PlanReset(t.Context(), FromLatest(), 2) }, []Move{{2, 5, 5, false}}},
		"time":          {func() (*ResetPlan, error) { return g.PlanReset(t.Context(), FromTime(time.Unix(0, 0))) }, []Move{{1, 5, 0, false}, {2, 5, 0, false}}},
		"offsets":       {func() (*ResetPlan, error) { return g.PlanReset(t.Context(), FromOffsets(map[PartitionID]int64{2: 3})) }, []Move{{2, 5, 3, false}}},
		"offsets, none": {func() (*ResetPlan, error) { return g.PlanReset(t.Context(), FromOffsets(nil)) }, nil},
		"clamped":       {func() (*ResetPlan, error) { return g.PlanReset(t.Context(), FromOffsets(map[PartitionID]int64{2: 30})) }, []Move{{2, 5, 5, true}}},
		"shift":         {func() (*ResetPlan, error) { return g.PlanShift(t.Context(), -2) }, []Move{{1, 5, 3, false}, {2, 5, 3, false}}},
		"shift, far":    {func() (*ResetPlan, error) { return g.PlanShift(t.Context(), 1<<62, 1) }, []Move{{1, 5, 5, true}}},
		"shift, back":   {func() (*ResetPlan, error) { return g.PlanShift(t.Context(), -1<<62, 1) }, []Move{{1, 5, 0, true}}},
	} {
		plan, err := tc.plan()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(tc.want, plan.Moves()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if _, err := g.PlanReset(t.Context(), FromEarliest(), 9); !errors.Is(err, ErrInvalidOption) {
		t.Errorf("error %v, want ErrInvalidOption", err)
	}
	plan, err := g.PlanShift(t.Context(), -2, 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := plan.Apply(t.Context()); !errors.Is(err, ErrGroupActive) {
		t.Errorf("error %v, want ErrGroupActive", err)
	}
	sub.Close()
	if err := plan.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := plan.Apply(t.Context()); !errors.Is(err, ErrConflict) {
		t.Errorf("error %v, want ErrConflict: the positions are not what they were", err)
	}
	if d := describe(t, g); d.Partitions[0].Committed != 5 || d.Partitions[1].Committed != 3 {
		t.Errorf("positions %+v", d.Partitions)
	}
	sub = subscribe(t, topic, "g", SubscribeOptions{})
	if recs := poll(t, sub, 2); recs[0].Partition != 2 || recs[0].Offset != 3 {
		t.Errorf("delivered partition %d offset %d", recs[0].Partition, recs[0].Offset)
	}
	sub.Close()
	stale, err := g.PlanReset(t.Context(), FromEarliest())
	if err != nil {
		t.Fatal(err)
	}
	split(t, topic, 1)
	if err := stale.Apply(t.Context()); !errors.Is(err, ErrConflict) {
		t.Errorf("error %v, want ErrConflict: the layout has changed", err)
	}
}

func TestAResetGoesBackOverSplits(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{})
	publishFamily(t, topic)
	sub := subscribe(t, topic, "g", SubscribeOptions{})
	poll(t, sub, 80)
	if err := sub.CommitDelivered(t.Context()); err != nil {
		t.Fatal(err)
	}
	sub.Close()
	plan, err := theGroup(t, topic, "g").PlanReset(t.Context(), FromEarliest())
	if err != nil {
		t.Fatal(err)
	}
	if err := plan.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	inOrder(t, poll(t, subscribe(t, topic, "g", SubscribeOptions{}), 80))
}

func TestAGroupCanBeMadeDeletedExportedAndImported(t *testing.T) {
	b := openMemory(t)
	topic := ensure(t, b, "t", TopicConfig{Partitions: 2})
	publishTo(t, topic, 1, 4)
	publishTo(t, topic, 2, 4)
	g := theGroup(t, topic, "g")
	plan, err := g.PlanReset(t.Context(), FromOffsets(map[PartitionID]int64{2: 3})) // of a group that is not there yet
	if err != nil {
		t.Fatal(err)
	}
	if err := plan.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	kept, err := g.Export(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[PartitionID]int64{1: 0, 2: 3}, kept.Offsets); diff != "" {
		t.Error(diff)
	}
	text, err := json.Marshal(kept)
	if err != nil {
		t.Fatal(err)
	}
	sub := subscribe(t, topic, "g", SubscribeOptions{})
	if err := g.Delete(t.Context()); !errors.Is(err, ErrGroupActive) {
		t.Errorf("error %v, want ErrGroupActive", err)
	}
	sub.Close()
	for range 2 { // again does nothing
		if err := g.Delete(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if d := describe(t, g); d.Exists {
		t.Errorf("deleted and still there: %+v", d)
	}
	var back Positions
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if plan, err = theGroup(t, topic, "h").PlanImport(t.Context(), &back); err != nil {
		t.Fatal(err)
	}
	if err := plan.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d := describe(t, theGroup(t, topic, "h")); d.Partitions[1].Committed != 3 || d.Records != 5 {
		t.Errorf("imported %+v", d)
	}
	for name, bad := range map[string]struct {
		change func(*Positions)
		want   error
	}{
		"a newer version":      {func(p *Positions) { p.Version = 2 }, ErrVersion},
		"an unknown partition": {func(p *Positions) { p.Offsets = map[PartitionID]int64{7: 0} }, ErrInvalidOption},
		"a negative offset":    {func(p *Positions) { p.Offsets = map[PartitionID]int64{1: -1} }, ErrInvalidOption},
	} {
		p := back
		bad.change(&p)
		if _, err := g.PlanImport(t.Context(), &p); !errors.Is(err, bad.want) {
			t.Errorf("%s: error %v, want %v", name, err, bad.want)
		}
	}
}
