package checkpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"

	"github.com/tidwall/wal"

	"github.com/braid-go/braid/internal/vfs"
)

// WALReport tells what OpenWAL found and did.
type WALReport struct {
	Created  bool   // a new store was made
	Keys     int    // live keys
	Sequence uint64 // of the last commit
	// Torn is the file in which a tail that nothing proves was kept aside, "" if there was none, and TornBytes its size.
	Torn      string
	TornBytes int64
}

// OpenWAL opens the store in a directory for writing. Only one may have it open at a time, which the caller sees
// to. Errors: ErrMissingData, ErrCorrupt, and those of the file system.
func OpenWAL(dir string, opts WALOptions) (*WAL, error) {
	if opts.GenerationBytes <= 0 {
		opts.GenerationBytes = DefaultGenerationBytes
	}
	w := &WAL{dir: dir, opts: opts}
	w.quiet = sync.NewCond(&w.mu)
	fresh, err := w.prepare()
	if err != nil {
		return nil, err
	}
	if fresh {
		w.state, w.report.Created = newState(opts.MaxBytes), true
	} else if err := w.recover(); err != nil {
		return nil, err
	}
	w.report.Keys, w.report.Sequence = len(w.state.keys), w.seq
	if err := w.begin(); err != nil {
		return nil, fmt.Errorf("begin a generation: %w", err)
	}
	return w, nil
}

// prepare sees to the directory and reports whether a new store is to be made.
func (w *WAL) prepare() (fresh bool, err error) {
	_, err = readCurrent(w.dir, w.opts.ID)
	var missing *MissingDataError
	if !errors.As(err, &missing) || !w.opts.Create {
		return false, err
	}
	if _, err := vfs.OS.Stat(filepath.Join(w.dir, currentName)); err == nil {
		return false, missing // another broker's, or emptied: never made anew
	}
	if err := vfs.OS.Mkdir(w.dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return false, err
	}
	return true, vfs.OS.SyncDir(filepath.Dir(w.dir))
}

// recover reads the state from the generation that CURRENT names.
func (w *WAL) recover() error {
	c, err := readCurrent(w.dir, w.opts.ID)
	if err != nil {
		return err
	}
	g, err := scanGeneration(w.dir, c.generation, w.opts.ID, max(c.proven, w.opts.ProvenSequence))
	if err != nil {
		return err
	}
	w.generation = c.generation
	w.state, w.seq = replay(g, w.opts.MaxBytes, ^uint64(0))
	if err := w.checkOthers(c.generation); err != nil {
		return err
	}
	if len(g.torn) == 0 {
		return nil
	}
	path := generationDir(w.dir, c.generation) + ".torn"
	w.report.Torn, w.report.TornBytes = path, int64(len(g.torn))
	return vfs.WriteFileAtomic(vfs.OS, path, g.torn)
}

// generations lists the numbers of the generation directories.
func (w *WAL) generations() ([]uint64, error) {
	entries, err := vfs.OS.List(w.dir)
	if err != nil {
		return nil, err
	}
	var out []uint64
	for _, e := range entries {
		n, err := strconv.ParseUint(e.Name(), 10, 64)
		if err == nil && e.IsDir() && filepath.Join(w.dir, e.Name()) == generationDir(w.dir, n) {
			out = append(out, n)
		}
	}
	return out, nil
}

// checkOthers refuses a later generation with commits in it: then CURRENT is not the latest. One without is
// what a change that was cut short has left.
func (w *WAL) checkOthers(listed uint64) error {
	numbers, err := w.generations()
	if err != nil {
		return err
	}
	for _, n := range numbers {
		if n <= listed {
			continue
		}
		g, err := scanGeneration(w.dir, n, w.opts.ID, 0)
		if err == nil && len(g.entries) > 1 {
			return &CorruptError{Path: filepath.Join(w.dir, currentName), Reason: fmt.Sprintf("names generation %d, but %d holds commits", listed, n)}
		}
	}
	return nil
}

// begin makes the next generation with the present state, switches to it, and removes all others.
func (w *WAL) begin() error {
	numbers, err := w.generations()
	if err != nil {
		return err
	}
	next := w.generation + 1
	for _, n := range numbers {
		next = max(next, n+1)
	}
	if err := w.startGeneration(next); err != nil {
		return err
	}
	if err := writeCurrent(w.dir, current{id: w.opts.ID, proven: w.seq, generation: next}); err != nil {
		w.files.close()
		return err
	}
	for _, n := range numbers {
		if err := w.removeGeneration(n); err != nil {
			w.files.close()
			return err
		}
	}
	return nil
}

// startGeneration makes a generation with a snapshot of the state, durably, and writes to it from now on.
func (w *WAL) startGeneration(n uint64) error {
	dir := generationDir(w.dir, n)
	if err := vfs.OS.Mkdir(dir); err != nil {
		return err
	}
	snapshot := encodeSnapshot(w.opts.ID, w.state, w.seq)
	l, err := wal.Open(dir, &wal.Options{
		SegmentSize: int(w.opts.GenerationBytes)*2 + 2*len(snapshot) + 64<<20, // never reached: it never cycles
		LogFormat:   wal.Binary, SegmentCacheSize: 1, NoCopy: true, DirPerms: 0o700, FilePerms: 0o600,
	})
	if err != nil {
		return err
	}
	f, err := os.OpenFile(generationFile(w.dir, n), os.O_RDWR, 0)
	if err != nil {
		l.Close()
		return err
	}
	w.files = files{log: l, file: f, generation: n}
	err = w.write(snapshot)
	if err == nil {
		err = vfs.OS.SyncDir(dir)
	}
	if err == nil {
		err = vfs.OS.SyncDir(w.dir)
	}
	if err != nil {
		w.files.close()
		return err
	}
	w.full = w.size + max(w.opts.GenerationBytes, w.size)
	return nil
}

// removeGeneration removes a generation that no longer counts.
func (w *WAL) removeGeneration(n uint64) error {
	dir := generationDir(w.dir, n)
	entries, err := vfs.OS.List(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := vfs.OS.Remove(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return vfs.OS.Remove(dir)
}

// replaceGeneration changes to a new generation when the present one has grown large. Without space for it the
// present one goes on growing.
func (w *WAL) replaceGeneration() error {
	old := w.files
	err := w.startGeneration(old.generation + 1)
	if errors.Is(err, syscall.ENOSPC) {
		w.files = old
		w.full += w.opts.GenerationBytes
		return w.removeGeneration(old.generation + 1)
	}
	if err == nil {
		err = writeCurrent(w.dir, current{id: w.opts.ID, proven: w.seq, generation: w.generation})
	}
	err = errors.Join(err, old.close())
	if err != nil {
		return err
	}
	return w.removeGeneration(old.generation)
}
