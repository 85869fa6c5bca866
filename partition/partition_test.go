package partition

import (
	"context"
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/braid-go/braid/internal/vfs"
	"github.com/braid-go/braid/log"
)

// text is a source of one record per string.
type text []string

func (s text) AppendTo(b *log.Builder, i int, now int64) error {
	return b.Append(now, nil, []byte(s[i]), nil)
}

func request(p *Partition, values ...string) *Request {
	n := int64(0)
	for _, v := range values {
		n += int64(len(v))
	}
	return p.NewRequest(text(values), len(values), n, nil)
}

func testPartition(t testing.TB, fsys vfs.FS, mode log.Mode) *Partition {
	t.Helper()
	s := NewScheduler(SchedulerOptions{Mode: mode})
	p, err := Create(Config{FS: fsys, Dir: "p", Mode: mode, Scheduler: s}, log.Birth{PartitionID: 1}, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(context.Background()); err != nil {
			t.Errorf("close: %v", err)
		}
		s.Close()
	})
	return p
}

func publish(ctx context.Context, p *Partition, values ...string) (int64, error) {
	r := request(p, values...)
	defer r.Release()
	if err := p.Submit(ctx, r); err != nil {
		return 0, err
	}
	if err := r.Wait(ctx); err != nil {
		return 0, err
	}
	return r.Base(), nil
}

func stored(t testing.TB, p *Partition) []string {
	t.Helper()
	r := p.Log().NewReader(0, log.ReaderOptions{})
	defer r.Close()
	out := []string{}
	for {
		f, err := r.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		var rec log.Record
		for {
			ok, err := f.Next(&rec)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			if rec.Offset != int64(len(out)) {
				t.Fatalf("offset %d, want %d", rec.Offset, len(out))
			}
			out = append(out, string(rec.Value))
		}
	}
}

func TestRequestsAreStoredInOrder(t *testing.T) {
	for _, mode := range []log.Mode{log.ModeFsync, log.ModeInterval, log.ModeOS} {
		p := testPartition(t, vfs.NewMem(), mode)
		var wg sync.WaitGroup
		const publishers, each = 50, 40
		for i := range publishers {
			wg.Go(func() {
				for j := range each {
					if _, err := publish(t.Context(), p, fmt.Sprint(i, " ", 2*j), fmt.Sprint(i, " ", 2*j+1)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		next := map[int]int{}
		for _, v := range stored(t, p) {
			var i, j int
			fmt.Sscan(v, &i, &j)
			if next[i] != j {
				t.Fatalf("publisher %d: %d follows %d", i, j, next[i]-1)
			}
			next[i]++
		}
		s := p.Stats()
		if want := int64(publishers * each * 2); s.Stored != want || s.Accepted != want || s.Unknown+s.Rejected != 0 {
			t.Errorf("mode %d: %+v, want %d stored", mode, s, want)
		}
	}
}
