package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// mutant is the product with one safeguard disabled.
type mutant struct {
	name    string
	why     string // what the safeguard is for
	file    string // below the module's directory, with slashes
	old     string // occurs in the file exactly once
	new     string // what stands in its place
	noticed []tests
	short   bool // for the short run, too
}

// tests are those of one package that should notice a mutant.
type tests struct {
	dir   string // of the package, below the module's directory
	names []string
	// within is how long they may take. They are given ten times as long as they take without the mutant, if that is more, since the machine may be busy.
	within time.Duration
}

// defaultWithin is the time for tests that do not say otherwise.
const defaultWithin = 30 * time.Second

// by returns tests of a package.
func by(dir string, names ...string) tests {
	return tests{dir: dir, names: names, within: defaultWithin}
}

// endsIn returns them with another time: for mutants that are noticed because a test does not end.
func (t tests) endsIn(d time.Duration) tests {
	t.within = d
	return t
}

// key tells different commands apart.
func (t tests) key() string { return t.dir + " " + t.pattern() }

// pattern is what the test binary is to run.
func (t tests) pattern() string { return "^(" + strings.Join(t.names, "|") + ")$" }

// all returns the whole table.
func all() []mutant {
	return slices.Concat(logMutants, recoveryMutants, storeMutants, partitionMutants, groupMutants, brokerMutants)
}

// apply returns the file with the change.
func (m *mutant) apply(source string) (string, error) {
	if n := strings.Count(source, m.old); n != 1 || m.old == "" {
		return "", fmt.Errorf("%s has the piece that is to be replaced %d times, not once", m.file, n)
	}
	changed := strings.Replace(source, m.old, m.new, 1)
	return changed, nil
}

// write writes the changed file, and what tells the go command to take it, into a directory. It returns the name of the latter.
func (m *mutant) write(root, dir string) (overlay string, err error) {
	original := filepath.Join(root, filepath.FromSlash(m.file))
	source, err := os.ReadFile(original)
	if err != nil {
		return "", err
	}
	changed, err := m.apply(string(source))
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, filepath.Base(original))
	if err := os.WriteFile(file, []byte(changed), 0o600); err != nil {
		return "", err
	}
	b, err := json.Marshal(map[string]map[string]string{"Replace": {original: file}})
	if err != nil {
		return "", err
	}
	overlay = filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, b, 0o600)
}

// diff shows the change, for people.
func (m *mutant) diff() string {
	mark := func(sign, text string) string {
		if text == "" {
			return ""
		}
		return sign + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n"+sign) + "\n"
	}
	return m.file + "\n" + mark("-", m.old) + mark("+", m.new)
}
