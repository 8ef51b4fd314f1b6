package invoke_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/session"
)

// A failing store fails every write with err.
type failing struct {
	session.Store
	err error
}

func (f failing) Apply(context.Context, *session.Session, session.Change) (*session.Session, error) {
	return nil, fmt.Errorf("changing a session: %w", f.err)
}

// Not every error of a store is the store's failure: callers can make a session change
// all the time, or become full.
func TestWhatAStoreRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err    error
		status int
		code   string
	}{
		{session.ErrUnavailable, http.StatusServiceUnavailable, "session_store_unavailable"},
		{session.ErrTooLarge, http.StatusRequestEntityTooLarge, "request_too_large"},
		{session.ErrChanged, http.StatusTooManyRequests, "rate_limited"},
		{session.ErrNotFound, http.StatusNotFound, "session_not_found"},
	} {
		t.Run(c.code, func(t *testing.T) {
			t.Parallel()
			gemini := geminitest.Start(t)
			server, _ := serve(t, failing{newMemory(), c.err}, gemini)
			status, answer := ask(t, server, "/invoke", `{"query": "hello"}`, "Idempotency-Key", "key")
			if status != c.status || !strings.Contains(answer, `"error":"`+c.code+`"`) {
				t.Errorf("status %d: %s", status, answer)
			}
		})
	}
}
