package checkpoint

import (
	"encoding/binary"
	"flag"
	"path/filepath"
	"testing"

	"github.com/braid-go/braid/internal/damage"
)

var long = flag.Bool("long", false, "enumerate every case of tears, not a part of them")

// afterTear is the entry that the store must end with when some bytes are other than they were, or -1 for an error: the last one before the damage, if no whole entry
// behind it says that more was durable.
func (h *history) afterTear(data string) int {
	want := h.expected(data)
	if want < 0 || want == len(h.ends)-1 {
		return want
	}
	for j := want + 2; j < len(h.ends); j++ {
		from, to := h.ends[j-1], h.ends[j]
		_, head := binary.Uvarint([]byte(h.data[from:])) // what tidwall/wal puts in front is not needed to find it
		from += int64(head)
		if to <= int64(len(data)) && data[from:to] == h.data[from:to] {
			return -1
		}
	}
	return want
}

// Every range of a store's file zeroed or overwritten with garbage, and the file cut at every byte.
func TestEveryTearLeavesWhatWasWholeOrIsReported(t *testing.T) {
	for name, tc := range map[string]struct {
		clean bool
		step  int
	}{"left by a kill": {false, 3}, "closed cleanly": {true, 9}} {
		t.Run(name, func(t *testing.T) {
			h := makeHistory(t, tc.clean)
			base := filepath.Join(t.TempDir(), "copy")
			cases, reported := 0, 0
			for tear := range damage.Tears(0, len(h.data), damage.Step(*long, tc.step), "zeros", "garbage") {
				data := string(tear.Apply([]byte(h.data), nil))
				want := h.afterTear(data)
				if tc.clean && data != h.data {
					want = -1
				}
				if want < 0 {
					reported++
				}
				h.check(t, tear.String(), base, data, want, cases%997 == 0)
				cases++
			}
			t.Logf("torn cases: %d, %d of them reported as damage", cases, reported)
		})
	}
}
