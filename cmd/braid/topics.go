package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/braid-go/braid"
)

type topicsCmd struct {
	List   topicsListCmd   `cmd:"" default:"withargs" help:"List the topics."`
	Create topicsCreateCmd `cmd:"" help:"Create a topic."`
	Update topicsUpdateCmd `cmd:"" help:"Change a topic's configuration."`
	Delete topicsDeleteCmd `cmd:"" help:"Delete a topic with all its records."`
}

type topicsListCmd struct {
	JSON bool `name:"json" help:"Print JSON."`
}

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

func retention(c braid.TopicConfig) string {
	switch {
	case c.RetentionAge == braid.Unlimited && c.RetentionBytes == braid.Unlimited:
		return "for ever"
	case c.RetentionBytes == braid.Unlimited:
		return c.RetentionAge.String()
	case c.RetentionAge == braid.Unlimited:
		return bytesOf(c.RetentionBytes)
	}
	return c.RetentionAge.String() + " or " + bytesOf(c.RetentionBytes)
}

// topicFlags are the settings of a topic. Those that are not given stay as they are.
type topicFlags struct {
	Compression    *braid.Compression `help:"none, s2 or zstd."`
	SegmentBytes   *int64             `help:"Size of a file." placeholder:"BYTES"`
	RetentionAge   *time.Duration     `help:"How long records are kept; -1ns: for ever." placeholder:"168h"`
	RetentionBytes *int64             `help:"How much is kept; -1: everything." placeholder:"BYTES"`
}

func (f *topicFlags) apply(c *braid.TopicConfig) {
	set(&c.Compression, f.Compression)
	set(&c.SegmentBytes, f.SegmentBytes)
	set(&c.RetentionAge, f.RetentionAge)
	set(&c.RetentionBytes, f.RetentionBytes)
}

func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

type topicsCreateCmd struct {
	Topic      string `arg:"" help:"Name."`
	Partitions int    `help:"Number of partitions." default:"1"`
	topicFlags
}

// Run creates a topic.
func (c *topicsCreateCmd) Run(e *env) (err error) {
	b, err := e.open(braid.Options{})
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

// Run changes a topic.
func (c *topicsUpdateCmd) Run(e *env) (err error) {
	b, err := e.open(braid.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	return b.UpdateTopic(e.ctx, c.Topic, func(config *braid.TopicConfig) error {
		c.apply(config)
		return nil
	})
}

type topicsDeleteCmd struct {
	Topic string `arg:"" help:"Name."`
	Yes   bool   `help:"Really delete it."`
}

// Run deletes a topic, or says what would be deleted.
func (c *topicsDeleteCmd) Run(e *env) (err error) {
	b, err := e.open(braid.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	t, err := b.Topic(c.Topic)
	if err != nil {
		return err
	}
	s := summarise(t)
	what := fmt.Sprintf("%s: %s, %s, %s", s.Name, count(s.Partitions, "partition"), records(s.Records), bytesOf(s.Bytes))
	if !c.Yes {
		return fmt.Errorf("this would delete %s; say --yes to do it", what)
	}
	if err := b.DeleteTopic(e.ctx, c.Topic); err != nil {
		return err
	}
	_, err = fmt.Fprintln(e.stdout, "deleted", what)
	return err
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// table prints columns that fill separates by tabs.
func table(w io.Writer, fill func(io.Writer)) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fill(t)
	return t.Flush()
}
