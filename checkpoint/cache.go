package checkpoint

import (
	"bytes"
	"container/list"
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
)

// CacheOptions configures a Cache.
type CacheOptions struct {
	// MaxEntries bounds how many keys are kept. Default 65,536.
	MaxEntries int
	// MaxBytes bounds their keys and values, with EntryOverhead for each. Default 64 MiB.
	MaxBytes int64
}

const (
	defaultCacheEntries = 1 << 16
	defaultCacheBytes   = 64 << 20
)

// CacheStats tells what a cache holds and how it did.
type CacheStats struct {
	Entries   int
	Bytes     int64
	Hits      int64 // Gets answered without the store
	Misses    int64
	Evictions int64
}

// HitRate is the share of Gets that were answered without the store, 0 if there were none.
func (s CacheStats) HitRate() float64 {
	if s.Hits+s.Misses == 0 {
		return 0
	}
	return float64(s.Hits) / float64(s.Hits+s.Misses)
}

// Cache is a Store that keeps the keys used last in memory, in front of another: for stores of one's own whose Get is slow. The stores of this
// package hold everything in memory and need none.
//
// It writes through: Commit is the store's. It never answers with what is not, or is not any more, in the store, as long as everybody who writes
// to the store does it through the cache:
//
//   - A commit takes the keys that it writes out of the cache before it goes to the store, so that while it is under way their Gets go there too, and see
//     one order of events. After it has succeeded it puts the new values in, unless another commit of the key was under way at the same time: then
//     nobody here knows which came last.
//   - A Get that misses puts what it has read in, unless a commit of the key was under way at any time between its beginning and its end: what
//     it has read may be older. Each Get is judged by itself, so that one that began after a commit had ended is kept, even if others that
//     the commit overtook are still under way.
//
// After ErrConflict the keys that the batch expects something of are forgotten, after any other error all keys of the batch, and Gets and commits
// of those keys that are under way leave nothing behind. Nor does any that ends after Close.
//
// Absence is kept like a value. Scan goes to the store and leaves the cache alone. All methods are safe for concurrent use.
type Cache struct {
	store Store
	opts  CacheOptions

	mu      sync.Mutex // guards the fields below; not held while the store is at work
	entries map[string]*list.Element
	order   *list.List // of *cacheEntry, the one used last in front
	keys    map[string]*cacheTraffic
	closed  bool
	stats   CacheStats
}

type cacheEntry struct {
	key   string
	value []byte // nil: absent
	rev   Revision
}

func (e *cacheEntry) size() int64 { return int64(len(e.key)+len(e.value)) + EntryOverhead }

// cacheTraffic is what is under way for a key; it exists as long as something is.
type cacheTraffic struct {
	reads, commits int
	version        uint64 // changes when the reads under way have become too old to be kept
	crowded        bool   // since commits was 0 last: it cannot be told which of them leaves what
}

// NewCache returns a cache in front of a store, which is the cache's from then on. ErrLimit: a negative option.
func NewCache(store Store, opts CacheOptions) (*Cache, error) {
	if opts.MaxEntries < 0 || opts.MaxBytes < 0 {
		return nil, fmt.Errorf("%w: a cache of %d entries and %d bytes", ErrLimit, opts.MaxEntries, opts.MaxBytes)
	}
	if opts.MaxEntries == 0 {
		opts.MaxEntries = defaultCacheEntries
	}
	if opts.MaxBytes == 0 {
		opts.MaxBytes = defaultCacheBytes
	}
	return &Cache{store: store, opts: opts, entries: map[string]*list.Element{}, order: list.New(), keys: map[string]*cacheTraffic{}}, nil
}

// Get implements Store. It does I/O if the store's does and the key is not in the cache.
func (c *Cache) Get(ctx context.Context, key []byte) ([]byte, Revision, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	c.mu.Lock()
	if at, ok := c.entries[string(key)]; ok {
		c.order.MoveToFront(at)
		c.stats.Hits++
		e := at.Value.(*cacheEntry)
		c.mu.Unlock()
		return bytes.Clone(e.value), e.rev, nil // entries are not changed once they are in
	}
	c.stats.Misses++
	t := c.traffic(string(key))
	t.reads++
	version, alone := t.version, t.commits == 0
	c.mu.Unlock()

	var read *cacheEntry
	defer func() { // also if the store panics
		c.mu.Lock()
		defer c.mu.Unlock()
		t.reads--
		if read != nil && alone && t.version == version {
			c.put(read)
		}
		c.quiet(string(key), t)
	}()
	value, rev, err := c.store.Get(ctx, key)
	if err == nil {
		read = &cacheEntry{string(key), bytes.Clone(value), rev}
	}
	return value, rev, err
}

