package backpressure

// waiter is a producer in the line, with the item it wants queued. The queue's
// mutex guards it while it is in the line; done carries the one result.
type waiter[T any] struct {
	item       entry[T]
	done       chan error // buffered, so that telling never blocks under the mutex
	prev, next *waiter[T]
	inLine     bool
}

// line holds waiters in order of arrival.
type line[T any] struct {
	front, back *waiter[T]
}

func (l *line[T]) join(w *waiter[T]) {
	w.prev, w.next, w.inLine = l.back, nil, true
	if l.back == nil {
		l.front = w
	} else {
		l.back.next = w
	}
	l.back = w
}

func (l *line[T]) leave(w *waiter[T]) {
	if w.prev == nil {
		l.front = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		l.back = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.prev, w.next, w.inLine = nil, nil, false
}
