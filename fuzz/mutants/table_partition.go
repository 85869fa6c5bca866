package main

import "time"

// partitionMutants are those of the way from a publisher to the disk: packages backpressure and partition.
var partitionMutants = []mutant{
	{
		name: "accepted-counter", short: true,
		why:  "every record is accounted for: accepted = stored + dropped + unknown + pending",
		file: "partition/partition.go",
		old: `	p.accepted.Add(int64(r.records))
	for {`,
		new:     `	for {`,
		noticed: []tests{by("partition", "TestAccountingIsExactWhenAllIsQuiet")},
	},
	{
		name:    "refused-counter",
		why:     "what is refused was not accepted, once, whoever refuses it",
		file:    "partition/partition.go",
		old:     `	p.accepted.Add(-int64(records))`,
		new:     ``,
		noticed: []tests{by("partition", "TestAccountingIsExactWhenAllIsQuiet")},
	},
	{
		name:    "dropped-counter",
		why:     "what is dropped is counted as dropped",
		file:    "partition/appender.go",
		old:     `		p.dropped.Add(int64(r.records))`,
		new:     ``,
		noticed: []tests{by(".", "TestDropOldestDropsTheFewestAndTellsTheirPublishers")},
	},
	{
		name: "dropped-told", short: true,
		why:     "whose record is dropped is told",
		file:    "backpressure/strategy.go",
		old:     `	q.owner.Dropped(e.value)`,
		new:     ``,
		noticed: []tests{by("backpressure", "TestDropOldestDropsTheFewestThatMakeRoom")},
	},
	{
		name: "dropped-released",
		why:  "what is dropped makes room, no less and no more than it took",
		file: "backpressure/strategy.go",
		old: `	q.gauge.release(e.weight)
	q.owner.Dropped`,
		new:     `	q.owner.Dropped`,
		noticed: []tests{by("backpressure", "TestDropOldestDropsTheFewestThatMakeRoom").endsIn(5 * time.Second)},
	},
	{
		name: "gauge-exact",
		why:  "a queue never holds more than its limits, however many put at once",
		file: "backpressure/gauge.go",
		old: `		if g.word.CompareAndSwap(cur, cur+uint64(w)) {
			return held + w, true
		}
`,
		new: `		g.word.Add(uint64(w))
		return held + w, true
`,
		noticed: []tests{by("backpressure", "TestGaugeNeverAdmitsTwoWhereOneFits", "TestDepthNeverPassesTheLimits")},
	},
	{
		name: "ring-closed-bit",
		why:  "what is put after Close is refused, not lost",
		file: "backpressure/ring.go",
		old: `		if pos&closedBit != 0 {
			return Closed
		}
`,
		new: `		pos &^= closedBit
`,
		noticed: []tests{by("backpressure", "TestRingCloseLetsNoLaterPushClaim").endsIn(5 * time.Second)},
	},
	{
		name:    "divided-weight",
		why:     "each part of a call weighs what its records weigh: the queue's limits and the room that is made sure of go by that",
		file:    "publish.go",
		old:     `		c.shares[to].bytes += int64(n)`,
		new:     `		c.shares[to].bytes = int64(n)`,
		noticed: []tests{by(".", "TestACallIsDividedByKeysInOrder")},
	},
	{
		name:    "divided-order",
		why:     "of a call of which some records are not stored, the error says which of the caller's they are",
		file:    "publish.go",
		old:     `c.recs[*at], c.order[*at] = c.recs[n+i], int32(i)`,
		new:     `c.recs[*at], c.order[*at] = c.recs[n+i], *at`,
		noticed: []tests{by(".", "TestACallIsDividedByKeysInOrder")},
	},
	{
		name: "runner-alone",
		why:  "a goroutine that runs callbacks belongs to one partition until it is done with it",
		file: "partition/callbacks.go",
		old: `		r.idle = r.idle[:n-1]
`,
		new:     ``,
		noticed: []tests{by("partition", "TestCallbacksOfOnePartitionHoldUpNoOther").endsIn(3 * time.Second)},
	},
	{
		name:    "ring-grown-bound",
		why:     "a queue that has gone on in a larger ring counts what is left in the smaller one",
		file:    "backpressure/chain.go",
		old:     `		if c.fast.Load() != l && !l.closed() && c.Len() >= c.max {`,
		new:     `		if false {`,
		noticed: []tests{by("backpressure", "TestAChainNeverHoldsMoreThanItsSlots")},
	},
	{
		name: "ring-grown-open",
		why:  "a queue that goes on in a larger ring is not taken for closed",
		file: "backpressure/chain.go",
		old: `		if l.next.Load() == nil {
			return true
		}
	}
}

// Len`,
		new: `		return true
	}
}

// Len`,
		noticed: []tests{by("backpressure", "TestAChainThatGrowsIsNotTakenForClosed").endsIn(30 * time.Second)},
	},
	{
		name:    "ring-grown-order",
		why:     "what is in the smaller ring comes out before what is in the larger one, all of it",
		file:    "backpressure/chain.go",
		old:     `		if next == nil || !l.Drained() {`,
		new:     `		if next == nil {`,
		noticed: []tests{by("backpressure", "TestAChainDoesNotPassByWhatIsBeingStored")},
	},
	{
		name: "ring-grown-serialised",
		why:  "pushers go to the larger ring unserialised only when the smaller one is empty",
		file: "backpressure/chain.go",
		old: `		c.newest.Store(next)
`,
		new: `		c.newest.Store(next)
		c.fast.Store(next)
`,
		noticed: []tests{by("backpressure", "TestAChainNeverHoldsMoreThanItsSlots")},
	},
	{
		name: "withdraw-swap", short: true,
		why:     "a cancelled publisher that is told that its record is not stored is told the truth",
		file:    "partition/appender.go",
		old:     `		if r.state.CompareAndSwap(stateQueued, stateEncoding) || r.state.Load() > stateWithdrawn {`,
		new:     `		if r.state.Store(max(stateEncoding, r.state.Load())); true {`,
		noticed: []tests{by("partition", "TestAWithdrawnRequestDoesNotGoIntoTheJournal", "TestAWithdrawalIsCountedOnceWhenThePartitionFails")},
	},
	{
		name:    "withdraw-only-queued",
		why:     "a publisher that is cancelled when its record is being encoded is not told that it is not stored",
		file:    "partition/request.go",
		old:     `	if r.state.CompareAndSwap(stateQueued, stateWithdrawn) {`,
		new:     `	if r.state.Swap(stateWithdrawn) < stateDone {`,
		noticed: []tests{by(".", "TestACanceledPublishSaysWhatIsTrue")},
	},
	{
		name: "journal-lost",
		why:  "when the commit log fails under a frame, nothing else may ever have its offsets",
		file: "partition/pending.go",
		old: `	p.log.Fail(err)
	p.pending.forget()
`,
		new: `	p.pending.forget()
`,
		noticed: []tests{by("partition", "TestAJournalThatFailsUnderARoundFailsThePartitionAndNoOther")},
	},
	{
		name: "journal-announced-early",
		why:  "what travels through the commit log is visible when that is synced, and not before",
		file: "partition/appender.go",
		old: `	a.parcel = p.send(a.builder)
	return append(dst, checkpoint.Frames{Owner: uint64(p.ID()), Data: data}), nil
`,
		new: `	p.arrived(p.send(a.builder))
	return append(dst, checkpoint.Frames{Owner: uint64(p.ID()), Data: data}), nil
`,
		noticed: []tests{by("partition", "TestWhatTravelsThroughTheJournalIsNotVisible")},
	},
	{
		name: "one-path-at-a-time",
		why:  "a frame is not written behind one that is still on its way through the commit log",
		file: "partition/appender.go",
		old: `	if p.pending.traveling() {
		return nil, true
	}
	a.reduced = reduced
`,
		new: `	a.reduced = reduced
`,
		noticed: []tests{by("partition", "TestADirectRoundDoesNotPassAFrameThatTravelsThroughTheJournal")},
	},
	{
		name:    "large-rounds-synced",
		why:     "publishers of a large round are told after the sync that goes on beside the next one",
		file:    "partition/overlap.go",
		old:     `	err := unknownIfFailed(p.cfg.Scheduler.commit(p))`,
		new:     `	var err error`,
		noticed: []tests{by("partition", "TestAFailedSyncIsTheLastOneAlsoForWhatWasWrittenMeanwhile")},
	},
	{
		name:    "unsynced-before-logged",
		why:     "the commit log takes a frame only when everything before it is durable, or in there too",
		file:    "partition/pending.go",
		old:     `	case p.pending.settled() && p.log.DurableEnd() < p.log.AssignedEnd():`,
		new:     `	case false:`,
		noticed: []tests{by("partition", "TestATransactionHasWhatComesBeforeItMadeDurable")},
	},
	{
		name: "settle-syncs",
		why:  "before the commit log lets frames go they are synced in their segments",
		file: "partition/scheduler.go",
		old: `		if err := p.log.Sync(); err != nil {
			s.carries(p)`,
		new: `		if err := p.log.Err(); err != nil {
			s.carries(p)`,
		noticed: []tests{by("partition", "TestAPartitionThatCannotBeSyncedKeepsItsFramesInTheJournal")},
	},
	{
		name: "seal-settles",
		why:  "a partition that is sealed is in its segments, durably, up to the end that its children begin behind",
		file: "partition/seal.go",
		old: `	if err := p.settle(); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrFailed, err)
	}
`,
		new: `	if p == nil {
		return 0, fmt.Errorf("%w: %w", ErrFailed, p.settle())
	}
`,
		noticed: []tests{by("partition", "TestASealComesBehindAllThatWasAccepted")},
	},
	{
		name: "seal-drains",
		why:  "what was accepted before a partition is sealed is stored in it",
		file: "partition/seal.go",
		old: `	if err := p.drained(ctx, last); err != nil {
		p.setMoving(false)
		return 0, err
	}
`,
		new:     ``,
		noticed: []tests{by("partition", "TestASealComesBehindAllThatWasAccepted")},
	},
	{
		name: "seal-waits-for-transactions", short: true,
		why:  "a split waits for transactions that have their offsets in the partition already",
		file: "partition/seal.go",
		old: `	p.pending.wait()
	if err := p.settle(); err != nil {`,
		new:     `	if err := p.settle(); err != nil {`,
		noticed: []tests{by("partition", "TestASealWaitsForATransactionThatHasItsOffsets")},
	},
	{
		name: "seal-bars-transactions",
		why:  "a transaction that comes behind a seal goes to the partitions that have the range now",
		file: "partition/pending.go",
		old: `	case p.sealed:
		return ErrSealed
`,
		new:     ``,
		noticed: []tests{by("partition", "TestATransactionThatMeetsASealIsRefused")},
	},
	{
		name:    "reduced-synced-soon",
		why:     "what was acknowledged before its sync is synced soon, also when nothing follows",
		file:    "partition/appender.go",
		old:     `	_ = a.p.log.Sync() // a failure`,
		new:     `	_ = a.p.log.Err() // a failure`,
		noticed: []tests{by("partition", "TestAReducedAcknowledgementIsFollowedByASyncSoon")},
	},
	{
		name: "transaction-whole",
		why:  "either all outputs of a transaction get their offsets, or none",
		file: "partition/transact.go",
		old: `	for _, o := range c {
		o.Partition.load.Observe(o.Partition.cfg.Now(), o.Records, o.Bytes, o)
		o.parcel`,
		new: `	for _, o := range c[:1] {
		o.Partition.load.Observe(o.Partition.cfg.Now(), o.Records, o.Bytes, o)
		o.parcel`,
		noticed: []tests{by("partition", "TestATransactionHappensWhollyOrNotAtAll")},
	},
	{
		name: "submit-passes-nothing", short: true,
		why:     "a publisher that does a round itself passes nothing that is queued",
		file:    "partition/submit.go",
		old:     `		if ln.queue.Len() == 0 && !ln.queue.Closed() {`,
		new:     `		if !ln.queue.Closed() {`,
		noticed: []tests{by("partition", "TestAPublisherPassesNothingThatIsQueued")},
	},
	{
		name:    "submit-closed",
		why:     "a publisher does no round in a partition that is closed, or sealed",
		file:    "partition/submit.go",
		old:     `		if ln.queue.Len() == 0 && !ln.queue.Closed() {`,
		new:     `		if ln.queue.Len() == 0 {`,
		noticed: []tests{by("partition", "TestAPublisherPassesNothingThatIsQueued")},
	},
	{
		name:    "submit-cancelable",
		why:     "whose context can end does not wait for the disk",
		file:    "partition/submit.go",
		old:     `	if ctx.Done() != nil || r.bytes`,
		new:     `	if r.bytes`,
		noticed: []tests{by("partition", "TestAPublisherDoesTheRoundItselfWhileTheAppenderRests")},
	},
	{
		name: "submit-lands",
		why:  "what a publisher has written itself is synced before it gives the appender back",
		file: "partition/submit.go",
		old: `	a.land()
`,
		new:     ``,
		noticed: []tests{by("partition", "TestALargeRoundOfAPublisherIsSyncedBeforeItGoesOn")},
	},
	{
		name:    "submit-applied-soon",
		why:     "what a publisher has brought to the commit log itself reaches the segment soon",
		file:    "partition/submit.go",
		old:     `	if !a.soon && !a.p.pending.none() {`,
		new:     `	if a.soon {`,
		noticed: []tests{by("partition", "TestWhatAPublisherHasBroughtToTheJournalReachesTheSegmentSoon")},
	},
	{
		name:    "ahead-bounded",
		why:     "what all publishers together encode ahead is bounded",
		file:    "partition/ahead.go",
		old:     `	if r.part.cfg.Scheduler.ahead.Add(r.bytes) > mostAhead {`,
		new:     `	if r.part.cfg.Scheduler.ahead.Add(r.bytes) < 0 {`,
		noticed: []tests{by("partition", "TestWhatIsEncodedAheadIsBoundedForAllPartitionsTogether")},
	},
	{
		name:    "flying-joins",
		why:     "what is little and comes while its partition is being synced joins the next sync, and does not wait for this one to go another way",
		file:    "partition/scheduler.go",
		old:     ` || flying || (*j).Crowded():`,
		new:     ` || (*j).Crowded():`,
		noticed: []tests{by("partition", "TestALesserRoundIsWrittenWhileASyncIsUnderWayToo")},
	},
}
