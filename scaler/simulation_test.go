package scaler

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/braid-go/braid/partition"
)

// scenario is a load over time, and what must be seen of a topic that follows it.
type scenario struct {
	name     string
	seconds  int
	rate     func(second int) float64 // records/s; the default target of a partition is 100,000
	keys     func(i int) float64
	every    int   // seconds between ticks; 2 if it is 0
	changes  []int // the seconds at which the load changes its direction for good
	min, max int   // partitions at the end
	peak     int   // partitions at most, at any time
	settle   int   // seconds after a change within which the last step is over
	steps    int   // splits and merges at most
	resizes  int   // of the consumers at most
	tricky   bool  // a naive policy fails
}

const (
	minute = 60
	hour   = 60 * minute
)

var scenarios = []scenario{
	{name: "silence", seconds: hour, rate: func(int) float64 { return 0 }, min: 1, max: 1, peak: 1},
	{name: "steady", seconds: hour, rate: func(int) float64 { return 50_000 }, min: 1, max: 1, peak: 1},
	{name: "step up", seconds: hour, rate: step(20_000, 500_000, 10*minute), changes: []int{10 * minute},
		min: 6, max: 8, peak: 8, settle: 3 * minute, steps: 7, resizes: 7},
	{name: "step up and down", seconds: 2 * hour, every: 5, rate: pulse(20_000, 500_000, 10*minute, hour), changes: []int{10 * minute, hour},
		min: 1, max: 1, peak: 8, settle: 30 * minute, steps: 14, resizes: 16},
	{name: "step, skewed keys", seconds: hour, rate: step(20_000, 300_000, 10*minute), keys: zipf, changes: []int{10 * minute}, tricky: true,
		min: 4, max: 6, peak: 6, settle: 3 * minute, steps: 5, resizes: 6},
	{name: "ramp of half an hour", seconds: 2 * hour, every: 5, rate: ramp(10_000, 600_000, 10*minute, 40*minute), changes: []int{10 * minute}, tricky: true,
		min: 8, max: 9, peak: 9, settle: 32 * minute, steps: 8, resizes: 8},
	{name: "spike of 30 s", seconds: hour, rate: pulse(50_000, 400_000, 10*minute, 10*minute+30), changes: []int{10 * minute, 10*minute + 30}, tricky: true,
		min: 1, max: 1, peak: 5, settle: 20 * minute, steps: 8, resizes: 8},
	{name: "flapping at the threshold", seconds: 3 * hour, every: 5, rate: flap(85_000, 95_000, minute), tricky: true,
		min: 2, max: 2, peak: 2, settle: 5 * minute, steps: 1, resizes: 12},
	{name: "flapping by half, 1 min", seconds: 3 * hour, every: 5, rate: flap(60_000, 120_000, minute), tricky: true,
		min: 2, max: 2, peak: 2, settle: 5 * minute, steps: 1, resizes: 12},
	{name: "flapping in the dead band, 10 min", seconds: 3 * hour, every: 5, rate: flap(65_000, 87_000, 10*minute), tricky: true, min: 1, max: 1, peak: 1},
	{name: "one key with 90 %", seconds: hour, rate: step(20_000, 300_000, 10*minute), keys: ninety, changes: []int{10 * minute}, tricky: true,
		min: 1, max: 1, peak: 1},
	{name: "recorded bursts", seconds: 2 * hour, every: 5, rate: recorded("writes.txt", 60_000), tricky: true,
		min: 1, max: 4, peak: 4, settle: 10 * minute, steps: 3, resizes: 12},
	{name: "recorded bursts, heavy", seconds: 2 * hour, every: 5, rate: recorded("writes.txt", 150_000), tricky: true,
		min: 3, max: 8, peak: 8, settle: 10 * minute, steps: 7, resizes: 12},
	{name: "a day", seconds: 24 * hour, rate: day, every: 5, changes: []int{0, 12 * hour},
		min: 1, max: 2, peak: 9, settle: 12 * hour, steps: 16, resizes: 40},
}

func step(from, to float64, at int) func(int) float64 { return pulse(from, to, at, math.MaxInt) }

func pulse(low, high float64, from, to int) func(int) float64 {
	return func(s int) float64 {
		if s >= from && s < to {
			return high
		}
		return low
	}
}