// Commit implements Store.
func (c *Cache) Commit(ctx context.Context, b *Batch) (rev Revision, err error) {
	written := map[string]*cacheEntry{} // as the last operation of each key leaves it
	for op := range b.Ops() {
		switch op.Kind {
		case OpPut:
			written[string(op.Key)] = &cacheEntry{key: string(op.Key), value: append([]byte{}, op.Value...)}
		case OpDelete:
			written[string(op.Key)] = &cacheEntry{key: string(op.Key)}
		}
	}
	c.mu.Lock()
	for key := range written {
		c.drop(key)
		t := c.traffic(key)
		t.commits++
		t.version++
		t.crowded = t.crowded || t.commits > 1
	}
	c.mu.Unlock()

	err = ErrOutcomeUnknown // what a panic of the store leaves
	defer func() { c.committed(b, written, rev, err) }()
	return c.store.Commit(ctx, b)
}

// committed ends a commit by its outcome.
func (c *Cache) committed(b *Batch, written map[string]*cacheEntry, rev Revision, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		nothingHappened := errors.Is(err, ErrConflict) && !errors.Is(err, ErrOutcomeUnknown)
		for op := range b.Ops() {
			if op.Kind == OpExpect || !nothingHappened {
				c.forget(string(op.Key))
			}
		}
	}
	for key, e := range written {
		t := c.keys[key]
		if err == nil && !t.crowded {
			if e.value != nil {
				e.rev = rev
			}
			c.put(e)
		}
		if t.commits--; t.commits == 0 {
			t.crowded = false
		}
		c.quiet(key, t)
	}
}

// Scan implements Store.
func (c *Cache) Scan(ctx context.Context, prefix []byte) iter.Seq2[Entry, error] {
	return c.store.Scan(ctx, prefix)
}

// Close forgets what is in the cache and closes the store, which answers from then on.
func (c *Cache) Close() error {
	c.mu.Lock()
	c.closed = true
	clear(c.entries)
	c.order.Init()
	c.stats.Entries, c.stats.Bytes = 0, 0
	c.mu.Unlock()
	return c.store.Close()
}

// Stats tells what the cache holds and how it did.
func (c *Cache) Stats() CacheStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats
}

// traffic returns what is under way for a key. The caller holds mu, as those of the following do.
func (c *Cache) traffic(key string) *cacheTraffic {
	t := c.keys[key]
	if t == nil {
		t = &cacheTraffic{}
		c.keys[key] = t
	}
	return t
}

// quiet forgets the traffic of a key when nothing is under way.
func (c *Cache) quiet(key string, t *cacheTraffic) {
	if t.reads+t.commits == 0 {
		delete(c.keys, key)
	}
}

// put keeps an entry, and lets go of those that were not used for longest to make room.
func (c *Cache) put(e *cacheEntry) {
	c.drop(e.key)
	if c.closed || e.size() > c.opts.MaxBytes {
		return
	}
	c.entries[e.key] = c.order.PushFront(e)
	c.stats.Entries++
	c.stats.Bytes += e.size()
	for c.stats.Entries > c.opts.MaxEntries || c.stats.Bytes > c.opts.MaxBytes {
		c.drop(c.order.Back().Value.(*cacheEntry).key)
		c.stats.Evictions++
	}
}

func (c *Cache) drop(key string) {
	at, ok := c.entries[key]
	if !ok {
		return
	}
	delete(c.entries, key)
	c.stats.Entries--
	c.stats.Bytes -= at.Value.(*cacheEntry).size()
	c.order.Remove(at)
}

// forget drops a key, and sees to it that nothing that is under way brings it back.
func (c *Cache) forget(key string) {
	c.drop(key)
	if t := c.keys[key]; t != nil {
		t.version++
		t.crowded = t.commits > 0
	}
}
