package checkpoint

import (
	"bytes"
	"slices"
)

// tree is a persistent B+tree: ordered, with copies that cost nothing. A node belongs
// to the tree that made it and is changed in place only there; any other tree
// copies it first. So whoever holds a copy reads it without locks for as long as it
// likes, and a round of commits copies each node at most once.
//
// The idea is that of the copy-on-write context of github.com/google/btree.
//
// A tree is changed by one goroutine at a time; frozen copies are read by anyone.
type tree struct {
	root *node
	n    int
	own  *owner
}

// owner is the identity of a tree; the field keeps Go from giving all the same address.
type owner struct{ _ byte }

// item is a key, immutable once it is in a tree.
type item struct {
	key, value []byte
	rev        Revision
}

func newItem(key, value []byte, rev Revision) *item {
	buf := make([]byte, len(key)+len(value))
	copy(buf, key)
	copy(buf[len(key):], value)
	return &item{buf[:len(key):len(key)], buf[len(key):], rev}
}

const (
	maxFanout = 64
	minFanout = maxFanout / 4
)

// node is a leaf (items) or an inner node: kids, with the keys between them. Key i is
// above everything in kid i and not above anything in kid i+1.
type node struct {
	own   *owner
	heads heads
	items []*item
	seps  [][]byte
	kids  []*node
}

func (n *node) leaf() bool { return n.kids == nil }

func (n *node) size() int { return len(n.items) + len(n.kids) }

// key returns key i of the node.
func (n *node) key(i int) []byte {
	if n.leaf() {
		return n.items[i].key
	}
	return n.seps[i]
}

