package partition

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/braid-go/braid/backpressure"
	"github.com/braid-go/braid/internal/vfs"
	"github.com/braid-go/braid/log"
)

// eager is large, and can be encoded ahead.
type eager struct {
	large
	refuse       error
	needsTime    bool
	ahead, later *atomic.Int64 // records encoded by the publisher, and by the appender
}

func newEager(first, records int) eager {
	return eager{large: large{first: first, records: records}, ahead: new(atomic.Int64), later: new(atomic.Int64)}
}

func (e eager) EncodeAhead(a *log.Ahead) (bool, error) {
	if e.needsTime {
		return false, nil
	}
	for i := range e.records {
		if e.refuse != nil && i > 0 {
			return false, e.refuse
		}
		if err := a.Append(nil, []byte(e.value(i)), nil); err != nil {
			return false, err
		}
	}
	e.ahead.Add(int64(e.records))
	return true, nil
}

func (e eager) AppendTo(b *log.Builder, i int, now int64) error {
	e.later.Add(1)
	return e.large.AppendTo(b, i, now)
}

func (e eager) request(p *Partition) *Request {
	return p.NewRequest(e, e.records, int64(e.records*largeRecord), nil)
}

// publishHeld publishes while the appender is at work on something else.
func (e eager) publishHeld(t *testing.T, p *Partition) {
	t.Helper()
	r := e.request(p)
	held(t, p, func() {
		if err := p.Enqueue(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	})
	if err := r.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.Release()
}

func TestALargeRequestIsEncodedByItsPublisherWhileTheAppenderIsBusy(t *testing.T) {
	p := testPartition(t, vfs.NewMem(), log.ModeFsync)
	e := newEager(1, 20)
	e.publishHeld(t, p)
	if e.ahead.Load() != 20 || e.later.Load() != 0 {
		t.Errorf("%d records encoded by the publisher, %d by the appender", e.ahead.Load(), e.later.Load())
	}
	wantNumbers(t, p, numbers(0, 21)...)
}

func TestWhatCannotBeEncodedAheadIsEncodedByTheAppender(t *testing.T) {
	for name, change := range map[string]func(*eager){
		"it needs the append time": func(e *eager) { e.needsTime = true },
		"it cannot be encoded":     func(e *eager) { e.refuse = errStubborn }, // half of it is encoded by then
		"it is small":              func(e *eager) { e.records = 0 },
		"it is very large":         func(e *eager) { e.records = aheadTo/largeRecord + 1 },
	} {
		t.Run(name, func(t *testing.T) {
			p := testPartition(t, vfs.NewMem(), log.ModeFsync)
			e := newEager(1, 20)
			change(&e)
			e.publishHeld(t, p)
			if e.ahead.Load() != 0 || e.later.Load() != int64(e.records) {
				t.Errorf("%d records encoded by the publisher, %d by the appender", e.ahead.Load(), e.later.Load())
			}
			wantNumbers(t, p, numbers(0, 1+e.records)...)
		})
	}
}

func TestWhatTheQueueHasNoRoomForIsNotEncodedAhead(t *testing.T) {
	p := testPartition(t, vfs.NewMem(), log.ModeFsync)
	if err := p.SetPressure(backpressure.Policy{MaxRecords: 1000, MaxBytes: 20 * largeRecord}); err != nil {
		t.Fatal(err)
	}
	fits, many := newEager(1, 15), newEager(16, 15)
	r, q := fits.request(p), many.request(p)
	defer q.Release()
	held(t, p, func() {
		if err := p.Enqueue(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		q.encodeAhead(p.lane.Load())
	})
	if err := r.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if fits.ahead.Load() != 15 || many.ahead.Load() != 0 {
		t.Errorf("%d records that had room were encoded ahead, and %d that had none", fits.ahead.Load(), many.ahead.Load())
	}
}

func TestWhatIsEncodedAheadIsBoundedForAllPartitionsTogether(t *testing.T) {
	h := newHouse(t, vfs.NewMem(), log.ModeFsync, nil, 2)
	const records = 20
	var encoded, left int64
	reqs := make([][]*Request, len(h.parts))
	held(t, h.parts[0], func() {
		held(t, h.parts[1], func() {
			for i := range 2 * mostAhead / (records * largeRecord) {
				e := newEager(0, records)
				p := h.parts[i%len(h.parts)]
				r := e.request(p)
				if err := p.Enqueue(t.Context(), r); err != nil {
					t.Fatal(err)
				}
				encoded += e.ahead.Load() / records
				reqs[i%len(h.parts)] = append(reqs[i%len(h.parts)], r)
			}
			left = h.s.ahead.Load()
		})
	})
	if encoded == 0 || encoded*records*largeRecord > mostAhead || left != encoded*records*largeRecord {
		t.Errorf("%d requests encoded ahead, %d bytes counted, of at most %d", encoded, left, mostAhead)
	}
	for i, p := range h.parts {
		for _, r := range reqs[i] {
			if err := r.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			r.Release()
		}
		if n := len(stored(t, p)); n != 1+len(reqs[i])*records {
			t.Errorf("%d records in partition %d, want %d", n, i, 1+len(reqs[i])*records)
		}
	}
	if left := h.s.ahead.Load(); left != 0 {
		t.Errorf("%d bytes counted as encoded ahead, and there is nothing", left)
	}
}

func TestPublishersThatEncodeAheadKeepTheirOrder(t *testing.T) {
	p := testPartition(t, vfs.NewMem(), log.ModeOS)
	const publishers, calls, records = 8, 40, 3
	var wg sync.WaitGroup
	for i := range publishers {
		wg.Go(func() {
			for c := range calls {
				e := newEager((i*calls+c)*records, records)
				r := e.request(p)
				if err := p.Enqueue(context.Background(), r); err != nil {
					t.Error(err)
					return
				}
				if err := r.Wait(context.Background()); err != nil {
					t.Error(err)
				}
				r.Release()
			}
		})
	}
	wg.Wait()
	next := make([]int, publishers)
	for _, v := range stored(t, p) {
		var n int
		if _, err := fmt.Sscan(v, &n); err != nil || v != (large{first: n}).value(0) {
			t.Fatalf("a record %.20q", v)
		}
		if i := n / (calls * records); n%(calls*records) != next[i] {
			t.Fatalf("record %d of publisher %d where %d was due", n%(calls*records), i, next[i])
		} else {
			next[i]++
		}
	}
	for i, n := range next {
		if n != calls*records {
			t.Errorf("%d records of publisher %d", n, i)
		}
	}
}
