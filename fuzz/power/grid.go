// Package power cuts the power of a broker, or kills its process, at any operation on the files of its partitions.
package power

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/braid-go/braid/internal/vfs"
)

// Grid is the power supply of a broker whose partitions are in a file system that can be crashed, and whose store is in files. Before each operation that changes a
// partition's files it notes what a power cut would leave.
//
// Of the partitions that is the synced state with any part of the rest. Of the store it is what its files hold, or, as long as that can be so, the same with
// what has been appended since the last operation torn: nobody has been told of it, and nothing has been done that waits for it. What of the store was written and not synced otherwise is package checkpoint's
// to survive, and tested there.
type Grid struct {
	// Dir is the data directory, of the same name in both file systems.
	Dir string
	// Mem is the file system of the partitions.
	Mem *vfs.Mem
	// Every says of how many operations one is noted, at random.
	Every int
	// Acked counts what has been acknowledged to anybody so far.
	Acked func() int

	mu   sync.Mutex // one operation at a time; guards what follows
	rng  *rand.Rand
	ops  int
	cuts []*Cut
	last map[string][]byte // the store at the last operation
	told int               // what had been acknowledged then
	dead bool              // the process was killed: nothing happens any more
}

// New makes the grid of an empty directory.
func New(dir string, every int, rng *rand.Rand, acked func() int) (*Grid, error) {
	mem := vfs.NewMem()
	made := "."
	for _, part := range strings.Split(strings.Trim(filepath.ToSlash(dir), "/"), "/") {
		next := filepath.Join(made, part)
		if err := errors.Join(mem.Mkdir(next), mem.SyncDir(made)); err != nil {
			return nil, err
		}
		made = next
	}
	return On(mem, dir, every, rng, acked), os.MkdirAll(dir, 0o700)
}

// On makes the grid of a directory that is there.
func On(mem *vfs.Mem, dir string, every int, rng *rand.Rand, acked func() int) *Grid {
	return &Grid{Dir: dir, Mem: mem, Every: every, Acked: acked, rng: rng}
}

// FS is the file system that the broker's partitions are written through.
func (g *Grid) FS() vfs.FS { return vfs.NewFault(g.Mem, g) }

// Ops returns how many operations there were, and Cuts what was noted at them. Nothing is under way any more.
func (g *Grid) Ops() int     { return g.ops }
func (g *Grid) Cuts() []*Cut { return g.cuts }

// Cut is what a power cut, or a kill, has left.
type Cut struct {
	Mem   *vfs.Mem
	Acked int               // of what was acknowledged, so much was by then
	What  string            // and when it was
	Torn  bool              // in the store too
	files map[string][]byte // of the store, and FORMAT
}

// changes reports whether an operation changes what a power cut leaves.
func changes(op vfs.Op) bool {
	switch op.Kind {
	case vfs.OpRead, vfs.OpSize, vfs.OpStat, vfs.OpOpen, vfs.OpOpenReadWrite, vfs.OpList, vfs.OpClose, vfs.OpReserve:
		return false
	}
	return true
}

// Inject implements vfs.Injector.
func (g *Grid) Inject(op vfs.Op) vfs.Outcome {
	if !changes(op) {
		return vfs.Outcome{}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.dead {
		return vfs.Outcome{Err: syscall.EIO}
	}
	g.ops++
	g.cut(fmt.Sprintf("before operation %d (%v of %s)", g.ops, op.Kind, filepath.Base(op.Name)))
	return vfs.Outcome{}
}

// Note notes what a power cut would leave now.
func (g *Grid) Note(what string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cut(what)
}

// Look takes what the store has now for what it had at the last operation.
func (g *Grid) Look() { g.last = g.readStore() }

// mark notes what the store has, so that it is known what of it is new later. The store may be at work: what it appends while it is read counts as old, and if anything is acknowledged
// from now on, nothing counts as new.
func (g *Grid) mark() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.told = g.Acked()
	g.last = g.readStore()
}

