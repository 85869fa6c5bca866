package backpressure

import "sync/atomic"

// Weight is what an item counts for in a Queue. An item counts as one record at
// least and as no less than zero bytes, whatever its Weight says; so a zero Weight
// is fit for an item that only carries a signal.
type Weight struct {
	Records int
	Bytes   int64
}

// Largest limits that a Queue can have: what its gauge word has room for.
const (
	LargestMaxRecords = 1<<recordBits - 1
	LargestMaxBytes   = 1<<byteBits - 1
)

// The gauge word: one flag, 24 bits of records, 39 bits of bytes. The sum of two
// packed weights is the packed sum, as long as the limits keep fields in bounds.
const (
	byteBits   = 39
	recordBits = 24
	byteMask   = 1<<byteBits - 1
	waitingBit = 1 << 63
)

// packed is a Weight in the form of the gauge word, without the flag.
type packed uint64

func pack(records, bytes uint64) packed { return packed(records<<byteBits | bytes) }

func (p packed) records() uint64 { return uint64(p) >> byteBits }
func (p packed) bytes() uint64   { return uint64(p) & byteMask }

func (p packed) weight() Weight {
	return Weight{Records: int(p.records()), Bytes: int64(p.bytes())}
}

// gauge counts what is in a queue or on its way in, and carries the flag that
// bars the way for producers that would overtake others.
type gauge struct {
	word atomic.Uint64
	// Written when the policy or the state changes.
	maxRecords, maxBytes     atomic.Uint64
	granted                  atomic.Uint64 // bytes: maxBytes, or less of it, as a Budget has granted
	alarmRecords, alarmBytes atomic.Uint64 // the depth from which on the state is another
}

// alarmed reports whether so much is enough for another state.
func (g *gauge) alarmed(held packed) bool {
	return held.records() >= g.alarmRecords.Load() || held.bytes() >= g.alarmBytes.Load()
}

// claim adds w if it fits and, with barred == waitingBit, nobody waits, and returns
// what is held then. An item of more bytes than granted fits when nothing else is there.
func (g *gauge) claim(w packed, barred uint64) (after packed, ok bool) {
	for {
		cur := g.word.Load()
		held := packed(cur &^ waitingBit)
		if cur&barred != 0 ||
			held.records()+w.records() > g.maxRecords.Load() ||
			held.bytes()+w.bytes() > g.granted.Load() && held != 0 {
			return held, false
		}
		if g.word.CompareAndSwap(cur, cur+uint64(w)) {
			return held + w, true
		}
	}
}

// release takes back what was claimed and reports whether somebody waits.
func (g *gauge) release(w packed) (waiting bool) {
	return g.word.Add(-uint64(w))&waitingBit != 0
}

func (g *gauge) setWaiting()   { g.word.Or(waitingBit) }
func (g *gauge) clearWaiting() { g.word.And(^uint64(waitingBit)) }

func (g *gauge) held() packed { return packed(g.word.Load() &^ waitingBit) }

// below reports whether records and bytes are both under percent of their limits.
func (g *gauge) below(percent uint64) bool {
	held := g.held()
	return held.records()*100 < g.maxRecords.Load()*percent && held.bytes()*100 < g.maxBytes.Load()*percent
}
