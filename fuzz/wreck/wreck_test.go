package wreck

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"github.com/braid-go/braid"
	"github.com/braid-go/braid/internal/damage"
)

// sound makes a directory of one topic with a few records, a group and a piece of state.
func sound(t *testing.T) *Sound {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	b, err := braid.Open(dir, braid.Options{})
	if err != nil {
		t.Fatal(err)
	}
	topic, err := b.CreateTopic(t.Context(), "t", braid.TopicConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if err := topic.Publish(t.Context(), &braid.Record{Value: fmt.Appendf(nil, "value %d", i)}); err != nil {
			t.Fatal(err)
		}
	}
	tx := b.Begin()
	if err := errors.Join(tx.Put("key", []byte("state")), tx.Commit(t.Context())); err != nil {
		t.Fatal(err)
	}
	s := &Sound{Closed: true}
	if s.Content, err = ReadSound(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if s.Files, err = ReadFiles(dir); err != nil {
		t.Fatal(err)
	}
	return s
}

// look opens a directory with these files, both ways, and returns all that is found to be wrong.
func look(t *testing.T, s *Sound, files damage.Files) string {
	t.Helper()
	var all []error
	w := s.Damage(files, "damaged", true, func(err error) { all = append(all, err) })
	for _, open := range []func(string){
		func(dir string) { w.ReadOnly(t.Context(), dir) },
		func(dir string) { w.Writable(t.Context(), dir) },
	} {
		dir := filepath.Join(t.TempDir(), "data")
		if err := s.WriteFiles(dir, files); err != nil {
			t.Fatal(err)
		}
		open(dir)
	}
	return fmt.Sprint(errors.Join(all...))
}

func TestWhatIsWrongWithABrokerIsFound(t *testing.T) {
	s := sound(t)
	place := At{"t", 1, 2}
	if s.Records[place] == "" {
		t.Fatalf("%v", s.Records)
	}
	for name, tc := range map[string]struct {
		claim func(s *Sound)
		want  string
	}{
		"nothing":           {func(*Sound) {}, "<nil>"},
		"a record is gone":  {func(s *Sound) { s.Records[At{"t", 1, 7}] = "a record" }, "neither there nor reported"},
		"a topic is gone":   {func(s *Sound) { s.Records[At{"u", 2, 0}] = "a record" }, "neither there nor reported"},
		"a record is other": {func(s *Sound) { s.Records[place] = "another" }, `was "another"`},
		"a record is new":   {func(s *Sound) { delete(s.Records, place) }, `was "", false`},
		"the store is new":  {func(s *Sound) { s.Store += "more" }, "the store is not what it was"},
	} {
		c := &Sound{Content: Content{Records: maps.Clone(s.Records), Store: s.Store}, Files: s.Files, Closed: true}
		tc.claim(c)
		if got := look(t, c, c.Files); !strings.Contains(got, tc.want) {
			t.Errorf("%s: %s, want %q", name, got, tc.want)
		}
	}
}

func TestDamageThatIsReportedIsNotWrong(t *testing.T) {
	s := sound(t)
	for name, whole := range s.Files {
		if len(whole) == 0 {
			continue
		}
		if got := look(t, s, s.Files.With(name, damage.Flip(whole, 4*len(whole)))); got != "<nil>" {
			t.Errorf("%s: %s", name, got)
		}
	}
}
