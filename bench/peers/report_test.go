package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

// TestMain is also the main of a child that a test starts.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		if err := child(dir, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

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
	rep.CPU, rep.Disk, rep.Took = "fast, virtual", "ext4", "50s"
	rep.Systems = []systemInfo{{"Braid", "", "defaults", true}, {"nats", "v2", "in process", true}, {"wal", "v1", "batches", false}}
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
	if err := writeJSON(&b, sample()); err != nil {
		t.Fatal(err)
	}
	golden(t, "report.json", b.Bytes())
}

func TestTheTableIsAsItWas(t *testing.T) {
	var b bytes.Buffer
	if err := writeTable(&b, sample()); err != nil {
		t.Fatal(err)
	}
	golden(t, "table.txt", b.Bytes())
}

func TestTheMarkdownIsAsItWas(t *testing.T) {
	var b bytes.Buffer
	if err := writeMarkdown(&b, sample()); err != nil {
		t.Fatal(err)
	}
	golden(t, "table.md", b.Bytes())
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

func TestAGoalIsMetUpToItsBoundAndNotBeyond(t *testing.T) {
	rep := &report{}
	add := func(id string, u unit, braid, ofLimit float64) *row {
		r := &row{ID: id, Unit: u, Braid: &figure{Median: braid}, OfLimit: ofLimit}
		rep.Rows = append(rep.Rows, r)
		return r
	}
	add("small", microseconds, 100, 0)
	rep.Systems = []systemInfo{{Name: "checks", Checks: true}, {Name: "does not"}}
	peers := func(r *row, checks, doesNot float64) *row {
		r.Peers = []*figure{{Name: "does not", Median: doesNot}, {Name: "checks", Median: checks}}
		return r
	}
	for _, tt := range []struct {
		g          goal
		r          *row
		met, known bool
	}{
		{withinRow(1.5, "small"), add("a", microseconds, 149, 0), true, true},
		{withinRow(1.5, "small"), add("b", microseconds, 151, 0), false, true},
		{withinRow(1.5, "absent"), add("c", microseconds, 1, 0), false, false},
		{withinLimit(1.3), add("d", transactionsPerSecond, 1, 0.78), true, true},
		{withinLimit(1.3), add("e", transactionsPerSecond, 1, 0.76), false, true},
		{withinLimit(1.3), add("f", transactionsPerSecond, 1, 0), false, false},
		{timesBestChecking(2), peers(add("j", recordsPerSecond, 10, 0), 5, 50), true, true},
		{timesBestChecking(2), peers(add("k", recordsPerSecond, 10, 0), 6, 1), false, true},
		{timesBestChecking(2), peers(add("l", recordsPerSecond, 10, 0), 0, 1), false, false},
		{under(64, "64 MiB"), add("g", mebibytes, 63.9, 0), true, true},
		{under(64, "64 MiB"), add("h", mebibytes, 64, 0), false, true},
		{under(64, "64 MiB"), add("i", mebibytes, 0, 0), false, false},
	} {
		if met, known := tt.g.met(tt.r, rep); met != tt.met && known || known != tt.known {
			t.Errorf("%s, row %s: met %v, known %v", tt.g.text, tt.r.ID, met, known)
		}
	}
}

func TestAnAddedWaitIsTheLongestCallDuringASplitLessTheMedianOfTheOthers(t *testing.T) {
	ms := time.Millisecond
	var spans [][]span
	for range 10 {
		spans = append(spans, []span{{0, 2 * ms}, {2 * ms, 4 * ms}, {4 * ms, 6 * ms}, {10 * ms, 15 * ms}, {15 * ms, 16 * ms}, {20 * ms, 22 * ms}})
	}
	spans[3][3].to = 30 * ms // longer than the others', in the split
	spans[4][0].to = 90 * ms // not in the split
	spans[4][0].from = 31 * ms
	if wait := addedWait(spans, []span{{11 * ms, 12 * ms}}); wait != 3*ms { // nine of ten are at 5 ms; the 99th percentile of ten is the ninth
		t.Errorf("added %v, want 3ms", wait)
	}
	if wait := addedWait(spans[3:4], []span{{11 * ms, 12 * ms}}); wait != 18*ms {
		t.Errorf("added %v, want 18ms", wait)
	}
}

func TestALogOfAnotherSizeThanWasWrittenIsNoFigure(t *testing.T) {
	dir := t.TempDir()
	sc := scale{SmallLog: 1 << 20, LargeLog: 2 << 20}
	if err := logs.Make(t.Context(), dir, sc); err != nil {
		t.Fatal(err)
	}
	if figures, err := openLogs(t.Context(), dir, sc); err != nil || len(figures) != 3 {
		t.Errorf("%v, %v", figures, err)
	}
	sc.LargeLog *= 2
	if figures, err := openLogs(t.Context(), dir, sc); err == nil {
		t.Errorf("%v", figures)
	}
}

// A whole run, tiny: it leaves neither goroutine nor file.
func TestARunMeasuresWhatEverySystemCanDoAndLeavesNothing(t *testing.T) {
	before := goleak.IgnoreCurrent()
	tiny := scale{
		Time: 5 * time.Millisecond, Bytes: 1 << 20, Records: 10 * batchRecords, Samples: 50,
		Spread: 20, Partitions: 30, Members: 15, Splits: 1, SmallLog: 1 << 20, LargeLog: 2 << 20,
	}
	var some []workload
	for _, w := range workloads(tiny) {
		if w.ID != "size" && w.ID != "W3-64" { // building programs, and 64 streams, take long
			some = append(some, w)
		}
	}
	dir := t.TempDir()
	rep, err := runAll(t.Context(), config{Workloads: some, Rounds: 2, Dir: dir, Progress: func(string) {}, Scale: tiny})
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
			cannot := f.Missing == errCannot.Error()
			if want := !slices.Contains(takesPart(r.ID), f.Name) && slices.Contains(r.Peers, f); cannot != want || !cannot && len(f.Rounds) != 2 {
				t.Errorf("%s, %s: %+v", r.ID, f.Name, f)
			}
			if !cannot && f.Median <= 0 && !strings.HasPrefix(r.ID, "W9") { // a split may add nothing
				t.Errorf("%s, %s: %+v", r.ID, f.Name, f)
			}
		}
	}
}

