package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// writeTable writes a report for people.
func writeTable(w io.Writer, rep *report) error {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.Style().Options.SeparateRows = true
	t.Style().Format.Header = text.FormatDefault
	header := table.Row{"workload"}
	for _, s := range rep.Systems {
		header = append(header, s.Name)
	}
	header = append(header, "limit", "best peer", "of limit", "goal")
	t.AppendHeader(header)
	columns := []table.ColumnConfig{{Number: 1, WidthMax: 26, WidthMaxEnforcer: text.WrapSoft}}
	for i := 2; i < len(header); i++ {
		columns = append(columns, table.ColumnConfig{Number: i, Align: text.AlignRight})
	}
	t.SetColumnConfigs(columns)
	for _, r := range rep.Rows {
		t.AppendRow(tableRow(r))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", t.Render())
	writeNotes(&b, rep)
	_, err := io.WriteString(w, b.String())
	return err
}

func tableRow(r *row) table.Row {
	cells := table.Row{r.ID + ": " + r.Title}
	for _, f := range append([]*figure{r.Braid}, r.Peers...) {
		cells = append(cells, cell(r.Unit, f, "\n"))
	}
	limits, ofLimit := "", ""
	for _, f := range r.Limits {
		if limits != "" {
			limits += "\n"
		}
		limits += f.Name + "\n" + cell(r.Unit, f, " ")
	}
	if r.OfLimit > 0 {
		ofLimit = percent(r.OfLimit)
	}
	over := ""
	if r.OverBestPeer > 0 {
		over = fmt.Sprintf("%s x\n%s", significant(r.OverBestPeer), r.BestPeer)
	}
	return append(cells, limits, over, ofLimit, r.goals("\n"))
}

// writeMarkdown writes a report for a page.
func writeMarkdown(w io.Writer, rep *report) error {
	t := table.NewWriter()
	t.AppendHeader(table.Row{"", "Braid", "best peer", "", "limit", "", "goal"})
	t.SetColumnConfigs([]table.ColumnConfig{{Number: 4, Align: text.AlignRight}, {Number: 6, Align: text.AlignRight}})
	for _, r := range rep.Rows {
		peer, over, limit, ofLimit := "", "", "", ""
		if best := r.bestPeer(); best != nil {
			peer, over = best.Name+" "+cell(r.Unit, best, " "), significant(r.OverBestPeer)+" x"
		}
		if len(r.Limits) > 0 {
			limit, ofLimit = r.Limits[0].Name+" "+cell(r.Unit, r.Limits[0], " "), percent(r.OfLimit)
		}
		t.AppendRow(table.Row{"**" + r.ID + "** " + r.Title, cell(r.Unit, r.Braid, " "), peer, over, limit, ofLimit, r.goals("<br>")})
	}
	_, err := fmt.Fprintf(w, "%s\n\n%s.\n", t.RenderMarkdown(), rep.machine())
	return err
}

// goals tells which goals are met.
func (r *row) goals(between string) string {
	var goals []string
	for _, g := range r.Goals {
		mark := "✗"
		if g.Met {
			mark = "✓"
		}
		goals = append(goals, mark+" "+g.Goal)
	}
	return strings.Join(goals, between)
}

// cell shows the median and, where there were several rounds, the spread.
func cell(u unit, f *figure, between string) string {
	switch {
	case f.Failed:
		return "failed"
	case len(f.Rounds) == 0:
		return "-"
	case len(f.Rounds) == 1:
		return u.format(f.Median)
	}
	return u.format(f.Median) + between + "± " + percent(f.Spread)
}

func writeNotes(b *strings.Builder, rep *report) {
	fmt.Fprintf(b, "%s\n", rep.machine())
	fmt.Fprintf(b, "%d rounds, interleaved: medians, ± half of the distance from the slowest round to the fastest.\n", rep.Rounds)
	fmt.Fprintf(b, "Records of %d bytes of key and %d of value; bulk: %d records a batch, up to %d batches not acknowledged. The page cache is warm.\n",
		rep.Record.Key, rep.Record.Value, batchRecords, window)
	fmt.Fprintf(b, "Nothing is compressed. W5 waits for its times by asking for them, which takes one processor.\n")
	fmt.Fprintf(b, "\"best peer\" and \"of limit\": Braid beside the best peer and the first limit; more is better. \"-\": it cannot do this, or does nothing that compares.\n\n")
	for _, s := range rep.Systems {
		name := s.Name
		if s.Version != "" {
			name += " " + s.Version
		}
		fmt.Fprintf(b, "%-16s %s\n", name, s.About)
	}
	for _, failure := range rep.failures() {
		fmt.Fprintf(b, "\nfailed: %s\n", failure)
	}
}

// machine describes where the run was.
func (rep *report) machine() string {
	s := fmt.Sprintf("%s, %s/%s, %d processors", rep.Go, rep.OS, rep.Arch, rep.CPUs)
	if rep.CPU != "" {
		s += " (" + rep.CPU + ")"
	}
	if rep.Disk != "" {
		s += ", " + rep.Disk
	}
	if rep.Took != "" {
		s += "; took " + rep.Took
	}
	return s
}

// format shows a figure with its unit, in at most three digits.
func (u unit) format(v float64) string {
	switch {
	case u.rate() && v >= 1e6:
		return significant(v/1e6) + " M/s"
	case u.rate() && v >= 1e3:
		return significant(v/1e3) + " k/s"
	case u.rate():
		return significant(v) + " /s"
	case u == microseconds && v >= 1e6:
		return significant(v/1e6) + " s"
	case u == microseconds && v >= 1e3:
		return significant(v/1e3) + " ms"
	}
	return significant(v) + " " + string(u)
}

// significant shows a number with at least two significant digits, and no more than two behind the point.
func significant(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func percent(v float64) string { return fmt.Sprintf("%.0f %%", 100*v) }
