package braid

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/gofrs/flock"

	"github.com/braid-go/braid/internal/vfs"
)

// The files of a data directory. FORMAT is text, so that a person can read it:
//
//	braid 1
//	id 6f1c...             the broker's id, which the store must share
//	state ready            or "creating" until the store has been made
//	sum 0123456789abcdef   xxhash64 of the lines above
//
// It is written twice when a directory is first opened: "creating" before
// anything else is made, "ready" after all of it is durable. So a directory without FORMAT
// must be empty, one whose FORMAT says creating has never held a record and is made
// anew, and one that says ready but has no store has lost it.
const (
	lockName       = "LOCK"
	formatName     = "FORMAT"
	storeName      = "checkpoint"
	partitionsName = "partitions"

	formatVersion = 1

	// A reader that probes whether a writer is alive holds the lock for an instant;
	// a writer that meets it tries again for this long before it believes it.
	lockPatience = 250 * time.Millisecond
	lockRetry    = 5 * time.Millisecond
)

// format is what FORMAT holds.
type format struct {
	id    [16]byte
	ready bool
}

func newFormat() format {
	var f format
	rand.Read(f.id[:]) // never fails: crypto/rand
	return f
}

func (f format) encode() []byte {
	state := "creating"
	if f.ready {
		state = "ready"
	}
	s := fmt.Sprintf("braid %d\nid %x\nstate %s\n", formatVersion, f.id, state)
	return fmt.Appendf(nil, "%ssum %016x\n", s, xxhash.Sum64String(s))
}

func decodeFormat(path string, b []byte) (format, error) {
	var f format
	corrupt := func(reason string) error { return fmt.Errorf("%w: %s: %s", ErrCorrupt, path, reason) }
	lines := strings.Split(string(b), "\n")
	number, ok := strings.CutPrefix(lines[0], "braid ")
	version, err := strconv.Atoi(number)
	if !ok || err != nil {
		return f, corrupt("not a FORMAT file")
	}
	if version > formatVersion {
		return f, fmt.Errorf("%w: %s says %d, this is %d", ErrVersion, path, version, formatVersion)
	}
	if len(lines) != 5 { // the last is empty
		return f, corrupt("a line is missing")
	}
	id, err := hex.DecodeString(strings.TrimPrefix(lines[1], "id "))
	if err != nil || copy(f.id[:], id) != len(f.id) {
		return f, corrupt("bad id")
	}
	f.ready = lines[2] == "state ready"
	if string(f.encode()) != string(b) {
		return f, corrupt("checksum mismatch")
	}
	return f, nil
}

// readFormat reads FORMAT; the error is fs.ErrNotExist if there is none.
func readFormat(dir string) (format, error) {
	path := filepath.Join(dir, formatName)
	b, err := vfs.ReadFile(vfs.OS, path, 4096)
	if errors.Is(err, vfs.ErrTooLarge) || errors.Is(err, vfs.ErrNotRegular) {
		return format{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if err != nil {
		return format{}, err
	}
	return decodeFormat(path, b)
}

// prepareDir returns the format of a locked directory, beginning a new one if it is empty.
func prepareDir(dir string) (format, error) {
	f, err := readFormat(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	entries, err := vfs.OS.List(dir)
	if err != nil {
		return f, err
	}
	for _, e := range entries {
		if name := e.Name(); name != lockName && name != formatName+vfs.TempSuffix { // a creation that was cut
			return f, fmt.Errorf("%w: %s holds %s but no %s: not a data directory, or one that lost it",
				ErrMissingData, dir, e.Name(), formatName)
		}
	}
	f = newFormat()
	return f, writeFormat(dir, f)
}

func writeFormat(dir string, f format) error {
	return vfs.WriteFileAtomic(vfs.OS, filepath.Join(dir, formatName), f.encode())
}

// makeDir makes the data directory and whatever is missing above it.
func makeDir(dir string) error {
	info, err := os.Stat(dir)
	if err == nil {
		if !info.IsDir() {
			return &fs.PathError{Op: "open", Path: dir, Err: errNotDirectory}
		}
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return vfs.OS.SyncDir(filepath.Dir(dir))
}

// target is where a data directory is that may be a link: below it none is followed.
func target(dir string) (string, error) {
	clean := filepath.Clean(dir)
	if info, err := os.Lstat(clean); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		return dir, nil // what is wrong with it shows soon
	}
	return filepath.EvalSymlinks(clean)
}

// lockDir takes the directory's lock, or says ErrLocked.
func lockDir(dir string) (*flock.Flock, error) {
	path := filepath.Join(dir, lockName)
	if err := checkLock(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l := flock.New(path, flock.SetPermissions(0o600))
	ctx, cancel := context.WithTimeout(context.Background(), lockPatience)
	defer cancel()
	ok, err := l.TryLockContext(ctx, lockRetry)
	if ok {
		return l, nil
	}
	l.Close()
	if err == nil || errors.Is(err, context.DeadlineExceeded) {
		return nil, fmt.Errorf("%w: %s", ErrLocked, dir)
	}
	return nil, err
}

// checkLock refuses a lock that is no file: whoever follows a link locks something else.
func checkLock(path string) error {
	info, err := os.Lstat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%w: %w", ErrCorrupt, &fs.PathError{Op: "lock", Path: path, Err: vfs.ErrNotRegular})
	}
	return err
}

// checkDirs refuses a link in the place of one of the directories in a data directory: it would be followed by whatever names something
// below it. (The data directory itself may be one: that is its owner's choice.)
func (b *Broker) checkDirs() error {
	for _, name := range []string{storeName, partitionsName} {
		path := filepath.Join(b.dir, name)
		for _, stat := range []func(string) (fs.FileInfo, error){vfs.OS.Stat, b.opts.fs.Stat} {
			if info, err := stat(path); err == nil && !info.IsDir() {
				return fmt.Errorf("%w: %w", ErrCorrupt, &fs.PathError{Op: "open", Path: path, Err: errNotDirectory})
			}
		}
	}
	return nil
}

var errNotDirectory = errors.New("not a directory")

// writerLive reports whether a broker has the directory open for writing. It asks by taking the
// lock shared for an instant; the file is never made.
func writerLive(dir string) (bool, error) {
	path := filepath.Join(dir, lockName)
	if err := checkLock(path); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	l := flock.New(path, flock.SetFlag(os.O_RDONLY))
	defer l.Close()
	free, err := l.TryRLock()
	return !free, err
}
