package scaler

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/braid-go/braid/partition"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func resolved(t testing.TB, p Policy) Policy {
	t.Helper()
	p, err := p.Resolve()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// testPolicy has a target of 1000 records/s, so that a load of 0.5 is 500 of them.
func testPolicy(t testing.TB, change func(*Policy)) Policy {
	t.Helper()
	p := Policy{TargetRecords: 1000, MaxPartitions: 8}
	if change != nil {
		change(&p)
	}
	return resolved(t, p)
}

// loads are partitions that are an hour old and have these loads over all three windows.
func loads(loads ...float64) []Partition {
	l, err := partition.NewLayout(1, len(loads))
	if err != nil {
		panic(err)
	}
	var parts []Partition
	for i, load := range loads {
		r := partition.Rate{Records: 1000 * load}
		parts = append(parts, Partition{l.Active()[i].ID, l.Active()[i].Range, partition.LoadSnapshot{Age: time.Hour, Short: r, Medium: r, Long: r}})
	}
	return parts
}

func with(parts []Partition, change func([]Partition)) []Partition {
	change(parts)
	return parts
}

func ago(d time.Duration) *History { return &History{scaled: epoch.Add(-d)} }

// oneKey is a partition whose load is a single key.
func oneKey(share int) partition.LoadSnapshot {
	l := partition.NewLoad(epoch.Add(-time.Hour))
	for i := range 600 {
		l.Observe(epoch.Add(time.Duration(i-600)*time.Second), 1000, 0, skewed{share})
	}
	s := l.Snapshot(epoch)
	s.Short, s.Medium, s.Long = partition.Rate{Records: 5000}, partition.Rate{Records: 5000}, partition.Rate{Records: 5000}
	return s
}

// skewed gives one key so many of a hundred records.
type skewed struct{ percent int }

func (s skewed) KeyHash(i int) (uint64, bool) {
	x := (uint64(i) + 1) * 0x9e3779b97f4a7c15
	if int(x>>32%100) < s.percent {
		return 0xabcdef, true
	}
	return x, true
}

