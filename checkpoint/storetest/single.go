package storetest

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/braid-go/braid/checkpoint"
)

func absentKey(t *testing.T, s suite) {
	st := s.start(t)
	want(t, st, "nothing", "-", 0)
	want(t, st, "", "-", 0)
	wantScan(t, st, "")
}

func anyBytes(t *testing.T, s suite) {
	st := s.start(t)
	for _, key := range []string{"", "\x00", "\x00\x00", "\xff", "\xff\xff\xff", "a/b\nc", "\xf0\x28\x8c", strings.Repeat("k", 4096)} {
		value := "value of " + key + "\x00\xff"
		want(t, st, key, value, commit(t, st, put(key, value)))
	}
	big := strings.Repeat("0123456789abcdef", 16<<10)
	want(t, st, "big", big, commit(t, st, put("big", big)))
}

func emptyValue(t *testing.T, s suite) {
	st := s.start(t)
	rev := commit(t, st, batch(func(b *checkpoint.Batch) {
		b.Put([]byte("empty"), []byte{})
		b.Put([]byte("nil"), nil)
	}))
	want(t, st, "empty", "", rev)
	want(t, st, "nil", "", rev)
	wantScan(t, st, "", pair{"empty", "", rev}, pair{"nil", "", rev})
}

func risingRevisions(t *testing.T, s suite) {
	st := s.start(t)
	last := checkpoint.Revision(0)
	for i := range 5 {
		rev := commit(t, st, put("k", "v"))
		if rev <= last {
			t.Fatalf("revision %d after %d", rev, last)
		}
		last = rev
		if i == 2 {
			commit(t, st, batch(func(b *checkpoint.Batch) { b.Delete([]byte("k")) }))
			want(t, st, "k", "-", 0)
		}
	}
	commit(t, st, batch(func(b *checkpoint.Batch) { b.Delete([]byte("was never there")) }))
	want(t, st, "k", "v", last)
}

func oneRevision(t *testing.T, s suite) {
	st := s.start(t)
	rev := commit(t, st, batch(func(b *checkpoint.Batch) {
		b.Put([]byte("a"), []byte("1"))
		b.Put([]byte("b"), []byte("2"))
		b.Delete([]byte("c"))
	}))
	wantScan(t, st, "", pair{"a", "1", rev}, pair{"b", "2", rev})
	next := commit(t, st, put("b", "3"))
	wantScan(t, st, "", pair{"a", "1", rev}, pair{"b", "3", next})
}

func lastWriteCounts(t *testing.T, s suite) {
	st := s.start(t)
	rev := commit(t, st, batch(func(b *checkpoint.Batch) {
		b.Put([]byte("a"), []byte("1"))
		b.Put([]byte("a"), []byte("2"))
		b.Put([]byte("gone"), []byte("x"))
		b.Delete([]byte("gone"))
		b.Delete([]byte("back"))
		b.Put([]byte("back"), []byte("y"))
	}))
	wantScan(t, st, "", pair{"a", "2", rev}, pair{"back", "y", rev})
}

func conflict(t *testing.T, s suite) {
	st := s.start(t)
	old := commit(t, st, put("k", "1"))
	rev := commit(t, st, put("k", "2"))
	attempt := func(key string, expected checkpoint.Revision) *checkpoint.Batch {
		return batch(func(b *checkpoint.Batch) {
			b.Put([]byte("before"), []byte("x"))
			b.Delete([]byte("k"))
			b.Expect([]byte(key), expected)
			b.Put([]byte("after"), []byte("x"))
		})
	}
	wantConflict(t, st, attempt("k", old), "k", old, rev)
	wantConflict(t, st, attempt("k", 0), "k", 0, rev)
	wantConflict(t, st, attempt("k", rev+1000), "k", rev+1000, rev)
	wantConflict(t, st, attempt("absent", 3), "absent", 3, 0)
	wantConflict(t, st, batch(func(b *checkpoint.Batch) {
		b.Expect([]byte("k"), rev)
		b.Expect([]byte("k"), old)
		b.Put([]byte("k"), []byte("x"))
	}), "k", old, rev)
	wantScan(t, st, "", pair{"k", "2", rev})
}

func expectBefore(t *testing.T, s suite) {
	st := s.start(t)
	rev := commit(t, st, batch(func(b *checkpoint.Batch) {
		b.Put([]byte("new"), []byte("1"))
		b.Expect([]byte("new"), 0)
	}))
	next := commit(t, st, batch(func(b *checkpoint.Batch) {
		b.Delete([]byte("new"))
		b.Expect([]byte("new"), rev)
		b.Put([]byte("other"), []byte("2"))
		b.Expect([]byte("other"), 0)
		b.Expect([]byte("other"), 0)
	}))
	wantScan(t, st, "", pair{"other", "2", next})
}

