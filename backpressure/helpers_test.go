package backpressure

import (
	"flag"
	"runtime"
	"testing"
	"time"

	"github.com/leanovate/gopter"
)

var seedFlag = flag.Int64("seed", 0, "seed of the random tests; 0 takes one from the clock")

// seed returns the seed of this run and says how to have it again if t fails.
func seed(t *testing.T) int64 {
	t.Helper()
	s := *seedFlag
	if s == 0 {
		s = time.Now().UnixNano()
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("replay: go test ./backpressure -run '^%s$' -seed %d", t.Name(), s)
		}
	})
	return s
}

// properties returns a set that runs with the seed of this run.
func properties(t *testing.T, runs int) *gopter.Properties {
	t.Helper()
	params := gopter.DefaultTestParametersWithSeed(seed(t))
	params.MinSuccessfulTests = runs
	params.MaxSize = 200
	return gopter.NewProperties(params)
}

// job is an item that knows who made it and when, and what it weighs.
type job struct {
	producer, n int
	weight      Weight
}

func jobWeight(j job) Weight { return j.weight }

// one is the n-th job of a producer, of one record and one byte.
func one(producer, n int) job { return job{producer, n, Weight{Records: 1, Bytes: 1}} }

func newQueue(t *testing.T, opts Options) *Queue[job] {
	t.Helper()
	q, err := NewQueue(opts, jobWeight)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// waitFor spins until cond holds. It gives up shortly before the deadline of the
// test run, or after a minute where there is none.
func waitFor(t *testing.T, cond func() bool) {
	t.Helper()
	for i := 0; i < 1000; i++ {
		if cond() {
			return
		}
	}
	limit := time.Now().Add(time.Minute)
	if d, ok := t.Deadline(); ok && d.Before(limit) {
		limit = d.Add(-time.Until(d) / 10)
	}
	for !cond() {
		if time.Now().After(limit) {
			stacks := make([]byte, 1<<16)
			t.Fatalf("waited in vain\n%s", stacks[:runtime.Stack(stacks, true)])
		}
		runtime.Gosched()
	}
}

// drain takes everything that comes until q is drained, and returns it in order.
func drain(q *Queue[job], batch int) []job {
	var all []job
	for {
		before := len(all)
		if all = q.Take(all, batch, 1<<30); len(all) > before {
			continue
		}
		if q.Drained() {
			return all
		}
		if q.Park() {
			<-q.Wake()
		}
	}
}

// checkPerProducer fails t unless jobs holds, for every producer p, exactly the
// jobs 0 to counts[p]-1 in that order.
func checkPerProducer(t *testing.T, jobs []job, counts []int) {
	t.Helper()
	next := make([]int, len(counts))
	for _, j := range jobs {
		if j.n != next[j.producer] {
			t.Fatalf("producer %d: got job %d, want %d", j.producer, j.n, next[j.producer])
		}
		next[j.producer]++
	}
	for p, n := range next {
		if n != counts[p] {
			t.Errorf("producer %d: %d jobs came through, want %d", p, n, counts[p])
		}
	}
}
