package braid

import (
	"context"
	"errors"
)

// Process is the exactly-once loop: it polls records and calls fn with them and a transaction, commits the positions behind them together with what
// fn has put into the transaction, and goes on until ctx ends, whose error it returns, or anything fails. What fn does outside the
// transaction may happen more than once. What fn has finished is committed, also if ctx has ended meanwhile.
//
// An error from fn rolls the transaction back, moves the reading back to the records and is returned. ErrConflict and ErrFenced are no reason to end: the reading
// is moved back, and fn is called again with what is this member's to process then. fn must not keep
// the transaction, nor commit or end it, nor call methods of the subscription.
//
// It excludes Poll, Records and another Process: ErrBusy. Other errors are those of Poll and Commit.
func (s *Subscription) Process(ctx context.Context, fn func(tx *Txn, recs []*Record) error) error {
	for {
		recs, err := s.Poll(ctx, 0)
		if err != nil {
			return err
		}
		err = s.process(ctx, fn, recs)
		if err == nil {
			continue
		}
		if back := s.rewindTo(recs); back != nil {
			return errors.Join(err, back)
		}
		if !errors.Is(err, ErrConflict) && !errors.Is(err, ErrFenced) {
			return err
		}
	}
}

// process runs one transaction.
func (s *Subscription) process(ctx context.Context, fn func(*Txn, []*Record) error, recs []*Record) error {
	tx := s.t.b.Begin()
	defer tx.Rollback() // also if fn panics
	if err := tx.Offsets(s, recs...); err != nil {
		return err
	}
	if err := fn(tx, recs); err != nil {
		return err
	}
	return tx.Commit(context.WithoutCancel(ctx))
}
