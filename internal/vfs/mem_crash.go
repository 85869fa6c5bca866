package vfs

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// CrashOptions say what of the unsynced state survives a power cut. The zero
// value, or a nil Rand, is the strictest disk: only what was synced survives.
//
// Block by block of 512 bytes and change of names by change, the dice decide
// separately.
type CrashOptions struct {
	// Rand decides. The same file system, options and seed give the same clone.
	// CrashClone does not keep it.
	Rand *rand.Rand
	// Keep is the probability, from 0 to 1, that an unsynced change reached the
	// disk: the new bytes of a block, a new size, a change of names.
	Keep float64
	// Damage is the probability, from 0 to 1, that a block that did not reach the
	// disk whole is damaged: zeros, garbage, or torn (new bytes on one side of a
	// point, old ones on the other), each as likely. Otherwise it holds its old
	// bytes.
	Damage float64
	// WholeBlocks lets damage reach every byte of an unsynced block. Without it
	// damage stays within the bytes that were written since the last sync, as on
	// a disk whose sectors are written as a whole or have their old bytes (what
	// SQLite calls powersafe overwrite).
	WholeBlocks bool
}

// RandomCrash returns options whose probabilities are themselves drawn from rnd,
// the extremes 0 and 1 often among them, so that many seeds cover disks that keep
// almost all, almost nothing, and every mix. WholeBlocks is false.
func RandomCrash(rnd *rand.Rand) CrashOptions {
	probability := func() float64 {
		switch rnd.IntN(4) {
		case 0:
			return 0
		case 1:
			return 1
		default:
			return rnd.Float64()
		}
	}
	return CrashOptions{Rand: rnd, Keep: probability(), Damage: probability()}
}

// CrashClone returns a new file system, independent of m, as the disk could look
// after a power cut at this instant. m is not changed. It may be called at any
// time, also while others write; they wait for it.
//
// Bytes. What was synced and not written since survives. Of the rest each
// 512-byte block has, independently, its old bytes, its new ones, or damage.
// Where a sync has failed the way [Fault] can make it, a block never has all of
// its new bytes. Versions between the last sync and now are not modelled.
//
// Sizes. The size is the synced one, the present one, or one between. A
// truncation survives or not; if it does, what it cut off does not come back when
// the file grows again.
//
// Names. Changes that no SyncDir has covered survive in any subset, applied in
// their order, in which each finds the names it touches as it found them when it
// was made. So a rename is atomic, its target the old file or the new one; a
// file whose name was never synced is gone, whatever was synced in it; a removed
// file may come back; and changes of different names may overtake each other,
// also within a directory (which a journal like ext4's would not let them).
//
// The clone has the capacity of m; space reserved beyond the end of a file is
// free again. A clone of a volatile file system is empty.
func (m *Mem) CrashClone(opts CrashOptions) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	clone := newMem(m.tracked)
	clone.space.capacity.Store(m.space.capacity.Load())
	if m.tracked {
		c := crash{opts: opts, clone: clone, names: map[*memDir]map[string]node{}}
		c.surviveNames(m.pending)
		clone.root = c.dir(m.root)
	}
	return clone
}

// crash makes one clone.
type crash struct {
	opts  CrashOptions
	clone *Mem
	names map[*memDir]map[string]node // the entries of directories that pending changes touch
}

func (c *crash) chance(p float64) bool {
	return c.opts.Rand != nil && p > 0 && c.opts.Rand.Float64() < p
}

// surviveNames applies the changes that reached the disk.
func (c *crash) surviveNames(pending []dirOp) {
	for _, op := range pending {
		if c.chance(c.opts.Keep) && c.possible(op) {
			for _, change := range op {
				setEntry(c.entries(change.dir), change.name, change.after)
			}
		}
	}
}

func (c *crash) possible(op dirOp) bool {
	for _, change := range op {
		if c.entries(change.dir)[change.name] != change.before {
			return false
		}
	}
	return true
}

func (c *crash) entries(d *memDir) map[string]node {
	if c.names[d] == nil {
		c.names[d] = map[string]node{}
		maps.Copy(c.names[d], d.synced)
	}
	return c.names[d]
}