func TestDecide(t *testing.T) {
	fastLoad := func(p []Partition) { p[0].Load.Short.Records = 2000 }
	for _, c := range []struct {
		name   string
		change func(*Policy)
		snap   Snapshot
		past   *History
		want   Decision
		reason string // that it contains
	}{
		{name: "a topic within the dead band is left alone", snap: Snapshot{Partitions: loads(0.5, 0.8)},
			reason: "steady: 2 partitions, the busiest (2) at 80 % of the target"},
		{name: "a topic without partitions is left alone", reason: "no partition"},
		{name: "the busiest partition above the threshold splits", snap: Snapshot{Partitions: loads(0.5, 0.95, 1.1, 0.2)},
			want: Decision{Action: Split, Partition: 3, At: 0xa << 60}, reason: "partition 3: 110 % of the target over 1m0s"},
		{name: "a split waits for the cooldown", snap: Snapshot{Partitions: loads(1.1)}, past: ago(18 * time.Second),
			reason: "no split: cooldown 12 s left; partition 1 has 110 % of the target"},
		{name: "a split comes when the cooldown is over", snap: Snapshot{Partitions: loads(1.1)}, past: ago(30 * time.Second),
			want: Decision{Action: Split, Partition: 1, At: 1 << 63}},
		{name: "without a cooldown a split waits for nothing", change: func(p *Policy) { p.SplitCooldown = -1 },
			snap: Snapshot{Partitions: loads(1.1)}, past: ago(0), want: Decision{Action: Split, Partition: 1, At: 1 << 63}},
		{name: "a partition younger than the window does not split",
			snap:   Snapshot{Partitions: with(loads(1.1), func(p []Partition) { p[0].Load.Age = 59 * time.Second })},
			reason: "no split: partition 1 has 110 % of the target, but is only 59 s old"},
		{name: "a partition far above the target splits in spite of the cooldown",
			snap: Snapshot{Partitions: with(loads(0.5), fastLoad)}, past: ago(time.Second),
			want: Decision{Action: Split, Partition: 1, At: 1 << 63, Fast: true}, reason: "200 % of the target over 10s"},
		{name: "a partition younger than the short window does not split fast",
			snap: Snapshot{Partitions: with(loads(0.5), func(p []Partition) { fastLoad(p); p[0].Load.Age = 9 * time.Second })}, reason: "steady"},
		{name: "bytes count as well as records",
			snap: Snapshot{Partitions: with(loads(0.5), func(p []Partition) { p[0].Load.Medium.Bytes = 40 << 20 })},
			want: Decision{Action: Split, Partition: 1, At: 1 << 63}, reason: "125 % of the target"},
		{name: "there are never more than MaxPartitions", snap: Snapshot{Partitions: with(loads(1, 1, 1, 1, 1, 1, 1, 1), fastLoad)},
			reason: "no split: MaxPartitions 8 reached"},
		{name: "a busy device is not split further", snap: Snapshot{Partitions: with(loads(1), fastLoad), DeviceUse: 0.95},
			reason: "no split: the device is the bottleneck: 95 % in use"},
		{name: "quiet neighbours merge, the quietest first", snap: Snapshot{Partitions: loads(0.25, 0.25, 0.1, 0.2, 0.5)},
			want: Decision{Action: Merge, Partition: 3, Neighbor: 4}, reason: "partitions 3 and 4: together 30 % of the target over 5m0s"},
		{name: "neighbours that had a burst do not merge", snap: Snapshot{Partitions: loads(0.1, 0.1)},
			past:   &History{peaks: map[partition.ID]peak{1: {0.7, epoch.Add(-time.Minute)}, 2: {0.7, epoch.Add(-time.Minute)}}},
			reason: "no merge: partitions 1 and 2 would split again at a burst like the last one: 131 % of the target"},
		{name: "neighbours whose burst is long past merge", snap: Snapshot{Partitions: loads(0.1, 0.1)},
			past: &History{peaks: map[partition.ID]peak{1: {0.7, epoch.Add(-5 * time.Minute)}, 2: {0.7, epoch.Add(-5 * time.Minute)}}},
			want: Decision{Action: Merge, Partition: 1, Neighbor: 2}},
		{name: "two that are not neighbours do not merge", snap: Snapshot{Partitions: loads(0.1, 0.5, 0.1)}, reason: "steady"},
		{name: "a merge waits for the cooldown", snap: Snapshot{Partitions: loads(0.1, 0.1)}, past: ago(50 * time.Second),
			reason: "no merge: cooldown 10 s left"},
		{name: "neighbours do not merge before the long window has passed",
			snap:   Snapshot{Partitions: with(loads(0.1, 0.1), func(p []Partition) { p[1].Load.Age = 299 * time.Second })},
			reason: "no merge: partition 1 or 2 is only 299 s old"},
		{name: "neighbours do not merge if one is awake in any window",
			snap: Snapshot{Partitions: with(loads(0.1, 0.1), func(p []Partition) { p[1].Load.Short.Records = 400 })}, reason: "steady"},
		{name: "neighbours do not merge if they would soon split again", change: func(p *Policy) { p.ScaleDownThreshold = 0.45 },
			snap: Snapshot{Partitions: loads(0.35, 0.35)}, reason: "steady"},
		{name: "there are never fewer than MinPartitions", change: func(p *Policy) { p.MinPartitions = 2 },
			snap: Snapshot{Partitions: loads(0, 0)}, reason: "no merge: MinPartitions 2 reached"},
		{name: "more than MaxPartitions merge down, however busy", change: func(p *Policy) { p.MaxPartitions = 2 },
			snap: Snapshot{Partitions: loads(1, 1, 0.9)},
			want: Decision{Action: Merge, Partition: 2, Neighbor: 3}, reason: "3 partitions, MaxPartitions is 2"},
		{name: "merging down waits for the cooldown", change: func(p *Policy) { p.MaxPartitions = 1 },
			snap: Snapshot{Partitions: loads(1, 1)}, past: ago(time.Second), reason: "2 partitions, MaxPartitions is 1: cooldown 59 s left"},
		{name: "fewer than MinPartitions split, however quiet", change: func(p *Policy) { p.MinPartitions = 2 },
			snap: Snapshot{Partitions: loads(0)}, want: Decision{Action: Split, Partition: 1, At: 1 << 63}, reason: "MinPartitions is 2"},
		{name: "one hot key is named and not split", snap: Snapshot{Partitions: with(loads(5), func(p []Partition) { p[0].Load = oneKey(90) })},
			want: Decision{HotKey: &partition.KeyShare{Hash: 0xabcdef, Share: 0.9}}, reason: "is one key: hash 0xabcdef has 9"},
		{name: "a hot key does not keep another partition from splitting",
			snap: Snapshot{Partitions: with(loads(5, 1), func(p []Partition) { p[0].Load = oneKey(100) })},
			want: Decision{Action: Split, Partition: 2, At: 3 << 62, HotKey: &partition.KeyShare{Hash: 0xabcdef, Share: 1}}},
		{name: "a key that is half of the load does not prevent a split",
			snap: Snapshot{Partitions: with(loads(5), func(p []Partition) { p[0].Load = oneKey(50) })},
			want: Decision{Action: Split, Partition: 1, Fast: true}},
		{name: "a group that is behind gets a consumer", snap: Snapshot{Partitions: loads(0.5, 0.5), Groups: []Group{
			{Name: "a", Consumers: 1, Free: 1, Lag: 11 * time.Second}, {Name: "b", Consumers: 1, Free: 1, Lag: 12 * time.Second}}},
			want: Decision{Action: Resize, Group: "b", Consumers: 2}, reason: `group "b" is 12 s behind, MaxLag is 10 s`},
		{name: "a group without a free partition gets none", snap: Snapshot{Partitions: loads(0.5), Groups: []Group{
			{Name: "a", Consumers: 1, Lag: time.Hour}}}, reason: `no consumer more for group "a": no partition is free for it`},
		{name: "a group has never more than MaxConsumers", change: func(p *Policy) { p.MaxConsumers = 3 },
			snap: Snapshot{Partitions: loads(0.5), Groups: []Group{{Name: "a", Consumers: 3, Free: 5, Lag: time.Hour}}}, reason: "MaxConsumers 3 reached"},
		{name: "a group is not resized twice within the cooldown", past: &History{groups: map[string]groupHistory{"a": {resized: epoch.Add(-5 * time.Second)}}},
			snap: Snapshot{Partitions: loads(0.5), Groups: []Group{{Name: "a", Consumers: 1, Free: 5, Lag: time.Hour}}}, reason: "cooldown 10 s left"},
		{name: "a group that was quiet for the window loses a consumer",
			past: &History{groups: map[string]groupHistory{"a": {quiet: epoch.Add(-5 * time.Minute)}}},
			snap: Snapshot{Partitions: loads(0.5), Groups: []Group{{Name: "a", Consumers: 3}}},
			want: Decision{Action: Resize, Group: "a", Consumers: 2}, reason: `group "a" was quiet for 300 s`},
		{name: "a group that has not been quiet long keeps its consumers",
			past: &History{groups: map[string]groupHistory{"a": {quiet: epoch.Add(-4 * time.Minute)}}},
			snap: Snapshot{Partitions: loads(0.5), Groups: []Group{{Name: "a", Consumers: 3}}}, reason: "quiet for 240 s of 300 s"},
		{name: "a group keeps its last consumer", past: &History{groups: map[string]groupHistory{"a": {quiet: epoch.Add(-time.Hour)}}},
			snap: Snapshot{Partitions: loads(0.5), Groups: []Group{{Name: "a", Consumers: 1}}}, reason: "steady"},
		{name: "a group keeps as many consumers as it wants at least", past: &History{groups: map[string]groupHistory{"a": {quiet: epoch.Add(-time.Hour)}}},
			snap: Snapshot{Partitions: loads(0.5), Groups: []Group{{Name: "a", Consumers: 3, Min: 3}}}, reason: "steady"},
		{name: "where partitions are fixed only groups change",
			snap: Snapshot{Fixed: true, Partitions: loads(9), Groups: []Group{{Name: "a", Consumers: 1, Free: 1, Lag: time.Hour}}},
			want: Decision{Action: Resize, Group: "a", Consumers: 2}, reason: "behind"},
		{name: "a fixed topic whose groups keep up is steady", snap: Snapshot{Fixed: true, Groups: []Group{{Name: "a", Consumers: 2}}},
			reason: `group "a" has 2 consumers and is 0 ms behind`},
		{name: "a group with more than MaxConsumers loses one", change: func(p *Policy) { p.MaxConsumers = 3 },
			snap: Snapshot{Partitions: loads(0.5), Groups: []Group{{Name: "a", Consumers: 5, Lag: time.Second}}},
			want: Decision{Action: Resize, Group: "a", Consumers: 4}, reason: "MaxConsumers is 3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.past == nil {
				c.past = &History{}
			}
			got := Decide(c.snap, testPolicy(t, c.change), c.past, epoch)
			if got.Reason == "" || !strings.Contains(got.Reason, c.reason) {
				t.Errorf("the reason is %q, want %q", got.Reason, c.reason)
			}
			if c.want.Action == Split && c.want.At == 0 {
				c.want.At = got.At // where the sample says
			}
			c.want.Time = epoch
			near := cmpopts.EquateApprox(0, 0.05)
			if diff := cmp.Diff(c.want, got, near, cmpopts.IgnoreFields(Decision{}, "Reason"), cmpopts.IgnoreFields(partition.KeyShare{}, "Error")); diff != "" {
				t.Errorf("%s (-want +got):\n%s", got.Reason, diff)
			}
		})
	}
}

