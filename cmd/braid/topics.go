package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/braid-go/braid"
)

type topicsCmd struct {
	List   topicsListCmd   `cmd:"" default:"withargs" help:"List the topics."`
	Create topicsCreateCmd `cmd:"" help:"Create a topic."`
	Update topicsUpdateCmd `cmd:"" help:"Change a topic's configuration."`
	Delete topicsDeleteCmd `cmd:"" help:"Delete a topic with all its records."`
}

// Help shows examples.
func (topicsCmd) Help() string {
	return `Examples:
  braid topics
  braid topics create orders --partitions 4 --compression s2 --retention-age 7d
  braid topics update orders --retention-bytes 10GiB --retention-age forever
  braid topics delete orders --yes`
}

type topicsListCmd struct {
	JSON bool `name:"json" help:"Print JSON."`
}

// Help shows examples.
func (topicsListCmd) Help() string { return topicsCmd{}.Help() }

// topicSummary is a topic as topics --json prints it.
type topicSummary struct {
	Name       string            `json:"name"`
	Partitions int               `json:"partitions"`
	Records    int64             `json:"records"` // at most: gaps count
	Bytes      int64             `json:"bytes"`
	Created    time.Time         `json:"created"`
	Config     braid.TopicConfig `json:"config"`
}

func summarise(t *braid.Topic) topicSummary {
	s := topicSummary{Name: t.Name(), Created: t.Created(), Config: t.Config()}
	for _, p := range t.Partitions() {
		s.Partitions++
		s.Records += p.End - p.Start
		s.Bytes += p.Bytes
	}
	return s
}

// Run lists the topics.
func (c *topicsListCmd) Run(e *env) (err error) {
	b, err := e.openReadOnly()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	topics := []topicSummary{}
	for _, t := range b.Topics() {
		topics = append(topics, summarise(t))
	}
	if c.JSON {
		return printJSON(e.stdout, topics)
	}
	if len(topics) == 0 {
		_, err := fmt.Fprintln(e.stdout, "no topics")
		return err
	}
	return table(e.stdout, func(w io.Writer) {
		fmt.Fprintln(w, "TOPIC\tPARTITIONS\tRECORDS\tSIZE\tCREATED\tCOMPRESSION\tRETENTION")
		for _, t := range topics {
			fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\t%s\n", t.Name, t.Partitions, thousands(t.Records), bytesOf(t.Bytes),
				t.Created.Local().Format("2006-01-02 15:04"), t.Config.Compression, retention(t.Config))
		}
	})
}

// topicFlags are the settings of a topic. Those that are not given stay as they are.
type topicFlags struct {
	Compression    *braid.Compression `help:"none, s2 or zstd." placeholder:"CODEC"`
	SegmentBytes   *size              `help:"Size at which a partition starts a new file." placeholder:"64MiB"`
	RetentionAge   *age               `help:"How long records are kept at least, or forever." placeholder:"7d"`
	RetentionBytes *size              `help:"How much of the topic is kept, or unlimited." placeholder:"10GiB"`
}

func (f *topicFlags) apply(c *braid.TopicConfig) {
	set(&c.Compression, f.Compression)
	set(&c.SegmentBytes, f.SegmentBytes)
	set(&c.RetentionAge, f.RetentionAge)
	set(&c.RetentionBytes, f.RetentionBytes)
}

// set converts a flag that was given.
func set[T, F int64 | age | size | time.Duration | braid.Compression](to *T, from *F) {
	if from != nil {
		*to = T(*from)
	}
}

type topicsCreateCmd struct {
	Topic      string `arg:"" help:"Name."`
	Partitions int    `help:"Number of partitions." default:"1"`
	topicFlags
}

// Help shows examples.
func (topicsCreateCmd) Help() string {
	return `Example:
  braid topics create orders --partitions 4 --compression s2 --retention-age 7d --retention-bytes 10GiB

Whole files are what retention takes away, and the newest file of a partition stays.`
}

// Run creates a topic.
func (c *topicsCreateCmd) Run(e *env) (err error) {
	b, err := e.openWritable(braid.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	config := braid.TopicConfig{Partitions: c.Partitions}
	c.apply(&config)
	t, err := b.CreateTopic(e.ctx, c.Topic, config)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(e.stdout, "created %s with %s\n", t.Name(), count(len(t.Partitions()), "partition"))
	return err
}

type topicsUpdateCmd struct {
	Topic string `arg:"" help:"Name."`
	topicFlags
}

// Help shows examples.
func (topicsUpdateCmd) Help() string {
	return `Example:
  braid topics update orders --retention-age 30d --compression zstd

What is not given stays as it is. The number of partitions cannot be changed here.`
}

// Run changes a topic.
func (c *topicsUpdateCmd) Run(e *env) (err error) {
	b, err := e.openWritable(braid.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	var now braid.TopicConfig
	err = b.UpdateTopic(e.ctx, c.Topic, func(config *braid.TopicConfig) error {
		c.apply(config)
		now = *config
		return nil
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(e.stdout, "updated %s: compression %s, files of %s, kept %s\n", c.Topic, now.Compression,
		bytesOf(now.SegmentBytes), retention(now))
	return err
}

type topicsDeleteCmd struct {
	Topic string `arg:"" help:"Name."`
	Yes   bool   `help:"Really delete it."`
}

// Help shows an example.
func (topicsDeleteCmd) Help() string {
	return `Example:
  braid topics delete orders --yes

Without --yes nothing is deleted, and what would be is told. The positions of the topic's groups go with it.`
}

// Run deletes a topic, or says what would be deleted.
func (c *topicsDeleteCmd) Run(e *env) (err error) {
	b, err := e.openWritable(braid.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	t, err := b.Topic(c.Topic)
	if err != nil {
		return err
	}
	s := summarise(t)
	what := fmt.Sprintf("%s: %s, %s, %s", s.Name, count(s.Partitions, "partition"), count(s.Records, "record"), bytesOf(s.Bytes))
	if !c.Yes {
		return fmt.Errorf("this would delete %s; say --yes to do it", what)
	}
	if err := b.DeleteTopic(e.ctx, c.Topic); err != nil {
		return err
	}
	_, err = fmt.Fprintln(e.stdout, "deleted", what)
	return err
}
