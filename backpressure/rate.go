package backpressure

import (
	"math"
	"time"
)

const (
	rateMemory   = time.Second // the time constant of the measured drain rate
	leastRetry   = time.Millisecond
	mostRetry    = 30 * time.Second
	unknownRetry = 100 * time.Millisecond
)

// amounts are records, bytes and items, or so many of them a second.
type amounts [3]float64

// drainRate is how fast the drainer works while there is pressure: an exponentially
// weighted moving average. Without pressure the drainer takes what comes, which says
// nothing of how fast it could be, and reading a clock would be a cost; so only
// takes from a queue that is at 70 % of a limit or more count. The queue's mutex
// guards it.
type drainRate struct {
	since   time.Time // of the last take under pressure; zero if there was none since
	working amounts   // what it took, and has worked on since
	rate    amounts   // a second
	known   bool
}

// took notes a take from a queue under pressure.
func (d *drainRate) took(now time.Time, what amounts) {
	if dt := now.Sub(d.since).Seconds(); !d.since.IsZero() && dt > 0 {
		weight := 1 - math.Exp(-dt/rateMemory.Seconds())
		if !d.known {
			weight, d.known = 1, true
		}
		for i, w := range d.working {
			d.rate[i] += weight * (w/dt - d.rate[i])
		}
	} else if !d.since.IsZero() {
		for i := range what { // the clock has not moved: both were taken at once
			what[i] += d.working[i]
		}
	}
	d.since, d.working = now, what
}

// rest notes that the queue was not under pressure.
func (d *drainRate) rest() { d.since = time.Time{} }

// until estimates how long the drainer still needs for what it took last, and how long for so much that is queued. If it has worked on
// what it took for longer than the rate says, it has become slower: then the rate is what it would be if it were done now.
func (d *drainRate) until(now time.Time, what amounts) (rest, need time.Duration) {
	if !d.known {
		return 0, unknownRetry
	}
	rate := d.rate
	if !d.since.IsZero() {
		worked := now.Sub(d.since)
		if rest = longest(d.working, rate) - worked; rest <= 0 && worked > 0 {
			rest = 0
			weight := 1 - math.Exp(-worked.Seconds()/rateMemory.Seconds())
			for i, w := range d.working {
				rate[i] += weight * (w/worked.Seconds() - rate[i])
			}
		}
	}
	return rest, longest(what, rate)
}

// longest is how long so much takes at a rate.
func longest(what, rate amounts) time.Duration {
	out := leastRetry
	for i, w := range what {
		if w <= 0 {
			continue
		}
		if w >= rate[i]*mostRetry.Seconds() {
			return mostRetry
		}
		out = max(out, time.Duration(w/rate[i]*float64(time.Second)))
	}
	return out
}
