package middleware_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/auth"
	"example.com/gatehouse/internal/drain"
	"example.com/gatehouse/internal/middleware"
	"example.com/gatehouse/internal/telemetry"
)

// atMost bounds the requests at once.
func atMost(n int) func(*middleware.Config) {
	return func(c *middleware.Config) { c.MaxConcurrent = n }
}

// untouched is a body that must not be read.
type untouched struct{ t testing.TB }

func (u untouched) Read([]byte) (int, error) {
	u.t.Error("the body is read")
	return 0, io.EOF
}

func TestMoreRequestsThanTheServiceTakes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		wait := func(w http.ResponseWriter, r *http.Request) error {
			<-release
			return api.WriteSuccess(w, r, "ok", nil)
		}
		var asked atomic.Int64
		methods := []auth.Method{counting{&asked}}
		d := newDoor(t, methods, func(c *middleware.Config) { c.MaxConcurrent = 2; forSite(c) },
			api.Route{Method: "POST", Path: "/wait", Handler: wait},
			api.Route{Method: "POST", Path: "/wait/public", Public: true, Handler: wait},
		)
		var requests sync.WaitGroup
		begin := func(path string) {
			requests.Go(func() {
				if w := d.send(t, "POST", path); w.Code != 200 {
					t.Errorf("%s: %d %s", path, w.Code, w.Body)
				}
			})
		}
		for range 5 {
			begin("/wait/public") // not counted
		}
		synctest.Wait()
		begin("/wait")
		synctest.Wait()
		if w := d.get(t, "/private/x"); w.Code != 200 {
			t.Errorf("one of two is at work, and the next is answered %d", w.Code)
		}
		begin("/wait")
		synctest.Wait()

		before := asked.Load()
		for _, headers := range [][]string{nil, {"Origin", site}, {"Accept", "text/event-stream"}} {
			w := d.send(t, "GET", "/private/x", append(headers, "X-Request-ID", "abc")...)
			refused(t, w, 503, "overloaded")
			if w.Header().Get("Retry-After") != "1" || w.Header().Get("X-Request-ID") != "abc" || w.Header().Get("Connection") != "" {
				t.Errorf("headers %v", w.Header())
			}
			variesOnce(t, w.Header())
			if headers != nil && headers[0] == "Origin" && w.Header().Get("Access-Control-Allow-Origin") != site {
				t.Errorf("a page cannot read it: %v", w.Header())
			}
		}
		w := httptest.NewRecorder()
		d.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/wait", untouched{t}))
		refused(t, w, 503, "overloaded")
		if asked.Load() != before {
			t.Error("callers were told from each other before they were refused")
		}
		for path, status := range map[string]int{"/public": 200, "/probe": 200, "/nothing": 404} {
			if w := d.get(t, path); w.Code != status {
				t.Errorf("%s: %d, want %d", path, w.Code, status)
			}
		}
		refused(t, d.get(t, "/private/x", "Origin", "https://evil.example"), 403, "origin_not_allowed")
		if w := d.send(t, "OPTIONS", "/wait", "Origin", site, "Access-Control-Request-Method", "POST"); w.Code != 204 {
			t.Errorf("preflight: %d", w.Code)
		}

		close(release)
		requests.Wait()
		if w := d.get(t, "/private/x"); w.Code != 200 {
			t.Errorf("after the others: %d %s", w.Code, w.Body)
		}
	})
}

// counting takes everybody, and counts how often it is asked.
type counting struct{ n *atomic.Int64 }

func (c counting) Authenticate(*http.Request) (auth.Principal, bool, error) {
	c.n.Add(1)
	return auth.Principal{Issuer: "test", Subject: "x"}, true, nil
}

func TestTheBoundIsSharedAndKept(t *testing.T) {
	t.Parallel()
	const most, anybodys = 8, 6 // one caller has all of them
	var running, peak, answered, turnedAway atomic.Int64
	var gate drain.Gate
	full := make(chan struct{})
	var once sync.Once
	work := api.Route{Method: "GET", Path: "/work", Handler: func(w http.ResponseWriter, r *http.Request) error {
		n := running.Add(1)
		defer running.Add(-1)
		for old := peak.Load(); n > old && !peak.CompareAndSwap(old, n); old = peak.Load() {
		}
		if n == anybodys {
			once.Do(func() { close(full) })
		}
		<-full
		return api.WriteSuccess(w, r, "worked", nil)
	}}
	c := middleware.Config{Log: telemetry.Discard(), Gate: &gate, Authenticator: auth.New(anybody()...), MaxConcurrent: most, Now: time.Now}
	doors := []http.Handler{middleware.New(c, []api.Route{work}), middleware.New(c, []api.Route{work})} // two functions of one service
	var callers sync.WaitGroup
	for i := range 32 {
		callers.Go(func() {
			for range 50 {
				w := httptest.NewRecorder()
				doors[i%2].ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/work", nil))
				switch w.Code {
				case 200:
					if !strings.Contains(w.Body.String(), "worked") {
						t.Errorf("answered without work: %s", w.Body)
					}
					answered.Add(1)
				case 503:
					turnedAway.Add(1)
				default:
					t.Errorf("%d %s", w.Code, w.Body)
				}
			}
		})
	}
	callers.Wait()
	if peak.Load() != anybodys || answered.Load() < anybodys || answered.Load()+turnedAway.Load() != 32*50 {
		t.Errorf("%d at once, want %d; %d answered, %d refused", peak.Load(), anybodys, answered.Load(), turnedAway.Load())
	}
}

