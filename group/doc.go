// Package group is consumer groups: who of a group's members reads what, and how far the group has come. It is pure: no files, no goroutines,
// no clock. Whoever uses it passes the time in, tells it what has happened, and carries out what it says; calls are the caller's to serialise.
//
// # Members and partitions
//
// A [Group] has members and a lineage of partitions. Whenever either has changed, [Group.Settle] divides the partitions anew, by an [Assignor]; that is
// a generation. It is cooperative: only partitions that move are disturbed. A partition goes to its new owner
//
//   - at once if it is nobody's,
//   - when its owner has handed it over ([Group.Release]), which it is asked to do (View.Revoking) and does when it has committed what it has finished,
//   - when its owner has left, was evicted because it worked on something for longer than MaxPollInterval, or did not hand it over within
//     RebalanceTimeout ([Group.Tick]). Then the owner may not know yet that it has lost it.
//
// So every ownership has an epoch of its own, higher than all before. The new owner's first act is to write the epoch into the stored position, before
// it reads the position (the fence): from then on a commit of the one before meets another revision, and nothing of it happens.
// At any time a partition has one owner at most.
//
// A static member, one with a name, may leave and return within Config.Absence and finds its partitions waiting.
//
// # Reading order
//
// Partitions split and merge; the ones that continue a partition are its children. Records of one key are in the parent first and in a child
// afterwards, so a child may be read
//
//   - by anybody when each of its parents is finished: read to its sealed end, and that is committed,
//   - by the member that was delivered all of each parent that is not finished, as long as it has them. A commit in the child finishes the parents
//     in the same step, so a member that loses the parents before that cannot commit in the child either.
//
// A parent does not go to another member while somebody reads a child of it.
//
// # Positions
//
// A position is the offset of the next record that the group wants from a
// partition. It lives in the checkpoint store under a key that this package
// encodes, so that nothing else needs to know its form:
//
//	'g' | topic id (8 bytes, big endian) | group name | 0x00 | partition id (8 bytes, big endian)
//
// Group names hold no NUL, so all positions of a topic, and of a group in a topic,
// are found by scanning a prefix. The value is versioned:
//
//	version (1) | offset (8, little endian) | owner epoch (8, little endian)
//
// The owner epoch belongs to the member that may commit the position: a hand-over
// to another member rewrites it, and since every commit expects the revision of the key
// that its member last saw, a member that has lost the partition cannot move it.
package group
