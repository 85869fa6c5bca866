package braid

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/braid-go/braid/backpressure"
	"github.com/braid-go/braid/internal/vfs"
	"github.com/braid-go/braid/log"
	"github.com/braid-go/braid/scaler"
)

// Unlimited is the value of a limit that does not bound, where that is allowed.
const Unlimited = -1

// Durability says when Publish returns and when a record becomes visible. It is the
// broker's, not a topic's, and may be chosen anew at every Open.
type Durability uint8

const (
	// Fsync is the default: Publish returns nil only after an fsync that covers the
	// record, and no consumer sees it before. Publishers that come together share one fsync.
	Fsync Durability = iota
	// Interval: Publish returns, and the record is visible, when the operating system has it;
	// an fsync follows within Options.SyncInterval. A killed process loses nothing, a power
	// cut up to that much.
	Interval
	// OS: as Interval, but Braid never syncs while running; the operating system writes back
	// when it likes. A clean Close syncs.
	OS
)

func (d Durability) String() string {
	switch d {
	case Fsync:
		return "fsync"
	case Interval:
		return "interval"
	case OS:
		return "os"
	}
	return fmt.Sprintf("Durability(%d)", uint8(d))
}

// ParseDurability is the inverse of Durability.String.
func ParseDurability(s string) (Durability, error) {
	for _, d := range []Durability{Fsync, Interval, OS} {
		if strings.EqualFold(s, d.String()) {
			return d, nil
		}
	}
	return 0, &OptionError{Field: "Durability", Value: s, Reason: "not one of fsync, interval, os"}
}

// MarshalText makes a Durability readable in JSON and flags.
func (d Durability) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (d *Durability) UnmarshalText(b []byte) (err error) {
	*d, err = ParseDurability(string(b))
	return err
}

func (d Durability) mode() log.Mode {
	switch d {
	case Interval:
		return log.ModeInterval
	case OS:
		return log.ModeOS
	}
	return log.ModeFsync
}

// Compression says how frames of records are compressed on disk.
type Compression uint8

const (
	// NoCompression is the default.
	NoCompression Compression = iota
	// S2 is fast and light: github.com/klauspost/compress/s2.
	S2
	// Zstd is smaller and slower: github.com/klauspost/compress/zstd.
	Zstd
)

func (c Compression) String() string {
	switch c {
	case NoCompression:
		return "none"
	case S2:
		return "s2"
	case Zstd:
		return "zstd"
	}
	return fmt.Sprintf("Compression(%d)", uint8(c))
}

// ParseCompression is the inverse of Compression.String.
func ParseCompression(s string) (Compression, error) {
	for _, c := range []Compression{NoCompression, S2, Zstd} {
		if strings.EqualFold(s, c.String()) {
			return c, nil
		}
	}
	return 0, &OptionError{Field: "Compression", Value: s, Reason: "not one of none, s2, zstd"}
}

// MarshalText makes a Compression readable in JSON and flags.
func (c Compression) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (c *Compression) UnmarshalText(b []byte) (err error) {
	*c, err = ParseCompression(string(b))
	return err
}

func (c Compression) codec() log.Codec {
	switch c {
	case S2:
		return log.CodecS2
	case Zstd:
		return log.CodecZstd
	}
	return log.CodecNone
}

