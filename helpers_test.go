package braid

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// open opens a broker that the test's end closes.
func open(t testing.TB, dir string, opts Options) *Broker {
	t.Helper()
	b, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return b
}

// openMemory opens an in-memory broker that the test's end closes.
func openMemory(t testing.TB) *Broker {
	t.Helper()
	return open(t, "", Options{InMemory: true})
}

func ensure(t testing.TB, b *Broker, name string, config TopicConfig) *Topic {
	t.Helper()
	topic, err := b.EnsureTopic(t.Context(), name, config)
	if err != nil {
		t.Fatal(err)
	}
	return topic
}

// publish publishes values without keys.
func publish(t testing.TB, topic *Topic, values ...string) []*Record {
	t.Helper()
	recs := make([]*Record, len(values))
	for i, v := range values {
		recs[i] = &Record{Value: []byte(v)}
	}
	if err := topic.Publish(t.Context(), recs...); err != nil {
		t.Fatal(err)
	}
	return recs
}

// values reads a whole topic.
func values(t testing.TB, topic *Topic, opts ReadOptions) []string {
	t.Helper()
	out := []string{}
	for rec, err := range topic.Read(t.Context(), opts) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(rec.Value))
	}
	return out
}

// poll polls until n records have come.
func poll(t testing.TB, sub *Subscription, n int) []*Record {
	t.Helper()
	var out []*Record
	for len(out) < n {
		recs, err := sub.Poll(t.Context(), n-len(out))
		if err != nil {
			t.Fatalf("poll after %d of %d records: %v", len(out), n, err)
		}
		out = append(out, recs...)
	}
	return out
}

func subscribe(t testing.TB, topic *Topic, group string, opts SubscribeOptions) *Subscription {
	t.Helper()
	sub, err := topic.Subscribe(t.Context(), group, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sub.Close() })
	return sub
}

func texts(recs []*Record) []string {
	out := []string{}
	for _, r := range recs {
		out = append(out, string(r.Value))
	}
	return out
}

// numbered returns prefix0 to prefix(n-1).
func numbered(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprint(prefix, i)
	}
	return out
}

// noLeaks fails the test if it ends with more goroutines or descriptors than it began with. To be called
// before anything is opened.
func noLeaks(t *testing.T) {
	t.Helper()
	goroutines, files := runtime.NumGoroutine(), descriptors(t)
	t.Cleanup(func() {
		deadline := time.Now().Add(5 * time.Second)
		for runtime.NumGoroutine() > goroutines && time.Now().Before(deadline) {
			runtime.Gosched() // goroutines that have been waited for may still be on their way out
		}
		if n := runtime.NumGoroutine(); n > goroutines {
			buf := make([]byte, 1<<20)
			t.Errorf("%d goroutines, %d before:\n%s", n, goroutines, buf[:runtime.Stack(buf, true)])
		}
		if now := descriptors(t); len(now) > len(files) {
			t.Errorf("descriptors leaked: %v, before: %v", now, files)
		}
	})
}

// descriptors lists the regular files and directories that the process has open.
func descriptors(t testing.TB) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Log("descriptors are not counted: no /proc/self/fd on this system")
		return nil
	}
	var out []string
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && strings.HasPrefix(target, "/") && !strings.HasPrefix(target, "/dev/") && !strings.HasPrefix(target, "/proc/") {
			out = append(out, target)
		}
	}
	return out
}

// canceled returns a context that has ended.
func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}
