// Command braid works with a Braid data directory from the command line: it publishes and prints
// records, lists and describes topics, and checks and shows what is on disk.
//
// Reading needs no lock and works while another process has the directory open; publishing, tail --group and
// changing topics do not.
//
// Every command is a function over an env, so that tests run command lines in their own process.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/braid-go/braid"
)

// Exit codes. A command line that is not understood ends with kong's own, 80.
const (
	exitOK          = 0
	exitError       = 1
	exitCorrupt     = 2
	exitMissing     = 3
	exitInterrupted = 130
)

const help = `Exit codes:
  0    done; also when whoever reads the output has seen enough
  1    failed, the reason is on standard error
  2    verify found damage
  3    verify found that something is missing
  80   the command line is not understood
  130  interrupted; what was acknowledged or printed before counts`

// exitCode is an error that has been told already, or needs no telling, and ends the program with a code.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// cli is the command line.
type cli struct {
	Dir string `help:"Data directory, by default ./braid-data." env:"BRAID_DIR" default:"./braid-data" type:"path" placeholder:"DIR"`

	Pub    pubCmd    `cmd:"" help:"Publish standard input to a topic, a record a line."`
	Tail   tailCmd   `cmd:"" help:"Print a topic's records."`
	Topics topicsCmd `cmd:"" help:"List, create, change and delete topics."`
	Groups groupsCmd `cmd:"" help:"List, move, export and delete consumer groups."`
	Lag    lagCmd    `cmd:"" help:"Show how far groups are behind."`
	Info   infoCmd   `cmd:"" help:"Describe the directory and its partitions."`

	Partitions partitionsCmd `cmd:"" help:"Show a topic's partitions and what they continue."`
	Split      splitCmd      `cmd:"" help:"Divide a partition in two."`
	Merge      mergeCmd      `cmd:"" help:"Make one of two neighbouring partitions."`

	Verify  verifyCmd  `cmd:"" help:"Check every byte that is stored."`
	Dump    dumpCmd    `cmd:"" help:"Show the frames of a topic as they lie on disk."`
	Demo    demoCmd    `cmd:"" help:"See Braid at work on generated orders."`
	Version versionCmd `cmd:"" help:"Print the version."`
}

// env is what a command works with.
type env struct {
	ctx      context.Context
	dir      string
	dirNamed bool // by a flag, and not by default or the environment
	stdin    io.Reader
	stdout   *bufio.Writer // run flushes it at the end
	stderr   io.Writer
}

// openWritable opens the data directory, making it if need be, and tells what recovery could not keep in place.
func (e *env) openWritable(opts braid.Options) (*braid.Broker, error) {
	b, err := braid.Open(e.dir, opts)
	if errors.Is(err, braid.ErrLocked) {
		return nil, fmt.Errorf("%w (reading works meanwhile: tail, topics, groups, lag, info, verify, dump)", err)
	}
	if err != nil {
		return nil, err
	}
	tellRecovery(e.stderr, b.OpenReport())
	return b, nil
}

// openReadOnly opens the data directory for reading; it must exist.
func (e *env) openReadOnly() (*braid.Broker, error) {
	// Where one of the two is there, what is missing is for Open to say.
	_, noFormat := os.Stat(filepath.Join(e.dir, "FORMAT"))
	_, noData := os.Stat(filepath.Join(e.dir, "partitions"))
	if errors.Is(noFormat, fs.ErrNotExist) && errors.Is(noData, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is not a Braid data directory; name one with --dir or $BRAID_DIR, or make one with 'braid pub'", e.dir)
	}
	return braid.Open(e.dir, braid.Options{ReadOnly: true})
}

// tellRecovery tells what opening for writing has set aside or found damaged. A recovery that kept everything
// is not worth a word.
func tellRecovery(w io.Writer, r *braid.OpenReport) {
	for _, t := range r.Store.Torn {
		fmt.Fprintf(w, "braid: recovery kept aside an unfinished commit of %s: %s\n", bytesOf(t.Length), t.Path)
	}
	for _, dir := range r.SetAside {
		fmt.Fprintln(w, "braid: recovery kept aside an unfinished partition:", dir)
	}
	for _, p := range r.Partitions {
		name := fmt.Sprintf("braid: %s partition %d:", p.Topic, p.Partition)
		for _, t := range p.Torn {
			fmt.Fprintf(w, "%s recovery kept aside %s that were never acknowledged: %s\n", name, bytesOf(t.Bytes), t.File)
		}
		if p.GapFrom != p.GapNext {
			fmt.Fprintf(w, "%s offsets %d to %d will not be given out: a group had committed behind them\n", name, p.GapFrom, p.GapNext-1)
		}
		for _, problem := range p.Problems {
			fmt.Fprintln(w, name, plain(problem))
		}
	}
}

func main() {
	signal.Ignore(syscall.SIGPIPE) // so that a broken pipe is an error of Write, and commands end in order
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run carries out a command line and returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var c cli
	helped := false
	parser, err := kong.New(&c,
		kong.Name("braid"),
		kong.Description("An embedded event broker's command line: publish, read and check a data directory."),
		kong.Writers(stdout, stderr), kong.Exit(func(int) { helped = true }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.PostBuild(func(k *kong.Kong) error { k.Model.Detail = help; return nil }),
	)
	if err != nil {
		fmt.Fprintln(stderr, "braid:", err)
		return exitError
	}
	command, err := parser.Parse(args)
	if helped {
		return exitOK
	}
	if err != nil {
		return misunderstood(err, stderr)
	}
	e := &env{
		ctx: ctx, dir: c.Dir, stdin: stdin, stdout: bufio.NewWriterSize(stdout, 64<<10), stderr: stderr,
		dirNamed: slices.ContainsFunc(command.Path, func(p *kong.Path) bool { return p.Flag != nil && p.Flag.Name == "dir" }),
	}
	err = command.Run(e)
	if flushErr := e.stdout.Flush(); err == nil {
		err = flushErr
	}
	return report(ctx, err, stderr)
}

// misunderstood tells what is wrong with a command line.
func misunderstood(err error, stderr io.Writer) int {
	code, where := exitError, "braid"
	if parse := (*kong.ParseError)(nil); errors.As(err, &parse) {
		code = parse.ExitCode()
		if node := parse.Context.Selected(); node != nil {
			where = node.FullPath()
		}
	}
	fmt.Fprintf(stderr, "braid: %v; see %s --help\n", err, where)
	return code
}

// report tells an error and gives it an exit code.
func report(ctx context.Context, err error, stderr io.Writer) int {
	var code exitCode
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &code):
		return int(code)
	case errors.Is(err, syscall.EPIPE): // whoever was reading has seen enough
		return exitOK
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return exitInterrupted
	}
	fmt.Fprintln(stderr, "braid:", plain(err))
	return exitError
}

// plain is an error's text without the name of the library, where it stands first.
func plain(err error) string { return strings.TrimPrefix(err.Error(), "braid: ") }

type versionCmd struct{}

// Run prints the version that the binary was built from.
func (versionCmd) Run(e *env) error {
	version := "(unknown)"
	if build, ok := debug.ReadBuildInfo(); ok && build.Main.Version != "" {
		version = build.Main.Version
	}
	fmt.Fprintf(e.stdout, "braid %s, %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return nil
}
