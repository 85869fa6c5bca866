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
//     it has read may be older.
//
// Absence is kept like a value. Scan goes to the store and leaves the cache alone. All methods are safe for concurrent use.
type Cache struct {
	store Store
	opts  CacheOptions

	mu      sync.Mutex // guards the fields below; not held while the store is at work
	entries map[string]*list.Element
	order   *list.List // of *cacheEntry, the one used last in front
	keys    map[string]*cacheTraffic
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
	mixed          bool // since it exists, two commits have been under way at once, or a commit beside a read
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
	t.mixed = t.mixed || t.commits > 0
	c.mu.Unlock()

	value, rev, err := c.store.Get(ctx, key)

	c.mu.Lock()
	defer c.mu.Unlock()
	t.reads--
	if err == nil && !t.mixed {
		c.put(&cacheEntry{string(key), bytes.Clone(value), rev})
	}
	c.quiet(string(key), t)
	return value, rev, err
}

// Commit implements Store.
func (c *Cache) Commit(ctx context.Context, b *Batch) (Revision, error) {
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
		t.mixed = t.mixed || t.commits > 1 || t.reads > 0
	}
	c.mu.Unlock()

	rev, err := c.store.Commit(ctx, b)

	c.mu.Lock()
	defer c.mu.Unlock()
	for key, e := range written {
		t := c.keys[key]
		t.commits--
		if err == nil && !t.mixed {
			if e.value != nil {
				e.rev = rev
			}
			c.put(e)
		}
		c.quiet(key, t)
	}
	if errors.Is(err, ErrConflict) { // somebody's picture is old; it should not be the cache's
		for op := range b.Ops() {
			if op.Kind == OpExpect {
				c.drop(string(op.Key))
			}
		}
	}
	return rev, err
}

// Scan implements Store.
func (c *Cache) Scan(ctx context.Context, prefix []byte) iter.Seq2[Entry, error] {
	return c.store.Scan(ctx, prefix)
}

// Close closes the store. What is in the cache is forgotten.
func (c *Cache) Close() error {
	err := c.store.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.entries)
	c.order.Init()
	c.stats.Entries, c.stats.Bytes = 0, 0
	return err
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
	if e.size() > c.opts.MaxBytes {
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
