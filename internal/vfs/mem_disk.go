package vfs

import "slices"

// This file is what a tracked file system knows of its disk: of each file, what
// the changed blocks held when they were last synced; of each directory, the
// names that were synced and the changes since.

// blockSize is the unit in which a power cut spares or destroys: the sector of
// most disks.
const blockSize = 512

// diskState says how a file on disk differs from the one in memory. The zero
// value is an empty file on disk.
type diskState struct {
	size int64 // as of the last successful sync
	low  int64 // the smallest size since then: what lies beyond was truncated away
	// blocks are those that may differ, by number. Where a block is not listed,
	// disk and memory agree.
	blocks map[int64]*diskBlock
}

// diskBlock is a block whose bytes on disk may be old.
type diskBlock struct {
	old     []byte // what the disk holds; nil is zeros
	touched bitmap // the bytes changed since
	lost    bool   // a failed sync gave it up
}

// bitmap has one bit for each byte of a block.
type bitmap [blockSize / 64]uint64

func (b *bitmap) set(from, to int) {
	for i := from; i < to; {
		if i%64 == 0 && to-i >= 64 {
			b[i/64] = ^uint64(0)
			i += 64
			continue
		}
		b[i/64] |= 1 << (i % 64)
		i++
	}
}

func (b *bitmap) has(i int) bool { return b[i/64]&(1<<(i%64)) != 0 }

// touch notes that the n bytes from off are about to change; the caller holds
// f.mu alone.
func (f *memFile) touch(off, n int64) {
	if f.disk.blocks == nil {
		f.disk.blocks = map[int64]*diskBlock{}
	}
	for end := off + n; off < end; {
		number, from := off/blockSize, off%blockSize
		to := min(blockSize, from+end-off)
		block := f.disk.blocks[number]
		if block == nil {
			block = &diskBlock{old: f.copyBlock(number)}
			f.disk.blocks[number] = block
		}
		block.touched.set(int(from), int(to))
		// The whole block is dirty again, with what a failed sync left behind.
		block.lost = false
		off += to - from
	}
}

// touchTail notes that the bytes from size on are about to be cut off. Holes
// are zeros here and on disk.
func (f *memFile) touchTail(size int64) {
	if end := min(f.size, int64(len(f.chunks))*chunkSize); size < end {
		f.touch(size, end-size)
	}
	f.disk.low = min(f.disk.low, size)
}

// copyBlock returns the bytes of a block, nil if they are all zeros.
func (f *memFile) copyBlock(number int64) []byte {
	var block [blockSize]byte
	if f.read(block[:], number*blockSize); block == [blockSize]byte{} {
		return nil
	}
	return slices.Clone(block[:])
}

// settle is a sync that succeeds: the disk now holds the file as it is, but for
// what an earlier, failed one gave up.
func (f *memFile) settle() {
	var lost map[int64]*diskBlock
	for number, block := range f.disk.blocks {
		left := f.size - number*blockSize
		if !block.lost || left <= 0 {
			continue
		}
		if left < int64(len(block.old)) {
			clear(block.old[left:]) // cut off, and the cut is on disk now
		}
		if lost == nil {
			lost = map[int64]*diskBlock{}
		}
		lost[number] = block
	}
	f.disk = diskState{size: f.size, low: f.size, blocks: lost}
}

// lose is a sync that fails and leaves every page clean.
func (f *memFile) lose() {
	for _, block := range f.disk.blocks {
		block.lost = true
	}
}

// dirOp is one change of names that happens as a whole or not at all: one entry
// made or removed, or the two of a rename.
type dirOp []dirChange

type dirChange struct {
	dir           *memDir
	name          string
	before, after node // nil: the name is free
}

// touches reports whether op changes an entry of one of dirs.
func (op dirOp) touches(dirs map[*memDir]bool) bool {
	return slices.ContainsFunc(op, func(c dirChange) bool { return dirs[c.dir] })
}

// commitNames brings the names in dir to disk: its pending changes, and, as a
// rename between two directories is one change, those of another directory
// that came before such a rename. The caller holds m.mu.
func (m *Mem) commitNames(dir *memDir) {
	dirs := map[*memDir]bool{dir: true}
	commit := make([]bool, len(m.pending))
	for i, op := range slices.Backward(m.pending) {
		if commit[i] = op.touches(dirs); commit[i] {
			for _, c := range op {
				dirs[c.dir] = true
			}
		}
	}
	rest := m.pending[:0]
	for i, op := range m.pending {
		if !commit[i] {
			rest = append(rest, op)
			continue
		}
		for _, c := range op {
			c.dir.setSynced(c.name, c.after)
		}
	}
	clear(m.pending[len(rest):])
	m.pending = rest
}

func (d *memDir) setSynced(name string, n node) {
	if d.synced == nil {
		d.synced = map[string]node{}
	}
	setEntry(d.synced, name, n)
}
