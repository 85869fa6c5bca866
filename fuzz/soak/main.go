// Command soak kills Braid, over and over, and looks at what is left.
//
//	go run ./fuzz/soak -for 10m
//
// A child process, which is this program again, does everything at once in a data directory: producers publish with and without keys, members of two
// groups come and go, commit positions and consume in transactions, partitions split and merge, retention takes the oldest records away, topics are made
// and deleted, a group without members is reset. It writes to a pipe what it is about to do, and what was acknowledged. It is killed with SIGKILL: a while after it
// has opened the directory, while it opens or closes it, or right behind a step that it has told of. Then the parent opens the directory, read-only or, in a copy, as any process
// would that goes on with it, and compares what is there with what was said: package history says what is looked for. The next child goes on in the same
// directory. After a number of children the groups read to the end, everything is judged once more, and the directory is closed.
//
// Then it is damaged, for a part of the time: bits flipped, ranges cut, zeroed or overwritten, files gone or mixed up, and all of it at once. Each time it is opened, and package
// wreck says what is looked for.
//
// And another child does the same in a directory whose partitions are in memory, with the default durability, where the power fails before any operation on their files: package
// power says what is left, of files and of the commit log. Then the next directory is begun, with another seed.
//
// The disk under the partitions of some children fails: once, for a while, or for ever; what they are told of it has to be true, and they are killed a little later.
//
// A kill takes nothing away from what has been written, so that what is acknowledged survives it in every durability; kills and power cuts are counted apart.
//
// A directory in which something is wrong is kept as it was found, with the history, and the command is printed that repeats the seed: it chooses the moments and
// what each goroutine does, not how they interleave.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"time"
)

func main() {
	if text := os.Getenv(childEnv); text != "" {
		os.Exit(runChild(text))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "soak:", err)
		}
		stop()
		os.Exit(1)
	}
}

// run is the program.
func run(ctx context.Context, args []string, out io.Writer) error {
	s := &soak{out: out, command: self, tally: tally{}}
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.DurationVar(&s.length, "for", 10*time.Minute, "how long; it ends with the history under way then")
	flags.IntVar(&s.kills, "kills", math.MaxInt, "end after so many kills, too")
	flags.IntVar(&s.histories, "histories", math.MaxInt, "end after so many histories, too")
	flags.Uint64Var(&s.seed, "seed", 0, "of the first history, the next ones have the next numbers; 0 is a random one")
	flags.StringVar(&s.keep, "keep", "", "the directory in which failing cases are kept; the default is a new one among the system's temporary files")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("what is %q?", flags.Args())
	}
	s.seed = cmp.Or(s.seed, rand.Uint64()>>16|1)
	return s.run(ctx)
}

// self is this program.
func self() *exec.Cmd { return exec.Command(os.Args[0]) }
