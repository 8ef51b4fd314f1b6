package middleware_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/gatehouse/internal/access"
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

// Who is refused before a route is answered in the form of that: a protocol's client reads
// no other.
func TestARefusalIsInTheFormOfItsRoute(t *testing.T) {
	t.Parallel()
	own := func(path string) api.Route {
		return api.Route{
			Method: http.MethodPost, Path: path, Handler: func(http.ResponseWriter, *http.Request) error { panic("it was reached") },
			Fail: func(w http.ResponseWriter, _ *http.Request, e *api.Error) error {
				return api.WriteJSON(w, e.Status(), string(e.Code)+" of "+path)
			},
		}
	}
	d := newDoor(t, anybody(), func(c *middleware.Config) { c.Loopback = true }, own("/door"), own("/door/{id}"))
	for _, tt := range []struct{ method, path, host, want string }{
		{http.MethodPost, "/door", "rebound.example", `"permission_denied of /door"`},
		{http.MethodPost, "/door/7", "rebound.example", `"permission_denied of /door/{id}"`},
		{http.MethodPost, "/door", "localhost", `"origin_not_allowed of /door"`},
		{http.MethodGet, "/door", "rebound.example", `"error":"permission_denied"`},
		{http.MethodPost, "/nowhere", "rebound.example", `"error":"permission_denied"`},
	} {
		r := httptest.NewRequestWithContext(t.Context(), tt.method, tt.path, nil)
		r.Host = tt.host
		r.Header.Set("Origin", "https://evil.example")
		w := httptest.NewRecorder()
		d.ServeHTTP(w, r)
		if w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), tt.want) {
			t.Errorf("%s %s to %s: %d %s, want %s", tt.method, tt.path, tt.host, w.Code, w.Body, tt.want)
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
		if w.Code != tt.status || (w.Body.String() == "Request Header Fields Too Large\n") != (w.Code == 431) {
			t.Errorf("%s: %d %s, want %d", name, w.Code, w.Body, tt.status)
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
	}, api.Route{Method: "GET", Path: "/uncounted", Public: true, Uncounted: true, Handler: func(http.ResponseWriter, *http.Request) error { return nil }})
	usage := func() int64 {
		report, err := other.Report(t.Context(), nil, budgets)
		if err != nil {
			t.Fatal(err)
		}
		return report.Usage["m"].Tokens
	}
	d.get(t, "/probe")
	d.get(t, "/uncounted")
	if w := d.get(t, "/public"); !w.Flushed {
		t.Error("the client has to wait for what comes after its answer")
	}
	if n := usage(); n != 0 {
		t.Fatalf("%d tokens reported before they are due", n)
	}
	now = now.Add(time.Minute)
	d.get(t, "/public")
	if n := usage(); n != 90 {
		t.Errorf("%d of 90 tokens reported when they were due", n)
	}
	if sum, err := store.Sum(t.Context(), now.Add(-time.Hour)); err != nil || sum.Requests != 2 {
		t.Errorf("figures of two requests, a probe and one that is not counted: %+v, %v", sum, err)
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
		`url_scheme="https"} 2`: true, `http_route="/error"`: true, `limit="concurrency"`: true, `http_route="/probe"`: false, `limit="other"`: false,
	} {
		if strings.Contains(page, label) != want {
			t.Errorf("%s is measured: %t\n%s", label, !want, page)
		}
	}
}

// What a handler leaves in its body decides whether the connection can go on after a
// refusal. By HTTP/2 a request ends by itself.
func TestTheConnectionAfterABody(t *testing.T) {
	t.Parallel()
	answer := func(read int64, status int) api.Handler {
		return func(w http.ResponseWriter, r *http.Request) error {
			if read != 0 {
				_, _ = io.CopyN(io.Discard, r.Body, read)
			}
			w.WriteHeader(status)
			return nil
		}
	}
	for name, tt := range map[string]struct {
		handler api.Handler
		proto   int
		close   bool
	}{
		"refused unread":           {answer(0, 400), 1, true},
		"refused in the middle":    {answer(2, 404), 1, true},
		"refused after its end":    {answer(100, 400), 1, false},
		"answered unread":          {answer(0, 200), 1, false},
		"redirected unread":        {answer(0, 399), 1, false},
		"refused unread by HTTP/2": {answer(0, 400), 2, false},
	} {
		d := newDoor(t, anybody(), nil, api.Route{Method: http.MethodPost, Path: "/body", Handler: tt.handler})
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/body", strings.NewReader("a body"))
		r.ProtoMajor = tt.proto
		w := httptest.NewRecorder()
		d.ServeHTTP(w, r)
		if got := w.Header().Get("Connection") == "close"; got != tt.close {
			t.Errorf("%s: %d, closes the connection: %t", name, w.Code, got)
		}
	}
}

