package main

import (
	"bytes"
	"io"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// costs makes a line whose cost at x is f(x).
func costs(most float64, f func(x float64) float64) *line {
	l := &line{Most: most}
	for x := 1.0; x <= 10_000; x *= 10 {
		l.Points = append(l.Points, point{x, f(x)})
	}
	return l
}

func TestASlopeIsThePowerWithWhichTheCostGrowsOnceItGrows(t *testing.T) {
	for _, tt := range []struct {
		name        string
		l           *line
		slope       float64
		superlinear bool
	}{
		{"constant", costs(0, func(float64) float64 { return 70 }), 0, false},
		{"logarithmic", costs(0, func(x float64) float64 { return 70 + 5*math.Log10(x) }), 0.03, false},
		{"linear", costs(0, func(x float64) float64 { return x }), 1, true},
		{"linear behind something constant", costs(0, func(x float64) float64 { return 1000 + 10*x }), 0.87, true},
		{"falls and then is constant", costs(0, func(x float64) float64 { return 5 + 1000/(x*x) }), 0, false},
		{"as the size of a record", costs(1, func(x float64) float64 { return 3000 + x }), 0.31, false},
		{"as the square of it", costs(1, func(x float64) float64 { return x * x }), 2, true},
		{"a single point", &line{Points: []point{{1, 1}}}, 0, false},
	} {
		if got := tt.l.slope(); math.Abs(got-tt.slope) > 0.1 || tt.l.superlinear() != tt.superlinear {
			t.Errorf("%s: slope %.2f, superlinear %v; want %.2f, %v", tt.name, got, tt.l.superlinear(), tt.slope, tt.superlinear)
		}
	}
}

func TestDurationsAndCountsAreShownInThreeDigits(t *testing.T) {
	for ns, want := range map[float64]string{0.5: "0.5 ns", 70: "70 ns", 1234: "1.23 µs", 5e6: "5 ms", 2.5e9: "2.5 s"} {
		if got := duration(ns); got != want {
			t.Errorf("%v ns: %q, want %q", ns, got, want)
		}
	}
	for x, want := range map[float64]string{1: "1", 1000: "1000", 10_000: "10 k", 1e6: "1 M"} {
		if got := (panel{}).count(x); got != want {
			t.Errorf("%v: %q, want %q", x, got, want)
		}
	}
	for x, want := range map[float64]string{10: "10 B", 1000: "1 kB", 1e7: "10 MB", 1e10: "10 GB"} {
		if got := (panel{Bytes: true}).count(x); got != want {
			t.Errorf("%v bytes: %q, want %q", x, got, want)
		}
	}
}

// A whole run, tiny: every panel has figures, and is drawn; figures that were kept are drawn as they were.
func TestEveryPanelIsMeasuredKeptAndDrawn(t *testing.T) {
	dir := t.TempDir()
	tmp, data := filepath.Join(dir, "tmp"), filepath.Join(dir, "data.json")
	if err := os.Mkdir(tmp, 0o700); err != nil {
		t.Fatal(err)
	}
	args := []string{"-dir", tmp, "-data", data, "-for", (3 * time.Millisecond).String(),
		"-partitions", "10", "-groups", "10", "-members", "10", "-keys", "10", "-records", "10", "-log", "10000000"}
	first, second := filepath.Join(dir, "first.svg"), filepath.Join(dir, "second.svg")
	if err := run(t.Context(), append(args, "-out", first), io.Discard); err != nil {
		t.Fatal(err)
	}
	fig := &figures{}
	if err := fig.load(data); err != nil {
		t.Fatal(err)
	}
	if n := drawn(fig); n != len(panels) {
		t.Errorf("%d panels have figures, want %d", n, len(panels))
	}
	for _, l := range fig.Lines {
		for _, p := range l.Points {
			if p.NS <= 0 {
				t.Errorf("%s, %s: %+v", l.Panel, l.Name, p)
			}
		}
		if len(l.Points) < 2 {
			t.Errorf("%s, %s: %d points", l.Panel, l.Name, len(l.Points))
		}
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := run(t.Context(), append(args, "-out", second, "-only", "none"), io.Discard); err != nil {
		t.Fatal(err)
	}
	a, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(second)
	if err != nil || !bytes.Equal(a, b) || !bytes.Contains(a, []byte("<svg")) {
		t.Errorf("drawn again it differs, or is no picture: %d and %d bytes, %v", len(a), len(b), err)
	}
}

func TestWhatCannotBeDrawnOrMeasuredIsRefused(t *testing.T) {
	for _, args := range [][]string{{"-only", "partition"}, {"now"}, {"-only", "none"}} {
		if err := run(t.Context(), append([]string{"-out", filepath.Join(t.TempDir(), "x.svg")}, args...), io.Discard); err == nil {
			t.Errorf("%v succeeded", args)
		}
	}
	fig := &figures{}
	fig.add("keys", "x", 0, 1, time.Second, 1)
	if err := drawFile(fig, "x.gif"); err == nil {
		t.Error("a GIF was drawn")
	}
}
