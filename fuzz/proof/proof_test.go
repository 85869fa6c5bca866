package main

import (
	"strings"
	"testing"
)

// What tests print is counted once and under its own name, and what is too little is an error.
func TestCountsAreWhatTestsSay(t *testing.T) {
	c := newCounts(2)
	c.add(`=== RUN   TestX
    soak_test.go:60: again: go run ./fuzz/soak -seed 1

                                 kills    301
                 kills while opening      50
                          power cuts     120
          power cuts while opening       7
                        torn cases        1000
                      bits flipped        20
--- PASS: TestX (1.00s)
    torture_test.go:271: 6147 torn writes
    tear_test.go:54: torn cases: 192853, 83700 of them reported as damage
    torture_test.go:510: 2280 power cuts, seed 1
    powercut_test.go:239: power cuts: 600, 5 of them during recovery
    torture_test.go:307: 16104 bits flipped
    torture_test.go:377: 128 operations
    relayout_crash_test.go:40: 372 operations
    damage_test.go:59: bits flipped: 63504 for reading, 206 for writing, of 63504
    damage_test.go:59: bits flipped: 1013 for reading, 234 for writing, of 71976
    damage_test.go:100: files damaged: 318
    model_test.go:32: 200 runs of 100 commands, seeds 1 to 2: burst: 146
` + strings.Repeat("    concurrent_test.go:44: history: 10000 operations, 27949 events\n", 20) + `
    concurrent_test.go:44: history: 9999 operations, 27949 events
--- PASS: FuzzA (0.17s)
    --- PASS: FuzzA/seed#0 (0.00s)
` + strings.Repeat("    --- PASS: FuzzB/seed (0.00s)\n", 7) + `--- PASS: FuzzB (0.17s)
`)
	want := []int{301, 3000, 200_000, 80_641, 1, 318, 500, 200, 20, 2, 8}
	for i, row := range c.rows {
		if c.n[i] != want[i] {
			t.Errorf("%s: %d, want %d", row.what, c.n[i], want[i])
		}
	}
	if err := c.missing(); err != nil {
		t.Error(err)
	}
	for i := range c.n {
		less := *c
		less.n = append([]int{}, c.n...)
		less.n[i] = c.rows[i].want - 1
		if err := less.missing(); err == nil || !strings.Contains(err.Error(), c.rows[i].what) {
			t.Errorf("%s: one too few, and nobody says so: %v", c.rows[i].what, err)
		}
	}
}
