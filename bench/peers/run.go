package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"time"
)

// config is what a run is asked for.
type config struct {
	Workloads []workload
	Rounds    int
	Scale     scale
	Dir       string           // where temporary directories are made
	Progress  func(now string) // called before each measurement
}

// runTimeout bounds one measurement, so that a system that hangs does not hang the run.
const runTimeout = 2 * time.Minute

// runAll measures everything: in each round every workload, in each workload every contender. The contenders of a workload thus see
// the same machine at nearly the same time, and what disturbs one round is not in the median of several. Who
// is first in a workload is drawn for each round.
func runAll(ctx context.Context, cfg config) (_ *report, err error) {
	rep := newReport(cfg)
	began := time.Now()
	made := &fixtures{cfg.Dir, map[string]string{}}
	defer func() { err = errors.Join(err, made.remove()) }()
	rng := rand.New(rand.NewPCG(0, uint64(cfg.Rounds)))
	for round := range cfg.Rounds {
		for i := range cfg.Workloads {
			w := &cfg.Workloads[i]
			if w.Once && round > 0 {
				continue
			}
			all := w.contenders()
			for _, at := range rng.Perm(len(all)) {
				c := all[at]
				cfg.Progress(fmt.Sprintf("round %d of %d: %s, %s", round+1, cfg.Rounds, w.ID, c.Name))
				runtime.GC() // what the one before has left is not this one's
				values, err := runOne(ctx, cfg, made, w, c)
				if ctx.Err() != nil {
					return nil, context.Cause(ctx)
				}
				rep.add(w, c, values, err)
			}
		}
	}
	rep.finish(cfg.Workloads)
	rep.Took = time.Since(began).Round(time.Second).String()
	return rep, nil
}

func runOne(ctx context.Context, cfg config, made *fixtures, w *workload, c contender) ([]float64, error) {
	if w.Bulk {
		if err := warmPageCache(ctx, cfg); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, runTimeout, errors.New("took too long"))
	defer cancel()
	if w.Fixture != nil {
		dir, err := made.dir(ctx, w.Fixture, cfg.Scale)
		if err != nil {
			return nil, err
		}
		return c.Run(ctx, dir, cfg.Scale)
	}
	return inTempDir(ctx, cfg.Dir, c, cfg.Scale)
}

// warmPageCache writes as much as a measurement does and removes it. Memory that a machine has not touched for a while may cost
// ten times as much as memory that it has, most of all on a virtual one, and the first to be measured must not pay for
// all.
func warmPageCache(ctx context.Context, cfg config) error {
	write := func(ctx context.Context, dir string, sc scale) ([]float64, error) {
		return limitWrite(ctx, dir, scale{Time: runTimeout, Bytes: sc.Bytes})
	}
	_, err := inTempDir(ctx, cfg.Dir, contender{Run: write}, cfg.Scale)
	return err
}

// checkDir looks at the directory in which will be measured, and warns where it makes the figures worthless.
func checkDir(dir string, warnings io.Writer) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a directory", dir)
	}
	if inMemory(dir) {
		fmt.Fprintf(warnings, "%s is in memory, where an fsync costs nothing: choose a directory on a disk with -dir\n", dir)
	}
	return nil
}
