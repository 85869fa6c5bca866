package main

import (
	"bufio"
	"context"
	"errors"
	"io"
)

// input reads ahead from a reader that cannot be interrupted, such as standard input, on a goroutine of its own, so that
// its reader can be. The goroutine ends when the reader under it does, or with its next read after ctx has
// ended: one that waits in a read for ever stays until the process ends.
type input struct {
	ctx    context.Context
	idle   func() // called when a Read is going to wait
	chunks chan chunk
	free   chan []byte
	whole  []byte // the chunk being read
	rest   []byte // what is left of it
	err    error  // what comes behind it
}

type chunk struct {
	data []byte
	err  error
}

const (
	inputChunks    = 2
	inputChunkSize = 256 << 10
)

func newInput(ctx context.Context, r io.Reader, idle func()) *input {
	in := &input{ctx: ctx, idle: idle, chunks: make(chan chunk, inputChunks), free: make(chan []byte, inputChunks)}
	for range inputChunks {
		in.free <- make([]byte, inputChunkSize)
	}
	go in.readAhead(r)
	return in
}

// readAhead never waits to hand over a chunk: there is room for all that exist.
func (in *input) readAhead(r io.Reader) {
	for {
		select {
		case <-in.ctx.Done():
			return
		case buf := <-in.free:
			n, err := r.Read(buf)
			in.chunks <- chunk{buf[:n], err}
			if err != nil {
				return
			}
		}
	}
}

// Read implements io.Reader. After ctx has ended it returns ctx's error.
func (in *input) Read(p []byte) (int, error) {
	for len(in.rest) == 0 {
		if in.err != nil {
			return 0, in.err
		}
		if err := in.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, in.rest)
	in.rest = in.rest[n:]
	return n, nil
}

// next takes the next chunk.
func (in *input) next() error {
	if in.whole != nil {
		in.free <- in.whole[:cap(in.whole)]
		in.whole = nil
	}
	if len(in.chunks) == 0 {
		in.idle()
	}
	select {
	case <-in.ctx.Done():
		return in.ctx.Err()
	case c := <-in.chunks:
		in.whole, in.rest, in.err = c.data, c.data, c.err
		return nil
	}
}

// lines cuts an input into lines.
type lines struct {
	r     *bufio.Reader
	limit int // bytes of a line
	long  []byte
}

var errLongLine = errors.New("the line is too long")

// next returns the next line without its newline; it lives until the next call. A last line needs no newline, but
// what an interruption has cut off is not a line.
func (l *lines) next() ([]byte, error) {
	part, err := l.r.ReadSlice('\n')
	if err == nil {
		return part[:len(part)-1], nil
	}
	l.long = l.long[:0]
	for {
		if len(l.long)+len(part) > l.limit {
			return nil, errLongLine
		}
		l.long = append(l.long, part...)
		switch {
		case err == nil:
			return l.long[:len(l.long)-1], nil
		case err == io.EOF && len(l.long) > 0:
			return l.long, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
		part, err = l.r.ReadSlice('\n')
	}
}
