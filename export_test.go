package braid

import (
	"errors"
	"math/rand/v2"
	"os"
	"testing"
)

// ModelDisk is what package fuzz/model has a broker live on: a grid of which the process dies, or the power fails, at an operation.
type ModelDisk struct {
	t    *testing.T
	opts Options
	grid *grid
	b    *Broker
}

// NewModelDisk makes an empty one.
func NewModelDisk(t *testing.T, dir string, seed uint64, opts Options) *ModelDisk {
	return &ModelDisk{t: t, opts: opts, grid: newGrid(t, dir, 1, rand.New(rand.NewPCG(seed, 1)))}
}

// Open opens the broker, on what was left.
func (d *ModelDisk) Open() (*Broker, error) {
	opts := d.opts
	opts.fs = d.grid.mem
	var err error
	d.b, err = Open(d.grid.dir, opts)
	return d.b, err
}

// Retain applies a topic's retention once, as the broker does from time to time.
func (d *ModelDisk) Retain(t *Topic) error {
	return errors.Join(t.retain(), t.dropDrained(d.t.Context()))
}

// Remove removes everything.
func (d *ModelDisk) Remove() { os.RemoveAll(d.grid.dir) }
