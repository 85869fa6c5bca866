package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const productRoot = "../.."

// Every mutant still fits the file that it changes, and the package that has it then compiles.
func TestEveryMutantFitsTheProductAndCompiles(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the product")
	}
	c := newChecker(t)
	for _, m := range all() {
		t.Run(m.name, func(t *testing.T) {
			source, err := os.ReadFile(filepath.Join(productRoot, filepath.FromSlash(m.file)))
			if err != nil {
				t.Fatal(err)
			}
			changed, err := m.apply(string(source))
			if err != nil {
				t.Fatal(err)
			}
			if err := c.check(path.Dir(m.file), path.Base(m.file), changed); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// checker checks the types of packages of the product in which a file has been changed.
type checker struct {
	fset     *token.FileSet
	imports  types.Importer
	packages map[string]listed // by directory below the root
}

// listed is what go list tells of a package.
type listed struct {
	ImportPath, Dir, Export string
	GoFiles                 []string
}

func newChecker(t *testing.T) *checker {
	t.Helper()
	dirs := map[string]bool{}
	args := []string{"list", "-export", "-deps", "-json=ImportPath,Dir,Export,GoFiles"}
	for _, m := range all() {
		if dir := path.Dir(m.file); !dirs[dir] {
			dirs[dir] = true
			args = append(args, "./"+dir)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = productRoot
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs(productRoot)
	if err != nil {
		t.Fatal(err)
	}
	c := &checker{fset: token.NewFileSet(), packages: map[string]listed{}}
	exports := map[string]string{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		exports[p.ImportPath] = p.Export
		if dir, err := filepath.Rel(root, p.Dir); err == nil {
			c.packages[filepath.ToSlash(dir)] = p
		}
	}
	c.imports = importer.ForCompiler(c.fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	return c
}

// check returns the first error of a package in which a file has another content.
func (c *checker) check(dir, name, content string) error {
	p, ok := c.packages[dir]
	if !ok || !slices.Contains(p.GoFiles, name) {
		return fmt.Errorf("%s is no file of the package on this system", path.Join(dir, name))
	}
	var files []*ast.File
	for _, file := range p.GoFiles {
		var source any
		if file == name {
			source = content
		}
		f, err := parser.ParseFile(c.fset, filepath.Join(p.Dir, file), source, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		files = append(files, f)
	}
	config := types.Config{Importer: c.imports}
	_, err := config.Check(p.ImportPath, c.fset, files, nil)
	return err
}

// What the checker lets pass means something only if it finds what is wrong.
func TestTheCheckerFindsWhatDoesNotCompile(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the product")
	}
	c := newChecker(t)
	b, err := os.ReadFile(filepath.Join(productRoot, "log", "apply.go"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.check("log", "apply.go", string(b)); err != nil {
		t.Errorf("as it is: %v", err)
	}
	for _, wrong := range []string{"\nfunc wrong() int { return nil }", "\nfunc wrong() { unused := 1 }", "\nfunc"} {
		if err := c.check("log", "apply.go", string(b)+wrong); err == nil {
			t.Errorf("nothing is wrong with %q", wrong)
		}
	}
	if err := c.check("log", "apply_test.go", ""); err == nil {
		t.Error("a test is a part of the product")
	}
}

// Every mutant has a name of its own, a reason, and tests that exist.
func TestEveryMutantIsDescribed(t *testing.T) {
	names := map[string]bool{}
	short := 0
	there := map[string]map[string]bool{}
	for _, m := range all() {
		if names[m.name] || m.name == "" || strings.ContainsAny(m.name, " \t") || m.why == "" || len(m.noticed) == 0 || m.old == m.new {
			t.Errorf("%q: no name of its own, no reason, no tests, or no change", m.name)
		}
		names[m.name] = true
		if m.short {
			short++
		}
		for _, by := range m.noticed {
			if there[by.dir] == nil {
				there[by.dir] = testsIn(t, filepath.Join(productRoot, filepath.FromSlash(by.dir)))
			}
			if len(by.names) == 0 || by.within <= 0 {
				t.Errorf("%s: %+v", m.name, by)
			}
			for _, name := range by.names {
				if !there[by.dir][name] {
					t.Errorf("%s: %s has no %s", m.name, by.dir, name)
				}
			}
		}
	}
	if short == 0 {
		t.Error("the short run has none")
	}
}

// testsIn returns the tests of a package.
func testsIn(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("tests in %s: %v", dir, err)
	}
	out := map[string]bool{}
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
				out[fn.Name.Name] = true
			}
		}
	}
	return out
}
