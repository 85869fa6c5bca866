package scaler

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/braid-go/braid/internal/sorting"
)

// grow gives the group that is furthest behind another consumer.
func (d *decider) grow() bool {
	for _, g := range d.behind() {
		if g.Lag <= d.p.MaxLag {
			return false
		}
		switch left := cooling(d.h.groups[g.Name].resized, d.p.ConsumerCooldown, d.now); {
		case g.Consumers >= d.p.MaxConsumers:
			d.not("no consumer more for group %q: MaxConsumers %d reached", g.Name, d.p.MaxConsumers)
		case g.Free <= 0:
			d.not("no consumer more for group %q: no partition is free for it", g.Name)
		case left > 0:
			d.not("no consumer more for group %q: cooldown %s left", g.Name, seconds(left))
		default:
			if d.try(Decision{Action: Resize, Group: g.Name, Consumers: g.Consumers + 1},
				"group %q is %s behind, MaxLag is %s: one consumer more", g.Name, seconds(g.Lag), seconds(d.p.MaxLag)) {
				return true
			}
		}
	}
	return false
}

// shrink takes a consumer from a group that has been quiet, or has more than it may.
func (d *decider) shrink() bool {
	for _, g := range d.behind() {
		if g.Consumers <= max(1, g.Min) {
			continue
		}
		past := d.h.groups[g.Name]
		window := d.p.QuietWindow << past.patience
		why := ""
		switch {
		case g.Consumers > d.p.MaxConsumers:
			why = fmt.Sprintf("has %d consumers, MaxConsumers is %d", g.Consumers, d.p.MaxConsumers)
		case past.quiet.IsZero() || g.Lag*quietPart >= d.p.MaxLag:
			continue
		default:
			if left := cooling(past.quiet, window, d.now); left > 0 {
				d.not("no consumer fewer for group %q: quiet for %s of %s", g.Name, seconds(window-left), seconds(window))
				continue
			}
			why = fmt.Sprintf("was quiet for %s", seconds(window))
		}
		if left := cooling(past.resized, d.p.ConsumerCooldown, d.now); left > 0 {
			d.not("no consumer fewer for group %q: cooldown %s left", g.Name, seconds(left))
			continue
		}
		if d.try(Decision{Action: Resize, Group: g.Name, Consumers: g.Consumers - 1}, "group %q %s: one consumer fewer", g.Name, why) {
			return true
		}
	}
	return false
}

// behind returns the groups, those with the most lag first.
func (d *decider) behind() []Group {
	groups := slices.Clone(d.Groups)
	sorting.Func(groups, func(a, b Group) int { return cmp.Or(cmp.Compare(b.Lag, a.Lag), cmp.Compare(a.Name, b.Name)) })
	return groups
}

// seconds writes a duration as people say it.
func seconds(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.0f s", d.Seconds())
}
