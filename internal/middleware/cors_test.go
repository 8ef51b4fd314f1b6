package middleware_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/middleware"
)

const (
	site    = "https://app.example" // a page that may call
	exposed = "X-Request-ID, RateLimit, RateLimit-Policy, Retry-After, Idempotency-Replayed"
)

// forSite lets the pages of site call.
func forSite(c *middleware.Config) {
	c.Origins = func() ([]string, bool) { return []string{site, "http://localhost:3000"}, true }
}

// send asks with any method.
func (d *door) send(t testing.TB, method, path string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w
}

// accessControl are the headers of an answer that open it to pages.
func accessControl(h http.Header) map[string]string {
	found := map[string]string{}
	for name, values := range h {
		if short, ok := strings.CutPrefix(name, "Access-Control-"); ok {
			found[short] = strings.Join(values, "|")
		}
	}
	return found
}

// variesOnce fails the test unless Vary names Origin exactly once.
func variesOnce(t testing.TB, h http.Header) {
	t.Helper()
	n := 0
	for name := range strings.SplitSeq(strings.Join(h.Values("Vary"), ","), ",") {
		if strings.EqualFold(strings.TrimSpace(name), "Origin") {
			n++
		}
	}
	if n != 1 {
		t.Errorf("Vary %q", h.Values("Vary"))
	}
}

func TestPagesThatMayNotCall(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		origins []string
	}{
		{"another site", []string{"https://evil.example"}},
		{"no origin to name", []string{"null"}},
		{"nothing in it", []string{""}},
		{"a wildcard", []string{"*"}},
		{"one that begins the same", []string{site + ".evil.example"}},
		{"one that begins the same, without a dot", []string{site + "evil"}},
		{"one that ends the same", []string{"https://evil-app.example"}},
		{"one below it", []string{"https://x.app.example"}},
		{"the one above it", []string{"https://example"}},
		{"half of it", []string{"https://app.exampl"}},
		{"its host alone", []string{"app.example"}},
		{"another scheme", []string{"http://app.example"}},
		{"another scheme, of an extension", []string{"chrome-extension://app.example"}},
		{"another port", []string{site + ":8443"}},
		{"the port it has anyway", []string{site + ":443"}},
		{"no port, where one is listed", []string{"http://localhost"}},
		{"another port than the listed", []string{"http://localhost:30000"}},
		{"a slash at the end", []string{site + "/"}},
		{"a path", []string{site + "/x"}},
		{"a query", []string{site + "?x"}},
		{"capital letters", []string{"https://App.example"}},
		{"a scheme in capitals", []string{"HTTPS://app.example"}},
		{"a name for the user", []string{"https://app.example@evil.example"}},
		{"a dot at the end", []string{site + "."}},
		{"a space at the end", []string{site + " "}},
		{"a line of its own", []string{site + "\r\nAccess-Control-Allow-Origin: *"}},
		{"a NUL", []string{site + "\x00.evil.example"}},
		{"two in one", []string{site + " https://evil.example"}},
		{"two in one, with a comma", []string{site + ", " + site}},
		{"two", []string{site, "https://evil.example"}},
		{"two that are the same", []string{site, site}},
		{"two of the own", []string{"http://example.com", "http://example.com"}},
		{"20 KiB", []string{"https://" + strings.Repeat("x", 20<<10)}},
		{"the own host by another scheme", []string{"https://example.com"}},
		{"the own host at another port", []string{"http://example.com:8080"}},
		{"the own host and more", []string{"http://example.com.evil.example"}},
		{"the own host with a slash", []string{"http://example.com/"}},
		{"the own scheme alone", []string{"http://"}},
	}
	d := newDoor(t, byKey(t), forSite)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			headers := []string{"X-Request-ID", "abc", "X-API-Key", "plain"}
			for _, origin := range tt.origins {
				headers = append(headers, "Origin", origin)
			}
			preflight := append([]string{"Access-Control-Request-Method", "GET"}, headers...)
			for name, w := range map[string]*httptest.ResponseRecorder{
				"a private route":             d.send(t, "GET", "/private/x", headers...),
				"without a credential":        d.send(t, "GET", "/private/x", append(headers, "X-API-Key", "")...),
				"a public route":              d.send(t, "GET", "/public", headers...),
				"no such path":                d.send(t, "GET", "/nothing", headers...),
				"a path that is not clean":    d.send(t, "GET", "/x/../probe", headers...),
				"a probe's path, and more":    d.send(t, "GET", "/probe/", headers...),
				"no such method":              d.send(t, "BREW", "/public", headers...),
				"OPTIONS":                     d.send(t, "OPTIONS", "/private/x", headers...),
				"a preflight":                 d.send(t, "OPTIONS", "/private/x", preflight...),
				"a preflight of no such path": d.send(t, "OPTIONS", "/nothing", preflight...),
			} {
				refused(t, w, 403, "origin_not_allowed")
				h := w.Header()
				if got := accessControl(h); len(got) > 0 {
					t.Errorf("%s: opened to pages: %v", name, got)
				}
				if h.Get("X-Request-ID") != "abc" || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Cache-Control") != "no-store" || h.Get("WWW-Authenticate") != "" {
					t.Errorf("%s: headers %v", name, h)
				}
				variesOnce(t, h)
			}
			for _, method := range []string{"GET", "OPTIONS"} {
				w := d.send(t, method, "/probe", preflight...)
				if want := map[string]int{"GET": 200, "OPTIONS": 405}[method]; w.Code != want || len(accessControl(w.Header())) > 0 {
					t.Errorf("%s of a probe: %d %v", method, w.Code, w.Header())
				}
				variesOnce(t, w.Header())
			}
		})
	}
}