func TestASlotIsGivenBack(t *testing.T) {
	t.Parallel()
	d := newDoor(t, byKey(t), atMost(1), api.Route{Method: "GET", Path: "/panics", Handler: func(http.ResponseWriter, *http.Request) error { panic("x") }})
	for range 3 { // for each way to end
		refused(t, d.get(t, "/private/x"), 401, "unauthenticated")
		refused(t, d.get(t, "/panics", "X-API-Key", "plain"), 500, "internal")
		refused(t, d.get(t, "/private/x", "X-API-Key", "plain", "X-End-User", "ada"), 403, "permission_denied")
		refused(t, d.get(t, "/private/x", "Accept", "text/html"), 406, "not_acceptable")
		if w := d.get(t, "/private/x", "X-API-Key", "plain"); w.Code != 200 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
}

func TestWithoutABoundAllAreTaken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		d := newDoor(t, anybody(), nil, api.Route{Method: "GET", Path: "/wait", Handler: func(http.ResponseWriter, *http.Request) error {
			<-release
			return nil
		}})
		var requests sync.WaitGroup
		for range 500 {
			requests.Go(func() {
				if w := d.get(t, "/wait"); w.Code != 200 {
					t.Errorf("%d %s", w.Code, w.Body)
				}
			})
		}
		synctest.Wait()
		close(release)
		requests.Wait()
	})
}

// The refusal comes at once, though the body never does.
func TestOverloadIsSaidBeforeTheBody(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	d := newDoor(t, anybody(), atMost(1), api.Route{Method: "POST", Path: "/wait", Handler: func(http.ResponseWriter, *http.Request) error {
		close(entered)
		<-release
		return nil
	}})
	server := httptest.NewServer(d)
	defer server.Close()
	defer close(release)
	for i, framing := range []string{"Content-Length: 0\r\n\r\n", "Content-Length: 100\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n"} {
		var dialer net.Dialer
		conn, err := dialer.DialContext(t.Context(), "tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := io.WriteString(conn, "POST /wait HTTP/1.1\r\nHost: x\r\n"+framing); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			<-entered
			continue
		}
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%q: %v", framing, err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode != 503 || !answer.Close || answer.Header.Get("Retry-After") != "1" {
			t.Errorf("%q: %d %v", framing, answer.StatusCode, answer.Header)
		}
	}
}

// A refusal costs less than a millisecond, its line included.
func BenchmarkRefusal(b *testing.B) {
	for name, headers := range map[string][]string{
		"401 no credential":    nil,
		"401 wrong credential": {"X-API-Key", "nonsense"},
		"403 origin":           {"X-API-Key", "plain", "Origin", "https://evil.example"},
		"204 preflight":        {"Origin", site, "Access-Control-Request-Method", "GET"},
		"503 overloaded":       {"X-API-Key", "plain"},
	} {
		b.Run(name, func(b *testing.B) {
			entered, release := make(chan struct{}), make(chan struct{})
			d := newDoor(b, byKey(b), func(c *middleware.Config) {
				forSite(c)
				c.MaxConcurrent = 1
				c.Log = telemetry.NewLogger(io.Discard, nil, telemetry.Source{})
			}, api.Route{Method: "GET", Path: "/wait", Handler: func(http.ResponseWriter, *http.Request) error {
				close(entered)
				<-release
				return nil
			}})
			var waiting sync.WaitGroup
			defer waiting.Wait()
			defer close(release)
			if name == "503 overloaded" {
				waiting.Go(func() { d.get(b, "/wait", "X-API-Key", "plain") })
				<-entered
			}
			method := http.MethodGet
			if name == "204 preflight" {
				method = http.MethodOptions
			}
			b.ReportAllocs()
			for b.Loop() {
				if w := d.send(b, method, "/private/x", headers...); !strings.HasPrefix(name, strconv.Itoa(w.Code)) {
					b.Fatalf("%d %s", w.Code, w.Body)
				}
			}
		})
	}
}
