package fuzz

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/braid-go/braid"
	"github.com/braid-go/braid/internal/damage"
)

var long = flag.Bool("long", false, "enumerate every case of damage, not a part of them; takes many minutes")

// damaged is a corpus in which some files are not as they were.
type damaged struct {
	*corpus
	t       *testing.T
	what    string // has been done to it
	changed []string
	single  bool // in one place only
}

// damage says what becomes of the corpus's files.
func (c *corpus) damage(t *testing.T, files damage.Files, what string, single bool) *damaged {
	d := &damaged{corpus: c, t: t, what: what, single: single}
	for _, name := range c.files.Names() {
		if now, there := files[name]; !there || !bytes.Equal(now, c.files[name]) {
			d.changed = append(d.changed, name)
		}
	}
	return d
}

func (d *damaged) errorf(format string, args ...any) {
	d.t.Helper()
	d.t.Errorf("%s (closed: %v): %s", d.what, d.closed, fmt.Sprintf(format, args...))
}

// open opens the damaged directory. An error must be a typed one, and then there is no broker.
func (d *damaged) open(dir string, opts braid.Options) *braid.Broker {
	d.t.Helper()
	b, err := braid.Open(dir, opts)
	if err != nil && !typed(err) {
		d.errorf("open: error %v, want a typed one", err)
	}
	return b
}

func typed(err error) bool {
	return errors.Is(err, braid.ErrCorrupt) || errors.Is(err, braid.ErrMissingData) || errors.Is(err, braid.ErrVersion)
}

// readOnly opens the directory for reading and judges what it shows.
func (d *damaged) readOnly(dir string) {
	d.t.Helper()
	if b := d.open(dir, braid.Options{ReadOnly: true}); b != nil {
		d.judge(b, true)
		d.close(b)
	}
}

func (d *damaged) close(b *braid.Broker) {
	d.t.Helper()
	if err := b.Close(); err != nil {
		d.errorf("close: %v", err)
	}
}

// writable opens the directory, judges what it shows, publishes, closes, and opens it again.
func (d *damaged) writable(dir string) {
	d.t.Helper()
	b := d.open(dir, braid.Options{})
	if b == nil {
		return
	}
	got, gaps := d.judge(b, false)
	for _, topic := range b.Topics() {
		for i := range 4 {
			rec := &braid.Record{Key: fmt.Appendf(nil, "key %d", i), Value: []byte("after the damage")}
			if err := topic.Publish(d.t.Context(), rec); err != nil {
				d.errorf("publish to %s: %v", topic.Name(), err)
				continue
			}
			place := at{rec.Topic, rec.Partition, rec.Offset}
			if was, taken := got.records[place]; taken || covers(gaps, place) {
				d.errorf("%+v is given out again; it was %q", place, was)
			}
			rec.Time = rec.Time.Round(0)
			got.records[place] = ""
		}
	}
	d.close(b)
	b, err := braid.Open(dir, braid.Options{})
	if err != nil {
		d.errorf("opened again: %v", err)
		return
	}
	defer d.close(b)
	for _, p := range b.OpenReport().Partitions {
		if p.Recovered {
			d.errorf("opened again, it recovers after a clean close: %+v", p)
		}
	}
	again, gapsAgain, err := readContent(d.t, b)
	if err != nil || again.storeContent != got.storeContent || len(gapsAgain) > len(gaps) {
		d.errorf("opened again: %v; gaps were %v, are %v; %s", err, gaps, gapsAgain, cmp.Diff(string(got.storeContent), string(again.storeContent)))
	}
	for place, value := range got.records {
		if now, there := again.records[place]; !there || value != "" && now != value {
			d.errorf("opened again, %+v is %q, was %q", place, now, value)
		}
	}
}

func covers(gaps []braid.Gap, place at) bool {
	return slices.ContainsFunc(gaps, func(g braid.Gap) bool {
		return g.Topic == place.topic && g.Partition == place.partition && g.From <= place.offset && place.offset < g.Next
	})
}