func TestAFailedStepIsTriedAgainLaterAndOthersAreNotHeldUp(t *testing.T) {
	p := testPolicy(t, nil)
	h := &History{}
	s := Snapshot{Partitions: loads(1.2)}
	now := epoch
	for _, wait := range []time.Duration{5 * time.Second, 10 * time.Second, 20 * time.Second} {
		d := Decide(s, p, h, now)
		if d.Action != Split {
			t.Fatalf("at %s: %+v", now.Sub(epoch), d)
		}
		h.Done(d, errors.New("disk on fire"), now)
		late := now.Add(wait - time.Second)
		if d := Decide(s, p, h, late); d.Action != None || !strings.Contains(d.Reason, "no split of partition 1: it failed, next try in 1 s: disk on fire") {
			t.Fatalf("at %s: %+v", late.Sub(epoch), d)
		}
		if d := Decide(Snapshot{Partitions: loads(1.2, 1.1)}, p, h, late); d.Action != Split || d.Partition != 2 {
			t.Fatalf("another partition: %+v", d)
		}
		now = now.Add(wait)
	}
	for range 20 {
		h.Done(Decision{Action: Split, Partition: 1}, errors.New("again"), now)
	}
	if d := Decide(s, p, h, now.Add(5*time.Minute)); d.Action != Split {
		t.Fatalf("the wait has no bound: %+v", d)
	}
	h.Done(Decision{Action: Split, Partition: 1}, nil, now)
	if h.Observe(Snapshot{}, p, now); len(h.failed) > 0 || len(h.groups) > 0 {
		t.Fatalf("what is gone is remembered: %+v", h)
	}
}

