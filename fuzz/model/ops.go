package model

import (
	"context"
	"errors"
	"fmt"

	"github.com/braid-go/braid"
)

// ops are the kinds of command, and how often they come.
var ops []op

func init() { // not where it is declared: what a command does leads to it
	ops = []op{
		{name: "publish", weight: 16, about: aboutTopic, do: publish},
		{name: "publish badly", weight: 2, about: aboutTopic, do: publishBadly},
		{name: "poll", weight: 30, about: aboutMember, can: joined, do: poll},
		{name: "commit", weight: 18, about: aboutMember, can: joined, do: commit},
		{name: "commit of nobody's", weight: 1, about: aboutMember, can: joined, do: commitForeign},
		{name: "rewind", weight: 3, about: aboutMember, can: joined, do: rewind},
		{name: "seek", weight: 4, about: aboutMember, can: joined, do: seek},
		{name: "join", weight: 16, about: aboutMember, can: absent, then: joins, do: join},
		{name: "leave", weight: 3, about: aboutMember, can: joined, then: leaves, do: leave},
		{name: "drain", weight: 2, about: aboutMember, can: joined, do: drain},
		{name: "reset", weight: 4, about: aboutMember, do: reset},
		{name: "transaction", weight: 8, about: aboutMember, do: transact},
		{name: "burst", weight: 4, about: aboutTopic, do: burst},
		{name: "burst that ends in a crash", weight: 3, about: aboutTopic, then: opens, do: burstAndCrash},
		{name: "reconfigure", weight: 2, about: aboutTopic, do: reconfigure},
		{name: "kill", weight: 1, then: opens, do: kill},
		{name: "power cut", weight: 1, then: opens, do: cutPower},
		{name: "split", weight: 4, about: aboutTopic, do: split},
		{name: "merge", weight: 4, about: aboutTopic, do: merge},
		{name: "create topic", weight: 3, can: isNot, then: creates, do: createTopic},
		{name: "delete topic", weight: 1, can: is, then: deletes, do: deleteTopic},
		{name: "retention", weight: 2, can: is, do: retain},
		{name: "reopen", weight: 2, then: opens, do: reopen},
	}
}

// finish is what each sequence ends with: every group reads to the end, and everything is there when the broker is opened again.
var finish = op{name: "finish", then: opens, do: finishAll}

func joined(s state, c command) bool { return s.members[c.slot] }
func absent(s state, c command) bool { return !s.members[c.slot] }
func is(s state, _ command) bool     { return s.passing }
func isNot(s state, _ command) bool  { return !s.passing }

func joins(s state, c command) state {
	s.members[c.slot] = true
	return s
}

func leaves(s state, c command) state {
	s.members[c.slot] = false
	return s
}

func creates(s state, _ command) state {
	s.passing = true
	return s
}

func deletes(s state, _ command) state {
	s.passing = false
	for i := range slots {
		s.members[i] = s.members[i] && slots[i].topic != passing
	}
	return s
}

// opens: nobody is a member of a broker just opened.
func opens(s state, _ command) state {
	s.members = [len(slots)]bool{}
	return s
}

// publish publishes a batch.
func publish(w *world, c command) error {
	t, err := w.handle(c.topic())
	if err != nil {
		return err
	}
	rng := c.random()
	var recs []*braid.Record
	for range c.n {
		size := rng.IntN(60)
		if rng.IntN(6) == 0 {
			size = rng.IntN(30_000) // so that files end
		}
		recs = append(recs, w.record(rng, size))
	}
	if rng.IntN(3) > 0 {
		err = t.Publish(context.Background(), recs...)
	} else {
		err = publishAsync(t, recs)
	}
	if err != nil {
		return err
	}
	return w.published(w.topics[c.topic()], recs)
}

// publishAsync publishes without waiting, and then waits.
func publishAsync(t *braid.Topic, recs []*braid.Record) error {
	errs := make(chan error, len(recs))
	if err := t.PublishAsync(context.Background(), func(_ *braid.Record, err error) { errs <- err }, recs...); err != nil {
		return err
	}
	if err := t.Flush(context.Background()); err != nil {
		return err
	}
	if len(errs) != len(recs) {
		return fmt.Errorf("%d callbacks for %d records, after Flush", len(errs), len(recs))
	}
	for range recs {
		if err := <-errs; err != nil {
			return err
		}
	}
	return nil
}

