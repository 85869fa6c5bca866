// Command braid works with a Braid data directory from the command line: it publishes and prints
// records, lists and describes topics, and checks and shows what is on disk.
//
// Reading needs no lock and works while another process has the directory open; publishing, tail --group and
// changing topics do not.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/braid-go/braid"
)

// version of the command.
const version = "0.1.0"

// Exit codes. kong itself uses 80 for a command line that cannot be parsed.
const (
	exitOK          = 0
	exitError       = 1
	exitCorrupt     = 2
	exitMissing     = 3
	exitInterrupted = 130
)

// exitCode is an error that has been told already, or needs no telling, and ends the program with a code.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// cli is the command line.
type cli struct {
	Dir string `help:"Data directory." env:"BRAID_DIR" default:"./braid-data" type:"path" placeholder:"DIR"`

	Pub     pubCmd     `cmd:"" help:"Publish standard input to a topic, a record a line."`
	Tail    tailCmd    `cmd:"" help:"Print a topic's records."`
	Topics  topicsCmd  `cmd:"" help:"List, create, change and delete topics."`
	Info    infoCmd    `cmd:"" help:"Describe the directory and its partitions."`
	Verify  verifyCmd  `cmd:"" help:"Check every byte that is stored."`
	Dump    dumpCmd    `cmd:"" help:"Show the frames of a topic as they lie on disk."`
	Demo    demoCmd    `cmd:"" help:"See Braid at work on generated orders."`
	Version versionCmd `cmd:"" help:"Print the version."`
}

// env is what a command works with.
type env struct {
	ctx    context.Context
	dir    string
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
}

// open opens the data directory.
func (e *env) open(opts braid.Options) (*braid.Broker, error) {
	b, err := braid.Open(e.dir, opts)
	if errors.Is(err, braid.ErrLocked) {
		return nil, fmt.Errorf("%w (reading works meanwhile: tail, topics, info, verify, dump)", err)
	}
	return b, err
}

// openReadOnly opens the data directory for reading; it must exist.
func (e *env) openReadOnly() (*braid.Broker, error) {
	if _, err := os.Stat(filepath.Join(e.dir, "FORMAT")); errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s is not a Braid data directory; name one with --dir or $BRAID_DIR, or make one with 'braid pub'", e.dir)
	}
	return e.open(braid.Options{ReadOnly: true})
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run carries out a command line and returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var c cli
	code := -1
	parser, err := kong.New(&c,
		kong.Name("braid"),
		kong.Description("An embedded event broker's command line: publish, read and check a data directory."),
		kong.UsageOnError(), kong.Writers(stdout, stderr), kong.Exit(func(n int) { code = n }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
	)
	if err != nil {
		fmt.Fprintln(stderr, "braid:", err)
		return exitError
	}
	command, err := parser.Parse(args)
	if code >= 0 { // --help
		return code
	}
	if err != nil {
		parser.FatalIfErrorf(err)
		return code
	}
	e := &env{ctx: ctx, dir: c.Dir, stdin: stdin, stdout: stdout, stderr: stderr}
	return report(ctx, command.Run(e), stderr)
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
	fmt.Fprintln(stderr, "braid:", strings.TrimPrefix(err.Error(), "braid: "))
	return exitError
}

type versionCmd struct{}

// Run prints the version.
func (versionCmd) Run(e *env) error {
	_, err := fmt.Fprintln(e.stdout, "braid", version)
	return err
}