func TestQuietIsCountedFromTheLastTimeAGroupWasBehind(t *testing.T) {
	p := testPolicy(t, nil)
	h := &History{}
	s := Snapshot{Partitions: loads(0.5), Groups: []Group{{Name: "a", Consumers: 2}}}
	var resized []int
	for second := range 1000 {
		s.Groups[0].Lag = 0
		if second == 200 {
			s.Groups[0].Lag = 2 * time.Second
		}
		now := epoch.Add(time.Duration(second) * time.Second)
		h.Observe(s, p, now)
		if d := Decide(s, p, h, now); d.Action == Resize {
			h.Done(d, nil, now)
			s.Groups[0].Consumers = d.Consumers
			resized = append(resized, second)
		}
	}
	if diff := cmp.Diff([]int{501}, resized); diff != "" {
		t.Error(diff)
	}
}

// The policy's windows say how old a partition must be, how long a burst is remembered, and what the reasons name.
func TestAPolicyHasWindowsOfItsOwn(t *testing.T) {
	p := testPolicy(t, func(p *Policy) {
		p.ShortWindow, p.MediumWindow, p.LongWindow = 2*time.Second, 4*time.Second, 8*time.Second
	})
	aged := func(age time.Duration, all ...float64) Snapshot {
		return Snapshot{Partitions: with(loads(all...), func(parts []Partition) {
			for i := range parts {
				parts[i].Load.Age = age
			}
		})}
	}
	burst := &History{}
	burst.Observe(aged(time.Hour, 0.8, 0.8), p, epoch.Add(-10*time.Second))
	for name, tc := range map[string]struct {
		snap   Snapshot
		past   *History
		want   Action
		reason string
	}{
		"fast":             {aged(2*time.Second, 1.6), &History{}, Split, "160 % of the target over 2s"},
		"too new for fast": {aged(time.Second, 1.6), &History{}, None, "only 1 s old"},
		"split":            {aged(4*time.Second, 1.1), &History{}, Split, "110 % of the target over 4s"},
		"merge":            {aged(8*time.Second, 0.1, 0.1), &History{}, Merge, "together 20 % of the target over 8s"},
		"too new to merge": {aged(7*time.Second, 0.1, 0.1), &History{}, None, "only 7 s old"},
		"after a burst":    {aged(time.Hour, 0.1, 0.1), burst, Merge, "together 20 %"},
	} {
		if d := Decide(tc.snap, p, tc.past, epoch); d.Action != tc.want || !strings.Contains(d.Reason, tc.reason) {
			t.Errorf("%s: %v", name, d)
		}
	}
	usual := testPolicy(t, nil)
	if d := Decide(aged(time.Hour, 0.1, 0.1), usual, burst, epoch); d.Action != None || !strings.Contains(d.Reason, "burst") {
		t.Errorf("with the default windows the burst is not remembered: %v", d)
	}
}