func emptyBatch(t *testing.T, s suite) {
	st := s.start(t)
	rev := commit(t, st, put("k", "v"))
	commit(t, st, new(checkpoint.Batch))
	wantScan(t, st, "", pair{"k", "v", rev})
}

func checkOnly(t *testing.T, s suite) {
	st := s.start(t)
	rev := commit(t, st, put("k", "v"))
	commit(t, st, batch(func(b *checkpoint.Batch) {
		b.Expect([]byte("k"), rev)
		b.Expect([]byte("absent"), 0)
	}))
	wantConflict(t, st, batch(func(b *checkpoint.Batch) { b.Expect([]byte("absent"), rev) }), "absent", rev, 0)
	wantScan(t, st, "", pair{"k", "v", rev})
}

func ownership(t *testing.T, s suite) {
	st := s.start(t)
	key, value := []byte("key"), []byte("value")
	b := batch(func(b *checkpoint.Batch) { b.Put(key, value) })
	copy(key, "xxx")
	copy(value, "xxxxx")
	rev := commit(t, st, b)
	b.Reset()
	b.Put([]byte("yyy"), []byte("yyyyy"))
	want(t, st, "key", "value", rev)
	got, _, err := st.Get(t.Context(), []byte("key"))
	if err != nil {
		t.Fatal(err)
	}
	copy(got, "zzzzz")
	_ = append(got, "zzzzz"...)
	for e := range st.Scan(t.Context(), nil) {
		copy(e.Key, "zzz")
		copy(e.Value, "zzzzz")
		_ = append(e.Key, "zzzzzzz"...)
	}
	wantScan(t, st, "", pair{"key", "value", rev})
}

func reuse(t *testing.T, s suite) {
	st := s.start(t)
	b := put("k", "1")
	first := commit(t, st, b)
	second := commit(t, st, b)
	if second <= first {
		t.Errorf("revision %d after %d", second, first)
	}
	if b.Len() != 1 {
		t.Errorf("the batch has %d operations after Commit, want 1", b.Len())
	}
	b.Reset()
	if b.Len() != 0 {
		t.Errorf("the batch has %d operations after Reset", b.Len())
	}
	b.Expect([]byte("k"), first)
	if _, err := st.Commit(t.Context(), b); !errors.Is(err, checkpoint.ErrConflict) {
		t.Errorf("error %v, want ErrConflict", err)
	}
	b.Reset()
	b.Put([]byte("l"), []byte("2"))
	third := commit(t, st, b)
	wantScan(t, st, "", pair{"k", "1", second}, pair{"l", "2", third})
}

func scanOrder(t *testing.T, s suite) {
	st := s.start(t)
	keys := []string{"", "a", "a\x00", "aa", "ab", "a\xff", "a\xff\xff", "b", "\xff", "\xff\xff"}
	rev := commit(t, st, batch(func(b *checkpoint.Batch) {
		for i := range keys {
			b.Put([]byte(keys[len(keys)-1-i]), []byte("v"))
		}
	}))
	for prefix, wantKeys := range map[string][]string{
		"": keys, "a": keys[1:7], "a\xff": keys[5:7], "\xff": keys[8:], "ab": {"ab"}, "abc": nil, "c": nil,
	} {
		var all []pair
		for _, key := range wantKeys {
			all = append(all, pair{key, "v", rev})
		}
		wantScan(t, st, prefix, all...)
	}
}

func scanSnapshot(t *testing.T, s suite) {
	st := s.start(t)
	rev := commit(t, st, batch(func(b *checkpoint.Batch) {
		for _, key := range "abcdef" {
			b.Put([]byte(string(key)), []byte("old"))
		}
	}))
	n := 0
	for e, err := range st.Scan(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			commit(t, st, batch(func(b *checkpoint.Batch) {
				b.Delete([]byte("c"))
				b.Put([]byte("d"), []byte("new"))
				b.Put([]byte("bb"), []byte("new"))
			}))
		}
		if len(e.Key) != 1 || string(e.Value) != "old" || e.Revision != rev {
			t.Errorf("entry %q = %q at %d is from after the scan began", e.Key, e.Value, e.Revision)
		}
		n++
	}
	if n != 6 {
		t.Errorf("%d entries, want 6", n)
	}
}

func scanStop(t *testing.T, s suite) {
	st := s.start(t)
	commit(t, st, put("a", "1"))
	seq := st.Scan(t.Context(), nil)
	commit(t, st, put("b", "2"))
	for range 2 {
		for e := range seq {
			if string(e.Key) != "a" {
				t.Errorf("first entry is %q", e.Key)
			}
			break
		}
	}
	n := 0
	for range seq {
		n++
	}
	if n != 2 {
		t.Errorf("%d entries, want those at the iteration's begin: 2", n)
	}
}

