package middleware_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"example.com/gatehouse/internal/access"
	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/auth"
	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/internal/drain"
	"example.com/gatehouse/internal/middleware"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/internal/testlog"
	"example.com/gatehouse/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// keys are "plain", and "people", which may name end users.
const keys = `[
	{"name": "plain", "sha256": "a116c9ed46d6207734a43317d30fd88f52ac8634c37d904bbf4e41d865f90475"},
	{"name": "people", "sha256": "c9022680f888674e2b2274758755bfa07dea729b68d71cde5c521ed70ef261bf", "end_users": true}
]`

// A door is the middleware under test, with its log.
type door struct {
	http.Handler
	gate *drain.Gate
	log  *lines
}

// lines is the log of a door.
type lines struct{ testlog.Buffer }

// all reads the lines written so far.
func (l *lines) all(t testing.TB) []map[string]any {
	t.Helper()
	var all []map[string]any
	for text := range strings.Lines(l.String()) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(text), &fields); err != nil {
			t.Fatalf("a line that is not JSON: %.300q: %v", text, err)
		}
		all = append(all, fields)
	}
	return all
}

// one reads the only line.
func (l *lines) one(t testing.TB) map[string]any {
	t.Helper()
	all := l.all(t)
	if len(all) != 1 {
		t.Fatalf("%d lines, want 1:\n%s", len(all), l)
	}
	return all[0]
}

// seen is what a route is told of its caller.
type seen struct {
	Owner  session.Owner
	Caller auth.Principal
	Known  bool
	ID     string
}

// newDoor puts the middleware before a few routes. change may be nil.
func newDoor(t testing.TB, methods []auth.Method, change func(*middleware.Config), more ...api.Route) *door {
	t.Helper()
	d := &door{gate: &drain.Gate{}, log: &lines{}}
	c := middleware.Config{Log: telemetry.NewLogger(d.log, nil, telemetry.Source{}), Gate: d.gate, Challenge: auth.Challenge(methods...), Now: time.Now}
	if methods != nil {
		c.Authenticator = auth.New(methods...)
	}
	if change != nil {
		change(&c)
	}
	who := func(w http.ResponseWriter, r *http.Request) error {
		c, known := caller.FromContext(r.Context())
		return api.WriteSuccess(w, r, "ok", seen{c.Owner, c.Principal, known, api.RequestID(r.Context())})
	}
	d.Handler = middleware.New(c, append([]api.Route{
		{Method: "GET", Path: "/private/{id}", Handler: who},
		{Method: "GET", Path: "/public", Public: true, Handler: who},
		{Method: "GET", Path: "/probe", Public: true, Probe: true, Handler: who},
		{Method: "GET", Path: "/error", Public: true, Handler: func(http.ResponseWriter, *http.Request) error {
			return api.Fail(api.Overloaded, errors.New("the cause"))
		}},
		{Method: "GET", Path: "/silent", Public: true, Handler: func(http.ResponseWriter, *http.Request) error { return nil }},
		{Method: "GET", Path: "/panic", Public: true, Handler: func(http.ResponseWriter, *http.Request) error { panic("the secret of the panic") }},
		{Method: "GET", Path: "/late", Public: true, Handler: func(w http.ResponseWriter, _ *http.Request) error {
			_, _ = io.WriteString(w, "half an ans")
			panic("late")
		}},
	}, more...))
	return d
}

func anybody() []auth.Method { return []auth.Method{&auth.None{}} }

func byKey(t testing.TB) []auth.Method {
	t.Helper()
	set, err := access.ParseKeys([]byte(keys))
	if err != nil {
		t.Fatal(err)
	}
	return []auth.Method{auth.NewAPIKeys(func() *access.KeySet { return set }, nil)}
}

// get asks a path with the headers given as name, value, name, value, ….
func (d *door) get(t testing.TB, path string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w
}

type answer struct {
	Error     *string `json:"error"`
	Message   string  `json:"message"`
	RequestID string  `json:"request_id"`
	Data      seen    `json:"data"`
}

func read(t testing.TB, w *httptest.ResponseRecorder) answer {
	t.Helper()
	var a answer
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
		t.Fatalf("%.300q: %v", w.Body, err)
	}
	return a
}

