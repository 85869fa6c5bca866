package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/braid-go/braid"
)

// sendBatch is how many changes are sent before the position is committed: as many are sent again, at most, after a kill.
const sendBatch = 50

// receiver is the outside system. It must treat a second call with the same key as the first one's repetition.
type receiver interface {
	apply(ctx context.Context, key string, body []byte) error
}

// send tells the receiver of all changes that the group has not committed yet.
func send(ctx context.Context, changes *braid.Topic, to receiver, tell func(string, ...any)) error {
	sub, err := changes.Subscribe(ctx, "sender", braid.SubscribeOptions{})
	if err != nil {
		return err
	}
	defer sub.Close()
	for {
		left, err := behind(ctx, sub)
		if err != nil || left == 0 {
			return err // Poll would wait for more
		}
		recs, err := sub.Poll(ctx, sendBatch)
		if err != nil {
			return err
		}
		for _, rec := range recs {
			tell("sending: %s", key(rec))
			if err := to.apply(ctx, key(rec), rec.Value); err != nil {
				return fmt.Errorf("send %s: %w", key(rec), err)
			}
		}
		tell("committing: position behind %d changes", len(recs))
		if err := sub.Commit(ctx, recs...); err != nil {
			return err
		}
	}
}

// behind returns how many records the group has not committed.
func behind(ctx context.Context, sub *braid.Subscription) (n int64, err error) {
	lags, err := sub.Lag(ctx)
	for _, lag := range lags {
		n += lag.Records
	}
	return n, err
}

// key names a record for ever: offsets are never used twice. In a data directory that is made anew they begin again; where that can
// happen, or several directories feed one receiver, a name of the directory belongs into the key.
func key(rec *braid.Record) string {
	return fmt.Sprintf("%s-%d-%d", rec.Topic, rec.Partition, rec.Offset)
}

// printer is a receiver for people to watch.
type printer struct{ w io.Writer }

func (p printer) apply(_ context.Context, key string, body []byte) error {
	_, err := fmt.Fprintf(p.w, "%s %s\n", key, body)
	return err
}

// gateway is a receiver that is called by HTTP.
type gateway struct {
	url    string
	client *http.Client
}

func (g *gateway) apply(ctx context.Context, key string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", key) // net/http repeats requests that have it when a kept connection breaks
	resp, err := g.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // read to the end, the connection is used again
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s answers %s", g.url, resp.Status)
	}
	return err
}
