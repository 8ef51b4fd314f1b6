package middleware_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/limit"
	"example.com/gatehouse/internal/middleware"
	"example.com/gatehouse/internal/telemetry"
)

// A call that may ask the model needs a whole turn of its limit, also if it then costs less; others
// need a tenth.
func TestWhatACallNeedsOfItsLimit(t *testing.T) {
	t.Parallel()
	now := func() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }
	d := newDoor(t, byKey(t), func(c *middleware.Config) {
		c.Limiter = limit.New(limit.Config{Counters: limit.NewMemory(now), MaxInstances: 1, Now: now, Log: telemetry.Discard()})
		c.Limits = limit.Limits{PerMinute: 1, CallerPerMinute: 1}
	}, api.Route{Method: http.MethodPost, Path: "/x", Handler: func(w http.ResponseWriter, r *http.Request) error { return api.WriteSuccess(w, r, "ok", nil) }})
	for i, tt := range []struct {
		method, path string
		status       int
	}{{"POST", "/x", 200}, {"POST", "/x", 429}, {"GET", "/private/x", 200}} {
		if w := d.send(t, tt.method, tt.path, "X-API-Key", "plain"); w.Code != tt.status {
			t.Errorf("call %d: %d %s, want %d", i, w.Code, w.Body, tt.status)
		} else if w.Header().Get("RateLimit") == "" {
			t.Errorf("call %d: %v", i, w.Header())
		}
	}
}

// Of several reasons to refuse a request the credential is reported first, then the limit,
// then what was asked for: who cannot be known learns nothing else, and mistakes are not free.
func TestWhatIsReportedFirst(t *testing.T) {
	t.Parallel()
	now := func() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }
	for name, tt := range map[string]struct {
		key, accept string
		calls       int
		status      int
	}{
		"a wrong key, and a form that is not offered": {"nonsense", "text/html", 1, http.StatusUnauthorized},
		"a good key, and a form that is not offered":  {"plain", "text/html", 1, http.StatusNotAcceptable},
		"no key, and a form that is not offered":      {"", "text/html", 1, http.StatusNotAcceptable},
		"no key":                                      {"", "", 1, http.StatusUnauthorized},
		"mistakes up to the limit":                    {"plain", "text/html", 10, http.StatusNotAcceptable},
		"mistakes beyond the limit":                   {"plain", "text/html", 11, http.StatusTooManyRequests},
		"what is right, beyond it":                    {"plain", "", 11, http.StatusTooManyRequests},
		"a wrong key, at any number":                  {"nonsense", "text/html", 50, http.StatusUnauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			limiter := limit.New(limit.Config{Counters: limit.NewMemory(now), MaxInstances: 1, Now: now, Log: telemetry.Discard()})
			d := newDoor(t, byKey(t), func(c *middleware.Config) {
				c.Limiter, c.Limits = limiter, limit.Limits{PerMinute: 1, CallerPerMinute: 1} // ten reads
			})
			var w *httptest.ResponseRecorder
			for range tt.calls {
				headers := []string{}
				if tt.key != "" {
					headers = append(headers, "X-API-Key", tt.key)
				}
				if tt.accept != "" {
					headers = append(headers, "Accept", tt.accept)
				}
				w = d.get(t, "/private/x", headers...)
			}
			if w.Code != tt.status {
				t.Errorf("%d %s, want %d", w.Code, w.Body, tt.status)
			}
		})
	}
	if w := newDoor(t, nil, nil).get(t, "/public", "Accept", "text/html"); w.Code != http.StatusNotAcceptable {
		t.Errorf("where nobody is identified: %d %s", w.Code, w.Body)
	}
}
