package health_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/api/option"
	"google.golang.org/grpc"

	"example.com/gatehouse/health"
	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/figures"
	"example.com/gatehouse/internal/figures/figurestest"
	"example.com/gatehouse/internal/gcp/emulator"
	"example.com/gatehouse/internal/gcp/firestore"
	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/internal/offline"
	"example.com/gatehouse/internal/testclock"
)

// sums always returns the same figures.
func sums(requests, judged, errors int64, breakers map[string]string) func(context.Context) (figures.Sum, error) {
	return func(context.Context) (figures.Sum, error) {
		return figures.Sum{Figures: figures.Figures{Requests: requests, Judged: judged, Errors: errors}, Breakers: breakers}, nil
	}
}

func TestWhatFiguresMakeOfTheStatus(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		figures func(context.Context) (figures.Sum, error)
		store   func(context.Context) error
		status  string
		code    int
	}{
		{"no requests", sums(0, 0, 0, nil), works, "healthy", 200},
		{"no errors", sums(1000, 1000, 0, nil), works, "healthy", 200},
		{"5 %", sums(100, 100, 5, nil), works, "healthy", 200},
		{"a little more", sums(1000, 1000, 51, nil), works, "degraded", 200},
		{"50 %", sums(100, 100, 50, nil), works, "degraded", 200},
		{"more than half", sums(101, 101, 51, nil), works, "unhealthy", 503},
		{"all", sums(1000, 1000, 1000, nil), works, "unhealthy", 503},
		{"9 requests, all failed", sums(9, 9, 9, nil), works, "healthy", 200},
		{"10 requests, all failed", sums(10, 10, 10, nil), works, "unhealthy", 503},
		{"10 requests, one failed", sums(10, 10, 1, nil), works, "degraded", 200},
		{"10 requests, of which a caller was to blame for 9", sums(10, 1, 1, nil), works, "healthy", 200},
		{"a flood of bad requests does not hide an outage", sums(1e6, 100, 100, nil), works, "unhealthy", 503},
		{"nor make one", sums(1e6, 100, 0, nil), works, "healthy", 200},
		{"breakers closed", sums(0, 0, 0, map[string]string{"a": "closed", "b": "closed"}), works, "healthy", 200},
		{"a breaker half open", sums(0, 0, 0, map[string]string{"a": "half_open"}), works, "healthy", 200},
		{"a breaker open", sums(0, 0, 0, map[string]string{"a": "closed", "b": "open"}), works, "degraded", 200},
		{"a breaker open and everything failing", sums(100, 100, 100, map[string]string{"a": "open"}), works, "unhealthy", 503},
		{"few errors and no store", sums(100, 100, 10, nil), fails, "unhealthy", 503},
	}
	for _, tt := range tests {
		for _, details := range []bool{false, true} {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				s := &service{details: details, figures: tt.figures, dependencies: []health.Dependency{{Name: "session_store", Required: true, Probe: tt.store}}}
				w := get(t, s.health(), "/health")
				a := read(t, w)
				if w.Code != tt.code || a.Data["status"] != tt.status {
					t.Errorf("details %t: %d %s, want %d and %s", details, w.Code, w.Body, tt.code, tt.status)
				}
				if diff := cmp.Diff(a.Data, map[string]any{"status": tt.status}); !details && diff != "" {
					t.Errorf("the public sees more than the status (-got +want):\n%s", diff)
				}
			})
		}
	}
}

func TestTheFiguresInTheDetails(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		figures func(context.Context) (figures.Sum, error)
		want    map[string]any
	}{
		{"a healthy service", sums(250, 200, 5, map[string]string{"gemini-2.5-flash": "closed", "gemini-2.5-pro": "half_open"}), map[string]any{
			"error_rate": 0.025, "request_count": 250.0, "error_count": 5.0,
			"breakers": map[string]any{"gemini-2.5-flash": "closed", "gemini-2.5-pro": "half_open"},
		}},
		{"an unhealthy one", sums(10, 10, 8, map[string]string{"m": "open"}), map[string]any{
			"error_rate": 0.8, "request_count": 10.0, "error_count": 8.0, "breakers": map[string]any{"m": "open"},
		}},
		{"nothing asked", sums(0, 0, 0, nil), map[string]any{"error_rate": 0.0, "request_count": 0.0, "error_count": 0.0}},
		{"not known", nil, map[string]any{}},
		{"not to be read", func(context.Context) (figures.Sum, error) { return figures.Sum{}, errors.New("no index") }, map[string]any{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := read(t, get(t, (&service{details: true, figures: tt.figures}).health(), "/health"))
			maps.DeleteFunc(a.Data, func(name string, _ any) bool {
				return !slices.Contains([]string{"error_rate", "request_count", "error_count", "breakers"}, name)
			})
			if diff := cmp.Diff(a.Data, tt.want); diff != "" {
				t.Errorf("(-got +want):\n%s", diff)
			}
		})
	}
}

