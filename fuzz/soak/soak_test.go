package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/braid-go/braid"
	"github.com/braid-go/braid/fuzz/history"
	"github.com/braid-go/braid/fuzz/wreck"
)

var (
	kills = flag.Int("kills", 60, "how often the child is killed")
	seed  = flag.Uint64("seed", 0, "of the first history; 0 is a random one")
)

func TestMain(m *testing.M) {
	if text := os.Getenv(childEnv); text != "" {
		os.Exit(runChild(text))
	}
	os.Exit(m.Run())
}

// killable skips the test where a killed process cannot be told from a failed one.
func killable(t *testing.T) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("a killed process cannot be told from a failed one on Windows")
	}
}

func TestKilledAtAnyMomentWhatWasAcknowledgedIsThere(t *testing.T) {
	killable(t)
	n := *kills
	if testing.Short() {
		n = 16
	}
	var out strings.Builder
	err := run(t.Context(), []string{"-for", "10m", "-kills", strconv.Itoa(n), "-seed", fmt.Sprint(*seed)}, &out)
	t.Log(out.String())
	if err != nil {
		t.Fatal(err)
	}
	count := func(what string) int {
		m := regexp.MustCompile(`(?m)^ *` + what + ` +(\d+)$`).FindStringSubmatch(out.String())
		if m == nil {
			return 0
		}
		n, _ := strconv.Atoi(m[1])
		return n
	}
	if got := count("kills"); got < n {
		t.Errorf("%d kills, want %d", got, n)
	}
	for _, what := range []string{"publish ok", "position ok", "transaction ok", "publish pending", "recovered"} {
		if count(what) < n/8 {
			t.Errorf("not worth it: %s only %d times", what, count(what))
		}
	}
	if n < 60 {
		return
	}
	for _, what := range []string{"power cuts", "bits flipped", "torn cases", "kills while opening"} {
		if count(what) == 0 {
			t.Errorf("not worth it: no %s", what)
		}
	}
}

// A directory is taken back, behind everybody's back, to what it was before records were acknowledged.
func TestADirectoryThatWasRolledBackIsFoundOut(t *testing.T) {
	killable(t)
	scratch := t.TempDir()
	data, before := filepath.Join(scratch, "data"), filepath.Join(scratch, "before")
	var st *story
	lives, then, after := 0, 0, 0
	st = newStory(rand.Uint64(), scratch, func() *exec.Cmd {
		stored := 0
		for _, e := range st.past.events {
			if e.Kind == history.Stored {
				stored++
			}
		}
		lives++
		switch {
		case lives == 4:
			must(t, os.CopyFS(before, os.DirFS(data)))
			then = stored
		case lives > 4 && after == 0 && stored > then+30:
			must(t, os.RemoveAll(data))
			must(t, os.CopyFS(data, os.DirFS(before)))
			after = lives
		}
		return self()
	}, func(string, int) {})
	err := st.tell(t.Context(), 100)
	if err == nil || after == 0 || lives > after {
		t.Errorf("after %d lives, and %d before it was rolled back: %v", lives, after, err)
	}
	t.Logf("%.300s", fmt.Sprint(err))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestAFailureIsKeptAndSaysHowToRepeatIt(t *testing.T) {
	killable(t)
	dir := t.TempDir()
	var out strings.Builder
	s := &soak{length: 1 << 60, kills: 1, histories: 2, seed: 5, keep: dir, out: &out, tally: tally{},
		command: func() *exec.Cmd { return exec.Command(filepath.Join(dir, "no such program")) }}
	if err := s.run(t.Context()); err == nil {
		t.Error("no error")
	}
	for _, want := range []string{"FAILED: life 0", "go run ./fuzz/soak -seed 5 -histories 1", "go run ./fuzz/soak -seed 6 -histories 1"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in:\n%s", want, out.String())
		}
	}
	for _, name := range []string{"failure", "history", "orders"} {
		if _, err := os.Stat(filepath.Join(dir, "seed-6", name)); err != nil {
			t.Error(err)
		}
	}
}