// judge reads everything and compares it with what was acknowledged.
func (d *damaged) judge(b *braid.Broker, readOnly bool) (content, []braid.Gap) {
	d.t.Helper()
	got, gaps, err := readContent(d.t, b)
	if err != nil {
		d.errorf("read: %v", err)
	}
	for _, g := range gaps {
		if !typed(g.Err) || g.Next <= g.From {
			d.errorf("gap %+v is not typed, or empty", g)
		}
	}
	for place, value := range got.records {
		if was, there := d.acked.records[place]; value != was {
			d.errorf("%+v is %q, was %q, %v", place, value, was, there)
		}
	}
	silent := 0
	for place := range d.acked.records {
		if _, there := got.records[place]; there || covers(gaps, place) {
			continue
		}
		if silent++; !d.mayEnd(b, place, readOnly) {
			d.errorf("%+v was acknowledged, and is neither there nor reported as lost; gaps: %v", place, gaps)
		}
	}
	report := b.OpenReport()
	if silent > 0 && !readOnly && len(report.Partitions)+len(report.Store.Torn) == 0 {
		d.errorf("%d records are set aside, and the report does not say so", silent)
	}
	d.judgeStore(got.storeContent)
	d.verify(b, gaps)
	return got, gaps
}

// mayEnd reports whether a partition may end in front of an acknowledged record: after an unclean stop, or without its manifest, nothing proves where it ended. Without its manifest nothing
// proves where it began either, if its first file is gone too.
func (d *damaged) mayEnd(b *braid.Broker, place at, readOnly bool) bool {
	topic, err := b.Topic(place.topic)
	if err != nil {
		return false
	}
	lostManifest := readOnly && !d.single && slices.Contains(d.changed, path.Join("partitions", fmt.Sprintf("%010d", place.partition), "MANIFEST"))
	for _, p := range topic.Partitions() {
		if p.ID == place.partition {
			return p.End <= place.offset && (!d.closed || lostManifest) || place.offset < p.Start && lostManifest && len(b.OpenReport().Partitions) > 0
		}
	}
	return false
}

// judgeStore checks configurations, layouts, positions and state: those there were; or, after an unclean stop, if the commit log was damaged, those before its last
// entry, wholly. Of several damages in it more may be lost.
func (d *damaged) judgeStore(got storeContent) {
	d.t.Helper()
	inStore := slices.ContainsFunc(d.changed, func(name string) bool { return strings.HasPrefix(name, "checkpoint/0") })
	switch {
	case got == d.acked.storeContent:
	case d.closed || !inStore:
		d.errorf("the store is not what it was: %s", cmp.Diff(string(d.acked.storeContent), string(got)))
	case got != d.before && d.single:
		d.errorf("the store is neither what it was nor what it was before the last commit: %s", cmp.Diff(string(d.before), string(got)))
	}
}

// verify has Verify look at everything: where readers meet gaps it finds something too.
func (d *damaged) verify(b *braid.Broker, gaps []braid.Gap) {
	d.t.Helper()
	report, err := b.Verify(d.t.Context(), braid.VerifyOptions{})
	if err != nil {
		d.errorf("verify: %v", err)
		return
	}
	problems := report.Problems()
	for _, problem := range problems {
		if !typed(problem) {
			d.errorf("verify reports %v, which is not typed", problem)
		}
	}
	if d.single && len(gaps) > 0 && len(problems) == 0 {
		d.errorf("readers meet %v, and verify finds nothing", gaps)
	}
}

