package history

// consumed is who has consumed a record that a group was delivered.
type consumed struct {
	group Group
	place Place
}

// transactions looks at what the transactions have left.
func (c *checker) transactions(g *groups) {
	by := map[consumed]*txn{} // that took effect
	maybe := map[consumed]bool{}
	kinds := map[Group]bool{} // true: a group that consumes in transactions
	for _, t := range c.txnOrder {
		effect := c.whole(t)
		for i := range t.inputs {
			in := consumed{t.inputs[i].Group, t.inputs[i].Place}
			kinds[in.group] = true
			switch before := by[in]; {
			case !effect && len(t.outputs) == 0 && !t.marks && t.outcome != Refused:
				maybe[in] = true // nothing but the position would tell
			case !effect:
			case before != nil:
				c.find(Twice, "%v of group %d was consumed by transaction #%d and by transaction #%d", in.place, in.group, before.begun, t.begun)
			default:
				by[in] = t
			}
		}
	}
	for _, m := range c.commits {
		if m.txn == nil {
			delete(kinds, m.group)
		}
	}
	for _, s := range g.shares() {
		if !kinds[s.group] {
			continue
		}
		p := g.parts[s]
		for i, read := range c.final.Records[s.partition][:p.passed] {
			in := consumed{s.group, Place{s.partition, read.Offset}}
			if p.delivered[i] && by[in] == nil && !maybe[in] {
				c.find(Torn, "group %d is over %v, which no transaction consumed that took effect", s.group, in.place)
			}
		}
	}
}

// whole reports whether a transaction took effect, and finds it Torn if it did so in part only.
func (c *checker) whole(t *txn) bool {
	there, missing := 0, 0
	for _, r := range t.outputs {
		switch {
		case r.stored > 0:
			there++
		case c.absent(r):
			missing++
		}
	}
	mark := c.final.Marks[t.begun]
	if t.outcome == Refused {
		if mark {
			c.find(Torn, "transaction #%d did not happen, and its mark is in the state", t.begun)
		}
		return false // outputs of it would be phantoms
	}
	effect := there > 0 || mark
	if !effect && t.outcome != OK {
		return false
	}
	switch {
	case missing > 0:
		c.find(Torn, "transaction #%d (%s): %d of its %d outputs are missing, its mark in the state: %v", t.begun, t.outcome, missing, len(t.outputs), mark)
	case t.marks && !mark:
		c.find(Torn, "transaction #%d (%s): its mark in the state is missing, %d of its %d outputs are there", t.begun, t.outcome, there, len(t.outputs))
	}
	for _, m := range t.positions {
		if positions, judged := c.final.Positions[m.group]; judged && positions[m.position.Partition] < m.position.Offset {
			c.find(Torn, "transaction #%d (%s): it took group %d to %v, which is at %d in the end", t.begun, t.outcome, m.group, m.position, positions[m.position.Partition])
		}
	}
	return true
}
