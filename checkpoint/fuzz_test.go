package checkpoint

import (
	"encoding/binary"
	"testing"
)

// seedEntries are entries of every kind.
func seedEntries() [][]byte {
	const salt = 1
	var enc encoder
	var all [][]byte
	add := func(fill func()) {
		enc.begin()
		fill()
		all = append(all, append([]byte{}, enc.seal(salt, 5, 4)...))
	}
	add(func() {})
	add(func() { enc.commit(putBatch("k", "v", "", "")) })
	add(func() {
		b := putBatch("k", "v")
		b.Delete([]byte("gone"))
		b.Expect([]byte("x"), 3)
		enc.commit(b)
		enc.commit(new(Batch))
		enc.snapshot(chunk{base: 4, index: 2}, []*item{newItem([]byte("a"), []byte("b"), 1), newItem(nil, nil, 300)})
	})
	add(func() { enc.snapshot(chunk{base: 4, final: true, total: 7}, nil) })
	return all
}

// FuzzDecodeEntry gives the decoder bytes whose hash and length are put right, so that it gets past them. What it accepts:
//
//   - takes as many sequence numbers as it has commits, at least one, and none twice;
//   - was not durable before it was written;
//   - can be replayed.
func FuzzDecodeEntry(f *testing.F) {
	for _, e := range seedEntries() {
		f.Add(e, true)
		f.Add(e[:len(e)-1], true)
		f.Add(e, false)
	}
	f.Fuzz(func(t *testing.T, b []byte, repair bool) {
		const salt = 1
		if repair && len(b) >= headerBytes {
			le := binary.LittleEndian
			le.PutUint32(b, entryMagic)
			le.PutUint32(b[8:], uint32(len(b)-headerBytes))
			le.PutUint64(b[hashAt:], hashOf(salt, b))
		}
		e, err := decodeEntry(salt, b)
		if err != nil {
			return
		}
		if e.last() < e.first || e.synced >= e.first || e.last()-e.first+1 != uint64(max(1, len(e.commits))) {
			t.Errorf("accepted %+v", e)
		}
		for _, c := range e.commits {
			if err := eachWrite(c, func(opKind, []byte, []byte) {}); err != nil {
				t.Error(err)
			}
		}
		for _, c := range e.chunks {
			if err := eachItem(c.items, func([]byte, []byte, Revision) {}); err != nil {
				t.Error(err)
			}
		}
	})
}

// FuzzRecover gives recovery the bytes of a generation's file. It returns a state or an error, and what it
// sets aside is what stands behind what it keeps.
func FuzzRecover(f *testing.F) {
	var whole []byte
	for _, e := range seedEntries() {
		whole = append(binary.AppendUvarint(whole, uint64(len(e))), e...)
		f.Add(whole, uint64(4))
	}
	f.Add(append(whole, 0, 0, 0), uint64(0))
	f.Fuzz(func(t *testing.T, b []byte, proven uint64) {
		s := findEntries(b, 1)
		if s.end < 0 || s.end > int64(len(b)) {
			t.Fatalf("entries end at %d of %d", s.end, len(b))
		}
		r, err := recoverState([]*scanned{s}, proven, 1<<62)
		if err != nil {
			if !typed(err) {
				t.Errorf("error %v is not a typed one", err)
			}
			return
		}
		if r.state.seq < proven && proven <= 1<<62 {
			t.Errorf("the state ends with %d, proven was %d", r.state.seq, proven)
		}
	})
}

func FuzzDecodeCurrent(f *testing.F) {
	c := current{id: testID, proven: 12, generations: []uint64{3, 4}}
	f.Add(c.encode())
	f.Add([]byte(newerCurrent()))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := decodeCurrent(b)
		if err == nil && string(c.encode()) != string(b) {
			t.Errorf("%q is accepted and written as %q", b, c.encode())
		}
	})
}
