package braid

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/braid-go/braid/internal/vfs"
)

// damaged makes a topic of records r0 to r49 in calls of ten, of which the third is damaged on disk. It returns the broker,
// opened again.
func damaged(t *testing.T) *Topic {
	t.Helper()
	dir := t.TempDir()
	b := open(t, dir, Options{})
	topic := ensure(t, b, "t", TopicConfig{})
	settled(t, b) // what a round had shared with the store would be restored from there
	all := numbered("r", 50)
	for i := 0; i < 50; i += 10 {
		publish(t, topic, all[i:i+10]...)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "partitions", "*", "*.seg"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	content, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	if err := os.WriteFile(files[0], content, 0o600); err != nil {
		t.Fatal(err)
	}
	topic, err = open(t, dir, Options{}).Topic("t")
	if err != nil {
		t.Fatal(err)
	}
	return topic
}

func checkCorrupt(t *testing.T, err error) *CorruptError {
	t.Helper()
	var c *CorruptError
	if !errors.Is(err, ErrCorrupt) || !errors.As(err, &c) {
		t.Fatalf("error %v, want a *CorruptError", err)
	}
	if c.Topic != "t" || c.From != 20 || c.Next != 30 || c.File == "" || c.Len <= 0 {
		t.Errorf("%+v, want offsets 20 to 29 of topic t, with file and range", c)
	}
	return c
}

func TestDamageIsReportedUntilTheReaderSeeksBehindIt(t *testing.T) {
	topic := damaged(t)
	sub := subscribe(t, topic, "g", SubscribeOptions{})
	got := texts(poll(t, sub, 20))
	var c *CorruptError
	for range 3 {
		_, err := sub.Poll(t.Context(), 10)
		c = checkCorrupt(t, err)
	}
	if err := sub.Seek(t.Context(), FromOffsets(map[PartitionID]int64{c.Partition: c.Next})); err != nil {
		t.Fatal(err)
	}
	got = append(got, texts(poll(t, sub, 20))...)
	all := numbered("r", 50)
	if diff := cmp.Diff(append(append([]string{}, all[:20]...), all[30:]...), got); diff != "" {
		t.Error(diff)
	}
}

func TestOnGapDecidesWhetherToGoOn(t *testing.T) {
	topic := damaged(t)
	all := numbered("r", 50)
	want := append(append([]string{}, all[:20]...), all[30:]...)
	var gaps []Gap
	onGap := func(g Gap) bool { gaps = append(gaps, g); return true }
	if diff := cmp.Diff(want, values(t, topic, ReadOptions{OnGap: onGap})); diff != "" {
		t.Errorf("Read: %s", diff)
	}
	sub := subscribe(t, topic, "g", SubscribeOptions{OnGap: onGap})
	if diff := cmp.Diff(want, texts(poll(t, sub, 40))); diff != "" {
		t.Errorf("Poll: %s", diff)
	}
	if len(gaps) != 2 || gaps[0].From != 20 || gaps[0].Next != 30 || gaps[0].Topic != "t" {
		t.Errorf("gaps %+v", gaps)
	}
	checkCorrupt(t, gaps[0].Err)

	var last error
	n := 0
	for _, err := range topic.Read(t.Context(), ReadOptions{OnGap: func(Gap) bool { return false }}) {
		last = err
		n++
	}
	checkCorrupt(t, last)
	if n != 21 {
		t.Errorf("%d iterations, want 20 records and one error", n)
	}
}

func TestCommittingTheLastRecordBeforeAGapPassesTheGap(t *testing.T) {
	topic := damaged(t)
	sub := subscribe(t, topic, "g", SubscribeOptions{OnGap: func(Gap) bool { return true }})
	recs := poll(t, sub, 20)
	next := poll(t, sub, 1)[0] // the gap is behind us
	if err := sub.Commit(t.Context(), recs[19]); err != nil {
		t.Fatal(err)
	}
	if at := sub.Committed()[next.Partition]; at != 20 {
		t.Errorf("position %d, want 20: the last delivered record is another one", at)
	}
	if err := sub.Commit(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	if at := sub.Committed()[next.Partition]; at != 31 {
		t.Errorf("position %d, want 31", at)
	}
}

func TestVerifyAndDumpShowTheDamageInItsPlace(t *testing.T) {
	topic := damaged(t)
	var progress []int64
	report, err := topic.b.Verify(t.Context(), VerifyOptions{Topics: []string{"t"}, Progress: func(done, total int64) {
		if done > total {
			t.Errorf("progress %d of %d", done, total)
		}
		progress = append(progress, done)
	}})
	if err != nil {
		t.Fatal(err)
	}
	if report.Records() != 40 || len(report.Problems()) != 1 || len(progress) == 0 {
		t.Errorf("%d records, problems %v, %d calls of Progress", report.Records(), report.Problems(), len(progress))
	}
	checkCorrupt(t, report.Problems()[0])
	var bases []int64
	for f, err := range topic.b.Dump(t.Context(), "t", DumpOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		if f.Problem != nil {
			checkCorrupt(t, f.Problem)
			bases = append(bases, -1)
			continue
		}
		if f.Records != 10 || f.End != f.Base+10 || f.Appended.IsZero() {
			t.Errorf("frame %+v", f)
		}
		bases = append(bases, f.Base)
	}
	if diff := cmp.Diff([]int64{0, 10, -1, 30, 40}, bases); diff != "" {
		t.Error(diff)
	}
	if _, err := topic.b.Verify(t.Context(), VerifyOptions{Topics: []string{"nosuch"}}); !errors.Is(err, ErrTopicNotFound) {
		t.Errorf("error %v, want ErrTopicNotFound", err)
	}
}

func TestVerifyFindsAnEmptyTopicSoundAndADamagedManifest(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, Options{})
	ensure(t, b, "empty", TopicConfig{Partitions: 3})
	publish(t, ensure(t, b, "t", TopicConfig{}), "x")
	verify := func() []error {
		t.Helper()
		r := open(t, dir, Options{ReadOnly: true})
		report, err := r.Verify(t.Context(), VerifyOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return report.Problems()
	}
	if problems := verify(); len(problems) > 0 {
		t.Errorf("beside a live writer: %v", problems)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if problems := verify(); len(problems) > 0 {
		t.Errorf("closed: %v", problems)
	}
	if err := os.WriteFile(filepath.Join(dir, "partitions", "0000000004", "MANIFEST"), []byte("not a manifest"), 0o600); err != nil {
		t.Fatal(err)
	}
	problems := verify()
	var c *CorruptError
	if len(problems) != 1 || !errors.As(problems[0], &c) || c.Topic != "t" || c.File != "MANIFEST" {
		t.Errorf("problems %v, want the manifest of topic t", problems)
	}
}

func TestTheContextOfSubscribeBoundsThatCallOnly(t *testing.T) {
	topic := ensure(t, openMemory(t), "t", TopicConfig{})
	publish(t, topic, "a")
	ctx, cancel := context.WithCancel(t.Context())
	sub, err := topic.Subscribe(ctx, "g", SubscribeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	cancel()
	poll(t, sub, 1)
}

func TestPublishAsyncWaitsForRoomAsLongAsItsContextAllows(t *testing.T) {
	s := &switched{}
	b := open(t, t.TempDir(), Options{fs: vfs.NewFault(vfs.OS, s), Limits: Limits{MaxQueueDepth: 2}})
	topic := ensure(t, b, "t", TopicConfig{})
	publish(t, topic, "before")
	settled(t, b)
	inj, held, release := block(vfs.OpDatasync)
	s.set(inj)
	var refused error
	for i := range 100 { // the first is stuck in its sync, two more fill the queue
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		refused = topic.PublishAsync(ctx, nil, &Record{Value: fmt.Append(nil, i)})
		cancel()
		if refused != nil {
			break
		}
	}
	if !errors.Is(refused, context.DeadlineExceeded) || errors.Is(refused, ErrOutcomeUnknown) {
		t.Errorf("error %v, want context.DeadlineExceeded", refused)
	}
	<-held
	release()
	if err := topic.PublishAsync(t.Context(), nil, &Record{Value: []byte("room again")}); err != nil {
		t.Error(err)
	}
	if err := topic.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := values(t, topic, ReadOptions{})
	if got[len(got)-1] != "room again" || len(got) > 6 {
		t.Errorf("stored %q", got)
	}
}

func TestCloneSharesNoMemory(t *testing.T) {
	r := &Record{Key: []byte("k"), Value: []byte("v"), Headers: []Header{{Key: "h", Value: []byte("x")}}, Time: time.Unix(1, 2), Offset: 3}
	c := r.Clone()
	if diff := cmp.Diff(fmt.Sprintf("%+v", *r), fmt.Sprintf("%+v", *c)); diff != "" {
		t.Error(diff)
	}
	c.Key[0], c.Value[0], c.Headers[0].Value[0], c.Headers[0].Key = 'X', 'X', 'X', "X"
	if string(r.Key)+string(r.Value)+string(r.Headers[0].Value)+r.Headers[0].Key != "kvxh" {
		t.Errorf("the original changed: %+v", r)
	}
	var none Record
	if c := none.Clone(); c.Key != nil || c.Value != nil || c.Headers != nil {
		t.Errorf("nil became %+v", c)
	}
}
