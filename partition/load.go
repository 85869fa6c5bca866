package partition

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/braid-go/braid/internal/sorting"
)

// The windows over which a [Load] averages, unless it is told others.
const (
	ShortWindow  = 10 * time.Second
	MediumWindow = time.Minute
	LongWindow   = 5 * time.Minute
)

// Windows are what a [Load] averages over, in whole seconds.
type Windows struct{ Short, Medium, Long time.Duration }

const (
	// About this many records a second are sampled, at most twice as many while the load is steady, and each time the load
	// doubles within a second as many again. It is the same at every rate, so that measuring costs a busy partition no more than an idle one.
	samplesPerSecond = 16
	// The last samples are kept: at least half a minute of steady load.
	maxSamples = 1024
	// With fewer samples than this nothing is said about how the load is spread.
	minSamples = 16
	// A range is indivisible if the best cut leaves more than this share of its load on one side, as it does
	// when one key is the load.
	maxSide = 0.8
	// A load that has seen nothing for so many times the longest window is forgotten: the longest average is then below 1/20,000 of what it was.
	forgetAfter = 10
	// confidence95 is sqrt(ln(2/0.05)/2), of Hoeffding's inequality.
	confidence95 = 1.3581
)

// pace are windows, and what is left of each average after a second.
type pace struct {
	windows [3]time.Duration
	decays  [3]float64
}

func paceOf(w Windows) *pace {
	p := &pace{windows: [...]time.Duration{w.Short, w.Medium, w.Long}}
	for i, window := range p.windows {
		p.decays[i] = decay(1, window)
	}
	return p
}

var usualPace = paceOf(Windows{ShortWindow, MediumWindow, LongWindow})

func decay(seconds int64, window time.Duration) float64 {
	return math.Exp(-float64(seconds) / window.Seconds())
}

// Load measures what is stored in a partition: how much, over three windows, and how it is spread over the hashes of its keys.
//
// The rates are exponentially weighted averages of whole seconds. The spread is a sample of records taken
// at random distances, with a weight that says how many each stands for; the last 1024 are kept and lose weight with age. Heavy keys
// are counted in the same sample, so no counter is touched per record, and the error of a share is that of the sample. Sampling
// goes by records, not by bytes: a key with few, very large records weighs as much as its records.
//
// A load costs a partition that stores nothing some 50 bytes: the rest comes with the first record, and goes with
// Release (the sample) and after ten times the longest window (the rates). Its methods are safe for concurrent use.
type Load struct {
	since time.Time
	mu    sync.Mutex
	pace  *pace
	meter *meter
}

// Keys tells a Load the hashes of the records it wants to sample.
type Keys interface {
	// KeyHash returns the Hash of the key of the i-th record, or false if it has none.
	KeyHash(i int) (hash uint64, keyed bool)
}

// Rate is a load in records and bytes per second.
type Rate struct{ Records, Bytes float64 }

type meter struct {
	second  int64 // the one that is being counted, since Load.since
	records int64 // in it
	bytes   int64
	rates   [len(usualPace.decays)]Rate // of the seconds before

	stride  uint32 // records that a sample stands for
	quota   int    // samples until the stride is doubled
	skip    int    // records until the next sample
	random  uint64
	samples []sample // a ring once it is full
	oldest  int
}

type sample struct {
	hash   uint64
	weight uint32 // the records it stands for
	keyed  bool
	second int64
}

// NewLoad begins to measure at a time: until a window has passed its average is that of the time since.
func NewLoad(since time.Time) *Load { return &Load{since: since, pace: usualPace} }

// SetWindows changes what is averaged over. The averages go on from what they are.
func (l *Load) SetWindows(w Windows) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pace = usualPace; w != (Windows{ShortWindow, MediumWindow, LongWindow}) {
		l.pace = paceOf(w)
	}
}

// Observe counts records that were stored at about the same time, say of a frame or of a round. It asks keys for the few that it wants to
// sample and keeps no reference to it. A time before that of an earlier call counts as that of the earlier one.
func (l *Load) Observe(now time.Time, records int, bytes int64, keys Keys) {
	if records <= 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	second := l.at(now)
	if l.meter == nil {
		l.meter = &meter{second: second, stride: 1, quota: samplesPerSecond, random: uint64(l.since.UnixNano())}
	}
	m := l.meter
	if second > m.second {
		m.pass(second, l.pace)
	}
	m.records += int64(records)
	m.bytes += bytes
	i := m.skip
	for ; i < records; i += m.distance() {
		m.sample(keys, i)
	}
	m.skip = i - records
}

