package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
)

func fdatasync(f *os.File) error {
	return os.NewSyscallError("fdatasync", syscall.Fdatasync(int(f.Fd())))
}

// fileSystems are those that are known by name: statfs(2).
var fileSystems = map[int64]string{
	0x01021994: "tmpfs", 0x858458f6: "ramfs", 0xef53: "ext4", 0x58465342: "xfs", 0x9123683e: "btrfs", 0x2fc12fc1: "zfs",
	0x794c7630: "overlayfs", 0x6969: "nfs",
}

// fileSystem names the file system that a directory is on, "" if it has no name here.
func fileSystem(dir string) string {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return ""
	}
	return fileSystems[int64(fs.Type)]
}

// inMemory reports whether a directory's files are in memory, where an fsync costs nothing.
func inMemory(dir string) bool {
	name := fileSystem(dir)
	return name == "tmpfs" || name == "ramfs"
}

// peakMemory returns the most bytes that have been resident in this process.
func peakMemory() (int64, error) {
	line, err := lineOf("/proc/self/status", "VmHWM:")
	if err != nil {
		return 0, err
	}
	kib := int64(0)
	if _, err := fmt.Sscanf(line, "%d kB", &kib); err != nil {
		return 0, fmt.Errorf("/proc/self/status: %q: %w", line, err)
	}
	return kib << 10, nil
}

// processor names the machine's processors, and tells whether they are virtual.
func processor() string {
	name, err := lineOf("/proc/cpuinfo", "model name")
	if err != nil {
		return ""
	}
	name = strings.Trim(name, " \t:")
	if flags, err := lineOf("/proc/cpuinfo", "flags"); err == nil && strings.Contains(flags+" ", " hypervisor ") {
		name += ", virtual"
	}
	return name
}

// lineOf returns what follows a prefix in the first line that begins with it.
func lineOf(file, prefix string) (_ string, err error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), prefix); ok {
			return strings.TrimSpace(rest), nil
		}
	}
	return "", fmt.Errorf("%s has no line %q", file, prefix)
}