// small is a directory with a topic of each kind, and what is known of it.
func small(t *testing.T) (*braid.Broker, *past) {
	t.Helper()
	b, err := braid.Open(t.TempDir(), braid.Options{})
	must(t, err)
	t.Cleanup(func() { must(t, b.Close()) })
	p := newPast()
	rec := history.Resume(0, 0, p.event)
	c := rec.Client()
	for i, name := range []string{topicIn, topicPassing, "brief-0"} {
		topic, err := b.CreateTopic(t.Context(), name, braid.TopicConfig{})
		must(t, err)
		p.learn([]note{{What: noteMade, Topic: name, Partitions: partitionsOf(topic)}})
		r := &braid.Record{Value: history.Value(uint64(i+1), 10)}
		op := c.Publish(history.Record{ID: uint64(i + 1), Sum: history.Digest(nil, r.Value)})
		must(t, topic.Publish(t.Context(), r))
		c.Stored(op, history.Place{Partition: uint64(r.Partition), Offset: r.Offset})
	}
	in, err := b.Topic(topicIn)
	must(t, err)
	g, err := in.Group(groupReset)
	must(t, err)
	plan, err := g.PlanReset(t.Context(), braid.FromLatest())
	must(t, err)
	must(t, plan.Apply(t.Context()))
	p.learn([]note{{What: noteResetting, Offsets: map[uint64]int64{1: 1}}, {What: noteReset}})
	return b, p
}

