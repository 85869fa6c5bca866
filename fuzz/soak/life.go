package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/braid-go/braid/fuzz/history"
)

// moment is when a child is killed.
type moment struct {
	opening bool          // counted from its start, not from when it has opened the broker
	kind    history.Kind  // if not 0: counted from the n-th event of this kind
	note    string        // if not "": counted from the n-th note that says this
	n       int           // which of them
	after   time.Duration // how much later
	closing bool          // it may close the broker and end before
	fault   bool          // the disk fails
}

// randomMoment chooses when a child is killed. opening is how long one has taken to open, of late.
func randomMoment(rng *rand.Rand, opening time.Duration) moment {
	soon := time.Duration(rng.IntN(1000)) * time.Microsecond
	switch r := rng.IntN(20); {
	case r < 4:
		return moment{opening: true, after: time.Duration(rng.Int64N(int64(opening) + int64(time.Millisecond)))}
	case r < 7:
		kinds := []history.Kind{history.Publish, history.Stored, history.Commit, history.Committing, history.Delivered, history.Assigned}
		return moment{kind: kinds[rng.IntN(len(kinds))], n: 1 + rng.IntN(30), after: soon}
	case r < 10:
		notes := []string{noteRelaying, noteDeleting, noteDeleted, noteResetting, noteReset, noteMade}
		return moment{note: notes[rng.IntN(len(notes))], n: 1 + rng.IntN(4), after: 3 * soon}
	case r < 12:
		return moment{note: noteClosing, n: 1, after: 5 * soon, closing: true, fault: rng.IntN(5) == 0}
	case r < 15:
		return moment{note: noteFault, n: 1, after: time.Duration(rng.IntN(100)) * soon / 10, fault: true}
	}
	return moment{after: time.Duration(1e5 * math.Pow(2000, rng.Float64()))} // 100 microseconds to 200 ms, all magnitudes alike
}

// Bounds of a child's life.
const (
	longest = 400 * time.Millisecond // it is killed then if what its moment is counted from does not happen
	hanging = 2 * time.Minute        // when it is taken to hang
)

// life is one child, from its start to its end.
type life struct {
	moment
	orders
	events []history.Event
	notes  []note
	opened bool
	took   time.Duration // until it was open

	begun   time.Time
	process *os.Process
	once    sync.Once // around kill's timer
	left    int       // of what the moment is counted from
	hung    atomic.Bool
}

// ending is how a child has ended.
type ending uint8

const (
	endedKilled ending = iota
	endedOpening
	endedClosing
	endedClosed
	endedByFault
)

// live runs a child until it is killed, or has ended by itself. What it did that it may not is an error.
func (l *life) live(command func() *exec.Cmd) (ending, error) {
	text, err := json.Marshal(l.orders)
	if err != nil {
		return 0, err
	}
	var complaints bytes.Buffer
	cmd := command()
	cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	cmd.Stderr = &complaints
	said, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	l.left, l.begun = l.n, time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	l.process = cmd.Process
	if l.opening {
		l.killAfter(l.after)
	}
	watch := time.AfterFunc(hanging, func() {
		l.hung.Store(true)
		_ = l.process.Signal(syscall.SIGQUIT) // it prints what its goroutines do
	})
	heard := listen(said, l.event, l.heard)
	_ = cmd.Wait() // the state tells
	watch.Stop()
	code := cmd.ProcessState.ExitCode()
	switch {
	case l.hung.Load():
		err = fmt.Errorf("after %v it has neither died nor ended:\n%s", hanging, complaints.Bytes())
	case heard != nil:
		err = fmt.Errorf("listening to it: %w", heard)
	case code != 0 && code != -1 && code != exitFault, complaints.Len() > 0:
		err = fmt.Errorf("it ended by itself, with code %d:\n%s", code, complaints.Bytes())
	}
	for _, n := range l.notes {
		if n.What == noteFailed {
			err = errors.Join(err, errors.New(n.Error))
		}
	}
	return l.ending(code), err
}

func (l *life) ending(code int) ending {
	switch {
	case code == 0:
		return endedClosed
	case code == exitFault:
		return endedByFault
	case !l.opened:
		return endedOpening
	case len(l.notes) > 0 && l.notes[len(l.notes)-1].What == noteClosing:
		return endedClosing
	}
	return endedKilled
}

// event takes what the child says of its history.
func (l *life) event(e history.Event) {
	l.events = append(l.events, e)
	if e.Kind == history.Reopened {
		l.opened, l.took = true, time.Since(l.begun)
		if l.kind == 0 && l.moment.note == "" {
			l.killAfter(l.after)
		} else {
			time.AfterFunc(longest, l.kill)
		}
	}
	if e.Kind == l.kind {
		l.count()
	}
}

// heard takes what it says beside it.
func (l *life) heard(n note) {
	l.notes = append(l.notes, n)
	if n.What == l.moment.note {
		l.count()
	}
}

func (l *life) count() {
	if l.left--; l.left == 0 {
		l.killAfter(l.after)
	}
}

func (l *life) killAfter(d time.Duration) {
	l.once.Do(func() { time.AfterFunc(d, l.kill) })
}

// kill kills it, if it lives.
func (l *life) kill() { _ = l.process.Kill() }

// failing reports whether the disk has begun to fail.
func (l *life) failing() bool {
	return slices.ContainsFunc(l.notes, func(n note) bool { return n.What == noteFault })
}