func TestAClockThatIsSetBackDoesNotStopTheScaler(t *testing.T) {
	h := &History{scaled: epoch.Add(24 * time.Hour)}
	if d := Decide(Snapshot{Partitions: loads(1.2)}, testPolicy(t, nil), h, epoch); d.Action != Split {
		t.Fatalf("%+v", d)
	}
}

func TestAPolicyThatMeansNothingIsRefused(t *testing.T) {
	for field, p := range map[string]Policy{
		"MinPartitions":      {MinPartitions: -1},
		"MaxPartitions":      {MinPartitions: 4, MaxPartitions: 3},
		"TargetRecords":      {TargetRecords: math.Inf(1)},
		"TargetBytes":        {TargetRecords: -1, TargetBytes: -1},
		"ScaleUpThreshold":   {ScaleUpThreshold: math.NaN()},
		"ScaleDownThreshold": {ScaleUpThreshold: 0.5, ScaleDownThreshold: 0.5},
		"FastThreshold":      {FastThreshold: 0.8},
		"ShortWindow":        {ShortWindow: 1500 * time.Millisecond},
		"MediumWindow":       {ShortWindow: time.Minute},
		"LongWindow":         {LongWindow: 25 * time.Hour},
		"SplitCooldown":      {SplitCooldown: -time.Second},
		"MergeCooldown":      {MergeCooldown: -2},
		"MaxDeviceUse":       {MaxDeviceUse: 1.1},
		"MaxConsumers":       {MaxConsumers: -1},
		"MaxLag":             {MaxLag: -1},
		"ConsumerCooldown":   {ConsumerCooldown: -time.Minute},
		"QuietWindow":        {QuietWindow: -1},
	} {
		_, err := p.Resolve()
		var e *PolicyError
		if !errors.Is(err, ErrPolicy) || !errors.As(err, &e) || e.Field != field || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func TestTheZeroPolicyIsTheDefaultsAndResolvingIsIdempotent(t *testing.T) {
	p := resolved(t, Policy{})
	if diff := cmp.Diff(p, resolved(t, p)); diff != "" {
		t.Error(diff)
	}
	if p.MaxPartitions != 64 || p.ScaleUpThreshold != 0.9 || p.ScaleDownThreshold != 0.3 || p.TargetBytes != 32<<20 {
		t.Errorf("%+v", p)
	}
	if p := resolved(t, Policy{MinPartitions: 100}); p.MaxPartitions != 100 {
		t.Errorf("MaxPartitions is %d below a larger MinPartitions", p.MaxPartitions)
	}
}
