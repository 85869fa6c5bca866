package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/braid-go/braid"
)

type groupsCmd struct {
	List   groupsListCmd   `cmd:"" default:"withargs" help:"List the groups and how far they are behind."`
	Reset  groupsResetCmd  `cmd:"" help:"Move a group's positions."`
	Delete groupsDeleteCmd `cmd:"" help:"Forget a group."`
	Export groupsExportCmd `cmd:"" help:"Print a group's positions as JSON."`
	Import groupsImportCmd `cmd:"" help:"Move a group to exported positions."`
}

// Help shows examples.
func (groupsCmd) Help() string {
	return `Examples:
  braid groups
  braid groups orders
  braid groups reset orders billing --to-earliest
  braid groups reset orders billing --by=-100 --execute
  braid groups export orders billing > billing.json
  braid groups import orders billing billing.json --execute
  braid groups delete orders billing --yes`
}

type groupsListCmd struct {
	Topic string `arg:"" optional:"" help:"Only this topic's."`
	JSON  bool   `name:"json" help:"Print JSON."`
}

// Help shows examples.
func (groupsListCmd) Help() string { return groupsCmd{}.Help() }

// groupInfo is a group as groups --json and lag --json print it.
type groupInfo struct {
	Topic      string     `json:"topic"`
	Group      string     `json:"group"`
	Records    int64      `json:"lag_records"`
	Lag        float64    `json:"lag_seconds"`
	Partitions []groupLag `json:"partitions"`
}

type groupLag struct {
	ID        braid.PartitionID `json:"id"`
	Committed int64             `json:"committed"`
	End       int64             `json:"end"`
	Records   int64             `json:"lag_records"`
	Lag       float64           `json:"lag_seconds"`
}

// groups describes the groups of one topic, or of all, or only one group of them.
func (e *env) groups(topic, only string) (out []groupInfo, err error) {
	b, err := e.openReadOnly()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	topics := b.Topics()
	if topic != "" {
		t, err := b.Topic(topic)
		if err != nil {
			return nil, err
		}
		topics = []*braid.Topic{t}
	}
	out = []groupInfo{}
	for _, t := range topics {
		names, err := t.Groups(e.ctx)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if only != "" && name != only {
				continue
			}
			info, err := describeGroup(e, t, name)
			if err != nil {
				return nil, err
			}
			out = append(out, info)
		}
	}
	if only != "" && len(out) == 0 {
		return nil, fmt.Errorf("there is no group %s in %s", only, topic)
	}
	return out, nil
}

func describeGroup(e *env, t *braid.Topic, name string) (groupInfo, error) {
	g, err := t.Group(name)
	if err != nil {
		return groupInfo{}, err
	}
	d, err := g.Describe(e.ctx)
	if err != nil {
		return groupInfo{}, err
	}
	info := groupInfo{Topic: t.Name(), Group: name, Records: d.Records, Lag: d.Time.Seconds()}
	for _, p := range d.Partitions {
		info.Partitions = append(info.Partitions, groupLag{p.Partition, p.Committed, p.End, p.Records, p.Time.Seconds()})
	}
	return info, nil
}

// Run lists the groups.
func (c *groupsListCmd) Run(e *env) error {
	groups, err := e.groups(c.Topic, "")
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(e.stdout, groups)
	}
	if len(groups) == 0 {
		_, err := fmt.Fprintln(e.stdout, "no groups")
		return err
	}
	return table(e.stdout, func(w io.Writer) {
		fmt.Fprintln(w, "TOPIC\tGROUP\tPARTITIONS\tBEHIND\tFOR")
		for _, g := range groups {
			fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\n", g.Topic, g.Group, len(g.Partitions), count(g.Records, "record"), seconds(g.Lag))
		}
	})
}

// seconds tells how long something lags.
func seconds(s float64) string {
	if s == 0 {
		return "-"
	}
	return short(time.Duration(s * float64(time.Second)))
}

type groupsResetCmd struct {
	Topic string `arg:"" help:"Topic."`
	Group string `arg:"" help:"Group."`

	ToEarliest bool       `xor:"to" required:"" help:"To the oldest record kept."`
	ToLatest   bool       `xor:"to" required:"" help:"Behind the last record."`
	ToOffset   *int64     `xor:"to" required:"" help:"To an offset, in the partitions named." placeholder:"N"`
	ToTime     *time.Time `xor:"to" required:"" help:"To the first record from then on (RFC 3339)." placeholder:"TIME"`
	By         *int64     `xor:"to" required:"" help:"By so many records, back with a minus: --by=-100." placeholder:"N"`

	Partition []uint64 `help:"Only these partitions." placeholder:"ID"`
	Execute   bool     `help:"Do it. Without, the plan is shown and nothing happens."`
}

// Help shows examples.
func (groupsResetCmd) Help() string {
	return `Examples:
  braid groups reset orders billing --to-earliest
  braid groups reset orders billing --to-time 2026-01-31T08:00:00Z --execute
  braid groups reset orders billing --to-offset 1200 --partition 3 --execute

No process may have the directory open for writing meanwhile.`
}

