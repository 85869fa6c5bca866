package main

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/braid-go/braid/internal/vfs"
)

func newOutages(t *testing.T) *outages {
	t.Helper()
	dir := t.TempDir()
	o := orders{Dir: filepath.Join(dir, "data"), Seed: rand.Uint64(), Keys: 10, Outages: 12, Keep: filepath.Join(dir, "keep")}
	must(t, os.Mkdir(o.Keep, 0o700))
	t.Logf("seed %d", o.Seed)
	return &outages{orders: o, rng: rand.New(rand.NewPCG(o.Seed, 0)), past: newPast(), count: func(string) {}}
}

func TestWhatIsAcknowledgedSurvivesPowerCuts(t *testing.T) {
	must(t, newOutages(t).run(t.Context()))
}

// forgetful is a file system of which the files are never synced, although it says so.
type forgetful struct{ vfs.FS }

type forgetfulFile struct{ vfs.File }

func (forgetfulFile) Sync() error     { return nil }
func (forgetfulFile) Datasync() error { return nil }

func (f forgetful) Create(name string) (vfs.File, error) {
	file, err := f.FS.Create(name)
	if err != nil {
		return nil, err
	}
	return forgetfulFile{file}, nil
}

func TestADiskThatLiesAboutSyncingIsFoundOut(t *testing.T) {
	s := newOutages(t)
	s.Outages = 100
	s.below = func(f vfs.FS) vfs.FS { return forgetful{f} }
	err := s.run(t.Context())
	if err == nil {
		t.Fatal("no error")
	}
	t.Logf("%.300s", err)
	if !strings.HasPrefix(err.Error(), "after outage") {
		return // a broker has met it by itself
	}
	for _, name := range []string{"history", filepath.Join("data", "FORMAT"), filepath.Join("data", "partitions")} {
		if _, err := os.Stat(filepath.Join(s.Keep, name)); err != nil {
			t.Error(err)
		}
	}
}
