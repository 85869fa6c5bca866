package model

import "fmt"

// burstAndCrash has the process die, or the power fail, in the middle of a burst.
func burstAndCrash(w *world, c command) error {
	b, err := w.newBurst(c)
	if err != nil {
		return err
	}
	rng := c.random()
	power := rng.IntN(3) > 0 && w.disk.Durable()
	w.disk.Arm(1+rng.IntN(4+6*c.n), power)
	b.run(c)
	if b.err != nil {
		w.note("  %v", b.err)
	}
	acked := w.disk.Crash(power)
	w.note("  power %v, %d of %d acknowledged before, %d records tried", power, acked, len(b.acked), len(b.tried))
	if err := w.revive(); err != nil {
		return err
	}
	if err := b.judge(acked); err != nil {
		return err
	}
	count := w.s.total.add
	for _, a := range b.tried {
		if a.at != nil {
			count("in a crash, records kept", 1)
		} else {
			count("in a crash, records not kept", 1)
		}
	}
	count("in a crash, acknowledged before", acked)
	count("in a crash, acknowledged after", len(b.acked)-acked)
	switch {
	case b.err == nil:
		count("crashes behind a burst", 1)
	case power:
		count("power cuts in a burst", 1)
	default:
		count("kills in a burst", 1)
	}
	return nil
}

// kill has the process die when nothing is under way.
func kill(w *world, _ command) error {
	w.disk.Crash(false)
	return w.revive()
}

// cutPower has the power fail when nothing is under way; where too little was promised for that, the process is killed.
func cutPower(w *world, _ command) error {
	w.disk.Crash(w.disk.Durable())
	return w.revive()
}

// revive opens the broker after a crash. That is no damage, and nothing may be reported as such.
func (w *world) revive() error {
	if err := w.open(); err != nil {
		return err
	}
	for _, p := range w.b.OpenReport().Partitions {
		if len(p.Problems) > 0 || p.GapFrom != p.GapNext {
			return fmt.Errorf("after a crash this is reported: %+v", p)
		}
	}
	for _, t := range w.topics {
		for _, p := range t.parts {
			p.gaps = true
		}
	}
	return nil
}
