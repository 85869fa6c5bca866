// Package hook lets the tools of this module do what package braid offers to its own tests only. Package braid sets the hooks when it is initialised.
package hook

import "github.com/braid-go/braid/internal/vfs"

// Retain applies the retention of a *braid.Topic once, and forgets its partitions that are drained.
var Retain func(topic any) error

// FS has a broker that is opened with a *braid.Options write its partitions through another file system than the system's. The store stays where it is.
var FS func(options any, fs vfs.FS)
