package braid

import (
	"errors"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/braid-go/braid/fuzz/power"
)

// ModelDisk is what package fuzz/model has a broker live on.
type ModelDisk struct {
	t    *testing.T
	opts Options
	disk *power.Disk
	work *busy // of which only the count matters
	b    *Broker
}

// NewModelDisk makes an empty one.
func NewModelDisk(t *testing.T, dir string, seed uint64, opts Options) *ModelDisk {
	d := &ModelDisk{t: t, opts: opts, work: &busy{}}
	var err error
	if d.disk, err = power.NewDisk(dir, rand.New(rand.NewPCG(seed, 1)), func() int { return d.work.count() }); err != nil {
		t.Fatal(err)
	}
	return d
}

// Open opens the broker, on what was left.
func (d *ModelDisk) Open() (*Broker, error) {
	opts := d.opts
	opts.fs = d.disk.FS()
	var err error
	d.b, err = Open(d.disk.Dir(), opts)
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
	d.work = &busy{}
	d.disk.Arm(operations, power)
}

// Acked counts an acknowledgement.
func (d *ModelDisk) Acked() { d.work.ack(ack{}) }

// Crash has the process die, or with power the power fail, if it has not happened yet. It returns how many acknowledgements had been counted by then.
func (d *ModelDisk) Crash(power bool) int {
	c, err := d.disk.Crash(power, func() { _ = d.b.Close() }) // it is dead
	if err != nil {
		d.t.Fatal(err)
	}
	d.work = &busy{}
	return c.Acked
}

// Remove removes everything.
func (d *ModelDisk) Remove() { os.RemoveAll(d.disk.Dir()) }
