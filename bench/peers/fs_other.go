//go:build !linux

package main

import (
	"os"
	"runtime"
)

func fdatasync(f *os.File) error { return f.Sync() }

// What follows is not known here.
func fileSystem(string) string { return "" }
func inMemory(string) bool     { return false }
func processor() string        { return "" }

// peakMemory returns what the Go runtime has from the operating system.
func peakMemory() (int64, error) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.Sys), nil
}
