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

// until estimates how long the drainer needs for so much.
func (d *drainRate) until(what amounts) time.Duration {
	if !d.known {
		return unknownRetry
	}
	longest := leastRetry
	for i, w := range what {
		if w <= 0 {
			continue
		}
		if w >= d.rate[i]*mostRetry.Seconds() {
			return mostRetry
		}
		longest = max(longest, time.Duration(w/d.rate[i]*float64(time.Second)))
	}
	return longest
}
