package braid

import (
	"errors"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"testing"

	"github.com/braid-go/braid/internal/vfs"
)

// ModelDisk is what package fuzz/model has a broker live on: a grid on which the process dies, or the power fails, before an operation that is told ahead.
type ModelDisk struct {
	t    *testing.T
	opts Options
	grid *grid
	b    *Broker

	mu    sync.Mutex
	left  int // operations until it happens; 0: it is not to happen
	power bool
	cut   *powerCut // what it has left
}

// NewModelDisk makes an empty one.
func NewModelDisk(t *testing.T, dir string, seed uint64, opts Options) *ModelDisk {
	return &ModelDisk{t: t, opts: opts, grid: newGrid(t, dir, 1, rand.New(rand.NewPCG(seed, 1)))}
}

// Open opens the broker, on what was left.
func (d *ModelDisk) Open() (*Broker, error) {
	opts := d.opts
	opts.fs = vfs.NewFault(d.grid.mem, d)
	var err error
	d.b, err = Open(d.grid.dir, opts)
	return d.b, err
}

// Retain applies a topic's retention once, as the broker does from time to time.
func (d *ModelDisk) Retain(t *Topic) error {
	return errors.Join(t.retain(), t.dropDrained(d.t.Context()))
}

// Durable says that what is acknowledged survives a power cut.
func (d *ModelDisk) Durable() bool { return d.opts.Durability == Fsync }

// Arm has the process die, or with power the power fail, before the so-manieth change of a partition's files from now on.
func (d *ModelDisk) Arm(operations int, power bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left, d.power = operations+1, power
	d.grid.work = &busy{}
}

// Acked counts an acknowledgement.
func (d *ModelDisk) Acked() { d.grid.work.ack(ack{}) }

// Inject implements vfs.Injector.
func (d *ModelDisk) Inject(op vfs.Op) vfs.Outcome {
	switch op.Kind {
	case vfs.OpRead, vfs.OpSize, vfs.OpStat, vfs.OpOpen, vfs.OpOpenReadWrite, vfs.OpList, vfs.OpClose, vfs.OpReserve:
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
		d.grid.every = 1 << 30
		return d.grid.Inject(op) // so that the grid knows what of the store is new at the next one
	}
	if d.left == 0 {
		d.crash(d.power)
		return vfs.Outcome{Err: syscall.EIO}
	}
	return vfs.Outcome{}
}

// crash notes what is left. The caller holds mu.
func (d *ModelDisk) crash(power bool) {
	g := d.grid
	if !power {
		d.cut = g.kill()
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.every, g.cuts = 1, nil
	g.cut("of the model")
	d.cut = g.cuts[g.rng.IntN(len(g.cuts))]
}

// Crash has the process die, or with power the power fail, if it has not happened yet. It returns how many acknowledgements had been counted by then.
func (d *ModelDisk) Crash(power bool) int {
	d.mu.Lock()
	if d.cut == nil {
		d.grid.last = nil // not everything is counted: nothing of the store may be torn
		d.crash(power)
	}
	c := d.cut
	d.mu.Unlock()
	_ = d.b.Close() // it is dead
	c.restore(d.t, d.grid.dir)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cut, d.left = nil, 0
	d.grid = &grid{t: d.t, dir: d.grid.dir, mem: c.mem, rng: d.grid.rng, every: 1, work: &busy{}}
	return c.acked
}

// Remove removes everything.
func (d *ModelDisk) Remove() { os.RemoveAll(d.grid.dir) }
