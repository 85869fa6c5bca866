// Package model compares a broker with a plain in-memory model of what it should be, over random sequences of commands through the public API: publish, poll,
// commit, rewind, join, leave, reset, split, merge, transactions, bursts of producers while partitions split and merge, retention, topics that come and go,
// a clean reopening, a killed process, and a power cut.
//
// Commands run one at a time, so that the model always knows the one right answer; what is concurrent is inside of a command, a burst, and the model
// takes what was acknowledged as having happened and what was not as open until the broker has been opened again. After each command everything is compared:
//
//   - the partitions in use cover the space of key hashes exactly once, and none is lost or changes but by a split or merge that was asked for;
//   - each partition holds exactly the records that were acknowledged to be in it, at their offsets, and each key's are in the order in which they were
//     published;
//   - no partition has two owners in a group;
//   - a member is delivered, of each partition, the next record and no other, and none before what comes before it of the same key;
//   - a group's positions are where the last acknowledged commit or reset has put them, so that committed progress sees each record exactly once;
//   - the application's state is what committed transactions have put.
//
// A sequence is made by a seed; the one that fails is shrunk by package gopter, and printed with what happened in it and with the seed. Goroutines inside of a
// burst are scheduled as ever, so a failure in one may need some repeating.
package model
