package braid_test

import (
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/braid-go/braid"
	"github.com/braid-go/braid/fuzz/model"
)

var (
	modelRuns     = flag.Int("runs", 12, "sequences of commands that the model tries")
	modelCommands = flag.Int("commands", 60, "commands in each of them")
	modelSeed     = flag.Int64("modelseed", 0, "seed of the first; 0: one of its own")
)

// Whatever is done to a broker, it does what a plain model in memory does; see package fuzz/model.
func TestABrokerDoesWhatItsModelDoes(t *testing.T) {
	seed := *modelSeed
	if seed == 0 {
		seed = rand.Int64()>>1 | 1
	}
	dir, err := os.MkdirTemp("/dev/shm", "braid-model-")
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	model.Run(t, model.Config{
		Disk: func(seed uint64) model.Disk {
			mode := []braid.Durability{braid.Fsync, braid.Fsync, braid.Fsync, braid.Fsync, braid.Interval, braid.OS}[seed%6]
			return braid.NewModelDisk(t, filepath.Join(dir, "data"), seed, braid.Options{Durability: mode, SyncInterval: 5 * time.Millisecond})
		},
		Runs: *modelRuns, Commands: *modelCommands, Seed: seed,
		Replay: "go test . -run '^" + t.Name() + "$' -runs 1 -modelseed %d -commands %d",
	})
}
