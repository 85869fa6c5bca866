package main

// groupMutants are those of consumer groups: package group, and what the root makes of it.
var groupMutants = []mutant{
	{
		name: "parents-first-assigned", short: true,
		why:  "records of one key are delivered in order across splits: a child goes to nobody before its parents have been read",
		file: "group/settle.go",
		old: `			return nil, false
		default:
`,
		new: `			return nil, true
		default:
`,
		noticed: []tests{by("group", "TestChildrenWaitForTheirParents")},
	},
	{
		name:    "parents-first-delivered",
		why:     "whoever has a partition and what continues it reads the older one first",
		file:    "source.go",
		old:     `	if s.paused || s.reached() || slices.ContainsFunc(s.parents, func(p *source) bool { return !p.reached() }) {`,
		new:     `	if s.paused || s.reached() {`,
		noticed: []tests{by(".", "TestKeysKeepTheirOrderOverSplitsAndMerges", "TestAReaderThatFollowsGoesOnInTheChildren")},
	},
	{
		name: "ancestors-committed",
		why:  "committing a child's position commits the ends of what it continues in the same batch",
		file: "commit.go",
		old: `	s.ancestors(want)
`,
		new:     ``,
		noticed: []tests{by(".", "TestCommittingARecordCommitsWhatItsPartitionContinues")},
	},
	{
		name:    "child-waits-for-child-to-be-handed-over",
		why:     "a partition does not move while somebody reads what continues it",
		file:    "group/settle.go",
		old:     `		if !ahead(p) {`,
		new:     `		if true {`,
		noticed: []tests{by("group", "TestAParentDoesNotMoveWhileSomebodyReadsItsChild")},
	},
	{
		name: "fence-expected", short: true,
		why:  "a member that has lost its partition cannot commit: its commit expects the position that it took over",
		file: "commit.go",
		old: `		batch.Expect(key, p.rev)
`,
		new:     ``,
		noticed: []tests{by(".", "TestAZombieIsFenced")},
	},
	{
		name: "fence-written",
		why:  "a new owner writes its epoch into the position before it reads it, so that the old one's commits fail",
		file: "rebalance.go",
		old: `		batch.Expect(key, rev)
		batch.Put(key, value)
		p := `,
		new: `		batch.Expect(key, rev)
		p := `,
		noticed: []tests{by(".", "TestATakeOverFencesTheOwnerBefore")},
	},
	{
		name:    "fence-epoch",
		why:     "an owner that comes too late to take over leaves the one behind it alone",
		file:    "rebalance.go",
		old:     `		if pos.Epoch > epoch {`,
		new:     `		if false {`,
		noticed: []tests{by(".", "TestALateTakeOverHarmsNobody")},
	},
	{
		name:    "own-lost-partition",
		why:     "a member that knows that it has lost a partition does not commit in it",
		file:    "commit.go",
		old:     `		if p.gone {`,
		new:     `		if false {`,
		noticed: []tests{by(".", "TestWhatWasHandedOverCannotBeCommitted")},
	},
	{
		name:    "commit-never-back",
		why:     "positions never move backwards",
		file:    "commit.go",
		old:     `		if offset <= p.committed {`,
		new:     `		if offset == p.committed {`,
		noticed: []tests{by(".", "TestCommitNeverGoesBackwards")},
	},
	{
		name:    "not-delivered",
		why:     "only what was delivered can be committed: what a record's fields say does not count",
		file:    "commit.go",
		old:     `	if rec == nil || rec.origin == nil || rec.origin.sub != s {`,
		new:     `	if rec == nil || rec.origin == nil {`,
		noticed: []tests{by(".", "TestCommitUsesOnlyWhereARecordWasDelivered", "TestCommittingWhatWasNotDeliveredChangesNothing")},
	},
	{
		name: "finished-only",
		why:  "what is committed by itself is finished: the records of earlier Polls",
		file: "commit.go",
		old: `			return p.finished
		})`,
		new: `			return p.delivered()
		})`,
		noticed: []tests{by(".", "TestAutoCommitOnCloseCommitsOnlyWhatIsFinished")},
	},
	{
		name: "contiguous-prefix",
		why:  "a position follows the records that are finished without a gap, however many handlers run",
		file: "consumer_commit.go",
		old: `		if !w.done {
			return cl.tasks[:i]
		}
`,
		new: `		if !w.done {
			continue
		}
`,
		noticed: []tests{by(".", "TestThePositionStaysBeforeWhatIsNotFinished")},
	},
	{
		name: "dead-letter-atomic",
		why:  "a dead letter and the position behind its record are one transaction: exactly once, or not at all",
		file: "consumer_commit.go",
		old: `	if err := tx.Offsets(c.sub, last...); err != nil {
		return err
	}
	return tx.Commit(ctx)
`,
		new: `	if err := tx.Commit(ctx); err != nil {
		return err
	}
	tx = c.t.b.Begin()
	if err := tx.Offsets(c.sub, last...); err != nil {
		return err
	}
	return tx.Commit(ctx)
`,
		noticed: []tests{by(".", "TestADeadLetterOfALostPartitionIsNotPublished")},
	},
	{
		name: "moved-within-a-frame",
		why:  "what an earlier Poll delivered is finished, also if it was a piece of a frame",
		file: "source.go",
		old: `		if ok {
			s.moves()
`,
		new: `		if ok {
`,
		noticed: []tests{by(".", "TestAskingForMoreFinishesWhatCameBefore")},
	},
	{
		name:    "reached-looks",
		why:     "when a partition has been read to its end, what continues it is looked at",
		file:    "source.go",
		old:     `			if c.feed != nil {`,
		new:     `			if c.feed == nil && s == nil {`,
		noticed: []tests{by(".", "TestNoPartitionIsForgotten")},
	},
	{
		name:    "gap-at-the-end",
		why:     "a partition that was sealed behind a declared gap is read to its end",
		file:    "source.go",
		old:     `err == nil && !ok && at > s.next {`,
		new:     `err == nil && !ok && at < 0 {`,
		noticed: []tests{by(".", "TestAPartitionThatEndsInAGapIsReadToItsEnd")},
	},
}
