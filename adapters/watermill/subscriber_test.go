package watermill_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/braid-go/braid"
	"github.com/braid-go/braid/adapters/watermill"
)

func publish(t *testing.T, b *braid.Broker, config watermill.PublisherConfig, ids ...string) {
	t.Helper()
	p := watermill.NewPublisher(b, config)
	for _, id := range ids {
		if err := p.Publish("t", message.NewMessage(id, []byte(id))); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOptionsThatMeanNothingAreRefusedBySubscribe(t *testing.T) {
	for name, c := range map[string]watermill.SubscriberConfig{
		"Members":               {Group: "g", Members: -1},
		"Concurrency":           {Group: "g", Concurrency: -1},
		"CloseTimeout":          {Group: "g", CloseTimeout: -1},
		"NackResend":            {Group: "g", NackResend: -1},
		"From of a group":       {Group: "g", From: braid.FromOffsets(map[braid.PartitionID]int64{1: -5})},
		"From without a group":  {From: braid.FromOffsets(map[braid.PartitionID]int64{1: -5})},
		"NackResend is too far": {Group: "g", NackResend: 13 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			s := watermill.NewSubscriber(openBroker(t), c)
			defer s.Close()
			if _, err := s.Subscribe(context.Background(), "t"); !errors.Is(err, braid.ErrInvalidOption) {
				t.Errorf("error %v, want braid.ErrInvalidOption", err)
			}
		})
	}
}

func TestFromLatestBringsWhatIsPublishedAfterSubscribeHasReturned(t *testing.T) {
	for _, group := range []string{"", "g"} {
		t.Run("group "+group, func(t *testing.T) {
			b, err := braid.Open("", braid.Options{InMemory: true}) // publishing is quicker than a goroutine begins
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			publish(t, b, watermill.PublisherConfig{Topic: braid.TopicConfig{Partitions: 2}}, "before", "before")
			for i := range 50 {
				c := watermill.SubscriberConfig{From: braid.FromLatest()}
				if group != "" {
					c.Group = fmt.Sprint(group, i)
				}
				s := watermill.NewSubscriber(b, c)
				messages := subscribe(t, s, "t")
				id := fmt.Sprint("after-", i)
				publish(t, b, watermill.PublisherConfig{}, id)
				if got := next(t, messages); got.UUID != id {
					t.Fatalf("%s came, want %s", got.UUID, id)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestAKeyThatIsNackedDoesNotHoldUpOthersWithSeveralHandlers(t *testing.T) {
	for _, resend := range []time.Duration{0, time.Hour} {
		t.Run(resend.String(), func(t *testing.T) {
			b := openBroker(t)
			publish(t, b, watermill.PublisherConfig{Key: byPayload}, "bad-1", "bad-2", "good")
			s := watermill.NewSubscriber(b, watermill.SubscriberConfig{Group: "g", Concurrency: 2, NackResend: resend})
			defer s.Close()
			messages := subscribe(t, s, "t")
			for range 1000 {
				msg := next(t, messages)
				if msg.UUID == "good" {
					msg.Ack()
					return
				}
				msg.Nack()
			}
			t.Error("good has not come")
		})
	}
}

func TestANackedMessageComesAgainBeforeThoseBehindIt(t *testing.T) {
	for _, handlers := range []int{1, 4} {
		t.Run(fmt.Sprint(handlers, " handlers"), func(t *testing.T) {
			b := openBroker(t)
			oneKey := func(string, *message.Message) (string, error) { return "k", nil }
			publish(t, b, watermill.PublisherConfig{Key: oneKey}, "1", "2")
			const resend = 50 * time.Millisecond
			s := watermill.NewSubscriber(b, watermill.SubscriberConfig{Group: "g", Concurrency: handlers, NackResend: resend})
			defer s.Close()
			messages := subscribe(t, s, "t")
			for range 3 {
				msg := next(t, messages)
				nacked := time.Now()
				msg.Nack()
				msg = next(t, messages)
				if waited := time.Since(nacked); msg.UUID != "1" || waited < resend {
					t.Fatalf("%s came after %v, want 1 after %v", msg.UUID, waited, resend)
				}
				msg.Nack()
			}
			next(t, messages).Ack()
			if msg := next(t, messages); msg.UUID != "2" {
				t.Errorf("after Ack %s came, want 2", msg.UUID)
			}
		})
	}
}

// closeWhile calls Close and, while it is under way, meanwhile.
func closeWhile(t *testing.T, s *watermill.Subscriber, meanwhile func()) {
	t.Helper()
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	// Close is under way when the subscriber refuses to subscribe.
	for {
		ctx, cancel := context.WithCancel(context.Background())
		_, err := s.Subscribe(ctx, "another")
		cancel()
		if errors.Is(err, watermill.ErrClosed) {
			break
		}
	}
	meanwhile()
	select {
	case err := <-closed:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Close does not return")
	}
}

func TestCloseWaitsForAnswersAndCommitsThem(t *testing.T) {
	for _, group := range []string{"", "g"} {
		t.Run("group "+group, func(t *testing.T) {
			b := openBroker(t)
			publish(t, b, watermill.PublisherConfig{}, "1", "2")
			s := watermill.NewSubscriber(b, watermill.SubscriberConfig{Group: group, CloseTimeout: time.Hour})
			messages := subscribe(t, s, "t")
			msg := next(t, messages)
			closeWhile(t, s, func() {
				if err := msg.Context().Err(); err != nil {
					t.Errorf("the message's context has ended: %v", err)
				}
				msg.Ack()
			})
			if msg, open := <-messages; open {
				t.Errorf("%s came after Close", msg.UUID)
			}
			if group == "" {
				return
			}
			s = watermill.NewSubscriber(b, watermill.SubscriberConfig{Group: group})
			defer s.Close()
			if msg := next(t, subscribe(t, s, "t")); msg.UUID != "2" {
				t.Errorf("%s came again, though it was acknowledged before Close returned", msg.UUID)
			}
		})
	}
}

func TestCloseSendsNothingAgain(t *testing.T) {
	for _, handlers := range []int{1, 4} {
		t.Run(fmt.Sprint(handlers, " handlers"), func(t *testing.T) {
			b := openBroker(t)
			publish(t, b, watermill.PublisherConfig{}, "1")
			s := watermill.NewSubscriber(b, watermill.SubscriberConfig{Group: "g", Concurrency: handlers, CloseTimeout: time.Hour})
			messages := subscribe(t, s, "t")
			msg := next(t, messages)
			closeWhile(t, s, func() { msg.Nack() })
			if msg, open := <-messages; open {
				t.Errorf("%s came again", msg.UUID)
			}
		})
	}
}

func TestCloseGivesUpOnAnswersAfterCloseTimeout(t *testing.T) {
	b := openBroker(t)
	publish(t, b, watermill.PublisherConfig{}, "1")
	s := watermill.NewSubscriber(b, watermill.SubscriberConfig{Group: "g", CloseTimeout: 20 * time.Millisecond})
	msg := next(t, subscribe(t, s, "t"))
	closeWhile(t, s, func() { <-msg.Context().Done() })
}

func TestASubscriptionEndsAtOnceWithItsContext(t *testing.T) {
	b := openBroker(t)
	publish(t, b, watermill.PublisherConfig{}, "1")
	s := watermill.NewSubscriber(b, watermill.SubscriberConfig{Group: "g", CloseTimeout: time.Hour})
	ctx, cancel := context.WithCancel(context.Background())
	messages, err := s.Subscribe(ctx, "t")
	if err != nil {
		t.Fatal(err)
	}
	next(t, messages)
	cancel()
	if _, open := <-messages; open {
		t.Error("the channel is open")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
