package log

import (
	"strings"

	"github.com/braid-go/braid/internal/vfs"
)

// sweep removes files that this package has begun and never put to use: segments without a frame,
// those that a recovery had prepared when it was cut short, segments that retention had already taken out of
// the manifest, indexes of no segment, half a manifest. A segment that is none of these holds records
// that the manifest does not know: then the manifest is not the last one, and that is corruption.
func (l *Log) sweep(report *Report) error {
	listed := map[string]bool{}
	for _, s := range l.segments {
		listed[s.name()] = true
		listed[indexName(s.name())] = true
	}
	entries, err := l.cfg.FS.List(l.cfg.Dir)
	if err != nil {
		return err
	}
	first := l.segments[0] // retention leaves what is before it: also one of the same base, whose frames a recovery has written anew
	var remove []string
	for _, e := range entries {
		name := e.Name()
		base, unique, isSegment := parseSegmentName(name)
		switch {
		case listed[name] || name == manifestName:
			continue
		case isSegment && (base > first.base || base == first.base && unique > first.unique):
			empty, err := l.holdsNoFrame(name)
			if err != nil {
				return err
			}
			if !empty {
				return &CorruptError{Dir: l.cfg.Dir, File: name, Len: e.Size(), From: base, Next: base,
					Reason: "a segment with records that the manifest does not know: the manifest is not the latest"}
			}
			remove = append(remove, name)
		case isSegment, strings.HasSuffix(name, indexSuffix), strings.HasSuffix(name, vfs.TempSuffix):
			remove = append(remove, name)
		}
	}
	for _, name := range remove {
		if err := l.cfg.FS.Remove(l.cfg.path(name)); err != nil {
			return err
		}
		report.Removed = append(report.Removed, name)
	}
	return nil
}

// holdsNoFrame reports whether there is none in a segment that the manifest does not list.
func (l *Log) holdsNoFrame(name string) (bool, error) {
	f, err := l.cfg.FS.Open(l.cfg.path(name))
	if err != nil {
		return false, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return false, err
	}
	_, _, found, err := l.scanner(f, size).find(segmentHeaderSize, 0)
	return !found, err
}
