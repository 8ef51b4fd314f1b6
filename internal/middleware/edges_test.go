package middleware_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/auth"
	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/internal/figures"
	"example.com/gatehouse/internal/gcp/audit"
	"example.com/gatehouse/internal/limit"
	"example.com/gatehouse/internal/middleware"
	"example.com/gatehouse/internal/telemetry"
)

// A page elsewhere reaches the local service by a name that it lets point here.
func TestTheLocalServiceAnswersOnlyToThisMachine(t *testing.T) {
	t.Parallel()
	for host, status := range map[string]int{
		"localhost": 200, "localhost:8080": 200, "127.0.0.1:8080": 200, "rebound.example": 403, "rebound.example:8080": 403,
	} {
		d := newDoor(t, anybody(), func(c *middleware.Config) { c.Loopback = true })
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/public", nil)
		r.Host = host
		w := httptest.NewRecorder()
		d.ServeHTTP(w, r)
		line := d.log.one(t)
		if w.Code != status || status == 403 && (line["code"] != "permission_denied" || read(t, w).Data.ID != "") {
			t.Errorf("%s: %d %s", host, w.Code, w.Body)
		}
	}
}

// The bound counts each header's name, its value, and what stands between and after them.
func TestTheBoundOfHeaders(t *testing.T) {
	t.Parallel()
	d := newDoor(t, anybody(), nil)
	for name, tt := range map[string]struct {
		more, values, status int
	}{
		"as large as may be":            {0, 1, 200},
		"a byte more":                   {1, 1, 431},
		"as large as may be, in values": {0, 4, 200},
		"a byte more, in values":        {1, 4, 431},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/public", nil)
		rest := 32<<10 + tt.more - tt.values*len("X-Padding: \r\n")
		for i := range tt.values {
			n := rest / (tt.values - i)
			r.Header.Add("X-Padding", strings.Repeat("x", n))
			rest -= n
		}
		w := httptest.NewRecorder()
		d.ServeHTTP(w, r)
		if w.Code != tt.status {
			t.Errorf("%s: %d, want %d", name, w.Code, tt.status)
		}
	}
}

