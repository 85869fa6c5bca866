package power

import (
	"math/rand/v2"
	"sync"
	"syscall"

	"github.com/braid-go/braid/internal/vfs"
)

// Disk is a grid on which the process dies, or the power fails, before an operation that is told ahead, again and again.
type Disk struct {
	// Crashing, if not nil, is called when it happens, before anything is noted, and what it returns when all is noted. Both on the goroutine of an operation, which waits for
	// them; other operations wait too.
	Crashing func() (crashed func())

	acked func() int
	rng   *rand.Rand
	grid  *Grid

	mu    sync.Mutex
	left  int // operations until it happens; 0: it is not to happen
	power bool
	cut   *Cut // what it has left
}

// NewDisk makes an empty one. acked counts what has been acknowledged.
func NewDisk(dir string, rng *rand.Rand, acked func() int) (*Disk, error) {
	g, err := New(dir, 1, rng, acked)
	return &Disk{grid: g, rng: rng, acked: acked}, err
}

// Dir is the data directory.
func (d *Disk) Dir() string { return d.grid.Dir }

// FS is the file system of the partitions, until the next Crash.
func (d *Disk) FS() vfs.FS { return vfs.NewFault(d.grid.Mem, d) }

// Arm has the process die, or with power the power fail, when a partition's files have changed so often from now on and are about to change again.
func (d *Disk) Arm(operations int, power bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left, d.power = operations+1, power
}

// Inject implements vfs.Injector.
func (d *Disk) Inject(op vfs.Op) vfs.Outcome {
	if !changes(op) {
		return vfs.Outcome{}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.cut != nil:
		return vfs.Outcome{Err: syscall.EIO}
	case d.left == 0:
		return vfs.Outcome{}
	}
	if d.left--; d.left == 1 {
		d.grid.mark()
		return vfs.Outcome{}
	}
	if d.left == 0 {
		d.crash(d.power)
		return vfs.Outcome{Err: syscall.EIO}
	}
	return vfs.Outcome{}
}

// crash notes what is left. The caller holds mu.
func (d *Disk) crash(power bool) {
	if d.Crashing != nil {
		defer d.Crashing()()
	}
	g := d.grid
	if !power {
		d.cut = g.Kill()
		return
	}
	g.Every, g.cuts = 1, nil
	g.Note("told ahead")
	d.cut = g.cuts[d.rng.IntN(len(g.cuts))]
}

// Crash has the process die, or with power the power fail, if it has not happened yet, and returns what that has left. Then it calls end, which closes the broker: that is of
// no use any more. Then the directory is what was left.
func (d *Disk) Crash(power bool, end func()) (*Cut, error) {
	d.mu.Lock()
	if d.cut == nil {
		d.grid.last = nil // not everything is counted: nothing of the store may be torn
		d.crash(power)
	}
	c := d.cut
	d.mu.Unlock()
	end()
	err := c.Restore(d.grid.Dir)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cut, d.left = nil, 0
	d.grid = On(c.Mem, d.grid.Dir, 1, d.rng, d.acked)
	return c, err
}
