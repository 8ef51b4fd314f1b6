package invoke

import (
	"context"
	"errors"
	"testing"
	"time"
)

// A hook that ignores the end of its turn is not waited for. Its next then fails, instead of
// waiting for somebody who has left.
func TestAHookThatIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	over := errors.New("the turn is over")
	ctx, end := context.WithCancelCause(t.Context())
	goOn, late := make(chan struct{}), make(chan error, 1)
	err := callHook(ctx, func(next func() error) error {
		end(over)
		<-goOn
		late <- next()
		return nil
	}, func() error {
		t.Error("the model was asked")
		return nil
	})
	if !errors.Is(err, over) {
		t.Error(err)
	}
	close(goOn)
	select {
	case err := <-late:
		if !errors.Is(err, errHookOver) {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("its next waits")
	}
}
