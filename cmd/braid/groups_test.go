package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/braid-go/braid"
)

// withGroup makes a topic of 10 records in 2 partitions, of which the group has committed 4.
func withGroup(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must(t, dir, "a:1\na:2\na:3\na:4\nb:1\nb:2\nb:3\nb:4\nb:5\nb:6\n", "pub", "t", "--key-sep", ":", "--partitions", "2")
	b, err := braid.Open(dir, braid.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	topic, err := b.Topic("t")
	if err != nil {
		t.Fatal(err)
	}
	sub, err := topic.Subscribe(context.Background(), "g", braid.SubscribeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for done := 0; done < 10; {
		recs, err := sub.Poll(context.Background(), 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range recs {
			if done++; string(r.Value) == "2" {
				if err := sub.Commit(context.Background(), r); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	return dir
}

func TestGroupsAreListedMovedAndDeleted(t *testing.T) {
	dir := withGroup(t)
	got := decode[[]groupInfo](t, must(t, dir, "", "groups", "--json"))
	if len(got) != 1 || got[0].Group != "g" || got[0].Records != 6 || len(got[0].Partitions) != 2 || got[0].Lag <= 0 {
		t.Errorf("groups: %+v", got)
	}
	if out := must(t, dir, "", "groups"); !strings.Contains(out, "6 records") {
		t.Errorf("groups: %s", out)
	}
	if out := must(t, dir, "", "lag", "t", "g"); strings.Count(out, "\n") != 3 || !strings.Contains(out, "COMMITTED") {
		t.Errorf("lag: %s", out)
	}
	committed := func() map[braid.PartitionID]int64 {
		out := map[braid.PartitionID]int64{}
		for _, p := range decode[[]groupInfo](t, must(t, dir, "", "lag", "--json"))[0].Partitions {
			out[p.ID] = p.Committed
		}
		return out
	}
	before := committed()
	if out := must(t, dir, "", "groups", "reset", "t", "g", "--to-earliest"); !strings.Contains(out, "-2") || !strings.Contains(out, "--execute") {
		t.Errorf("dry run: %s", out)
	}
	if diff := cmp.Diff(before, committed()); diff != "" {
		t.Errorf("a dry run moves: %s", diff)
	}
	file := filepath.Join(t.TempDir(), "g.json")
	if err := os.WriteFile(file, []byte(must(t, dir, "", "groups", "export", "t", "g")), 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, dir, "", "groups", "reset", "t", "g", "--by=1", "--partition", "1", "--execute")
	must(t, dir, "", "groups", "reset", "t", "g", "--to-latest", "--partition", "2", "--execute")
	if after := committed(); after[1] != before[1]+1 || after[2] != 4 && after[2] != 6 {
		t.Errorf("before %v, after %v", before, after)
	}
	must(t, dir, "", "groups", "import", "t", "g", file, "--execute")
	if diff := cmp.Diff(before, committed()); diff != "" {
		t.Errorf("imported: %s", diff)
	}
	for _, args := range [][]string{
		{"groups", "reset", "t", "g", "--to-offset", "3"},
		{"groups", "delete", "t", "g"},
		{"groups", "delete", "t", "other", "--yes"},
		{"lag", "t", "other"},
		{"groups", "reset", "t", "g", "--to-earliest", "--partition", "9"},
	} {
		if r := braidIn(t, dir, "", args...); r.code != exitError || r.stderr == "" {
			t.Errorf("%q: exit code %d, %q", args, r.code, r.stderr)
		}
	}
	must(t, dir, "", "groups", "delete", "t", "g", "--yes")
	if out := must(t, dir, "", "groups"); out != "no groups\n" {
		t.Errorf("after deleting: %q", out)
	}
}

// While another broker writes, what it stores in each partition is measured.
func TestPartitionsShowRatesBesideAWriter(t *testing.T) {
	dir := t.TempDir()
	b, err := braid.Open(dir, braid.Options{})
	if err != nil {
		t.Fatal(err)
	}
	topic, err := b.CreateTopic(t.Context(), "t", braid.TopicConfig{})
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if err := topic.Publish(context.Background(), &braid.Record{Value: []byte("x")}); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	nodes := decode[[]partitionNode](t, must(t, dir, "", "partitions", "t", "--json", "--over", "100ms"))
	if nodes[0].Rate == nil || *nodes[0].Rate <= 0 {
		t.Errorf("%v records a second", nodes[0].Rate)
	}
	if nodes = decode[[]partitionNode](t, must(t, dir, "", "partitions", "t", "--json", "--over", "0")); nodes[0].Rate != nil {
		t.Errorf("%v records a second, without measuring", *nodes[0].Rate)
	}
	close(stop)
	writer.Wait()
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

func TestPartitionsAreSplitMergedAndDrawn(t *testing.T) {
	dir := t.TempDir()
	must(t, dir, seq(1, 10), "pub", "t")
	if out := must(t, dir, "", "split", "t", "1"); out != "split 1 into 2 and 3\n" {
		t.Errorf("split says %q", out)
	}
	must(t, dir, "", "split", "t", "3")
	if out := must(t, dir, "", "merge", "t", "2", "4"); out != "merged 2 and 4 into 6\n" {
		t.Errorf("merge says %q", out)
	}
	must(t, dir, seq(11, 20), "pub", "t")
	out := must(t, dir, "", "partitions", "t", "--tree")
	var shape []string
	for _, line := range strings.Split(strings.TrimSpace(out), "\n")[1:] {
		shape = append(shape, strings.Join(strings.Fields(line)[:2], " "))
	}
	if len(shape) != 6 || !strings.HasPrefix(shape[0], "1 sealed") || !strings.Contains(out, "2, 4") || !strings.Contains(out, "└─ 6") {
		t.Errorf("tree:\n%s", out)
	}
	nodes := decode[[]partitionNode](t, must(t, dir, "", "partitions", "t", "--json"))
	share := 0.0
	for _, n := range nodes {
		if n.State == "active" {
			share += n.Share
		}
	}
	for _, n := range nodes {
		if made := n.ID > 1; (n.Why == "by hand") != made || (n.Made != nil) != made || n.Rate != nil {
			t.Errorf("partition %d was made at %v: %q; %v records a second", n.ID, n.Made, n.Why, n.Rate)
		}
	}
	if len(nodes) != 6 || share != 1 {
		t.Errorf("%d partitions, the active ones have %v of the space", len(nodes), share)
	}
	if out := must(t, dir, "", "tail", "t", "--from", "earliest"); strings.Count(out, "\n") != 20 {
		t.Errorf("tail: %s", out)
	}
	if r := braidIn(t, dir, "", "split", "t", "1"); r.code != exitError || !strings.Contains(r.stderr, "active") {
		t.Errorf("splitting what is sealed: %d, %s", r.code, r.stderr)
	}
}
