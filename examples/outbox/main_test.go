package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/braid-go/braid"
)

// child, in the environment, makes the test's binary the program.
const child = "OUTBOX_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(child) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var momentsSeed = flag.Uint64("seed", 0, "of the moments at which the program is killed; 0 is a random one")

// source is a change log in the making.
type source struct {
	path      string
	rng       *rand.Rand
	seq       int64
	byAccount map[string][]int64 // numbers, in order
}

func newSource(t *testing.T) *source {
	t.Helper()
	return &source{path: filepath.Join(t.TempDir(), "changes"), rng: rand.New(rand.NewPCG(1, 0)), byAccount: map[string][]int64{}}
}

// grow appends changes.
func (s *source) grow(t *testing.T, n int) {
	t.Helper()
	var lines bytes.Buffer
	for range n {
		s.seq += 1 + s.rng.Int64N(3)
		account := fmt.Sprint("account-", s.rng.IntN(50))
		s.byAccount[account] = append(s.byAccount[account], s.seq)
		fmt.Fprintf(&lines, `{"seq":%d,"account":%q,"cents":%d}`+"\n", s.seq, account, s.rng.IntN(2000)-1000)
	}
	s.write(t, lines.String())
}

// write appends text.
func (s *source) write(t *testing.T, text string) {
	t.Helper()
	f, err := os.OpenFile(s.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// bank is the receiver: it carries out each key once.
type bank struct {
	*httptest.Server
	lose int // after so many calls, the answer of one is lost

	mu        sync.Mutex
	calls     int
	bodies    map[string]string  // by key
	byAccount map[string][]int64 // numbers of the changes carried out, in order
	problems  []string
}

func newBank(t *testing.T) *bank {
	t.Helper()
	b := &bank{bodies: map[string]string{}, byAccount: map[string][]int64{}}
	b.Server = httptest.NewServer(b)
	t.Cleanup(b.Server.Close)
	return b
}

func (b *bank) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the caller was killed while it spoke
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls++
	key := r.Header.Get("Idempotency-Key")
	if before, again := b.bodies[key]; again {
		if before != string(body) {
			b.problems = append(b.problems, fmt.Sprintf("key %s came with %s and with %s", key, before, body))
		}
	} else {
		b.bodies[key] = string(body)
		var c change
		if err := json.Unmarshal(body, &c); err != nil {
			b.problems = append(b.problems, err.Error())
		}
		b.byAccount[c.Account] = append(b.byAccount[c.Account], c.Seq)
	}
	if b.calls == b.lose {
		w.WriteHeader(http.StatusBadGateway) // somebody between has lost the answer
	}
}

// check checks that the changes of the source have been carried out once each, in the order of each account.
func (b *bank) check(t *testing.T, s *source) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	t.Logf("%d changes, %d calls", len(b.bodies), b.calls)
	for _, problem := range b.problems {
		t.Error(problem)
	}
	if diff := cmp.Diff(s.byAccount, b.byAccount); diff != "" {
		t.Errorf("changes by account (-want +got):\n%s", diff)
	}
}

