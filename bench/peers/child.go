package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"time"

	"github.com/braid-go/braid"
)

// childEnv tells this program to do nothing but open the broker in a directory: in a process of its own, whose memory is only that.
const childEnv = "BRAID_PEERS_OPEN"

// opened is what a child reports.
type opened struct {
	Took       time.Duration // to open
	HeapBytes  int64         // that being open takes
	PeakBytes  int64         // of the whole process, resident
	Records    int64
	Partitions int
}

// openInChild opens a broker in a process of its own, and closes it again.
func openInChild(ctx context.Context, dir string) (*opened, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("open %s in another process: %w", dir, err)
	}
	o := new(opened)
	return o, json.Unmarshal(out, o)
}

// child is main for a child.
func child(dir string, out io.Writer) (err error) {
	o := opened{}
	before := heapBytes()
	start := time.Now()
	broker, err := braid.Open(dir, braid.Options{Durability: braid.OS})
	if err != nil {
		return err
	}
	o.Took = time.Since(start)
	defer func() { err = errors.Join(err, broker.Close()) }()
	if o.PeakBytes, err = peakMemory(); err != nil {
		return err
	}
	o.HeapBytes = heapBytes() - before
	for _, topic := range broker.Topics() {
		for _, p := range topic.Partitions() {
			o.Partitions++
			o.Records += p.End - p.Start
		}
	}
	return json.NewEncoder(out).Encode(o)
}

func heapBytes() int64 {
	runtime.GC()
	runtime.GC() // finalizers have run
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
