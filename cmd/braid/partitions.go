package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/braid-go/braid"
)

type splitCmd struct {
	Topic     string `arg:"" help:"Topic."`
	Partition uint64 `arg:"" help:"Partition to divide."`
}

// Run splits a partition.
func (c *splitCmd) Run(e *env) error {
	return e.relayout(c.Topic, func(t *braid.Topic) error {
		ids, err := t.Split(e.ctx, braid.PartitionID(c.Partition))
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(e.stdout, "split %d into %d and %d\n", c.Partition, ids[0], ids[1])
		return err
	})
}

type mergeCmd struct {
	Topic string `arg:"" help:"Topic."`
	A     uint64 `arg:"" help:"Partition."`
	B     uint64 `arg:"" help:"Its neighbour."`
}

// Run merges two partitions.
func (c *mergeCmd) Run(e *env) error {
	return e.relayout(c.Topic, func(t *braid.Topic) error {
		id, err := t.Merge(e.ctx, braid.PartitionID(c.A), braid.PartitionID(c.B))
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(e.stdout, "merged %d and %d into %d\n", c.A, c.B, id)
		return err
	})
}

func (e *env) relayout(topic string, change func(*braid.Topic) error) (err error) {
	b, err := e.openWritable(braid.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	t, err := b.Topic(topic)
	if err != nil {
		return err
	}
	return change(t)
}

type partitionsCmd struct {
	Topic string `arg:"" help:"Topic."`
	Tree  bool   `help:"Show which partitions continue which."`
	JSON  bool   `name:"json" help:"Print JSON."`
}

// Help shows examples.
func (partitionsCmd) Help() string {
	return `Examples:
  braid partitions orders
  braid partitions orders --tree`
}

// partitionNode is a partition as partitions --json prints it.
type partitionNode struct {
	ID      braid.PartitionID   `json:"id"`
	Parents []braid.PartitionID `json:"parents,omitempty"`
	RangeLo string              `json:"range_lo"`
	RangeHi string              `json:"range_hi"`
	Share   float64             `json:"share"` // of the space of key hashes
	State   string              `json:"state"` // "active" or "sealed"
	Start   int64               `json:"start"`
	End     int64               `json:"end"`
	Bytes   int64               `json:"bytes"`
}

// Run shows a topic's partitions.
func (c *partitionsCmd) Run(e *env) (err error) {
	b, err := e.openReadOnly()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	t, err := b.Topic(c.Topic)
	if err != nil {
		return err
	}
	var nodes []partitionNode
	for _, p := range t.Partitions() {
		n := partitionNode{ID: p.ID, Parents: p.Parents, RangeLo: fmt.Sprintf("%016x", p.KeyRange.Lo), RangeHi: fmt.Sprintf("%016x", p.KeyRange.Hi),
			Share: (float64(p.KeyRange.Hi-p.KeyRange.Lo) + 1) / (1 << 64), State: "active", Start: p.Start, End: p.End, Bytes: p.Bytes}
		if p.Sealed {
			n.State = "sealed"
		}
		nodes = append(nodes, n)
	}
	if c.JSON {
		return printJSON(e.stdout, nodes)
	}
	return table(e.stdout, func(w io.Writer) {
		fmt.Fprintln(w, "PARTITION\tSTATE\tKEY HASHES\tSHARE\tRECORDS\tSIZE\tCONTINUES")
		line := func(n partitionNode, indent string) {
			fmt.Fprintf(w, "%s%d\t%s\t%s..%s\t%.1f %%\t%s\t%s\t%s\n", indent, n.ID, n.State, n.RangeLo[:8], n.RangeHi[:8], 100*n.Share,
				thousands(n.End-n.Start), bytesOf(n.Bytes), joined(n.Parents))
		}
		if !c.Tree {
			for _, n := range nodes {
				line(n, "")
			}
			return
		}
		drawTree(nodes, line)
	})
}

func joined(ids []braid.PartitionID) string {
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = fmt.Sprint(id)
	}
	return strings.Join(texts, ", ")
}

// drawTree draws each partition under the first of those that it continues; one that nothing there precedes is a root.
func drawTree(nodes []partitionNode, line func(n partitionNode, indent string)) {
	under := map[braid.PartitionID][]partitionNode{}
	for _, n := range nodes {
		at := braid.PartitionID(0)
		for _, p := range n.Parents {
			if at == 0 && slices.ContainsFunc(nodes, func(o partitionNode) bool { return o.ID == p }) {
				at = p
			}
		}
		under[at] = append(under[at], n)
	}
	var draw func(at braid.PartitionID, indent string)
	draw = func(at braid.PartitionID, indent string) {
		for i, n := range under[at] {
			branch, trunk := "├─ ", "│  "
			if i == len(under[at])-1 {
				branch, trunk = "└─ ", "   "
			}
			if at == 0 {
				branch, trunk = "", ""
			}
			line(n, indent+branch)
			draw(n.ID, indent+trunk)
		}
	}
	draw(0, "")
}