// checkTopic checks that the changes up to the one that the state says are in the topic once each, in the order of each account.
func checkTopic(t *testing.T, dir string, s *source) {
	t.Helper()
	b, err := braid.Open(dir, braid.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	last, err := imported(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]int64{}
	for account, seqs := range s.byAccount {
		for _, seq := range seqs {
			if seq <= last {
				want[account] = append(want[account], seq)
			}
		}
	}
	got := map[string][]int64{}
	topic, err := b.Topic("changes")
	if err != nil {
		t.Fatal(err)
	}
	for rec, err := range topic.Read(t.Context(), braid.ReadOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		var c change
		if err := json.Unmarshal(rec.Value, &c); err != nil {
			t.Fatal(err)
		}
		got[c.Account] = append(got[c.Account], c.Seq)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("the topic, imported up to %d (-want +got):\n%s", last, diff)
	}
}

// kill runs the program and kills it a while after it has told of some steps of the kinds given. It returns what the program said last, or false if it has come to its end before.
func kill(t *testing.T, kinds []string, steps int, after time.Duration, args ...string) (string, bool) {
	t.Helper()
	c := exec.Command(os.Args[0], args...)
	c.Env = append(os.Environ(), child+"=1")
	said, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	last, seen := "", 0
	lines := bufio.NewScanner(said)
	for lines.Scan() { // also what it had said before it died
		last = lines.Text()
		for _, kind := range kinds {
			if strings.HasPrefix(last, kind) {
				seen++
			}
		}
		if seen == steps {
			seen++               // once
			<-time.After(after)  // any moment will do
			_ = c.Process.Kill() // it may be finished
		}
	}
	if err := c.Wait(); err == nil {
		return last, false
	}
	if code := c.ProcessState.ExitCode(); code != -1 {
		t.Fatalf("the program ended by itself with code %d: %s", code, last)
	}
	return last, true
}

func TestKilledAtAnyMomentEveryChangeIsCarriedOutOnce(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a killed process cannot be told from a failed one on Windows")
	}
	seed := *momentsSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("go test ./examples/outbox -run %s -seed %d", t.Name(), seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	s, to, dir := newSource(t), newBank(t), filepath.Join(t.TempDir(), "data")
	s.grow(t, 3000)
	kills := 20
	if testing.Short() {
		kills = 6
	}
	found := map[string]int{}
	for n := 0; n < kills; {
		kinds, steps := []string{"importing", "committing: import", "sending"}, 1+rng.IntN(4)
		if n%2 == 1 {
			kinds, steps = []string{"sending", "committing: position"}, 1+rng.IntN(200)
		}
		last, killed := kill(t, kinds, steps, time.Duration(rng.IntN(2000))*time.Microsecond, "--dir", dir, "--to", to.URL, "-v", s.path)
		checkTopic(t, dir, s)
		s.grow(t, 300) // something to import each time
		if killed {
			kind, _, _ := strings.Cut(last, ":")
			found[kind]++
			n++
		}
	}
	if err := run(t.Context(), []string{"--dir", dir, "--to", to.URL, s.path}, io.Discard, io.Discard); err != nil {
		t.Fatal(err)
	}
	t.Logf("killed while %v", found)
	checkTopic(t, dir, s)
	to.check(t, s)
}

func TestACallWhoseAnswerIsLostIsRepeatedAndCarriedOutOnce(t *testing.T) {
	s, to, dir := newSource(t), newBank(t), filepath.Join(t.TempDir(), "data")
	s.grow(t, 200)
	to.lose = 77
	args := []string{"--dir", dir, "--to", to.URL, s.path}
	if err := run(t.Context(), args, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "502") {
		t.Errorf("error %v", err)
	}
	if err := run(t.Context(), args, io.Discard, io.Discard); err != nil {
		t.Fatal(err)
	}
	to.check(t, s)
	// The first 50 were committed: 27 are sent again.
	if to.calls != 200+77-sendBatch {
		t.Errorf("%d calls", to.calls)
	}
}

func TestASecondRunImportsAndSendsOnlyWhatIsNew(t *testing.T) {
	s, to, dir := newSource(t), newBank(t), filepath.Join(t.TempDir(), "data")
	for range 3 {
		s.grow(t, 120)
		for range 2 {
			if err := run(t.Context(), []string{"--dir", dir, "--to", to.URL, s.path}, io.Discard, io.Discard); err != nil {
				t.Fatal(err)
			}
		}
	}
	checkTopic(t, dir, s)
	to.check(t, s)
	if to.calls != 360 {
		t.Errorf("%d calls for 360 changes", to.calls)
	}
}

func TestALineThatIsStillBeingWrittenWaitsForTheNextRun(t *testing.T) {
	s, dir := newSource(t), filepath.Join(t.TempDir(), "data")
	s.write(t, `{"seq":1,"account":"a","cents":1}`+"\n"+`{"seq":2,"acc`)
	var first, second bytes.Buffer
	if err := run(t.Context(), []string{"--dir", dir, s.path}, &first, io.Discard); err != nil {
		t.Fatal(err)
	}
	s.write(t, `ount":"a","cents":2}`+"\n")
	if err := run(t.Context(), []string{"--dir", dir, s.path}, &second, io.Discard); err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(first.String(), ` {"seq":1,"account":"a","cents":1}`+"\n") || strings.Count(first.String(), "\n") != 1 {
		t.Errorf("the first run sent %s", &first)
	}
	if !strings.HasSuffix(second.String(), ` {"seq":2,"account":"a","cents":2}`+"\n") || strings.Count(second.String(), "\n") != 1 {
		t.Errorf("the second run sent %s", &second)
	}
}

func TestASourceThatMakesNoSenseIsRefused(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON":              "hello\n",
		"no account":           `{"seq":1,"cents":1}` + "\n",
		"numbers that go back": `{"seq":2,"account":"a"}` + "\n" + `{"seq":1,"account":"a"}` + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			s := newSource(t)
			s.write(t, text)
			var out bytes.Buffer
			if err := run(t.Context(), []string{"--dir", filepath.Join(t.TempDir(), "data"), s.path}, &out, io.Discard); err == nil || out.Len() > 0 {
				t.Errorf("error %v, sent %s", err, &out)
			}
		})
	}
}
