package checkpoint

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime/metrics"
	"testing"

	"github.com/cespare/xxhash/v2"

	"github.com/braid-go/braid/internal/damage"
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
	add(func() { enc.frames(Frames{7, []byte("frames")}); enc.commit(putBatch("k", "v")) })
	return all
}

// FuzzDecodeEntry gives the decoder bytes, also some whose hash and length are put right so that it gets past them. What it accepts:
//
//   - is encoded to the same bytes again;
//   - takes as many sequence numbers as it has commits, at least one, and none twice;
//   - was not durable before it was written;
//   - is refused in another generation or store, cut short by a byte, and with any one bit flipped.
//
// Nothing allocates more than a small multiple of its input.
func FuzzDecodeEntry(f *testing.F) {
	for _, e := range seedEntries() {
		f.Add(e, true, uint32(70))
		f.Add(e[:len(e)-1], true, uint32(0))
		f.Add(e, false, uint32(400))
	}
	f.Fuzz(func(t *testing.T, b []byte, repair bool, bit uint32) {
		const salt = 1
		if repair && len(b) >= headerBytes {
			b = bytes.Clone(b)
			le := binary.LittleEndian
			le.PutUint32(b, entryMagic)
			le.PutUint32(b[8:], uint32(len(b)-headerBytes))
			le.PutUint64(b[hashAt:], hashOf(salt, b))
		}
		var e *entry
		var err error
		if got, most := allocated(func() { e, err = decodeEntry(salt, b) }), uint64(1<<20+64*len(b)); got > most {
			t.Errorf("%d bytes allocated, at most %d", got, most)
		}
		if err != nil {
			return
		}
		if e.last() < e.first || e.synced >= e.first || e.last()-e.first+1 != uint64(max(1, len(e.commits))) {
			t.Errorf("accepted %+v", e)
		}
		if again := encodeAgain(t, salt, e, b); !bytes.Equal(again, b) {
			t.Errorf("%x is accepted and encoded as %x", b, again)
		}
		flipped := damage.Flip(b, int(bit)%(8*len(b)))
		for what, decode := range map[string]func() (*entry, error){
			"elsewhere":          func() (*entry, error) { return decodeEntry(salt+1, b) },
			"cut short":          func() (*entry, error) { return decodeEntry(salt, b[:len(b)-1]) },
			"with a flipped bit": func() (*entry, error) { return decodeEntry(salt, flipped) },
		} {
			if _, err := decode(); err == nil {
				t.Errorf("accepted %s (bit %d)", what, bit)
			}
		}
	})
}

// encodeAgain encodes what an entry was decoded to, section by section in the order in which they lie in b.
func encodeAgain(t *testing.T, salt uint64, e *entry, b []byte) []byte {
	t.Helper()
	var enc encoder
	enc.begin()
	commits, chunks, frames := e.commits, e.chunks, e.frames
	for b = b[headerBytes:]; len(b) > 0; b = b[sectionBytes+binary.LittleEndian.Uint32(b[1:]):] {
		switch b[0] {
		case sectionCommit:
			var batch Batch
			if err := eachWrite(commits[0], func(kind opKind, key, value []byte) {
				if kind == opPut {
					batch.Put(key, value)
				} else {
					batch.Delete(key)
				}
			}); err != nil {
				t.Fatal(err)
			}
			enc.commit(&batch)
			commits = commits[1:]
		case sectionSnapshot:
			var items []*item
			if err := eachItem(chunks[0].items, func(key, value []byte, rev Revision) { items = append(items, newItem(key, value, rev)) }); err != nil {
				t.Fatal(err)
			}
			enc.snapshot(chunks[0], items)
			chunks = chunks[1:]
		case sectionFrames:
			enc.frames(frames[0])
			frames = frames[1:]
		}
	}
	return enc.seal(salt, e.first, e.synced)
}

// allocated returns how many bytes f allocates.
func allocated(f func()) uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	before := sample[0].Value.Uint64()
	f()
	metrics.Read(sample)
	return sample[0].Value.Uint64() - before
}