// The line has the status that the client got: the first, and not an informational one.
func TestTheStatusOfTheLine(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		statuses []int
		want     float64
	}{
		"none":                       {nil, 200},
		"one":                        {[]int{201}, 201},
		"a hint before":              {[]int{103, 202}, 202},
		"a second one has no effect": {[]int{203, 404}, 203},
	} {
		d := newDoor(t, anybody(), nil, api.Route{Method: "GET", Path: "/status", Handler: func(w http.ResponseWriter, _ *http.Request) error {
			for _, status := range tt.statuses {
				w.WriteHeader(status)
			}
			return nil
		}})
		d.get(t, "/status")
		if got := d.log.one(t)["httpRequest"].(map[string]any)["status"]; got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
	d := newDoor(t, anybody(), nil, api.Route{Method: "GET", Path: "/begun", Handler: func(w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(200)
		panic("after the status")
	}})
	defer func() {
		if p := recover(); p != http.ErrAbortHandler { //nolint:errorlint // a panic's value
			t.Errorf("panic %v, want %v: the answer has begun", p, http.ErrAbortHandler)
		}
	}()
	d.get(t, "/begun")
}

// A body takes one place, at its end, however often it is read; who works is not counted
// among those that send.
func TestAPlaceIsTakenAtABodysEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		d := newDoor(t, anybody(), atMost(2),
			api.Route{Method: "GET", Path: "/wait", Handler: func(http.ResponseWriter, *http.Request) error { <-release; return nil }},
			api.Route{Method: "POST", Path: "/body", Handler: func(_ http.ResponseWriter, r *http.Request) error {
				_, err := io.Copy(io.Discard, r.Body)
				_, again := r.Body.Read(make([]byte, 1))
				if !errors.Is(again, io.EOF) && err == nil {
					t.Errorf("read again: %v", again)
				}
				return err
			}})
		var requests sync.WaitGroup
		begin := func(method, path string, body io.Reader) *httptest.ResponseRecorder {
			w := httptest.NewRecorder()
			requests.Go(func() { d.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, body)) })
			synctest.Wait()
			return w
		}
		begin("GET", "/wait", nil)
		var bodies []*io.PipeWriter
		var sent []*httptest.ResponseRecorder
		for range 2 { // with the next request as many as one owner may have entering
			r, w := io.Pipe()
			bodies, sent = append(bodies, w), append(sent, begin("POST", "/body", r))
			if _, err := io.WriteString(w, "{"); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if w := d.get(t, "/private/x"); w.Code != 200 {
			t.Errorf("a place is held by a body that has not ended: %d", w.Code)
		}
		for i, w := range bodies {
			if sent[i].Flushed {
				t.Errorf("body %d is refused: %d %s", i, sent[i].Code, sent[i].Body)
			}
			_ = w.Close()
			synctest.Wait()
		}
		close(release)
		requests.Wait()
		for range 2 { // both places are free, and no more
			release = make(chan struct{})
			begin("GET", "/wait", nil)
			begin("GET", "/wait", nil)
			refused(t, d.get(t, "/private/x"), 503, "overloaded")
			close(release)
			requests.Wait()
		}
	})
}

// Nothing of a request outlives it: its context has ended.
func TestARequestsContextEndsWithIt(t *testing.T) {
	t.Parallel()
	var during, after error
	var ctx context.Context
	d := newDoor(t, anybody(), nil, api.Route{Method: "GET", Path: "/x", Handler: func(_ http.ResponseWriter, r *http.Request) error {
		ctx = r.Context()
		during = ctx.Err()
		return nil
	}})
	d.get(t, "/x")
	if after = ctx.Err(); during != nil || after == nil {
		t.Errorf("during the request %v, after it %v", during, after)
	}
}