// find returns where a key is among the node's, or belongs.
func (n *node) find(key []byte) (int, bool) {
	lo, hi := n.heads.find(key)
	for lo < hi { // the heads do not tell them apart
		mid := (lo + hi) / 2
		switch c := bytes.Compare(n.key(mid), key); {
		case c == 0:
			return mid, true
		case c < 0:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return lo, false
}

// kid returns the index of the kid that a key belongs to.
func (n *node) kid(key []byte) int {
	i, found := n.find(key)
	if found {
		i++
	}
	return i
}

// rehead makes the heads anew.
func (n *node) rehead() {
	count := len(n.items) + len(n.seps)
	n.heads.list = slices.Grow(n.heads.list[:0], maxFanout+1)
	if count == 0 {
		n.heads.skip = 0
		return
	}
	n.heads.share(n.key(0), n.key(count-1))
	for i := range count {
		n.heads.list = append(n.heads.list, n.heads.of(n.key(i)))
	}
}

// keyed takes note of a key that has just been put at i.
func (n *node) keyed(i int, key []byte) {
	if len(n.heads.list) == 0 || !n.heads.shared(key) {
		n.rehead()
		return
	}
	n.heads.list = slices.Insert(n.heads.list, i, n.heads.of(key))
}

// freeze returns a copy that later changes of t leave alone.
func (t *tree) freeze() tree {
	t.own = nil
	return *t
}

// mutable returns a node that may be changed: itself, or a copy if it is shared. Inlined five times, it would be 4 KB of instructions.
//
//go:noinline
func (t *tree) mutable(n *node) *node {
	if t.own == nil {
		t.own = new(owner)
	}
	if n.own == t.own {
		return n
	}
	c := &node{own: t.own, heads: n.heads}
	c.heads.list = append(make([]uint64, 0, maxFanout+1), n.heads.list...)
	if n.leaf() {
		c.items = append(make([]*item, 0, maxFanout+1), n.items...)
	} else {
		c.seps = append(make([][]byte, 0, maxFanout), n.seps...)
		c.kids = append(make([]*node, 0, maxFanout+1), n.kids...)
	}
	return c
}

func (t *tree) get(key []byte) *item {
	n := t.root
	if n == nil {
		return nil
	}
	for !n.leaf() {
		n = n.kids[n.kid(key)]
	}
	if i, found := n.find(key); found {
		return n.items[i]
	}
	return nil
}

// put sets a key, and returns what it was.
func (t *tree) put(it *item) (old *item) {
	if t.root == nil {
		t.root = &node{}
	}
	t.root = t.mutable(t.root)
	old, right, sep := t.insert(t.root, it)
	if right != nil {
		t.root = &node{own: t.own, seps: [][]byte{sep}, kids: []*node{t.root, right}}
		t.root.rehead()
	}
	if old == nil {
		t.n++
	}
	return old
}

// insert puts an item below a mutable node, and returns what it takes the place of. A node that has become too large is split:
// then its new right neighbour is returned, and the key between the two.
func (t *tree) insert(n *node, it *item) (old *item, right *node, sep []byte) {
	if n.leaf() {
		i, found := n.find(it.key)
		if found {
			old, n.items[i] = n.items[i], it
			return old, nil, nil
		}
		n.items = slices.Insert(n.items, i, it)
		n.keyed(i, it.key)
		if len(n.items) <= maxFanout {
			return nil, nil, nil
		}
		mid := len(n.items) / 2
		if i == len(n.items)-1 {
			mid = i // keys that arrive in order fill their leaves
		}
		right = &node{own: t.own, items: slices.Clone(n.items[mid:])}
		n.items = slices.Delete(n.items, mid, len(n.items))
		n.rehead()
		right.rehead()
		return nil, right, right.items[0].key
	}
	i := n.kid(it.key)
	n.kids[i] = t.mutable(n.kids[i])
	old, below, sep := t.insert(n.kids[i], it)
	if below == nil {
		return old, nil, nil
	}
	n.kids, n.seps = slices.Insert(n.kids, i+1, below), slices.Insert(n.seps, i, sep)
	n.keyed(i, sep)
	if len(n.kids) <= maxFanout {
		return old, nil, nil
	}
	mid := len(n.kids) / 2
	sep = n.seps[mid-1]
	right = &node{own: t.own, kids: slices.Clone(n.kids[mid:]), seps: slices.Clone(n.seps[mid:])}
	n.kids, n.seps = slices.Delete(n.kids, mid, len(n.kids)), slices.Delete(n.seps, mid-1, len(n.seps))
	n.rehead()
	right.rehead()
	return old, right, sep
}

// delete removes a key that is there.
func (t *tree) delete(key []byte) {
	t.root = t.mutable(t.root)
	t.remove(t.root, key)
	t.n--
	switch n := t.root; {
	case n.leaf() && len(n.items) == 0:
		t.root = nil
	case len(n.kids) == 1:
		t.root = n.kids[0]
	}
}

// remove deletes a key below a mutable node. A kid that has become small is joined
// with a neighbour if the two fit in one.
func (t *tree) remove(n *node, key []byte) {
	if n.leaf() {
		if i, found := n.find(key); found {
			n.items = slices.Delete(n.items, i, i+1)
			n.heads.list = slices.Delete(n.heads.list, i, i+1)
		}
		return
	}
	i := n.kid(key)
	n.kids[i] = t.mutable(n.kids[i])
	t.remove(n.kids[i], key)
	if n.kids[i].size() >= minFanout {
		return
	}
	if i == 0 || !t.join(n, i-1) {
		t.join(n, i)
	}
}

// join makes one node of kids i and i+1 of a mutable node, if there are two and they fit.
func (t *tree) join(n *node, i int) bool {
	if i+1 >= len(n.kids) || n.kids[i].size()+n.kids[i+1].size() > maxFanout {
		return false
	}
	left, right := t.mutable(n.kids[i]), n.kids[i+1]
	if left.leaf() {
		left.items = append(left.items, right.items...)
	} else {
		left.seps = append(append(left.seps, n.seps[i]), right.seps...)
		left.kids = append(left.kids, right.kids...)
	}
	left.rehead()
	n.kids[i] = left
	n.kids, n.seps = slices.Delete(n.kids, i+1, i+2), slices.Delete(n.seps, i, i+1)
	n.heads.list = slices.Delete(n.heads.list, i, i+1)
	return true
}

// ascend yields items in order, beginning with the first key that is not below from.
func (t *tree) ascend(from []byte, yield func(*item) bool) {
	if t.root != nil {
		t.root.ascend(from, yield)
	}
}

func (n *node) ascend(from []byte, yield func(*item) bool) bool {
	if n.leaf() {
		i, _ := n.find(from)
		for _, it := range n.items[i:] {
			if !yield(it) {
				return false
			}
		}
		return true
	}
	for _, kid := range n.kids[n.kid(from):] {
		if !kid.ascend(from, yield) {
			return false
		}
	}
	return true
}
