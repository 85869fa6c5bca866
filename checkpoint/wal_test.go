package checkpoint_test

import (
	"errors"
	"testing"

	"github.com/braid-go/braid/checkpoint"
	"github.com/braid-go/braid/checkpoint/storetest"
)

var testID = [16]byte{1, 2, 3}

// openWAL opens a store for a test; create allows it to be new.
func openWAL(t testing.TB, dir string, opts checkpoint.WALOptions) *checkpoint.WAL {
	t.Helper()
	opts.ID = testID
	w, err := checkpoint.OpenWAL(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func TestWALConforms(t *testing.T) {
	for name, opts := range map[string]checkpoint.WALOptions{
		"one generation":   {},
		"many generations": {GenerationBytes: 2000},
	} {
		t.Run(name, func(t *testing.T) {
			dirs := map[checkpoint.Store]string{}
			storetest.TestStore(t, func(t *testing.T) checkpoint.Store {
				dir := t.TempDir()
				o := opts
				o.Create = true
				s := openWAL(t, dir, o)
				dirs[s] = dir
				return s
			}, storetest.Features{Bounded: true, Reopen: func(t *testing.T, s checkpoint.Store) checkpoint.Store {
				t.Helper()
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				again := openWAL(t, dirs[s], opts)
				if r := again.Report(); !r.Clean || r.Created || len(r.Torn) > 0 {
					t.Errorf("after a clean close the report is %+v", r)
				}
				dirs[again] = dirs[s]
				return again
			}})
		})
	}
}

func TestAFullWALRefusesGrowthAndCanBeEmptied(t *testing.T) {
	fullStore(t, openWAL(t, t.TempDir(), checkpoint.WALOptions{Create: true, MaxBytes: 2000}), 2000)
}

func TestCloseAfterCloseIsNoError(t *testing.T) {
	w := openWAL(t, t.TempDir(), checkpoint.WALOptions{Create: true})
	for range 3 {
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	var b checkpoint.Batch
	b.Put([]byte("k"), nil)
	if _, err := w.Commit(t.Context(), &b); !errors.Is(err, checkpoint.ErrClosed) {
		t.Errorf("error %v, want ErrClosed", err)
	}
}