// A route that answers in a form that only it has takes any Accept.
func TestARouteWithAFormOfItsOwn(t *testing.T) {
	t.Parallel()
	d := newDoor(t, anybody(), nil, api.Route{Method: "GET", Path: "/csv", Media: "text/csv", Handler: func(http.ResponseWriter, *http.Request) error { return nil }})
	if w := d.get(t, "/csv", "Accept", "text/html"); w.Code != 200 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// A route knows whether its caller may see the details of the service.
func TestOperatorsAreKnown(t *testing.T) {
	t.Parallel()
	operators, err := access.ParseOperators([]string{"key:plain"}, false)
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]bool{"plain": true, "people": false} {
		got := !want
		d := newDoor(t, byKey(t), func(c *middleware.Config) { c.Operators = operators },
			api.Route{Method: "GET", Path: "/x", Handler: func(_ http.ResponseWriter, r *http.Request) error {
				c, _ := caller.FromContext(r.Context())
				got = c.Operator
				return nil
			}})
		if d.get(t, "/x", "X-API-Key", key); got != want {
			t.Errorf("%s is an operator: %t", key, got)
		}
	}
}

// A 401 has a challenge where there is one; callers that cannot be identified now, or are
// not looked at while the service shuts down, get what they asked for.
func TestWhoIsNotIdentified(t *testing.T) {
	t.Parallel()
	d := newDoor(t, []auth.Method{fixed{err: auth.ErrInvalid}}, func(c *middleware.Config) { c.Challenge = "" })
	w := d.get(t, "/private/x")
	refused(t, w, 401, "unauthenticated")
	if got, there := w.Header()["Www-Authenticate"]; there {
		t.Errorf("an empty challenge: %q", got)
	}
	away := newDoor(t, []auth.Method{fixed{err: auth.ErrUnavailable}}, nil)
	if w := away.get(t, "/public"); w.Code != 200 {
		t.Errorf("a public route while nobody can be identified: %d %s", w.Code, w.Body)
	}
	refused(t, away.get(t, "/nothing"), 404, "not_found")
	closing := newDoor(t, byKey(t), nil)
	if err := closing.gate.Shut(t.Context()); err != nil {
		t.Fatal(err)
	}
	refused(t, closing.get(t, "/nothing", "X-API-Key", "nonsense"), 404, "not_found")
}

// A mistake counts against its caller, and against no end user's limit.
func TestAMistakeCountsAgainstItsCaller(t *testing.T) {
	t.Parallel()
	now := func() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }
	limiter := limit.New(limit.Config{Counters: limit.NewMemory(now), MaxInstances: 1, Now: now, Log: telemetry.Discard()})
	d := newDoor(t, byKey(t), func(c *middleware.Config) {
		c.Limiter, c.Limits = limiter, limit.Limits{PerMinute: 1, CallerPerMinute: 2}
	})
	for range 19 {
		refused(t, d.get(t, "/private/x", "X-API-Key", "plain", "Accept", "text/html"), 406, "not_acceptable")
	}
	if w := d.get(t, "/private/x", "X-API-Key", "plain"); w.Code != 200 {
		t.Errorf("after nineteen mistakes of twenty: %d %s", w.Code, w.Body)
	}
	refused(t, d.get(t, "/private/x", "X-API-Key", "plain", "Accept", "text/html"), 429, "rate_limited")
}

// An entry of the audit has the trace that its request belongs to.
func TestTheAuditHasTheTrace(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	log, err := audit.New(t.Context(), "", audit.Off, "", &out)
	if err != nil {
		t.Fatal(err)
	}
	d := newDoor(t, byKey(t), func(c *middleware.Config) { c.Audit = middleware.NewAudit(log, false) })
	d.get(t, "/private/x", "X-API-Key", "nonsense", "Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	if entry := out.String(); !strings.Contains(entry, "0af7651916cd43dd8448eb211c80319c") || !strings.Contains(entry, "credential.refused") {
		t.Errorf("entry %q", entry)
	}
}
