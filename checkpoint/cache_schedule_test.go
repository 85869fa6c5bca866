package checkpoint_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/braid-go/braid/checkpoint"
)

var cacheSeed = flag.Uint64("cacheseed", 0, "seed of the random tests of Cache; 0 is another one each time")

// seedOf returns a test's seed, which a failure reports.
func seedOf(t *testing.T) uint64 {
	t.Helper()
	seed := *cacheSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("replay: go test ./checkpoint -run '^%s$' -cacheseed %d", t.Name(), seed)
		}
	})
	return seed
}

// steppedStore is a store whose Gets and Commits wait twice to be let on: before they take effect, and
// before they return.
type steppedStore struct {
	*checkpoint.Memory
	waiting chan chan struct{} // buffered for all that can wait at once
	failing *rand.Rand         // decides which commits end with an outcome that the caller is not told; used while one call runs at a time
	effect  func()             // called when a commit has taken effect
}

func (s *steppedStore) step() {
	gate := make(chan struct{})
	s.waiting <- gate
	<-gate
}

func (s *steppedStore) Get(ctx context.Context, key []byte) ([]byte, checkpoint.Revision, error) {
	s.step()
	value, rev, err := s.Memory.Get(ctx, key)
	s.step()
	return value, rev, err
}

var errLine = errors.New("the line is dead")

func (s *steppedStore) Commit(ctx context.Context, b *checkpoint.Batch) (checkpoint.Revision, error) {
	s.step()
	var rev checkpoint.Revision
	err := errLine
	if fate := s.failing.IntN(10); fate > 0 { // 0: nothing happens
		rev, err = s.Memory.Commit(ctx, b)
		s.effect()
		if fate == 1 && err == nil {
			rev, err = 0, fmt.Errorf("%w: %w", checkpoint.ErrOutcomeUnknown, errLine)
		}
	}
	s.step()
	return rev, err
}

// schedule is a world in which one thing happens at a time, in an order that a seed decides.
type schedule struct {
	t     *testing.T
	rng   *rand.Rand
	store *steppedStore
	cache *checkpoint.Cache

	moments []map[string]answer // what the store held after each commit took effect
	held    []chan struct{}     // gates at which somebody waits
	running int
	done    chan struct{} // one for each call that has returned
}

type answer struct {
	value string
	rev   checkpoint.Revision
}

const scheduledKeys = 3

// look notes what the store holds now.
func (s *schedule) look() {
	now := map[string]answer{}
	for e, err := range s.store.Memory.Scan(context.Background(), nil) {
		if err != nil {
			s.t.Error(err)
		}
		now[string(e.Key)] = answer{string(e.Value), e.Revision}
	}
	s.moments = append(s.moments, now)
}

func (s *schedule) key() []byte { return []byte{'a' + byte(s.rng.IntN(scheduledKeys))} }

// begin starts a call and lets it run until it waits or has returned.
func (s *schedule) begin(call func()) {
	s.running++
	go func() {
		call()
		s.done <- struct{}{}
	}()
	s.settle()
}

// advance lets one call that waits go on, whichever comes.
func (s *schedule) advance() {
	i := s.rng.IntN(len(s.held))
	gate := s.held[i]
	s.held = append(s.held[:i], s.held[i+1:]...)
	close(gate)
	s.settle()
}

// settle waits until nothing moves any more.
func (s *schedule) settle() {
	synctest.Wait()
	for len(s.store.waiting) > 0 {
		s.held = append(s.held, <-s.store.waiting)
	}
	for len(s.done) > 0 {
		<-s.done
		s.running--
	}
}

// get checks that what the cache answers was true at some moment between call and return.
func (s *schedule) get(key []byte) {
	first := len(s.moments) - 1
	value, rev, err := s.cache.Get(context.Background(), key)
	if err != nil {
		s.t.Errorf("get: %v", err)
		return
	}
	got := answer{string(value), rev}
	for _, held := range s.moments[first:] {
		if held[string(key)] == got {
			return
		}
	}
	s.t.Errorf("get %q = %+v, which the store did not hold at any moment of the call: %v", key, got, s.moments[first:])
}

// batch makes a random one.
func (s *schedule) batch(n int) *checkpoint.Batch {
	var b checkpoint.Batch
	for range 1 + s.rng.IntN(3) {
		key := s.key()
		switch s.rng.IntN(6) {
		case 0:
			b.Delete(key)
		case 1:
			b.Expect(key, s.moments[len(s.moments)-1][string(key)].rev)
		default:
			b.Put(key, fmt.Append(nil, n))
		}
	}
	return &b
}

// run makes random calls at random moments, then lets all return.
func (s *schedule) run(steps int) {
	for n := range steps {
		switch choice := s.rng.IntN(10); {
		case len(s.held) > 0 && (choice < 6 || s.running == 6):
			s.advance()
		case choice < 8:
			key := s.key()
			s.begin(func() { s.get(key) })
		default:
			b := s.batch(n)
			s.begin(func() {
				_, err := s.cache.Commit(context.Background(), b)
				if err != nil && !errors.Is(err, errLine) && !errors.Is(err, checkpoint.ErrConflict) {
					s.t.Errorf("commit: %v", err)
				}
			})
		}
	}
	for s.running > 0 {
		s.advance()
	}
}

