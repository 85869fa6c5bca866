package partition

// Large rounds are synced while the next ones are encoded and written. Small ones, and those that go through the journal, do one after the other, which takes less time for one
// alone. (Writing a round's first frames while its next are encoded was tried too: on two processors it gained nothing.)

// worthASync is how much is written before a sync begins while there is more to write: many small syncs take longer than a few that are larger.
const worthASync = 1 << 20

// mostAfloat is how much may be written and wait for the sync that is under way: syncing more at once costs no less for each byte.
const mostAfloat = 4 << 20

// flights are an appender's rounds that are written and not synced. One sync is under way at a time, so that publishers are told in order; rounds that are written
// meanwhile share the next one.
type flights struct {
	written bool       // the round that has just been stored is one
	waiting []*Request // of rounds whose sync has not begun
	bytes   int64      // of these
	landed  chan struct{}
	spare   []*Request
}

func (f *flights) flying() bool { return f.landed != nil }

// depart takes the round that was just written. While there is more to be written it is synced on another goroutine, as soon as that is worth it and the sync under way has
// ended; when there is no more it is synced here.
func (a *appender) depart() {
	a.written = false
	a.waiting = append(a.waiting, a.batch...)
	a.bytes += a.size()
	more := a.ln.queue.Len() > 0
	if a.flying() {
		select {
		case <-a.landed:
			a.landed, more = nil, true // its publishers are on their way back
		default:
			if a.bytes < mostAfloat {
				return
			}
			<-a.landed
			a.landed = nil
		}
	}
	switch {
	case more && a.bytes < worthASync:
	case more:
		a.takeOff()
	default:
		a.land()
	}
}

// cruise waits while a sync is under way and nothing is queued: for more to write, or for the sync's end, and then what waits for the next one takes off.
func (a *appender) cruise() {
	if !a.ln.queue.Park() {
		return
	}
	select {
	case <-a.ln.queue.Wake():
	case <-a.landed:
		a.landed = nil
		if len(a.waiting) > 0 {
			a.takeOff()
		}
	}
}

// takeOff syncs what waits on another goroutine.
func (a *appender) takeOff() {
	batch, landed := a.waiting, make(chan struct{})
	a.waiting, a.spare, a.bytes, a.landed = a.spare[:0], batch, 0, landed
	a.p.cfg.Scheduler.active.Add(1)
	go func() {
		a.p.sync(batch)
		clear(batch)
		a.p.cfg.Scheduler.active.Add(-1)
		close(landed)
	}()
}

// land waits for the sync that is under way, and syncs what waits for one. Nothing is written and not synced then.
func (a *appender) land() {
	if a.flying() {
		<-a.landed
		a.landed = nil
	}
	if len(a.waiting) > 0 {
		a.p.sync(a.waiting)
		clear(a.waiting)
		a.waiting, a.bytes = a.waiting[:0], 0
	}
}

// sync syncs the partition's segment and tells the publishers of what is in it. What an earlier sync has taken along is stored, whatever becomes of this one.
func (p *Partition) sync(batch []*Request) {
	err := unknownIfFailed(p.cfg.Scheduler.commit(p))
	durable := p.log.DurableEnd()
	for _, r := range batch {
		if r.records > 0 && r.base+int64(r.records) <= durable {
			p.resolve(r, nil)
		} else {
			p.resolve(r, err)
		}
	}
}