// While the list of origins is unknown, pages are asked to come again, and probes pass.
func TestWhileTheListIsUnknown(t *testing.T) {
	t.Parallel()
	d := newDoor(t, anybody(), func(c *middleware.Config) { c.Origins = func() ([]string, bool) { return []string{site}, false } })
	refused(t, d.get(t, "/public", "Origin", site), 503, "not_ready")
	for name, headers := range map[string][]string{"/public": nil, "/probe": {"Origin", site}} {
		if w := d.get(t, name, headers...); w.Code != 200 {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}

// The host of a request may have capitals, which browsers do not send in an origin.
func TestCapitalsInTheOwnHost(t *testing.T) {
	t.Parallel()
	d := newDoor(t, anybody(), nil)
	for host, status := range map[string]int{
		"AMZ.example": 200, "amz.example:80": 200, "amz.example:81": 403, "a[z.example": 403, "a@z.example": 403,
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/public", nil)
		r.Host = host
		r.Header.Set("Origin", "http://amz.example")
		w := httptest.NewRecorder()
		d.ServeHTTP(w, r)
		if w.Code != status {
			t.Errorf("%s: %d, want %d", host, w.Code, status)
		}
	}
}

// A route's own form of a failure is that of its panic, too.
func TestAPanicInTheFormOfItsRoute(t *testing.T) {
	t.Parallel()
	d := newDoor(t, anybody(), nil, api.Route{Method: "GET", Path: "/own", Fail: func(w http.ResponseWriter, _ *http.Request, e *api.Error) error {
		w.WriteHeader(e.Status())
		_, err := fmt.Fprint(w, "own: ", e.Code)
		return err
	}, Handler: func(http.ResponseWriter, *http.Request) error { panic("x") }})
	if w := d.get(t, "/own"); w.Code != 500 || w.Body.String() != "own: internal" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// A request of the queue is logged and audited as that of the caller for whom it works,
// once its route knows who that is.
func TestATaskIsOfItsRunsCaller(t *testing.T) {
	t.Parallel()
	queue := caller.Principal{Issuer: "test", Subject: "queue"}
	ada := caller.New(caller.Principal{Issuer: "api_key", Subject: "backend"}, "ada")
	d := newDoor(t, byKey(t), func(c *middleware.Config) { c.Tasks = auth.New(fixed{queue, nil}) },
		api.Route{Method: "GET", Path: "/known", Tasks: true, Handler: func(w http.ResponseWriter, r *http.Request) error {
			caller.Assume(r.Context(), ada)
			return nil
		}},
		api.Route{Method: "GET", Path: "/unknown", Tasks: true, Handler: func(http.ResponseWriter, *http.Request) error { return nil }},
	)
	d.get(t, "/known")
	d.get(t, "/unknown")
	for i, want := range []caller.Principal{ada.Principal, queue} {
		if got := d.log.all(t)[i]["principal"]; got != string(want.Owner()) {
			t.Errorf("line %d is of %v, want %s", i, got, want.Owner())
		}
	}
	away := newDoor(t, byKey(t), func(c *middleware.Config) { c.Tasks = auth.New(fixed{err: auth.ErrUnavailable}) },
		api.Route{Method: "GET", Path: "/known", Tasks: true, Handler: func(http.ResponseWriter, *http.Request) error {
			t.Error("the route is reached")
			return nil
		}})
	refused(t, away.get(t, "/known"), 503, "not_ready")
}

// fixed finds one caller, or none for a reason.
type fixed struct {
	principal caller.Principal
	err       error
}

func (f fixed) Authenticate(*http.Request) (caller.Principal, bool, error) {
	return f.principal, f.err == nil, f.err
}

// A route has the token by which its caller was verified, and no other credential.
func TestTheTokenOfACaller(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		principal caller.Principal
		want      string
	}{
		"a token of an issuer": {caller.Principal{Issuer: "https://issuer.example", Subject: "ada", Method: caller.MethodOIDC}, "the.token.sent"},
		"a key":                {caller.Principal{Issuer: "api_key", Subject: "backend", Method: caller.MethodAPIKey}, ""},
	} {
		var got string
		d := newDoor(t, []auth.Method{fixed{tt.principal, nil}}, nil, api.Route{Method: "GET", Path: "/token", Handler: func(_ http.ResponseWriter, r *http.Request) error {
			got = caller.Token(r.Context())
			return nil
		}})
		if w := d.get(t, "/token", "Authorization", "Bearer the.token.sent"); w.Code != 200 || got != tt.want {
			t.Errorf("%s: %d, token %q, want %q", name, w.Code, got, tt.want)
		}
	}
}

// What is written after the answer is written by the request that finds it due, and a
// fault in it reaches no client.
func TestWorkAfterTheAnswer(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	counters := limit.NewMemory(func() time.Time { return now })
	limiter := func() *limit.Limiter {
		return limit.New(limit.Config{Counters: counters, MaxInstances: 2, Now: func() time.Time { return now }, Log: telemetry.Discard()})
	}
	own, other := limiter(), limiter()
	store := figures.NewMemory()
	budgets := []limit.Budget{{Name: "caller", Who: "c", PerDay: 1_000_000}}
	r, err := own.Reserve(t.Context(), budgets, 100)
	if err != nil {
		t.Fatal(err)
	}
	r.Settle(map[string]limit.Spend{"m": {Tokens: 90}})
	d := newDoor(t, anybody(), func(c *middleware.Config) {
		c.Limiter = own
		c.Figures = figures.New(figures.Config{Store: store, Now: func() time.Time { return now }, Log: telemetry.Discard()})
	})
	usage := func() int64 {
		report, err := other.Report(t.Context(), nil, budgets)
		if err != nil {
			t.Fatal(err)
		}
		return report.Usage["m"].Tokens
	}
	d.get(t, "/public")
	if n := usage(); n != 0 {
		t.Fatalf("%d tokens reported before they are due", n)
	}
	now = now.Add(time.Minute)
	d.get(t, "/public")
	if n := usage(); n != 90 {
		t.Errorf("%d of 90 tokens reported when they were due", n)
	}
	if sum, err := store.Sum(t.Context(), now.Add(-time.Hour)); err != nil || sum.Requests == 0 {
		t.Errorf("no figures written: %+v, %v", sum, err)
	}

	broken := newDoor(t, byKey(t), func(c *middleware.Config) { c.Audit = middleware.NewAudit((*audit.Log)(nil), false) })
	refused(t, broken.get(t, "/private/x", "X-API-Key", "nonsense"), 401, "unauthenticated")
	found := false
	for _, line := range broken.log.all(t) {
		found = found || line["message"] == "Panic in post-response work."
	}
	if !found {
		t.Errorf("the fault is not logged: %s", broken.log)
	}
}

// A body that is put takes its place at its end, as one that is posted.
func TestABodyThatIsPut(t *testing.T) {
	t.Parallel()
	put := func(handler api.Handler) *httptest.ResponseRecorder {
		d := newDoor(t, anybody(), atMost(1), api.Route{Method: http.MethodPut, Path: "/put", Handler: handler})
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPut, "/put", strings.NewReader("{}"))
		r.Header.Set("Content-Type", "application/json")
		d.ServeHTTP(w, r)
		after := d.get(t, "/private/x")
		if after.Code != 200 {
			t.Errorf("afterwards: %d %s", after.Code, after.Body)
		}
		return w
	}
	var free bool
	w := put(func(w http.ResponseWriter, r *http.Request) error {
		body, err := api.ReadBody(w, r, 10, time.Minute)
		free = err == nil && json.Valid(body)
		return err
	})
	if w.Code != 200 || !free {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	w = put(func(http.ResponseWriter, *http.Request) error {
		return api.Fail(api.ValidationFailed, errors.New("not read"))
	})
	if w.Code != 422 && w.Code != 400 {
		t.Errorf("a body that is not read: %d %s", w.Code, w.Body)
	}
}

// The platform's probes are in no metric; how a client came is what the proxy reports.
func TestWhichRequestsAreMeasured(t *testing.T) {
	t.Parallel()
	settings, err := telemetry.Parse(func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	observer, err := telemetry.New(settings, telemetry.Config{Service: "s", Routes: []string{"GET /public", "GET /probe", "GET /error"}, Codes: []string{"overloaded"}})
	if err != nil {
		t.Fatal(err)
	}
	d := newDoor(t, anybody(), func(c *middleware.Config) { c.Observer, c.Proxied = observer, true })
	d.get(t, "/public", "X-Forwarded-Proto", "https")
	d.get(t, "/public", "X-Forwarded-Proto", "http, HTTPS")
	d.get(t, "/error")
	d.get(t, "/probe")
	w := httptest.NewRecorder()
	observer.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	page := w.Body.String()
	for label, want := range map[string]bool{
		`url_scheme="https"} 2`: true, `http_route="/error"`: true, `limit="concurrency"`: true, `http_route="/probe"`: false,
	} {
		if strings.Contains(page, label) != want {
			t.Errorf("%s is measured: %t\n%s", label, !want, page)
		}
	}
}
