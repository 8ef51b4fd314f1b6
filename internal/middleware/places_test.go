package middleware_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/internal/limit"
	"example.com/gatehouse/internal/middleware"
	"example.com/gatehouse/internal/telemetry"
)

// reading is a route that reads its body and, after saying so, waits if it is to.
func reading(working chan<- struct{}, wait <-chan struct{}) api.Route {
	return api.Route{Method: http.MethodPost, Path: "/read", Handler: func(w http.ResponseWriter, r *http.Request) error {
		body, err := api.ReadBody(w, r, 1000, time.Minute)
		if err != nil {
			return err
		}
		if wait != nil {
			working <- struct{}{}
			<-wait
		}
		return api.WriteSuccess(w, r, string(body), nil)
	}}
}

// A wire is a connection of a client that sends what it likes, when it likes.
type wire struct {
	net.Conn
	in *bufio.Reader
}

func dial(t *testing.T, server *httptest.Server, user string, headers string) *wire {
	t.Helper()
	var dialer net.Dialer
	conn, err := dialer.DialContext(t.Context(), "tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	w := &wire{conn, bufio.NewReader(conn)}
	w.send(t, "POST /read HTTP/1.1\r\nHost: x\r\nX-API-Key: people\r\nX-End-User: "+user+"\r\nContent-Type: application/json\r\n"+headers+"\r\n")
	return w
}

func (w *wire) send(t *testing.T, text string) {
	t.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
}

func (w *wire) status(t *testing.T) int {
	t.Helper()
	response, err := http.ReadResponse(w.in, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

// Bodies that do not come keep nobody out: a place is taken at a body's end.
func TestASlowBodyHoldsNoPlace(t *testing.T) {
	t.Parallel()
	working, wait := make(chan struct{}, 10), make(chan struct{})
	server := httptest.NewServer(newDoor(t, byKey(t), atMost(4), reading(working, wait)))
	defer server.Close()
	var slow []*wire
	for range 5 { // more than there are places
		slow = append(slow, dial(t, server, "ada", "Content-Length: 2\r\n"))
	}
	whole := dial(t, server, "bob", "Content-Length: 2\r\n")
	whole.send(t, "{}")
	var busy []*wire
	for _, user := range []string{"eve", "joe", "kim"} {
		w := dial(t, server, user, "Content-Length: 2\r\n")
		w.send(t, "{}")
		busy = append(busy, w)
	}
	for range 4 {
		<-working
	}
	// Whose body ends only now finds no place either.
	slow[0].send(t, "{}")
	if got := slow[0].status(t); got != http.StatusServiceUnavailable {
		t.Errorf("a late body: %d", got)
	}
	close(wait)
	for _, w := range append(busy, whole) {
		if got := w.status(t); got != http.StatusOK {
			t.Errorf("of four at work: %d", got)
		}
	}
	slow[1].send(t, "{}")
	if got := slow[1].status(t); got != http.StatusOK {
		t.Errorf("a late body once there is a place: %d", got)
	}
}

// How many bodies are awaited at once is bounded, and the last quarter of that is
// for those who send few.
func TestBodiesAwaitedAreBounded(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(newDoor(t, byKey(t), atMost(8), reading(nil, nil)))
	defer server.Close()
	for range 12 { // three quarters of twice the places
		dial(t, server, "ada", "Content-Length: 2\r\n")
	}
	refusals := 0
	for range 50 {
		w := dial(t, server, "ada", "Content-Length: 2\r\n")
		w.send(t, "{}")
		if w.status(t) == http.StatusServiceUnavailable {
			refusals++
			break
		}
	}
	if refusals == 0 {
		t.Error("one owner may have any number of bodies under way")
	}
	w := dial(t, server, "bob", "Content-Length: 2\r\n")
	w.send(t, "{}")
	if got := w.status(t); got != http.StatusOK {
		t.Errorf("another owner: %d", got)
	}
}

func TestTheLastQuarter(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		most  int
		hold  string // who comes, one after the other, and stays
		let   int
		after string
		in    bool
	}{
		{8, "aaaaaaaa", 6, "b", true},
		{8, "aaaaaab", 7, "b", false},
		{8, "aaaaaab", 7, "c", true},
		{8, "aaaaaabc", 8, "d", false},
		{16, "aaaaaaaaaaaabbc", 15, "c", true},
		{16, "aaaaaaaaaaaabb", 14, "b", false},
		{1, "a", 1, "b", false},
		{2, "aa", 2, "b", false},
		{3, "aaa", 3, "b", false},
		{4, "aaaa", 3, "b", true},
	} {
		t.Run(fmt.Sprintf("%d places, held by %s, then %s", tt.most, tt.hold, tt.after), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				wait := make(chan struct{})
				d := newDoor(t, byKey(t), atMost(tt.most), api.Route{Method: "GET", Path: "/wait", Handler: func(w http.ResponseWriter, r *http.Request) error {
					<-wait
					return api.WriteSuccess(w, r, "ok", nil)
				}})
				var mu sync.Mutex
				var codes []int
				var all sync.WaitGroup
				ask := func(user string) {
					all.Go(func() {
						w := d.get(t, "/wait", "X-API-Key", "people", "X-End-User", user)
						mu.Lock()
						defer mu.Unlock()
						codes = append(codes, w.Code)
					})
					synctest.Wait()
				}
				for _, user := range tt.hold {
					ask(string(user))
				}
				if let := len(tt.hold) - len(codes); let != tt.let {
					t.Errorf("%d were let in, want %d", let, tt.let)
				}
				refused := len(codes)
				ask(tt.after)
				if in := len(codes) == refused; in != tt.in {
					t.Errorf("%s let in: %v", tt.after, in)
				}
				close(wait)
				all.Wait()
				if w := d.get(t, "/wait", "X-API-Key", "people", "X-End-User", "z"); w.Code != http.StatusOK {
					t.Errorf("afterwards: %d", w.Code)
				}
			})
		})
	}
}

