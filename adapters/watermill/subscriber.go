package watermill

import (
	"context"
	"errors"
	"reflect"
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
	// Members and Concurrency are as in [braid.ConsumeOptions], for each subscription of a group. By default the next message comes when the one before has
	// been acknowledged; with Concurrency that holds for each key, and messages without a key have no order.
	Members, Concurrency int
	// NackResend is how long a message waits, at least, before it is sent again after Nack. Those behind it wait with it; with Concurrency
	// only those of its key do. Default: not at all.
	NackResend time.Duration
	// CloseTimeout is how long Close waits for messages that are being processed to be answered. Default: not at all, and they come again.
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
	return &Subscriber{broker: broker, config: config, closing: make(chan struct{})}
}

// SubscribeInitialize creates the topic if it does not exist.
func (s *Subscriber) SubscribeInitialize(topic string) error {
	_, err := s.broker.EnsureTopic(context.Background(), topic, s.config.Topic)
	return err
}

// Subscribe returns a channel of the topic's messages. It is closed when ctx ends, Close is called, or something fails that
// trying again does not mend. Each message is to be acknowledged; Nack has it sent again. What is published after Subscribe has returned is among the
// messages, also with [braid.FromLatest]. Errors: ErrClosed, [braid.OptionError], those of [braid.Broker.EnsureTopic], and those of beginning to read.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	if err := s.config.check(); err != nil {
		return nil, err
	}
	t, err := s.broker.EnsureTopic(ctx, topic, s.config.Topic)
	if err != nil {
		return nil, err
	}
	begin := s.follow
	if s.config.Group != "" {
		begin = s.consume
	}
	ctx, cancel := context.WithCancel(ctx)
	out := &subscription{s: s, ctx: ctx, messages: make(chan *message.Message)}
	run, err := begin(t, out)
	if err != nil {
		cancel()
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		cancel()
		return nil, ErrClosed
	}
	receiving, stop := context.WithCancel(ctx)
	s.running.Go(func() {
		defer close(out.messages)
		defer cancel()
		if err := run(receiving); err != nil && receiving.Err() == nil {
			s.config.Logger.Error("subscription has ended", err, watermill.LogFields{"topic": topic, "group": s.config.Group})
		}
	})
	s.running.Go(func() {
		defer cancel()
		defer stop()
		select {
		case <-s.closing:
		case <-ctx.Done():
			return
		}
		stop()
		select {
		case <-time.After(s.config.CloseTimeout):
		case <-ctx.Done():
		}
	})
	return out.messages, nil
}

// Close ends all subscriptions and closes their channels. It sends nothing more, waits up to CloseTimeout for answers to what it has sent, and commits what is
// acknowledged by then. The broker stays open.
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

// longest bounds the configuration's durations.
const longest = 12 * time.Hour

// check refuses durations that mean nothing. What Consume is given it checks itself.
func (c *SubscriberConfig) check() error {
	for field, d := range map[string]time.Duration{"NackResend": c.NackResend, "CloseTimeout": c.CloseTimeout} {
		if d < 0 || d > longest {
			return &braid.OptionError{Field: "SubscriberConfig." + field, Value: d, Reason: "must be between 0 and " + longest.String()}
		}
	}
	return nil
}

// subscription is a channel that is being filled.
type subscription struct {
	s        *Subscriber
	ctx      context.Context // of the messages; ends with the subscription
	messages chan *message.Message
}

// consume makes the function that fills the channel as a member of the group.
func (s *Subscriber) consume(t *braid.Topic, out *subscription) (func(context.Context) error, error) {
	c := s.config
	opts := braid.ConsumeOptions{
		Members: c.Members, Concurrency: c.Concurrency, From: c.From,
		DrainTimeout: c.CloseTimeout + longest,                 // the subscription ends what is running, earlier
		OnError:      func(_ *braid.Record, _ int, _ error) {}, // Nack, or that the subscription or the partition has gone
	}
	handle := out.deliver
	if c.Concurrency > 1 { // then Consume holds up the key alone, and not a handler
		handle = out.deliverOnce
		opts.MinBackoff = max(c.NackResend*5/4, time.Microsecond) // of which it takes up to a fifth away
		opts.MaxBackoff = opts.MinBackoff
	}
	// With a context that has ended Consume finds out no more than whether it can take the options.
	ended, cancel := context.WithCancel(out.ctx)
	cancel()
	if err := t.Consume(ended, c.Group, opts, handle); err != nil && !errors.Is(err, context.Canceled) {
		return nil, err
	}
	// What is published from now on is the group's, though its members begin later.
	sub, err := t.Subscribe(out.ctx, c.Group, braid.SubscribeOptions{From: c.From})
	if err == nil {
		err = sub.Close()
	}
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error { return t.Consume(ctx, c.Group, opts, handle) }, nil
}

// follow makes the function that fills the channel without a group.
func (s *Subscriber) follow(t *braid.Topic, out *subscription) (func(context.Context) error, error) {
	from := s.config.From
	if reflect.DeepEqual(from, braid.FromLatest()) { // the reading begins later; what it means is found out now
		ends := map[braid.PartitionID]int64{}
		for _, p := range t.Partitions() {
			ends[p.ID] = max(p.End, 0)
		}
		from = braid.FromOffsets(ends)
	}
	for _, err := range t.Read(out.ctx, braid.ReadOptions{From: from}) {
		if err != nil {
			return nil, err
		}
		break // one can begin there
	}
	return func(ctx context.Context) error {
		for rec, err := range t.Read(ctx, braid.ReadOptions{From: from, Follow: true}) {
			if err == nil {
				err = out.deliver(out.ctx, rec)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}, nil
}

var (
	errUnacknowledged = errors.New("watermill: the subscription has ended before the message was acknowledged")
	errNacked         = errors.New("watermill: the message was not acknowledged")
)

// deliver sends a message until it is acknowledged, or the subscription or ctx ends.
func (o *subscription) deliver(ctx context.Context, rec *braid.Record) error {
	for {
		err := o.deliverOnce(ctx, rec)
		if !errors.Is(err, errNacked) {
			return err
		}
		select {
		case <-time.After(o.s.config.NackResend):
		case <-o.s.closing:
		case <-o.ctx.Done():
		case <-ctx.Done():
		}
	}
}

// deliverOnce sends a message and waits for the answer: nil for Ack, errNacked for Nack. It sends nothing when Close has been called, but goes on
// waiting until o.ctx ends. ctx is that of the message's partition.
func (o *subscription) deliverOnce(ctx context.Context, rec *braid.Record) error {
	select {
	case <-o.s.closing:
		return errUnacknowledged
	default:
	}
	if o.ctx.Err() != nil || ctx.Err() != nil {
		return errUnacknowledged
	}
	of, cancel := context.WithCancel(o.ctx)
	defer cancel() // the message's context ends when it has been answered
	msg := toMessage(of, rec)
	select {
	case o.messages <- msg:
	case <-o.s.closing:
		return errUnacknowledged
	case <-o.ctx.Done():
		return errUnacknowledged
	case <-ctx.Done():
		return errUnacknowledged
	}
	select {
	case <-msg.Acked():
		return nil
	case <-msg.Nacked():
		return errNacked
	case <-o.ctx.Done():
	case <-ctx.Done():
	}
	select {
	case <-msg.Acked(): // in the same moment
		return nil
	default:
		return errUnacknowledged
	}
}