// takesPart returns the peers that can do a workload.
func takesPart(row string) []string {
	switch id, _, _ := strings.Cut(row, "-"); id {
	case "W5":
		return []string{"nats"}
	case "W6":
		return []string{"pebble", "bbolt"}
	case "W8", "W9", "W10":
		return nil
	}
	if row == "W7-idle" {
		return nil
	}
	return []string{"nats", "pebble", "bbolt", "wal"}
}

func TestProfilesAreOfBraidAndAloneLeavesThePeersOut(t *testing.T) {
	tiny := scale{Time: 50 * time.Millisecond, Bytes: 8 << 20}
	some, err := pick(workloads(tiny), "W1")
	if err != nil {
		t.Fatal(err)
	}
	profiles := t.TempDir()
	for i := range some {
		some[i].Alone = true
	}
	profileBraid(some, profiles)
	rep, err := runAll(t.Context(), config{Workloads: some, Rounds: 1, Dir: t.TempDir(), Progress: func(string) {}, Scale: tiny})
	if err != nil {
		t.Fatal(err)
	}
	if failures := rep.failures(); len(failures) > 0 {
		t.Error(failures)
	}
	for _, r := range rep.Rows {
		measured := slices.ContainsFunc(r.Peers, func(f *figure) bool { return len(f.Rounds) > 0 })
		if measured || r.Braid.Median <= 0 || len(r.Limits) == 0 {
			t.Errorf("%s: %+v, peers measured: %v, %d limits", r.ID, r.Braid, measured, len(r.Limits))
		}
		info, err := os.Stat(filepath.Join(profiles, r.ID+".pprof"))
		if err != nil || info.Size() == 0 {
			t.Errorf("%s: no profile: %v", r.ID, err)
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
