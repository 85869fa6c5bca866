package braid

import (
	"context"
	"errors"
	"iter"
	"path"
	"slices"
	"time"

	"github.com/braid-go/braid/log"
)

// VerifyOptions configures a Verify.
type VerifyOptions struct {
	// Topics to look at. Default: all.
	Topics []string
	// Progress, if not nil, is called now and then with how many bytes of how many have been looked at.
	Progress func(done, total int64)
}

// VerifyReport tells what Verify has found.
type VerifyReport struct {
	Partitions []PartitionVerify
}

// PartitionVerify tells what Verify has found in one partition.
type PartitionVerify struct {
	Topic     string
	Partition PartitionID
	Segments  int
	Frames    int64
	Records   int64
	Bytes     int64
	// Start and End are the offsets that were looked at: [Start, End).
	Start, End int64
	// Problems has a [CorruptError] or [MissingDataError] for everything that is not as it was written.
	Problems []error
}

// Records returns the number of sound records.
func (r *VerifyReport) Records() int64 {
	var n int64
	for i := range r.Partitions {
		n += r.Partitions[i].Records
	}
	return n
}

// Problems returns all problems.
func (r *VerifyReport) Problems() []error {
	var out []error
	for i := range r.Partitions {
		out = append(out, r.Partitions[i].Problems...)
	}
	return out
}

// Verify reads everything that is visible: every file's header, every frame's checksum, that each
// continues the one before, and every record in it. What it finds is in the report; the error
// says why it could not look at everything: ErrTopicNotFound, ErrClosed, ctx's, or the file system's. It works while
// the broker is in use, and read-only.
func (b *Broker) Verify(ctx context.Context, opts VerifyOptions) (*VerifyReport, error) {
	topics := b.Topics()
	if len(opts.Topics) > 0 {
		topics = nil
		for _, name := range opts.Topics {
			t, err := b.Topic(name)
			if err != nil {
				return nil, err
			}
			topics = append(topics, t)
		}
	}
	var total int64
	for _, t := range topics {
		for _, p := range t.table.Load().all {
			total += p.log.Size()
		}
	}
	report := &VerifyReport{}
	var before int64
	for _, t := range topics {
		for _, p := range t.table.Load().all {
			r, err := p.log.Verify(ctx, func(done, _ int64) {
				if opts.Progress != nil {
					opts.Progress(min(before+done, total), total)
				}
			})
			if err != nil {
				return report, logError(t.name, p.id, err)
			}
			before += p.log.Size()
			report.Partitions = append(report.Partitions, partitionVerify(t, p, r))
		}
	}
	return report, nil
}

func partitionVerify(t *Topic, p *topicPartition, r *log.VerifyReport) PartitionVerify {
	v := PartitionVerify{Topic: t.name, Partition: p.id, Segments: r.Segments, Frames: r.Frames, Records: r.Records,
		Bytes: r.Bytes, Start: r.Start, End: r.End}
	for _, problem := range r.Problems {
		v.Problems = append(v.Problems, logError(t.name, p.id, problem))
	}
	// What only opening finds, such as a damaged manifest; the rest has been found again.
	for _, problem := range p.problems {
		gap, _ := gapOf(problem)
		if !slices.ContainsFunc(v.Problems, func(err error) bool {
			known, _ := gapOf(err)
			return known.From <= gap.From && gap.Next <= known.Next && fileOf(err) == fileOf(problem)
		}) {
			v.Problems = append(v.Problems, problem)
		}
	}
	return v
}

// fileOf returns the file in which a problem is.
func fileOf(err error) string {
	var corrupt *CorruptError
	var missing *MissingDataError
	switch {
	case errors.As(err, &corrupt):
		return corrupt.File
	case errors.As(err, &missing):
		return missing.File
	}
	return ""
}

// DumpOptions configures a Dump.
type DumpOptions struct {
	// Partitions to show. Default: all.
	Partitions []PartitionID
}

// FrameInfo describes a frame, which holds the records of one or several publishes, as it lies on disk; or, if
// Problem is set, a range of a file where none could be read.
type FrameInfo struct {
	Topic       string
	Partition   PartitionID
	File        string // path below the data directory
	Pos, Len    int64  // where in the file
	Base, End   int64  // the offsets in it: [Base, End)
	Records     int
	RawBytes    int64 // uncompressed
	Compression Compression
	Appended    time.Time // by the broker's clock
	MaxTime     time.Time // the latest record's
	Problem     error     // a [CorruptError] or [MissingDataError]
}

// Dump iterates over the frames of a topic, partition by partition, up to what is visible. It ends after the first error.
func (b *Broker) Dump(ctx context.Context, topic string, opts DumpOptions) iter.Seq2[*FrameInfo, error] {
	return func(yield func(*FrameInfo, error) bool) {
		t, err := b.Topic(topic)
		if err != nil {
			yield(nil, err)
			return
		}
		parts, err := t.table.Load().choose(t.name, "DumpOptions.Partitions", opts.Partitions)
		if err != nil {
			yield(nil, err)
			return
		}
		for _, p := range parts {
			for frame, err := range p.log.Frames(ctx) {
				if err != nil {
					yield(nil, logError(t.name, p.id, err))
					return
				}
				if !yield(t.frameInfo(p.id, frame), nil) {
					return
				}
			}
		}
	}
}

func (t *Topic) frameInfo(id PartitionID, f *log.StoredFrame) *FrameInfo {
	info := &FrameInfo{
		Topic: t.name, Partition: id, File: path.Join(partitionsName, partitionDir(id), f.File), Pos: f.Pos, Len: f.Len,
		Problem: logError(t.name, id, f.Problem),
	}
	if f.Problem != nil {
		return info
	}
	h := &f.Header
	info.Base, info.End, info.Records, info.RawBytes = h.Base, h.End(), h.Count, int64(h.RawLen)
	info.Compression = map[log.Codec]Compression{log.CodecS2: S2, log.CodecZstd: Zstd}[h.Codec]
	info.Appended, info.MaxTime = time.Unix(0, h.AppendTime), time.Unix(0, h.MaxTime)
	return info
}
