package model

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/leanovate/gopter"
	"github.com/leanovate/gopter/commands"
	"github.com/leanovate/gopter/gen"

	"github.com/braid-go/braid"
)

// Disk is what a broker lives on, over several openings.
type Disk interface {
	// Open opens the broker, on what was left.
	Open() (*braid.Broker, error)
	// Retain applies a topic's retention once, now.
	Retain(*braid.Topic) error
	// Durable says that what is acknowledged survives a power cut; else the power does not fail.
	Durable() bool
	// Arm has the process die, or with power the power fail, before the so-manieth change of a partition's files from now on, and begins to count
	// acknowledgements.
	Arm(operations int, power bool)
	// Acked counts an acknowledgement.
	Acked()
	// Crash has the process die, or with power the power fail, if it has not happened yet. It returns how many acknowledgements had been counted by
	// then. The broker that was open is of no use any more.
	Crash(power bool) (acked int)
	// Remove removes everything.
	Remove()
}

// Config says how many sequences to try.
type Config struct {
	// Disk makes an empty disk, by a seed.
	Disk func(seed uint64) Disk
	// Runs is the number of sequences, Commands the number of commands in each.
	Runs, Commands int
	// Seed makes the first sequence; the next ones are made by the numbers after it.
	Seed int64
	// Replay is the command line that tries a seed again, with a verb for the seed and one for the number of commands.
	Replay string
}

// shrinking is for how long a sequence that fails is made shorter.
const shrinking = time.Minute

// Run tries sequences of commands until one fails.
func Run(t *testing.T, c Config) {
	t.Helper()
	total := tally{}
	for i := range c.Runs {
		seed := c.Seed + int64(i)
		s := &sequences{t: t, c: c, seed: seed, total: total}
		params := gopter.DefaultTestParametersWithSeed(seed)
		params.MinSuccessfulTests = 1
		params.MinSize, params.MaxSize = c.Commands, c.Commands
		result := commands.Prop(s).Check(params)
		if result.Passed() {
			continue
		}
		t.Errorf("run %d of %d: again: "+c.Replay, i+1, c.Runs, seed, c.Commands)
		if result.Error != nil {
			t.Errorf("%v\n%s", result.Error, result.ErrorStack)
		}
		for _, arg := range result.Args {
			t.Errorf("shrunk %d times, to:\n%s\nfrom:\n%s", arg.Shrinks, arg.ArgFormatted, arg.OrigArgFormatted)
		}
		t.Errorf("what happened in the shrunk case: %v", s.failure)
		return
	}
	t.Logf("%d runs of %d commands, seeds %d to %d: %v", c.Runs, c.Commands, c.Seed, c.Seed+int64(c.Runs)-1, total)
}

// sequences are the sequences that a seed makes: one, and when it fails, shorter ones.
type sequences struct {
	t       *testing.T
	c       Config
	seed    int64
	total   tally
	failure string    // of the shortest that has failed
	until   time.Time // when there is enough of making it shorter
}

// NewSystemUnderTest implements commands.Commands.
func (s *sequences) NewSystemUnderTest(commands.State) commands.SystemUnderTest {
	if !s.until.IsZero() && time.Now().After(s.until) {
		return &world{over: true}
	}
	return newWorld(s)
}

// DestroySystemUnderTest implements commands.Commands.
func (s *sequences) DestroySystemUnderTest(sut commands.SystemUnderTest) { sut.(*world).end() }

// GenInitialState implements commands.Commands.
func (s *sequences) GenInitialState() gopter.Gen { return gen.Const(state{}) }

// InitialPreCondition implements commands.Commands.
func (s *sequences) InitialPreCondition(commands.State) bool { return true }

// GenCommand implements commands.Commands.
func (s *sequences) GenCommand(st commands.State) gopter.Gen {
	if st.(state).commands == s.c.Commands-1 {
		return gen.Const(command{op: &finish})
	}
	return genCommand
}

// failed keeps what happened in a sequence that has failed.
func (s *sequences) failed(w *world, err error) {
	if s.until.IsZero() {
		s.until = time.Now().Add(shrinking)
	}
	s.failure = fmt.Sprintf("%v\n%s", err, w.story())
}

// tally counts what was done.
type tally map[string]int

func (t tally) add(what string, n int) { t[what] += n }

func (t tally) String() string {
	var all []string
	for _, what := range slices.Sorted(maps.Keys(t)) {
		all = append(all, fmt.Sprintf("%s: %d", what, t[what]))
	}
	return strings.Join(all, ", ")
}
