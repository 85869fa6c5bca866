package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// result is what has become of a mutant.
type result struct {
	mutant mutant
	by     tests    // that have noticed it
	failed []string // those of them that did
	note   string   // how, if no test simply failed
	took   time.Duration
	err    error // it could not be tried
}

func (r *result) caught() bool { return r.err == nil && len(r.failed) > 0 }

func (r *result) word() string {
	switch {
	case r.err != nil:
		return "ERROR"
	case r.caught():
		return "caught"
	}
	return "SURVIVED"
}

// runner tries mutants of the module in a directory.
type runner struct {
	root     string
	parallel int
	progress io.Writer
	verbose  bool

	temp     string                   // for everything that is written
	whole    map[string]string        // test binaries without a mutant, by package
	duration map[string]time.Duration // of tests without a mutant, by their keys
	printing sync.Mutex
}

// run tries the mutants, and first their tests without them. The results are in their order.
func (r *runner) run(ctx context.Context, mutants []mutant) (_ []result, err error) {
	if r.temp, err = os.MkdirTemp("", "mutants-"); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(r.temp)) }()
	if err := r.prove(ctx, mutants); err != nil {
		return nil, err
	}
	results := make([]result, len(mutants))
	r.each(len(mutants), func(i int) {
		begin := time.Now()
		results[i] = r.try(ctx, i, mutants[i])
		results[i].took = time.Since(begin)
		r.say("%-8s %s\n", results[i].word(), mutants[i].name)
	})
	return results, ctx.Err()
}

// each calls do for the numbers below n, several at a time.
func (r *runner) each(n int, do func(i int)) {
	var wg sync.WaitGroup
	next := make(chan int)
	for range r.parallel {
		wg.Go(func() {
			for i := range next {
				do(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

// say tells how it goes on.
func (r *runner) say(format string, args ...any) {
	r.printing.Lock()
	defer r.printing.Unlock()
	fmt.Fprintf(r.progress, format, args...)
}

// prove runs all tests without a mutant, each once: unless they pass, their failing proves nothing.
func (r *runner) prove(ctx context.Context, mutants []mutant) error {
	r.whole, r.duration = map[string]string{}, map[string]time.Duration{}
	var dirs []string
	var runs []tests
	for _, m := range mutants {
		for _, t := range m.noticed {
			if !slices.Contains(dirs, t.dir) {
				dirs = append(dirs, t.dir)
			}
			if !slices.ContainsFunc(runs, func(o tests) bool { return o.key() == t.key() }) {
				runs = append(runs, t)
			}
		}
	}
	var mu sync.Mutex
	var errs []error
	r.each(len(dirs), func(i int) {
		binary := filepath.Join(r.temp, fmt.Sprintf("whole-%d.test", i))
		err := r.build(ctx, dirs[i], binary, "")
		mu.Lock()
		defer mu.Unlock()
		r.whole[dirs[i]] = binary
		errs = append(errs, err)
	})
	if err := errors.Join(errs...); err != nil {
		return err
	}
	r.each(len(runs), func(i int) {
		t := runs[i]
		o, err := r.exec(ctx, r.whole[t.dir], t, 10*t.within)
		if missing := o.notPassed(t.names); err == nil && len(missing) > 0 {
			err = fmt.Errorf("without a mutant %s: %s have not passed:\n%s", t.dir, strings.Join(missing, ", "), o.end())
		}
		mu.Lock()
		defer mu.Unlock()
		r.duration[t.key()] = o.took
		errs = append(errs, err)
		r.say("passes   %s: %s, %.1f s\n", t.dir, strings.Join(t.names, ", "), o.took.Seconds())
	})
	return errors.Join(errs...)
}

// try compiles tests against a mutant and runs them, until some notice.
func (r *runner) try(ctx context.Context, number int, m mutant) result {
	out := result{mutant: m}
	dir := filepath.Join(r.temp, fmt.Sprint(number))
	if out.err = os.Mkdir(dir, 0o700); out.err != nil {
		return out
	}
	defer os.RemoveAll(dir)
	overlay, err := m.write(r.root, dir)
	if err != nil {
		out.err = err
		return out
	}
	if r.verbose {
		r.say("%s: %s\n%s", m.name, m.why, m.diff())
	}
	binary := filepath.Join(dir, "mutant.test")
	for i, t := range m.noticed {
		if i == 0 || t.dir != m.noticed[i-1].dir {
			if out.err = r.build(ctx, t.dir, binary, overlay); out.err != nil {
				return out
			}
		}
		o, err := r.exec(ctx, binary, t, max(t.within, 10*r.duration[t.key()]))
		if out.err = err; err != nil {
			return out
		}
		if r.verbose {
			r.say("%s\n", o.end())
		}
		if !o.passed {
			out.by, out.failed, out.note = t, o.noticed(), o.note()
			return out
		}
	}
	return out
}

// build compiles the tests of a package, with an overlay unless that is "". An error says what does not compile.
func (r *runner) build(ctx context.Context, dir, binary, overlay string) error {
	args := []string{"test", "-c", "-vet=off", "-o", binary}
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./"+dir)...)
	cmd.Dir = r.root
	b, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("the tests of %s do not compile: %w\n%s", dir, err, b)
	}
	if _, err := os.Stat(binary); err != nil { // a package without tests is no error for the go command
		return fmt.Errorf("the tests of %s: %w", dir, err)
	}
	return nil
}

// grace is how long a test binary that is past its time has to say so.
const grace = 15 * time.Second

// exec runs tests. An error means that they could not be run; that they fail is in the outcome.
func (r *runner) exec(ctx context.Context, binary string, t tests, within time.Duration) (*outcome, error) {
	temp, err := os.MkdirTemp(r.temp, "tests-") // theirs; a test that crashes leaves something there
	if err != nil {
		return &outcome{}, err
	}
	defer os.RemoveAll(temp)
	late, cancel := context.WithTimeout(ctx, within+grace)
	defer cancel()
	cmd := exec.CommandContext(late, binary, "-test.v", "-test.run", t.pattern(), "-test.timeout", within.String())
	cmd.Dir = filepath.Join(r.root, filepath.FromSlash(t.dir))
	cmd.Env = append(os.Environ(), "TMPDIR="+temp)
	cmd.WaitDelay = time.Second
	var b bytes.Buffer
	cmd.Stdout, cmd.Stderr = &b, &b
	begin := time.Now()
	err = cmd.Run()
	o := &outcome{passed: err == nil, took: time.Since(begin), killed: late.Err() != nil}
	o.read(b.String())
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return o, ctx.Err()
	case err != nil && !errors.As(err, &exit) && !o.killed:
		return o, err
	case err == nil && len(o.began) == 0:
		return o, fmt.Errorf("%s has no test %s", t.dir, t.pattern())
	}
	return o, nil
}
