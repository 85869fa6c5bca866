// Command curves measures how Braid's cost grows with the work, and draws it:
//
//	cd bench/peers && go run ./curves -out ../../docs/curves.svg
//
// Each panel of the picture has one thing that grows, from left to right, and what one operation costs; both axes are
// logarithmic. A level line means that the whole work grows in proportion, and a line that rises by n decades in one decade means that it grows with the
// power n+1. A table says the same in numbers, and which lines rise by more than they should.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/braid-go/braid/bench/peers/internal/page"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "curves:", err)
		os.Exit(1)
	}
}

// bounds says how far is measured.
type bounds struct {
	Dir        string
	For        time.Duration // each point, at least, where it is a rate
	Partitions int
	Groups     int
	Members    int
	Keys       int
	Records    int // of a transaction
	LogBytes   int64
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("curves", flag.ContinueOnError)
	picture := flags.String("out", "curves.svg", "the picture, .svg or .png")
	data := flags.String("data", "", "a JSON file of figures: those of panels that are not measured are taken from it, and all are kept in it")
	into := flags.String("into", "", "a Markdown file whose table of slopes is replaced")
	only := flags.String("only", "", "panels to measure, such as partitions,groups; none: draw what -data has (default all)")
	b := bounds{}
	flags.StringVar(&b.Dir, "dir", os.TempDir(), "where temporary directories are made; a disk, not memory")
	flags.DurationVar(&b.For, "for", 200*time.Millisecond, "how long a point is measured")
	flags.IntVar(&b.Partitions, "partitions", 10_000, "the most partitions")
	flags.IntVar(&b.Groups, "groups", 1000, "the most groups")
	flags.IntVar(&b.Members, "members", 1000, "the most members of a group")
	flags.IntVar(&b.Keys, "keys", 1_000_000, "the most keys")
	flags.IntVar(&b.Records, "records", 10_000, "the most records in a transaction")
	flags.Int64Var(&b.LogBytes, "log", 10_000_000_000, "the most bytes in a log")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("there is nothing to be done with %q", flags.Args())
	}
	fig := &figures{}
	if *data != "" {
		if err := fig.load(*data); err != nil {
			return err
		}
	}
	wanted := panels
	if *only != "" {
		wanted = nil
		for name := range strings.SplitSeq(*only, ",") {
			i := slices.IndexFunc(panels, func(p panel) bool { return p.Name == name })
			if i < 0 && name != "none" {
				return fmt.Errorf("there is no panel %q", name)
			} else if i >= 0 {
				wanted = append(wanted, panels[i])
			}
		}
	}
	for _, p := range wanted {
		if err := p.measure(ctx, b, fig); err != nil {
			return fmt.Errorf("%s: %w", p.Name, err)
		}
		if *data != "" {
			if err := fig.save(*data); err != nil {
				return err
			}
		}
	}
	t := fig.table()
	if _, err := fmt.Fprintln(out, t.Render()); err != nil {
		return err
	}
	if *into != "" {
		if err := page.Replace(*into, "curves", append([]byte(t.RenderMarkdown()), '\n')); err != nil {
			return err
		}
	}
	return drawFile(fig, *picture)
}

// figures are all that was measured.
type figures struct {
	Lines []*line `json:"lines"`
}

// line is one operation's cost.
type line struct {
	Panel string `json:"panel"`
	Name  string `json:"name"`
	// Most is the slope that the line may have: 0 where the operation is the same however much there is, 1 where its own work grows.
	Most   float64 `json:"most_slope"`
	Points []point `json:"points"`
}

// point is a cost: nanoseconds for one operation where X is how much there is.
type point struct {
	X  float64 `json:"x"`
	NS float64 `json:"ns"`
}

func (f *figures) load(name string) error {
	b, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return errors.Join(err, json.Unmarshal(b, f))
}

func (f *figures) save(name string) error {
	b, err := json.MarshalIndent(f, "", "\t")
	return errors.Join(err, os.WriteFile(name, append(b, '\n'), 0o644))
}

// add adds a point; the first of a line makes it.
func (f *figures) add(panel, name string, most float64, x int64, took time.Duration, ops int64) {
	i := slices.IndexFunc(f.Lines, func(l *line) bool { return l.Panel == panel && l.Name == name })
	if i < 0 {
		i = len(f.Lines)
		f.Lines = append(f.Lines, &line{Panel: panel, Name: name, Most: most})
	}
	f.Lines[i].Points = append(f.Lines[i].Points, point{float64(x), float64(took) / float64(ops)})
}

// forget drops what a panel had.
func (f *figures) forget(panel string) {
	f.Lines = slices.DeleteFunc(f.Lines, func(l *line) bool { return l.Panel == panel })
}
