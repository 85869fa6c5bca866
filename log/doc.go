// Package log is a segmented, append-only log of checksummed frames in one directory: the format, writing,
// recovery, reading and retention. It knows nothing of topics or of what keys mean. It touches files only through
// package vfs.
//
// # Files
//
//	MANIFEST                            which segments there are, and what of them is proven durable
//	00000000000000000000-000001.seg     a segment: base offset, unique number
//	00000000000000000000-000001.idx     the sparse index of a sealed segment
//	00000000000000000000-000001.seg.torn  a tail that was cut off, kept
//
// All numbers are little-endian, all checksums CRC32C. A version that is newer than this package knows is refused with
// [ErrVersion].
//
// # Frames
//
// Records are stored in frames: what one write carried, up to about 128 KiB. A frame is a header of 88 bytes and a
// body.
//
//	 0 magic u32 0xf5a7d1b6    | 4 version u8 = 1 | 5 flags u8 | 6 kind u8 = 0 (data) | 7 zero u8
//	 8 checksum u32            of every header byte but these four, and the body; it begins from the log's salt
//	12 body length u32         | 16 uncompressed length u32 | 20 number of records u32
//	24 base offset i64         | 32 where the frame before ended i64
//	40 append time i64         | 48 latest record time i64, both in nanoseconds since 1970
//	56 partition id u64        | 64 transaction id u64, 0 if none
//	72 durable through i64     every offset below was durable when this frame was written
//	80 proven sequence u64     the same of the commit log that may have carried the frame; 0 if there is none
//
// Flags: bits 0 and 1 are the codec (0 none, 1 S2, 2 Zstd); bit 2 says that the frame was written in a mode that shows
// records before they are synced; bit 3 that its records were acknowledged before they were synced, although the mode is not one
// that does (backpressure had it so).
//
// The salt is random and belongs to the log, so that a record whose value is a frame, even one copied out of another
// log, is not taken for a frame. All-zero bytes are never one.
//
// "Where the frame before ended" tells a gap that was declared (base offset above it) from a loss (the frame before, as it
// is found, ends below it).
//
// # Records
//
// The body, uncompressed, is one record after the other:
//
//	time minus append time, zigzag varint | key length + 1, uvarint; 0 is no key | key |
//	value length + 1, uvarint; 0 is nil   | value | number of headers, uvarint |
//	each: name length, uvarint | name | value length + 1, uvarint; 0 is nil | value
//
// Varints are as short as they can be, so a record has one encoding. The body ends with the last record.
//
// # Segments
//
// A segment begins with a header of 128 bytes (see segmentHeader), which repeats the log's birth certificate and
// salt, so that the log can be read when the manifest cannot. Frames follow without space between them. Behind the
// last frame there may be zeros: space made ahead. The manifest says of every sealed segment
// how long it is and where its offsets end; only the last segment, the active one, is not sealed. Bytes behind a sealed
// segment's length are not part of the log.
//
// The manifest (see manifest) is written whole: to a temporary name, synced, renamed, the directory synced.
//
// # What is assumed of the disk
//
//  1. After fsync or fdatasync has returned nil, what was written to the file before is there after a power cut.
//  2. After the fsync of a directory has returned nil, so are the names in it.
//  3. Rename is atomic.
//  4. A write that a power cut interrupts damages no byte outside of it ("powersafe overwrite").
//  5. Bytes that were written and not synced may be there, or not, or be anything.
//  6. After a sync has failed nothing is known of what was written since the last one that did not.
//
// # Modes
//
// In [ModeFsync] records are visible when a sync covers them. In [ModeInterval] and [ModeOS] they are visible when they are written;
// a killed process loses none of them, a power cut those that have not been synced, and whatever the operating system
// has not written back of segments that ModeOS has sealed: readers report that as loss. All modes sync the manifest, new
// segments' headers and directories.
//
// Readers read the segments' files, but for who follows the end: as long as somebody has asked to be notified, the last few KiB that small writes brought to the
// active segment are kept in memory, and read from there. What is read is the same, and is verified in the same way.
//
// # Each operation, and a crash in it
//
// Append and sync. A batch of frames is written at the end with one write, then synced, then its records are visible and its
// publishers told. A crash before the sync leaves any part of the batch. Nobody was told that it is
// stored, and no later frame says that it was durable: "durable through" of the next frame is written only after the
// sync. So recovery may keep the whole frames at its beginning and cut the rest.
//
// Applying frames from the commit log (see apply.go). Their offsets are fixed, the commit log makes them durable, and only then are
// they written here, without a sync, and visible. A crash at any moment leaves them whole in the commit log and any part
// of them in the segment: opening puts them where they belong, byte by byte what readers may have seen. The commit log lets go
// of them after a sync of the segment has confirmed them. What they follow is durable, or is in the commit log in the same entry or an earlier one, so
// that they never stand behind a loss that is none. The manifest speaks of the segments alone: frames that only the commit log has are not in its durable end.
//
// Zero-fill. In ModeFsync small writes go into space that was filled with zeros and synced before, so that their own sync has
// no metadata to write. A crash leaves zeros, which are not a frame.
//
// A full disk. Space is reserved, or filled, before a frame is begun, so that its lack shows then. Should a write run out of space all
// the same, what it may have written is overwritten with zeros before its publishers are told that it is not stored. A process without descriptors is
// refused before anything is touched.
//
// Rolling to a new segment. The new file is made and synced, and the directory; the old one is cut behind its last frame, synced (not in
// ModeOS) and its index written, which is not synced, since a spoiled one is made again; the manifest is switched; the first frame is written. A crash before
// the switch leaves the old manifest, under which the old segment is active and complete, and a file that is not listed and has no frame: the
// next open removes it. After the switch both files are as the manifest says.
//
// A failed write or sync. The log takes no more, for good; what is visible stays readable. One lock, gate, is held for every sync of the active
// file, so that an error, which Linux reports once, is seen before any later result is believed. Nothing is tried again.
//
// Marking. When a log has been idle for a while, and when it is closed, the manifest records how far it is durable: from then on
// damage there is told from a torn write even at the very end.
//
// Retention. The manifest is switched to one without the expired segments, then they are removed. A crash in between
// leaves files below the log's start, which the next open removes.
//
// # Recovery
//
// Open syncs the directory, since the manifest that it has read may be a rename that a killed process has not made durable. Then it
// reads the active segment whole. Where no valid frame begins it looks on for the next one with a rising offset.
// The proven point is the highest offset that the manifest, any frame's "durable through", or the caller says was durable.
//
//   - Where a frame from the commit log belongs it stands in, and the scan goes on behind it. The end of the last of them is proven.
//   - Below the proven point a range without a valid frame is damage: reported with its offsets, left where it is, and what follows
//     stays readable. If the end is missing, the log goes on behind the proven point, so that no offset is given
//     out twice.
//   - At or above it, such a range may be what the crash has torn: the log ends before it. The rest of the file, through its last
//     byte that is not zero, is kept in a .torn file.
//   - Whole frames above the proven point stand. But an earlier sync may have failed and left them in the page cache only, and so may those
//     from the commit log and all behind the first of these, beyond what the manifest says is durable in the segment: they are copied
//     to a new segment, which is synced before the manifest is switched to it and before anybody sees them. Until then it
//     is called .seg.tmp, and if recovery is cut short between the switch and the renaming, the next open goes on with that.
//
// A log that was closed cleanly, or had been marked and not written to since, goes on in its active segment: all of it is durable there. In every
// other case the log goes on in a new segment. Until the manifest is switched recovery has changed nothing that counts, so it can be cut short anywhere and
// begins again: the files it had made are not listed, and are removed.
//
// An unlisted segment with a frame means that the manifest is not the latest one. Then Open refuses to write.
//
// What cannot be known: whether the frames of the very last sync before an unclean stop were torn by the crash, or rotted
// afterwards. They are treated as torn, kept, and reported.
package log