func TestThePagesOfTheServiceItself(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		host      string
		tls       bool
		proxied   bool
		forwarded []string
		origin    string
		same      bool
	}{
		{"plain", "own.example", false, false, nil, "http://own.example", true},
		{"over TLS", "own.example", true, false, nil, "https://own.example", true},
		{"plain, from a page over TLS", "own.example", false, false, nil, "https://own.example", false},
		{"over TLS, from a plain page", "own.example", true, false, nil, "http://own.example", false},
		{"a port", "own.example:8080", false, false, nil, "http://own.example:8080", true},
		{"another port", "own.example:8080", false, false, nil, "http://own.example:8081", false},
		{"no port, where the service has one", "own.example:8080", false, false, nil, "http://own.example", false},
		{"the scheme's port, told", "own.example:80", false, false, nil, "http://own.example", true},
		{"the scheme's port, told by the page", "own.example", true, false, nil, "https://own.example:443", true},
		{"the other scheme's port", "own.example:443", false, false, nil, "http://own.example", false},
		{"the other scheme's port, over TLS", "own.example:80", true, false, nil, "https://own.example", false},
		{"the port twice", "own.example", false, false, nil, "http://own.example:80:80", false},
		{"capitals in the host", "Own.Example", false, false, nil, "http://own.example", true},
		{"capitals in the origin", "own.example", false, false, nil, "http://OWN.example", true},
		{"a letter that only folds to the same", "k.example", false, false, nil, "http://\u212a.example", false},
		{"IPv6", "[::1]:8080", false, false, nil, "http://[::1]:8080", true},
		{"IPv6 at the scheme's port", "[::1]", false, false, nil, "http://[::1]:80", true},
		{"no host", "", false, false, nil, "http://", false},
		{"no host, and a port", "", false, false, nil, "http://:80", false},
		{"null", "null", false, false, nil, "null", false},
		{"the proxy's scheme", "own.example", false, true, []string{"https"}, "https://own.example", true},
		{"the proxy's scheme and port", "own.example:443", false, true, []string{"https"}, "https://own.example", true},
		{"the proxy's scheme is another", "own.example", true, true, []string{"http"}, "https://own.example", false},
		{"the proxy's scheme in capitals", "own.example", false, true, []string{"HTTPS"}, "https://own.example", true},
		{"the last of the proxies' schemes", "own.example", false, true, []string{"http, https"}, "https://own.example", true},
		{"the last of the proxies' lines", "own.example", false, true, []string{"http", "https"}, "https://own.example", true},
		{"not the first of the proxies' schemes", "own.example", false, true, []string{"https, http"}, "https://own.example", false},
		{"not the first of the proxies' lines", "own.example", false, true, []string{"https", "http"}, "https://own.example", false},
		{"a proxy that says nothing", "own.example", true, true, nil, "https://own.example", true},
		{"a scheme that no proxy vouches for", "own.example", false, false, []string{"https"}, "https://own.example", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := newDoor(t, anybody(), func(c *middleware.Config) { c.Proxied = tt.proxied })
			for _, endUser := range []string{"", "ada"} { // by the same rule
				r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/private/x", nil)
				r.Host = tt.host
				if tt.tls {
					r.TLS = &tls.ConnectionState{}
				}
				r.Header["X-Forwarded-Proto"] = tt.forwarded
				r.Header.Set("Origin", tt.origin)
				if endUser != "" {
					r.Header.Set("X-End-User", endUser)
				}
				w := httptest.NewRecorder()
				d.ServeHTTP(w, r)
				if got := accessControl(w.Header()); len(got) > 0 {
					t.Errorf("headers for pages from elsewhere: %v", got)
				}
				variesOnce(t, w.Header())
				if !tt.same {
					refused(t, w, 403, "origin_not_allowed")
				} else if w.Code != 200 {
					t.Errorf("%d %s", w.Code, w.Body)
				}
			}
		})
	}
}

