package checkpoint

const (
	// maxChunkBytes is about how much of a snapshot goes into one entry: so much that writing
	// it costs a commit that comes along less than a sync does.
	maxChunkBytes = 128 << 10
)

// snapshot cuts an immutable state into chunks.
type snapshot struct {
	of       *state
	index    uint32
	from     []byte // the last key done
	started  bool
	finished bool
	items    []*item // of the present chunk
}

func newSnapshot(of *state) *snapshot { return &snapshot{of: of} }

// next adds the next chunk to an entry.
func (s *snapshot) next(e *encoder) {
	s.items = s.items[:0]
	size, more := 0, false
	s.of.keys.ascend(s.from, func(it *item) bool {
		if s.started && string(it.key) == string(s.from) {
			return true
		}
		if size >= maxChunkBytes {
			more = true
			return false
		}
		size += len(it.key) + len(it.value)
		s.items = append(s.items, it)
		return true
	})
	c := chunk{base: s.of.seq, index: s.index, final: !more}
	if c.final {
		c.total = uint64(s.of.keys.n)
	}
	e.snapshot(c, s.items)
	if n := len(s.items); n > 0 {
		s.from, s.started = s.items[n-1].key, true
	}
	s.index++
	s.finished = c.final
}