// Run plans a reset, and carries it out if it is to.
func (c *groupsResetCmd) Run(e *env) error {
	ids := partitionIDs(c.Partition)
	return e.reset(c.Topic, c.Group, c.Execute, func(t *braid.Topic, g *braid.Group) (*braid.ResetPlan, error) {
		switch {
		case c.By != nil:
			return g.PlanShift(e.ctx, *c.By, ids...)
		case c.ToLatest:
			return g.PlanReset(e.ctx, braid.FromLatest(), ids...)
		case c.ToTime != nil:
			return g.PlanReset(e.ctx, braid.FromTime(*c.ToTime), ids...)
		case c.ToOffset != nil:
			if len(ids) == 0 {
				return nil, errors.New("--to-offset needs --partition: offsets are a partition's own")
			}
			offsets := map[braid.PartitionID]int64{}
			for _, id := range ids {
				offsets[id] = *c.ToOffset
			}
			return g.PlanReset(e.ctx, braid.FromOffsets(offsets))
		}
		return g.PlanReset(e.ctx, braid.FromEarliest(), ids...)
	})
}

func partitionIDs(raw []uint64) []braid.PartitionID {
	ids := make([]braid.PartitionID, len(raw))
	for i, id := range raw {
		ids[i] = braid.PartitionID(id)
	}
	return ids
}

// reset shows a plan, and carries it out with execute.
func (e *env) reset(topic, name string, execute bool, plan func(*braid.Topic, *braid.Group) (*braid.ResetPlan, error)) (err error) {
	open := e.openReadOnly
	if execute {
		open = func() (*braid.Broker, error) { return e.openWritable(braid.Options{}) }
	}
	b, err := open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	t, err := b.Topic(topic)
	if err != nil {
		return err
	}
	g, err := t.Group(name)
	if err != nil {
		return err
	}
	p, err := plan(t, g)
	if err != nil {
		return err
	}
	if execute {
		if err := p.Apply(e.ctx); err != nil {
			return err
		}
	}
	err = table(e.stdout, func(w io.Writer) {
		fmt.Fprintln(w, "PARTITION\tFROM\tTO\tMOVES\t")
		for _, m := range p.Moves() {
			from, by, note := "none", "-", ""
			if m.From >= 0 {
				from, by = thousands(m.From), fmt.Sprintf("%+d", m.To-m.From)
			}
			if m.Clamped {
				note = "the nearest that there is"
			}
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\n", m.Partition, from, thousands(m.To), by, note)
		}
	})
	if err == nil && !execute {
		_, err = fmt.Fprintln(e.stdout, "nothing has been changed; --execute does it")
	}
	return err
}

type groupsDeleteCmd struct {
	Topic string `arg:"" help:"Topic."`
	Group string `arg:"" help:"Group."`
	Yes   bool   `help:"Really forget it."`
}

// Run forgets a group, or says what would be forgotten.
func (c *groupsDeleteCmd) Run(e *env) (err error) {
	b, err := e.openWritable(braid.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	t, err := b.Topic(c.Topic)
	if err != nil {
		return err
	}
	info, err := describeGroup(e, t, c.Group)
	if err != nil {
		return err
	}
	switch {
	case len(info.Partitions) == 0:
		return fmt.Errorf("there is no group %s in %s", c.Group, c.Topic)
	case !c.Yes:
		return fmt.Errorf("this would forget how far %s is in %s of %s; say --yes to do it", c.Group, count(len(info.Partitions), "partition"), c.Topic)
	}
	g, err := t.Group(c.Group)
	if err != nil {
		return err
	}
	if err := g.Delete(e.ctx); err != nil {
		return err
	}
	_, err = fmt.Fprintf(e.stdout, "deleted group %s of %s\n", c.Group, c.Topic)
	return err
}

type groupsExportCmd struct {
	Topic string `arg:"" help:"Topic."`
	Group string `arg:"" help:"Group."`
}

// Run prints a group's positions.
func (c *groupsExportCmd) Run(e *env) (err error) {
	b, err := e.openReadOnly()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	t, err := b.Topic(c.Topic)
	if err != nil {
		return err
	}
	g, err := t.Group(c.Group)
	if err != nil {
		return err
	}
	positions, err := g.Export(e.ctx)
	if err != nil {
		return err
	}
	return printJSON(e.stdout, positions)
}

type groupsImportCmd struct {
	Topic   string `arg:"" help:"Topic."`
	Group   string `arg:"" help:"Group; it need not exist."`
	File    string `arg:"" type:"existingfile" help:"What export has printed."`
	Execute bool   `help:"Do it. Without, the plan is shown and nothing happens."`
}

// maxImport is more than the positions of 10,000 partitions take.
const maxImport = 4 << 20

// Run plans an import, and carries it out if it is to.
func (c *groupsImportCmd) Run(e *env) error {
	f, err := os.Open(c.File)
	if err != nil {
		return err
	}
	defer f.Close()
	var positions braid.Positions
	if err := json.NewDecoder(io.LimitReader(f, maxImport)).Decode(&positions); err != nil {
		return fmt.Errorf("%s: %w", c.File, err)
	}
	return e.reset(c.Topic, c.Group, c.Execute, func(_ *braid.Topic, g *braid.Group) (*braid.ResetPlan, error) {
		return g.PlanImport(e.ctx, &positions)
	})
}
