// Package scaler decides when a topic's partitions split and merge and how many consumers a group has.
//
// [Decide] is a pure function: from what was measured (a [Snapshot]), what is wanted (a [Policy]), what was done before (a [History])
// and the time, it makes at most one step, and always gives the reason, also for doing nothing. A [Loop] measures, decides, carries
// the step out and keeps the last decisions for whoever asks why. How a step is carried out it does not know.
//
// # Load
//
// A partition's load is its rate as a share of the policy's target for one partition, in records or in bytes,
// whichever is more. It is averaged over three windows: by default 10 s, 1 min and 5 min, which the numbers below take for granted.
//
// # Partitions, in this order
//
//	limits     more partitions than MaxPartitions: the lightest neighbours merge; fewer than MinPartitions: the busiest splits
//	fast       a partition with 10 s above FastThreshold splits at once: no cooldown holds it up
//	split      a partition with 1 min above ScaleUpThreshold splits
//	consumers  a group with more lag than MaxLag gets one more, if a partition is free for it
//	merge      two neighbours that were below ScaleDownThreshold in all windows merge
//	consumers  a group that was quiet for QuietWindow has one fewer
//
// No rule believes a window that is older than the partition, save that what the limits demand is done
// without. So a new partition is never merged in its first five minutes and never split in its first ten seconds, whatever was
// measured of its parents.
//
// # Why it does not oscillate
//
// A partition splits at 0.9 of the target; its halves, at 0.45, are above the 0.3 at which they would merge. Neighbours merge only if
// together they have at most three quarters of what would split them, in every window. What they had in a burst counts too, for
// some quarter of an hour: it must be at most three quarters of what would split them at once. The stretch between is the dead band: a load that
// moves inside it moves nothing. A load that leaves it on both sides is followed upwards in seconds and downwards in minutes.
// A group that had to get back a consumer it had lost keeps it for longer each time.
//
// # What splitting cannot help
//
// Not a partition whose load is one key (the reason names the key's hash and its share), and not a
// device that is busy with all the partitions there are: more of them would make it slower.
package scaler