// cut notes what a power cut at this instant may leave. The caller holds mu, so that the partitions stand still; the store may be at work, and is waited for.
func (g *Grid) cut(what string) {
	acked := g.Acked()
	noted := g.rng.IntN(g.Every) == 0
	files := g.readStore()
	for {
		strict := g.Mem.CrashClone(vfs.CrashOptions{})
		some := g.Mem.CrashClone(vfs.RandomCrash(g.rng))
		told := g.Acked() // of these the store has what was appended, now that it is read
		again := g.readStore()
		if !maps.EqualFunc(files, again, bytes.Equal) {
			files = again
			continue
		}
		if noted {
			g.cuts = append(g.cuts, &Cut{Mem: strict, files: files, Acked: acked, What: what + ", nothing unsynced kept"},
				&Cut{Mem: some, files: files, Acked: acked, What: what + ", some of what is unsynced kept"})
			if torn, how := g.tear(files, acked); torn != nil {
				g.cuts = append(g.cuts, &Cut{Mem: strict, files: torn, Acked: acked, Torn: true, What: what + ", the commit log " + how},
					&Cut{Mem: some, files: torn, Acked: acked, Torn: true, What: what + ", some kept, the commit log " + how})
			}
		}
		g.last, g.told = files, told
		return
	}
}

// Kill ends the process, and returns what it leaves: all that it has written.
func (g *Grid) Kill() *Cut {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dead = true
	acked := g.Acked()
	files := g.readStore()
	for again := g.readStore(); !maps.EqualFunc(files, again, bytes.Equal); again = g.readStore() {
		files = again // the store is still at work
	}
	return &Cut{Mem: g.Mem, files: files, Acked: acked, What: "a kill"}
}

// tear tears what was appended to the store since the last operation, if nobody can know yet that it is durable.
func (g *Grid) tear(files map[string][]byte, acked int) (map[string][]byte, string) {
	if acked != g.told || len(files) != len(g.last) {
		return nil, ""
	}
	grown := ""
	for name, b := range files {
		was, there := g.last[name]
		switch {
		case !there || grown != "" && !bytes.Equal(b, was):
			return nil, ""
		case bytes.Equal(b, was):
		case len(b) > len(was) && bytes.HasPrefix(b, was) && strings.HasPrefix(name, store+"/0"):
			grown = name
		default:
			return nil, ""
		}
	}
	if grown == "" {
		return nil, ""
	}
	b := bytes.Clone(files[grown])
	begin := len(g.last[grown]) + zeroTail // what was there may have ended with zeros
	if begin >= len(b) {
		return nil, ""
	}
	from := begin + g.rng.IntN(len(b)-begin)
	how := fmt.Sprintf("torn at byte %d of %d", from, len(b))
	switch g.rng.IntN(3) {
	case 0:
		b = b[:from]
	case 1:
		clear(b[from:])
	default:
		for i := from; i < len(b); i++ {
			b[i] = byte(g.rng.Uint32())
		}
	}
	torn := maps.Clone(files)
	torn[grown] = b
	return torn, how
}

// store is the name of the store in the data directory.
const store = "checkpoint"

// zeroTail is more than the zeros with which an entry of the store ends where values are small.
const zeroTail = 16

// readStore reads the files of the store, without the zeros made ahead, FORMAT and the lock.
func (g *Grid) readStore() map[string][]byte {
	files := map[string][]byte{}
	_ = filepath.WalkDir(g.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // it went while we looked; then it looks different the next time
		}
		b, err := os.ReadFile(path)
		if err == nil {
			name, _ := filepath.Rel(g.Dir, path)
			files[filepath.ToSlash(name)] = bytes.TrimRight(b, "\x00")
		}
		return nil
	})
	return files
}

// Restore makes the directory as it was left, for the file system that was left.
func (c *Cut) Restore(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	for name, b := range c.files {
		path := filepath.Join(dir, name)
		if strings.HasPrefix(name, store+"/0") {
			b = append(b[:len(b):len(b)], make([]byte, zeroTail)...)
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, b, 0o600)); err != nil {
			return err
		}
	}
	return nil
}
