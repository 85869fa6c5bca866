package braid

import (
	"fmt"

	"github.com/braid-go/braid/checkpoint"
)

// txnOffsets are the positions that a transaction commits for one subscription.
type txnOffsets struct {
	sub     *Subscription
	origins []origin
	want    map[*subPartition]int64
}

// Offsets has the transaction commit the positions behind records that a subscription has delivered, as [Subscription.Commit] would. The records may
// be changed or reused afterwards. A record that sub did not deliver is ErrNotDelivered, and then nothing of the call is taken.
func (tx *Txn) Offsets(sub *Subscription, recs ...*Record) error {
	if tx.ended {
		return ErrTxnEnded
	}
	origins := make([]origin, len(recs))
	for i, rec := range recs {
		o, err := sub.originOf(rec)
		if err != nil {
			return fmt.Errorf("%w: record %d of the call", err, i)
		}
		origins[i] = o
	}
	for _, o := range tx.offsets {
		if o.sub == sub {
			o.origins = append(o.origins, origins...)
			return nil
		}
	}
	tx.offsets = append(tx.offsets, &txnOffsets{sub: sub, origins: origins})
	return nil
}

// stageOffsets adds the positions to the batch and keeps other commits of the subscriptions out until release, which is told the
// outcome and gives it its meaning.
func (tx *Txn) stageOffsets(batch *checkpoint.Batch) (release func(checkpoint.Revision, error) error, err error) {
	// Whoever takes several subscriptions takes them alone, so nobody waits in a circle.
	if len(tx.offsets) > 1 {
		tx.b.taking.Lock()
	}
	for _, o := range tx.offsets {
		o.sub.committing.Lock()
	}
	if len(tx.offsets) > 1 {
		tx.b.taking.Unlock()
	}
	release = func(rev checkpoint.Revision, err error) error {
		for _, o := range tx.offsets {
			if err == nil {
				o.sub.moved(o.want, rev)
			} else if lost := o.sub.commitError(err, o.want); lost != nil {
				err = lost
			}
			o.sub.committing.Unlock()
		}
		return err
	}
	for _, o := range tx.offsets {
		if o.sub.closed() {
			return nil, release(0, ErrClosed)
		}
		want := o.sub.behind(o.origins)
		if err := o.sub.stage(want, batch); err != nil {
			return nil, release(0, err)
		}
		o.want = want
	}
	return release, nil
}
