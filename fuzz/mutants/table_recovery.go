package main

// recoveryMutants are those of opening a log.
var recoveryMutants = []mutant{
	{
		name: "durable-through", short: true,
		why:  "a later frame proves what was durable: a hole below that is damage, and what follows stays readable",
		file: "log/recovery.go",
		old: `		r.proven = max(r.proven, h.DurableThrough)
		r.end = mark{h.End(), at + int64(h.Size())}
`,
		new: `		r.end = mark{h.End(), at + int64(h.Size())}
`,
		noticed: []tests{by("log", "TestALaterFrameTellsDamageFromATornWrite")},
	},
	{
		name:    "manifest-proves",
		why:     "the manifest says how far the log was durable when it was closed: then nothing is taken for a torn write",
		file:    "log/recovery.go",
		old:     `	v := l.judge(active, r, max(m.durable, proof.Durable), m.durable)`,
		new:     `	v := l.judge(active, r, proof.Durable, m.durable)`,
		noticed: []tests{by("log", "TestEveryFlippedBitIsReported")},
	},
	{
		name:    "caller-proves",
		why:     "what the caller knows to have been durable is missed if it is not there",
		file:    "log/recovery.go",
		old:     `	v := l.judge(active, r, max(m.durable, proof.Durable), m.durable)`,
		new:     `	v := l.judge(active, r, m.durable, m.durable)`,
		noticed: []tests{by("log", "TestWhatTheCallerProvesWasDurableIsMissedIfItIsNotThere")},
	},
	{
		name: "unproven-rewritten", short: true,
		why:  "what no sync has confirmed may be in the page cache only: it is written anew and synced before anybody sees it",
		file: "log/recovery.go",
		old:  `	for v.stay < v.proved && r.frames[v.stay].End() <= fixed && r.frames[v.stay].data == nil {`,
		new: `	_ = fixed
	for v.stay < v.kept && r.frames[v.stay].data == nil {`,
		noticed: []tests{by("log", "TestWhatNoSyncHasConfirmedIsWrittenAnew")},
	},
	{
		name:    "logged-rewritten",
		why:     "frames that the commit log proves were written to the segment without a sync: they are made durable there before it lets them go",
		file:    "log/recovery.go",
		old:     `	fixed := max(marked, min(v.proven, r.oldest))`,
		new:     `	fixed := max(marked, v.proven)`,
		noticed: []tests{by("log", "TestPowerCutsLoseNothingThatIsInTheCommitLog")},
	},
	{
		name:    "rewritten-synced",
		why:     "what recovery has written anew is on disk before the manifest names it",
		file:    "log/recovery.go",
		old:     `	return end, wrap(dst.Sync(), "sync recovered frames")`,
		new:     `	return end, nil`,
		noticed: []tests{by("log", "TestRecoveryIsCutAtEveryOperation", "TestWhatNoSyncHasConfirmedIsWrittenAnew")},
	},
	{
		name: "logged-applied", short: true,
		why:     "what the commit log holds of a partition is in its segments when it is opened",
		file:    "log/recovery.go",
		old:     `	logged, err := l.parseLogged(proof.Logged)`,
		new:     `	logged, err := l.parseLogged(nil)`,
		noticed: []tests{by("log", "TestASegmentThatIsGoneIsMadeAgainFromTheCommitLog", "TestALoggedFrameStandsInForADamagedOne")},
	},
	{
		name: "logged-checked",
		why:  "bytes from the commit log are frames of this log, or damage",
		file: "log/apply.go",
		old: `			if err == nil {
				err = h.Verify(l.salt, b)
			}
`,
		new:     ``,
		noticed: []tests{by("log", "TestForeignBytesAreNoLoggedFrames")},
	},
	{
		name:    "missing-segment",
		why:     "a segment that the manifest lists and that is not there is reported, never an empty log",
		file:    "log/recovery.go",
		old:     `	for _, s := range l.segments[:len(l.segments)-1] {`,
		new:     `	for _, s := range l.segments[:0] {`,
		noticed: []tests{by("log", "TestASegmentThatIsGoneIsReportedAndTheRestReadable")},
	},
	{
		name: "lost-end",
		why:  "records that were durable and are not at the end of the segment are reported, and their offsets not given out again",
		file: "log/recovery.go",
		old: `	v.end = max(end.off, v.proven)
	if end.off < v.proven {
`,
		new: `	v.end = end.off
	if false {
`,
		noticed: []tests{by("log", "TestWhatTheCallerProvesWasDurableIsMissedIfItIsNotThere")},
	},
	{
		name: "manifest-durable-at-opening",
		why:  "a manifest that a killed process has renamed is made durable before anything builds upon it",
		file: "log/recovery.go",
		old: `	if err := cfg.FS.SyncDir(cfg.Dir); err != nil {
		return nil, nil, wrap(err, "open log %s", cfg.Dir)
	}
`,
		new:     "",
		noticed: []tests{by("log", "TestThePowerFailsAfterAKill")},
	},
	{
		name:    "proven-end-marked",
		why:     "an end that the layout proves is in the manifest after a clean close",
		file:    "log/recovery.go",
		old:     `		l.w.marked = m.durable // what is proven otherwise the manifest is yet to say`,
		new:     "",
		noticed: []tests{by("log", "TestWhatTheCallerHasProvenTheManifestSaysAfterAClose")},
	},
	{
		name: "loose-commits-secured",
		why:  "commits that a killed process may have left in memory only are durable before their frames are brought to the segments",
		file: "checkpoint/open.go",
		old: `		if err := w.secure(r); err != nil {
			return nil, err
		}
`,
		new:     "",
		noticed: []tests{by("checkpoint", "TestWhatNothingProvesIsDurableBeforeItIsRedone")},
	},
	{
		name:    "unlisted-segment",
		why:     "a segment with records that the manifest does not know means that the manifest is an old one: nothing is written then, and nothing removed",
		file:    "log/sweep.go",
		old:     `			if !empty {`,
		new:     `			if false && !empty {`,
		noticed: []tests{by("log", "TestASegmentTheManifestDoesNotKnowRefusesWriting")},
	},
	{
		name:    "torn-tail-kept",
		why:     "nothing is deleted: what recovery cuts off is kept in a file of its own",
		file:    "log/recovery.go",
		old:     `		return wrap(vfs.WriteFileAtomic(l.cfg.FS, l.cfg.path(name), torn), "keep the torn tail")`,
		new:     `		return nil`,
		noticed: []tests{by("log", "TestEveryTearOfTheLastBatchLeavesItsWholeFrames", "TestEveryTornWriteIsRecovered")},
	},
	{
		name:    "offsets-not-given-again",
		why:     "no offset below a position that a group has committed is given out again",
		file:    "log/recovery.go",
		old:     `	next := max(v.end, proof.MinNext)`,
		new:     `	next := max(v.end, 0*proof.MinNext)`,
		noticed: []tests{by("log", "TestNoOffsetBelowACommittedPositionIsGivenOutAgain")},
	},
	{
		name:    "birth-certificate",
		why:     "a log is opened as the partition that it was made for, or not at all",
		file:    "log/recovery.go",
		old:     `	if want != nil && !want.equal(&m.birth) {`,
		new:     `	if false {`,
		noticed: []tests{by("log", "TestAnotherLogsDirectoryIsRefused")},
	},
}
