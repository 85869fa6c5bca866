package main

// brokerMutants are those of the broker as a whole.
var brokerMutants = []mutant{
	{
		name: "read-set", short: true,
		why:     "no update is lost: a transaction that read a key which has changed is refused",
		file:    "txn.go",
		old:     `		if v.read {`,
		new:     `		if false {`,
		noticed: []tests{by(".", "TestNoUpdateIsLostWhenManyAddToOneCounter")},
	},
	{
		name: "offsets-in-transaction",
		why:  "the positions of a transaction are committed with its outputs and state, in one step",
		file: "txn.go",
		old: `	release, err := tx.stageOffsets(batch)
`,
		new: `	release, err := tx.stageOffsets(&checkpoint.Batch{})
`,
		noticed: []tests{by(".", "TestATransactionMakesOutputsPositionsAndStateDurableAtOnce")},
	},
	{
		name: "split-commit", short: true,
		why:  "a layout changes in one durable step",
		file: "relayout.go",
		old: `	rev, err := b.store.Commit(ctx, &batch)
	return rev, storeError(err)
`,
		new: `	return was + 1, nil
`,
		noticed: []tests{by(".", "TestACrashAtAnyStepOfASplitOrAMergeLeavesALayout")},
	},
	{
		name: "split-counters",
		why:  "the ids of new partitions are given out once: the counter is part of the step that changes the layout",
		file: "relayout.go",
		old: `	if err := putJSON(&batch, countersKey(), b.counters); err != nil {
		return 0, err
	}
	for _, p := range made {`,
		new:     `	for _, p := range made {`,
		noticed: []tests{by(".", "TestACrashAtAnyStepOfASplitOrAMergeLeavesALayout")},
	},
	{
		name: "split-unknown",
		why:  "if nobody knows whether the layout has changed, the partitions take nothing until the broker is opened again",
		file: "relayout.go",
		old: `	if errors.Is(err, ErrOutcomeUnknown) {
		err = fmt.Errorf("%w: %w: the change of the layout of %s", ErrPartitionFailed, err, t.name)
		t.stuck.Store(&err)
		return err
	}
`,
		new:     ``,
		noticed: []tests{by(".", "TestAChangeOfTheLayoutWhoseOutcomeIsUnknownFailsClosed")},
	},
	{
		name: "split-unseal",
		why:  "what was sealed for a change that fails takes records again",
		file: "relayout.go",
		old: `	if err != nil {
		unseal()
		return err
	}
	t.setPartitions(layout, rev`,
		new: `	if err != nil {
		return err
	}
	t.setPartitions(layout, rev`,
		noticed: []tests{by(".", "TestAChangeOfTheLayoutForWhichThereIsNoRoomIsTakenBack")},
	},
	{
		name: "tombstones", short: true,
		why:  "a deletion that is cut is finished by the next opening, which knows what was deleted on purpose",
		file: "topic.go",
		old: `		batch.Put(tombstoneKey(p.id), []byte{})
`,
		new:     ``,
		noticed: []tests{by(".", "TestADeletionThatWasCutIsFinishedByTheNextOpen")},
	},
	{
		name: "tombstones-outlive-directories",
		why:  "a tombstone goes only when the directory that it names is durably gone",
		file: "topic.go",
		old: `	if err == nil {
		err = b.opts.fs.SyncDir(filepath.Join(b.dir, partitionsName))
	}
	if err == nil {
		ids :=`,
		new: `	if err == nil {
		ids :=`,
		noticed: []tests{by(".", "TestADeletedTopicDoesNotComeBackWhenThePowerFails")},
	},
	{
		name:    "logged-frames-handed-over",
		why:     "a partition is opened with the frames that the commit log holds of it",
		file:    "open.go",
		old:     `, Logged: store.Frames(uint64(info.ID))}`,
		new:     `}`,
		noticed: []tests{by(".", "TestPowerFailsAfterAKill")},
	},
	{
		name: "redo-before-building",
		why:  "what a partition is opened with is durable in its segments before the commit log lets it go",
		file: "open.go",
		old:  `			tombstones, err = b.redo(v)`,
		new: `			defer func() { err = nil }()
			tombstones, err = b.redo(v)`,
		noticed: []tests{by(".", "TestAnUnknownPartitionIsSetAsideOrEvidence")},
	},
	{
		name:    "committed-offsets-kept",
		why:     "in the weaker durabilities no offset that a group has committed is given out again",
		file:    "open.go",
		old:     `log.Proof{MinNext: max(st.committed[info.ID], info.End), `,
		new:     `log.Proof{MinNext: info.End, `,
		noticed: []tests{by(".", "TestOffsetsThatAGroupHasCommittedAreNotGivenOutAgain")},
	},
	{
		name:    "store-rolled-back",
		why:     "a record that proves more of the store than there is means that the store is an old copy",
		file:    "open.go",
		old:     `		if err == nil && !b.report.WriterLive && j.opened.log.ProvenSequence() > store.Sequence() {`,
		new:     `		if false {`,
		noticed: []tests{by(".", "TestAnOlderCopyOfTheStoreIsNoticed")},
	},
	{
		name:    "unknown-partition",
		why:     "a directory with records that no topic knows is evidence of lost commits, and not a leftover",
		file:    "open.go",
		old:     `	if !empty {`,
		new:     `	if !empty && false {`,
		noticed: []tests{by(".", "TestAnUnknownPartitionIsSetAsideOrEvidence")},
	},
	{
		name:    "partitions-directory-sync",
		why:     "the directory of the partitions is there under its name before a topic is",
		file:    "open.go",
		old:     `	return b.opts.fs.SyncDir(b.dir)`,
		new:     `	return nil`,
		noticed: []tests{by(".", "TestPowerCutsOfAWholeBroker")},
	},
	{
		name:    "format-missing",
		why:     "a directory that has lost its FORMAT is no fresh one",
		file:    "format.go",
		old:     `name != lockName && name`,
		new:     `false && name != lockName && name`,
		noticed: []tests{by(".", "TestOpenOfWhatCannotBeADataDirectory")},
	},
	{
		name:    "store-missing",
		why:     "a broker that was whole and has no store has lost it: no group begins anew",
		file:    "open.go",
		old:     `		ID: f.id, Create: !f.ready, Settle`,
		new:     `		ID: f.id, Create: true, Settle`,
		noticed: []tests{by(".", "TestADamagedOrMissingStoreIsReportedAndNoGroupBeginsAnew")},
	},
	{
		name: "locked",
		why:  "one process at a time writes a directory",
		file: "format.go",
		old: `	ok, err := l.TryLockContext(ctx, lockRetry)
`,
		new: `	_, err := l.TryLockContext(ctx, lockRetry)
	ok := true
`,
		noticed: []tests{by(".", "TestASecondOpenerIsLockedOutAndWritesNothing")},
	},
	{
		name:    "settle-handed-over",
		why:     "the commit log asks the segments before it drops a generation",
		file:    "open.go",
		old:     `Create: !f.ready, Settle: b.sched.Settle,`,
		new:     `Create: !f.ready, Settle: func() []uint64 { return nil },`,
		noticed: []tests{by(".", "TestTheCommitLogLetsNoRecordGoThatIsNotDurable")},
	},
}
