package main

// logMutants are those of writing, reading and removing: packages log and internal/vfs.
var logMutants = []mutant{
	{
		name:    "recent-segment",
		why:     "what was written to one segment is not read as another's",
		file:    "log/recent.go",
		old:     `	if segment != r.segment || off < 0`,
		new:     `	if off < 0`,
		noticed: []tests{by("log", "TestOnlyWhatWasWrittenThereIsGiven")},
	},
	{
		name:    "recent-gap",
		why:     "what is kept of recent writes has no gap where nobody followed",
		file:    "log/recent.go",
		old:     `	if segment != r.segment || pos != r.pos+int64(len(r.data)) ||`,
		new:     `	if segment != r.segment ||`,
		noticed: []tests{by("log", "TestOnlyWhatWasWrittenThereIsGiven")},
	},
	{
		name: "segment-sync", short: true,
		why:  "acknowledged means on disk: a round's bytes are synced before its publishers are told",
		file: "log/writer.go",
		old: `	if err := l.w.file.Datasync(); err != nil {
		return l.fail(wrap(err, "sync"))
	}
	l.becameDurable(written)
`,
		new: `	l.becameDurable(written)
`,
		noticed: []tests{by("log", "TestPowerCutsAtEveryOperation")},
	},
	{
		name: "seal-sync",
		why:  "a segment that another one follows is durable, also where nothing has synced it before",
		file: "log/writer.go",
		old: `		if err := l.w.file.Datasync(); err != nil {
			return nil, l.fail(wrap(err, "sync"))
		}
		l.becameDurable(l.w.end)
`,
		new: `		l.becameDurable(l.w.end)
`,
		noticed: []tests{by("log", "TestPowerCutsAtEveryOperation", "TestPowerCutsLoseNothingThatIsInTheCommitLog")},
	},
	{
		name: "segment-header-sync",
		why:  "a new segment begins with a header that is on disk before the manifest names it",
		file: "log/segment.go",
		old: `	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		f.Close()
		_ = c.FS.Remove(name)`,
		new: `	if err != nil {
		f.Close()
		_ = c.FS.Remove(name)`,
		noticed: []tests{by("log", "TestPowerCutsAtEveryOperation")},
	},
	{
		name: "directory-sync",
		why:  "a file that is replaced whole is there under its name when that is reported",
		file: "internal/vfs/helpers.go",
		old:  `	return fsys.SyncDir(path.Dir(name))`,
		new: `	_ = path.Dir
	return nil`,
		noticed: []tests{
			by("internal/vfs", "TestWriteFileAtomicLeavesOldOrNewWhereverACrashCutsIt"),
		},
	},
	{
		name: "directory-sync-log",
		why:  "the same, in the log's own terms: the manifest that names a segment is durable before a frame goes there",
		file: "internal/vfs/helpers.go",
		old:  `	return fsys.SyncDir(path.Dir(name))`,
		new: `	_ = path.Dir
	return nil`,
		noticed: []tests{
			by("log", "TestPowerCutsAtEveryOperation"),
		},
	},
	{
		name: "directory-sync-create",
		why:  "the directory of a new log is there under its name before anything counts on it",
		file: "log/log.go",
		old: `	if err == nil {
		err = cfg.FS.SyncDir(path.Dir(cfg.Dir))
	}
`,
		new: `	_ = path.Dir
`,
		noticed: []tests{by("log", "TestPowerCutsAtEveryOperation")},
	},
	{
		name: "rename-before-sync", short: true,
		why:  "the manifest, and every file that is replaced whole, is synced before the rename brings it: never half a file",
		file: "internal/vfs/helpers.go",
		old: `	if _, err = f.WriteAt(data, 0); err == nil {
		err = f.Sync()
	}
`,
		new: `	_, err = f.WriteAt(data, 0)
`,
		noticed: []tests{by("internal/vfs", "TestWriteFileAtomicLeavesOldOrNewWhereverACrashCutsIt")},
	},
	{
		name: "rename-before-sync-log",
		why:  "the same, in the log's own terms: no power cut leaves it without a manifest",
		file: "internal/vfs/helpers.go",
		old: `	if _, err = f.WriteAt(data, 0); err == nil {
		err = f.Sync()
	}
`,
		new: `	_, err = f.WriteAt(data, 0)
`,
		noticed: []tests{by("log", "TestPowerCutsAtEveryOperation")},
	},
	{
		name: "frame-checksum", short: true,
		why:     "corruption is reported, never returned as data",
		file:    "log/frame.go",
		old:     `got != h.CRC {`,
		new:     `got != h.CRC && false {`,
		noticed: []tests{by("log", "TestEveryFlippedBitOfAFrameIsNoticed")},
	},
	{
		name:    "frame-salt",
		why:     "a record that contains a frame cannot pass for one",
		file:    "log/frame.go",
		old:     `	crc := crc32.Update(salt, castagnoli, frame[:atCRC])`,
		new:     `	crc := crc32.Update(0*salt, castagnoli, frame[:atCRC])`,
		noticed: []tests{by("log", "TestAFrameInsideARecordIsNotTakenForOne")},
	},
	{
		name:    "frame-lengths",
		why:     "a length is bounded before it is believed",
		file:    "log/frame.go",
		old:     `	case bodyLen > MaxFrameBytes || rawLen > MaxFrameBytes:`,
		new:     `	case false:`,
		noticed: []tests{by("log", "TestLyingLengthsAreRefusedBeforeAnythingIsAllocated")},
	},
	{
		name:    "manifest-checksum",
		why:     "a damaged manifest is no manifest",
		file:    "log/manifest.go",
		old:     `got != sum {`,
		new:     `got != sum && false {`,
		noticed: []tests{by("log", "FuzzManifest", "TestEveryFlippedBitIsReported")},
	},
	{
		name: "poison-sync", short: true,
		why:  "after a failed sync nobody knows what is on disk: the log takes no more, and no sync is tried again",
		file: "log/writer.go",
		old: `	if err := l.w.file.Datasync(); err != nil {
		return l.fail(wrap(err, "sync"))
	}
	l.becameDurable(written)
`,
		new: `	if err := l.w.file.Datasync(); err != nil {
		return wrap(err, "sync")
	}
	l.becameDurable(written)
`,
		noticed: []tests{by("log", "TestALogOfWhichAWriteOrSyncHasFailedTakesNoMore")},
	},
	{
		name:    "poison-write",
		why:     "nothing that is written by half is ever followed by an acknowledged record",
		file:    "log/writer.go",
		old:     `		return l.fail(wrap(err, "write"))`,
		new:     `		return wrap(err, "write")`,
		noticed: []tests{by("log", "TestALogOfWhichAWriteOrSyncHasFailedTakesNoMore")},
	},
	{
		name:    "short-write-taken-back",
		why:     "frames that a full disk has taken in part are refused, so no recovery may find them",
		file:    "log/writer.go",
		old:     `	for at := l.w.end.pos; at < end; at += int64(len(zeros)) {`,
		new:     `	for at := end; at < end; at += int64(len(zeros)) {`,
		noticed: []tests{by("log", "TestWhatAFullDiskHasTakenInPartIsNotFoundAgain")},
	},
	{
		name: "visible-before-durable",
		why:  "no consumer sees a record that a crash could take back: the visible end is the durable end",
		file: "log/writer.go",
		old: `	if l.cfg.Mode != ModeFsync {
		l.show(l.w.end)
	}
`,
		new: `	l.show(l.w.end)
`,
		noticed: []tests{by("log", "TestRecordsAreVisibleOnlyWhenTheModeSaysSo")},
	},
	{
		name:    "durable-through-claimed-early",
		why:     "a frame says only of what is durable that it is, or recovery takes a torn write for damage",
		file:    "log/writer.go",
		old:     `		DurableThrough: l.durable.Load(), Partition`,
		new:     `		DurableThrough: l.tail.end, Partition`,
		noticed: []tests{by("log", "TestAFrameSaysOnlyOfWhatIsDurableThatItIs")},
	},
	{
		name:    "reader-misses-a-frame",
		why:     "a frame says where the one before ended, so that a lost one differs from a declared gap",
		file:    "log/reader.go",
		old:     `		if r.off < h.PrevEnd {`,
		new:     `		if false {`,
		noticed: []tests{by("log", "TestAReaderMissesAFrameThatLeavesNoHole")},
	},
	{
		name: "retention-order",
		why:  "the manifest lets segments go before their files do: a crash leaves files too many, never too few",
		file: "log/retention.go",
		old: `	if err := l.writeManifest(rest); err != nil {
		return nil, err
	}
	l.mu.Lock()
	l.segments = rest
`,
		new: `	for _, s := range segments[:n] {
		if err := l.cfg.FS.Remove(l.cfg.path(s.name())); err != nil {
			return nil, wrap(err, "remove an expired segment")
		}
	}
	if err := errors.Join(l.cfg.FS.SyncDir(l.cfg.Dir), l.writeManifest(rest)); err != nil {
		return nil, err
	}
	segments = segments[n:]
	n = 0
	l.mu.Lock()
	l.segments = rest
`,
		noticed: []tests{by("log", "TestPowerCutsAtEveryOperation")},
	},
	{
		name:    "jumping-clock",
		why:     "a clock that is set does not remove what is young",
		file:    "log/retention.go",
		old:     `	return drift.Abs() <= clockTolerance`,
		new:     `	return drift.Abs() <= clockTolerance || true`,
		noticed: []tests{by("log", "TestAgeRemovesSegmentsAndAJumpingClockDoesNot")},
	},
	{
		name: "undecodable-stays",
		why:  "a record that cannot be decoded stays an error, and is not passed over",
		file: "log/decoder.go",
		old: `		f.at = -1
`,
		new: `		f.next, f.left = f.next+1, f.left-1
`,
		noticed: []tests{by("log", "TestARecordThatCannotBeDecodedIsAnErrorAgainAndAgain")},
	},
}
