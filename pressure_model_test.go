package braid

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/braid-go/braid/backpressure"
	"github.com/braid-go/braid/internal/vfs"
)

// pressureModel is what becomes of the records of one partition whose disk syncs when it is told to, said with slices.
type pressureModel struct {
	strategy          backpressure.Strategy
	limit             int                 // records in the queue
	line, queue, disk [][]string          // calls that wait for room, that are queued, that the disk is at work on
	outcomes          map[string]string   // of records
	dropped           int                 // calls
	stored            []string            // in order
	waits             map[string]struct{} // calls in line, by their first record
}

func count(calls [][]string) (n int) {
	for _, c := range calls {
		n += len(c)
	}
	return n
}

func (m *pressureModel) publish(call []string) {
	fits := func() bool { return count(m.queue)+len(call) <= m.limit }
	if m.strategy == backpressure.DropOldest {
		for ; !fits(); m.dropped++ {
			m.end(m.queue[0], "dropped")
			m.queue = m.queue[1:]
		}
	}
	switch {
	case len(m.line) == 0 && fits():
		m.queue = append(m.queue, call)
	case m.strategy == backpressure.ShedLoad:
		m.end(call, "refused")
	default:
		m.line = append(m.line, call)
	}
	if len(m.disk) == 0 {
		m.take()
	}
}

func (m *pressureModel) end(call []string, outcome string) {
	for _, v := range call {
		m.outcomes[v] = outcome
	}
}

// take has the appender take all that is queued, and lets in who waits.
func (m *pressureModel) take() {
	m.disk, m.queue = m.queue, nil
	m.resume()
}

// resume lets in who waits, if the queue has fallen below 70 %.
func (m *pressureModel) resume() {
	if 10*count(m.queue) >= 7*m.limit {
		return
	}
	for len(m.line) > 0 && count(m.queue)+len(m.line[0]) <= m.limit {
		m.queue, m.line = append(m.queue, m.line[0]), m.line[1:]
	}
}

// sync ends the round that is under way.
func (m *pressureModel) sync() {
	for _, c := range m.disk {
		m.end(c, "stored")
		m.stored = append(m.stored, c...)
	}
	m.take()
}

// cancel ends the context of the i-th call in line.
func (m *pressureModel) cancel(i int) []string {
	c := m.line[i]
	m.end(c, "cancelled")
	m.line = slices.Delete(m.line, i, i+1)
	m.resume()
	return c
}

func (m *pressureModel) account() Accounting {
	a := Accounting{Pending: int64(count(m.line) + count(m.queue) + count(m.disk))}
	for _, outcome := range m.outcomes {
		switch outcome {
		case "stored":
			a.Stored++
		case "dropped":
			a.Dropped++
		}
	}
	a.Accepted = a.Stored + a.Dropped + a.Pending
	return a
}

// outcome names an error of publishing.
func outcome(err error) string {
	switch {
	case err == nil:
		return "stored"
	case errors.Is(err, ErrDropped):
		return "dropped"
	case errors.Is(err, ErrOverloaded):
		return "refused"
	case errors.Is(err, context.Canceled):
		return "cancelled"
	}
	return err.Error()
}

// Calls of one to four records, syncs that end when they are told to, and publishers that give up, in any order. After each step every record has the outcome that
// the strategy says, and no other has one: what is dropped is the oldest of what waits, call by call, and the fewest that make room. The account is exact.
func TestEveryHistoryUnderPressureIsTheOneThatTheStrategySays(t *testing.T) {
	for strategy := range backpressure.Adaptive + 1 {
		t.Run(strategy.String(), func(t *testing.T) {
			dropped, waited, refused := 0, 0, 0
			for range 8 {
				seed := rand.Uint64()
				synctest.Test(t, func(t *testing.T) {
					m := pressureHistory(t, strategy, rand.New(rand.NewPCG(seed, 0)))
					dropped += m.dropped
					waited += len(m.waits)
					for _, o := range m.outcomes {
						if o == "refused" {
							refused++
						}
					}
				})
				if t.Failed() {
					t.Fatalf("seed %d", seed)
				}
			}
			wants := map[backpressure.Strategy]int{backpressure.DropOldest: dropped, backpressure.ShedLoad: refused}
			if n, has := wants[strategy]; has && n < 50 || !has && waited < 30 {
				t.Errorf("not worth checking: %d calls dropped, %d waited, %d records refused", dropped, waited, refused)
			}
		})
	}
}

