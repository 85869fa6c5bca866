package checkpoint_test

import (
	"errors"
	"testing"

	"github.com/braid-go/braid/checkpoint"
)

// heldCommit is a commit that has taken effect, and whose caller has not been told.
type heldCommit struct {
	tell     chan struct{}
	returned chan error
	rev      checkpoint.Revision // once returned
}

// hold begins a commit and returns when it has taken effect.
func hold(t *testing.T, store *hookedStore, c *checkpoint.Cache, b *checkpoint.Batch, outcome error) *heldCommit {
	t.Helper()
	h := &heldCommit{tell: make(chan struct{}), returned: make(chan error, 1)}
	done := make(chan struct{})
	store.commit = func(b *checkpoint.Batch, m *checkpoint.Memory) (checkpoint.Revision, error) {
		rev, err := m.Commit(t.Context(), b)
		close(done)
		<-h.tell
		if outcome != nil {
			return 0, outcome
		}
		return rev, err
	}
	go func() {
		var err error
		h.rev, err = c.Commit(t.Context(), b)
		h.returned <- err
	}()
	<-done
	store.commit = nil
	return h
}

// release lets the caller be told.
func (h *heldCommit) release() error {
	close(h.tell)
	return <-h.returned
}

func deleting(key string) *checkpoint.Batch {
	var b checkpoint.Batch
	b.Delete([]byte(key))
	return &b
}

// overtaken has a Get of "k" miss, read, and be held while happen runs.
func overtaken(t *testing.T, store *hookedStore, c *checkpoint.Cache, happen func()) string {
	t.Helper()
	store.afterGet = func(string) {
		store.afterGet = nil
		happen()
	}
	value, _ := mustGet(t, c, "k")
	return value
}

func TestAGetThatACommitOvertakesDoesNotBringBackTheOldValue(t *testing.T) {
	for name, b := range map[string]*checkpoint.Batch{"put": putting("k", "new"), "delete": deleting("k")} {
		for _, opts := range []checkpoint.CacheOptions{{}, {MaxEntries: 1}} {
			t.Run(name, func(t *testing.T) {
				store := newHooked()
				mustPut(t, store, "k", "old")
				c := newCache(t, store, opts)
				got := overtaken(t, store, c, func() {
					if _, err := c.Commit(t.Context(), b); err != nil {
						t.Error(err)
					}
					if opts.MaxEntries == 1 {
						mustPut(t, c, "other", "x") // evicts what the commit left
					}
				})
				if got != "old" {
					t.Errorf("the Get answers %q, which it read before the commit: want %q", got, "old")
				}
				wantAnswers(t, c, store.Memory, int64(1-opts.MaxEntries), []string{"k"})
			})
		}
	}
}

func TestAGetThatAFailedCommitOvertakesIsNotRemembered(t *testing.T) {
	for name, fail := range map[string]func(*testing.T, *hookedStore, *checkpoint.Cache){
		"the outcome is unknown": func(t *testing.T, store *hookedStore, c *checkpoint.Cache) {
			if err := hold(t, store, c, putting("k", "new"), checkpoint.ErrOutcomeUnknown).release(); err == nil {
				t.Error("no error")
			}
		},
		"an expectation fails because of somebody else": func(t *testing.T, store *hookedStore, c *checkpoint.Cache) {
			mustPut(t, store, "k", "new")
			b := putting("other", "x")
			b.Expect([]byte("k"), 1)
			if _, err := c.Commit(t.Context(), b); err == nil {
				t.Error("no error")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			store := newHooked()
			mustPut(t, store, "k", "old")
			c := newCache(t, store, checkpoint.CacheOptions{})
			overtaken(t, store, c, func() { fail(t, store, c) })
			wantMisses(t, c, store.Memory, "k")
			wantHits(t, c, store.Memory, "k")
		})
	}
}

func TestAGetThatAnotherKeysCommitOvertakesIsRemembered(t *testing.T) {
	store := newHooked()
	c := newCache(t, store, checkpoint.CacheOptions{})
	overtaken(t, store, c, func() { mustPut(t, c, "l", "new") })
	wantHits(t, c, store.Memory, "k", "l")
}