func TestPreflights(t *testing.T) {
	t.Parallel()
	const all = "accept,authorization,baggage,content-type,idempotency-key,last-event-id,mcp-method,mcp-name,mcp-protocol-version,mcp-session-id,prefer,sentry-trace,traceparent,tracestate,x-ai-sdk,x-api-key,x-cloud-trace-context,x-request-id,x-requested-with,x-serverless-authorization"
	tests := []struct {
		name            string
		path            string
		method, headers string
		ok              bool
	}{
		{"GET", "/private/x", "GET", "", true},
		{"POST", "/private/x", "POST", "", true},
		{"PUT", "/private/x", "PUT", "", true},
		{"DELETE", "/private/x", "DELETE", "", true},
		{"HEAD, which GET's routes answer", "/private/x", "HEAD", "", true},
		{"a path that is not there", "/nothing", "GET", "", true},
		{"a public route", "/public", "GET", "", true},
		{"a probe", "/probe", "GET", "", true},
		{"a header", "/private/x", "GET", "authorization", true},
		{"every header", "/private/x", "POST", all, true},
		{"PATCH", "/private/x", "PATCH", "", false},
		{"another case", "/private/x", "get", "", false},
		{"a header too many", "/private/x", "GET", "authorization,x-evil", false},
		{"the end user's header", "/private/x", "GET", "x-end-user", false},
		{"the proxy's headers", "/private/x", "GET", "x-forwarded-proto", false},
		{"IAP's header", "/private/x", "GET", "x-goog-iap-jwt-assertion", false},
		{"a wildcard", "/private/x", "GET", "*", false},
	}
	d := newDoor(t, byKey(t), forSite)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			headers := []string{"X-Request-ID", "abc", "Origin", site, "Access-Control-Request-Method", tt.method}
			want := map[string]string{"Allow-Origin": site, "Allow-Methods": tt.method, "Max-Age": "600"}
			if tt.headers != "" {
				headers = append(headers, "Access-Control-Request-Headers", tt.headers)
				want["Allow-Headers"] = tt.headers
			}
			if !tt.ok {
				want = map[string]string{}
			}
			w := d.send(t, "OPTIONS", tt.path, headers...)
			if w.Code != 204 || w.Body.Len() > 0 || w.Header().Get("X-Request-ID") != "abc" {
				t.Errorf("%d %q %v", w.Code, w.Body, w.Header())
			}
			if diff := cmp.Diff(accessControl(w.Header()), want); diff != "" {
				t.Errorf("(-got +want):\n%s", diff)
			}
			variesOnce(t, w.Header())
			if vary := w.Header().Get("Vary"); !strings.Contains(vary, "Access-Control-Request-Method") || !strings.Contains(vary, "Access-Control-Request-Headers") {
				t.Errorf("Vary %q", vary)
			}
		})
	}
}

