package main

import (
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// bar is a progress bar on standard error, if that is a terminal. Its nil pointer shows nothing.
type bar struct {
	p     *progressbar.ProgressBar
	bytes bool // it counts bytes; otherwise records
}

// newBar makes a bar over total bytes or, where total is -1, over an unknown number of records.
func newBar(e *env, what string, total int64) *bar {
	f, ok := e.stderr.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	b := &bar{bytes: total >= 0}
	options := []progressbar.Option{
		progressbar.OptionSetWriter(f), progressbar.OptionSetDescription(what), progressbar.OptionThrottle(100 * time.Millisecond),
		progressbar.OptionClearOnFinish(), progressbar.OptionShowBytes(b.bytes),
	}
	if !b.bytes {
		options = append(options, progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetItsString("records"))
	}
	b.p = progressbar.NewOptions64(total, options...)
	return b
}

// inputBytes is the size of standard input if it is a file, else -1.
func inputBytes(e *env) int64 {
	if f, ok := e.stdin.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			return info.Size()
		}
	}
	return -1
}

// add counts records and their bytes. A bar that cannot be drawn is not worth an error.
func (b *bar) add(records int, bytes int64) {
	switch {
	case b == nil:
	case b.bytes:
		_ = b.p.Add64(bytes)
	default:
		_ = b.p.Add(records)
	}
}

// set says how many bytes of how many are done.
func (b *bar) set(done, total int64) {
	if b != nil {
		b.p.ChangeMax64(max(total, 1))
		_ = b.p.Set64(done)
	}
}

// finish takes the bar away.
func (b *bar) finish() {
	if b != nil {
		_ = b.p.Finish()
		_ = b.p.Clear()
	}
}
