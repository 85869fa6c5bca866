package main

import (
	"strings"
	"testing"
	"time"
)

// Every strategy comes out with an account that agrees with what publishers were told, which run checks, and with what is the strategy's own.
func TestTheTableShowsWhatEachStrategyDoes(t *testing.T) {
	load := Load{For: 300 * time.Millisecond, Publishers: 4, Batch: 10, RecordBytes: 1 << 10, MaxRecords: 512,
		Disk: Disk{BytesPerSecond: 10_000_000, Sync: 5 * time.Millisecond}}
	results, err := all(t.Context(), load, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if r.Account.Stored == 0 || len(r.Calls) == 0 || len(r.Acks) == 0 || r.Queued == 0 {
			t.Errorf("%s: %+v, %d calls, %d acks, %d bytes queued", r.Name, r.Account, len(r.Calls), len(r.Acks), r.Queued)
		}
		for what, n := range map[string]int64{"drop-oldest": r.Account.Dropped, "shed-load": r.Shed, "degrade-quality": r.Plain, "reduced": r.Unsynced} {
			if has := strings.Contains(r.Name, what); has != (n > 0) && r.Name != "adaptive" {
				t.Errorf("%s: %d for %s", r.Name, n, what)
			}
		}
	}
	for _, markdown := range []bool{false, true} {
		var out strings.Builder
		if err := print(&out, results, markdown); err != nil {
			t.Fatal(err)
		}
		if rows := strings.Count(out.String(), "\n"); rows != len(results)+1 && rows != len(results)+2 {
			t.Errorf("%d rows:\n%s", rows, &out)
		}
	}
}
