//go:build !linux

package main

import "os"

func fdatasync(f *os.File) error { return f.Sync() }

// inMemory is not known here.
func inMemory(string) bool { return false }
