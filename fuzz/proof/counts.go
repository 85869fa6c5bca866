package main

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
)

// tests are what is run, the longest first.
var tests = []test{
	{"./fuzz/soak", "^TestKilledAtAnyMomentWhatWasAcknowledgedIsThere$", []string{"-kills=300"}},
	{".", "^TestABrokerDoesWhatItsModelDoes$", []string{"-runs=100", "-commands=100"}},
	{".", "^TestABrokerDoesWhatItsModelDoes$", []string{"-runs=100", "-commands=100"}}, // with another seed
	{"./fuzz", "^(TestEveryFlippedBitOfADirectoryIsSurvived|TestFilesOfADirectoryGoneCutOrMixedUpAreReported|TestEveryTearOfADirectoryIsSurvived)$", []string{"-everybit"}},
	{"./log", "^(TestEveryTornWriteIsRecovered|TestEveryTearOfTheLastBatchLeavesItsWholeFrames|TestEveryTearOfLoggedFramesIsMadeGood|TestEveryFlippedBitIsReported|" +
		"TestAFaultAtEveryOperation|TestRecoveryIsCutAtEveryOperation|TestApplyingLoggedFramesIsCutAtEveryOperation|TestPowerCutsAtEveryOperation|TestPowerCutsLoseNothingThatIsInTheCommitLog)$", nil},
	{"./checkpoint", "^(TestEveryTearLeavesWhatWasWholeOrIsReported|TestEveryFlippedBitIsNoticed)$", nil},
	{"./fuzz", "^TestConcurrentUseOverSeveralOpeningsHasACorrectHistory$", []string{"-calls=1200", "-test.count=4"}},
	{".", "^(TestPowerCutsOfAWholeBroker|TestPowerFailsAfterAKill|TestASplitOrAMergeThatFailsAnywhereLeavesALayout|TestACrashAtAnyStepOfASplitOrAMergeLeavesALayout)$", nil},
	{"./...", "^Fuzz", nil},
}

// row is a figure: how the tests say it, and how much of it is wanted.
type row struct {
	what  string
	want  int
	lines []line
}

// line is a kind of line that tests print. The sum of its first groups counts, or, of each line that holds, one.
type line struct {
	like  *regexp.Regexp
	holds func(groups []int) bool // nil: the first group is added
}

func sum(like string) line { return line{like: regexp.MustCompile(like)} }

func each(like string, holds func(groups []int) bool) line {
	return line{regexp.MustCompile(like), holds}
}

// all has every line of a kind count.
func all([]int) bool { return true }

// logged is how a line begins that t.Log prints: some spaces, and, if it is the first of what is printed, its place in the source.
const logged = `(?m)^ +(?:\w+_test\.go:\d+: )?`

// counts is what tests have said so far.
type counts struct {
	rows []row
	n    []int
}

func newCounts(fuzzTargets int) *counts {
	c := &counts{rows: []row{
		{"kills", 300, []line{sum(logged + `kills +(\d+) *$`)}},
		{"power cuts", 3000, []line{sum(logged + `power cuts +(\d+) *$`), sum(logged + `power cuts: (\d+)`), sum(logged + `(\d+) power cuts`)}},
		{"torn writes", 200_000, []line{sum(logged + `torn cases +(\d+) *$`), sum(logged + `torn cases: (\d+)`), sum(logged + `(\d+) torn writes`)}},
		{"bits flipped", 75_000, []line{sum(logged + `bits flipped +(\d+) *$`), sum(logged + `bits flipped: (\d+) for reading`), sum(logged + `(\d+) bits flipped`)}},
		{"directories of which every bit was flipped", 1, []line{each(logged+`bits flipped: (\d+) for reading, \d+ for writing, of (\d+)`, func(g []int) bool { return g[0] == g[1] && g[0] > 50_000 })}},
		{"files gone, cut or mixed up", 300, []line{sum(logged + `files damaged: (\d+)`)}},
		{"operations that failed, or at which all ended", 500, []line{sum(logged + `(\d+) operations$`)}},
		{"runs of 100 commands against the model", 200, []line{sum(logged + `(\d+) runs of 100 commands`)}},
		{"histories of 10,000 operations and more", 20, []line{each(logged+`history: (\d+) operations`, func(g []int) bool { return g[0] >= 10_000 })}},
		{"fuzz targets", fuzzTargets, []line{each(`(?m)^--- PASS: Fuzz`, all)}},
		{"seeds of fuzz targets", 4 * fuzzTargets, []line{each(`(?m)^    --- PASS: Fuzz`, all)}},
	}}
	c.n = make([]int, len(c.rows))
	return c
}

// add takes the lines of a test's output.
func (c *counts) add(text string) {
	for i, row := range c.rows {
		for _, l := range row.lines {
			for _, m := range l.like.FindAllStringSubmatch(text, -1) {
				var groups []int
				for _, s := range m[1:] {
					n, _ := strconv.Atoi(s)
					groups = append(groups, n)
				}
				switch {
				case l.holds == nil:
					c.n[i] += groups[0]
				case l.holds(groups):
					c.n[i]++
				}
			}
		}
	}
}

// missing is an error for each row that is less than what is wanted.
func (c *counts) missing() error {
	var errs []error
	for i, row := range c.rows {
		if c.n[i] < row.want {
			errs = append(errs, fmt.Errorf("%s: %d, wanted are %d", row.what, c.n[i], row.want))
		}
	}
	return errors.Join(errs...)
}