// Options configures a broker. The zero value is a durable broker with the documented
// defaults.
type Options struct {
	// Durability says when an acknowledgement is given: Fsync (default), Interval or OS.
	Durability Durability
	// SyncInterval is how often Interval syncs. Default 100 ms; other modes ignore it.
	SyncInterval time.Duration
	// InMemory keeps everything in memory: nothing is read from or written to disk, the
	// directory given to Open must be empty (""), and all is gone after Close.
	InMemory bool
	// ReadOnly opens without the lock and without writing or repairing anything,
	// also beside a broker that has the directory open for writing, in this or another process. Of that
	// broker's topics it shows what is proven durable (in the weaker modes, what is
	// written), polling for more. Publishing, groups and changes fail with ErrReadOnly.
	ReadOnly bool
	// Limits bounds what the broker takes on; see also [Broker.Reconfigure].
	Limits Limits
	// Enrich, if it is not nil, completes each record before it is published, for example with headers: it may change the record, which belongs to the
	// publisher again afterwards. It runs on the publisher's goroutine, by several at a time. While a topic whose strategy is DegradeQuality, or
	// Adaptive that has come to degrade, is Critical or worse it is left out.
	Enrich func(*Record)
	// OnScaled is told what a topic's scaler has done, or has failed to do. It is called on the scaler's goroutine, which waits for it, and must not close
	// the broker or change topics.
	OnScaled func(topic string, d scaler.Decision)
	// Logger receives what an operator wants to know. Default: silent.
	Logger *slog.Logger

	fs vfs.FS // in tests: what the partitions are written through
}

// TopicConfig configures a topic. It is stored, and survives reopening.
type TopicConfig struct {
	// Partitions is the number of partitions that the topic is created with. Default 1.
	Partitions int `json:"partitions"`
	// Compression of new frames. Default none.
	Compression Compression `json:"compression"`
	// SegmentBytes is the size at which a partition starts a new file, in bytes; retention
	// takes away whole files. Default 64 MiB, between 64 KiB and 4 GiB.
	SegmentBytes int64 `json:"segment_bytes"`
	// RetentionAge is how long records are kept at least, by the time of their publishing.
	// Default Unlimited (-1). The newest file of each partition is always kept.
	RetentionAge time.Duration `json:"retention_age"`
	// RetentionBytes bounds the topic's size on disk, over all its partitions; the oldest files go first.
	// Default Unlimited (-1). The newest file of each partition is always kept.
	RetentionBytes int64 `json:"retention_bytes"`
	// Backpressure says what happens when publishers are faster than the disk: see [backpressure.Policy] and [backpressure.Strategy]. Default: publishers wait,
	// in the order of arrival. MaxRecords is at most, and by default, Limits.MaxQueueDepth. It is each partition's, and can be changed at any time.
	//
	// Under DegradeQuality, and when Adaptive has come to it, a round waits up to 2 ms for more records while its partition is Warning or worse, and
	// Options.Enrich is left out while one of the topic's is Critical or worse. With ReduceAck, and Durability Fsync, records are
	// then acknowledged as soon as they are written while their partition is Shedding, and synced within 50 ms or with the next round: their Ack is
	// AckWritten, for those who read them too, a power cut in between loses them, and they are visible once they are synced, like all others. Flush waits for that.
	Backpressure backpressure.Policy `json:"backpressure,omitzero"`
	// MaxBacklog, if it is not 0, has slow consumers slow publishers down: when so many records of a partition are stored that the slowest of the topic's groups has not committed, nothing
	// more is taken from the partition's queue, and Backpressure says what happens to publishers: BlockProducer has them wait for their
	// acknowledgement, ShedLoad refuses at once, DropOldest keeps the newest records in the queue. Without a group there is no backlog. A call's records are
	// stored together, so that the bound may be passed by one call's, and transactions are not held back. A consumer that publishes to the
	// topic it consumes may wait for itself. Default 0: groups are as far behind as they like, within retention.
	MaxBacklog int64 `json:"max_backlog,omitempty"`
	// AutoScale has partitions split when they have much to do and merge when they have little, as Scaling says; see [Topic.Split]. Default: they stay as
	// they are, because programs can see partitions, and only they know what one should carry. It can be changed at any time.
	AutoScale bool `json:"auto_scale,omitempty"`
	// Scaling says when. Default: see [scaler.Policy]; never fewer than Partitions, and at most 64 or Limits.MaxPartitions. What it
	// says of consumers holds for ConsumeOptions.MaxMembers, also without AutoScale.
	Scaling scaler.Policy `json:"scaling,omitzero"`
}

