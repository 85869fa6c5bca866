package partition

import (
	"context"
	"errors"
	"fmt"

	"github.com/braid-go/braid/log"
)

// ErrSealed: the partition takes nothing more, because others have its range, or are about to have it.
var ErrSealed = errors.New("partition: sealed")

// Seal has the partition take nothing more: new requests and transactions are refused with ErrSealed. What was accepted before is stored and
// made durable in the segments, whatever the mode. It returns the end of the log.
//
// It may be taken back with Unseal. If ctx ends first, it is, and the error is ctx's; if the partition fails, it is ErrFailed, and the
// partition stays sealed.
func (p *Partition) Seal(ctx context.Context) (end int64, err error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return 0, ErrClosed
	}
	p.moving = true
	last := p.last
	p.lane.Store(nil)
	p.closeLane(last)
	p.mu.Unlock()
	if err := p.drained(ctx, last); err != nil {
		p.setMoving(false)
		return 0, err
	}
	p.ordering.Lock()
	p.sealed = true // for transactions; those that have their offsets already are waited for
	p.ordering.Unlock()
	p.pending.wait()
	if err := p.settle(); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrFailed, err)
	}
	p.ordering.Lock()
	p.settled = true
	p.ordering.Unlock()
	return p.log.VisibleEnd(), nil
}

// settle brings everything into the segments, durably, and lets go of the active one.
func (p *Partition) settle() error {
	p.writing.Lock()
	defer p.writing.Unlock()
	p.applyHeld()
	return errors.Join(p.log.Sync(), p.log.Mark(), p.log.Release())
}

// drained waits until the appender of a lane that has been closed is done.
func (p *Partition) drained(ctx context.Context, ln *lane) error {
	if ln == nil {
		return nil
	}
	select {
	case <-ln.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Unseal takes Seal back.
func (p *Partition) Unseal() {
	p.ordering.Lock()
	p.sealed, p.settled = false, false
	p.ordering.Unlock()
	p.setMoving(false)
}

func (p *Partition) setMoving(moving bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.moving = moving
}

// SetSealed has a partition that was sealed before it was opened take nothing.
func (p *Partition) SetSealed() {
	p.ordering.Lock()
	p.sealed, p.settled = true, true
	p.ordering.Unlock()
	p.setMoving(true)
}

// Retain removes the oldest segments of the log as far as the policy allows; see log.Retain. Of a sealed partition all may go.
func (p *Partition) Retain(policy log.Retention) ([]log.SegmentInfo, error) {
	p.ordering.Lock()
	policy.Finished = p.settled
	p.ordering.Unlock()
	if !policy.Finished {
		return p.log.Retain(policy)
	}
	p.writing.Lock()
	defer p.writing.Unlock()
	removed, err := p.log.Retain(policy)
	return removed, errors.Join(err, p.log.Release())
}
