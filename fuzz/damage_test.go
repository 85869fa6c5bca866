package fuzz

import (
	"flag"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/braid-go/braid/fuzz/wreck"
	"github.com/braid-go/braid/internal/damage"
)

var everyBit = flag.Bool("everybit", false, "flip every bit of the directory that was closed, for reading, not a part of them")

var long = flag.Bool("long", false, "enumerate every case of damage, not a part of them; takes many minutes")

// damaged is a directory of which some files are replaced. What is wrong with a broker on it fails the test.
func damaged(t *testing.T, c *wreck.Sound, files damage.Files, what string, single bool) *wreck.Wreck {
	return c.Damage(files, what, single, func(err error) {
		t.Helper()
		t.Error(err)
	})
}

// A data directory with one of everything, every bit of it flipped one at a time.
func TestEveryFlippedBitOfADirectoryIsSurvived(t *testing.T) {
	for _, c := range corpora(t) {
		t.Run(fmt.Sprintf("closed=%v", c.Closed), func(t *testing.T) {
			dir := filepath.Join(scratch(t), "data")
			writeFiles(t, dir, c, c.Files)
			reading, writing, bits := 0, 0, 0
			step, every := damage.Step(*long || *everyBit && c.Closed, 71), damage.Step(*long, 307)
			if *long {
				every = 7 // a writable opening takes ten times as long
			}
			for _, name := range c.Files.Names() {
				file := filepath.Join(dir, name)
				for bit := range 8 * len(c.Files[name]) {
					bits++
					if bits%step != 0 && bits%every != 0 {
						continue
					}
					files := c.Files.With(name, damage.Flip(c.Files[name], bit))
					d := damaged(t, c, files, fmt.Sprintf("bit %d of byte %d of %s flipped", bit%8, bit/8, name), true)
					if bits%step == 0 {
						overwrite(t, file, files[name])
						d.ReadOnly(t.Context(), dir)
						overwrite(t, file, c.Files[name])
						reading++
					}
					if bits%every == 0 {
						writeFiles(t, dir+"-written", c, files)
						d.Writable(t.Context(), dir+"-written")
						writing++
					}
				}
			}
			t.Logf("bits flipped: %d for reading, %d for writing, of %d", reading, writing, bits)
		})
	}
}

func overwrite(t *testing.T, file string, content []byte) {
	t.Helper()
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Every file of it is gone, emptied, cut in its middle, cut by a byte, and replaced with each other file of its kind.
func TestFilesOfADirectoryGoneCutOrMixedUpAreReported(t *testing.T) {
	for _, c := range corpora(t) {
		dir := filepath.Join(scratch(t), "data")
		cases := 0
		try := func(files damage.Files, what string) {
			d := damaged(t, c, files, what, true)
			if len(d.Changed()) == 0 {
				return
			}
			writeFiles(t, dir, c, files)
			d.ReadOnly(t.Context(), dir)
			d.Writable(t.Context(), dir)
			cases++
		}
		for i, name := range c.Files.Names() {
			whole := c.Files[name]
			try(c.Files.Without(name), name+" gone")
			try(c.Files.With(name, nil), name+" emptied")
			if len(whole) > 0 {
				try(c.Files.With(name, whole[:len(whole)/2]), name+" cut in half")
				try(c.Files.With(name, whole[:len(whole)-1]), name+" cut by a byte")
			}
			for j, other := range c.Files.Names() {
				if path.Base(name) == path.Base(other) || path.Ext(name) == path.Ext(other) && (*long || (i+j)%5 == 0) {
					try(c.Files.With(name, c.Files[other]), name+" replaced with "+other)
				}
			}
		}
		t.Logf("files damaged: %d", cases)
	}
}

// Writes to the files of a directory that was left by a kill, torn: the commit log and the segments cut at every byte, or a range of them zeros or garbage. What the commit log has kept of
// the segments is there whatever has become of them.
func TestEveryTearOfADirectoryIsSurvived(t *testing.T) {
	c := corpora(t)[1]
	dir := filepath.Join(scratch(t), "data")
	writeFiles(t, dir, c, c.Files)
	step, take := damage.Step(false, 191), 23
	if *long {
		step, take = 401, 1 // every cut, and ranges of every length
	}
	cases, written, n := 0, 0, 0
	for _, name := range c.Files.Names() {
		if !strings.HasPrefix(name, "checkpoint/0") && !strings.HasSuffix(name, ".seg") {
			continue
		}
		whole, file := c.Files[name], filepath.Join(dir, name)
		for tear := range damage.Tears(0, len(whole), step, "zeros", "garbage") {
			if n++; n%take != 0 {
				continue
			}
			files := c.Files.With(name, tear.Apply(whole, nil))
			d := damaged(t, c, files, fmt.Sprintf("%s: %v", name, tear), true)
			if len(d.Changed()) == 0 {
				continue
			}
			overwrite(t, file, files[name])
			d.ReadOnly(t.Context(), dir)
			overwrite(t, file, whole)
			if cases++; cases%17 == 0 {
				writeFiles(t, dir+"-written", c, files)
				d.Writable(t.Context(), dir+"-written")
				written++
			}
		}
	}
	t.Logf("torn cases: %d for reading, %d of them for writing too", cases, written)
}
