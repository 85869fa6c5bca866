// Package wreck judges a broker that was opened on a directory whose files are not as they were: it never panics; errors are typed; no record is altered; what was acknowledged is
// read, or covered by a typed error that names its range; the store is what it was; and the broker goes on without giving an offset out again.
//
// After a clean close there is no exception. After an unclean stop nothing proves the last group commit: it may be set aside, and that is reported.
package wreck

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"

	"github.com/braid-go/braid"
	"github.com/braid-go/braid/internal/damage"
)

// Sound is a directory before anything was done to it, and what it held.
type Sound struct {
	Content
	Files  damage.Files
	Closed bool // cleanly
	// Before is what the store held before the last entry of the commit log, which after an unclean stop nothing proves.
	Before Store
}

// Wreck is a directory in which some files are not as they were.
type Wreck struct {
	sound   *Sound
	fail    func(error)
	what    string // has been done to it
	changed []string
	single  bool // in one place only
}

// Damage says what becomes of the files. What is wrong with a broker that is opened on them is given to fail.
func (s *Sound) Damage(files damage.Files, what string, single bool, fail func(error)) *Wreck {
	w := &Wreck{sound: s, fail: fail, what: what, single: single}
	for _, name := range s.Files.Names() {
		if now, there := files[name]; !there || !bytes.Equal(now, s.Files[name]) {
			w.changed = append(w.changed, name)
		}
	}
	return w
}

// Changed returns the names of the files that are not as they were.
func (w *Wreck) Changed() []string { return w.changed }

func (w *Wreck) errorf(format string, args ...any) {
	w.fail(fmt.Errorf("%s (closed: %v): %w", w.what, w.sound.Closed, fmt.Errorf(format, args...)))
}

// open opens the damaged directory. An error must be a typed one, and then there is no broker.
func (w *Wreck) open(dir string, opts braid.Options) *braid.Broker {
	b, err := braid.Open(dir, opts)
	if err != nil && !typed(err) {
		w.errorf("open: error %v, want a typed one", err)
	}
	return b
}

func typed(err error) bool {
	return errors.Is(err, braid.ErrCorrupt) || errors.Is(err, braid.ErrMissingData) || errors.Is(err, braid.ErrVersion)
}

// ReadOnly opens the directory for reading and judges what it shows.
func (w *Wreck) ReadOnly(ctx context.Context, dir string) {
	if b := w.open(dir, braid.Options{ReadOnly: true}); b != nil {
		w.judge(ctx, b, true)
		w.close(b)
	}
}

func (w *Wreck) close(b *braid.Broker) {
	if err := b.Close(); err != nil {
		w.errorf("close: %v", err)
	}
}

// Writable opens the directory, judges what it shows, publishes, closes, and opens it again.
func (w *Wreck) Writable(ctx context.Context, dir string) {
	b := w.open(dir, braid.Options{})
	if b == nil {
		return
	}
	got, gaps := w.judge(ctx, b, false)
	for _, topic := range b.Topics() {
		for i := range 4 {
			rec := &braid.Record{Key: fmt.Appendf(nil, "key %d", i), Value: []byte("after the damage")}
			if err := topic.Publish(ctx, rec); err != nil {
				w.errorf("publish to %s: %v", topic.Name(), err)
				continue
			}
			place := At{rec.Topic, rec.Partition, rec.Offset}
			if was, taken := got.Records[place]; taken || covers(gaps, place) {
				w.errorf("%+v is given out again; it was %q", place, was)
			}
			rec.Time = rec.Time.Round(0)
			got.Records[place] = ""
		}
	}
	w.close(b)
	b, err := braid.Open(dir, braid.Options{})
	if err != nil {
		w.errorf("opened again: %v", err)
		return
	}
	defer w.close(b)
	for _, p := range b.OpenReport().Partitions {
		if p.Recovered {
			w.errorf("opened again, it recovers after a clean close: %+v", p)
		}
	}
	again, gapsAgain, err := Read(ctx, b)
	if err != nil || again.Store != got.Store || len(gapsAgain) > len(gaps) {
		w.errorf("opened again: %v; gaps were %v, are %v; %s", err, gaps, gapsAgain, cmp.Diff(string(got.Store), string(again.Store)))
	}
	for place, value := range got.Records {
		if now, there := again.Records[place]; !there || value != "" && now != value {
			w.errorf("opened again, %+v is %q, was %q", place, now, value)
		}
	}
}