// refused fails the test unless w is the error named code.
func refused(t testing.TB, w *httptest.ResponseRecorder, status int, code string) {
	t.Helper()
	if a := read(t, w); w.Code != status || a.Error == nil || *a.Error != code {
		t.Errorf("%d %s, want %d %s", w.Code, w.Body, status, code)
	}
}

func TestTheRequestsID(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		sent []string
		kept bool
	}{
		{"none", nil, false},
		{"a word", []string{"abc"}, true},
		{"every character", []string{"AZaz09._-"}, true},
		{"as long as may be", []string{strings.Repeat("x", 128)}, true},
		{"too long", []string{strings.Repeat("x", 129)}, false},
		{"empty", []string{""}, false},
		{"white space", []string{"a b"}, false},
		{"a line break", []string{"abc\n"}, false},
		{"a line of its own", []string{"abc\r\nX-Evil: 1"}, false},
		{"quotes", []string{`a"b`}, false},
		{"a path", []string{"../x"}, false},
		{"not ASCII", []string{"é"}, false},
	}
	d := newDoor(t, anybody(), nil)
	made := regexp.MustCompile(`^[A-Za-z0-9_-]{16,64}$`)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var headers []string
			for _, id := range tt.sent {
				headers = append(headers, "X-Request-ID", id)
			}
			w := d.get(t, "/public", headers...)
			got := w.Header().Get("X-Request-ID")
			if tt.kept != (len(tt.sent) > 0 && got == tt.sent[0]) || !tt.kept && !made.MatchString(got) {
				t.Errorf("id %q, kept: want %t", got, tt.kept)
			}
			if a := read(t, w); a.RequestID != got || a.Data.ID != got {
				t.Errorf("id %q in the header, %q in the envelope, %q for the route", got, a.RequestID, a.Data.ID)
			}
		})
	}
}

func TestWhatEveryAnswerHas(t *testing.T) {
	t.Parallel()
	d := newDoor(t, byKey(t), nil)
	for path, status := range map[string]int{
		"/public": 200, "/probe": 200, "/silent": 200, "/error": 503, "/panic": 500, "/private/x": 401, "/nothing": 404,
	} {
		w := d.get(t, path, "X-Request-ID", "abc")
		h := w.Header()
		if w.Code != status || h.Get("X-Request-ID") != "abc" || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %v", path, w.Code, h)
		}
	}
	refused(t, d.get(t, "/error", "X-API-Key", "plain"), 503, "overloaded")
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/public", nil)
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	if w.Code != 405 || w.Header().Get("Allow") != "GET, HEAD" || w.Header().Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}

func TestAPanicIsA500(t *testing.T) {
	t.Parallel()
	d := newDoor(t, anybody(), nil)
	w := d.get(t, "/panic", "X-Request-ID", "abc")
	refused(t, w, 500, "internal")
	if strings.Contains(w.Body.String(), "secret") || strings.Contains(w.Body.String(), ".go") {
		t.Errorf("the answer tells of the panic: %s", w.Body)
	}
	all := d.log.all(t)
	if len(all) != 2 {
		t.Fatalf("%d lines, want the panic's and the request's:\n%s", len(all), d.log)
	}
	stack, _ := all[0]["stack_trace"].(string)
	if all[0]["severity"] != "ERROR" || all[0]["request_id"] != "abc" || !strings.Contains(stack, "the secret of the panic") || !strings.Contains(stack, "middleware_test.go") {
		t.Errorf("the panic's line: %v", all[0])
	}
	if all[1]["severity"] != "ERROR" || all[1]["code"] != "internal" || all[1]["route"] != "GET /panic" {
		t.Errorf("the request's line: %v", all[1])
	}
}

func TestAPanicAfterTheAnswerBegan(t *testing.T) {
	t.Parallel()
	d := newDoor(t, anybody(), nil)
	func() {
		defer func() {
			if p := recover(); p != http.ErrAbortHandler { //nolint:errorlint // a panic's value
				t.Errorf("panic %v, want %v, which drops the connection", p, http.ErrAbortHandler)
			}
		}()
		d.get(t, "/late")
	}()
	last := d.log.all(t)[1]
	if last["code"] != "internal" || last["httpRequest"].(map[string]any)["status"] != 500.0 {
		t.Errorf("the request's line: %v", last)
	}
}

