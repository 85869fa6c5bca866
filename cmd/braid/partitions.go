package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

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
	Tree  bool   `help:"Show which partitions continue which, and why they were made."`
	JSON  bool   `name:"json" help:"Print JSON."`

	Over time.Duration `help:"While another process writes: measure the rates over so long; 0 = not at all." default:"1s"`
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
	Rate    *float64            `json:"records_per_second,omitempty"` // null if nobody writes, or it was not measured
	Made    *time.Time          `json:"made,omitempty"`
	Why     string              `json:"why,omitempty"`
}

// nodes describes a topic's partitions.
func nodes(parts []braid.PartitionInfo) []partitionNode {
	nodes := make([]partitionNode, len(parts))
	for i, p := range parts {
		nodes[i] = partitionNode{ID: p.ID, Parents: p.Parents, RangeLo: fmt.Sprintf("%016x", p.KeyRange.Lo), RangeHi: fmt.Sprintf("%016x", p.KeyRange.Hi),
			Share: (float64(p.KeyRange.Hi-p.KeyRange.Lo) + 1) / (1 << 64), State: "active", Start: p.Start, End: p.End, Bytes: p.Bytes, Why: p.Why}
		if p.Sealed {
			nodes[i].State = "sealed"
		}
		if !p.Made.IsZero() {
			nodes[i].Made = &p.Made
		}
	}
	return nodes
}

// rates measures how much a writer in another process stores in each partition, by looking at the directory again.
func (c *partitionsCmd) rates(e *env, nodes []partitionNode) (err error) {
	if c.Over < 0 {
		return errors.New("--over must not be negative")
	}
	begin := time.Now()
	select {
	case <-e.ctx.Done():
		return e.ctx.Err()
	case <-time.After(c.Over):
	}
	b, err := e.openReadOnly()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	t, err := b.Topic(c.Topic)
	if err != nil {
		return err
	}
	seconds := time.Since(begin).Seconds()
	for _, p := range t.Partitions() {
		i := slices.IndexFunc(nodes, func(n partitionNode) bool { return n.ID == p.ID && n.State == "active" })
		if i >= 0 {
			rate := float64(p.End-nodes[i].End) / seconds
			nodes[i].Rate = &rate
		}
	}
	return nil
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
	nodes := nodes(t.Partitions())
	if b.OpenReport().WriterLive && c.Over != 0 {
		if err := c.rates(e, nodes); err != nil {
			return err
		}
	}
	if c.JSON {
		return printJSON(e.stdout, nodes)
	}
	return printPartitions(e.stdout, nodes, c.Tree)
}

// printPartitions prints partitions as a table: by id, or each under the first of those that it continues.
func printPartitions(to io.Writer, nodes []partitionNode, tree bool) error {
	return table(to, func(w io.Writer) {
		fmt.Fprintln(w, "PARTITION\tSTATE\tKEY HASHES\tSHARE\tRECORDS\tA SECOND\tSIZE\tCONTINUES\tWHY")
		line := func(n partitionNode, indent string) {
			rate := "-"
			if n.Rate != nil {
				rate = thousands(int64(*n.Rate))
			}
			fmt.Fprintf(w, "%s%d\t%s\t%s..%s\t%.1f %%\t%s\t%s\t%s\t%s\t%s\n", indent, n.ID, n.State, n.RangeLo[:8], n.RangeHi[:8], 100*n.Share,
				thousands(n.End-n.Start), rate, bytesOf(n.Bytes), joined(n.Parents), n.why())
		}
		if !tree {
			for _, n := range nodes {
				line(n, "")
			}
			return
		}
		drawTree(nodes, line)
	})
}

// why says when and why a partition was made of others.
func (n partitionNode) why() string {
	if n.Made == nil {
		return ""
	}
	return n.Made.Local().Format("15:04:05 ") + n.Why
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
