// Package sorting sorts slices with code that a program has once. Package slices compiles its algorithms anew for each type of elements
// that is no pointer: 6 to 15 KB of instructions each, and more than that again in the file. For that it is 1.1 times as fast, 1.6 times where the order
// is stable: nothing for what a broker sorts when it opens, splits, scales or lists.
package sorting

import "sort"

// Func sorts as slices.SortFunc does: what compares equal may change places.
func Func[E any](s []E, compare func(a, b E) int) {
	sort.Slice(s, func(i, j int) bool { return compare(s[i], s[j]) < 0 })
}

// StableFunc sorts as slices.SortStableFunc does: what compares equal stays in order.
func StableFunc[E any](s []E, compare func(a, b E) int) {
	sort.SliceStable(s, func(i, j int) bool { return compare(s[i], s[j]) < 0 })
}
