package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime/pprof"
)

// profileBraid has the processors' work for Braid written to a file in dir, for each workload that measures a store: W3-1.pprof and so on, of the last round. Opening and
// closing are not in it, and neither are peers. The figures of such a run are some percent worse.
func profileBraid(all []workload, dir string) {
	for i := range all {
		if measure := all[i].Measure; measure != nil {
			all[i].Measure = profiled(filepath.Join(dir, all[i].ID+".pprof"), measure)
		}
	}
}

func profiled(name string, measure measurement) measurement {
	return func(ctx context.Context, store io.Closer, sc scale) (_ []float64, err error) {
		if _, ok := store.(*braidStore); !ok {
			return measure(ctx, store, sc)
		}
		f, err := os.Create(name)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		if err := pprof.StartCPUProfile(f); err != nil {
			return nil, err
		}
		defer pprof.StopCPUProfile()
		return measure(ctx, store, sc)
	}
}
