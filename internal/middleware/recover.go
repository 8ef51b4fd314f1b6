package middleware

import (
	"context"
	"errors"
	"net/http"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/rescue"
	"example.com/gatehouse/internal/telemetry"
)

// recover turns a panic into a 500, or cuts the connection when an answer has
// begun.
func (m *middleware) recover(w *recorder, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if err, _ := p.(error); errors.Is(err, http.ErrAbortHandler) {
		panic(p) // the server's own way to drop a connection
	}
	e := telemetry.Panicked(r.Context(), m.Log, p)
	telemetry.Fail(r.Context(), e)
	if w.status == 0 {
		fail := api.WriteError
		if own := stateOf(r.Context()).fail; own != nil {
			fail = own
		}
		_ = fail(w, r, e)
		return
	}
	panic(http.ErrAbortHandler) // or what was cut would end like an answer that is whole
}

// runAfter runs f once the response has been sent; a panic can no longer become a
// 500 and is only logged.
func (m *middleware) runAfter(ctx context.Context, f func()) {
	err := rescue.Call(func() error { f(); return nil })
	if p, ok := errors.AsType[*rescue.Panic](err); ok {
		telemetry.LogPanic(ctx, m.Log, "Panic in post-response work.", p.Stack)
	}
}