// FuzzRecover gives recovery the bytes of a generation's file, also with the hashes of its entries put right. It returns a state or an error, and what it
// sets aside is what stands behind what it keeps. No key is younger than the state.
func FuzzRecover(f *testing.F) {
	var whole []byte
	for i, e := range seedEntries() {
		if i == 0 {
			continue
		}
		whole = append(binary.AppendUvarint(whole, uint64(len(e))), e...)
		f.Add(whole, uint64(4), false)
		f.Add(whole, uint64(0), true)
	}
	f.Add(append(whole, 0, 0, 0), uint64(0), false)
	for _, rev := range []Revision{4, 300} { // a state, and a snapshot with a key that is younger than it
		f.Add(aGeneration(rev), uint64(6), false)
		f.Add(aGeneration(rev), uint64(0), true)
	}
	f.Fuzz(func(t *testing.T, b []byte, proven uint64, repair bool) {
		b = bytes.Clone(b)
		for rest := b; repair; {
			n, head := binary.Uvarint(rest)
			if head <= 0 || n < headerBytes || n > uint64(len(rest)-head) {
				break
			}
			e := rest[head : head+int(n)]
			binary.LittleEndian.PutUint32(e, entryMagic)
			binary.LittleEndian.PutUint32(e[8:], uint32(n-headerBytes))
			binary.LittleEndian.PutUint64(e[hashAt:], hashOf(1, e))
			rest = rest[head+int(n):]
		}
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
		for i, tail := range r.tails {
			if from := r.torn[i].Offset; from < 0 || !bytes.HasPrefix(b[from:], tail) || len(bytes.Trim(b[from+int64(len(tail)):], "\x00")) > 0 {
				t.Errorf("%d bytes are set aside from %d, of %d", len(tail), from, len(b))
			}
		}
		r.state.keys.ascend(nil, func(it *item) bool {
			if uint64(it.rev) > r.state.seq {
				t.Errorf("key %q has revision %d in a state that ends with %d", it.key, it.rev, r.state.seq)
			}
			return true
		})
	})
}

// aGeneration is the file of a generation: a snapshot with one key of a revision, after number 4, and two commits.
func aGeneration(rev Revision) []byte {
	var enc encoder
	var out []byte
	for i := range uint64(3) {
		enc.begin()
		if i == 0 {
			enc.snapshot(chunk{base: 4, final: true, total: 1}, []*item{newItem([]byte("old"), []byte("value"), rev)})
		} else {
			enc.commit(putBatch("k", fmt.Sprint(i)))
		}
		e := enc.seal(1, 5+i, 4+i)
		out = append(binary.AppendUvarint(out, uint64(len(e))), e...)
	}
	return out
}

// FuzzDecodeCurrent decodes any text as CURRENT, also with its sum put right. What is accepted is encoded to the same bytes, lists generations in order, and is refused with
// any one bit flipped. Only a higher version is ErrVersion.
func FuzzDecodeCurrent(f *testing.F) {
	c := current{id: testID, proven: 12, generations: []uint64{3, 4}}
	twice := current{id: testID, proven: 12, generations: []uint64{3, 3}}
	for _, b := range [][]byte{c.encode(), twice.encode(), []byte(newerCurrent()), bytes.ToUpper(c.encode()), bytes.Replace(c.encode(), []byte("3"), []byte("5"), 1)} {
		f.Add(b, false, uint16(9))
		f.Add(b, true, uint16(90))
	}
	f.Fuzz(func(t *testing.T, b []byte, repair bool, bit uint16) {
		if body, _, found := bytes.Cut(b, []byte("sum ")); repair && found {
			b = fmt.Appendf(bytes.Clone(body), "sum %016x\n", xxhash.Sum64(body))
		}
		c, err := decodeCurrent(b)
		if err != nil {
			if errors.Is(err, ErrVersion) && bytes.HasPrefix(b, []byte("checkpoint 1\n")) {
				t.Errorf("%q: %v", b, err)
			}
			return
		}
		if string(c.encode()) != string(b) {
			t.Errorf("%q is accepted and written as %q", b, c.encode())
		}
		if n := len(c.generations); n == 0 || n > maxGenerations || c.generations[0] == 0 {
			t.Errorf("accepted with the generations %v", c.generations)
		}
		for i, g := range c.generations[1:] {
			if g <= c.generations[i] {
				t.Errorf("accepted with the generations %v", c.generations)
			}
		}
		if _, err := decodeCurrent(damage.Flip(b, int(bit)%(8*len(b)))); err == nil {
			t.Errorf("accepted with bit %d flipped", bit)
		}
	})
}
