package braid

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/braid-go/braid/checkpoint"
	"github.com/braid-go/braid/internal/vfs"
)

// switched is an injector that can be changed while it is in use.
type switched struct{ inj atomic.Pointer[vfs.Injector] }

func (s *switched) Inject(op vfs.Op) vfs.Outcome {
	if inj := s.inj.Load(); inj != nil {
		return (*inj).Inject(op)
	}
	return vfs.Outcome{}
}

func (s *switched) set(inj vfs.Injector) { s.inj.Store(&inj) }
func (s *switched) off()                 { s.inj.Store(nil) }

// openFaulty opens a broker on the real file system whose partitions' operations can be made to fail.
func openFaulty(t *testing.T, dir string) (*Broker, *switched) {
	t.Helper()
	s := &switched{}
	return open(t, dir, Options{fs: vfs.NewFault(vfs.OS, s)}), s
}

// settled waits until the next round of a lone publisher goes straight to its segment: the commit log is idle, and no frame
// of an earlier round, which may have shared a sync of it, still has to follow.
func settled(t *testing.T, b *Broker) {
	t.Helper()
	for b.store.(*checkpoint.WAL).Busy() {
		runtime.Gosched()
	}
	for _, topic := range b.Topics() {
		values(t, topic, ReadOptions{}) // a reader has frames written at once
	}
}

func TestAFailedSyncFailsThePartitionUntilReopening(t *testing.T) {
	for name, kind := range map[string]vfs.OpKind{"sync": vfs.OpDatasync, "write": vfs.OpWrite} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			b, faults := openFaulty(t, dir)
			topic, other := ensure(t, b, "t", TopicConfig{}), ensure(t, b, "other", TopicConfig{})
			publish(t, topic, "before")
			settled(t, b)
			trigger := vfs.FailFrom(1, syscall.EIO, vfs.OpIs(kind))
			faults.set(trigger)
			err := topic.Publish(t.Context(), &Record{Value: []byte("lost?")})
			if !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, syscall.EIO) {
				t.Errorf("error %v, want ErrOutcomeUnknown with EIO inside", err)
			}
			failures := trigger.Count()
			err = topic.Publish(t.Context(), &Record{Value: []byte("refused")})
			if !errors.Is(err, ErrPartitionFailed) || errors.Is(err, ErrOutcomeUnknown) {
				t.Errorf("error %v, want ErrPartitionFailed", err)
			}
			if n := trigger.Count(); n != failures {
				t.Errorf("%d more operations after the failure: a sync is never tried again", n-failures)
			}
			faults.off()
			publish(t, other, "others go on")
			if err := topic.Publish(t.Context(), &Record{Value: []byte("still refused")}); !errors.Is(err, ErrPartitionFailed) {
				t.Errorf("error %v, want ErrPartitionFailed until reopening", err)
			}
			if err := topic.Partitions()[0].Err; !errors.Is(err, ErrPartitionFailed) {
				t.Errorf("Partitions says %v", err)
			}
			if diff := cmp.Diff([]string{"before"}, values(t, topic, ReadOptions{})); diff != "" {
				t.Errorf("what was visible is no longer readable: %s", diff)
			}
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			b = open(t, dir, Options{})
			topic, err = b.Topic("t")
			if err != nil {
				t.Fatal(err)
			}
			publish(t, topic, "after")
			got := values(t, topic, ReadOptions{})
			if diff := cmp.Diff([]string{"before", "after"}, got); diff != "" && len(cmp.Diff([]string{"before", "lost?", "after"}, got)) > 0 {
				t.Errorf("after reopening: %q", got)
			}
		})
	}
}

func TestAFullDiskRefusesAndRecovers(t *testing.T) {
	dir := t.TempDir()
	b, faults := openFaulty(t, dir)
	topic := ensure(t, b, "t", TopicConfig{})
	publish(t, topic, "before")
	sub := subscribe(t, topic, "g", SubscribeOptions{})
	poll(t, sub, 1)
	settled(t, b)
	faults.set(vfs.FailFrom(1, syscall.ENOSPC, vfs.OpIs(vfs.OpWrite, vfs.OpReserve, vfs.OpCreate)))
	big := &Record{Value: make([]byte, 500_000)} // more than what is reserved ahead
	for range 3 {
		if err := topic.Publish(t.Context(), big); !errors.Is(err, ErrNoSpace) || errors.Is(err, ErrOutcomeUnknown) {
			t.Fatalf("error %v, want ErrNoSpace", err)
		}
	}
	if diff := cmp.Diff([]string{"before"}, values(t, topic, ReadOptions{})); diff != "" {
		t.Error(diff)
	}
	if err := sub.CommitDelivered(t.Context()); err != nil {
		t.Errorf("committing a position while the disk is full: %v", err)
	}
	faults.off()
	publish(t, topic, "after")
	if diff := cmp.Diff([]string{"before", "after"}, values(t, topic, ReadOptions{})); diff != "" {
		t.Error(diff)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = open(t, dir, Options{})
	topic, err := b.Topic("t")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"before", "after"}, values(t, topic, ReadOptions{})); diff != "" {
		t.Errorf("after reopening: %s", diff)
	}
}

