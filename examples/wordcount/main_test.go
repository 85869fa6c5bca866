package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/braid-go/braid"
)

// child, in the environment, makes the test's binary the program.
const child = "WORDCOUNT_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(child) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var momentsSeed = flag.Uint64("seed", 0, "of the moments at which the program is killed; 0 is a random one")

// text is a text file in the making, with what is to be counted in it.
type text struct {
	path  string
	rng   *rand.Rand
	lines []string
	words [][]string // of each line
}

// newText makes a file of random words, some frequent and most rare.
func newText(t *testing.T, seed uint64, lines int) *text {
	t.Helper()
	x := &text{path: filepath.Join(t.TempDir(), "text"), rng: rand.New(rand.NewPCG(seed, 1))}
	x.grow(t, lines)
	return x
}

// grow adds lines to the file. Short ones make many transactions of few bytes.
func (x *text) grow(t *testing.T, n int) {
	t.Helper()
	zipf := rand.NewZipf(x.rng, 1.1, 4, 3000)
	between := []string{" ", ", ", " - ", "\t"}
	from := len(x.lines)
	for range n {
		var words []string
		var line strings.Builder
		for i := range x.rng.IntN(4) { // none in some
			word := fmt.Sprintf("%cé%d", 'a'+rune(zipf.Uint64()%26), zipf.Uint64())
			words = append(words, word)
			if i > 0 {
				line.WriteString(between[x.rng.IntN(len(between))])
			}
			if x.rng.IntN(5) == 0 {
				word = strings.ToUpper(word)
			}
			line.WriteString(word)
		}
		x.lines = append(x.lines, line.String()+"\n")
		x.words = append(x.words, words)
	}
	f, err := os.OpenFile(x.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(strings.Join(x.lines[from:], ""))
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// counts counts the words of the first lines.
func (x *text) counts(lines int64) map[string]int64 {
	counts := map[string]int64{}
	for _, words := range x.words[:lines] {
		for _, word := range words {
			counts[word]++
		}
	}
	return counts
}

// check checks that the state in dir is that of a moment between two transactions, and returns how many lines are counted.
func (x *text) check(t *testing.T, dir string) (counted int64) {
	t.Helper()
	b, err := braid.Open(dir, braid.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	state := map[string]int64{}
	words := map[string]int64{}
	for e, err := range b.Scan(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		n, err := parseSum(e.Key, e.Value)
		if err != nil {
			t.Fatal(err)
		}
		if word, ok := strings.CutPrefix(e.Key, wordPrefix); ok {
			words[word] = n
		} else {
			state[e.Key] = n
		}
	}
	fed, counted := state[fedKey], state[countedKey]
	if counted > fed || fed > int64(len(x.lines)) {
		t.Fatalf("%d lines are fed and %d counted, of %d", fed, counted, len(x.lines))
	}
	if want := int64(len(strings.Join(x.lines[:fed], ""))); state[placePrefix+x.path] != want {
		t.Fatalf("%d lines are fed, which are %d bytes; the place is %d", fed, want, state[placePrefix+x.path])
	}
	if diff := cmp.Diff(x.counts(counted), words); diff != "" {
		t.Fatalf("counts after %d lines (-want +got):\n%s", counted, diff)
	}
	if fed > 0 {
		x.checkTopic(t, b, int(fed))
	}
	return counted
}

// checkTopic checks that the topic has the first lines, each once.
func (x *text) checkTopic(t *testing.T, b *braid.Broker, fed int) {
	t.Helper()
	topic, err := b.Topic("lines")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for rec, err := range topic.Read(t.Context(), braid.ReadOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		if n == fed || string(rec.Value) != x.lines[n] {
			t.Fatalf("%d lines are fed; record %d is %q", fed, n, rec.Value)
		}
		n++
	}
	if n != fed {
		t.Fatalf("%d lines are fed, the topic has %d", fed, n)
	}
}

// stages are what the program says of itself, in order.
var stages = []string{"opening", "feeding", "committing lines", "counting", "committing counts"}

// stage returns the index of the stage that a line of progress is about.
func stage(t *testing.T, line string) int {
	t.Helper()
	for i, s := range stages {
		if strings.HasPrefix(line, s) {
			return i
		}
	}
	t.Fatalf("the program said: %s", line)
	return 0
}

// kill runs the program and kills it a while after it has told of some steps of a stage or later ones. It returns the stage in which
// the kill has found it, or false if it has come to its end before.
func (x *text) kill(t *testing.T, dir string, from, steps int, after time.Duration) (int, bool) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("a killed process cannot be told from a failed one on Windows")
	}
	c := exec.Command(os.Args[0], "--dir", dir, "-v", x.path)
	c.Env = append(os.Environ(), child+"=1")
	said, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	last, seen := 0, 0
	lines := bufio.NewScanner(said)
	for lines.Scan() { // also what it had said before it died
		last = stage(t, lines.Text())
		if last < from {
			continue
		}
		if seen++; seen == steps {
			<-time.After(after)  // any moment will do
			_ = c.Process.Kill() // it may be finished
		}
	}
	if err := c.Wait(); err == nil {
		return last, false
	}
	if code := c.ProcessState.ExitCode(); code != -1 {
		t.Fatalf("the program ended by itself with code %d", code)
	}
	return last, true
}

func TestKilledAtAnyMomentEveryWordIsCountedOnce(t *testing.T) {
	kills := 60
	if testing.Short() {
		kills = 12
	}
	seed := *momentsSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("go test ./examples/wordcount -run %s -seed %d", t.Name(), seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	x := newText(t, 1, 40_000)
	dir := filepath.Join(t.TempDir(), "data")
	found := make([]int, len(stages))
	for n := 0; n < kills; {
		from, after := 1, time.Duration(rng.IntN(2000))*time.Microsecond
		switch {
		case n%6 == 5:
			from, after = 0, 3*after
		case n >= kills/2:
			from = 3
		}
		steps := 1 + rng.IntN(3)*min(from, 1)
		s, killed := x.kill(t, dir, from, steps, after)
		x.check(t, dir)
		if !killed {
			x.grow(t, 5000) // it was too fast: more work
			continue
		}
		found[s]++
		n++
	}
	t.Logf("%d lines, killed in %v: %v", len(x.lines), stages, found)
	if found[0] == 0 || found[1]+found[2] == 0 || found[3]+found[4] == 0 || found[2]+found[4] == 0 {
		t.Errorf("not all stages have been hit: %v: %v", stages, found)
	}
	runProgram(t, "--dir", dir, x.path)
	if counted := x.check(t, dir); counted != int64(len(x.lines)) {
		t.Errorf("%d lines counted of %d", counted, len(x.lines))
	}
}

// runProgram runs the program in this process and returns what it prints.
func runProgram(t *testing.T, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	if err := run(t.Context(), args, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestASecondRunChangesNothing(t *testing.T) {
	x := newText(t, 1, 2000)
	dir := filepath.Join(t.TempDir(), "data")
	first := runProgram(t, "--dir", dir, x.path)
	if second := runProgram(t, "--dir", dir, x.path); second != first {
		t.Errorf("the first run prints\n%sthe second\n%s", first, second)
	}
	if counted := x.check(t, dir); counted != 2000 {
		t.Errorf("%d lines counted of 2000", counted)
	}
}

func TestAFileThatHasGrownIsCountedFromWhereItWas(t *testing.T) {
	x := newText(t, 2, 700)
	dir := filepath.Join(t.TempDir(), "data")
	runProgram(t, "--dir", dir, x.path)
	x.grow(t, 900)
	runProgram(t, "--dir", dir, x.path)
	if counted := x.check(t, dir); counted != 1600 {
		t.Errorf("%d lines counted of 1600", counted)
	}
}

func TestAFileThatHasShrunkIsRefused(t *testing.T) {
	x := newText(t, 3, 100)
	dir := filepath.Join(t.TempDir(), "data")
	runProgram(t, "--dir", dir, x.path)
	if err := os.Truncate(x.path, 10); err != nil {
		t.Fatal(err)
	}
	err := run(t.Context(), []string{"--dir", dir, x.path}, io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "not the same") {
		t.Errorf("error %v", err)
	}
	if counted := x.check(t, dir); counted != 100 {
		t.Errorf("%d lines counted of 100", counted)
	}
}

func TestAnInterruptedRunEndsWithTheErrorOfItsContext(t *testing.T) {
	x := newText(t, 4, 100)
	dir := filepath.Join(t.TempDir(), "data")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := run(ctx, []string{"--dir", dir, x.path}, io.Discard, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestTheMostFrequentWordsArePrinted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "text")
	long := strings.Repeat("river ", 2*maxPiece/6) // is cut, but no word of it
	if err := os.WriteFile(path, []byte("Don't stop, don't!\r\n\n"+long+"\n'Stop' Österreich"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := runProgram(t, "--dir", filepath.Join(t.TempDir(), "data"), "--top", "3", path)
	want := fmt.Sprintf("%8d river\n%8d don't\n%8d stop\n", 2*maxPiece/6, 2, 2)
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestWhatIsNoTextIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(path, bytes.Repeat([]byte("x"), 2*maxPiece), 0o600); err != nil {
		t.Fatal(err)
	}
	err := run(t.Context(), []string{"--dir", filepath.Join(t.TempDir(), "data"), path}, io.Discard, io.Discard)
	if !errors.Is(err, bufio.ErrTooLong) {
		t.Errorf("error %v", err)
	}
}
func TestKilledWhileItMakesItsDirectoryItGoesOn(t *testing.T) {
	x := newText(t, 5, 100)
	for i := range 8 {
		dir := filepath.Join(t.TempDir(), "data")
		x.kill(t, dir, 0, 1, time.Duration(i)*time.Millisecond)
		runProgram(t, "--dir", dir, x.path)
		if counted := x.check(t, dir); counted != 100 {
			t.Errorf("killed after %d ms: %d lines counted of 100", i, counted)
		}
	}
}
