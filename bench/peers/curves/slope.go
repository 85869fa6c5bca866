package main

import (
	"fmt"
	"math"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// tolerance is how much a line may rise beyond what it should: a cost that becomes 1.8 times as much in a decade has a slope of 0.25.
const tolerance = 0.25

// slope fits a straight line through the logarithms of the points from the middle decade on, where constant costs no longer hide what grows, and returns
// by how many decades the cost rises in one.
func (l *line) slope() float64 {
	if len(l.Points) < 2 {
		return 0
	}
	from := math.Sqrt(l.Points[0].X * l.Points[len(l.Points)-1].X)
	var n, sx, sy, sxx, sxy float64
	for i, p := range l.Points {
		if p.X < from && i < len(l.Points)-2 { // two points at least
			continue
		}
		x, y := math.Log10(p.X), math.Log10(p.NS)
		n, sx, sy, sxx, sxy = n+1, sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	return (n*sxy - sx*sy) / (n*sxx - sx*sx)
}

// superlinear tells whether the cost rises by more than it should.
func (l *line) superlinear() bool { return l.slope() > l.Most+tolerance }

// table has the costs and the slopes for people.
func (f *figures) table() table.Writer {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	t.AppendHeader(table.Row{"what grows", "from", "to", "one operation", "at first", "at last", "slope", "at most", ""})
	t.SetColumnConfigs([]table.ColumnConfig{{Number: 5, Align: text.AlignRight}, {Number: 6, Align: text.AlignRight}})
	for _, p := range panels {
		for _, l := range f.Lines {
			if l.Panel != p.Name || len(l.Points) == 0 {
				continue
			}
			verdict := "✓"
			if l.superlinear() {
				verdict = "✗ superlinear"
			}
			first, last := l.Points[0], l.Points[len(l.Points)-1]
			t.AppendRow(table.Row{p.Title, p.count(first.X), p.count(last.X), l.Name, duration(first.NS), duration(last.NS),
				fmt.Sprintf("%.2f", l.slope()), fmt.Sprintf("%.1f", l.Most), verdict})
		}
	}
	return t
}

// duration shows nanoseconds in three digits.
func duration(ns float64) string {
	switch {
	case ns < 1000:
		return fmt.Sprintf("%.3g ns", ns)
	case ns < 1e6:
		return fmt.Sprintf("%.3g µs", ns/1e3)
	case ns < 1e9:
		return fmt.Sprintf("%.3g ms", ns/1e6)
	}
	return fmt.Sprintf("%.3g s", ns/float64(time.Second))
}

// count shows how much there is.
func (p panel) count(x float64) string {
	if p.Bytes {
		for _, u := range []struct {
			name string
			size float64
		}{{"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}} {
			if x >= u.size {
				return fmt.Sprintf("%.3g %s", x/u.size, u.name)
			}
		}
		return fmt.Sprintf("%.3g B", x)
	}
	switch {
	case x >= 1e6:
		return fmt.Sprintf("%.3g M", x/1e6)
	case x >= 1e4:
		return fmt.Sprintf("%.3g k", x/1e3)
	}
	return fmt.Sprintf("%.4g", x)
}
