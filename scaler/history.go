package scaler

import (
	"math"
	"time"

	"github.com/braid-go/braid/partition"
)

// After a step has failed, the same step on the same object is not tried again for this long, twice as long after each further failure.
const (
	firstBackoff = 5 * time.Second
	maxBackoff   = 5 * time.Minute
)

// A group whose lag grew again after it had lost a consumer needed that consumer. That it is quiet says then
// only that it has what it needs, so each such try doubles its quiet window, so many times at most.
const maxPatience = 4

// History is what Decide must know of the past. The zero value is that of a topic to which nothing has
// happened. It is not safe for concurrent use while it is changed.
type History struct {
	scaled time.Time // the last split or merge
	groups map[string]groupHistory
	failed map[target]failure
	peaks  map[partition.ID]peak
}

// peak is the highest load over the short window. It fades, with a time constant of three long windows.
type peak struct {
	load float64
	at   time.Time
}

func (p peak) now(now time.Time, policy Policy) float64 {
	return p.load * math.Exp(-max(0, now.Sub(p.at).Seconds())/(3*policy.LongWindow.Seconds()))
}

type groupHistory struct {
	consumers int // when last observed
	resized   time.Time
	quiet     time.Time // since when
	shrunk    bool      // when it was last resized
	patience  int       // how many times its quiet window is doubled
}

// target is what a step was about.
type target struct {
	action    Action
	partition partition.ID
	neighbor  partition.ID
	group     string
}

type failure struct {
	times int
	last  time.Time
	err   string
}

func (d Decision) target() target { return target{d.Action, d.Partition, d.Neighbor, d.Group} }

// Observe takes in what was measured at a time: how long groups have been quiet, and the peaks of partitions. What concerns groups and partitions that are gone is forgotten.
func (h *History) Observe(s Snapshot, p Policy, now time.Time) {
	groups := make(map[string]groupHistory, len(s.Groups))
	for _, g := range s.Groups {
		was := h.groups[g.Name]
		was.consumers = g.Consumers
		switch {
		case g.Lag*quietPart >= p.MaxLag:
			was.quiet = time.Time{}
		case was.quiet.IsZero():
			was.quiet = now
		}
		groups[g.Name] = was
	}
	h.groups = groups
	peaks := make(map[partition.ID]peak, len(s.Partitions))
	for _, part := range s.Partitions {
		was := h.peaks[part.ID]
		if load := p.load(part.Load.Short.Records, part.Load.Short.Bytes); part.Load.Age >= p.ShortWindow && load >= was.now(now, p) {
			was = peak{load, now}
		}
		peaks[part.ID] = was
	}
	h.peaks = peaks
	for t := range h.failed {
		_, known := groups[t.group]
		if _, active := peaks[t.partition]; t.action == Resize && !known || t.action != Resize && !active {
			delete(h.failed, t)
		}
	}
}

// Done takes in the outcome of a step that was carried out.
func (h *History) Done(d Decision, err error, now time.Time) {
	if d.Action == None {
		return
	}
	if err != nil {
		f := h.failed[d.target()]
		f.times++
		f.last, f.err = now, err.Error()
		if h.failed == nil {
			h.failed = make(map[target]failure)
		}
		h.failed[d.target()] = f
		return
	}
	delete(h.failed, d.target())
	if d.Action != Resize {
		h.scaled = now
		return
	}
	g := h.groups[d.Group]
	shrunk := d.Consumers < g.consumers
	switch {
	case g.shrunk && shrunk:
		g.patience = 0
	case g.shrunk:
		g.patience = min(g.patience+1, maxPatience)
	}
	g.resized, g.quiet, g.shrunk, g.consumers = now, now, shrunk, d.Consumers
	if h.groups == nil {
		h.groups = make(map[string]groupHistory)
	}
	h.groups[d.Group] = g
}

func (f failure) backoff() time.Duration { return min(firstBackoff<<min(f.times-1, 10), maxBackoff) }

// cooling returns how much of a cooldown is left. A clock that has been set back does not make it longer.
func cooling(since time.Time, cooldown time.Duration, now time.Time) time.Duration {
	if since.IsZero() || now.Before(since) && since.Sub(now) > cooldown {
		return 0
	}
	return max(0, min(cooldown, since.Add(cooldown).Sub(now)))
}
