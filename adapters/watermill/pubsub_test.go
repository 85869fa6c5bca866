package watermill_test

import (
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"

	"github.com/braid-go/braid"
	"github.com/braid-go/braid/adapters/watermill"
)

func openBroker(t *testing.T) *braid.Broker {
	t.Helper()
	b, err := braid.Open(t.TempDir(), braid.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

var features = tests.Features{ConsumerGroups: true, GuaranteedOrder: true, Persistent: true}

// constructors make publishers and subscribers of one broker, which stands for the directory that they would share.
func constructors(b *braid.Broker, publisher watermill.PublisherConfig, partitions int) (tests.PubSubConstructor, tests.ConsumerGroupPubSubConstructor) {
	topic := braid.TopicConfig{Partitions: partitions}
	publisher.Topic = topic
	inGroup := func(t *testing.T, group string) (message.Publisher, message.Subscriber) {
		return watermill.NewPublisher(b, publisher), watermill.NewSubscriber(b, watermill.SubscriberConfig{Group: group, Topic: topic})
	}
	return func(t *testing.T) (message.Publisher, message.Subscriber) { return inGroup(t, "test") }, inGroup
}

func TestPubSub(t *testing.T) {
	everybody, inGroup := constructors(openBroker(t), watermill.PublisherConfig{}, 1)
	tests.TestPubSub(t, features, everybody, inGroup)
}

// The suite's messages carry what orders them in their payload.
func byPayload(_ string, msg *message.Message) (string, error) { return string(msg.Payload), nil }

func TestPubSubOrderedByKey(t *testing.T) {
	everybody, inGroup := constructors(openBroker(t), watermill.PublisherConfig{Key: byPayload}, 8)
	tests.TestPubSub(t, features, everybody, inGroup)
}

func TestPubSubStress(t *testing.T) {
	if testing.Short() {
		t.Skip("the stress variant takes a while; without -short it runs")
	}
	everybody, inGroup := constructors(openBroker(t), watermill.PublisherConfig{Key: byPayload}, 4)
	tests.TestPubSubStressTest(t, features, everybody, inGroup)
}

func TestPubSubWithoutAGroup(t *testing.T) {
	_, inGroup := constructors(openBroker(t), watermill.PublisherConfig{}, 4)
	alone := func(t *testing.T) (message.Publisher, message.Subscriber) { return inGroup(t, "") }
	tests.TestPubSub(t, tests.Features{Persistent: true, NewSubscriberReceivesOldMessages: true}, alone, inGroup)
}

func TestPubSubOrderedByKeyWithSeveralHandlers(t *testing.T) {
	b := openBroker(t)
	topic := braid.TopicConfig{Partitions: 4}
	inGroup := func(t *testing.T, group string) (message.Publisher, message.Subscriber) {
		return watermill.NewPublisher(b, watermill.PublisherConfig{Topic: topic, Key: byPayload}),
			watermill.NewSubscriber(b, watermill.SubscriberConfig{Group: group, Topic: topic, Members: 2, Concurrency: 4})
	}
	tests.TestPubSub(t, features, func(t *testing.T) (message.Publisher, message.Subscriber) { return inGroup(t, "test") }, inGroup)
}
