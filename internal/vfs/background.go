package vfs

import "runtime"

// Background is OS for work in the background that takes many system calls of milliseconds each, and that holds no lock meanwhile: goroutines that are ready have their turn
// before each of them.
//
// A system call keeps the processor (in the runtime's sense) of the goroutine that makes it, and with it the goroutines that are queued there to be run, until the
// runtime notices: it looks every 20 µs to 10 ms, the more seldom the less there was to be seen. On two processors the longest waits of publishers were for files that were made and
// removed in the background (BenchmarkWaits). Under a lock that publishers may want a turn for everybody else would be the longer wait.
var Background FS = considerate{OS}

type considerate struct{ FS }

type considerateFile struct{ File }

func (c considerate) Create(name string) (File, error) { return wrapped(c.FS.Create(name)) }

func (c considerate) OpenReadWrite(name string) (File, error) {
	return wrapped(c.FS.OpenReadWrite(name))
}

func wrapped(f File, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return considerateFile{f}, nil
}

func (c considerate) Remove(name string) error {
	runtime.Gosched()
	return c.FS.Remove(name)
}

func (c considerate) SyncDir(name string) error {
	runtime.Gosched()
	return c.FS.SyncDir(name)
}

func (f considerateFile) Sync() error {
	runtime.Gosched()
	return f.File.Sync()
}