func TestAHandlerMayDropItsConnection(t *testing.T) {
	t.Parallel()
	d := newDoor(t, anybody(), nil, api.Route{Method: "GET", Path: "/drop", Public: true, Handler: func(http.ResponseWriter, *http.Request) error {
		panic(http.ErrAbortHandler)
	}})
	w := httptest.NewRecorder()
	defer func() {
		if p := recover(); p != http.ErrAbortHandler { //nolint:errorlint // a panic's value
			t.Errorf("panic %v, want %v passed on", p, http.ErrAbortHandler)
		}
		if w.Flushed {
			t.Error("an answer is sent")
		}
		d.log.one(t)
		if err := d.gate.Shut(t.Context()); err != nil {
			t.Errorf("the request is still counted: %v", err)
		}
	}()
	d.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/drop", nil))
}

func TestWhoIsRefused(t *testing.T) {
	t.Parallel()
	d := newDoor(t, byKey(t), nil)
	tests := []struct {
		name    string
		path    string
		headers []string
		status  int
		code    string // "" for an answer
		caller  string
	}{
		{"no credential", "/private/x", nil, 401, "unauthenticated", ""},
		{"a credential", "/private/x", []string{"X-API-Key", "plain"}, 200, "", "plain"},
		{"a wrong one", "/private/x", []string{"X-API-Key", "nonsense"}, 401, "unauthenticated", ""},
		{"one twice", "/private/x", []string{"X-API-Key", "plain", "X-API-Key", "plain"}, 401, "unauthenticated", ""},
		{"one in the query", "/private/x?key=plain&api_key=plain&x-api-key=plain", nil, 401, "unauthenticated", ""},
		{"one that nothing here reads", "/private/x", []string{"Authorization", "Bearer x"}, 401, "unauthenticated", ""},
		{"a good one and a bad one", "/private/x", []string{"X-API-Key", "plain", "Authorization", "Bearer x"}, 401, "unauthenticated", ""},
		{"a public route without one", "/public", nil, 200, "", ""},
		{"a public route with one", "/public", []string{"X-API-Key", "plain"}, 200, "", "plain"},
		{"a public route with a wrong one", "/public", []string{"X-API-Key", "nonsense"}, 401, "unauthenticated", ""},
		{"a probe with a wrong one", "/probe", []string{"X-API-Key", "nonsense"}, 200, "", ""},
		{"no such path, without one", "/nothing", nil, 404, "not_found", ""},
		{"an Accept of neither", "/private/x", []string{"X-API-Key", "plain", "Accept", "text/html"}, 406, "not_acceptable", ""},
		{"an Accept of neither, on a public route", "/public", []string{"Accept", "text/html"}, 406, "not_acceptable", ""},
		{"an Accept of neither, on a probe", "/probe", []string{"Accept", "text/html"}, 200, "", ""},
		{"an Accept of JSON", "/private/x", []string{"X-API-Key", "plain", "Accept", "application/json"}, 200, "", "plain"},
		{"an Accept of streams", "/private/x", []string{"X-API-Key", "plain", "Accept", "text/event-stream"}, 200, "", "plain"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := d.get(t, tt.path, tt.headers...)
			challenge := ""
			if tt.status == 401 {
				challenge = `ApiKey realm="gatehouse"`
			}
			if got := w.Header().Get("WWW-Authenticate"); got != challenge {
				t.Errorf("WWW-Authenticate %q, want %q", got, challenge)
			}
			if tt.code != "" {
				refused(t, w, tt.status, tt.code)
				return
			}
			a := read(t, w)
			if w.Code != tt.status || a.Data.Caller.Subject != tt.caller || a.Data.Known != (tt.caller != "") || (a.Data.Owner != "") != (tt.caller != "") {
				t.Errorf("%d %s, want the caller %q", w.Code, w.Body, tt.caller)
			}
		})
	}
}

