package main

import "time"

// storeMutants are those of the commit log: package checkpoint.
var storeMutants = []mutant{
	{
		name: "commit-log-sync", short: true,
		why:  "a commit that is answered is on disk",
		file: "checkpoint/round.go",
		old: `	if err := w.opts.sync(w.gen.file.Datasync); err != nil {
		return fmt.Errorf("sync generation %d: %w", w.gen.number, err)
	}
`,
		new:     ``,
		noticed: []tests{by("checkpoint", "TestEveryCommitIsSyncedOnce")},
	},
	{
		name: "commit-visible-before-durable",
		why:  "nobody reads a commit that a crash could take back",
		file: "checkpoint/round.go",
		old:  `	if err := w.write(entry); err != nil {`,
		new: `	w.visible.Store(w.work.freeze())
	if err := w.write(entry); err != nil {`,
		noticed: []tests{by("checkpoint", "TestACommitIsVisibleAndAnsweredOnlyOnceItIsSynced").endsIn(5 * time.Second)},
	},
	{
		name: "commit-log-checksum", short: true,
		why:     "the engine below has no checksums: an entry has",
		file:    "checkpoint/entry.go",
		old:     `got != want {`,
		new:     `got != want && false {`,
		noticed: []tests{by("checkpoint", "TestEveryFlippedBitIsNoticed")},
	},
	{
		name:    "commit-log-salt",
		why:     "an entry of another store or generation is none here, wherever its bytes come from",
		file:    "checkpoint/entry.go",
		old:     `	d := xxhash.NewWithSeed(salt)`,
		new:     `	d := xxhash.NewWithSeed(0 * salt)`,
		noticed: []tests{by("checkpoint", "TestAGenerationOfAnotherStoreIsNotTakenForOnesOwn")},
	},
	{
		name: "commit-log-poison",
		why:  "after a write that failed there is no second content for one sequence: the store takes no more",
		file: "checkpoint/round.go",
		old: `		w.fail(err)
		w.work = *w.visible.Load()
`,
		new: `		w.work = *w.visible.Load()
`,
		noticed: []tests{by("checkpoint", "TestCommittingAndChangingGenerationsCanEndAtAnyStep")},
	},
	{
		name:    "commit-outcome-unknown",
		why:     "whose commit was under way when the disk failed is told that nobody knows, not that it has not happened",
		file:    "checkpoint/round.go",
		old:     `	r.rev, r.err = 0, fmt.Errorf("%w: %w", ErrOutcomeUnknown, cause)`,
		new:     `	r.rev, r.err = 0, w.failure()`,
		noticed: []tests{by("checkpoint", "TestAFailureAnswersEverybodyOnce", "TestAFailedWriteLeavesTheOutcomeOfFramesUnknown")},
	},
	{
		name: "expectations", short: true,
		why:     "a batch happens only if what it was built upon has not changed: fencing and lost updates rest on it",
		file:    "checkpoint/state.go",
		old:     `		if actual != o.rev {`,
		new:     `		if false && actual != o.rev {`,
		noticed: []tests{by("checkpoint", "TestMemoryConforms", "TestWALConforms")},
	},
	{
		name: "synced-through", short: true,
		why:     "an entry proves that what comes before it was durable: damage there is damage, and no torn tail",
		file:    "checkpoint/recover.go",
		old:     `		r.proven = max(r.proven, g.proven())`,
		new:     `		r.proven = max(r.proven, 0*g.proven())`,
		noticed: []tests{by("checkpoint", "TestDamageIsReportedWithItsPlace", "TestEveryFlippedBitIsNoticed")},
	},
	{
		name: "clean-close-proves",
		why:  "after a clean close nothing is taken for a torn tail",
		file: "checkpoint/change.go",
		old: `			w.durable.Store(w.work.seq)
			err = w.list(w.listed())
`,
		new:     ``,
		noticed: []tests{by("checkpoint", "TestAfterACleanCloseNothingIsTakenForATornTail")},
	},
	{
		name: "frames-prove-the-store",
		why:  "a store that ends below what somebody can prove has been rolled back",
		file: "checkpoint/open.go",
		old:  `	if w.opts.ProvenSequence > seq {`,
		new: `	if false {
		seq := seq`,
		noticed: []tests{by("checkpoint", "TestMissingAndForeignStores").endsIn(5 * time.Second)},
	},
	{
		name:    "store-identity",
		why:     "the store of another broker is not taken for this one's",
		file:    "checkpoint/current.go",
		old:     `	case c.id != id:`,
		new:     `	case false:`,
		noticed: []tests{by("checkpoint", "TestMissingAndForeignStores")},
	},
	{
		name:    "unlisted-generation",
		why:     "a generation that holds commits and is not listed means that CURRENT is an old copy",
		file:    "checkpoint/open.go",
		old:     `			if len(e.commits)+len(e.frames) > 0 {`,
		new:     `			if len(e.commits) < 0 {`,
		noticed: []tests{by("checkpoint", "TestAnOldCopyOfCURRENTIsNoticed", "TestAnUnlistedGenerationThatHoldsFramesIsEvidence")},
	},
	{
		name:    "snapshot-whole",
		why:     "a snapshot that lacks keys is not taken for the whole state",
		file:    "checkpoint/recover.go",
		old:     `			if uint64(s.keys.n) != ch.total {`,
		new:     `			if false {`,
		noticed: []tests{by("checkpoint", "TestASnapshotThatLacksKeysIsNotTakenForWhole")},
	},
	{
		name: "torn-commits-kept",
		why:  "nothing is deleted: what opening cuts off the commit log is kept",
		file: "checkpoint/open.go",
		old:  `		if err := write(); err != nil {`,
		new: `		if write == nil {
			var err error`,
		noticed: []tests{by("checkpoint", "TestATornTailAtAnyByteLeavesWhatWasWholeBeforeIt")},
	},
	{
		name: "snapshot-sync",
		why:  "the state that opening writes anew is on disk before CURRENT names it and the old one goes",
		file: "checkpoint/open.go",
		old: `	if err := w.opts.sync(g.file.Sync); err != nil {
		return err
	}
`,
		new:     ``,
		noticed: []tests{by("checkpoint", "TestEveryCommitIsSyncedOnce")},
	},
	{
		name: "generation-sync",
		why:  "a new generation's file is on disk before CURRENT names it",
		file: "checkpoint/generation.go",
		old: `	if err := g.opts.sync(g.file.Sync); err != nil {
		return err
	}
`,
		new:     ``,
		noticed: []tests{by("checkpoint", "TestEveryCommitIsSyncedOnce")},
	},
	{
		name:    "generation-directory-sync",
		why:     "a new generation is there under its name before CURRENT says so",
		file:    "checkpoint/generation.go",
		old:     `	for _, d := range []string{sub, dir} {`,
		new:     `	for _, d := range []string{sub, dir}[:0] {`,
		noticed: []tests{by("checkpoint", "TestEveryCommitIsSyncedOnce")},
	},
	{
		name: "store-directory-sync",
		why:  "the directory of a new store is there under its name before commits are answered",
		file: "checkpoint/open.go",
		old: `	if err := w.opts.sync(func() error { return vfs.OS.SyncDir(filepath.Dir(w.dir)) }); err != nil {
		return err
	}
`,
		new:     ``,
		noticed: []tests{by("checkpoint", "TestEveryCommitIsSyncedOnce")},
	},
	{
		name: "last-mark-sync",
		why:  "the entries of a generation follow the last one of the generation before, so that is on disk first",
		file: "checkpoint/change.go",
		old: `	if err := w.opts.sync(w.gen.file.Datasync); err != nil {
		w.fail(errors.Join(err, next.close()))
		return
	}
`,
		new:     ``,
		noticed: []tests{by("checkpoint", "TestAGenerationFollowsTheLastMarkOfTheOneBefore")},
	},
	{
		name:    "settled-before-dropped",
		why:     "a generation goes only when the frames that it carries are durable in the segments",
		file:    "checkpoint/change.go",
		old:     `c.settled || w.opts.Settle == nil`,
		new:     `true`,
		noticed: []tests{by("checkpoint", "TestFramesOutliveTheirGenerationUntilTheyAreSettled")},
	},
	{
		name:    "unsettled-carried-on",
		why:     "frames that cannot be made durable in their segment stay in the commit log",
		file:    "checkpoint/change.go",
		old:     `	if owners := w.opts.Settle(); len(owners) > 0 {`,
		new:     `	if owners := w.opts.Settle(); false {`,
		noticed: []tests{by("checkpoint", "TestFramesOutliveTheirGenerationUntilTheyAreSettled")},
	},
	{
		name: "room-before-writing",
		why:  "a full disk shows before anything is written of a commit",
		file: "checkpoint/generation.go",
		old: `			return fmt.Errorf("%w: %w", ErrNoSpace, err)
		}
		g.filled`,
		new: `			return nil
		}
		g.filled`,
		noticed: []tests{by("checkpoint", "TestAFullDiskRefusesCommitsAndTheStoreGoesOn").endsIn(5 * time.Second)},
	},
	{
		name: "forgotten-checked",
		why:  "an entry behind one that was forgotten is where recovery will look for it",
		file: "checkpoint/generation.go",
		old: `	if !bytes.Equal(got, want) {
		return fmt.Errorf("an entry`,
		new: `	if !bytes.Equal(got, got) {
		return fmt.Errorf("an entry`,
		noticed: []tests{by("checkpoint", "TestAnEntryThatIsNotWhereItBelongsFailsTheGeneration")},
	},
	{
		name:    "forget",
		why:     "a generation is not kept in memory while it is written",
		file:    "checkpoint/forget.go",
		old:     `	t.entries.SetLen(0)`,
		new:     ``,
		noticed: []tests{by("checkpoint", "TestNothingOfAGenerationStaysInMemory")},
	},
	{
		name:    "answered-idle",
		why:     "who has been answered does not find the store busy with him",
		file:    "checkpoint/round.go",
		old:     `	if !told { // whoever`,
		new:     `	if false { // whoever`,
		noticed: []tests{by("checkpoint", "TestWhoIsAnsweredDoesNotFindTheStoreBusyWithHim")},
	},
	{
		name:    "heads-shared",
		why:     "a key that does not begin as those of a node is not looked for among them",
		file:    "checkpoint/heads.go",
		old:     `	if !h.shared(key) {`,
		new:     `	if len(key) < h.skip {`,
		noticed: []tests{by("checkpoint", "TestTheTreeTellsKeysApartThatLookAlike")},
	},
}
