package main

import (
	"errors"
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

const (
	columns     = 2
	panelWidth  = 11 * vg.Centimeter
	panelHeight = 6.5 * vg.Centimeter
)

// colors can be told apart by everybody.
var colors = []color.Color{
	color.RGBA{0x00, 0x72, 0xb2, 0xff}, color.RGBA{0xd5, 0x5e, 0x00, 0xff}, color.RGBA{0x00, 0x9e, 0x73, 0xff}, color.RGBA{0xcc, 0x79, 0xa7, 0xff},
}

// drawPicture draws all panels that have figures, one beside the other.
func drawPicture(f *figures, to draw.Canvas) error {
	var plots [][]*plot.Plot
	n := 0
	for _, p := range panels {
		pl, err := p.plot(f)
		if err != nil {
			return err
		}
		if pl == nil {
			continue
		}
		if n%columns == 0 {
			plots = append(plots, make([]*plot.Plot, columns))
		}
		plots[n/columns][n%columns] = pl
		n++
	}
	tiles := draw.Tiles{Rows: len(plots), Cols: columns, PadX: vg.Centimeter / 2, PadY: vg.Centimeter / 2}
	canvases := plot.Align(plots, tiles, to)
	for i, row := range plots {
		for j, pl := range row {
			if pl != nil {
				pl.Draw(canvases[i][j])
			}
		}
	}
	return nil
}

// drawn is the number of panels with figures.
func drawn(f *figures) (n int) {
	for _, p := range panels {
		for _, l := range f.Lines {
			if l.Panel == p.Name {
				n++
				break
			}
		}
	}
	return n
}

// drawFile writes the picture, in the format that its name ends with.
func drawFile(f *figures, name string) (err error) {
	rows := (drawn(f) + columns - 1) / columns
	if rows == 0 {
		return errors.New("there is nothing to draw")
	}
	w, h := columns*panelWidth, vg.Length(rows)*panelHeight
	var c vg.CanvasWriterTo
	switch ext := filepath.Ext(name); ext {
	case ".svg":
		c = vgsvg.New(w, h)
	case ".png":
		c = vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseWH(w, h), vgimg.UseDPI(150))}
	default:
		return fmt.Errorf("cannot draw a %q: .svg or .png", ext)
	}
	white := draw.New(c)
	white.FillPolygon(color.White, white.ClipPolygonXY([]vg.Point{{X: 0, Y: 0}, {X: w, Y: 0}, {X: w, Y: h}, {X: 0, Y: h}}))
	if err := drawPicture(f, draw.Crop(white, vg.Millimeter*2, -vg.Millimeter*5, vg.Millimeter, -vg.Millimeter*3)); err != nil {
		return err
	}
	out, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = c.WriteTo(out)
	return err
}

// plot draws a panel, nil if it has no figures.
func (p panel) plot(f *figures) (*plot.Plot, error) {
	pl := plot.New()
	pl.Title.Text = p.Title
	pl.Title.TextStyle.Font.Size = vg.Points(11)
	pl.Legend.TextStyle.Font.Size = vg.Points(8)
	pl.Legend.Top, pl.Legend.Left = true, true
	pl.Legend.Padding = vg.Points(1.5)
	pl.Legend.XOffs, pl.Legend.YOffs = vg.Millimeter*2, -vg.Millimeter
	pl.X.Scale, pl.Y.Scale = plot.LogScale{}, plot.LogScale{}
	pl.X.Tick.Marker = decades(p.count)
	pl.Y.Tick.Marker = decades(duration)
	pl.X.Padding, pl.Y.Padding = 0, 0
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = color.Gray{0xdd}, color.Gray{0xdd}
	pl.Add(grid)
	lo, hi, n := math.Inf(1), 0.0, 0
	for _, l := range f.Lines {
		if l.Panel != p.Name {
			continue
		}
		xys := make(plotter.XYs, len(l.Points))
		for i, pt := range l.Points {
			xys[i] = plotter.XY{X: pt.X, Y: pt.NS}
			lo, hi = min(lo, pt.NS), max(hi, pt.NS)
		}
		ln, pts, err := plotter.NewLinePoints(xys)
		if err != nil {
			return nil, err
		}
		ln.Color, pts.Color = colors[n%len(colors)], colors[n%len(colors)]
		ln.Width, pts.Radius, pts.Shape = vg.Points(1.4), vg.Points(2.2), draw.CircleGlyph{}
		pl.Add(ln, pts)
		pl.Legend.Add(fmt.Sprintf("%s: %+.2f", l.Name, l.slope()), ln, pts)
		n++
	}
	if n == 0 {
		return nil, nil
	}
	// Two decades at least, whole ones, and room for the legend on top.
	pl.Y.Min = math.Pow(10, math.Floor(math.Log10(lo)))
	top := math.Ceil(math.Log10(hi))
	if top-math.Log10(pl.Y.Min) < 2 {
		top++
	}
	const legendLine = 0.085 // of a panel's height
	bottom := math.Log10(pl.Y.Min)
	pl.Y.Max = math.Pow(10, bottom+(top-bottom)/(1-legendLine*float64(n)))
	return pl, nil
}

// decades marks the powers of ten, with what it shows for them.
type decades func(float64) string

func (show decades) Ticks(lo, hi float64) []plot.Tick {
	var ticks []plot.Tick
	for e := math.Floor(math.Log10(lo)); e <= math.Ceil(math.Log10(hi)); e++ {
		at := math.Pow(10, e)
		if at >= lo*0.999 && at <= hi*1.001 {
			ticks = append(ticks, plot.Tick{Value: at, Label: show(at)})
		}
	}
	return ticks
}