// Figures that cannot be read are not claimed to be 0, and somebody is told.
func TestFiguresThatCannotBeRead(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		read func(context.Context) (figures.Sum, error)
		took time.Duration
	}{
		{"an error", func(context.Context) (figures.Sum, error) { return figures.Sum{}, errors.New("no index") }, 0},
		{"a panic", func(context.Context) (figures.Sum, error) { panic("no index") }, 0},
		{"no answer", func(ctx context.Context) (figures.Sum, error) {
			<-ctx.Done()
			return figures.Sum{}, errors.New("no index")
		}, 2 * time.Second},
		{"no answer, by a read that ignores its context", func(context.Context) (figures.Sum, error) {
			time.Sleep(time.Minute)
			return figures.Sum{}, nil
		}, 2 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				slow := func(context.Context) error { time.Sleep(time.Millisecond); return nil }
				s := &service{details: true, figures: tt.read, log: &log, dependencies: []health.Dependency{{Name: "a", Required: true, Probe: slow}}}
				h := s.health()
				begin := time.Now()
				w := get(t, h, "/health")
				if took := time.Since(begin); took != max(tt.took, time.Millisecond) {
					t.Errorf("took %v, want %v: the two are not asked side by side", took, tt.took)
				}
				if a := read(t, w); w.Code != 200 || a.Data["status"] != "degraded" || a.Data["request_count"] != nil {
					t.Errorf("%d %s", w.Code, w.Body)
				}
				if strings.Contains(w.Body.String(), "no index") {
					t.Errorf("the answer holds the upstream's words: %s", w.Body)
				}
				for range 100 {
					get(t, h, "/health")
				}
				if n := strings.Count(log.String(), "level=WARN"); n != 1 {
					t.Errorf("%d lines in the log for one probe:\n%s", n, &log)
				}
				time.Sleep(time.Minute) // for what hangs to end
			})
		})
	}
}

func TestFiguresAreKeptFor10Seconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked := int64(0)
		s := &service{details: true, figures: func(context.Context) (figures.Sum, error) {
			asked++
			return figures.Sum{Figures: figures.Figures{Requests: asked}}, nil
		}}
		h := s.health()
		for i, step := range []struct {
			wait time.Duration
			want int64
		}{{0, 1}, {10*time.Second - time.Nanosecond, 1}, {time.Nanosecond, 2}, {time.Second, 2}, {time.Hour, 3}} {
			time.Sleep(step.wait)
			if got := h.Report(t.Context()).RequestCount; got != step.want || asked != step.want {
				t.Errorf("step %d: %d after being asked %d times, want %d", i, got, asked, step.want)
			}
		}
	})
}

// A wire counts calls by method.
type wire struct {
	mu    sync.Mutex
	calls map[string]int
}

func (w *wire) note(method string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.calls == nil {
		w.calls = map[string]int{}
	}
	w.calls[method[strings.LastIndex(method, "/")+1:]]++
}

// take returns the calls since it was called last.
func (w *wire) take() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	calls := w.calls
	w.calls = nil
	return calls
}

func (w *wire) options() []option.ClientOption {
	unary := func(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
		w.note(method)
		return invoke(ctx, method, request, reply, conn, options...)
	}
	stream := func(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, options ...grpc.CallOption) (grpc.ClientStream, error) {
		w.note(method)
		return open(ctx, desc, conn, method, options...)
	}
	return []option.ClientOption{
		option.WithGRPCDialOption(grpc.WithChainUnaryInterceptor(unary)),
		option.WithGRPCDialOption(grpc.WithChainStreamInterceptor(stream)),
	}
}

// RoundTrip makes the wire a model's transport.
func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	w.note(r.Method + " " + r.URL.Path)
	return offline.New().RoundTrip(r)
}

// deployed is a function "health" of its own over a real store, a real model's
// client and the figures of all instances, all of them on the wire w.
func deployed(t testing.TB, host, project string, w *wire, clock *testclock.Clock) *health.Health {
	t.Helper()
	client := emulator.Connect(t, host, project, w.options()...)
	store := firestore.NewSessions(client, time.Hour, clock.Now)
	gemini, err := model.New(t.Context(), model.Config{APIKey: "k", Transport: w})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(gemini.Close)
	counter := figurestest.New(firestore.NewTraffic(client), clock, nil)
	s := &service{details: true, figures: counter.Sum, now: clock.Now, dependencies: []health.Dependency{
		{Name: "session_store", Required: true, Probe: store.Ping},
		{Name: "model", Probe: func(ctx context.Context) error { return gemini.Probe(ctx, "gemini-2.5-flash") }},
	}}
	return s.health()
}

// A storm costs one probe on the wire: a look at the store and at the model's
// metadata, and a sum.
func TestAStormOfPingsCostsOneProbeOnTheWire(t *testing.T) {
	t.Parallel()
	var w wire
	host, project := emulator.Host(t), emulator.Project()
	clock := testclock.New(figurestest.Start)
	h := deployed(t, host, project, &w, clock)
	for range 2 {
		var pings sync.WaitGroup
		for range 1000 {
			pings.Go(func() {
				if a := get(t, h, "/health"); a.Code != 200 || !strings.Contains(a.Body.String(), `"status":"healthy"`) {
					t.Errorf("%d %s", a.Code, a.Body)
				}
			})
		}
		pings.Wait()
		want := map[string]int{"BatchGetDocuments": 1, "gemini-2.5-flash": 1, "RunAggregationQuery": 3, "RunQuery": 1}
		if diff := cmp.Diff(w.take(), want); diff != "" {
			t.Errorf("calls (-got +want):\n%s", diff)
		}
		clock.Advance(10 * time.Second)
	}
}

