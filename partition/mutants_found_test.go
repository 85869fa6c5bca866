package partition

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/braid-go/braid/checkpoint"
	"github.com/braid-go/braid/internal/vfs"
	"github.com/braid-go/braid/log"
)

// slowJournal holds commits whose frames have their offsets, before anybody is told that they are durable.
type slowJournal struct {
	*fakeJournal
	goOn chan struct{}
}

func (j *slowJournal) CommitFrames(ctx context.Context, b *checkpoint.Batch, c checkpoint.Carrier) (checkpoint.Revision, error) {
	return j.fakeJournal.CommitFrames(ctx, b, slowCarrier{c, j.goOn})
}

type slowCarrier struct {
	checkpoint.Carrier
	goOn chan struct{}
}

func (c slowCarrier) Durable() {
	<-c.goOn
	c.Carrier.Durable()
}

// begun begins a transaction for a partition, and returns when it has its offsets there. It ends when the journal is let go on.
func begun(t *testing.T, h *house, p *Partition, value string) (ended chan error) {
	t.Helper()
	ended = make(chan error, 1)
	go func() {
		_, err := h.s.Transact(context.Background(), put("k", value), []*Output{output(p, value)})
		ended <- err
	}()
	synctest.Wait()
	if !p.pending.traveling() {
		t.Fatal("the transaction is not under way")
	}
	return ended
}

func TestASealWaitsForATransactionThatHasItsOffsets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &slowJournal{newFakeJournal(), make(chan struct{})}
		h := newHouse(t, vfs.NewMem(), log.ModeFsync, j, 1)
		p := h.parts[0]
		transaction := begun(t, h, p, "in front")
		type result struct {
			end int64
			err error
		}
		sealed := make(chan result, 1)
		go func() {
			end, err := p.Seal(context.Background())
			sealed <- result{end, err}
		}()
		synctest.Wait()
		select {
		case r := <-sealed:
			t.Errorf("sealed at %d, %v, with a transaction under way", r.end, r.err)
		default:
		}
		close(j.goOn)
		if err := <-transaction; err != nil {
			t.Error(err)
		}
		if r := <-sealed; r.err != nil || r.end != 1 || p.Log().DurableEnd() != 1 {
			t.Errorf("sealed at %d, %v, durable up to %d", r.end, r.err, p.Log().DurableEnd())
		}
	})
}

// Also when it has been written to the journal, as long as that is not synced: a record, and a transaction.
func TestWhatTravelsThroughTheJournalIsNotVisible(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &slowJournal{newFakeJournal(), make(chan struct{})}
		h := newHouse(t, vfs.NewMem(), log.ModeFsync, j, 1)
		p := h.parts[0]
		for range 2 {
			ended := make(chan error, 1)
			before := p.Log().VisibleEnd()
			if before == 0 {
				go func() {
					_, err := publish(context.Background(), p, "record")
					ended <- err
				}()
				synctest.Wait()
			} else {
				ended = begun(t, h, p, "transaction")
			}
			if !p.pending.traveling() {
				t.Error("it is not under way")
			}
			if end := p.Log().VisibleEnd(); end != before {
				t.Errorf("visible up to %d, want %d", end, before)
			}
			j.goOn <- struct{}{}
			if err := <-ended; err != nil {
				t.Error(err)
			}
			if end := p.Log().VisibleEnd(); end != before+1 {
				t.Errorf("visible up to %d, want %d", end, before+1)
			}
		}
		close(j.goOn)
	})
}

// It had looked whether the partition is sealed when that was not yet so.
func TestATransactionThatMeetsASealIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newFakeJournal()
		h := newHouse(t, vfs.NewMem(), log.ModeFsync, j, 1)
		p := h.parts[0]
		goOn := make(chan struct{})
		j.meddle(func() error { <-goOn; return nil }, nil)
		ended := make(chan error, 1)
		go func() {
			_, err := h.s.Transact(context.Background(), put("k", "late"), []*Output{output(p, "late")})
			ended <- err
		}()
		synctest.Wait()
		if p.txns.Load() != 1 {
			t.Fatal("the transaction is not under way")
		}
		end, err := p.Seal(t.Context())
		if err != nil || end != 0 {
			t.Errorf("sealed at %d, %v", end, err)
		}
		close(goOn)
		if err := <-ended; !errors.Is(err, ErrSealed) {
			t.Errorf("error %v, want ErrSealed", err)
		}
		if v, _, _ := j.Get(t.Context(), []byte("k")); v != nil || p.Log().AssignedEnd() != end {
			t.Errorf("it has happened: %q, %d records", v, p.Log().AssignedEnd())
		}
	})
}

// The round had been told to take the direct way when the transaction got its offsets.
func TestADirectRoundDoesNotPassAFrameThatTravelsThroughTheJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &slowJournal{newFakeJournal(), make(chan struct{})}
		h := newHouse(t, vfs.NewMem(), log.ModeFsync, j, 1)
		p := h.parts[0]
		transaction := begun(t, h, p, "first")
		r := p.NewRequest(text{"second"}, 1, 6, nil)
		r.refs.Add(1)
		a := &appender{p: p, ln: &lane{}, builder: log.NewBuilder(0), batch: []*Request{r}}
		if err, other := a.direct(false); err != nil || !other {
			t.Errorf("written behind a frame that is not in the segment: %v", err)
		}
		if s := r.state.Load(); s != stateQueued {
			t.Errorf("the request is in state %d, and was to stay queued", s)
		}
		close(j.goOn)
		if err := <-transaction; err != nil {
			t.Error(err)
		}
		if err, other := a.direct(false); err != nil || other {
			t.Errorf("not written though nothing is in its way: %v", err)
		}
		a.finish(nil)
		if err := r.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		if got := stored(t, p); len(got) != 2 || got[0] != "first" || got[1] != "second" {
			t.Errorf("stored %q", got)
		}
	})
}

// In the weaker modes what was published before a transaction may not be on disk: it is, when the transaction is, or that would be found behind a hole.
func TestATransactionHasWhatComesBeforeItMadeDurable(t *testing.T) {
	j := newFakeJournal()
	mem := vfs.NewMem()
	h := newHouse(t, mem, log.ModeOS, j, 2)
	for _, p := range h.parts {
		if _, err := publish(t.Context(), p, "published"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.s.Transact(t.Context(), put("k", "v"), []*Output{output(h.parts[0], "a"), output(h.parts[1], "b")}); err != nil {
		t.Fatal(err)
	}
	checkRedo(t, mem.CrashClone(vfs.CrashOptions{}), j.kept, h)
}
