package log

import (
	"strings"

	"github.com/braid-go/braid/internal/vfs"
)

// sweep removes files that this package has begun and never put to use: segments without a frame,
// copies of frames by a recovery that was cut short, segments that retention had already taken out of
// the manifest, indexes of no segment, half a manifest. A segment that is none of these holds records
// that the manifest does not know: then the manifest is not the last one, and that is corruption.
func (l *Log) sweep(m *manifest, r *found, report *Report) error {
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
			ours, err := l.unused(name, r)
			if err != nil {
				return err
			}
			if !ours {
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

// unused reports whether a segment that the manifest does not list holds nothing but frames that the
// active segment holds too.
func (l *Log) unused(name string, r *found) (bool, error) {
	have := map[int64]uint32{}
	for _, f := range r.frames {
		have[f.Base] = f.CRC
	}
	f, err := l.cfg.FS.Open(l.cfg.path(name))
	if err != nil {
		return false, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return false, err
	}
	sc := l.scanner(f, size)
	for pos := int64(segmentHeaderSize); ; {
		at, h, ok, err := sc.find(pos, 0)
		if err != nil || !ok {
			return err == nil, err
		}
		if crc, same := have[h.Base]; !same || crc != h.CRC {
			return false, nil
		}
		pos = at + int64(h.Size())
	}
}
