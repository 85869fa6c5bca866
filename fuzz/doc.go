// Package fuzz holds the tests that run Braid as a whole and at random, through its public API: concurrent producers,
// groups and transactions over brokers that are closed under them and opened again. What was done and seen is
// recorded and judged by package history, which defines what is wrong.
//
// A run is begun by a seed, which a failing test prints with the command that runs it again. The seed decides what each goroutine does, but
// not how they interleave: repeat it with -count.
package fuzz
