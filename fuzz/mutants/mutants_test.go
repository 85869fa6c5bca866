package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// toy is a product with one safeguard, and tests of which some look at it.
var toy = map[string]string{
	"go.mod": "module toy\n\ngo 1.26\n",
	"safe/safe.go": `package safe

// Check refuses what is negative.
func Check(n int) bool {
	if n < 0 {
		return false
	}
	return true
}

// Steps ends.
func Steps(n int) int {
	for i := 0; ; i++ {
		if i >= n {
			return i
		}
	}
}
`,
	"safe/safe_test.go": `package safe

import (
	"os"
	"testing"
)

func TestNegativeNumbersAreRefused(t *testing.T) {
	if Check(-1) || !Check(1) {
		t.Error("wrong")
	}
}

func TestItLooksAtNothing(t *testing.T) { Check(1) }

func TestItEnds(t *testing.T) { Steps(3) }

func TestItPanics(t *testing.T) {
	if Check(-1) {
		panic("wrong")
	}
}

func TestItEndsTheProcess(t *testing.T) {
	if Check(-1) {
		os.Exit(3)
	}
}

func TestItFails(t *testing.T) { t.Error("always") }

func TestItIsSkipped(t *testing.T) { t.Skip("always") }
`,
}

// newToy writes the toy into a directory.
func newToy(t *testing.T) *runner {
	t.Helper()
	root := t.TempDir()
	for name, content := range toy {
		path := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { // whatever was tried, it is as it was
		for name, content := range toy {
			if b, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name))); string(b) != content {
				t.Errorf("%s has been changed: %v", name, err)
			}
		}
	})
	return &runner{root: root, parallel: 2, progress: io.Discard}
}

// unsafely is the toy without its safeguard.
func unsafely(noticed ...tests) mutant {
	return mutant{name: "unsafe", why: "negative", file: "safe/safe.go", old: "if n < 0 {", new: "if n < 0 && false {", noticed: noticed}
}

func TestASurvivorIsToldFromWhatIsNoticed(t *testing.T) {
	noop := unsafely(by("safe", "TestNegativeNumbersAreRefused"))
	noop.new = "if n <= -1 {"
	endless := mutant{name: "endless", file: "safe/safe.go", old: "if i >= n {", new: "if i < 0 {", noticed: []tests{by("safe", "TestItEnds").endsIn(time.Second)}}
	for what, c := range map[string]struct {
		mutant mutant
		word   string
		by     string
		note   string
	}{
		"a test that looks at the safeguard":    {unsafely(by("safe", "TestNegativeNumbersAreRefused")), "caught", "TestNegativeNumbersAreRefused", ""},
		"a test that does not":                  {unsafely(by("safe", "TestItLooksAtNothing")), "SURVIVED", "", ""},
		"both":                                  {unsafely(by("safe", "TestItLooksAtNothing", "TestNegativeNumbersAreRefused")), "caught", "TestNegativeNumbersAreRefused", ""},
		"the second command":                    {unsafely(by("safe", "TestItLooksAtNothing"), by("safe", "TestNegativeNumbersAreRefused")), "caught", "TestNegativeNumbersAreRefused", ""},
		"a change that changes nothing":         {noop, "SURVIVED", "", ""},
		"a test that panics":                    {unsafely(by("safe", "TestItPanics")), "caught", "TestItPanics", "panic"},
		"a process that ends":                   {unsafely(by("safe", "TestItEndsTheProcess")), "caught", "TestItEndsTheProcess", "the process ended"},
		"a test that does not end":              {endless, "caught", "TestItEnds", "did not end"},
		"a test that does not end behind one":   {behind(endless, "TestItLooksAtNothing"), "caught", "TestItEnds", "did not end"},
		"what does not compile":                 {changed("if n {"), "ERROR", "", ""},
		"what compiles no longer without a use": {changed("if unused := 1; n < 0 {"), "ERROR", "", ""},
		"a piece that is not there":             {replaced("if n < 17 {"), "ERROR", "", ""},
		"a piece that is there more than once":  {replaced("return"), "ERROR", "", ""},
		"a file that is not there":              {mutant{name: "x", file: "safe/none.go", old: "a", new: "b", noticed: noop.noticed}, "ERROR", "", ""},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			results, err := newToy(t).run(t.Context(), []mutant{c.mutant})
			if err != nil {
				t.Fatal(err)
			}
			r := results[0]
			if got := r.word(); got != c.word || strings.Join(r.failed, " ") != c.by || r.note != c.note {
				t.Errorf("%s by %q (%s), %v", got, r.failed, r.note, r.err)
			}
			if failed := verdict(results) != nil; failed != (c.word != "caught") {
				t.Errorf("the command fails: %v", failed)
			}
			var out strings.Builder
			if err := printTable(&out, results); err != nil || !strings.Contains(out.String(), c.word) || !strings.Contains(out.String(), c.by) {
				t.Errorf("%v\n%s", err, &out)
			}
		})
	}
}

// changed has something else in the safeguard's place, and replaced it in the place of something else.
func changed(to string) mutant {
	m := unsafely(by("safe", "TestNegativeNumbersAreRefused"))
	m.new = to
	return m
}

func replaced(old string) mutant {
	m := unsafely(by("safe", "TestNegativeNumbersAreRefused"))
	m.old = old
	return m
}

// behind has another test in front of those that should notice.
func behind(m mutant, name string) mutant {
	m.noticed = []tests{m.noticed[0]}
	m.noticed[0].names = append([]string{name}, m.noticed[0].names...)
	return m
}

// Tests that fail without the mutant, or do not run, prove nothing: then no mutant is tried.
func TestTestsThatDoNotPassWithoutTheMutantProveNothing(t *testing.T) {
	for _, bad := range []tests{
		by("safe", "TestItFails"),
		by("safe", "TestItIsSkipped"),
		by("safe", "TestThatIsNotThere"),
		by("safe", "TestNegativeNumbersAreRefused", "TestThatIsNotThere"),
		by("nowhere", "TestNegativeNumbersAreRefused"),
	} {
		if results, err := newToy(t).run(t.Context(), []mutant{unsafely(bad)}); err == nil {
			t.Errorf("%+v: %+v", bad, results)
		}
	}
}

func TestTheCommandListsAndRefuses(t *testing.T) {
	var whole, short strings.Builder
	if err := run(t.Context(), []string{"-list"}, &whole, io.Discard); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), []string{"-list", "-short"}, &short, io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, m := range all() {
		if !strings.Contains(whole.String(), m.why) || strings.Contains(short.String(), m.why) != m.short {
			t.Errorf("%s is not listed, or is where it should not be", m.name)
		}
	}
	for _, args := range [][]string{{"-run", "nothing is called so"}, {"-run", "("}, {"rest"}, {"-parallel", "0"}, {"-nonsense"}} {
		if err := run(t.Context(), args, io.Discard, io.Discard); err == nil {
			t.Errorf("%q was taken", args)
		}
	}
}