// published adds records that nobody else published meanwhile, in their order.
func (w *world) published(t *topic, recs []*braid.Record) error {
	for _, rec := range recs {
		w.note("  %q of key %q is at %d of partition %d", head(string(rec.Value)), rec.Key, rec.Offset, rec.Partition)
		if id, offset := t.last(string(rec.Key)); rec.Key != nil && (rec.Partition < id || rec.Partition == id && rec.Offset <= offset) {
			return fmt.Errorf("%q of key %q is at %d of partition %d, behind one at %d of %d", head(string(rec.Value)), rec.Key,
				rec.Offset, rec.Partition, offset, id)
		}
		if err := t.store(rec); err != nil {
			return err
		}
		if rec.Ack == braid.AckNone || rec.Topic != t.name {
			return fmt.Errorf("a published record has Ack %v and topic %q", rec.Ack, rec.Topic)
		}
	}
	return nil
}

// publishBadly publishes a batch with a record that is refused, and with it all of them.
func publishBadly(w *world, c command) error {
	t, err := w.handle(c.topic())
	if err != nil {
		return err
	}
	rng := c.random()
	var recs []*braid.Record
	for range c.n {
		recs = append(recs, w.record(rng, 10))
	}
	bad, kind := recs[rng.IntN(len(recs))], braid.ErrInvalidRecord
	switch rng.IntN(3) {
	case 0:
		bad.Key = []byte{}
	case 1:
		bad.Value = nil
	case 2:
		bad.Value, kind = make([]byte, 1<<20+1), braid.ErrRecordTooLarge
	}
	var typed *braid.RecordError
	if err = t.Publish(context.Background(), recs...); !errors.As(err, &typed) {
		return fmt.Errorf("a bad record: error %v, want a RecordError", err)
	}
	return expect("a bad record", err, kind)
}

// createTopic makes the topic that passes.
func createTopic(w *world, c command) error {
	config := braid.TopicConfig{Partitions: 1 + c.n%3, SegmentBytes: 64 << 10, RetentionBytes: 150_000}
	if c.n%2 == 0 {
		config.Compression = braid.S2
	}
	if _, err := w.b.CreateTopic(context.Background(), passing, config); err != nil {
		return err
	}
	w.topics[passing] = newTopic(passing, true)
	if err := w.look(passing, true); err != nil {
		return err
	}
	_, err := w.b.CreateTopic(context.Background(), passing, config)
	return expect("a topic that there is", err, braid.ErrTopicExists)
}

// deleteTopic deletes it. Its members end.
func deleteTopic(w *world, c command) error {
	old, err := w.handle(passing)
	if err != nil {
		return err
	}
	if err := w.b.DeleteTopic(context.Background(), passing); err != nil {
		return err
	}
	delete(w.topics, passing)
	for i, s := range w.subs {
		if s == nil || slots[i].topic != passing {
			continue
		}
		_, err := s.Poll(context.Background(), 1000)
		if err == nil { // what it had read already
			_, err = s.Poll(context.Background(), 1000)
		}
		if err := expect("poll of a deleted topic", err, braid.ErrTopicNotFound); err != nil {
			return err
		}
		if err := s.Close(); err != nil {
			return err
		}
		w.subs[i] = nil
	}
	if err := expect("publish to a deleted topic", old.Publish(context.Background(), w.record(c.random(), 0)), braid.ErrTopicNotFound); err != nil {
		return err
	}
	_, err = w.handle(passing)
	return expect("a deleted topic", err, braid.ErrTopicNotFound)
}

// retain has retention remove what there is too much of.
func retain(w *world, _ command) error {
	t, err := w.handle(passing)
	if err != nil {
		return err
	}
	return w.disk.Retain(t)
}

// reopen closes the broker and opens it again.
func reopen(w *world, _ command) error {
	if err := w.b.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	if err := w.open(); err != nil {
		return err
	}
	for _, p := range w.b.OpenReport().Partitions {
		return fmt.Errorf("after a clean close there is something to report: %+v", p)
	}
	return nil
}

// finishAll lets every group read to the end, and opens the broker again.
func finishAll(w *world, c command) error {
	for i := range slots {
		if w.topics[slots[i].topic] == nil {
			continue
		}
		c.slot = i
		if w.subs[i] == nil {
			if err := join(w, c); err != nil {
				return err
			}
		}
	}
	for i := range slots {
		if c.slot = i; w.subs[i] != nil {
			if err := drain(w, c); err != nil {
				return err
			}
		}
	}
	if err := w.compare(); err != nil {
		return err
	}
	return reopen(w, c)
}