// A data directory with one of everything, every bit of it flipped one at a time.
func TestEveryFlippedBitOfADirectoryIsSurvived(t *testing.T) {
	for _, c := range corpora(t) {
		t.Run(fmt.Sprintf("closed=%v", c.closed), func(t *testing.T) {
			dir := filepath.Join(scratch(t), "data")
			c.writeFiles(t, dir, c.files)
			reading, writing, bits := 0, 0, 0
			step, every := damage.Step(*long, 71), damage.Step(*long, 307)
			if *long {
				every = 7 // a writable opening takes ten times as long
			}
			for _, name := range c.files.Names() {
				file := filepath.Join(dir, name)
				for bit := range 8 * len(c.files[name]) {
					bits++
					if bits%step != 0 && bits%every != 0 {
						continue
					}
					files := c.files.With(name, damage.Flip(c.files[name], bit))
					d := c.damage(t, files, fmt.Sprintf("bit %d of byte %d of %s flipped", bit%8, bit/8, name), true)
					if bits%step == 0 {
						overwrite(t, file, files[name])
						d.readOnly(dir)
						overwrite(t, file, c.files[name])
						reading++
					}
					if bits%every == 0 {
						c.writeFiles(t, dir+"-written", files)
						d.writable(dir + "-written")
						writing++
					}
				}
			}
			t.Logf("bits flipped: %d for reading, %d for writing, of %d", reading, writing, bits)
		})
	}
}

func overwrite(t *testing.T, file string, content []byte) {
	t.Helper()
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Every file of it is gone, emptied, cut in its middle, cut by a byte, and replaced with each other file of its kind.
func TestFilesOfADirectoryGoneCutOrMixedUpAreReported(t *testing.T) {
	for _, c := range corpora(t) {
		dir := filepath.Join(scratch(t), "data")
		cases := 0
		try := func(files damage.Files, what string) {
			d := c.damage(t, files, what, true)
			if len(d.changed) == 0 {
				return
			}
			c.writeFiles(t, dir, files)
			d.readOnly(dir)
			d.writable(dir)
			cases++
		}
		for i, name := range c.files.Names() {
			whole := c.files[name]
			try(c.files.Without(name), name+" gone")
			try(c.files.With(name, nil), name+" emptied")
			if len(whole) > 0 {
				try(c.files.With(name, whole[:len(whole)/2]), name+" cut in half")
				try(c.files.With(name, whole[:len(whole)-1]), name+" cut by a byte")
			}
			for j, other := range c.files.Names() {
				if path.Base(name) == path.Base(other) || path.Ext(name) == path.Ext(other) && (*long || (i+j)%5 == 0) {
					try(c.files.With(name, c.files[other]), name+" replaced with "+other)
				}
			}
		}
		t.Logf("files damaged: %d", cases)
	}
}

// Writes to the files of a directory that was left by a kill, torn: the commit log and the segments cut at every byte, or a range of them zeros or garbage. What the commit log has kept of
// the segments is there whatever has become of them.
func TestEveryTearOfADirectoryIsSurvived(t *testing.T) {
	c := corpora(t)[1]
	dir := filepath.Join(scratch(t), "data")
	c.writeFiles(t, dir, c.files)
	step, take := damage.Step(false, 191), 23
	if *long {
		step, take = 401, 1 // every cut, and ranges of every length
	}
	cases, written, n := 0, 0, 0
	for _, name := range c.files.Names() {
		if !strings.HasPrefix(name, "checkpoint/0") && !strings.HasSuffix(name, ".seg") {
			continue
		}
		whole, file := c.files[name], filepath.Join(dir, name)
		for tear := range damage.Tears(0, len(whole), step, "zeros", "garbage") {
			if n++; n%take != 0 {
				continue
			}
			files := c.files.With(name, tear.Apply(whole, nil))
			d := c.damage(t, files, fmt.Sprintf("%s: %v", name, tear), true)
			if len(d.changed) == 0 {
				continue
			}
			overwrite(t, file, files[name])
			d.readOnly(dir)
			overwrite(t, file, whole)
			if cases++; cases%17 == 0 {
				c.writeFiles(t, dir+"-written", files)
				d.writable(dir + "-written")
				written++
			}
		}
	}
	t.Logf("torn cases: %d for reading, %d of them for writing too", cases, written)
}