func covers(gaps []braid.Gap, place At) bool {
	return slices.ContainsFunc(gaps, func(g braid.Gap) bool {
		return g.Topic == place.Topic && g.Partition == place.Partition && g.From <= place.Offset && place.Offset < g.Next
	})
}

// judge reads everything and compares it with what was acknowledged.
func (w *Wreck) judge(ctx context.Context, b *braid.Broker, readOnly bool) (Content, []braid.Gap) {
	got, gaps, err := Read(ctx, b)
	if err != nil {
		w.errorf("read: %v", err)
	}
	for _, g := range gaps {
		if !typed(g.Err) || g.Next <= g.From {
			w.errorf("gap %+v is not typed, or empty", g)
		}
	}
	for place, value := range got.Records {
		if was, there := w.sound.Records[place]; value != was {
			w.errorf("%+v is %q, was %q, %v", place, value, was, there)
		}
	}
	silent := 0
	for place := range w.sound.Records {
		if _, there := got.Records[place]; there || covers(gaps, place) {
			continue
		}
		if silent++; !w.mayEnd(b, place, readOnly) {
			w.errorf("%+v was acknowledged, and is neither there nor reported as lost; gaps: %v", place, gaps)
		}
	}
	report := b.OpenReport()
	if silent > 0 && !readOnly && len(report.Partitions)+len(report.Store.Torn) == 0 {
		w.errorf("%d records are set aside, and the report does not say so", silent)
	}
	w.judgeStore(got.Store)
	w.verify(ctx, b, gaps)
	return got, gaps
}

// mayEnd reports whether a partition may end in front of an acknowledged record: after an unclean stop, or without its manifest, nothing proves where it ended. Without its manifest nothing
// proves where it began either, if its first file is gone too.
func (w *Wreck) mayEnd(b *braid.Broker, place At, readOnly bool) bool {
	topic, err := b.Topic(place.Topic)
	if err != nil {
		return false
	}
	lostManifest := readOnly && !w.single && slices.Contains(w.changed, path.Join("partitions", fmt.Sprintf("%010d", place.Partition), "MANIFEST"))
	for _, p := range topic.Partitions() {
		if p.ID == place.Partition {
			return p.End <= place.Offset && (!w.sound.Closed || lostManifest) || place.Offset < p.Start && lostManifest && len(b.OpenReport().Partitions) > 0
		}
	}
	return false
}

// judgeStore checks configurations, layouts, positions and state: those there were; or, after an unclean stop, if the commit log was damaged, those before its last
// entry, wholly. Of several damages in it more may be lost.
func (w *Wreck) judgeStore(got Store) {
	inStore := slices.ContainsFunc(w.changed, func(name string) bool { return strings.HasPrefix(name, "checkpoint/0") })
	switch {
	case got == w.sound.Store:
	case w.sound.Closed || !inStore:
		w.errorf("the store is not what it was: %s", cmp.Diff(string(w.sound.Store), string(got)))
	case got != w.sound.Before && w.single:
		w.errorf("the store is neither what it was nor what it was before the last commit: %s", cmp.Diff(string(w.sound.Before), string(got)))
	}
}

// verify has Verify look at everything: where readers meet gaps it finds something too.
func (w *Wreck) verify(ctx context.Context, b *braid.Broker, gaps []braid.Gap) {
	report, err := b.Verify(ctx, braid.VerifyOptions{})
	if err != nil {
		w.errorf("verify: %v", err)
		return
	}
	problems := report.Problems()
	for _, problem := range problems {
		if !typed(problem) {
			w.errorf("verify reports %v, which is not typed", problem)
		}
	}
	if w.single && len(gaps) > 0 && len(problems) == 0 {
		w.errorf("readers meet %v, and verify finds nothing", gaps)
	}
}
