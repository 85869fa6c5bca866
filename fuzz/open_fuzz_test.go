package fuzz

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/braid-go/braid/internal/damage"
)

// FuzzOpen edits the files of a data directory, up to six times anywhere, and opens it for reading, for writing, and again. It never panics; errors are typed; no record is
// altered; what was acknowledged is read or covered by a typed error that names its range; what was closed cleanly has the store that it had.
func FuzzOpen(f *testing.F) {
	all := corpora(f)
	for i := range all {
		for file := range len(all[i].Files) {
			kind := byte(file % (damage.EditReplace + 1))
			f.Add(byte(i), damage.Bytes(damage.Edit{Kind: kind, File: byte(file), Pos: 40 * file, Len: 60, Arg: kind + 1}))
		}
		f.Add(byte(i), damage.Bytes(
			damage.Edit{Kind: damage.EditFlip, File: 4, Pos: 200}, damage.Edit{Kind: damage.EditZero, File: 6, Pos: 300, Len: 100},
			damage.Edit{Kind: damage.EditTruncate, File: 2, Pos: 900}, damage.Edit{Kind: damage.EditRemove, File: 9}))
	}
	dir := filepath.Join(scratch(f), fmt.Sprint(os.Getpid()))
	f.Fuzz(func(t *testing.T, which byte, script []byte) {
		c := all[int(which)%len(all)]
		files, done := c.Files.Apply(damage.Parse(script))
		d := damaged(t, c, files, strings.Join(done, "; "), false)
		writeFiles(t, dir, c, files)
		d.ReadOnly(t.Context(), dir)
		d.Writable(t.Context(), dir)
	})
}
