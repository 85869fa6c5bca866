package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/braid-go/braid"
	"github.com/braid-go/braid/internal/vfs"
)

func TestADiskFailsWhereItIsToldToAndExcusesNothingElse(t *testing.T) {
	told := 0
	d := &failingDisk{fault: fault{Kind: "syncs fail", First: 3, Count: 2}, said: func() { told++ }}
	if d.excuses(braid.ErrPartitionFailed) {
		t.Error("an error is excused by a fault that has not begun")
	}
	var failed []int
	for i := 1; i <= 6; i++ {
		if out := d.Inject(vfs.Op{Kind: vfs.OpRead}); out.Err != nil {
			t.Error("a read fails")
		}
		if out := d.Inject(vfs.Op{Kind: vfs.OpDatasync}); out.Err != nil {
			failed = append(failed, i)
		}
	}
	if fmt.Sprint(failed) != "[3 4]" || told != 1 {
		t.Errorf("syncs %v fail, told %d times", failed, told)
	}
	for err, want := range map[error]bool{
		fmt.Errorf("publish: %w", braid.ErrPartitionFailed): true, fmt.Errorf("open: %w", syscall.EIO): true,
		braid.ErrCorrupt: false, braid.ErrMissingData: false, errors.New("untyped"): false,
	} {
		if d.excuses(err) != want {
			t.Errorf("%v is excused: %v", err, !want)
		}
	}
}

func TestEveryKindOfFaultIsMetAndSurvived(t *testing.T) {
	killable(t)
	if testing.Short() {
		t.Skip("the other tests of the soak meet some of them")
	}
	scratch := t.TempDir()
	st := newStory(rand.Uint64(), scratch, self, func(string, int) {})
	for i, kind := range kindsOfFaults {
		for _, f := range []fault{{Kind: kind, First: 1, Count: 1 << 30}, {Kind: kind, First: 2, Count: 1}} {
			l := &life{moment: moment{note: noteFault, n: 1, after: 20 * time.Millisecond, fault: true}, orders: st.orders}
			l.Seed, l.Seq, l.Clients, l.IDs, l.Fault = uint64(i), st.past.last(), st.past.clients, st.past.ids, f
			_, err := l.live(self)
			for _, e := range l.events {
				st.past.event(e)
			}
			st.past.learn(l.notes)
			st.past.crash(false)
			if !l.failing() {
				t.Errorf("%+v was not met", f)
			}
			if err == nil {
				err = st.judge(t.Context(), filepath.Join(scratch, "data"), braid.Options{})
			}
			if err != nil {
				t.Fatalf("%+v: %v", f, err)
			}
		}
	}
	if err := st.finish(t.Context()); err != nil {
		t.Error(err)
	}
}
