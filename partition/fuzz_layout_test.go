package partition

import (
	"bytes"
	"errors"
	"runtime/metrics"
	"slices"
	"testing"
)

// FuzzLayout decodes any bytes as a layout. What is accepted is encoded to the same bytes; its partitions have rising ids and older parents; every hash that it is asked for, the
// edges of all ranges too, has one owner, which Route finds. Anything else is ErrLayout, in memory of a small multiple of the input.
func FuzzLayout(f *testing.F) {
	for _, l := range []func() (*Layout, error){
		func() (*Layout, error) { return NewLayout(1, 1) },
		func() (*Layout, error) { return NewLayout(10, 7) },
		func() (*Layout, error) { return aLayout(f), nil },
	} {
		layout, err := l()
		if err != nil {
			f.Fatal(err)
		}
		b, _ := layout.MarshalBinary()
		f.Add(b, uint64(1)<<63)
		f.Add(b[:len(b)-1], uint64(0))
	}
	f.Add([]byte{1, 0xff, 0xff, 0xff, 0xff}, uint64(1))
	f.Fuzz(func(t *testing.T, b []byte, hash uint64) {
		sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
		metrics.Read(sample)
		before := sample[0].Value.Uint64()
		l, err := DecodeLayout(b)
		metrics.Read(sample)
		if got, most := sample[0].Value.Uint64()-before, uint64(1<<20+32*len(b)); got > most {
			t.Errorf("%d bytes allocated, at most %d", got, most)
		}
		if err != nil {
			if !errors.Is(err, ErrLayout) {
				t.Errorf("error %v, want ErrLayout", err)
			}
			return
		}
		if again, err := l.MarshalBinary(); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x is accepted and encoded as %x, %v", b, again, err)
		}
		checkLineage(t, l)
		hashes := []uint64{hash}
		for _, p := range l.Active() {
			hashes = append(hashes, p.Range.Lo, p.Range.Hi)
		}
		for _, h := range hashes {
			owners := 0
			for _, p := range l.Active() {
				if p.Range.Contains(h) {
					owners++
				}
			}
			if i := l.Route(h); owners != 1 || !l.Active()[i].Range.Contains(h) {
				t.Errorf("hash %#x has %d owners and goes to %+v", h, owners, l.Active()[i])
			}
		}
	})
}

func checkLineage(t *testing.T, l *Layout) {
	t.Helper()
	for i, p := range l.All() {
		if i > 0 && p.ID <= l.All()[i-1].ID {
			t.Errorf("partition %d comes behind %d", p.ID, l.All()[i-1].ID)
		}
		if found, ok := l.Lookup(p.ID); !ok || found.ID != p.ID {
			t.Errorf("partition %d is looked up as %+v", p.ID, found)
		}
		for _, parent := range p.Parents {
			if parent >= p.ID {
				t.Errorf("partition %d has the parent %d", p.ID, parent)
			}
		}
		if active := slices.ContainsFunc(l.Active(), func(a Info) bool { return a.ID == p.ID }); active != (p.State == StateActive) {
			t.Errorf("partition %d is active: %v", p.ID, active)
		}
	}
}
