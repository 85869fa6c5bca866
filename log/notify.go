package log

import (
	"slices"
	"sync"
	"sync/atomic"
)

// listeners are those who are told when something has changed.
type listeners struct {
	n  atomic.Int32 // how many, so that telling nobody costs one load
	mu sync.Mutex
	fs []*func()
}

// notify tells everybody.
func (n *listeners) notify() {
	if n.n.Load() == 0 {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, f := range n.fs {
		(*f)()
	}
}

// Notify calls f after the visible end or the start has moved, and when the log fails or is
// closed. f must be fast, and must not call the log. cancel ends it: when it has returned f is not called any more.
func (l *Log) Notify(f func()) (cancel func()) {
	n := &l.listeners
	n.mu.Lock()
	n.fs = append(n.fs, &f)
	n.n.Add(1)
	n.mu.Unlock()
	return sync.OnceFunc(func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		i := slices.Index(n.fs, &f)
		n.fs = slices.Delete(n.fs, i, i+1)
		n.n.Add(-1)
	})
}
