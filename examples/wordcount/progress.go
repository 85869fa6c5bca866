package main

import (
	"fmt"
	"io"
	"time"
)

// progress tells people how far the work is.
type progress struct {
	w      io.Writer
	always bool      // else about once a second
	told   time.Time // the last time
}

func (p *progress) step(format string, args ...any) {
	if now := time.Now(); p.always || now.Sub(p.told) >= time.Second {
		p.told = now
		fmt.Fprintf(p.w, format+"\n", args...)
	}
}
