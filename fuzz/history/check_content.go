package history

// recognise finds the record that something read or delivered is, at a moment, 0 being the end. It is nil if
// there is no such record, or if what it has become cannot be told.
func (c *checker) recognise(got Record, here Place, how string, at Seq) *record {
	if got.ID == 0 {
		c.find(Changed, "%s at %v: not a value that was published", how, here)
		return nil
	}
	r := c.records[got.ID]
	if r == nil {
		c.find(Phantom, "record %d was %s at %v but never published", got.ID, how, here)
		return nil
	}
	if got != r.Record {
		c.find(Changed, "%s was %s at %v with key %d and digest %x instead of %x", r, how, here, got.Key, got.Sum, r.Sum)
	}
	if r.phantom {
		return r
	}
	r.phantom = true
	switch {
	case r.invoked() == 0:
		c.find(Phantom, "%s was %s at %v, but its transaction was never committed", r, how, here)
	case r.result() == Refused:
		c.find(Phantom, "%s was %s at %v, but had been refused", r, how, here)
	case at != 0 && at < r.invoked():
		c.find(Phantom, "%s was %s at %v, #%d, before its publish was invoked", r, how, here, at)
	default:
		r.phantom = false
	}
	return r
}

// content looks at what was acknowledged and delivered where.
func (c *checker) content() {
	for i := range c.events {
		e := &c.events[i]
		var r *record
		switch e.Kind {
		case Stored:
			r = c.publishes[e.Op]
		case Delivered:
			if r = c.recognise(e.Record, e.Place, "delivered", e.Seq); r != nil {
				r.delivered = true
			}
		default:
			continue
		}
		if r == nil || r.txn == nil && e.Seq < c.forgiven {
			continue
		}
		c.place(r, e)
	}
	last := len(c.openings)
	for _, p := range c.parts {
		for _, read := range c.final.Records[p] {
			here := Place{p, read.Offset}
			if r := c.at[here].rec; r != nil {
				c.hold(r, here, last, "the final reading")
			}
		}
	}
}

// place notes where a record was.
func (c *checker) place(r *record, e *Event) {
	switch {
	case r.stored > 1: // a Duplicate
	case r.homed && r.home != e.Place:
		c.find(Moved, "%s: %s at %v (#%d), but is or was at %v", r, e.Kind, e.Place, e.Seq, r.home)
	default:
		r.home, r.homed = e.Place, true
		c.hold(r, e.Place, c.opening(e.Seq), e.Kind.String())
	}
}

// hold notes that a record is in a place.
func (c *checker) hold(r *record, here Place, opening int, how string) {
	before, taken := c.held[here]
	c.held[here] = holder{r, opening}
	if !taken || before.rec == r || before.rec.home != here {
		return
	}
	kind := SharedOffset
	if before.opening != opening {
		kind = ReusedOffset
	}
	c.find(kind, "%v holds %s (%s), and held %s", here, r, how, before.rec)
}

// missing finds what should be stored and is not.
func (c *checker) missing() {
	for _, r := range c.inOrder {
		if !c.absent(r) {
			continue
		}
		switch {
		case r.txn == nil && r.end() < c.forgiven && r.end() != 0: // may be
		case r.acked && r.txn == nil:
			c.find(Lost, "%s was acknowledged at %v and is not there", r, r.home)
		case r.delivered && !r.acked && !r.phantom:
			c.find(Vanished, "%s was delivered at %v and is not there", r, r.home)
		}
	}
}

// absent reports whether a record is neither stored nor has anything taken the place in which it was.
func (c *checker) absent(r *record) bool {
	if r.stored > 0 {
		return false
	}
	_, taken := c.at[r.home]
	return !r.homed || !taken
}

// order looks at the order of what is stored.
func (c *checker) order() {
	type producer struct {
		client uint32
		key    uint64
	}
	latest := map[producer]*record{} // that a client has invoked for a key, in the order of storage
	for _, p := range c.parts {
		for _, read := range c.final.Records[p] {
			r := c.at[Place{p, read.Offset}].rec
			if r == nil || r.Key == 0 || r.stored > 1 {
				continue
			}
			who := producer{r.client, r.Key}
			if before := latest[who]; before != nil && r.invokedBefore(before) {
				c.find(Reordered, "%s is stored at %v, behind %s at %v, which the same client invoked later", r, r.home, before, before.home)
				continue
			}
			latest[who] = r
		}
	}
	c.realTime()
}

// invokedBefore compares two records of one client.
func (r *record) invokedBefore(o *record) bool {
	if r.invoked() != o.invoked() {
		return r.invoked() < o.invoked()
	}
	return r.published < o.published
}

// realTime goes through the storage from behind and minds, for each key and for each partition, which publish behind had
// ended first.
func (c *checker) realTime() {
	keys := map[uint64]*record{}
	earlier := func(r, o *record) *record {
		if r.end() != 0 && (o == nil || r.end() < o.end()) {
			return r
		}
		return o
	}
	for i := len(c.parts) - 1; i >= 0; i-- {
		p := c.parts[i]
		reads := c.final.Records[p]
		var first *record
		for j := len(reads) - 1; j >= 0; j-- {
			r := c.at[Place{p, reads[j].Offset}].rec
			if r == nil || r.stored > 1 || r.invoked() == 0 {
				continue
			}
			same := keys[r.Key]
			switch {
			case r.Key != 0 && same != nil && same.end() < r.invoked():
				if same.client != r.client { // otherwise the order of invocation says it
					c.find(Reordered, "%s is stored at %v, before %s at %v, which had ended before", r, r.home, same, same.home)
				}
			case first != nil && first.end() < r.invoked() && (r.Key == 0 || first.Key != r.Key):
				c.find(Regression, "%s is stored at %v, before %s at %v, which had ended before", r, r.home, first, first.home)
			}
			keys[r.Key], first = earlier(r, same), earlier(r, first)
		}
	}
}
