package watermill_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/braid-go/braid"
	"github.com/braid-go/braid/adapters/watermill"
)

// next returns the next message of a channel.
func next(t *testing.T, messages <-chan *message.Message) *message.Message {
	t.Helper()
	select {
	case msg, ok := <-messages:
		if !ok {
			t.Fatal("the channel is closed")
		}
		return msg
	case <-time.After(10 * time.Second):
		t.Fatal("no message came")
	}
	return nil
}

func subscribe(t *testing.T, s *watermill.Subscriber, topic string) <-chan *message.Message {
	t.Helper()
	messages, err := s.Subscribe(context.Background(), topic)
	if err != nil {
		t.Fatal(err)
	}
	return messages
}

func TestAMessageArrivesWholeAndWhatWasNotAcknowledgedComesAgain(t *testing.T) {
	dir := t.TempDir()
	broker, err := braid.Open(dir, braid.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p := watermill.NewPublisher(broker, watermill.PublisherConfig{})
	sent := message.NewMessage("id-1", nil)
	sent.Metadata.Set("a", "b")
	if err := p.Publish("t", sent, message.NewMessage("id-2", []byte("two"))); err != nil {
		t.Fatal(err)
	}
	s := watermill.NewSubscriber(broker, watermill.SubscriberConfig{Group: "g"})
	messages := subscribe(t, s, "t")
	got := next(t, messages)
	if got.UUID != "id-1" || len(got.Payload) != 0 || len(got.Metadata) != 1 || got.Metadata.Get("a") != "b" {
		t.Errorf("got %+v", got)
	}
	got.Nack()
	if got = next(t, messages); got.UUID != "id-1" {
		t.Errorf("after Nack %s came", got.UUID)
	}
	got.Ack()
	if got = next(t, messages); got.UUID != "id-2" {
		t.Errorf("after Ack %s came", got.UUID)
	}
	if err := s.Close(); err != nil { // with the second unanswered
		t.Fatal(err)
	}
	if err := got.Context().Err(); err == nil {
		t.Error("its context goes on")
	}
	if _, open := <-messages; open {
		t.Error("the channel is open")
	}
	if err := broker.Close(); err != nil {
		t.Fatal(err)
	}
	if broker, err = braid.Open(dir, braid.Options{}); err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	s = watermill.NewSubscriber(broker, watermill.SubscriberConfig{Group: "g"})
	defer s.Close()
	if got = next(t, subscribe(t, s, "t")); got.UUID != "id-2" {
		t.Errorf("after restarting %s came", got.UUID)
	}
	got.Ack()
}

func TestWhatIsClosedOrBadIsRefused(t *testing.T) {
	broker := openBroker(t)
	bad := errors.New("no key")
	p := watermill.NewPublisher(broker, watermill.PublisherConfig{Key: func(string, *message.Message) (string, error) { return "", bad }})
	if err := p.Publish("t", message.NewMessage("1", nil)); !errors.Is(err, bad) {
		t.Errorf("error %v", err)
	}
	p = watermill.NewPublisher(broker, watermill.PublisherConfig{})
	own := message.NewMessage("1", nil)
	own.Metadata.Set("_watermill_message_uuid", "x")
	if err := p.Publish("t", own); err == nil {
		t.Error("metadata that is the adapter's own was taken")
	}
	if err := p.Publish("not/a/name", message.NewMessage("1", nil)); !errors.Is(err, braid.ErrInvalidName) {
		t.Errorf("error %v, want braid.ErrInvalidName", err)
	}
	s := watermill.NewSubscriber(broker, watermill.SubscriberConfig{Group: "g"})
	if err := errors.Join(p.Close(), s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	if err := p.Publish("t", message.NewMessage("1", nil)); !errors.Is(err, watermill.ErrClosed) {
		t.Errorf("error %v, want ErrClosed", err)
	}
	if _, err := s.Subscribe(context.Background(), "t"); !errors.Is(err, watermill.ErrClosed) {
		t.Errorf("error %v, want ErrClosed", err)
	}
}
