package checkpoint

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
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
				checkHeads(t, tr.root)
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

// Keys that are hard to tell apart by a few of their bytes: they differ in zeros at the end, behind a long beginning that they share, or in their length alone.
func TestTheTreeTellsKeysApartThatLookAlike(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	fronts := []string{"", "a", "12345678", "123456789", strings.Repeat("x", maxSkip-1), strings.Repeat("x", maxSkip+9)}
	random := func() string {
		b := []byte(fronts[rng.IntN(len(fronts))])
		for range rng.IntN(14) {
			b = append(b, "\x00\x00\x01\xff"[rng.IntN(4)])
		}
		return string(b)
	}
	for range 4 {
		var tr tree
		m := map[string]string{}
		for i := range 12_000 {
			key := random()
			want, found := m[key]
			switch it := tr.get([]byte(key)); {
			case found != (it != nil) || found && string(it.value) != want:
				t.Fatalf("key %q: %v, want %q, %v", key, it, want, found)
			case found && rng.IntN(2) == 0:
				tr.delete([]byte(key))
				delete(m, key)
			default:
				value := fmt.Sprint(i)
				old := tr.put(newItem([]byte(key), []byte(value), 1))
				if found != (old != nil) || found && string(old.value) != want {
					t.Fatalf("key %q: it was %v, want %q, %v", key, old, want, found)
				}
				m[key] = value
			}
			if rng.IntN(1000) == 0 {
				tr.freeze()
			}
			if i%3000 == 0 {
				checkHeads(t, tr.root)
			}
		}
		if diff := cmp.Diff(ofMap(m), itemsOf(&tr)); diff != "" {
			t.Fatal(diff)
		}
		for range 300 { // a scan begins where it is told to
			from := random()
			var first string
			tr.ascend([]byte(from), func(it *item) bool { first = string(it.key); return false })
			want := ""
			for _, key := range slices.Sorted(maps.Keys(m)) {
				if key >= from {
					want = key
					break
				}
			}
			if first != want {
				t.Fatalf("from %q: %q, want %q", from, first, want)
			}
		}
	}
}

// checkHeads verifies that each node has the heads of its keys.
func checkHeads(t *testing.T, n *node) {
	t.Helper()
	keys := len(n.items) + len(n.seps)
	if len(n.heads.list) != keys {
		t.Fatalf("%d heads of %d keys", len(n.heads.list), keys)
	}
	for i := range keys {
		if !n.heads.shared(n.key(i)) || n.heads.list[i] != n.heads.of(n.key(i)) {
			t.Fatalf("the head of %q behind %q is %x", n.key(i), n.heads.prefix[:n.heads.skip], n.heads.list[i])
		}
	}
	for _, kid := range n.kids {
		checkHeads(t, kid)
	}
}
