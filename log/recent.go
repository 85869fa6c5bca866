package log

import "sync"

// recentBytes bounds what a log keeps of what it wrote last.
const recentBytes = 4 << 10

// recent is a copy of the end of the active segment, as it was written: somebody who follows the log has small frames from memory, without a system call. It is kept only while
// somebody follows, and only of small writes; for large ones the call is not what costs.
//
// It holds what a write has brought to the file and nothing else, so reading it is reading the file. How far a reader may look is not its business: that is the
// visible end, as in the file. What it gives is verified like everything that is read.
type recent struct {
	mu      sync.Mutex
	segment uint32 // whose it is; 0: nobody's
	pos     int64  // where data begins in the segment's file
	data    []byte
}

// wrote takes note of what is in the file now.
func (r *recent) wrote(segment uint32, pos int64, data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(data) > recentBytes {
		r.segment, r.data = 0, r.data[:0]
		return
	}
	if r.data == nil {
		r.data = make([]byte, 0, recentBytes)
	}
	if segment != r.segment || pos != r.pos+int64(len(r.data)) || len(r.data)+len(data) > recentBytes {
		r.segment, r.pos, r.data = segment, pos, r.data[:0]
	}
	r.data = append(r.data, data...)
}

// forget lets the memory go.
func (r *recent) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.segment, r.data = 0, nil
}

// readAt fills b from pos on and reports whether it could: all of it, or nothing.
func (r *recent) readAt(segment uint32, b []byte, pos int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	off := pos - r.pos
	if segment != r.segment || off < 0 || off+int64(len(b)) > int64(len(r.data)) {
		return false
	}
	copy(b, r.data[off:])
	return true
}
