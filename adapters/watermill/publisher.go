package watermill

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/braid-go/braid"
)

// ErrClosed: the publisher or subscriber was closed.
var ErrClosed = errors.New("watermill: closed")

// headerUUID carries a message's UUID. All other headers are its metadata.
const headerUUID = "_watermill_message_uuid"

// PublisherConfig configures a Publisher. The zero value publishes without keys.
type PublisherConfig struct {
	// Topic is how topics are created that do not exist.
	Topic braid.TopicConfig
	// Key returns a message's key, or "" for none: messages of one key keep their order. Without a key those of one call to Publish do, and all
	// in a topic with one partition. Default: no keys.
	Key func(topic string, msg *message.Message) (string, error)
}

// Publisher publishes messages to a broker. It is safe for concurrent use.
type Publisher struct {
	broker *braid.Broker
	config PublisherConfig
	closed atomic.Bool
}

// NewPublisher returns a publisher to a broker that the caller has opened, and closes.
func NewPublisher(broker *braid.Broker, config PublisherConfig) *Publisher {
	return &Publisher{broker: broker, config: config}
}

// Publish publishes messages, and returns when they are as safe as the broker's Durability says: by default, covered by an fsync. One call with many messages
// is far cheaper than many calls. The first message's context bounds the waiting. Errors are those of
// [braid.Topic.Publish], ErrClosed, and those of PublisherConfig.Key.
func (p *Publisher) Publish(topic string, messages ...*message.Message) error {
	if p.closed.Load() {
		return ErrClosed
	}
	if len(messages) == 0 {
		return nil
	}
	recs := make([]*braid.Record, len(messages))
	for i, msg := range messages {
		rec, err := p.record(topic, msg)
		if err != nil {
			return fmt.Errorf("message %s: %w", msg.UUID, err)
		}
		recs[i] = rec
	}
	ctx := messages[0].Context()
	t, err := p.broker.EnsureTopic(ctx, topic, p.config.Topic)
	if err != nil {
		return err
	}
	return t.Publish(ctx, recs...)
}

func (p *Publisher) record(topic string, msg *message.Message) (*braid.Record, error) {
	rec := &braid.Record{Value: msg.Payload, Headers: make([]braid.Header, 0, 1+len(msg.Metadata))}
	if rec.Value == nil {
		rec.Value = []byte{}
	}
	if p.config.Key != nil {
		key, err := p.config.Key(topic, msg)
		if err != nil {
			return nil, fmt.Errorf("key: %w", err)
		}
		if key != "" {
			rec.Key = []byte(key)
		}
	}
	rec.Headers = append(rec.Headers, braid.Header{Key: headerUUID, Value: []byte(msg.UUID)})
	for name, value := range msg.Metadata {
		if name == headerUUID {
			return nil, fmt.Errorf("the metadata %s is the adapter's own", name)
		}
		rec.Headers = append(rec.Headers, braid.Header{Key: name, Value: []byte(value)})
	}
	return rec, nil
}

// Close refuses further messages. Everything that Publish has returned for is stored already. The broker stays open.
func (p *Publisher) Close() error {
	p.closed.Store(true)
	return nil
}

// toMessage makes the message of a record.
func toMessage(ctx context.Context, rec *braid.Record) *message.Message {
	uuid, metadata := "", message.Metadata{}
	for _, h := range rec.Headers {
		if h.Key == headerUUID {
			uuid = string(h.Value)
		} else {
			metadata[h.Key] = string(h.Value)
		}
	}
	msg := message.NewMessage(uuid, rec.Value)
	msg.Metadata = metadata
	msg.SetContext(ctx)
	return msg
}
