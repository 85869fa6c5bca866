// Package checkpoint keeps small state durably and atomically: keys and values, changed
// in batches that happen wholly or not at all. It knows nothing of what they mean. [WAL] keeps them
// on disk and [Memory] in memory; package storetest checks any other [Store].
//
// All live keys are in memory, in an immutable tree that readers take as it is: Get and Scan
// neither lock nor do I/O, and see what is durable and nothing else.
//
// # Files
//
//	CURRENT                           which generations count, and what is proven of them
//	0000000001/00000000000000000001   a generation: one segment of github.com/tidwall/wal
//	0000000001.torn                   a tail that nothing proves, kept aside by recovery
//
// Directories have mode 0700, files 0600. A generation is a log that begins from a snapshot. It is
// replaced by the next one when it has grown large, and whenever the store is opened for writing.
//
// CURRENT is text, replaced whole (temporary file, fsync, rename, fsync of the directory):
//
//	checkpoint 1
//	id 000102030405060708090a0b0c0d0e0f      the store's identity
//	proven 1234                              every sequence number up to this one was durable
//	generation 7                             one line each, oldest first
//	sum 0123456789abcdef                     xxhash64 of all lines before, in all versions
//
// In a generation's file each entry has its length as a uvarint before it, as tidwall/wal frames
// them; behind the last one there may be zeros. An entry, little-endian:
//
//	 0  4  magic 0xB17E1DC5
//	 4  1  version 1
//	 5  3  zero
//	 8  4  length of the sections
//	12  4  count: how many sequence numbers the entry takes
//	16  8  first of them
//	24  8  synced through: everything up to this number was durable when the entry was written
//	32  8  xxhash64 of bytes 0 to 31 and of the sections, seeded with the xxhash64 of the store's id
//	       and the generation's number (8 bytes)
//	40     sections: kind (1), length (4), content
//
// Kind 1 is a commit. The n-th of an entry has the number first+n, which is the revision of
// the keys that it puts. Content: for each write 1 (put) or 2 (delete), the key's length (uvarint), the key, and
// for a put the value's length and the value.
//
// Kind 2 is a piece of a snapshot. Content: the number after which the snapshot was taken (8), the
// piece's index (4), 1 if it is the last (1), then the number of keys in all (8, in the last), then for each key
// its revision (uvarint), and key and value as above. The snapshot of a generation was taken after
// the number before the generation's first. Its pieces stand first, or, where commits went on, between commits.
//
// Kind 3 is frames that belong to somebody else's log (see [Carrier]): the owner (8), and the frames as that log has them. They
// are durable with the commits of the entry.
//
// An entry without commits takes one number, so that numbers have no gap and a missing entry shows. One
// without sections is a mark: it says only what was durable before it. More kinds can be added; an unknown one
// is an error.
//
// # What is assumed
//
//  1. fsync and fdatasync that return nil have made durable what was written to the file through any
//     descriptor; that of a directory, its names. After an error nothing is known, and a later success proves nothing.
//  2. A rename within a directory is atomic.
//  3. Unsynced bytes may survive a crash in part, in any order, as zeros or as garbage.
//  4. Bytes that were zeros can be overwritten without new space. That does not hold on copy-on-write
//     file systems (btrfs, zfs): a full disk shows there only when writing, and fails the store.
//  5. There is one writer, which the caller sees to.
//
// # What is not left to tidwall/wal
//
// Version 1.2.1 has no checksums, fails to open on most torn tails, takes zeros at the tail for entries, stores a
// failed entry when it is tried again, races when sealed segments are read, syncs no directory and changes its
// caller's options. So it opens empty directories only and appends to one file, which never reaches the segment size;
// reading and recovery are done here, from memory or by our own scanner; after any error it is not
// used again; files and directories are synced here. It would keep in memory all that it has written, and
// is made to let go of that after each entry.
//
// # Committing
//
// One goroutine takes all waiting batches, makes sure of room for them (zeros are written ahead; ErrNoSpace comes here, before anything
// is decided or written), checks each against the state that those before it leave, has the frames made that come with those
// that pass, and writes them as one entry; the entry is appended, the file synced, the state published, the callers told.
//
//   - Crash before the sync has returned: the entry is whole, or it is not. Nobody was told. If whole, it
//     stands: recovery writes it anew before anything builds upon it. If not, nothing says that it was durable,
//     because its successor is written only after its sync: it is set aside.
//   - Crash after: it is durable, by assumption 1.
//   - An error of write or sync: the outcome is unknown. The store refuses everything from then on, so
//     that nothing follows what may be half an entry, and no sync is tried twice.
//
// # Recovery
//
// The listed generations are scanned; their entries must follow one another without a gap, but a generation may begin with entries of those before it. Where that ends, at number n, there
// are three cases. Something says that more than n was durable (CURRENT, an entry before, a whole entry found behind
// the damage, the caller's ProvenSequence): then data is lost, which is ErrCorrupt, or ErrMissingData if
// the bytes are not there. Nothing says so, and there are bytes: a torn write, copied to a .torn file. Or there
// are none: that is the end.
//
// One thing cannot be told: whether the last entry before an unclean stop was torn, or was durable and
// has rotted since. Close writes the last number to CURRENT, so after it there is no such doubt; while a store
// is idle a mark is written.
//
// Opening for writing, with a crash possible after each step:
//
//  0. The directory is synced, since CURRENT may be a rename that a killed process has not made durable. If the last entries change anything and nothing proves
//     them durable, a generation is made and listed behind the others, these entries are written to it again, it is synced, and CURRENT says so. Then the frames found
//     are given to the caller, who makes them durable where they belong (WALOptions.Redo): they, and the commits that they belong to, are found again until step 4.
//  1. Write .torn files. Again the same ones next time.
//  2. Remove generations that are not listed. They are what an earlier step 3 or a change left; one
//     with commits and a number above those listed means that CURRENT is an old copy: ErrMissingData.
//  3. Make a generation with a new number, with all live keys as its snapshot, and sync file and directories. It is not listed: next
//     time it is removed and the old ones are read, which nobody has touched.
//  4. Switch CURRENT to it. Before the rename the old ones count, after it the new one, which is complete.
//  5. Remove the old ones. What stays of them is not listed.
//
// So nothing is ever appended to a file that an earlier process has written, and what a failed sync may have
// left in memory only has been written and synced anew before it is visible.
//
// # Change of generation
//
//  1. In the background: make the next generation, sync it and its directory, then list both in CURRENT.
//  2. Sync the old one, and append to the new one from now on. Its first number follows the old one's last.
//  3. The state of that moment, which is immutable, is written in pieces that come along with commits.
//  4. When the last piece is durable, in the background: have the frames that the old one carries settled, that is, made durable in the
//     logs they belong to. Those of a log that cannot be synced are copied to the new generation.
//  5. In the background: list the new one alone, remove the old one.
//
// A crash before the CURRENT of step 1 leaves an unlisted, empty generation. From then on until the CURRENT of
// step 5 both are listed, and the old one with everything in the new one is complete; pieces are not needed. Afterwards
// the new one with its snapshot is. Commits never wait for more than the one sync of step 2 and the
// 128 KiB that come along in step 3.
//
// # Reading beside a writer
//
// [LoadWAL] opens nothing for writing. It reads twice: first to learn the highest number that is
// proven, then everything through that number, all of which was there before the second reading began.
// If generations were removed meanwhile CURRENT has changed, and it begins again.
//
// # Stores of one's own
//
// [Store] says what a store has to do, [Batch.Ops] what a batch asks for, and package storetest checks it. Where Get has to go to a disk or a
// network, [Cache] in front keeps what was used last. [WAL] and [Memory] hold everything in memory and need none.
package checkpoint
