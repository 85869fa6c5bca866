package braid

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What continues a partition is read also if that ends with records that cannot be had. Where a reader went past them last in its turn it found nothing
// to do, and took that for the end.
func TestWhatContinuesAPartitionIsReadBehindDamageAtItsEnd(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, Options{})
	topic := ensure(t, b, "t", TopicConfig{})
	settled(t, b) // what a round had shared with the store would be restored from there
	publish(t, topic, "sound")
	publish(t, topic, "will be damaged")
	if _, err := topic.Split(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	publish(t, topic, "behind one")
	publish(t, topic, "behind the other")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "partitions", "0000000001", "*.seg"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	info, err := os.Stat(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := flip(files[0], info.Size()-1); err != nil {
		t.Fatal(err)
	}
	topic, err = open(t, dir, Options{}).Topic("t")
	if err != nil {
		t.Fatal(err)
	}
	var gaps []Gap
	skip := func(g Gap) bool { gaps = append(gaps, g); return true }
	want := []string{"behind one", "behind the other", "sound"} // the two in any order
	if diff := cmp.Diff(want, sorted(values(t, topic, ReadOptions{OnGap: skip}))); diff != "" || len(gaps) != 1 {
		t.Errorf("gaps %v, and %s", gaps, diff)
	}
	sub := subscribe(t, topic, "g", SubscribeOptions{OnGap: skip})
	if diff := cmp.Diff(want, sorted(texts(poll(t, sub, 3)))); diff != "" {
		t.Error(diff)
	}
}

func sorted(values []string) []string {
	slices.Sort(values)
	return values
}