func TestWhileACommitIsUnderWayItsKeysAreAskedOfTheStore(t *testing.T) {
	store := newHooked()
	c := newCache(t, store, checkpoint.CacheOptions{})
	mustPut(t, c, "k", "old", "l", "old")
	h := hold(t, store, c, putting("k", "new"), nil)
	for e := range c.Scan(t.Context(), []byte("k")) {
		if string(e.Value) != "new" {
			t.Fatalf("a scan shows %q", e.Value)
		}
	}
	wantMisses(t, c, store.Memory, "k", "k") // and not the old value, which was remembered
	wantHits(t, c, store.Memory, "l")
	if err := h.release(); err != nil {
		t.Fatal(err)
	}
	wantHits(t, c, store.Memory, "k")
}

func TestWhereADeleteOverlapsAnotherCommitTheStoreIsAsked(t *testing.T) {
	for _, order := range [][2]*checkpoint.Batch{
		{deleting("k"), putting("k", "new")}, {putting("k", "new"), deleting("k")}, {deleting("k"), deleting("k")},
	} {
		for _, firstReturnsLast := range []bool{false, true} {
			store := newHooked()
			c := newCache(t, store, checkpoint.CacheOptions{})
			mustPut(t, c, "k", "before")
			a := hold(t, store, c, order[0], nil)
			b := hold(t, store, c, order[1], nil)
			if firstReturnsLast {
				a, b = b, a
			}
			if err := a.release(); err != nil {
				t.Fatal(err)
			}
			if err := b.release(); err != nil {
				t.Fatal(err)
			}
			wantMisses(t, c, store.Memory, "k")
			wantHits(t, c, store.Memory, "k")
			mustPut(t, c, "k", "later") // what follows is not affected
			wantHits(t, c, store.Memory, "k")
		}
	}
}

func TestWhereACommitOfUnknownOutcomeOverlapsAnotherTheStoreIsAsked(t *testing.T) {
	for _, unknownReturnsLast := range []bool{false, true} {
		store := newHooked()
		c := newCache(t, store, checkpoint.CacheOptions{})
		known := hold(t, store, c, putting("k", "known"), nil)
		unknown := hold(t, store, c, putting("k", "unknown"), checkpoint.ErrOutcomeUnknown)
		returns := []*heldCommit{unknown, known}
		if unknownReturnsLast {
			returns[0], returns[1] = known, unknown
		}
		for _, h := range returns {
			if err := h.release(); (err != nil) != (h == unknown) {
				t.Fatalf("error %v", err)
			}
		}
		wantMisses(t, c, store.Memory, "k")
		wantHits(t, c, store.Memory, "k")
	}
}

func TestACommitThatReturnsAfterCloseIsNotRemembered(t *testing.T) {
	store := newHooked()
	c := newCache(t, store, checkpoint.CacheOptions{})
	h := hold(t, store, c, putting("k", "v"), nil)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := h.release(); err != nil {
		t.Fatal(err)
	}
	if stats := c.Stats(); stats.Entries != 0 {
		t.Errorf("after Close %+v", stats)
	}
}

func TestAfterAPanicOfTheStoreTheKeysAreAskedForAgain(t *testing.T) {
	for _, done := range []bool{false, true} {
		store := newHooked()
		c := newCache(t, store, checkpoint.CacheOptions{})
		mustPut(t, c, "put", "old", "deleted", "old")
		store.commit = func(b *checkpoint.Batch, m *checkpoint.Memory) (checkpoint.Revision, error) {
			if done {
				m.Commit(t.Context(), b)
			}
			panic("of the store")
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic is lost")
				}
			}()
			b := putting("put", "new")
			b.Delete([]byte("deleted"))
			c.Commit(t.Context(), b)
		}()
		wantMisses(t, c, store.Memory, "put", "deleted")
		wantHits(t, c, store.Memory, "put", "deleted")
	}
}

// Under steady traffic somebody is always reading; a single commit must not keep the key out of the cache for as long as that lasts.
func TestAKeyThatIsAlwaysBeingReadComesBackIntoTheCacheAfterACommit(t *testing.T) {
	store := newHooked()
	c := newCache(t, store, checkpoint.CacheOptions{})
	mustPut(t, store, "k", "before")

	reading, answer := make(chan struct{}), make(chan struct{})
	store.afterGet = func(string) { close(reading); <-answer }
	slow := make(chan struct{})
	go func() { defer close(slow); mustGet(t, c, "k") }()
	<-reading
	store.afterGet = nil

	h := hold(t, store, c, putting("k", "after"), errors.New("no answer"))
	if err := h.release(); err == nil {
		t.Fatal("the commit's error is lost")
	}
	wantMisses(t, c, store.Memory, "k")
	wantHits(t, c, store.Memory, "k") // and the slow one is under way all the time
	close(answer)
	<-slow
	wantHits(t, c, store.Memory, "k")
}
