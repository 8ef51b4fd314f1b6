package cputime_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"example.com/gatehouse/internal/cputime"
)

const (
	limit = 300 * time.Millisecond
	tick  = 25 * time.Millisecond
)

var errLate = errors.New("too late")

func TestItEndsForItsCause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		ctx, stop := cputime.WithTimeoutCause(t.Context(), limit, tick, errLate)
		defer stop()
		<-ctx.Done()
		if took := time.Since(begin); took != limit || context.Cause(ctx) != errLate {
			t.Errorf("after %v: %v", took, context.Cause(ctx))
		}
	})
}

func TestItEndsWhenItIsStoppedOrItsParentEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		parent, end := context.WithCancel(t.Context())
		ctx, stop := cputime.WithTimeoutCause(parent, limit, tick, errLate)
		end()
		if !errors.Is(context.Cause(ctx), context.Canceled) {
			t.Errorf("its parent has ended: %v", context.Cause(ctx))
		}
		stop()
		ctx, stop = cputime.WithTimeoutCause(t.Context(), limit, tick, errLate)
		time.Sleep(limit / 2) // the synctest bubble's time
		stop()
		time.Sleep(2 * limit)
		if got := context.Cause(ctx); got != context.Canceled {
			t.Errorf("stopped, it ended by %v", got)
		}
	})
}