func endedContext(t *testing.T, s suite) {
	st := s.start(t)
	rev := commit(t, st, put("k", "v"))
	cause, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := st.Commit(cause, put("k", "x")); !errors.Is(err, context.Canceled) {
		t.Errorf("commit: error %v, want context.Canceled", err)
	}
	if _, _, err := st.Get(cause, []byte("k")); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("get: error %v", err)
	}
	n := 0
	for _, err := range st.Scan(cause, nil) {
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("scan: error %v", err)
		}
		n++
	}
	if n > 1 {
		t.Errorf("scan of one key yielded %d pairs", n)
	}
	wantScan(t, st, "", pair{"k", "v", rev})
}

func limits(t *testing.T, s suite) {
	if !s.features.Bounded {
		t.Skip("the store is not bounded")
	}
	st := s.start(t)
	rev := commit(t, st, put("k", "v"))
	key, value := make([]byte, checkpoint.MaxKeyBytes+1), make([]byte, checkpoint.MaxValueBytes+1)
	for name, b := range map[string]*checkpoint.Batch{
		"key put":      batch(func(b *checkpoint.Batch) { b.Put([]byte("l"), nil); b.Put(key, nil) }),
		"key deleted":  batch(func(b *checkpoint.Batch) { b.Put([]byte("l"), nil); b.Delete(key) }),
		"key expected": batch(func(b *checkpoint.Batch) { b.Put([]byte("l"), nil); b.Expect(key, 0) }),
		"value":        batch(func(b *checkpoint.Batch) { b.Put([]byte("l"), value) }),
		"batch": batch(func(b *checkpoint.Batch) {
			for range checkpoint.MaxBatchBytes/checkpoint.MaxValueBytes + 1 {
				b.Put([]byte("l"), value[1:])
			}
		}),
		"length": batch(func(b *checkpoint.Batch) {
			for range checkpoint.MaxBatchLen + 1 {
				b.Delete(nil)
			}
		}),
	} {
		var limit *checkpoint.LimitError
		if _, err := st.Commit(t.Context(), b); !errors.Is(err, checkpoint.ErrLimit) || !errors.As(err, &limit) {
			t.Errorf("%s: error %v, want a *LimitError", name, err)
		}
	}
	wantScan(t, st, "", pair{"k", "v", rev})
	rev = commit(t, st, batch(func(b *checkpoint.Batch) { b.Put(key[1:], value[1:]) }))
	got, gotRev, err := st.Get(t.Context(), key[1:])
	if err != nil || gotRev != rev || !bytes.Equal(got, value[1:]) {
		t.Errorf("the largest key: %d bytes at %d, error %v", len(got), gotRev, err)
	}
}

func closed(t *testing.T, s suite) {
	st := s.start(t)
	commit(t, st, put("k", "v"))
	seq := st.Scan(t.Context(), nil)
	for range 2 {
		if err := st.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
	}
	if _, err := st.Commit(t.Context(), put("k", "v")); !errors.Is(err, checkpoint.ErrClosed) {
		t.Errorf("commit: error %v, want ErrClosed", err)
	}
	if _, _, err := st.Get(t.Context(), []byte("k")); !errors.Is(err, checkpoint.ErrClosed) {
		t.Errorf("get: error %v, want ErrClosed", err)
	}
	n := 0
	for _, err := range seq {
		if !errors.Is(err, checkpoint.ErrClosed) {
			t.Errorf("scan: error %v, want ErrClosed", err)
		}
		n++
	}
	if n != 1 {
		t.Errorf("scan yielded %d pairs, want one with an error", n)
	}
}

func reopen(t *testing.T, s suite) {
	if s.features.Reopen == nil {
		t.Skip("the store does not outlive Close")
	}
	st := s.open(t)
	var all []pair
	for round := range 3 {
		for _, key := range []string{"a", "b", "c"} {
			key += string(rune('0' + round))
			all = append(all, pair{key, "v", commit(t, st, put(key, "v"))})
		}
		commit(t, st, put("z", "gone"))
		last := commit(t, st, batch(func(b *checkpoint.Batch) { b.Delete([]byte("z")) }))
		st = s.features.Reopen(t, st)
		if rev := commit(t, st, put("y", "v")); rev <= last {
			t.Errorf("revision %d after reopening, %d before", rev, last)
		}
		commit(t, st, batch(func(b *checkpoint.Batch) { b.Delete([]byte("y")) }))
		for _, p := range all {
			want(t, st, p.Key, p.Value, p.Rev)
		}
		if got := scan(t, st, ""); len(got) != len(all) {
			t.Errorf("%d keys after reopening, want %d", len(got), len(all))
		}
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
}
