package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"

	"github.com/braid-go/braid"
)

var errBusy = errors.New("the calculator is busy")

// workers does jobs, in several goroutines.
type workers struct {
	finish context.CancelFunc // to be called when all are finished

	mu       sync.Mutex // guards the fields below
	out      io.Writer
	left     int             // jobs there were at the beginning
	finished map[string]bool // a set, because a job may be delivered twice
	tried    map[string]bool
}

// do is the handler. Its error, or its panic, has the job tried again, and a third one makes it a dead letter.
func (w *workers) do(_ context.Context, rec *braid.Record) error {
	if rec.Offset%5 == 0 && w.first(name(rec)) {
		return errBusy // to see that trying again helps
	}
	a, b, ok := strings.Cut(string(rec.Value), "/")
	if !ok {
		return fmt.Errorf("%q is no division", rec.Value)
	}
	x, err := strconv.Atoi(a)
	if err != nil {
		return err
	}
	y, err := strconv.Atoi(b)
	if err != nil {
		return err
	}
	result := x / y // panics if y is 0, which ends this attempt and not the program
	w.end(rec, "done: %s: %s = %d\n", name(rec), rec.Value, result)
	return nil
}

// failed is told of every error and panic.
func (w *workers) failed(rec *braid.Record, attempts int, err error) {
	if attempts == maxAttempts {
		w.end(rec, "failed: %s: %s, the last time: %v\n", name(rec), rec.Value, err)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	fmt.Fprintf(w.out, "failed: %s: %s, is tried again: %v\n", name(rec), rec.Value, err)
}

// end tells of the end of a job, and finishes with the last.
func (w *workers) end(rec *braid.Record, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fmt.Fprintf(w.out, format, args...)
	w.finished[name(rec)] = true
	if len(w.finished) == w.left {
		w.finish() // Consume lets this attempt return, and commits it
	}
}

// first reports whether a job is tried for the first time in this run.
func (w *workers) first(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	was := w.tried[name]
	w.tried[name] = true
	return !was
}

// name is what identifies a job: the place of its record.
func name(rec *braid.Record) string { return fmt.Sprintf("%d/%d", rec.Partition, rec.Offset) }
