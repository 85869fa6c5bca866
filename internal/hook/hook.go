// Package hook lets the tools of this module have a broker do now what it does by itself from time to time. Package braid sets the hooks when it is initialised.
package hook

// Retain applies the retention of a *braid.Topic once, and forgets its partitions that are drained.
var Retain func(topic any) error
