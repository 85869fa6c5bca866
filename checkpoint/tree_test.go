package checkpoint

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func itemsOf(tr *tree) []string {
	all := []string{}
	tr.ascend(nil, func(it *item) bool {
		all = append(all, string(it.key)+"="+string(it.value))
		return true
	})
	return all
}

func ofMap(m map[string]string) []string {
	all := []string{}
	for _, key := range slices.Sorted(maps.Keys(m)) {
		all = append(all, key+"="+m[key])
	}
	return all
}

// checkNode verifies order, fanout and equal depth, and that no two neighbours are nearly empty.
func checkNode(t *testing.T, n *node, low, high []byte) (depth int) {
	t.Helper()
	if n.leaf() {
		for _, it := range n.items {
			if bytes.Compare(it.key, low) < 0 || high != nil && bytes.Compare(it.key, high) >= 0 {
				t.Fatalf("key %q is outside [%q, %q)", it.key, low, high)
			}
		}
		return 1
	}
	if len(n.kids) != len(n.seps)+1 || len(n.kids) > maxFanout {
		t.Fatalf("%d kids, %d separators", len(n.kids), len(n.seps))
	}
	for i, kid := range n.kids {
		l, h := low, high
		if i > 0 {
			l = n.seps[i-1]
			if both := kid.size() + n.kids[i-1].size(); both < minFanout {
				t.Fatalf("two neighbours have %d items", both)
			}
		}
		if i < len(n.seps) {
			h = n.seps[i]
		}
		if d := checkNode(t, kid, l, h); depth != 0 && d != depth {
			t.Fatalf("depths %d and %d", depth, d)
		} else {
			depth = d
		}
	}
	return depth + 1
}

func TestTheTreeAgreesWithAMapAndCopiesStayAsTheyWere(t *testing.T) {
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var tr tree
		m := map[string]string{}
		type copied struct {
			tree tree
			want []string
		}
		var copies []copied
		for i := range 20_000 {
			grow := (i/5000)%2 == 0
			key := fmt.Sprintf("%04x", rng.IntN(4000))
			if seed%2 == 1 && grow {
				key = fmt.Sprintf("%08x", i) // in order
			}
			if _, found := m[key]; found && rng.IntN(10) < 7 && !grow {
				tr.delete([]byte(key))
				delete(m, key)
			} else if grow || rng.IntN(10) == 0 {
				m[key] = fmt.Sprint(i)
				tr.put(newItem([]byte(key), []byte(m[key]), 1))
			}
			if !grow && len(m) > 0 && rng.IntN(2) == 0 { // The lowest goes too.
				tr.ascend(nil, func(it *item) bool { key = string(it.key); return false })
				tr.delete([]byte(key))
				delete(m, key)
			}
			if rng.IntN(2000) == 0 {
				copies = append(copies, copied{tr.freeze(), ofMap(m)})
			}
			if tr.n != len(m) {
				t.Fatalf("seed %d, step %d: %d items, want %d", seed, i, tr.n, len(m))
			}
			if i%1000 == 999 && tr.root != nil {
				checkNode(t, tr.root, nil, nil)
			}
		}
		if diff := cmp.Diff(ofMap(m), itemsOf(&tr)); diff != "" {
			t.Fatalf("seed %d: %s", seed, diff)
		}
		for i, c := range copies {
			if diff := cmp.Diff(c.want, itemsOf(&c.tree)); diff != "" {
				t.Fatalf("seed %d: copy %d has changed: %s", seed, i, diff)
			}
		}
		for key := range m {
			if it := tr.get([]byte(key)); it == nil || string(it.value) != m[key] {
				t.Fatalf("seed %d: key %q is not found", seed, key)
			}
			tr.delete([]byte(key))
		}
		if tr.root != nil || tr.n != 0 || tr.get([]byte("x")) != nil {
			t.Fatalf("seed %d: the emptied tree has %d items", seed, tr.n)
		}
	}
}
