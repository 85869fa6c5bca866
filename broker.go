package braid

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/gofrs/flock"

	"github.com/braid-go/braid/backpressure"
	"github.com/braid-go/braid/checkpoint"
	"github.com/braid-go/braid/partition"
)

// Broker is an open data directory: topics, groups and their positions. Open makes
// one; Close ends it. All methods are safe for concurrent use.
type Broker struct {
	dir    string
	opts   Options // as given to Open; of the limits only where they began
	limits atomic.Pointer[Limits]

	pressure pressure
	memory   *backpressure.Budget // of all queues
	backlog  backlog

	lock   *flock.Flock     // nil in memory and read-only
	store  checkpoint.Store // nil read-only
	sched  *partition.Scheduler
	report *OpenReport

	// taking is held while the commit locks of several subscriptions are taken.
	taking sync.Mutex
	// joining guards groups, and is held while members join and leave and while a group that has none is changed.
	joining sync.Mutex
	groups  map[groupKey]*coordinator
	// changing serialises what changes the set of topics, so that mu is never held during I/O.
	changing sync.Mutex

	mu       sync.RWMutex // guards the fields below
	topics   map[string]*Topic
	subs     map[*Subscription]struct{}
	counters counters
	leaving  []*Topic // deleted, and not closed yet
	past     counts   // of those that are

	closed     atomic.Bool   // set under mu
	done       chan struct{} // closed when closing begins
	background sync.WaitGroup
	scalers    sync.WaitGroup // begun with mu and not after closed is set; ended before the last round of changes
	closeOnce  sync.Once
	closeErr   error
}

// Close refuses new work, stores what was accepted, ends all subscriptions and closes
// the directory cleanly. It waits as long as the disk needs; Shutdown bounds that. A
// second Close returns what the first one did. Inside a PublishAsync callback it is ErrBusy.
func (b *Broker) Close() error { return b.Shutdown(context.Background()) }

// Shutdown is Close bounded by a context. If ctx ends first, waiting publishers
// are told what is true of their records: ErrClosed if they are certainly not stored,
// ErrOutcomeUnknown otherwise; everything is still released.
func (b *Broker) Shutdown(ctx context.Context) error {
	if b.sched != nil && b.sched.InCallback() {
		return fmt.Errorf("%w: Close inside a callback", ErrBusy)
	}
	b.closeOnce.Do(func() { b.closeErr = b.shutdown(ctx) })
	return b.closeErr
}

func (b *Broker) shutdown(ctx context.Context) error {
	b.mu.Lock()
	b.closed.Store(true)
	subs := make([]*Subscription, 0, len(b.subs))
	for s := range b.subs {
		subs = append(subs, s)
	}
	b.mu.Unlock()
	var errs []error
	for _, s := range subs {
		errs = append(errs, s.Close())
	}
	close(b.done)
	b.scalers.Wait()
	b.changing.Lock() // what was changing topics has finished
	defer b.changing.Unlock()
	errs = append(errs, b.closePartitions(ctx))
	b.background.Wait()
	b.pressure.close(ctx)
	return errors.Join(append(errs, b.release())...)
}

// closePartitions closes all partitions, several at a time.
func (b *Broker) closePartitions(ctx context.Context) error {
	var parts []*topicPartition
	for _, t := range b.topics {
		parts = append(parts, t.table.Load().all...)
	}
	return inParallel(len(parts), func(i int) error { return parts[i].close(ctx) })
}

// release lets go of what a broker holds beside its partitions.
func (b *Broker) release() error {
	var errs []error
	if b.sched != nil {
		b.sched.Close()
	}
	if b.store != nil {
		errs = append(errs, b.store.Close())
	}
	if b.lock != nil {
		errs = append(errs, b.lock.Close())
	}
	return errors.Join(errs...)
}

// Dir returns the directory given to Open, or, if that is a link, the one it leads to; "" in memory.
func (b *Broker) Dir() string { return b.dir }

// OpenReport tells what Open found and did.
func (b *Broker) OpenReport() *OpenReport { return b.report }

// Topic returns the topic of a name, or ErrTopicNotFound. Read-only, it looks on the
// disk for topics that were made since Open.
func (b *Broker) Topic(name string) (*Topic, error) {
	if err := checkName("topic", name); err != nil {
		return nil, err
	}
	t, err := b.lookup(name)
	if errors.Is(err, ErrTopicNotFound) && b.opts.ReadOnly {
		b.changing.Lock()
		err := b.refreshTopics()
		b.changing.Unlock()
		if err != nil {
			return nil, err
		}
		return b.lookup(name)
	}
	return t, err
}

func (b *Broker) lookup(name string) (*Topic, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.closed.Load() {
		return nil, ErrClosed
	}
	t, ok := b.topics[name]
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrTopicNotFound, name)
	}
	return t, nil
}

// Topics returns all topics in the order of their names; none after Close.
func (b *Broker) Topics() []*Topic {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.closed.Load() {
		return nil
	}
	out := make([]*Topic, 0, len(b.topics))
	for _, t := range b.topics {
		out = append(out, t)
	}
	slices.SortFunc(out, func(x, y *Topic) int { return strings.Compare(x.name, y.name) })
	return out
}

// check returns why the broker cannot be changed, or nil.
func (b *Broker) check() error {
	switch {
	case b.closed.Load():
		return ErrClosed
	case b.opts.ReadOnly:
		return ErrReadOnly
	}
	return nil
}

// spawn runs f on a goroutine that Close waits for, or, once closing has begun, in place.
func (b *Broker) spawn(f func()) {
	b.mu.RLock()
	if !b.closed.Load() {
		b.background.Go(f)
		f = func() {}
	}
	b.mu.RUnlock()
	f()
}

// parallelism is how many partitions are opened, made or closed at a time: what
// they wait for is the disk.
const parallelism = 16

// inParallel calls f(0) to f(n-1), some at a time, and joins their errors.
func inParallel(n int, f func(i int) error) error {
	errs := make([]error, n)
	slots := make(chan struct{}, parallelism)
	var wg sync.WaitGroup
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			errs[i] = f(i)
			<-slots
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