func TestCredentialsThatCannotBeVerifiedNow(t *testing.T) {
	t.Parallel()
	d := newDoor(t, []auth.Method{auth.NewAPIKeys(func() *access.KeySet { return nil }, nil)}, nil)
	w := d.get(t, "/private/x", "X-API-Key", "plain")
	refused(t, w, 503, "not_ready")
	if w.Header().Get("Retry-After") == "" || w.Header().Get("WWW-Authenticate") != "" {
		t.Errorf("headers %v", w.Header())
	}
}

func TestAServiceThatIsNotReadyAsksForNoCredential(t *testing.T) {
	t.Parallel()
	d := newDoor(t, nil, nil)
	if w := d.get(t, "/private/x"); w.Code != 200 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// unsigned is a token as Cloud Run passes it on.
func unsigned(email, audience string) string {
	encode := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	claims := fmt.Sprintf(`{"iss":"https://accounts.google.com","sub":"1","email":%q,"email_verified":true,"aud":%q,"exp":%d,"iat":%d}`,
		email, audience, time.Now().Add(time.Hour).Unix(), time.Now().Unix())
	return "Bearer " + encode(`{"alg":"RS256","kid":"1","typ":"JWT"}`) + "." + encode(claims) + ".SIGNATURE_REMOVED_BY_GOOGLE"
}

func TestEndUsers(t *testing.T) {
	t.Parallel()
	const site = "http://example.com" // the Host of the requests
	iam := []auth.Method{auth.NewIAM(nil)}
	account, person := unsigned("robot@p.iam.gserviceaccount.com", ""), unsigned("ada@example.com", "")
	tests := []struct {
		name    string
		methods []auth.Method
		headers []string
		code    string // "" when allowed
	}{
		{"a key that may", byKey(t), []string{"X-API-Key", "people", "X-End-User", "ada"}, ""},
		{"a key that may not", byKey(t), []string{"X-API-Key", "plain", "X-End-User", "ada"}, "permission_denied"},
		{"a service account", iam, []string{"Authorization", account, "X-End-User", "ada"}, ""},
		{"a person", iam, []string{"Authorization", person, "X-End-User", "ada"}, "permission_denied"},
		{"anybody, where everybody may call", anybody(), []string{"X-End-User", "ada"}, ""},
		{"nobody", byKey(t), []string{"X-End-User", "ada"}, "unauthenticated"},
		{"a page of another origin", anybody(), []string{"X-End-User", "ada", "Origin", "https://evil.example"}, "permission_denied"},
		{"a page of no origin", anybody(), []string{"X-End-User", "ada", "Origin", "null"}, "origin_not_allowed"},
		{"a page of the own origin", anybody(), []string{"X-End-User", "ada", "Origin", site}, ""},
		{"a page of the own host, by another scheme", anybody(), []string{"X-End-User", "ada", "Origin", "https://example.com"}, "permission_denied"},
		{"the same, with a scheme that no proxy vouches for", anybody(), []string{"X-End-User", "ada", "Origin", "https://example.com", "X-Forwarded-Proto", "https"}, "permission_denied"},
		{"a page that may not call at all", anybody(), []string{"X-End-User", "ada", "Origin", "https://other.example"}, "origin_not_allowed"},
		{"a page of the own host, at another port", anybody(), []string{"X-End-User", "ada", "Origin", site + ":8080"}, "permission_denied"},
		{"a page whose name begins the same", anybody(), []string{"X-End-User", "ada", "Origin", site + ".evil.example"}, "permission_denied"},
		{"a key of another origin's page", byKey(t), []string{"X-API-Key", "people", "X-End-User", "ada", "Origin", "https://evil.example"}, "permission_denied"},
		{"one character", anybody(), []string{"X-End-User", "x"}, ""},
		{"every printable character", anybody(), []string{"X-End-User", ` !"#$%&'()*+,-./09:;<=>?@AZ[\]^_` + "`az{|}~"}, ""},
		{"as long as may be", anybody(), []string{"X-End-User", strings.Repeat("x", 128)}, ""},
		{"too long", anybody(), []string{"X-End-User", strings.Repeat("x", 129)}, "malformed_request"},
		{"empty", anybody(), []string{"X-End-User", ""}, "malformed_request"},
		{"twice", anybody(), []string{"X-End-User", "ada", "X-End-User", "ada"}, "malformed_request"},
		{"not ASCII", anybody(), []string{"X-End-User", "adé"}, "malformed_request"},
		{"a tab", anybody(), []string{"X-End-User", "a\tb"}, "malformed_request"},
		{"a line break", anybody(), []string{"X-End-User", "a\nb"}, "malformed_request"},
		{"a deletion", anybody(), []string{"X-End-User", "a\x7fb"}, "malformed_request"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			listed := func() ([]string, bool) {
				return []string{"https://evil.example", "https://example.com", site + ":8080", site + ".evil.example"}, true
			}
			w := newDoor(t, tt.methods, func(c *middleware.Config) { c.Origins = listed }).get(t, "/private/x", tt.headers...)
			if tt.code != "" {
				status := map[string]int{"permission_denied": 403, "origin_not_allowed": 403, "unauthenticated": 401, "malformed_request": 400}[tt.code]
				refused(t, w, status, tt.code)
				return
			}
			a := read(t, w)
			if w.Code != 200 || a.Data.Owner == session.OwnerOf(a.Data.Caller.ID(), "") || a.Data.Owner == "" {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
}

// Owners are different for every pair of caller and end user.
func TestOwners(t *testing.T) {
	t.Parallel()
	none, key := newDoor(t, anybody(), nil), newDoor(t, byKey(t), nil)
	owners := map[session.Owner]string{}
	for name, w := range map[string]*httptest.ResponseRecorder{
		"anonymous":             none.get(t, "/private/x"),
		"anonymous for ada":     none.get(t, "/private/x", "X-End-User", "ada"),
		"anonymous for Ada":     none.get(t, "/private/x", "X-End-User", "Ada"),
		"a key":                 key.get(t, "/private/x", "X-API-Key", "people"),
		"a key for ada":         key.get(t, "/private/x", "X-API-Key", "people", "X-End-User", "ada"),
		"another key":           key.get(t, "/private/x", "X-API-Key", "plain"),
		"a key for another key": key.get(t, "/private/x", "X-API-Key", "people", "X-End-User", "plain"),
	} {
		owner := read(t, w).Data.Owner
		if other, ok := owners[owner]; ok || owner == "" {
			t.Errorf("%s has the owner %q of %s", name, owner, other)
		}
		owners[owner] = name
	}
	if again := read(t, none.get(t, "/private/x")).Data.Owner; owners[again] != "anonymous" {
		t.Errorf("the same caller has another owner at the next call")
	}
}

func TestTheLine(t *testing.T) {
	t.Parallel()
	d := newDoor(t, byKey(t), nil)
	w := d.get(t, "/private/my%20id?token=secret", "X-Request-ID", "abc", "X-API-Key", "people", "X-End-User", "ada", "User-Agent", "curl/8")
	fields := d.log.one(t)
	request := fields["httpRequest"].(map[string]any)
	if !regexp.MustCompile(`^\d+\.\d+s$`).MatchString(request["latency"].(string)) {
		t.Errorf("latency %v", request["latency"])
	}
	delete(fields, "time")
	delete(fields, "logging.googleapis.com/sourceLocation")
	delete(request, "latency")
	want := map[string]any{
		"severity": "INFO", "message": "GET /private/{id} 200 OK", "request_id": "abc", "route": "GET /private/{id}",
		"principal": string(session.OwnerOf(read(t, w).Data.Caller.ID(), "")),
		"httpRequest": map[string]any{
			"requestMethod": "GET", "requestUrl": "/private/{id}", "status": 200.0, "responseSize": fmt.Sprint(w.Body.Len()), "userAgent": "curl/8", "remoteIp": "192.0.2.1",
		},
	}
	if diff := cmp.Diff(fields, want); diff != "" {
		t.Errorf("(-got +want):\n%s", diff)
	}
	for _, secret := range []string{"ada", "people", "secret"} {
		if strings.Contains(d.log.String(), secret) {
			t.Errorf("the line holds %q: %s", secret, d.log)
		}
	}
}

func TestTheLineOfAFailure(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]struct {
		severity, message, code, cause, url string
	}{
		"/error":     {"ERROR", "GET /error 503 Service Unavailable", "overloaded", "the cause", "/error"},
		"/private/x": {"WARNING", "GET /private/{id} 401 Unauthorized", "unauthenticated", "no credential", "/private/{id}"},
		"/nothing":   {"WARNING", "no route 404 Not Found", "not_found", "", "/nothing"},
	} {
		d := newDoor(t, byKey(t), nil)
		d.get(t, path)
		fields := d.log.one(t)
		cause, _ := fields["error"].(string)
		if fields["severity"] != want.severity || fields["message"] != want.message || fields["code"] != want.code || cause != want.cause ||
			fields["httpRequest"].(map[string]any)["requestUrl"] != want.url {
			t.Errorf("%s: %v", path, fields)
		}
	}
}

func TestALineForAClientThatLeft(t *testing.T) {
	t.Parallel()
	d := newDoor(t, anybody(), nil, api.Route{Method: "GET", Path: "/left", Handler: func(http.ResponseWriter, *http.Request) error {
		return api.Fail(api.ClientClosedRequest, context.Canceled)
	}})
	d.get(t, "/left")
	if fields := d.log.one(t); fields["severity"] != "WARNING" || fields["httpRequest"].(map[string]any)["status"] != 499.0 {
		t.Errorf("%v", fields)
	}
}

// What a caller sends can neither make a line of its own, nor a field, nor make
// a line long: below 2 KiB.
func TestHostileRequestsStayOneShortLine(t *testing.T) {
	t.Parallel()
	forged := `"}` + "\n" + `{"severity":"CRITICAL","message":"forged","httpRequest":{"status":200}}` + "\n"
	long := strings.Repeat("x", 64<<10)
	tests := []struct {
		name          string
		path, agent   string
		method        string
		forwarded, id string
	}{
		{"line breaks and quotes", "/" + forged, forged, "GET", forged, forged},
		{"64 KiB of letters", "/" + long, long, "GET", long, long},
		{"64 KiB of quotes", "/" + strings.Repeat(`"`, 64<<10), strings.Repeat(`"`, 64<<10), "GET", strings.Repeat(`"`, 64<<10), ""},
		{"64 KiB of backslashes", "/" + strings.Repeat(`\`, 64<<10), strings.Repeat(`\`, 64<<10), "GET", "", ""},
		{"control characters", "/" + strings.Repeat("\x01", 64<<10), strings.Repeat("\x01", 64<<10), "GET", "", ""},
		{"control characters, as a client can send them", "/" + strings.Repeat("\x01", 64<<10), strings.Repeat("\t", 64<<10), "GET", "", ""},
		{"bytes that are not UTF-8", "/" + strings.Repeat("\xff", 64<<10), strings.Repeat("\xff", 64<<10), "GET", "", ""},
		{"line separators of Unicode", "/" + strings.Repeat("\u2028", 64<<10), strings.Repeat("\u2028", 64<<10), "GET", "", ""},
		{"a long method", "/" + long, long, strings.Repeat("M", 64<<10), "", strings.Repeat("x", 128)},
	}
	for _, proxied := range []bool{false, true} {
		for _, tt := range tests {
			t.Run(fmt.Sprintf("%s, proxied %t", tt.name, proxied), func(t *testing.T) {
				t.Parallel()
				d := newDoor(t, byKey(t), func(c *middleware.Config) { c.Proxied = proxied })
				r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/private/x", nil)
				r.Method, r.URL.Path = tt.method, tt.path
				for name, value := range map[string]string{
					"User-Agent": tt.agent, "X-Forwarded-For": tt.forwarded, "X-Request-ID": tt.id, "X-API-Key": tt.agent, "X-End-User": tt.agent, "Accept": tt.agent,
					"Authorization": tt.agent, "Origin": tt.agent, "Referer": tt.agent,
				} {
					r.Header.Set(name, value)
				}
				d.ServeHTTP(httptest.NewRecorder(), r)
				fields := d.log.one(t)
				if n := len(d.log.String()); n > 2048 {
					t.Errorf("the line has %d bytes", n)
				}
				if fields["severity"] == "CRITICAL" || fields["message"] == "forged" || len(fields) > 9 || len(fields["httpRequest"].(map[string]any)) != 7 {
					t.Errorf("a forged line or field: %.500s", d.log)
				}
			})
		}
	}
}

func TestWhereARequestComesFrom(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		proxied   bool
		forwarded []string
		want      string
	}{
		{"nothing said", false, nil, "192.0.2.1"},
		{"what a client says is not believed", false, []string{"198.51.100.7"}, "192.0.2.1"},
		{"what the proxy says is", true, []string{"198.51.100.7"}, "198.51.100.7"},
		{"the last entry is the proxy's", true, []string{"10.0.0.1, 198.51.100.7"}, "198.51.100.7"},
		{"the last line is the proxy's", true, []string{"10.0.0.1", "198.51.100.7"}, "198.51.100.7"},
		{"IPv6", true, []string{"2001:DB8::7"}, "2001:db8::7"},
		{"nothing said behind the proxy", true, nil, "192.0.2.1"},
		{"nonsense behind the proxy", true, []string{"198.51.100.7, evil"}, "192.0.2.1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := newDoor(t, anybody(), func(c *middleware.Config) { c.Proxied = tt.proxied })
			var headers []string
			for _, value := range tt.forwarded {
				headers = append(headers, "X-Forwarded-For", value)
			}
			d.get(t, "/public", headers...)
			if got := d.log.one(t)["httpRequest"].(map[string]any)["remoteIp"]; got != tt.want {
				t.Errorf("%v, want %s", got, tt.want)
			}
		})
	}
}

// Streams are flushed, and deadlines set, through the middleware.
func TestTheServersWriterIsReached(t *testing.T) {
	t.Parallel()
	d := newDoor(t, anybody(), nil, api.Route{Method: "GET", Path: "/flush", Handler: func(w http.ResponseWriter, _ *http.Request) error {
		control := http.NewResponseController(w)
		if err := errors.Join(control.SetReadDeadline(time.Time{}), control.SetWriteDeadline(time.Time{}), control.Flush()); err != nil {
			t.Error(err)
		}
		return nil
	}})
	server := httptest.NewServer(d)
	defer server.Close()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/flush", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
}

// A route of the queue takes the queue's credential, and no caller's.
func TestTasksRoutesTakeTheQueuesCredentialAlone(t *testing.T) {
	t.Parallel()
	came := 0
	d := newDoor(t, byKey(t), func(c *middleware.Config) {
		c.Tasks = auth.New(auth.NewIAMAccount("tasks@p-1.iam.gserviceaccount.com", "https://service.example", time.Now))
		c.MaxConcurrent = 1
	}, api.Route{Method: "GET", Path: "/tasks", Tasks: true, Handler: func(w http.ResponseWriter, r *http.Request) error {
		came++
		_, known := caller.FromContext(r.Context())
		return api.WriteSuccess(w, r, "ok", seen{Known: known})
	}})
	const account, audience = "tasks@p-1.iam.gserviceaccount.com", "https://service.example"
	for name, headers := range map[string][]string{
		"nothing":                    nil,
		"a caller's key":             {"X-API-Key", "plain"},
		"another account's token":    {"Authorization", unsigned("app@p-1.iam.gserviceaccount.com", audience)},
		"a token for elsewhere":      {"Authorization", unsigned(account, "https://other.example")},
		"a good key and a bad token": {"X-API-Key", "plain", "Authorization", unsigned("app@p-1.iam.gserviceaccount.com", audience)},
	} {
		w := d.get(t, "/tasks", headers...)
		if w.Code != http.StatusUnauthorized {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	if came != 0 {
		t.Fatalf("%d refused requests came to the route", came)
	}
	w := d.get(t, "/tasks", "Authorization", unsigned(account, audience))
	if a := read(t, w); w.Code != http.StatusOK || a.Data.Known || came != 1 {
		t.Errorf("the queue's own: %d %s", w.Code, w.Body)
	}
	if w := d.get(t, "/private/1", "Authorization", unsigned(account, audience)); w.Code != http.StatusUnauthorized {
		t.Errorf("the queue's token on another route: %d %s", w.Code, w.Body)
	}
}