// Release lets go of the sample; the rates stay. It is for a partition that has been idle.
func (l *Load) Release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.meter != nil {
		l.meter.samples, l.meter.oldest = nil, 0
	}
}

func (l *Load) at(now time.Time) int64 { return max(0, int64(now.Sub(l.since)/time.Second)) }

// pass folds the counted second, and the silent ones behind it, into the averages.
func (m *meter) pass(second int64, p *pace) {
	gap := second - m.second - 1
	for i, window := range p.windows {
		d, rest := p.decays[i], decay(gap, window)
		r := &m.rates[i]
		r.Records = (r.Records*d + float64(m.records)*(1-d)) * rest
		r.Bytes = (r.Bytes*d + float64(m.bytes)*(1-d)) * rest
	}
	// The next second is expected to be like this one.
	m.stride = uint32(min(max(1, m.records/samplesPerSecond), math.MaxUint32/2))
	m.skip = min(m.skip, int(2*m.stride))
	m.quota = 2 * samplesPerSecond
	m.second, m.records, m.bytes = second, 0, 0
}

// sample takes a record into the sample. When a second has more than its share they become rarer, and stand for more.
func (m *meter) sample(keys Keys, i int) {
	s := sample{weight: m.stride, second: m.second}
	s.hash, s.keyed = keys.KeyHash(i)
	if len(m.samples) < maxSamples {
		m.samples = append(m.samples, s)
	} else {
		m.samples[m.oldest] = s
		m.oldest = (m.oldest + 1) % maxSamples
	}
	if m.quota--; m.quota <= 0 {
		m.quota = samplesPerSecond
		m.stride = min(2*m.stride, math.MaxUint32/2)
	}
}

// distance is how far the next sample is: evenly distributed around the stride, so that a load with a period does not fall in step
// with the sampling. The numbers are splitmix64's (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
func (m *meter) distance() int {
	if m.stride == 1 {
		return 1
	}
	m.random += 0x9e3779b97f4a7c15
	z := m.random
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return 1 + int((z^z>>31)%uint64(2*m.stride-1))
}

// LoadSnapshot is a partition's load at one time.
type LoadSnapshot struct {
	Age                 time.Duration // how long it has been measured
	Short, Medium, Long Rate          // averages over the windows, or over Age if it is shorter
	samples             []sample
	second              int64         // of Age
	memory              time.Duration // samples lose weight with this time constant, so that what an idle stretch has made old gives way to what is new
}

// spread is how a sample is spread over the keys.
type spread struct {
	keys      []weight // by hash, one of each
	keyless   float64  // weight of the sampled records without a key
	total     float64  // weight of all
	effective float64  // the number of equally weighted samples that would be as good
}

type weight struct {
	hash   uint64
	weight float64
}

// KeyShare is a key's estimated share of a load.
type KeyShare struct {
	Hash  uint64
	Share float64 // of the records, 0 to 1
	Error float64 // the true share is within Share ± Error, with 95 % confidence (Hoeffding's bound for the sample)
}

// Snapshot returns the load up to the last whole second.
func (l *Load) Snapshot(now time.Time) LoadSnapshot {
	l.mu.Lock()
	second := l.at(now)
	s := LoadSnapshot{Age: max(0, now.Sub(l.since))}
	m := l.meter
	if m == nil {
		l.mu.Unlock()
		return s
	}
	p := l.pace
	if second-m.second > forgetAfter*int64(p.windows[2]/time.Second) {
		l.meter = nil
		l.mu.Unlock()
		return s
	}
	seen := *m
	seen.samples = slices.Clone(m.samples)
	l.mu.Unlock()

	if second > seen.second {
		seen.pass(second, p)
	}
	s.Short, s.Medium, s.Long = seen.rate(0, p), seen.rate(1, p), seen.rate(2, p)
	s.samples, s.second, s.memory = seen.samples, seen.second, p.windows[1]
	return s
}

