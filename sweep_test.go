package braid

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/braid-go/braid/internal/vfs"
)

func TestADeletionThatWasCutIsFinishedByTheNextOpen(t *testing.T) {
	dir := t.TempDir()
	b, faults := openFaulty(t, dir)
	publish(t, ensure(t, b, "t", TopicConfig{Partitions: 2}), "x")
	faults.set(vfs.FailFrom(1, syscall.EIO, vfs.OpIs(vfs.OpRemove)))
	if err := b.DeleteTopic(t.Context(), "t"); err != nil {
		t.Fatalf("the topic is gone, its files are not: %v", err)
	}
	faults.off()
	if _, err := b.Topic("t"); !errors.Is(err, ErrTopicNotFound) {
		t.Errorf("error %v, want ErrTopicNotFound", err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = open(t, dir, Options{})
	left, err := os.ReadDir(filepath.Join(dir, "partitions"))
	if err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
	if n := len(b.Topics()); n != 0 {
		t.Errorf("%d topics", n)
	}
	for _, p := range ensure(t, b, "t", TopicConfig{}).Partitions() {
		if p.ID != 3 {
			t.Errorf("partition %d: ids of deleted partitions are not used again", p.ID)
		}
	}
}

func TestACreationThatFailsLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	b, faults := openFaulty(t, dir)
	for k := int64(1); k <= 12; k += 3 {
		faults.set(vfs.FailAt(k, syscall.EIO, nil))
		if _, err := b.CreateTopic(t.Context(), "t", TopicConfig{Partitions: 3}); err == nil {
			t.Fatalf("operation %d failed and nobody noticed", k)
		}
		faults.off()
	}
	publish(t, ensure(t, b, "t", TopicConfig{}), "x")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = open(t, dir, Options{})
	topic, err := b.Topic("t")
	if err != nil {
		t.Fatal(err)
	}
	if got := values(t, topic, ReadOptions{}); len(got) != 1 {
		t.Errorf("stored %q", got)
	}
}

func TestAnUnknownPartitionIsSetAsideOrEvidence(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, Options{})
	publish(t, ensure(t, b, "t", TopicConfig{}), "x")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	parts := filepath.Join(dir, "partitions")
	// What is left of a creation that was cut: a directory without records.
	if err := os.Mkdir(filepath.Join(parts, "0000000099"), 0o700); err != nil {
		t.Fatal(err)
	}
	b = open(t, dir, Options{})
	aside := b.OpenReport().SetAside
	if len(aside) != 1 || !strings.Contains(aside[0], "0000000099.unfinished-") {
		t.Errorf("set aside: %v", aside)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	// A partition with records that no topic knows: the store has lost commits.
	if err := os.CopyFS(filepath.Join(parts, "0000000098"), os.DirFS(filepath.Join(parts, "0000000001"))); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("error %v, want ErrCorrupt", err)
	}
	if _, err := os.Stat(filepath.Join(parts, "0000000098", "MANIFEST")); err != nil {
		t.Errorf("the evidence was touched: %v", err)
	}
}

// The layout says that a sealed partition was durable to its end, before its manifest does: what is damaged there was not torn by a crash.
func TestDamageAtTheEndOfASealedPartitionIsReportedThoughItsManifestIsOlder(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, Options{})
	topic := ensure(t, b, "t", TopicConfig{})
	manifest := filepath.Join("partitions", partitionDir(1), "MANIFEST")
	older, err := os.ReadFile(filepath.Join(dir, manifest))
	if err != nil {
		t.Fatal(err)
	}
	publish(t, topic, "the last record")
	split(t, topic, 1)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	for _, damaged := range []bool{false, true} {
		crashed := copyDir(t, dir, func(name string, content []byte) []byte {
			at := strings.Index(string(content), "the last record")
			switch {
			case name == manifest:
				return older
			case damaged && at >= 0 && strings.HasSuffix(name, ".seg"):
				content[at] ^= 1
			}
			return content
		})
		b := open(t, crashed, Options{})
		var problems []error
		for _, p := range b.OpenReport().Partitions {
			problems = append(problems, p.Problems...)
		}
		if err := errors.Join(problems...); damaged != errors.Is(err, ErrCorrupt) || damaged != (err != nil) {
			t.Errorf("damaged: %v, and reported: %v", damaged, err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
