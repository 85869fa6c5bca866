package history

import (
	"bytes"
	"sync"
	"testing"
	"unsafe"
)

func TestEventsOfManyClientsAreNumberedWithoutGapsAndInProgramOrder(t *testing.T) {
	const clients, each = 8, 3 * chunk / 2
	r := NewRecorder()
	var wg sync.WaitGroup
	for range clients {
		c := r.Client()
		wg.Go(func() {
			for i := range each {
				c.Publish(Record{ID: uint64(i)})
			}
		})
	}
	wg.Wait()
	events := r.Events()
	if len(events) != clients*each {
		t.Fatalf("%d events, want %d", len(events), clients*each)
	}
	next := map[uint32]uint64{}
	for i, e := range events {
		if e.Seq != Seq(i+1) || e.Record.ID != next[e.Client] {
			t.Fatalf("event %d is %s, want record %d", i, e, next[e.Client])
		}
		next[e.Client]++
	}
}

func TestAnEventHasNoPointersAndIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(Event{}); size > 96 {
		t.Errorf("%d bytes", size)
	}
	_ = map[Event]bool{} // comparable: nothing in it is shared
}

func TestAValueTellsItsIDAndNoBitOfItCanChangeUnseen(t *testing.T) {
	for _, size := range []int{0, 1, 7, 8, 100} {
		v := Value(77, size)
		if ID(v) != 77 || len(v) != valueHead+size {
			t.Fatalf("size %d: id %d in %d bytes", size, ID(v), len(v))
		}
		sum := Digest(nil, v)
		for bit := range len(v) * 8 {
			w := bytes.Clone(v)
			w[bit/8] ^= 1 << (bit % 8)
			if ID(w) == 77 && Digest(nil, w) == sum {
				t.Errorf("size %d: bit %d", size, bit)
			}
		}
	}
	if ID(nil) != 0 || ID(make([]byte, 40)) != 0 {
		t.Error("an id was found where there is none")
	}
	if Digest([]byte("ab"), []byte("c")) == Digest([]byte("a"), []byte("bc")) {
		t.Error("where a part ends does not count")
	}
}

func BenchmarkRecord(b *testing.B) {
	r := NewRecorder()
	b.RunParallel(func(pb *testing.PB) {
		c := r.Client()
		for pb.Next() {
			if len(c.chunks) > 64 {
				c.chunks = nil
			}
			c.Publish(Record{ID: 1})
		}
	})
}

func TestAResumedHistoryGoesOnWhereTheOtherEnded(t *testing.T) {
	first := NewRecorder()
	first.Client().Publish(Record{ID: 1})
	events := first.Events()
	second := Resume(Seq(len(events)), events[len(events)-1].Client+1, func(e Event) { events = append(events, e) })
	second.Reopened()
	var wg sync.WaitGroup
	for i := range 4 {
		c := second.Client()
		wg.Go(func() {
			for range 100 {
				c.Stored(c.Publish(Record{ID: uint64(10 + i)}), Place{})
			}
		})
	}
	wg.Wait()
	owner := map[uint32]uint64{}
	for i, e := range events {
		if e.Seq != Seq(i+1) {
			t.Fatalf("event %d is %v", i, e)
		}
		if e.Kind != Publish {
			continue
		}
		if id, known := owner[e.Client]; known && id != e.Record.ID {
			t.Fatalf("%v and record %d have one client", e, id)
		}
		owner[e.Client] = e.Record.ID
	}
	if len(events) != 2+4*200 || len(owner) != 5 {
		t.Errorf("%d events of %d clients", len(events), len(owner))
	}
}
