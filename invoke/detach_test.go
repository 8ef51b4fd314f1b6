package invoke

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"example.com/gatehouse/internal/drain"
)

// What is stored after an answer goes on without its client, and not beyond the
// instance's end, whichever came first.
func TestLasting(t *testing.T) {
	t.Parallel()
	const whole = 5 * time.Second
	cases := []struct {
		name string
		run  func(leave func(), gate *drain.Gate, begin func())
		want time.Duration // from its beginning
	}{
		{"undisturbed", func(_ func(), _ *drain.Gate, begin func()) { begin() }, whole},
		{"the client leaves", func(leave func(), _ *drain.Gate, begin func()) { begin(); leave() }, whole},
		{"the client has left", func(leave func(), _ *drain.Gate, begin func()) { leave(); begin() }, whole},
		{"the instance ends", func(_ func(), gate *drain.Gate, begin func()) { begin(); gate.Cut() }, shutdownGrace},
		{"the instance has ended", func(_ func(), gate *drain.Gate, begin func()) { gate.Cut(); begin() }, shutdownGrace},
		{"the client has left, then the instance ends", func(leave func(), gate *drain.Gate, begin func()) { leave(); begin(); gate.Cut() }, shutdownGrace},
		{"the client leaves, then the instance ends", func(leave func(), gate *drain.Gate, begin func()) { begin(); leave(); gate.Cut() }, shutdownGrace},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				client, leave := context.WithCancel(t.Context())
				defer leave()
				gate := &drain.Gate{}
				ctx, release := gate.Bind(client)
				defer release()
				var on context.Context
				var cancel context.CancelFunc
				start := time.Now()
				c.run(leave, gate, func() { on, cancel = detach(ctx, whole) })
				defer cancel()
				<-on.Done()
				if took := time.Since(start); took != c.want {
					t.Errorf("it went on for %v, want %v", took, c.want)
				}
			})
		})
	}
}
