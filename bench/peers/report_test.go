package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares got with a file in testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// sample is a report of three rounds with figures that are easy to check by hand.
func sample() *report {
	throughput := workload{
		ID:   "W1",
		Rows: []rowSpec{{"W1", "publish", recordsPerSecond, []goal{timesBestPeer(10), ofLimit(0.6)}}},
	}
	latency := workload{
		ID: "W5",
		Rows: []rowSpec{
			{"W5-p50", "median", microseconds, []goal{timesBestPeer(5)}},
			{"W5-p99", "99th percentile", microseconds, []goal{ofRow(0.5, "W5-p50"), atMost(100)}},
		},
	}
	contenders := func() []contender {
		return []contender{{Name: "Braid", Role: isBraid}, {Name: "nats", Role: isPeer}, {Name: "wal", Role: isPeer}, {Name: "write(2)", Role: isLimit}}
	}
	throughput.Contenders, latency.Contenders = contenders, contenders
	all := []workload{throughput, latency}
	rep := newReport(config{Workloads: all, Rounds: 3})
	rep.Go, rep.OS, rep.Arch, rep.CPUs = "go1.26", "linux", "amd64", 2
	rep.Systems = []systemInfo{{"Braid", "", "defaults"}, {"nats", "v2", "in process"}, {"wal", "v1", "batches"}}
	for _, f := range []struct {
		w, c   int
		rounds [][]float64
	}{
		{0, 0, [][]float64{{9e6}, {12e6}, {10e6}}}, // median 10 M
		{0, 1, [][]float64{{250e3}, {150e3}, {200e3}}},
		{0, 2, [][]float64{{1e6}, {800e3}, {900e3}}},
		{0, 3, [][]float64{{20e6}, {20e6}, {20e6}}},
		{1, 0, [][]float64{{20, 90}, {10, 80}, {30, 100}}},
		{1, 1, [][]float64{{100, 5000}, {140, 6000}, {120, 4000}}},
		{1, 3, [][]float64{{1, 9}, {1, 9}, {1, 9}}},
	} {
		for _, values := range f.rounds {
			rep.add(&all[f.w], contenders()[f.c], values, nil)
		}
	}
	rep.add(&all[1], contenders()[2], nil, errCannot)
	rep.finish(all)
	return rep
}

func TestRatiosAreOfMediansAndMoreIsBetter(t *testing.T) {
	rep := sample()
	for _, tt := range []struct {
		row            string
		median, spread float64
		bestPeer       string
		over, ofLimit  float64
		goals          []goalResult
	}{
		{"W1", 10e6, 0.15, "wal", 10e6 / 900e3, 0.5, []goalResult{{"10 x best peer", true}, {"60 % of limit", false}}},
		{"W5-p50", 20, 0.5, "nats", 6, 0.05, []goalResult{{"5 x best peer", true}}},
		{"W5-p99", 90, 1. / 9, "nats", 5000. / 90, 0.1, []goalResult{{"50 % of W5-p50", false}, {"at most 100", true}}},
	} {
		r := rep.row(tt.row)
		for _, f := range []struct {
			name      string
			got, want float64
		}{
			{"median", r.Braid.Median, tt.median}, {"spread", r.Braid.Spread, tt.spread},
			{"over the best peer", r.OverBestPeer, tt.over}, {"of the limit", r.OfLimit, tt.ofLimit},
		} {
			if math.Abs(f.got-f.want) > 1e-9*f.want {
				t.Errorf("%s: %s is %v, want %v", tt.row, f.name, f.got, f.want)
			}
		}
		if r.BestPeer != tt.bestPeer {
			t.Errorf("%s: the best peer is %q, want %q", tt.row, r.BestPeer, tt.bestPeer)
		}
		if diff := cmp.Diff(tt.goals, r.Goals); diff != "" {
			t.Errorf("%s: goals (-want +got):\n%s", tt.row, diff)
		}
	}
}

func TestTheJSONIsAsItWas(t *testing.T) {
	var b bytes.Buffer
	if err := write(&b, sample(), true); err != nil {
		t.Fatal(err)
	}
	golden(t, "report.json", b.Bytes())
}

func TestTheTableIsAsItWas(t *testing.T) {
	var b bytes.Buffer
	if err := write(&b, sample(), false); err != nil {
		t.Fatal(err)
	}
	golden(t, "table.txt", b.Bytes())
}

func TestAMedianOfAnEvenNumberOfRoundsIsBetweenTheMiddleOnes(t *testing.T) {
	if median, spread := summarize([]float64{4, 1, 3, 2}); median != 2.5 || spread != 0.6 {
		t.Errorf("%v ± %v, want 2.5 ± 0.6", median, spread)
	}
	if median, spread := summarize(nil); median != 0 || spread != 0 {
		t.Errorf("%v ± %v of nothing", median, spread)
	}
}

func TestWhatFailsIsReportedAndSpoilsNoRatio(t *testing.T) {
	all := []workload{{ID: "W1", Rows: []rowSpec{{"W1", "publish", recordsPerSecond, []goal{timesBestPeer(2), ofLimitOrRow(0.7, "W0")}}}}}
	all[0].Contenders = func() []contender {
		return []contender{{Name: "Braid", Role: isBraid}, {Name: "nats", Role: isPeer}}
	}
	rep := newReport(config{Workloads: all, Rounds: 1})
	rep.add(&all[0], all[0].Contenders()[0], []float64{10}, nil)
	rep.add(&all[0], all[0].Contenders()[1], nil, errors.New("no server"))
	rep.finish(all)
	if diff := cmp.Diff([]string{"W1, nats: no server"}, rep.failures()); diff != "" {
		t.Errorf("failures (-want +got):\n%s", diff)
	}
	if r := rep.row("W1"); r.OverBestPeer != 0 || r.BestPeer != "" || len(r.Goals) != 0 {
		t.Errorf("without a peer: %+v", r)
	}
}

// A whole run, tiny: it leaves neither goroutine nor file.
func TestARunMeasuresWhatEverySystemCanDoAndLeavesNothing(t *testing.T) {
	before := goleak.IgnoreCurrent()
	var some []workload
	for _, w := range workloads() {
		if w.Contenders == nil && w.ID != "W3-64" { // building programs, and 64 streams, take long
			some = append(some, w)
		}
	}
	dir := t.TempDir()
	rep, err := runAll(t.Context(), config{
		Workloads: some, Rounds: 2, Dir: dir, Progress: func(string) {},
		Scale: scale{Time: 5 * time.Millisecond, Bytes: 1 << 20, Records: 10 * batchRecords, Samples: 50},
	})
	if err != nil {
		t.Fatal(err)
	}
	goleak.VerifyNone(t, before)
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if failures := rep.failures(); len(failures) > 0 {
		t.Error(failures)
	}
	for _, r := range rep.Rows {
		for _, f := range r.figures() {
			cannot := r.Unit == microseconds && (f.Name == "pebble" || f.Name == "bbolt" || f.Name == "wal")
			if cannot != (f.Missing == errCannot.Error()) || !cannot && (len(f.Rounds) != 2 || f.Median <= 0) {
				t.Errorf("%s, %s: %+v", r.ID, f.Name, f)
			}
		}
	}
}

func TestARunEndsWithItsContext(t *testing.T) {
	dir := t.TempDir()
	out, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := run(ctx, []string{"-quick", "-only", "W2", "-dir", dir}, out, out); err == nil {
		t.Error("the run succeeded")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
