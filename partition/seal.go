package partition

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/braid-go/braid/log"
)

// ErrSealed: the partition takes nothing more, because others have its range, or are about to have it.
var ErrSealed = errors.New("partition: sealed")

// Seal has the partition take nothing more: new requests and transactions are refused with ErrSealed. What was accepted before is stored and
// made durable in the segments, whatever the mode. It returns the end of the log.
//
// It may be taken back with Unseal. If ctx ends first, it is, and the error is ctx's; if the partition fails, it is ErrFailed, and the
// partition stays sealed. Publishers wait for it, so it does no more than it must: Approach comes before it, and Rest after it.
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

// settle brings everything into the segments, durably.
func (p *Partition) settle() error {
	p.writing.Lock()
	defer p.writing.Unlock()
	p.applyHeld()
	return p.log.Sync()
}

// soonSynced is how long a sync may take that a Seal is to do.
const soonSynced = 2 * time.Millisecond

// Approach makes ready for a Seal, while others publish: what is in the segments and not synced there, because of a weaker mode or because the journal has it, is
// synced until little of it is left, or it does not become less. It may be left out.
func (p *Partition) Approach() {
	if p.cfg.Mode == log.ModeFsync && p.pending.none() && p.log.SyncedEnd() >= p.log.VisibleEnd() {
		return // only the round under way
	}
	for before := time.Duration(math.MaxInt64); ; {
		begin := time.Now()
		p.apply()
		if p.log.SyncAhead() != nil {
			return // it stays in the log
		}
		took := time.Since(begin)
		if took < soonSynced || took > before/2 {
			return
		}
		before = took
	}
}

// Rest marks the log of a partition that has been sealed for good and lets go of its file. An error stays in the log.
func (p *Partition) Rest() error {
	p.writing.Lock()
	defer p.writing.Unlock()
	p.load.Release()
	return errors.Join(p.log.Mark(), p.log.Release())
}

// Busy reports whether the partition has published lately.
func (p *Partition) Busy() bool { return p.lane.Load() != nil }

// warmBytes is the space that Warm makes.
const warmBytes = 256 << 10

// Warm makes ready for many records that will come soon: a queue, and space in the file, which the first of them would have to wait for. Both are let
// go again when the partition has been idle. It may be left out.
func (p *Partition) Warm() error {
	if _, err := p.startLane(); err != nil {
		return err
	}
	p.writing.Lock()
	defer p.writing.Unlock()
	return storeFailed(p.log.Ready(warmBytes))
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