const (
	defaultSyncInterval = 100 * time.Millisecond
	defaultSegmentBytes = 64 << 20
)

// defaulted returns v, or def where v is zero.
func defaulted[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// checkRange returns an OptionError unless lo <= v <= hi.
func checkRange[T int | int64 | time.Duration](field string, v, lo, hi T) error {
	if v < lo || v > hi {
		return &OptionError{Field: field, Value: v, Reason: fmt.Sprintf("must be between %v and %v", lo, hi)}
	}
	return nil
}

func (o Options) resolve(dir string) (Options, error) {
	var err error
	if o.Durability > OS {
		return o, &OptionError{Field: "Options.Durability", Value: o.Durability, Reason: "not one of fsync, interval, os"}
	}
	o.SyncInterval = defaulted(o.SyncInterval, defaultSyncInterval)
	if err := checkRange("Options.SyncInterval", o.SyncInterval, time.Millisecond, time.Hour); err != nil {
		return o, err
	}
	if o.InMemory && o.ReadOnly {
		return o, &OptionError{Field: "Options.ReadOnly", Value: true, Reason: "an in-memory broker starts empty; there is nothing to read"}
	}
	if o.InMemory != (dir == "") {
		return o, &OptionError{Field: "dir", Value: dir, Reason: "must be empty with Options.InMemory, and only then"}
	}
	if o.Limits, err = o.Limits.resolve(); err != nil {
		return o, err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.fs == nil {
		o.fs = vfs.OS
		if o.InMemory {
			o.fs = vfs.NewVolatile()
		}
	}
	return o, nil
}

// resolve fills in the defaults and refuses what means nothing.
func (c TopicConfig) resolve(l Limits) (TopicConfig, error) {
	c.Partitions = defaulted(c.Partitions, 1)
	c.SegmentBytes = defaulted(c.SegmentBytes, defaultSegmentBytes)
	c.RetentionAge = defaulted(c.RetentionAge, Unlimited)
	c.RetentionBytes = defaulted(c.RetentionBytes, Unlimited)
	if err := checkRange("TopicConfig.Partitions", c.Partitions, 1, l.MaxPartitions); err != nil {
		return c, err
	}
	if c.Compression > Zstd {
		return c, &OptionError{Field: "TopicConfig.Compression", Value: c.Compression, Reason: "not one of none, s2, zstd"}
	}
	if err := checkRange("TopicConfig.SegmentBytes", c.SegmentBytes, 64<<10, 4<<30); err != nil {
		return c, err
	}
	if c.RetentionAge != Unlimited && c.RetentionAge < 0 {
		return c, &OptionError{Field: "TopicConfig.RetentionAge", Value: c.RetentionAge, Reason: "must be positive, or Unlimited (-1)"}
	}
	if c.RetentionBytes != Unlimited && c.RetentionBytes < 0 {
		return c, &OptionError{Field: "TopicConfig.RetentionBytes", Value: c.RetentionBytes, Reason: "must be positive, or Unlimited (-1)"}
	}
	if c.MaxBacklog < 0 {
		return c, &OptionError{Field: "TopicConfig.MaxBacklog", Value: c.MaxBacklog, Reason: "must be positive, or 0 for none"}
	}
	if _, err := c.pressure(l); err != nil {
		return c, err
	}
	_, err := c.policy(l)
	return c, err
}

// checkName refuses what is not a name of a topic or group.
func checkName(kind, name string) error {
	bad := func(reason string) error { return &NameError{Kind: kind, Name: name, Reason: reason} }
	switch {
	case name == "":
		return bad("empty")
	case len(name) > 249:
		return bad(fmt.Sprintf("%d bytes, more than 249", len(name)))
	case name == "." || name == "..":
		return bad("reserved")
	}
	for _, c := range []byte(name) {
		ok := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-'
		if !ok {
			return bad(fmt.Sprintf("contains %q; allowed are letters, digits, '.', '_' and '-'", c))
		}
	}
	return nil
}
