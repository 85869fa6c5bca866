package checkpoint

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// BenchmarkTree looks up, and changes, keys of a state in memory, as transactions do: 1,000 changes a round.
func BenchmarkTree(b *testing.B) {
	for _, n := range []int{1, 1000, 1_000_000} {
		keys := make([][]byte, n)
		for i := range keys {
			keys[i] = fmt.Appendf(nil, "state/counts/user-%08d", i)
		}
		rand.Shuffle(n, func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
		var t tree
		for _, key := range keys {
			t.put(newItem(key, key[:8], 1))
		}
		t.freeze()
		b.Run(fmt.Sprintf("get/keys=%d", n), func(b *testing.B) {
			for i := range b.N {
				if t.get(keys[i*7919%n]) == nil {
					b.Fatal("a key is not found")
				}
			}
		})
		b.Run(fmt.Sprintf("put/keys=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				if i%1000 == 0 {
					t.freeze()
				}
				key := keys[i*7919%n]
				t.put(newItem(key, key[:8], 2))
			}
		})
	}
}
