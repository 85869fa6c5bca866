package checkpoint

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"strconv"

	"github.com/tidwall/wal"

	"github.com/braid-go/braid/internal/vfs"
)

// zeroStretch is how much of a generation's file is filled with zeros ahead of the
// entries, at a time: overwriting costs a sync less than growing the file does.
const zeroStretch = 256 << 10

var zeros [64 << 10]byte

// generation is one that is being written. tidwall/wal appends; a second descriptor of
// the same file reserves space ahead and syncs. All syncs go through that one
// descriptor, so that it sees every writeback error of the file.
type generation struct {
	number uint64
	salt   uint64
	opts   *WALOptions
	log    *wal.Log
	file   vfs.File
	tail   tail
	index  uint64 // of the last entry, as tidwall/wal counts
	size   int64  // of the entries
	filled int64  // bytes of the file that exist: entries and zeros
	// snapshot is how many bytes went into the generation's snapshot.
	snapshot int64
}

// createGeneration makes the directory and the file of a new generation, durably.
func createGeneration(dir string, number uint64, opts *WALOptions) (*generation, error) {
	if err := opts.step("make generation directory"); err != nil {
		return nil, err
	}
	sub := generationDir(dir, number)
	if err := vfs.Background.Mkdir(sub); err != nil {
		return nil, err
	}
	// The options are our own copy, because wal.Open changes them. SegmentSize is never
	// reached, so there is one file; NoSync, because syncing is done here.
	log, err := wal.Open(sub, &wal.Options{
		NoSync: true, SegmentSize: math.MaxInt, LogFormat: wal.Binary, SegmentCacheSize: 1,
		DirPerms: 0o700, FilePerms: 0o600,
	})
	if err != nil {
		return nil, err
	}
	g := &generation{number: number, salt: saltOf(opts.ID, number), opts: opts, log: log, tail: tailOf(log)}
	if g.file, err = vfs.Background.OpenReadWrite(segmentPath(dir, number)); err != nil {
		return nil, errors.Join(err, log.Close())
	}
	if err := g.prepare(sub, dir); err != nil {
		return nil, errors.Join(err, g.close())
	}
	return g, nil
}

// prepare reserves space and makes the file and its name durable.
func (g *generation) prepare(sub, dir string) error {
	// Room for the whole generation if there is that much; what counts is what room makes sure of.
	if err := g.file.Reserve(0, g.opts.GenerationBytes+zeroStretch); err != nil && !noSpace(err) {
		return err
	}
	if err := g.room(1); err != nil {
		return err
	}
	if err := g.opts.step("sync generation file"); err != nil {
		return err
	}
	if err := g.opts.sync(g.file.Sync); err != nil {
		return err
	}
	for _, d := range []string{sub, dir} {
		if err := g.opts.step("sync directory"); err != nil {
			return err
		}
		if err := g.opts.sync(func() error { return vfs.Background.SyncDir(d) }); err != nil {
			return err
		}
	}
	return nil
}

// noSpace tells the want of space from other failures.
func noSpace(err error) bool { return vfs.NoSpace(err) || errors.Is(err, ErrNoSpace) }

// room makes sure that an entry of n bytes can be written without needing space: the
// zeros that it will replace are there. Nothing of the entry has been written when it
// fails. ErrNoSpace: the disk is full; other errors are those of the file.
func (g *generation) room(n int) error {
	need, stretch := g.size+int64(n)+maxFrameHead, int64(zeroStretch)
	if g.opts.hooks.unsynced {
		stretch = 1 << 10
	}
	if g.filled-stretch/2 >= need {
		return nil
	}
	for target := need + stretch; g.filled < target; {
		piece := zeros[:min(int64(len(zeros)), target-g.filled)]
		if err := g.fill(piece); err != nil {
			if !noSpace(err) {
				return fmt.Errorf("fill ahead: %w", err)
			}
			if g.filled >= need {
				return nil
			}
			return fmt.Errorf("%w: %w", ErrNoSpace, err)
		}
		g.filled += int64(len(piece))
	}
	return nil
}

func (g *generation) fill(piece []byte) error {
	if err := g.opts.step("fill"); err != nil {
		return err
	}
	_, err := g.file.WriteAt(piece, g.filled)
	return err
}

// append writes an entry for which there is room. After an error the file is in an
// unknown state.
func (g *generation) append(entry []byte) error {
	if err := g.log.Write(g.index+1, entry); err != nil {
		return err
	}
	g.tail.forget()
	at := g.size
	g.index++
	g.size += int64(uvarintLen(uint64(len(entry))) + len(entry))
	if g.index == 2 {
		return g.check(at, entry)
	}
	return nil
}

// check makes sure that the first entry behind one that was forgotten is where recovery will look for it. A version of tidwall/wal that places entries by
// what it remembers would be found out here, before anybody is told that one is durable.
func (g *generation) check(at int64, entry []byte) error {
	want := append(binary.AppendUvarint(nil, uint64(len(entry))), entry...)
	got := make([]byte, len(want))
	if _, err := g.file.ReadAt(got, at); err != nil {
		return fmt.Errorf("read an entry back: %w", err)
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("an entry of %d bytes is not at %d, where it belongs", len(entry), at)
	}
	return nil
}

func uvarintLen(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

// trim gives back the space behind the entries.
func (g *generation) trim() error {
	if err := g.file.Truncate(g.size); err != nil {
		return err
	}
	g.filled = g.size
	return g.opts.sync(g.file.Sync)
}

// close closes both descriptors. If the last sync of tidwall/wal fails it keeps its own open, which
// cannot be helped; everything that counts was synced before.
func (g *generation) close() error {
	return errors.Join(g.log.Close(), g.file.Close())
}

// listGenerations returns the numbers of the generation directories, in order.
func listGenerations(dir string) ([]uint64, error) {
	infos, err := vfs.OS.List(dir)
	if err != nil {
		return nil, err
	}
	var numbers []uint64
	for _, info := range infos {
		n, err := strconv.ParseUint(info.Name(), 10, 64)
		if err != nil || n == 0 || filepath.Join(dir, info.Name()) != generationDir(dir, n) {
			continue
		}
		if err := checkDirectory(generationDir(dir, n)); err != nil {
			return nil, err
		}
		numbers = append(numbers, n)
	}
	return numbers, nil
}

// removeGeneration removes a generation that no longer counts.
func removeGeneration(dir string, number uint64, opts *WALOptions) error {
	for _, name := range []string{segmentPath(dir, number), generationDir(dir, number)} {
		if err := opts.step("remove"); err != nil {
			return err
		}
		if err := vfs.Background.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
