package watermill

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/braid-go/braid"
)

// SubscriberConfig configures a Subscriber.
type SubscriberConfig struct {
	// Group is the consumer group: its subscriptions, of all subscribers, share the messages, and go on where the group was. Empty: each subscription gets every
	// message from From on, and nothing is remembered.
	Group string
	// From is where a new group begins, or each subscription without a group. Default: the earliest message.
	From braid.Position
	// Topic is how topics are created that do not exist.
	Topic braid.TopicConfig
	// Members and Concurrency are as in [braid.ConsumeOptions], for each subscription. By default the next message comes when the one before has been
	// acknowledged; with Concurrency that holds for each key.
	Members, Concurrency int
	// NackResend is how long a message that was not acknowledged waits before it is sent again. Those behind it, of its key if there are several handlers, wait
	// with it. Default: not at all.
	NackResend time.Duration
	// CloseTimeout is how long Close waits for messages that are being processed. Default 30 s.
	CloseTimeout time.Duration
	// Logger is told what goes wrong in the background. Default: nobody.
	Logger watermill.LoggerAdapter
}

// Subscriber receives messages from a broker. It is safe for concurrent use.
type Subscriber struct {
	broker *braid.Broker
	config SubscriberConfig

	mu      sync.Mutex // guards closed, and that nothing begins after it
	closed  bool
	closing chan struct{}
	running sync.WaitGroup
}

// NewSubscriber returns a subscriber to a broker that the caller has opened, and closes.
func NewSubscriber(broker *braid.Broker, config SubscriberConfig) *Subscriber {
	if config.Logger == nil {
		config.Logger = watermill.NopLogger{}
	}
	if config.CloseTimeout == 0 {
		config.CloseTimeout = 30 * time.Second
	}
	return &Subscriber{broker: broker, config: config, closing: make(chan struct{})}
}

// SubscribeInitialize creates the topic if it does not exist.
func (s *Subscriber) SubscribeInitialize(topic string) error {
	_, err := s.broker.EnsureTopic(context.Background(), topic, s.config.Topic)
	return err
}

// Subscribe returns a channel of the topic's messages. It is closed when ctx ends, Close is called, or something fails that
// trying again does not mend. Each message is to be acknowledged; Nack has it sent again.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	t, err := s.broker.EnsureTopic(ctx, topic, s.config.Topic)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	out := &subscription{s: s, ctx: ctx, messages: make(chan *message.Message)}
	run := func() error { return out.follow(t) }
	if s.config.Group != "" {
		// What is published from now on is the group's, though its members begin later.
		sub, err := t.Subscribe(ctx, s.config.Group, braid.SubscribeOptions{From: s.config.From})
		if err == nil {
			err = sub.Close()
		}
		if err != nil {
			cancel()
			return nil, err
		}
		run = func() error { return out.consume(t) }
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		cancel()
		return nil, ErrClosed
	}
	s.running.Go(func() {
		defer close(out.messages)
		defer cancel()
		if err := run(); err != nil && ctx.Err() == nil {
			s.config.Logger.Error("subscription has ended", err, watermill.LogFields{"topic": topic, "group": s.config.Group})
		}
	})
	s.running.Go(func() {
		select {
		case <-s.closing:
			cancel()
		case <-ctx.Done():
		}
	})
	return out.messages, nil
}

// Close ends all subscriptions and closes their channels. What is acknowledged by then is committed. The broker stays open.
func (s *Subscriber) Close() error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.closing)
	}
	s.mu.Unlock()
	s.running.Wait()
	return nil
}

// subscription is a channel that is being filled.
type subscription struct {
	s        *Subscriber
	ctx      context.Context // ends with the subscription
	messages chan *message.Message
}

// consume fills the channel as a member of the group.
func (o *subscription) consume(t *braid.Topic) error {
	c := o.s.config
	return t.Consume(o.ctx, c.Group, braid.ConsumeOptions{
		Members: c.Members, Concurrency: c.Concurrency, From: c.From, DrainTimeout: c.CloseTimeout,
		OnError: func(*braid.Record, int, error) {}, // only that the subscription or the partition has gone
	}, o.deliver)
}

// follow fills the channel without a group.
func (o *subscription) follow(t *braid.Topic) error {
	for rec, err := range t.Read(o.ctx, braid.ReadOptions{From: o.s.config.From, Follow: true}) {
		if err == nil {
			err = o.deliver(o.ctx, rec)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

var errUnacknowledged = errors.New("watermill: the subscription has ended before the message was acknowledged")

// deliver sends a message until it is acknowledged, or the subscription or ctx, that of its partition, ends.
func (o *subscription) deliver(ctx context.Context, rec *braid.Record) error {
	for {
		again, err := o.send(ctx, rec)
		if !again {
			return err
		}
		if o.s.config.NackResend > 0 {
			select {
			case <-time.After(o.s.config.NackResend):
			case <-o.ctx.Done():
			case <-ctx.Done():
			}
		}
	}
}

// send sends a message once, and reports whether it is to be sent again.
func (o *subscription) send(ctx context.Context, rec *braid.Record) (again bool, err error) {
	if o.ctx.Err() != nil || ctx.Err() != nil {
		return false, errUnacknowledged
	}
	of, cancel := context.WithCancel(o.ctx)
	defer cancel() // the message's context ends when it has been answered
	msg := toMessage(of, rec)
	select {
	case o.messages <- msg:
	case <-o.ctx.Done():
		return false, errUnacknowledged
	case <-ctx.Done():
		return false, errUnacknowledged
	}
	select {
	case <-msg.Acked():
		return false, nil
	case <-msg.Nacked():
		return true, nil
	case <-o.ctx.Done():
	case <-ctx.Done():
	}
	select {
	case <-msg.Acked(): // in the same moment
		return false, nil
	default:
		return false, errUnacknowledged
	}
}
