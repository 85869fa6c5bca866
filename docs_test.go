package braid

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Every row of the table of faults in docs/reliability.md is there and names tests, and each of them exists in its package.
func TestReliabilityNamesTestsThatExist(t *testing.T) {
	text, err := os.ReadFile("docs/reliability.md")
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile("`([a-z/]+)\\.((?:Test|Fuzz)\\w+)`")
	sources := map[string]string{} // by directory: what all of its tests are
	exists := func(dir, test string) bool {
		if dir == "braid" {
			dir = "."
		}
		if _, read := sources[dir]; !read {
			files, _ := filepath.Glob(filepath.Join(dir, "*_test.go"))
			for _, file := range files {
				b, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				sources[dir] += string(b)
			}
		}
		return strings.Contains(sources[dir], "\nfunc "+test+"(")
	}
	row := 0
	for line := range strings.Lines(string(text)) {
		tests := name.FindAllStringSubmatch(line, -1)
		for _, m := range tests {
			if !exists(m[1], m[2]) {
				t.Errorf("there is no %s in %s", m[2], m[1])
			}
		}
		cells := strings.Split(line, "|")
		if len(cells) < 5 {
			continue
		}
		if n, err := strconv.Atoi(strings.TrimSpace(cells[1])); err == nil {
			if row++; n != row || len(tests) == 0 || strings.Count(cells[4], "`")/2 != len(tests) {
				t.Errorf("row %d: number %d, %d tests of %s", row, n, len(tests), cells[4])
			}
		}
	}
	if row != 20 {
		t.Errorf("%d rows", row)
	}
	for _, link := range regexp.MustCompile(`\]\(([^)#:]+)`).FindAllStringSubmatch(string(text), -1) {
		if _, err := os.Stat(filepath.Join("docs", link[1])); err != nil {
			t.Error(err)
		}
	}
}
