package checkpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/braid-go/braid/internal/vfs"
)

// OpenWAL opens the store in a directory for writing. The caller sees to it that nobody else has it
// open for writing.
//
// It reads what is there, writes it anew, and only then builds upon it; that needs space for
// all live keys once more, or it is ErrNoSpace. Writing that a crash has cut short is
// kept in a .torn file and reported. Anything else that is not as it was left is an error, and nothing has
// changed then: ErrCorrupt, ErrMissingData, ErrVersion, and the file system's.
func OpenWAL(dir string, opts WALOptions) (*WAL, error) {
	if opts.GenerationBytes <= 0 {
		opts.GenerationBytes = DefaultGenerationBytes
	}
	opts.MaxBytes = resolveMaxBytes(opts.MaxBytes)
	w := &WAL{dir: dir, opts: opts, wake: make(chan struct{}, 1), done: make(chan struct{})}
	w.requests.New = func() any { return &request{done: make(chan struct{}, 1)} }
	found, err := w.load()
	if err == nil {
		err = w.begin(found)
	}
	if noSpace(err) && !errors.Is(err, ErrNoSpace) {
		err = fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	var redo *redoError
	if errors.As(err, &redo) {
		return nil, redo.error
	}
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	go w.run()
	return w, nil
}

// redoError is an error of WALOptions.Redo, which is not the store's.
type redoError struct{ error }

// load reads what is there.
func (w *WAL) load() (*recovered, error) {
	cur, err := readCurrent(w.dir, w.opts.ID)
	if errors.Is(err, fs.ErrNotExist) && w.opts.Create {
		w.report.Created = true
		return &recovered{state: &state{}}, w.prepareNew()
	}
	if err != nil {
		return nil, err
	}
	if err := w.syncDir(); err != nil { // a killed process may have renamed CURRENT and not come to that
		return nil, err
	}
	gens, err := readGenerations(w.dir, cur)
	if err != nil {
		return nil, err
	}
	r, err := recoverState(gens, cur.proven, math.MaxUint64)
	if err != nil {
		return nil, err
	}
	r.listed = cur.generations
	seq := r.state.seq
	if w.opts.ProvenSequence > seq {
		newest := gens[len(gens)-1]
		return nil, &CorruptError{newest.path, newest.end, -1, fmt.Sprintf("the store ends with sequence %d, but %d was durable", seq, w.opts.ProvenSequence)}
	}
	if err := w.checkUnlisted(cur); err != nil {
		return nil, err
	}
	w.report.Generations = cur.generations
	w.report.Clean = cur.proven == seq && len(r.torn) == 0
	w.report.Sequence, w.report.Keys, w.report.Bytes = seq, r.state.keys.n, r.state.bytes
	for _, list := range r.frames {
		w.report.Frames += len(list)
		for _, b := range list {
			w.report.FrameBytes += int64(len(b))
		}
	}
	if w.opts.Redo != nil {
		if err := w.secure(r); err != nil {
			return nil, err
		}
		if err := w.opts.Redo(r.view()); err != nil {
			return nil, &redoError{err}
		}
	}
	return r, nil
}

// readGenerations scans the listed generations.
func readGenerations(dir string, cur *current) ([]*scanned, error) {
	var gens []*scanned
	for _, n := range cur.generations {
		g, err := readGeneration(dir, n, cur.id)
		if err != nil {
			return nil, err
		}
		gens = append(gens, g)
	}
	return gens, nil
}

// syncDir makes the names in the store's directory durable.
func (w *WAL) syncDir() error {
	if err := w.opts.step("sync directory"); err != nil {
		return err
	}
	return w.opts.sync(func() error { return vfs.OS.SyncDir(w.dir) })
}

// prepareNew sees to the directory of a new store. One that has held commits is refused: CURRENT
// is missing there.
func (w *WAL) prepareNew() error {
	if err := vfs.OS.Mkdir(w.dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := w.opts.sync(func() error { return vfs.OS.SyncDir(filepath.Dir(w.dir)) }); err != nil {
		return err
	}
	infos, err := vfs.OS.List(w.dir)
	if err != nil {
		return err
	}
	for _, info := range infos {
		if strings.HasSuffix(info.Name(), tornSuffix) {
			return &MissingDataError{filepath.Join(w.dir, currentName), "the file is gone, but " + info.Name() + " is there"}
		}
	}
	return w.checkUnlisted(&current{id: w.opts.ID})
}

// checkUnlisted refuses a later generation than those listed that holds commits: only a listed one is
// ever given any, so CURRENT is not the latest. One without is what an interrupted opening
// or change has left.
func (w *WAL) checkUnlisted(cur *current) error {
	numbers, err := listGenerations(w.dir)
	if err != nil {
		return err
	}
	for _, n := range numbers {
		if len(cur.generations) > 0 && n <= slices.Max(cur.generations) {
			continue
		}
		g, err := readGeneration(w.dir, n, w.opts.ID)
		if errors.Is(err, ErrMissingData) {
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range append(g.entries, g.behind...) {
			if len(e.commits)+len(e.frames) > 0 {
				return &MissingDataError{filepath.Join(w.dir, currentName), fmt.Sprintf("an old copy: generation %d holds commits and is not listed", n)}
			}
		}
	}
	return nil
}

// clear sets torn tails aside, removes generations that are not listed, and returns a number that none has had.
func (w *WAL) clear(found *recovered) (number uint64, err error) {
	numbers, err := listGenerations(w.dir)
	if err != nil {
		return 0, err
	}
	if err := w.setAside(found); err != nil {
		return 0, err
	}
	number = slices.Max(slices.Concat(numbers, found.listed, []uint64{0})) + 1
	w.removeAll(slices.DeleteFunc(numbers, func(n uint64) bool { return slices.Contains(found.listed, n) }))
	return number, nil
}

// begin writes the state as the snapshot of a fresh generation, switches CURRENT to it, and removes what no longer counts.
func (w *WAL) begin(found *recovered) error {
	number, err := w.clear(found)
	if err != nil {
		return err
	}
	w.work = *found.state
	g, err := createGeneration(w.dir, number, &w.opts)
	if err != nil {
		return err
	}
	w.gen = g
	if err := w.switchTo(g, found.listed); err != nil {
		return errors.Join(err, g.close())
	}
	w.durable.Store(w.work.seq)
	w.visible.Store(w.work.freeze())
	w.setFull()
	return nil
}

// switchTo writes a snapshot of all that there is to a generation and makes it the one that counts, instead of those listed.
func (w *WAL) switchTo(g *generation, listed []uint64) error {
	synced := w.work.seq
	snap := newSnapshot(w.work.freeze())
	for !snap.finished {
		w.enc.begin()
		snap.next(&w.enc)
		w.work.seq++
		entry := w.enc.seal(g.salt, w.work.seq, synced)
		if err := g.room(len(entry)); err != nil {
			return err
		}
		if err := w.opts.step("append snapshot"); err != nil {
			return err
		}
		if err := g.append(entry); err != nil {
			return err
		}
	}
	g.snapshot = g.size
	if err := w.opts.step("sync snapshot"); err != nil {
		return err
	}
	if err := w.opts.sync(g.file.Sync); err != nil {
		return err
	}
	err := writeCurrent(w.dir, &current{id: w.opts.ID, proven: w.work.seq, generations: []uint64{g.number}}, &w.opts)
	if err != nil {
		return err
	}
	w.removeAll(listed)
	return nil
}

// removeAll removes generations that are not listed. One that stays does no harm.
func (w *WAL) removeAll(numbers []uint64) {
	for _, n := range numbers {
		if err := removeGeneration(w.dir, n, &w.opts); err != nil {
			w.report.Leftover = append(w.report.Leftover, generationDir(w.dir, n))
		}
	}
}

const tornSuffix = ".torn"

// setAside keeps torn tails in files of their own: the same ones each time, if it is interrupted.
func (w *WAL) setAside(found *recovered) error {
	for i, tail := range found.torn {
		if err := w.opts.step("write torn tail"); err != nil {
			return err
		}
		tail.Path = generationDir(w.dir, tail.Generation) + tornSuffix
		write := func() error { return vfs.WriteFileAtomic(vfs.OS, tail.Path, found.tails[i]) }
		if w.opts.hooks.unsynced {
			write = func() error { return writeUnsynced(tail.Path, found.tails[i]) }
		}
		if err := write(); err != nil {
			return err
		}
		w.report.Torn = append(w.report.Torn, tail)
	}
	found.torn, found.tails = nil, nil
	return nil
}

// writeUnsynced is what hooks.unsynced makes of vfs.WriteFileAtomic.
func writeUnsynced(name string, data []byte) error { return os.WriteFile(name, data, 0o600) }