// What a request costs is a matter of whether the model was asked, and of nothing
// else.
func TestWhatARequestCosts(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	asked := func(err error) api.Handler {
		return func(w http.ResponseWriter, r *http.Request) error {
			telemetry.SetTurn(r.Context(), func(t *telemetry.Turn) { t.Asked = true })
			if err != nil {
				return err
			}
			return api.WriteSuccess(w, r, "ok", nil)
		}
	}
	unasked := func(err error) api.Handler {
		return func(w http.ResponseWriter, r *http.Request) error {
			if err != nil {
				return err
			}
			w.Header().Set("Idempotency-Replayed", "true")
			return api.WriteSuccess(w, r, "ok", nil)
		}
	}
	const post, get, remove = http.MethodPost, http.MethodGet, http.MethodDelete
	for _, tt := range []struct {
		name    string
		method  string
		handler api.Handler
		headers []string
		tenths  int64
	}{
		{"a turn", post, asked(nil), nil, 10},
		{"a conflict found when the turn was to be stored", post, asked(api.Fail(api.SessionConflict, nil)), nil, 10},
		{"a session deleted while its turn ran", post, asked(api.Fail(api.SessionNotFound, nil)), nil, 10},
		{"a prompt that was blocked", post, asked(api.Fail(api.ContentBlocked, nil)), nil, 10},
		{"a model that failed", post, asked(api.Fail(api.ModelUnavailable, nil)), nil, 10},
		{"a client that left", post, asked(api.Fail(api.ClientClosedRequest, nil)), nil, 10},
		{"a panic after the model was asked", post, func(w http.ResponseWriter, r *http.Request) error {
			_ = asked(nil)(httptest.NewRecorder(), r)
			panic("x")
		}, nil, 10},
		{"three MiB that nobody needs", post, func(w http.ResponseWriter, r *http.Request) error {
			r.Header.Set("Content-Type", "application/json")
			_, err := api.ReadBody(w, r, 4<<20, time.Minute)
			return errors.Join(err, api.Fail(api.ValidationFailed, nil))
		}, []string{"X-API-Key", "plain", "X-Body", "3"}, 4},
		{"a mistake", post, unasked(api.Fail(api.ValidationFailed, nil)), nil, 1},
		{"an unknown session", post, unasked(api.Fail(api.SessionNotFound, nil)), nil, 1},
		{"a body that did not come", post, unasked(api.Fail(api.RequestTimeout, nil)), nil, 1},
		{"a store that is away", post, unasked(api.Fail(api.SessionStoreUnavailable, nil)), nil, 1},
		{"a replay", post, unasked(nil), nil, 1},
		{"a panic before the model was asked", post, func(http.ResponseWriter, *http.Request) error { panic("x") }, nil, 1},
		{"a read", get, unasked(nil), nil, 1},
		{"a deletion", remove, unasked(nil), nil, 1},
		{"an unknown caller", post, asked(nil), []string{"X-API-Key", "nonsense"}, 0},
		{"what nobody would read", post, asked(nil), []string{"X-API-Key", "plain", "Accept", "text/html"}, 1},
		{"a caller that may not name an end user", post, asked(nil), []string{"X-API-Key", "plain", "X-End-User", "ada"}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			clock := func() time.Time { return now }
			limiter := limit.New(limit.Config{Counters: limit.NewMemory(clock), MaxInstances: 1, Now: clock, Log: telemetry.Discard()})
			limits := limit.Limits{PerMinute: 1000, CallerPerMinute: 1000}
			plain := caller.Principal{Issuer: "api_key", Subject: "plain"}.Owner()
			left := func() (tenths int64) {
				for {
					if _, err := limiter.Take(t.Context(), []limit.Rule{{Name: "caller", Who: string(plain), PerMinute: limits.CallerPerMinute}}, limit.Get); err != nil {
						return tenths
					}
					tenths++
				}
			}
			d := newDoor(t, byKey(t), func(c *middleware.Config) { c.Limiter, c.Limits = limiter, limits },
				api.Route{Method: tt.method, Path: "/x", Handler: tt.handler, Unrefused: tt.method == remove})
			headers := tt.headers
			if headers == nil {
				headers = []string{"X-API-Key", "plain"}
			}
			r := httptest.NewRequestWithContext(t.Context(), tt.method, "/x", nil)
			for i := 0; i < len(headers); i += 2 {
				r.Header.Set(headers[i], headers[i+1])
			}
			if r.Header.Get("X-Body") == "3" {
				sent := httptest.NewRequestWithContext(t.Context(), tt.method, "/x", strings.NewReader(strings.Repeat("x", 3<<20)))
				sent.Header = r.Header
				r = sent
			}
			d.ServeHTTP(httptest.NewRecorder(), r)
			if got := 10_000 - left(); got != tt.tenths {
				t.Errorf("cost %d tenths of a turn, want %d", got, tt.tenths)
			}
		})
	}
}

