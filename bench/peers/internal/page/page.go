// Package page keeps figures in a Markdown file up to date.
package page

import (
	"bytes"
	"fmt"
	"os"
	"slices"
)

// Replace puts text in the place of what a file has between the lines <!-- NAME: begin --> and <!-- NAME: end -->.
func Replace(file, name string, text []byte) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	begin, end := fmt.Appendf(nil, "<!-- %s: begin -->\n", name), fmt.Appendf(nil, "<!-- %s: end -->\n", name)
	before, rest, ok := bytes.Cut(old, begin)
	_, after, ok2 := bytes.Cut(rest, end)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no place for the %s, between %q and %q", file, name, begin, end)
	}
	return os.WriteFile(file, slices.Concat(before, begin, text, end, after), 0o644)
}