func TestOptionsThatIsNoPreflight(t *testing.T) {
	t.Parallel()
	d := newDoor(t, byKey(t), forSite)
	for name, headers := range map[string][]string{
		"no page's":                  {"Access-Control-Request-Method", "GET"},
		"the own page's":             {"Access-Control-Request-Method", "GET", "Origin", "http://example.com"},
		"a page's, without a method": {"Origin", site},
		"a page's, with no method":   {"Origin", site, "Access-Control-Request-Method", ""},
	} {
		w := d.send(t, "OPTIONS", "/public", headers...)
		refused(t, w, 405, "method_not_allowed")
		if w.Header().Get("Allow") != "GET, HEAD" || w.Header().Get("Access-Control-Allow-Methods") != "" {
			t.Errorf("%s: %v", name, w.Header())
		}
		variesOnce(t, w.Header())
	}
}

func TestAnswersForPages(t *testing.T) {
	t.Parallel()
	d := newDoor(t, byKey(t), forSite)
	tests := []struct {
		name         string
		method, path string
		headers      []string
		status       int
	}{
		{"a good answer", "GET", "/private/x", []string{"X-API-Key", "plain"}, 200},
		{"HEAD", "HEAD", "/private/x", []string{"X-API-Key", "plain"}, 200},
		{"no credential", "GET", "/private/x", nil, 401},
		{"an end user", "GET", "/private/x", []string{"X-API-Key", "people", "X-End-User", "ada"}, 403},
		{"no such path", "GET", "/nothing", nil, 404},
		{"a path that is not clean", "GET", "/x/../public", nil, 307},
		{"no such method", "POST", "/public", nil, 405},
		{"a method that preflights refuse", "PATCH", "/public", nil, 405},
		{"an Accept of neither", "GET", "/public", []string{"Accept", "text/html"}, 406},
		{"a panic", "GET", "/panic", nil, 500},
		{"an error", "GET", "/error", nil, 503},
		{"a probe", "GET", "/probe", nil, 200},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := d.send(t, tt.method, tt.path, append(tt.headers, "Origin", site)...)
			if w.Code != tt.status && (tt.status != 307 || w.Code/100 != 3) {
				t.Errorf("%d %s, want %d", w.Code, w.Body, tt.status)
			}
			want := map[string]string{"Allow-Origin": site, "Expose-Headers": exposed}
			if diff := cmp.Diff(accessControl(w.Header()), want); diff != "" {
				t.Errorf("(-got +want):\n%s", diff)
			}
			variesOnce(t, w.Header())
			// The same without a page.
			w = d.send(t, tt.method, tt.path, tt.headers...)
			if got := accessControl(w.Header()); len(got) > 0 {
				t.Errorf("no page asked, and the answer has %v", got)
			}
			variesOnce(t, w.Header())
		})
	}
}