// What two instances counted is what the other function reports.
func TestTheServicesFiguresAcrossFunctions(t *testing.T) {
	t.Parallel()
	var w wire
	host, project := emulator.Host(t), emulator.Project()
	clock := testclock.New(figurestest.Start)
	h := deployed(t, host, project, &w, clock)
	states := map[string]string{"m": "closed"}
	one := figurestest.New(firestore.NewTraffic(emulator.Connect(t, host, project)), clock, func() map[string]string { return states })
	two := figurestest.New(firestore.NewTraffic(emulator.Connect(t, host, project)), clock, func() map[string]string { return map[string]string{"m": "closed"} })
	expect := func(when, status string, requests, errors int64, breaker string) {
		t.Helper()
		clock.Advance(10 * time.Second)
		r := h.Report(t.Context())
		if r.Status != status || r.Figures == nil || r.RequestCount != requests || r.ErrorCount != errors || r.Breakers["m"] != breaker {
			t.Errorf("%s: %s, %+v, breakers %v; want %s, %d requests, %d errors, %q", when, r.Status, r.Figures, r.Breakers, status, requests, errors, breaker)
		}
	}
	answer := func(c *figures.Counter, n, status int, code string) {
		clock.Advance(20 * time.Second)
		for range n {
			c.Count(status, code)
		}
		c.Flush(t.Context())
	}
	expect("before the first request", "healthy", 0, 0, "")
	answer(one, 10, 200, "")
	answer(two, 20, 200, "")
	expect("all well", "healthy", 30, 0, "closed")
	answer(one, 500, 422, "validation_failed")
	answer(two, 500, 429, "rate_limited")
	answer(one, 500, 503, "overloaded")
	expect("callers misbehave", "healthy", 1530, 0, "closed")
	states["m"] = "open"
	answer(one, 2, 503, "model_unavailable")
	expect("one's model fails", "degraded", 1532, 2, "open")
	answer(two, 40, 500, "internal")
	expect("the other fails", "unhealthy", 1572, 42, "open")
	states["m"] = "half_open"
	answer(one, 1, 200, "")
	answer(two, 60, 200, "")
	expect("both recover", "degraded", 1633, 42, "half_open")
	clock.Advance(5 * time.Minute)
	expect("five minutes later", "healthy", 0, 0, "")
}

// In one process, what is counted and not written yet is seen.
func TestTheFiguresOfOneProcess(t *testing.T) {
	t.Parallel()
	clock := testclock.New(figurestest.Start)
	c := figurestest.New(figures.NewMemory(), clock, func() map[string]string { return map[string]string{"m": "open"} })
	h := (&service{figures: c.Sum, now: clock.Now}).health()
	c.Count(200, "")
	c.Flush(t.Context())
	for range 9 {
		c.Count(500, "internal")
		c.Flush(t.Context()) // too soon to be written
	}
	if r := h.Report(t.Context()); r.Status != health.Unhealthy || r.RequestCount != 10 || r.ErrorCount != 9 || r.Breakers["m"] != "open" {
		t.Errorf("%s, %+v, %v", r.Status, r.Figures, r.Breakers)
	}
}

// No answer to a mistake of a caller moves the rate.
func TestCallersCannotMarkTheServiceDown(t *testing.T) {
	t.Parallel()
	ours := []api.Code{api.Internal, api.ModelFailed, api.ModelUnavailable, api.SessionStoreUnavailable, api.Timeout}
	theirs := []api.Code{
		api.MalformedRequest, api.Unauthenticated, api.PermissionDenied, api.OriginNotAllowed, api.NotFound, api.SessionNotFound,
		api.MethodNotAllowed, api.NotAcceptable, api.RequestTimeout, api.IdempotencyInProgress, api.SessionConflict,
		api.RequestTooLarge, api.UnsupportedMediaType, api.ValidationFailed, api.IdempotencyMismatch, api.ContentBlocked,
		api.RateLimited, api.QuotaExceeded, api.ClientClosedRequest, api.Overloaded, api.ShuttingDown, api.NotReady,
	}
	for _, code := range slices.Concat(ours, theirs) {
		t.Run(string(code), func(t *testing.T) {
			t.Parallel()
			clock := testclock.New(figurestest.Start)
			c := figurestest.New(figures.NewMemory(), clock, nil)
			h := (&service{figures: c.Sum, now: clock.Now}).health()
			for range 1000 {
				c.Count(api.Fail(code, nil).Status(), string(code))
			}
			want := health.Healthy
			if slices.Contains(ours, code) {
				want = health.Unhealthy
			}
			if r := h.Report(t.Context()); r.Status != want || r.RequestCount != 1000 {
				t.Errorf("%s after %d requests, want %s", r.Status, r.RequestCount, want)
			}
		})
	}
}
