// Package space tests Braid where space ends, with what the system itself does then: in a process whose files may not become larger than a limit, so that
// write(2) writes less than it was asked to, and on a file system that is full. Package vfs can make as if; here nothing is made up.
package space
