package partition

// SetBacklog has the appender hold back, so that no more than n records are stored above the floor: what is queued stays
// queued, and the queue does what its policy says. 0 has it go on for ever. A request is not divided, so the bound may be
// passed by all but one of its records, and transactions are not held back. When the partition is sealed or closed, what is queued is stored all the same.
func (p *Partition) SetBacklog(n int64) {
	p.backlog.Store(n)
	p.nudge()
}

// SetFloor says that the records below an offset are done with.
func (p *Partition) SetFloor(offset int64) {
	p.floor.Store(offset)
	p.nudge()
}

// nudge has an appender that holds back look again.
func (p *Partition) nudge() {
	select {
	case p.nudged <- struct{}{}:
	default:
	}
}

// allowed returns how many records the next round may have, after it has waited, if it has to, until there may be some.
func (a *appender) allowed() int {
	p, held := a.p, false
	for {
		room := p.room()
		if room > 0 || a.ln.queue.Closed() || a.ln.queue.Len() == 0 {
			if held {
				a.hold(false)
			}
			if room <= 0 {
				room = roundRecords
			}
			return int(min(room, roundRecords))
		}
		if !held {
			held = true
			a.hold(true)
		}
		<-p.nudged
	}
}

// room is how many records may be stored until the backlog is full.
func (p *Partition) room() int64 {
	backlog := p.backlog.Load()
	if backlog == 0 {
		return roundRecords
	}
	return backlog - max(0, p.log.End()-p.floor.Load())
}

// hold begins and ends to hold back. Nothing that is stored stays unsynced, or out of the segments, meanwhile.
func (a *appender) hold(on bool) {
	p := a.p
	if on {
		a.settle()
		if !p.pending.none() {
			p.apply()
		}
	}
	a.ln.queue.Hold(on)
	if p.cfg.OnHeld != nil {
		p.cfg.OnHeld(on)
	}
}
