package log

import (
	"errors"
	"slices"
	"time"
)

// ageGuard tells a clock that has been set from time that has passed: it compares how far the wall
// clock and the monotonic clock have moved since it was asked last.
type ageGuard struct {
	wall time.Time // without monotonic reading
	mono time.Time
}

// clockTolerance is how far the two clocks may drift apart between two rounds of retention
// before removal by age is put off: less than any useful age, more than clocks are slewed.
const clockTolerance = 10 * time.Minute

// steady reports whether the wall clock has moved as the monotonic one has. The first time there is nothing to
// compare with, and the clock is believed.
func (g *ageGuard) steady(now time.Time) bool {
	mono := time.Now()
	wall := now.Round(0)
	defer func() { g.wall, g.mono = wall, mono }()
	if g.mono.IsZero() {
		return true
	}
	drift := wall.Sub(g.wall) - mono.Sub(g.mono)
	return drift.Abs() <= clockTolerance
}

// Retain removes the oldest segments as far as the policy allows: not the active one, unless the log
// is finished, and none in front of one that stays. The manifest is switched first, so that a crash
// leaves files that the next open removes, never a manifest without its files. If the clock has
// jumped since the last call, age is not believed this time.
func (l *Log) Retain(policy Retention) ([]SegmentInfo, error) {
	l.gate.Lock()
	defer l.gate.Unlock()
	n, all, err := l.expired(policy)
	if err != nil || n == 0 {
		return nil, err
	}
	if all {
		if err := l.rollHeld(l.next.Load()); err != nil {
			return nil, wrap(err, "retention: begin an empty segment")
		}
	}
	return l.removeOldest(n)
}

// removeOldest removes the n oldest segments. The caller holds the gate.
func (l *Log) removeOldest(n int) ([]SegmentInfo, error) {
	segments, _, err := l.applied()
	if err != nil {
		return nil, err
	}
	infos := l.Segments()[:n]
	rest := slices.Clone(segments[n:])
	if err := l.writeManifest(rest); err != nil {
		return nil, err
	}
	l.mu.Lock()
	l.segments = rest
	l.start.Store(rest[0].base)
	for _, s := range segments[:n] {
		l.bytes.Add(-s.size)
	}
	l.mu.Unlock()
	l.listeners.notify()
	for _, s := range segments[:n] {
		if err := l.cfg.FS.Remove(l.cfg.path(s.name())); err != nil {
			return infos, wrap(err, "remove an expired segment")
		}
		if s.indexSum != 0 {
			_ = l.cfg.FS.Remove(l.cfg.path(indexName(s.name()))) // swept at the next open otherwise
		}
	}
	return infos, wrap(l.cfg.FS.SyncDir(l.cfg.Dir), "sync directory")
}

// expired counts the segments that may go. all: the active one is among them. The caller holds the gate.
func (l *Log) expired(policy Retention) (n int, all bool, err error) {
	if l.readOnly {
		return 0, false, ErrReadOnly
	}
	_, _, err = l.applied()
	if err = errors.Join(err, l.Err()); err != nil {
		return 0, false, err
	}
	now := l.cfg.Now()
	byAge := l.age.steady(now) && policy.MaxAge > 0
	size := l.Size()
	for _, s := range l.Segments() {
		if !s.Sealed && (!policy.Finished || s.Base == s.End) {
			break
		}
		old := byAge && now.UnixNano()-s.LastAppend > int64(policy.MaxAge)
		large := policy.MaxBytes > 0 && size > policy.MaxBytes
		if !old && !large {
			break
		}
		size -= s.Bytes
		n, all = n+1, !s.Sealed
	}
	return n, all, nil
}