// A deletion is never refused for lack of a permit, and takes the counter below zero.
func TestADeletionIsNeverRefused(t *testing.T) {
	t.Parallel()
	clock := func() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }
	limiter := limit.New(limit.Config{Counters: limit.NewMemory(clock), MaxInstances: 1, Now: clock, Log: telemetry.Discard()})
	ok := func(w http.ResponseWriter, _ *http.Request) error { w.WriteHeader(http.StatusNoContent); return nil }
	d := newDoor(t, byKey(t), func(c *middleware.Config) {
		c.Limiter, c.Limits = limiter, limit.Limits{PerMinute: 1, CallerPerMinute: 100}
	}, api.Route{Method: http.MethodDelete, Path: "/x", Unrefused: true, Handler: ok})
	for i := range 20 {
		if w := d.send(t, http.MethodDelete, "/x", "X-API-Key", "plain"); w.Code != http.StatusNoContent {
			t.Fatalf("deletion %d: %d %s", i, w.Code, w.Body)
		}
	}
	refused(t, d.get(t, "/private/x", "X-API-Key", "plain"), 429, "rate_limited")
}

var errGone = errors.New("gone")

// A body that breaks off is an error of the body, and takes no place.
func TestABodyThatBreaksOff(t *testing.T) {
	t.Parallel()
	d := newDoor(t, byKey(t), atMost(1), reading(nil, nil))
	for range 3 {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/read", io.MultiReader(strings.NewReader("{"), errReader{}))
		r.Header.Set("X-API-Key", "plain")
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		d.ServeHTTP(w, r)
		refused(t, w, 400, "malformed_request")
	}
	if w := d.get(t, "/private/x", "X-API-Key", "plain"); w.Code != http.StatusOK {
		t.Errorf("afterwards: %d", w.Code)
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errGone }