// At every step of any schedule of Gets and Commits, each of them stopped before and after its
// effect, a Get answers what the bare store held at some moment of the call; a hit, which takes no
// step, what it holds at that very moment.
func TestAtEveryStepOfAnyScheduleACacheAnswersWhatTheStoreHolds(t *testing.T) {
	const schedules, steps = 1000, 150
	seed := seedOf(t)
	var hits uint64
	for i := range uint64(schedules) {
		for _, opts := range []checkpoint.CacheOptions{{}, {MaxEntries: 1}} {
			synctest.Test(t, func(t *testing.T) {
				s := &schedule{
					t: t, rng: rand.New(rand.NewPCG(seed, i)), done: make(chan struct{}, 64),
					store: &steppedStore{
						Memory:  checkpoint.NewMemory(checkpoint.MemoryOptions{}),
						waiting: make(chan chan struct{}, 64),
						failing: rand.New(rand.NewPCG(seed, ^i)),
					},
				}
				s.store.effect = s.look
				s.cache = newCache(t, s.store, opts)
				s.look()
				s.run(steps)
				hits += uint64(s.cache.Stats().Hits)
			})
		}
		if t.Failed() {
			t.Fatalf("schedule %d of seed %d", i, seed)
		}
	}
	if hits < schedules*steps/10 {
		t.Errorf("%d hits: the schedules hardly test what is answered from memory", hits)
	}
}

// yieldingStore gives way to others around the effect of each call.
type yieldingStore struct{ *checkpoint.Memory }

func giveWay() {
	for range rand.IntN(4) {
		runtime.Gosched()
	}
}

func (s yieldingStore) Get(ctx context.Context, key []byte) ([]byte, checkpoint.Revision, error) {
	giveWay()
	defer giveWay()
	return s.Memory.Get(ctx, key)
}

func (s yieldingStore) Commit(ctx context.Context, b *checkpoint.Batch) (checkpoint.Revision, error) {
	giveWay()
	defer giveWay()
	return s.Memory.Commit(ctx, b)
}

// Many goroutines use a cache at once. No key ever goes back to a revision older than one that was seen, and
// whenever all of them rest, the cache and the bare store agree.
func TestUnderConcurrentUseACacheAgreesWithTheBareStore(t *testing.T) {
	const rounds, workers, calls, keys = 60, 6, 60, 5
	seed := seedOf(t)
	for _, opts := range []checkpoint.CacheOptions{{}, {MaxEntries: 1}, {MaxEntries: 3}} {
		bare := checkpoint.NewMemory(checkpoint.MemoryOptions{})
		cache := newCache(t, yieldingStore{bare}, opts)
		var seen [keys]atomic.Uint64 // the highest revision that anybody knows of
		for round := range uint64(rounds) {
			var wg sync.WaitGroup
			for w := range uint64(workers) {
				wg.Go(func() {
					rng := rand.New(rand.NewPCG(seed, round*workers+w))
					for range calls {
						useCache(t, rng, cache, seen[:])
					}
				})
			}
			wg.Wait()
			for k := range byte(keys) {
				value, rev := mustGet(t, cache, string(k))
				if bareValue, bareRev := mustGet(t, bare, string(k)); value != bareValue || rev != bareRev {
					t.Fatalf("%+v, round %d: key %d is %q at %d, in the bare store %q at %d", opts, round, k, value, rev, bareValue, bareRev)
				}
			}
		}
		if cache.Stats().Hits == 0 {
			t.Errorf("%+v: nothing was answered from memory", opts)
		}
	}
}

// useCache makes a random call. Key 0 is never deleted, so that its revisions only rise.
func useCache(t *testing.T, rng *rand.Rand, cache *checkpoint.Cache, seen []atomic.Uint64) {
	k := rng.IntN(len(seen))
	key := []byte{byte(k)}
	if rng.IntN(3) > 0 {
		least := seen[k].Load()
		_, rev, err := cache.Get(t.Context(), key)
		if err != nil || uint64(rev) < least && (k == 0 || rev != 0) {
			t.Errorf("key %d has revision %d, error %v, after %d was seen", k, rev, err, least)
		}
		raise(&seen[k], rev)
		return
	}
	var b checkpoint.Batch
	if k > 0 && rng.IntN(3) == 0 {
		b.Delete(key)
	} else {
		b.Put(key, fmt.Append(nil, rng.Uint64()))
	}
	if rng.IntN(4) == 0 {
		b.Expect(key, checkpoint.Revision(seen[k].Load()))
	}
	rev, err := cache.Commit(t.Context(), &b)
	if err != nil && !errors.Is(err, checkpoint.ErrConflict) {
		t.Errorf("commit: %v", err)
	}
	raise(&seen[k], rev) // A delete's too: whatever is seen of the key later is newer.
}

func raise(seen *atomic.Uint64, rev checkpoint.Revision) {
	for old := seen.Load(); old < uint64(rev) && !seen.CompareAndSwap(old, uint64(rev)); old = seen.Load() {
	}
}