func ramp(low, high float64, from, to int) func(int) float64 {
	return func(s int) float64 {
		return low + (high-low)*min(1, max(0, float64(s-from)/float64(to-from)))
	}
}

// recorded repeats a recording, one number a second, at another level. testdata/writes.txt are the write requests per second of a
// two-core machine on which programs are being compiled and tested: silence with bursts of a second or two.
func recorded(file string, mean float64) func(int) float64 {
	var values []float64
	sum := 0.0
	data, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		panic(err)
	}
	for _, field := range strings.Fields(string(data)) {
		v, err := strconv.ParseFloat(field, 64)
		if err != nil {
			panic(err)
		}
		values, sum = append(values, v), sum+v
	}
	return func(s int) float64 { return values[s%len(values)] * mean * float64(len(values)) / sum }
}

func flap(a, b float64, period int) func(int) float64 {
	return func(s int) float64 {
		if s/period%2 == 0 {
			return a
		}
		return b
	}
}

// day goes from one trough to the next.
func day(s int) float64 {
	return 270_000 - 250_000*math.Cos(2*math.Pi*float64(s)/(24*hour))
}

// outcome is what was seen of a topic.
type outcome struct {
	splits, fast, merges, resizes int
	reversals                     int // a merge after a split, or a split after a merge
	peak, last                    int // partitions
	consumers                     int // at most
	settled                       int // seconds from a change to the last step before the next one, the longest of them
	over                          int // seconds in which some partition had more than the target
	decisions                     []Decision
}

// stepper picks the next step of a simulated topic and carries it out.
type stepper func(*simTopic) Decision

func byLoop(t *testing.T, topic *simTopic) (*Loop, stepper) {
	t.Helper()
	l, err := NewLoop(topic, Options{Now: func() time.Time { return topic.now }})
	if err != nil {
		t.Fatal(err)
	}
	return l, func(*simTopic) Decision { return l.Tick(context.Background()) }
}

// simulate runs a scenario in virtual time. The rate of each second is noisy: a tenth of it, up or down.
func simulate(c scenario, topic *simTopic, next stepper) outcome {
	var o outcome
	every := max(c.every, 2)
	change, last := 0, None
	for second := range c.seconds {
		topic.second(c.rate(second) * (0.9 + 0.2*topic.r.Float64()))
		for _, at := range c.changes {
			if at == second {
				change = second
			}
		}
		if second%every != 0 {
			continue
		}
		d := next(topic)
		switch d.Action {
		case Split:
			o.splits++
			o.fast += b2i(d.Fast)
		case Merge:
			o.merges++
		case Resize:
			o.resizes++
		}
		if d.Action == Split || d.Action == Merge {
			o.reversals += b2i(last != None && last != d.Action)
			last = d.Action
			o.settled = max(o.settled, second-change)
			o.decisions = append(o.decisions, d)
		}
		o.peak, o.consumers = max(o.peak, len(topic.parts)), max(o.consumers, topic.group.Consumers)
		for _, p := range topic.parts {
			if c.rate(second)*(p.to-p.from) > DefaultTargetRecords {
				o.over += every
				break
			}
		}
	}
	o.last = len(topic.parts)
	return o
}

// faults returns in what an outcome is not what the scenario demands.
func (c scenario) faults(o outcome) (faults []string) {
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Sprintf(format, args...))
		}
	}
	fault(o.last < c.min || o.last > c.max, "%d partitions at the end, want %d to %d", o.last, c.min, c.max)
	fault(o.peak > c.peak, "%d partitions at the peak, want at most %d", o.peak, c.peak)
	fault(o.splits+o.merges > c.steps, "%d splits and %d merges, want at most %d steps", o.splits, o.merges, c.steps)
	fault(o.resizes > c.resizes, "%d changes of the consumers, want at most %d", o.resizes, c.resizes)
	fault(o.settled > c.settle, "settled %d s after a change, want at most %d", o.settled, c.settle)
	fault(o.reversals > max(0, len(c.changes)-1), "%d reversals at %d changes of the load", o.reversals, len(c.changes))
	return faults
}

func (c scenario) population() *population {
	if c.keys == nil {
		return newPopulation(4096, even)
	}
	return newPopulation(4096, c.keys)
}

