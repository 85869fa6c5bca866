package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/braid-go/braid"
	"github.com/braid-go/braid/fuzz/wreck"
	"github.com/braid-go/braid/internal/damage"
)

// ruins damages a directory that was closed cleanly, in one way after the other, and has each looked at.
type ruins struct {
	sound *wreck.Sound
	names []string
	bytes int // of all files
	rng   *rand.Rand
	dir   string // holds the files as they were, but for those of the case under way
}

// ruin damages what the children have made until it is late, or something is wrong; then the directory is left as it was opened.
func (s *story) ruin(ctx context.Context, until time.Time) error {
	b, err := braid.Open(s.dir, braid.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	content, err := wreck.ReadSound(ctx, b)
	if err := errors.Join(err, b.Close()); err != nil {
		return err
	}
	files, err := wreck.ReadFiles(s.dir)
	if err != nil {
		return err
	}
	r := &ruins{sound: &wreck.Sound{Content: content, Files: files, Closed: true}, names: files.Names(), rng: s.rng}
	for _, b := range files {
		r.bytes += len(b)
	}
	scratch, err := os.MkdirTemp("/dev/shm", "braid-soak-") // in memory where the system has that: it is not the disk that is tested
	if err != nil {
		scratch = s.scratch
	}
	defer os.RemoveAll(scratch)
	r.dir = filepath.Join(scratch, "ruins")
	if err := r.sound.WriteFiles(r.dir, files); err != nil {
		return err
	}
	for n := 0; time.Now().Before(until) && ctx.Err() == nil; n++ {
		now, kind, what := r.damage()
		writing := n%5 == 0
		changed, err := r.look(ctx, now, what, writing)
		if err != nil {
			return errors.Join(err, os.RemoveAll(s.dir), r.sound.WriteFiles(s.dir, now))
		}
		if !changed {
			continue
		}
		s.count(kind, 1)
		if writing {
			s.count("damaged directories opened for writing", 1)
		}
	}
	return nil
}

// damage chooses what becomes of the files, and says of which kind that is and what it is.
func (r *ruins) damage() (files damage.Files, kind, what string) {
	name := r.file()
	was := r.sound.Files[name]
	if len(was) == 0 {
		return r.sound.Files, "", ""
	}
	switch n := r.rng.IntN(20); {
	case n < 9:
		bit := r.rng.IntN(8 * len(was))
		return r.sound.Files.With(name, damage.Flip(was, bit)), "bits flipped", fmt.Sprintf("bit %d of byte %d of %s flipped", bit%8, bit/8, name)
	case n < 16:
		from := r.rng.IntN(len(was))
		length := 1 + int(math.Pow(float64(len(was)-from), r.rng.Float64()))
		tear := damage.Tear{Kind: []string{"cut", "zeros", "garbage"}[r.rng.IntN(3)], From: from, To: min(len(was), from+length)}
		return r.sound.Files.With(name, tear.Apply(was, nil)), "torn cases", fmt.Sprintf("%s: %v", name, tear)
	case n < 17:
		return r.sound.Files.Without(name), "files gone or mixed up", name + " gone"
	case n < 18:
		other := r.names[r.rng.IntN(len(r.names))]
		return r.sound.Files.With(name, r.sound.Files[other]), "files gone or mixed up", name + " replaced with " + other
	}
	script := make([]byte, 8*(2+r.rng.IntN(4)))
	for i := range script {
		script[i] = byte(r.rng.Uint32())
	}
	files, done := r.sound.Files.Apply(damage.Parse(script))
	return files, "damaged in several places", fmt.Sprintf("%q", done)
}

// file chooses a file: any, or one by its size.
func (r *ruins) file() string {
	if r.rng.IntN(2) == 0 {
		return r.names[r.rng.IntN(len(r.names))]
	}
	at := r.rng.IntN(r.bytes)
	for _, name := range r.names {
		if at -= len(r.sound.Files[name]); at < 0 {
			return name
		}
	}
	return r.names[0]
}

// look has a damaged directory looked at, and reports whether there was any damage.
func (r *ruins) look(ctx context.Context, files damage.Files, what string, writing bool) (bool, error) {
	var wrong []error
	single := len(what) > 0 && what[0] != '['
	w := r.sound.Damage(files, what, single, func(err error) {
		if len(wrong) < 5 {
			wrong = append(wrong, err)
		}
	})
	if len(w.Changed()) == 0 {
		return false, nil
	}
	for _, name := range w.Changed() {
		if err := r.put(name, files); err != nil {
			return true, err
		}
	}
	w.ReadOnly(ctx, r.dir)
	if writing {
		dir := r.dir + "-written"
		if err := r.sound.WriteFiles(dir, files); err != nil {
			return true, err
		}
		w.Writable(ctx, dir)
	}
	for _, name := range w.Changed() {
		if err := r.put(name, r.sound.Files); err != nil {
			return true, err
		}
	}
	return true, errors.Join(wrong...)
}

// put makes a file in the directory what it is among files.
func (r *ruins) put(name string, files damage.Files) error {
	path := filepath.Join(r.dir, name)
	content, there := files[name]
	if !there {
		return os.Remove(path)
	}
	return os.WriteFile(path, content, 0o600)
}