// pressureHistory is a random history.
func pressureHistory(t *testing.T, strategy backpressure.Strategy, rng *rand.Rand) *pressureModel {
	faults, gate := &switched{}, make(chan struct{})
	b := open(t, t.TempDir(), Options{fs: vfs.NewFault(vfs.OS, faults)})
	m := &pressureModel{strategy: strategy, limit: 4 + rng.IntN(8), outcomes: map[string]string{}, waits: map[string]struct{}{}}
	topic := ensure(t, b, "t", TopicConfig{Backpressure: backpressure.Policy{Strategy: strategy, MaxRecords: m.limit, Smoothing: time.Hour}})
	publish(t, topic, "before")
	m.publish([]string{"before"})
	m.sync()
	settled(t, b)
	faults.set(vfs.InjectorFunc(func(op vfs.Op) vfs.Outcome {
		if op.Kind == vfs.OpDatasync {
			<-gate
		}
		return vfs.Outcome{}
	}))
	defer faults.off()

	type result struct {
		value string
		err   error
	}
	results := make(chan result, 1000)
	got := map[string]string{"before": "stored"}
	cancels := map[string]context.CancelFunc{}
	rest := func() { // all goroutines wait for the disk, or for us
		time.Sleep(5 * time.Millisecond)
		synctest.Wait()
	}
	sync := func() {
		m.sync()
		for topic.Accounting().Stored < int64(len(m.stored)) { // a round may have to sync the space for its frames too
			select {
			case gate <- struct{}{}:
			case <-time.After(time.Second):
				t.Fatalf("%d records are to be stored, and the account is %+v", len(m.stored), topic.Accounting())
			}
			rest()
		}
	}
	for step := 0; step < 100 && !t.Failed(); step++ {
		switch kind := rng.IntN(10); {
		case kind < 7 || len(m.disk) == 0:
			call := numbered(fmt.Sprint(step, "."), 1+rng.IntN(4))
			recs := make([]*Record, len(call))
			for i, v := range call {
				recs[i] = &Record{Value: []byte(v)}
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			cancels[call[0]] = cancel
			go func() {
				tell := func(rec *Record, err error) { results <- result{string(rec.Value), err} }
				if err := topic.PublishAsync(ctx, tell, recs...); err != nil {
					for _, rec := range recs {
						tell(rec, err)
					}
				}
			}()
			m.publish(call)
		case kind == 7 && len(m.line) > 0:
			cancels[m.cancel(rng.IntN(len(m.line)))[0]]()
		default:
			sync()
		}
		rest()
		for len(results) > 0 {
			r := <-results
			if was, twice := got[r.value]; twice {
				t.Errorf("step %d: %s is told twice: %s and %v", step, r.value, was, r.err)
			}
			got[r.value] = outcome(r.err)
		}
		if diff := cmp.Diff(m.outcomes, got); diff != "" {
			t.Errorf("step %d: outcomes: %s", step, diff)
		}
		if diff := cmp.Diff(m.account(), topic.Accounting()); diff != "" {
			t.Errorf("step %d: %s", step, diff)
		}
		for _, c := range m.line {
			m.waits[c[0]] = struct{}{}
		}
	}
	for len(m.disk) > 0 && !t.Failed() {
		sync()
	}
	faults.off()
	close(gate)
	if diff := cmp.Diff(m.stored, values(t, topic, ReadOptions{})); diff != "" && !t.Failed() {
		t.Errorf("stored: %s", diff)
	}
	return m
}
