package observe

import (
	"context"
	"time"
)

// A budget is time that may be spent waiting while the process runs. A wait is
// cut into slices; one that took far longer than it should was slept through,
// frozen, and counts as one slice. So a deadline never passes while there is no
// CPU to meet it.
type budget time.Duration

const (
	slice  = 25 * time.Millisecond
	frozen = 8 * slice // a slice that took longer was not only late
)

// wait waits until done is closed (true), or the budget is spent or ctx ended
// (false).
func (b *budget) wait(ctx context.Context, done <-chan struct{}) bool {
	timer := time.NewTimer(slice)
	defer timer.Stop()
	for *b > 0 {
		step := min(slice, time.Duration(*b))
		begin := time.Now()
		timer.Reset(step)
		finished, ended := false, false
		select {
		case <-done:
			finished = true
		case <-ctx.Done():
			ended = true
		case <-timer.C:
		}
		took := time.Since(begin)
		if took > frozen {
			took = step
		}
		*b -= budget(took)
		if finished || ended {
			return finished
		}
	}
	select {
	case <-done:
		return true
	default:
		return false
	}
}