func TestTheJudgeKnowsWhatMayBeMissing(t *testing.T) {
	const in, passing, brief = 1, 2, 3
	lost := func(partition uint64, offset int64) func(*past) {
		return func(p *past) {
			c := history.Resume(p.last(), p.clients, p.event).Client()
			c.Stored(c.Publish(history.Record{ID: 99}), history.Place{Partition: partition, Offset: offset})
		}
	}
	says := func(notes ...note) func(*past) { return func(p *past) { p.learn(notes) } }
	for name, tc := range map[string]struct {
		change []func(*past)
		want   string // in the error; "": there is none
	}{
		"nothing":                               {},
		"a record":                              {[]func(*past){lost(in, 7)}, "lost"},
		"a record of a topic that stays":        {[]func(*past){lost(brief, 7)}, "lost"},
		"one that retention has not reached":    {[]func(*past){lost(passing, 7)}, "lost"},
		"one of a partition that is drained":    {[]func(*past){says(note{What: noteMade, Topic: topicPassing, Partitions: []uint64{8}}), lost(8, 7)}, ""},
		"one of a topic that was being deleted": {[]func(*past){says(note{What: noteDeleting, Topic: "brief-1", Partitions: []uint64{9}}), lost(9, 7)}, ""},
		"one of such a topic that has stayed":   {[]func(*past){says(note{What: noteDeleting, Topic: "brief-0", Partitions: []uint64{brief}}), lost(brief, 7)}, "lost"},
		"one of a partition that is not there":  {[]func(*past){says(note{What: noteMade, Topic: "brief-1", Partitions: []uint64{9}}), lost(9, 7)}, "lost"},
		"the end of a topic":                    {[]func(*past){says(note{What: noteDeleted, Topic: "brief-0", Partitions: []uint64{brief}})}, "was deleted"},
		"a reset": {[]func(*past){says(note{What: noteResetting, Offsets: map[uint64]int64{in: 0}}, note{What: noteReset})},
			"the group that was reset"},
		"a reset under way":        {[]func(*past){says(note{What: noteResetting, Offsets: map[uint64]int64{in: 0}})}, ""},
		"a reset that was refused": {[]func(*past){says(note{What: noteResetting, Offsets: map[uint64]int64{in: 0}}, note{What: noteNotReset})}, ""},
		"a part of a reset":        {[]func(*past){says(note{What: noteResetting, Offsets: map[uint64]int64{in: 1, 4: 0}}, note{What: noteReset})}, "the group that was reset"},
		"what a reset was said not to": {[]func(*past){says(note{What: noteResetting, Offsets: map[uint64]int64{in: 0}}, note{What: noteReset},
			note{What: noteResetting, Offsets: map[uint64]int64{in: 1}}, note{What: noteNotReset})}, "the group that was reset"},
	} {
		t.Run(name, func(t *testing.T) {
			b, p := small(t)
			for _, change := range tc.change {
				change(p)
			}
			_, err := p.judge(t.Context(), b)
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}

func TestATopicWhoseDeletionWasBegunIsThereOrNeverAgain(t *testing.T) {
	b, p := small(t)
	p.learn([]note{{What: noteDeleting, Topic: "brief-1", Partitions: []uint64{4}}})
	if _, err := p.judge(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	_, err := b.CreateTopic(t.Context(), "late", braid.TopicConfig{})
	must(t, err)
	if _, err := p.judge(t.Context(), b); err == nil || !strings.Contains(err.Error(), "partition 4 is there") {
		t.Errorf("error %v", err)
	}
}

func TestWhatAChildSaysIsHeardWhole(t *testing.T) {
	var said bytes.Buffer
	v := &voice{w: &said}
	want := []string{}
	for i := range 3 {
		e := history.Event{Seq: history.Seq(i + 1), Kind: history.Stored, Place: history.Place{Partition: 7, Offset: -1}, Power: true}
		v.event(e)
		n := note{What: noteReset, Offsets: map[uint64]int64{uint64(i): 1}}
		v.note(n)
		want = append(want, e.String(), fmt.Sprint(n))
	}
	v.note(note{What: strings.Repeat("x", maxNote)})
	var got []string
	hear := func(from []byte) error {
		got = nil
		return listen(bytes.NewReader(from), func(e history.Event) { got = append(got, e.String()) }, func(n note) { got = append(got, fmt.Sprint(n)) })
	}
	if err := hear(said.Bytes()); err != nil || len(got) != 7 || fmt.Sprint(got[:6]) != fmt.Sprint(want) || !strings.Contains(got[6], noteFailed) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range [][]byte{said.Bytes()[:20], []byte("panic"), append(said.Bytes()[:76:76], frameNote, 255, 255)} {
		if err := hear(bad); err == nil {
			t.Errorf("%q is heard as %v", bad, got)
		}
	}
}

func TestAChildThatEndsByItselfHasFailed(t *testing.T) {
	killable(t)
	file := filepath.Join(t.TempDir(), "no directory")
	must(t, os.WriteFile(file, nil, 0o600))
	l := &life{moment: moment{after: longest}, orders: orders{Dir: filepath.Join(file, "data")}}
	if _, err := l.live(self); err == nil || !strings.Contains(err.Error(), "no directory") || !strings.Contains(err.Error(), "code 1") {
		t.Errorf("error %v", err)
	}
}

func TestAnInterruptEndsTheSoakWithItsTable(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out strings.Builder
	if err := run(ctx, nil, &out); err != nil || !strings.Contains(out.String(), "failures") {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func TestADirectoryThatDoesNotHoldWhatItDidIsKeptAsItIs(t *testing.T) {
	killable(t)
	scratch := t.TempDir()
	counted := tally{}
	st := newStory(rand.Uint64(), scratch, self, counted.add)
	must(t, st.tell(t.Context(), 4))
	must(t, st.ruin(t.Context(), time.Now().Add(300*time.Millisecond)))
	if counted["bits flipped"]+counted["torn cases"]+counted["files gone or mixed up"]+counted["damaged in several places"] == 0 {
		t.Errorf("%v", counted)
	}
	sound, err := wreck.ReadFiles(st.dir)
	must(t, err)
	r := &ruins{sound: &wreck.Sound{Files: sound, Closed: true}, dir: filepath.Join(scratch, "again")}
	must(t, r.sound.WriteFiles(r.dir, sound))
	if _, err := r.look(t.Context(), sound.With("FORMAT", nil), "FORMAT emptied", true); err != nil {
		t.Error(err) // nothing can be read, so that nothing is wrong
	}
	for _, name := range sound.Names() {
		if filepath.Ext(name) == ".seg" {
			_, err := r.look(t.Context(), sound.With(name, nil), name+" emptied", false)
			if err == nil { // what is read was never there, as far as it knows
				t.Error("no error")
			}
			break
		}
	}
}
