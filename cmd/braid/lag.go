package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

type lagCmd struct {
	Topic    string        `arg:"" optional:"" help:"Only this topic's groups."`
	Group    string        `arg:"" optional:"" help:"Only this group."`
	Watch    bool          `short:"w" help:"Go on showing it, until interrupted."`
	Interval time.Duration `help:"How often, with --watch." default:"1s"`
	JSON     bool          `name:"json" help:"Print JSON, with --watch an object a line."`
}

// Help shows examples.
func (lagCmd) Help() string {
	return `Examples:
  braid lag
  braid lag orders billing --watch

Works while another process has the directory open; what that one has committed in the last moment may not be seen yet.`
}

// Run shows how far groups are behind.
func (c *lagCmd) Run(e *env) error {
	if c.Watch && c.Interval < 10*time.Millisecond {
		return fmt.Errorf("--interval %v is too short", c.Interval)
	}
	for {
		groups, err := e.groups(c.Topic, c.Group)
		if err != nil {
			return err
		}
		if err := c.show(e, groups); err != nil || !c.Watch {
			return err
		}
		if err := e.stdout.Flush(); err != nil {
			return err
		}
		select {
		case <-e.ctx.Done():
			return nil // what was asked for has been done
		case <-time.After(c.Interval):
		}
	}
}

func (c *lagCmd) show(e *env, groups []groupInfo) error {
	if c.JSON {
		return printJSON(e.stdout, groups)
	}
	if c.Watch && term.IsTerminal(int(os.Stdout.Fd())) {
		fmt.Fprint(e.stdout, "\x1b[H\x1b[2J")
	}
	if c.Watch {
		fmt.Fprintln(e.stdout, time.Now().Format(time.TimeOnly))
	}
	return table(e.stdout, func(w io.Writer) {
		fmt.Fprintln(w, "TOPIC\tGROUP\tPARTITION\tCOMMITTED\tEND\tBEHIND\tFOR")
		for _, g := range groups {
			for _, p := range g.Partitions {
				fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\t%s\n", g.Topic, g.Group, p.ID, thousands(p.Committed), thousands(p.End), thousands(p.Records), seconds(p.Lag))
			}
		}
	})
}
