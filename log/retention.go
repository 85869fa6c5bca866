package log

import (
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

// Retain removes the oldest segments as far as the policy allows: never the active one, and none in front of one that stays. The manifest is
// switched first, so that a crash leaves files that the next open removes, never a
// manifest without its files. If the clock has jumped since the last call, age is not believed this
// time.
func (l *Log) Retain(policy Retention) ([]SegmentInfo, error) {
	l.gate.Lock()
	defer l.gate.Unlock()
	if l.readOnly {
		return nil, ErrReadOnly
	}
	segments, _, err := l.applied()
	if err == nil {
		err = l.Err()
	}
	if err != nil {
		return nil, err
	}
	n := l.expired(segments, policy)
	if n == 0 {
		return nil, nil
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

// expired counts the segments that may go.
func (l *Log) expired(segments []*segment, policy Retention) int {
	now := l.cfg.Now()
	byAge := l.age.steady(now) && policy.MaxAge > 0
	size := l.Size()
	n := 0
	for _, s := range segments[:len(segments)-1] {
		old := byAge && now.UnixNano()-s.lastAppend > int64(policy.MaxAge)
		large := policy.MaxBytes > 0 && size > policy.MaxBytes
		if !old && !large {
			break
		}
		size -= s.size
		n++
	}
	return n
}