// block returns an injector that holds operations of a kind until release is called, and a channel that
// receives when the first one is held.
func block(kind vfs.OpKind) (inj vfs.Injector, held <-chan struct{}, release func()) {
	begun, gate := make(chan struct{}, 1), make(chan struct{})
	return vfs.InjectorFunc(func(op vfs.Op) vfs.Outcome {
		if op.Kind == kind {
			select {
			case begun <- struct{}{}:
			default:
			}
			<-gate
		}
		return vfs.Outcome{}
	}), begun, func() { close(gate) }
}

func TestACanceledPublishSaysWhatIsTrue(t *testing.T) {
	b, faults := openFaulty(t, t.TempDir())
	topic := ensure(t, b, "t", TopicConfig{})
	publish(t, topic, "before")
	settled(t, b)
	inj, held, release := block(vfs.OpDatasync)
	faults.set(inj)

	written, giveUp := context.WithCancel(t.Context())
	onItsWay := make(chan error, 1)
	go func() { onItsWay <- topic.Publish(written, &Record{Value: []byte("on its way")}) }()
	<-held // its frame is written, the sync is stuck
	giveUp()
	if err := <-onItsWay; !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want ErrOutcomeUnknown and context.Canceled", err)
	}

	queued, giveUp := context.WithCancel(t.Context())
	waiting := make(chan error, 1)
	rec := &Record{Value: []byte("withdrawn")}
	go func() { waiting <- topic.Publish(queued, rec) }()
	giveUp()
	if err := <-waiting; !errors.Is(err, context.Canceled) || errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("error %v, want context.Canceled only", err)
	}
	rec.Value[0] = 'X' // it is ours again; the race detector watches

	release()
	if err := topic.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"before", "on its way"}, values(t, topic, ReadOptions{})); diff != "" {
		t.Error(diff)
	}
}

func TestACallbackThatWouldHaveToWaitIsRefused(t *testing.T) {
	s := &switched{}
	b := open(t, t.TempDir(), Options{fs: vfs.NewFault(vfs.OS, s), Limits: Limits{MaxQueueDepth: 2}})
	topic := ensure(t, b, "t", TopicConfig{})
	publish(t, topic, "before")
	settled(t, b)
	done := make(chan error, 1)
	inj, held, release := block(vfs.OpDatasync)
	err := topic.PublishAsync(t.Context(), func(*Record, error) {
		if err := topic.Flush(context.Background()); !errors.Is(err, ErrBusy) {
			t.Errorf("Flush: error %v, want ErrBusy", err)
		}
		if err := b.Close(); !errors.Is(err, ErrBusy) {
			t.Errorf("Close: error %v, want ErrBusy", err)
		}
		s.set(inj)
		for i := 0; ; i++ { // fills the queue behind the stuck sync
			if err := topic.PublishAsync(context.Background(), nil, &Record{Value: fmt.Append(nil, i)}); err != nil {
				done <- err
				return
			}
		}
	}, &Record{Value: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	<-held
	if err := <-done; !errors.Is(err, ErrBusy) {
		t.Errorf("error %v, want ErrBusy", err)
	}
	release()
}

func TestShutdownBoundedByItsContextTellsTheWaitersTheTruth(t *testing.T) {
	noLeaks(t)
	s := &switched{}
	b, err := Open(t.TempDir(), Options{fs: vfs.NewFault(vfs.OS, s)})
	if err != nil {
		t.Fatal(err)
	}
	topic := ensure(t, b, "t", TopicConfig{})
	publish(t, topic, "before")
	settled(t, b)
	inj, held, release := block(vfs.OpDatasync)
	s.set(inj)
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- topic.Publish(context.Background(), &Record{Value: []byte("in the sync")}) }()
	<-held
	queued := make(chan struct{})
	go func() {
		second <- topic.PublishAsync(context.Background(), func(_ *Record, err error) { second <- err }, &Record{Value: []byte("queued")})
		close(queued)
	}()
	<-queued
	if err := <-second; err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	go func() { closed <- b.Shutdown(canceled()) }()
	for !errors.Is(topic.Publish(canceled(), &Record{Value: []byte("probe")}), ErrClosed) { // until closing has begun
		runtime.Gosched()
	}
	release()
	if err := <-closed; err != nil {
		t.Errorf("shutdown: %v", err)
	}
	if err := <-first; err != nil {
		t.Errorf("what the disk was working on: %v", err)
	}
	if err := <-second; err != nil && !errors.Is(err, ErrClosed) {
		t.Errorf("what was queued: %v, want nil or ErrClosed", err)
	}
}