func TestStreamsForPages(t *testing.T) {
	t.Parallel()
	more := make(chan struct{})
	d := newDoor(t, byKey(t), forSite, api.Route{Method: "GET", Path: "/stream", Handler: func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store, no-transform")
		_, err := io.WriteString(w, "one\n")
		err = errors.Join(err, http.NewResponseController(w).Flush())
		<-more
		_, again := io.WriteString(w, "two\n")
		return errors.Join(err, again)
	}})
	server := httptest.NewServer(d)
	defer server.Close()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Origin", site)
	r.Header.Set("X-API-Key", "plain")
	answer, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	lines := bufio.NewReader(answer.Body)
	first, err := lines.ReadString('\n') // while the handler waits
	close(more)
	second, again := lines.ReadString('\n')
	if err = errors.Join(err, again); first+second != "one\ntwo\n" || err != nil {
		t.Errorf("%q, %q, %v", first, second, err)
	}
	if diff := cmp.Diff(accessControl(answer.Header), map[string]string{"Allow-Origin": site, "Expose-Headers": exposed}); diff != "" {
		t.Errorf("(-got +want):\n%s", diff)
	}
	variesOnce(t, answer.Header)
}

func TestTheListOfOriginsMayChange(t *testing.T) {
	t.Parallel()
	var list atomic.Pointer[[]string]
	list.Store(new([]string))
	d := newDoor(t, anybody(), func(c *middleware.Config) { c.Origins = func() ([]string, bool) { return *list.Load(), true } })
	refused(t, d.get(t, "/public", "Origin", site), 403, "origin_not_allowed")
	list.Store(&[]string{"https://other.example", site})
	if w := d.get(t, "/public", "Origin", site); w.Code != 200 || w.Header().Get("Access-Control-Allow-Origin") != site {
		t.Errorf("added, and answered %d %v", w.Code, w.Header())
	}
	list.Store(&[]string{"https://other.example"})
	refused(t, d.get(t, "/public", "Origin", site), 403, "origin_not_allowed")
}

func TestWithoutAListNoPageMayCall(t *testing.T) {
	t.Parallel()
	for _, methods := range []func() *door{
		func() *door { return newDoor(t, anybody(), nil) },
		func() *door { return newDoor(t, nil, nil) }, // not ready
	} {
		refused(t, methods().get(t, "/public", "Origin", site), 403, "origin_not_allowed")
	}
}

// Pages are refused before the credential is checked, by an open and by a shut gate.
func TestARefusedPageReachesNothing(t *testing.T) {
	t.Parallel()
	d := newDoor(t, byKey(t), forSite)
	if err := d.gate.Shut(t.Context()); err != nil {
		t.Fatal(err)
	}
	refused(t, d.get(t, "/private/x", "Origin", "https://evil.example"), 403, "origin_not_allowed")
	refused(t, d.get(t, "/private/x", "Origin", site), 503, "shutting_down")
	if w := d.send(t, "OPTIONS", "/private/x", "Origin", site, "Access-Control-Request-Method", "GET"); w.Code != 204 {
		t.Errorf("preflight: %d", w.Code)
	}
}

func TestTheLineOfARefusedPage(t *testing.T) {
	t.Parallel()
	d := newDoor(t, byKey(t), forSite)
	d.get(t, "/private/x", "X-Request-ID", "abc", "X-API-Key", "plain", "Origin", `https://evil.example"}`+"\n{")
	fields := d.log.one(t)
	if fields["severity"] != "WARNING" || fields["code"] != "origin_not_allowed" || fields["request_id"] != "abc" || fields["principal"] != nil ||
		fields["error"] != "origin https://evil.example'} { is not on the list" || fields["message"] != "no route 403 Forbidden" {
		t.Errorf("%v", fields)
	}
	d = newDoor(t, byKey(t), forSite)
	d.send(t, "OPTIONS", "/private/x", "Origin", site, "Access-Control-Request-Method", "GET")
	if fields := d.log.one(t); fields["severity"] != "INFO" || fields["message"] != "preflight 204 No Content" {
		t.Errorf("%v", fields)
	}
}