// rate corrects an average for having begun with nothing.
func (m *meter) rate(i int, p *pace) Rate {
	if m.second == 0 {
		return Rate{}
	}
	part := 1 - decay(m.second, p.windows[i])
	return Rate{m.rates[i].Records / part, m.rates[i].Bytes / part}
}

// spread weighs the sample by age, sorts it and joins what is of the same key.
func (s LoadSnapshot) spread() (all spread) {
	samples := slices.Clone(s.samples)
	sorting.Func(samples, func(a, b sample) int { return cmp.Compare(a.hash, b.hash) })
	squares := 0.0
	for _, x := range samples {
		w := float64(x.weight) * decay(s.second-x.second, s.memory)
		all.total += w
		squares += w * w
		last := len(all.keys) - 1
		switch {
		case !x.keyed:
			all.keyless += w
		case last >= 0 && all.keys[last].hash == x.hash:
			all.keys[last].weight += w
		default:
			all.keys = append(all.keys, weight{x.hash, w})
		}
	}
	if squares > 0 {
		all.effective = all.total * all.total / squares
	}
	return all
}

// Hottest returns the n keys with the largest shares, the largest first; none if the sample is too small to say.
func (s LoadSnapshot) Hottest(n int) []KeyShare {
	all := s.spread()
	if all.effective < minSamples || n <= 0 {
		return nil
	}
	keys := all.keys
	sorting.Func(keys, func(a, b weight) int {
		return cmp.Or(cmp.Compare(b.weight, a.weight), cmp.Compare(a.hash, b.hash))
	})
	hot := make([]KeyShare, min(n, len(keys)))
	for i := range hot {
		hot[i] = all.share(keys[i])
	}
	return hot
}

func (s *spread) share(key weight) KeyShare {
	return KeyShare{key.hash, key.weight / s.total, min(1, confidence95/math.Sqrt(s.effective))}
}

// IndivisibleError reports that a range cannot be cut so that both sides get a useful part of its load.
type IndivisibleError struct {
	Range Range
	Key   KeyShare // the heaviest key; zero if the range is a single hash and nothing was sampled
}

func (e *IndivisibleError) Error() string {
	return fmt.Sprintf("partition: range %#x to %#x is indivisible: the key with hash %#x has %.0f ± %.0f %% of the load",
		e.Range.Lo, e.Range.Hi, e.Key.Hash, 100*e.Key.Share, 100*e.Key.Error)
}

// SplitPoint returns the hash at which to cut a range in two, [Lo, at-1] and [at, Hi], so that the load on both sides
// is as even as it can be; the middle where too little was sampled. Records without a key go to both sides. If
// one side would have more than 80 % of the load the error is an [*IndivisibleError].
func (s LoadSnapshot) SplitPoint(r Range) (at uint64, err error) {
	all := s.spread()
	keys, sum := all.within(r)
	if r.Lo >= r.Hi {
		e := &IndivisibleError{Range: r}
		if len(keys) > 0 {
			e.Key = all.share(keys[0])
		}
		return 0, e
	}
	if all.effective < minSamples || all.effective*sum < minSamples*all.total {
		return middle(r), nil
	}
	best, side, left := -1, sum, 0.0
	heaviest := keys[0]
	for i, k := range keys {
		if i > 0 && max(left, sum-left) < side {
			best, side = i, max(left, sum-left)
		}
		if k.weight > heaviest.weight {
			heaviest = k
		}
		left += k.weight
	}
	if side+all.keyless/2 > maxSide*(sum+all.keyless) {
		return 0, &IndivisibleError{r, all.share(heaviest)}
	}
	if best < 0 {
		return middle(r), nil
	}
	a, b := keys[best-1].hash, keys[best].hash
	return a + (b-a)/2 + (b-a)%2, nil
}

func middle(r Range) uint64 { return r.Lo + (r.Hi-r.Lo)/2 + 1 }

// within returns the part of the sample that is in a range, and its weight.
func (s *spread) within(r Range) (keys []weight, sum float64) {
	from, _ := slices.BinarySearchFunc(s.keys, r.Lo, func(k weight, h uint64) int { return cmp.Compare(k.hash, h) })
	to := from
	for to < len(s.keys) && s.keys[to].hash <= r.Hi {
		sum += s.keys[to].weight
		to++
	}
	return s.keys[from:to], sum
}
