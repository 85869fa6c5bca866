package log

import (
	"slices"
	"sync"
	"sync/atomic"
)

// listeners are the channels that are told when something has changed.
type listeners struct {
	n  atomic.Int32 // how many, so that telling nobody costs one load
	mu sync.Mutex
	ch []chan<- struct{}
}

// notify sends to every channel that has room.
func (n *listeners) notify() {
	if n.n.Load() == 0 {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, ch := range n.ch {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// Notify sends to ch, without ever waiting, whenever the visible end or the start moves, the log fails or is
// closed. A channel with room for one loses nothing. cancel ends it.
func (l *Log) Notify(ch chan<- struct{}) (cancel func()) {
	n := &l.listeners
	n.mu.Lock()
	n.ch = append(n.ch, ch)
	n.n.Add(1)
	n.mu.Unlock()
	return sync.OnceFunc(func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		i := slices.Index(n.ch, ch)
		n.ch = slices.Delete(n.ch, i, i+1)
		n.n.Add(-1)
	})
}