// dir returns what the crash leaves of d and all below it.
func (c *crash) dir(d *memDir) *memDir {
	left := newMemDir()
	left.modTime = d.modTime
	entries := c.entries(d)
	for _, name := range sortedKeys(entries) {
		switch n := entries[name].(type) {
		case *memDir:
			left.entries[name] = c.dir(n)
		case *memFile:
			left.entries[name] = c.file(n)
		}
	}
	left.synced = maps.Clone(left.entries)
	return left
}

// file returns what the crash leaves of f. Nobody changes f meanwhile: the caller
// holds Mem.mu.
func (c *crash) file(f *memFile) *memFile {
	truncated := f.disk.low < f.disk.size && c.chance(c.opts.Keep)
	low := f.disk.size // bytes from here on are not those that were synced
	if truncated {
		low = f.disk.low
	}
	left := &memFile{linked: true, modTime: f.modTime}
	left.chunks = make([][]byte, len(f.chunks))
	for i, chunk := range f.chunks {
		left.chunks[i] = slices.Clone(chunk)
	}
	for _, number := range sortedKeys(f.disk.blocks) {
		block := f.disk.blocks[number]
		start := number * blockSize
		bytes := c.block(f, number, low)
		if !truncated && start >= f.disk.low && f.disk.low < f.disk.size {
			// What was written behind the cut went to blocks that only a truncation
			// on disk would have linked into the file.
			bytes = [blockSize]byte{}
			copy(bytes[:], block.old)
		}
		left.put(bytes, start)
	}
	left.cut(c.size(f, truncated))
	left.charge = left.size
	left.disk = diskState{size: left.size, low: left.size}
	c.clone.space.used.Add(left.charge)
	return left
}

// size draws the size on disk.
func (c *crash) size(f *memFile, truncated bool) int64 {
	from := f.disk.size
	if f.disk.low < f.disk.size {
		if !truncated {
			return f.disk.size
		}
		from = f.disk.low
	}
	switch {
	case f.size == from || c.chance(c.opts.Keep):
		return f.size
	case c.chance(c.opts.Keep):
		return from + c.opts.Rand.Int64N(f.size-from)
	default:
		return from
	}
}

// block draws the bytes of one unsynced block; those from low on were no part of
// the file on disk.
func (c *crash) block(f *memFile, number, low int64) [blockSize]byte {
	b := f.disk.blocks[number]
	var before, after [blockSize]byte
	copy(before[:], b.old)
	if cut := low - number*blockSize; cut < blockSize {
		clear(before[max(0, cut):])
	}
	f.read(after[:], number*blockSize)
	if !b.lost && c.chance(c.opts.Keep) {
		return after
	}
	if !c.chance(c.opts.Damage) {
		return before
	}
	bytes := before
	garbage, zeros := c.opts.Rand.IntN(3) == 0, c.opts.Rand.IntN(2) == 0
	if !garbage && !zeros {
		return c.tear(b, before, after)
	}
	for i := range bytes {
		if c.opts.WholeBlocks || b.touched.has(i) {
			bytes[i] = 0
			if garbage {
				bytes[i] = byte(c.opts.Rand.Uint32())
			}
		}
	}
	return bytes
}

// tear mixes before and after at a point inside the bytes that were written, the
// new bytes on either side.
func (c *crash) tear(b *diskBlock, before, after [blockSize]byte) [blockSize]byte {
	first, last := 0, blockSize-1
	for first < last && !b.touched.has(first) {
		first++
	}
	for last > first && !b.touched.has(last) {
		last--
	}
	if first == last { // a single byte cannot be torn
		return before
	}
	point := first + 1 + c.opts.Rand.IntN(last-first)
	if c.opts.Rand.IntN(2) == 0 {
		copy(before[:point], after[:point])
	} else {
		copy(before[point:], after[point:])
	}
	return before
}

// put replaces one block of a clone.
func (f *memFile) put(block [blockSize]byte, off int64) {
	if i := int(off / chunkSize); i < len(f.chunks) || block != [blockSize]byte{} {
		start := int(off % chunkSize)
		copy(f.chunk(i, start+blockSize)[start:], block[:])
	}
}
