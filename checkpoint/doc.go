// Package checkpoint keeps small state durably and atomically: keys and values, changed in batches that
// happen wholly or not at all. It knows nothing of what they mean. [WAL] keeps them on disk, [Memory] in memory;
// package storetest checks any other [Store].
//
// # Files
//
//	CURRENT                           which generations count, and what is proven of them
//	0000000001/00000000000000000001   a generation: one file of github.com/tidwall/wal
//	0000000001.torn                   a tail that nothing proves, kept aside
//
// A generation begins with a snapshot of all live keys and goes on with commits. The directory's
// broker takes care that there is one writer.
//
// In the generation's file each entry is a uvarint length and that many bytes, as tidwall/wal lays
// them out. Those bytes are (little-endian):
//
//	 0 magic u32 | 4 version u8 | 5 kind u8 (1 snapshot, 2 commits) | 6 zero u16 |
//	 8 sequence u64 | 16 synced through u64 | 24 length of the sections u32 | 28 sections |
//	then xxhash64 u64 of the store's id and all before
//
// A section is a kind u8, a length u32 and that many bytes. A commit is a section of kind 1: its sequence number is the
// entry's, plus how many commits stand before it in the entry. Inside: for each change an op u8 (1 put, 2 delete), key
// length u32, key, and for a put value length u32 and value. A snapshot is one section of kind 2: for each
// key its revision u64, key length, key, value length, value; its entry's sequence is the last one contained.
// "Synced through" is the highest sequence that was durable when the entry was written.
//
// CURRENT is text: version, id, proven sequence, generation, checksum. It is replaced whole.
//
// # What is not left to tidwall/wal
//
// Version 1.2.1 has no checksums, fails to open on most torn tails, takes zeros at the tail for entries, stores a
// failed entry when it is tried again, and syncs no directory. So it is only ever opened on an empty
// directory, to append to one file; reading is done here; any error ends its use; and directories are synced here.
//
// # Crashes
//
// Commit: one entry is appended and synced, then its changes are applied and its callers told. A crash before the sync leaves a
// whole entry, which stands (nobody was told that it does not), or a torn one, which is cut off: no later entry and no
// CURRENT says that it was synced. What they do say was synced must be there, or it is [ErrCorrupt].
//
// Open: the listed generation is read; its state is written as the snapshot of the next generation and synced, with its directories;
// CURRENT is switched; then the old generation is removed. Before the switch the old state counts and the new directory is
// rubbish, which the next Open removes; after it the new one counts and the old is rubbish. So nothing is
// ever appended to a file that a crash may have left in doubt, and what an earlier failed sync may have left in the
// page cache only has been written anew before anything is built upon it.
//
// Change of generation: the same steps, taken by a committer when the generation has grown large. Other commits wait for it: some milliseconds
// for state of some megabytes.
//
// Close: CURRENT is written once more, with the last sequence as proven. So damage after a clean close is always told from a
// torn write.
package checkpoint
