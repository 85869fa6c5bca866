package main

import (
	"fmt"
	"slices"
)

// goal is something that Braid wants to reach in a row.
type goal struct {
	text string
	// met tells whether it is reached; known is false where what it takes has not been measured.
	met func(r *row, rep *report) (met, known bool)
}

// timesBestPeer: n times as good as the best peer.
func timesBestPeer(n float64) goal {
	text := fmt.Sprintf("%g x best peer", n)
	if n == 1 {
		text = "above best peer"
	}
	return goal{text, func(r *row, _ *report) (met, known bool) {
		return r.OverBestPeer >= n, r.OverBestPeer > 0
	}}
}

// timesBestChecking: n times as good as the best peer that compares what it reads with checksums, as Braid does.
func timesBestChecking(n float64) goal {
	return goal{fmt.Sprintf("%g x best peer that checks what it reads", n), func(r *row, rep *report) (met, known bool) {
		best := r.best(func(f *figure) bool {
			return slices.ContainsFunc(rep.Systems, func(s systemInfo) bool { return s.Name == f.Name && s.Checks })
		})
		if best == nil {
			return false, false
		}
		return r.Unit.ratio(r.Braid.Median, best.Median) >= n, true
	}}
}

// ofLimit: this part of the limit.
func ofLimit(part float64) goal {
	return goal{fmt.Sprintf("%.0f %% of limit", 100*part), func(r *row, _ *report) (met, known bool) {
		return r.OfLimit >= part, r.OfLimit > 0
	}}
}

// ofRow: this part of what Braid shows in another row.
func ofRow(part float64, id string) goal {
	return goal{fmt.Sprintf("%.0f %% of %s", 100*part, id), func(r *row, rep *report) (met, known bool) {
		other := rep.row(id)
		if other == nil {
			return false, false
		}
		ratio := r.Unit.ratio(r.Braid.Median, other.Braid.Median)
		return ratio >= part, ratio > 0
	}}
}

// ofLimitOrRow: this part of the lesser of the limit and what Braid shows in another row.
func ofLimitOrRow(part float64, id string) goal {
	return goal{fmt.Sprintf("%.0f %% of limit or %s", 100*part, id), func(r *row, rep *report) (met, known bool) {
		limitMet, limitKnown := ofLimit(part).met(r, rep)
		rowMet, rowKnown := ofRow(part, id).met(r, rep)
		return limitMet || rowMet, limitKnown && rowKnown
	}}
}

// atMost: no more than this, in the row's unit.
func atMost(n float64) goal {
	return goal{fmt.Sprintf("at most %g", n), func(r *row, _ *report) (met, known bool) {
		return r.Braid.Median <= n, r.Braid.Median > 0
	}}
}

// withinLimit: not more than n times as slow as the limit.
func withinLimit(n float64) goal {
	return goal{fmt.Sprintf("within %g x of limit", n), func(r *row, _ *report) (met, known bool) {
		return r.OfLimit >= 1/n, r.OfLimit > 0
	}}
}

// withinRow: not more than n times what Braid shows in another row, of which less is better.
func withinRow(n float64, id string) goal {
	g := ofRow(1/n, id)
	g.text = fmt.Sprintf("within %g x of %s", n, id)
	return g
}

// under: less than this, in the row's unit.
func under(n float64, text string) goal {
	return goal{"under " + text, func(r *row, _ *report) (met, known bool) {
		return r.Braid.Median < n, r.Braid.Median > 0
	}}
}
