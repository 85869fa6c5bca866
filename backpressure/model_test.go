package backpressure

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/leanovate/gopter/gen"
	"github.com/leanovate/gopter/prop"
)

// queueModel is what a Queue does, said with slices and without concurrency.
type queueModel struct {
	limits  Options
	queued  []job
	line    []job
	closed  bool
	results map[int]error // what the put of item n returned, once it has
}

func (m *queueModel) depth() (d Weight) {
	for _, j := range m.queued {
		d.Records += j.weight.Records
		d.Bytes += j.weight.Bytes
	}
	return d
}

func (m *queueModel) fits(j job) bool {
	d := m.depth()
	return d.Records+j.weight.Records <= m.limits.MaxRecords &&
		(d.Bytes+j.weight.Bytes <= m.limits.MaxBytes || len(m.queued) == 0) &&
		len(m.queued) < m.limits.Slots
}

func (m *queueModel) put(j job, wait bool) {
	switch {
	case j.weight.Records > m.limits.MaxRecords:
		m.results[j.n] = ErrTooLarge
	case m.closed:
		m.results[j.n] = ErrClosed
	case len(m.line) == 0 && m.fits(j):
		m.queued = append(m.queued, j)
		m.results[j.n] = nil
	case wait:
		m.line = append(m.line, j)
	default:
		m.results[j.n] = ErrFull
	}
}

func (m *queueModel) take(maxRecords int, maxBytes int64) []job {
	var n int
	var sum Weight
	for _, j := range m.queued {
		sum.Records += j.weight.Records
		sum.Bytes += j.weight.Bytes
		if n > 0 && (sum.Records > maxRecords || sum.Bytes > maxBytes) {
			break
		}
		n++
	}
	taken := m.queued[:n:n]
	m.queued = m.queued[n:]
	if n > 0 {
		m.resume()
	}
	return taken
}

func (m *queueModel) resume() {
	d := m.depth()
	if 10*d.Records >= 7*m.limits.MaxRecords || 10*d.Bytes >= 7*m.limits.MaxBytes ||
		10*len(m.queued) >= 7*m.limits.Slots {
		return
	}
	for len(m.line) > 0 && m.fits(m.line[0]) {
		m.results[m.line[0].n] = nil
		m.queued = append(m.queued, m.line[0])
		m.line = m.line[1:]
	}
}

// cancel ends the context of the i-th producer in the line.
func (m *queueModel) cancel(i int) {
	m.results[m.line[i].n] = context.Canceled
	m.line = append(m.line[:i:i], m.line[i+1:]...)
	m.resume()
}

func (m *queueModel) close() {
	m.closed = true
	for _, j := range m.line {
		m.results[j.n] = ErrClosed
	}
	m.line = nil
}

// operation is one step of a random run; which fields count depends on kind.
type operation struct {
	kind    int // of 100
	records int
	bytes   int64
	pick    int
}

// decode makes an operation of a number, which gopter knows how to shrink.
func decode(n int) operation {
	return operation{n % 100, 1 + n/100%12, int64(n / 1200 % 20), n / 24000}
}

func TestQueueAgreesWithItsModel(t *testing.T) {
	props := properties(t, 400)
	props.Property("queue and model agree", prop.ForAll(
		func(maxRecords int, maxBytes int64, slots int, codes []int) (verdict string) {
			synctest.Test(t, func(t *testing.T) {
				opts := Options{MaxRecords: maxRecords, MaxBytes: maxBytes, Slots: slots}
				verdict = againstModel(t, newQueue(t, opts), codes)
			})
			return verdict
		},
		gen.IntRange(1, 12), gen.Int64Range(1, 20), gen.IntRange(2, 8), gen.SliceOf(gen.IntRange(0, 480_000-1)),
	))
	props.TestingRun(t)
}

// againstModel runs in a bubble; after each step everything has settled.
func againstModel(t *testing.T, q *Queue[job], codes []int) string {
	m := &queueModel{limits: q.Limits(), results: map[int]error{}}
	results := make([]*error, len(codes)) // of the puts among the steps
	cancels := make([]context.CancelFunc, len(codes))
	defer q.Close()

	for n, code := range codes {
		op := decode(code)
		j := job{n: n, weight: Weight{op.records, op.bytes}}
		var got, want []job
		switch {
		case op.kind < 15:
			err := q.TryPut(j)
			results[n] = &err
			m.put(j, false)
		case op.kind < 50:
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			cancels[n] = cancel
			go func() {
				err := q.Put(ctx, j)
				results[n] = &err
			}()
			m.put(j, true)
		case op.kind < 85:
			got = q.Take(nil, op.records, op.bytes)
			want = m.take(op.records, op.bytes)
		case op.kind < 99 && len(m.line) > 0:
			i := op.pick % len(m.line)
			cancels[m.line[i].n]()
			m.cancel(i)
		case op.kind == 99:
			q.Close()
			m.close()
		}
		synctest.Wait()
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(job{}), cmpopts.EquateEmpty()); diff != "" {
			return fmt.Sprintf("step %d %+v: taken differs:\n%s", n, op, diff)
		}
		for i, result := range results {
			wantErr, settled := m.results[i]
			if (result != nil) != settled || result != nil && *result != wantErr {
				return fmt.Sprintf("step %d %+v: put %d: settled %v with %v, want %v with %v",
					n, op, i, result != nil, result, settled, wantErr)
			}
		}
		drained := m.closed && len(m.queued) == 0
		if q.Depth() != m.depth() || q.Len() != len(m.queued) || q.Drained() != drained {
			return fmt.Sprintf("step %d %+v: Depth %+v, Len %d, Drained %v, want %+v, %d, %v",
				n, op, q.Depth(), q.Len(), q.Drained(), m.depth(), len(m.queued), drained)
		}
	}
	return ""
}
