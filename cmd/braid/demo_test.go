package main

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/braid-go/braid"
)

// demoOut runs a small demo, which must pass, and returns what it printed.
func demoOut(t *testing.T, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	if code := run(t.Context(), append([]string{"demo", "--orders", "5000"}, args...), nil, &out, &out); code != 0 {
		t.Fatalf("exit code %d\n%s", code, out.String())
	}
	if !strings.HasSuffix(out.String(), "\nall checks passed\n") {
		t.Errorf("the demo ends with %q", out.String())
	}
	return out.String()
}

func TestDemoPassesAndLeavesNothingBehind(t *testing.T) {
	tmp, data := t.TempDir(), t.TempDir()
	t.Setenv("TMPDIR", tmp)
	t.Setenv("BRAID_DIR", data) // somebody's data, which is not for playing with
	demoOut(t, "--partitions", "3", "--seed", "7")
	for _, dir := range []string{tmp, data} {
		if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
			t.Errorf("left behind: %v, %v", entries, err)
		}
	}
}

func TestDemoKeepsTheDirectoryThatItIsToldTo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	demoOut(t, "--dir", dir)
	if out := must(t, dir, "", "verify"); !strings.Contains(out, "sound: 5,000 records in 4 partitions") {
		t.Errorf("verify: %s", out)
	}
	if r := braidIn(t, dir, "", "demo"); r.code != exitError || !strings.Contains(r.stderr, "not empty") {
		t.Errorf("on a directory in use: exit code %d, %q", r.code, r.stderr)
	}
	t.Setenv("TMPDIR", t.TempDir())
	_, kept, _ := strings.Cut(demoOut(t, "--keep"), "The data is in ")
	kept, _, _ = strings.Cut(kept, ":")
	must(t, kept, "", "verify")
}

// The demo of scaling takes a minute, or twenty, on a wall clock, and none here.
func TestDemoShowsPartitionsThatFollowTheirLoad(t *testing.T) {
	for name, tc := range map[string]struct {
		slow bool
		most time.Duration
	}{"quick": {false, 75 * time.Second}, "slow": {true, 25 * time.Minute}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				begin := time.Now()
				s := newScaleDemo(t.Context(), bufio.NewWriter(&out), 1000, 1, tc.slow)
				if err := s.run("", braid.Options{InMemory: true}); err != nil {
					t.Fatalf("%v\n%s", err, out.String())
				}
				if took := time.Since(begin); took > tc.most {
					t.Errorf("it took %v, want at most %v", took, tc.most)
				}
				for _, want := range []string{"SPLIT  1: ", "MERGE  ", "2 consumers: ", "the partitions at the peak:", "└─ ", "\nall checks passed\n"} {
					if !strings.Contains(out.String(), want) {
						t.Errorf("%q is missing", want)
					}
				}
				t.Log(out.String())
			})
		})
	}
}