// TestSimulatedTopicsFollowTheirLoadWithoutOscillating runs every scenario with the default policy; -v prints what was seen.
func TestSimulatedTopicsFollowTheirLoadWithoutOscillating(t *testing.T) {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "load\tsplits\t(fast)\tmerges\treversals\tpeak\tlast\tsettled\tover target\tconsumers\tresizes")
	for _, c := range scenarios {
		topic := newSimTopic(c.population())
		_, next := byLoop(t, topic)
		o := simulate(c, topic, next)
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d s\t%d s\t%d\t%d\n", c.name, o.splits, o.fast, o.merges, o.reversals, o.peak, o.last,
			o.settled, o.over, o.consumers, o.resizes)
		for _, fault := range c.faults(o) {
			t.Errorf("%s: %s", c.name, fault)
			for _, d := range o.decisions {
				t.Log(d)
			}
		}
	}
	w.Flush()
	t.Log("\n" + b.String())
}

// naive is what a policy without windows, cooldowns and dead band does.
func naive(topic *simTopic) Decision {
	snap, _ := topic.Measure(context.Background())
	for i, p := range snap.Partitions {
		if p.Load.Short.Records > DefaultTargetRecords*0.9 {
			mid := p.Range.Lo + (p.Range.Hi-p.Range.Lo)/2 + 1
			d := Decision{Time: topic.now, Action: Split, Partition: p.ID, At: mid, Reason: "naive"}
			d.Err = topic.Split(context.Background(), d)
			return d
		}
		if i > 0 && snap.Partitions[i-1].Load.Short.Records+p.Load.Short.Records < DefaultTargetRecords*0.9 {
			d := Decision{Time: topic.now, Action: Merge, Partition: snap.Partitions[i-1].ID, Neighbor: p.ID, Reason: "naive"}
			d.Err = topic.Merge(context.Background(), d)
			return d
		}
	}
	return Decision{Time: topic.now, Reason: "naive"}
}

// idle is what a policy that never does anything does.
func idle(topic *simTopic) Decision { return Decision{Time: topic.now, Reason: "idle"} }

func TestSimulationsTellABadPolicyFromAGoodOne(t *testing.T) {
	for _, c := range scenarios {
		if c.tricky && len(c.faults(simulate(c, newSimTopic(c.population()), naive))) == 0 {
			t.Errorf("%s: nothing is wrong with a naive policy", c.name)
		}
		if c.min > 1 && c.seconds <= hour && len(c.faults(simulate(c, newSimTopic(c.population()), idle))) == 0 {
			t.Errorf("%s: nothing is wrong with doing nothing", c.name)
		}
	}
}

func TestSimulatedHotKeyIsNamedByExplain(t *testing.T) {
	topic := newSimTopic(newPopulation(4096, ninety))
	l, next := byLoop(t, topic)
	simulate(scenario{seconds: 10 * minute, rate: step(20_000, 300_000, minute)}, topic, next)
	all := l.Explain()
	d := all[len(all)-1]
	if d.HotKey == nil || d.HotKey.Hash != hotHash() || math.Abs(d.HotKey.Share-0.9) > d.HotKey.Error {
		t.Fatalf("%v: %+v", d, d.HotKey)
	}
	if want := fmt.Sprintf("hash %#x", hotHash()); !strings.Contains(d.Reason, want) {
		t.Errorf("%q does not contain %q", d.Reason, want)
	}
}

func TestSimulatedPartitionsAreLeftAloneInTheirFirstWindow(t *testing.T) {
	for _, c := range scenarios[3:5] { // up and down, and with skewed keys
		topic := newSimTopic(c.population())
		_, next := byLoop(t, topic)
		simulate(c, topic, func(topic *simTopic) Decision {
			ages := map[partition.ID]time.Duration{}
			snap, _ := topic.Measure(context.Background())
			for _, p := range snap.Partitions {
				ages[p.ID] = p.Load.Age
			}
			d := next(topic)
			if d.Action == Merge && min(ages[d.Partition], ages[d.Neighbor]) < partition.LongWindow ||
				d.Action == Split && ages[d.Partition] < partition.ShortWindow {
				t.Errorf("%s: %v with ages %v", c.name, d, ages)
			}
			return d
		})
	}
}
