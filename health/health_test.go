package health_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/health"
	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/figures"
	"example.com/gatehouse/internal/gcp/emulator"
	"example.com/gatehouse/internal/version"
)

func TestMain(m *testing.M) { os.Exit(emulator.Main(m)) }

// A service is what a test's Health reports on.
type service struct {
	dependencies []health.Dependency
	problem      error
	details      bool
	figures      func(context.Context) (figures.Sum, error)
	log          io.Writer        // nil: nobody reads it
	now          func() time.Time // nil: the time that it is
}

func (s *service) health() *health.Health {
	log, now := s.log, s.now
	if log == nil {
		log = io.Discard
	}
	if now == nil {
		now = time.Now
	}
	return health.New(health.Config{
		Service: "gatehouse", Revision: "gatehouse-00007", Environment: "production", Agent: func() string { return "cloud-agent" }, Model: "gemini-2.5-flash",
		Started: now(),
		Ready:   func(context.Context) (health.Service, error) { return s, s.problem },
		Details: func(context.Context) bool { return s.details },
		Log:     slog.New(slog.NewTextHandler(log, nil)),
		Now:     now,
	})
}

func (s *service) Dependencies() []health.Dependency { return s.dependencies }
func (s *service) Warnings(context.Context) []string { return nil }
func (s *service) Degraded() bool                    { return false }

func (s *service) Figures(ctx context.Context) (*figures.Sum, error) {
	if s.figures == nil {
		return nil, nil
	}
	sum, err := s.figures(ctx)
	return &sum, err
}

func works(context.Context) error { return nil }

func fails(context.Context) error {
	return errors.New("rpc error: projects/secret-project at 10.0.0.7 says no")
}

// get asks a path as a client does.
func get(t testing.TB, h *health.Health, path string) *httptest.ResponseRecorder {
	t.Helper()
	routes := api.NewRoutes(append(h.ProbeRoutes(), h.Routes()...), func(r api.Route) api.Handler { return r.Handler })
	w := httptest.NewRecorder()
	routes.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	return w
}

type answer struct {
	Success bool           `json:"success"`
	Message string         `json:"message"`
	Error   *string        `json:"error"`
	Details []api.Detail   `json:"details"`
	Data    map[string]any `json:"data"`
}

func read(t testing.TB, w *httptest.ResponseRecorder) answer {
	t.Helper()
	var a answer
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
		t.Fatalf("%s: %v", w.Body, err)
	}
	return a
}

func TestWhatDependenciesMakeOfTheStatus(t *testing.T) {
	t.Parallel()
	dependency := func(name string, required bool, probe func(context.Context) error) health.Dependency {
		return health.Dependency{Name: name, Required: required, Probe: probe}
	}
	tests := []struct {
		name         string
		dependencies []health.Dependency
		status       string
		code         int
	}{
		{"none", nil, "healthy", 200},
		{"all work", []health.Dependency{dependency("a", true, works), dependency("b", false, works)}, "healthy", 200},
		{"an optional one fails", []health.Dependency{dependency("a", true, works), dependency("b", false, fails)}, "degraded", 200},
		{"all optional ones fail", []health.Dependency{dependency("a", false, fails), dependency("b", false, fails)}, "degraded", 200},
		{"a required one fails", []health.Dependency{dependency("a", true, fails), dependency("b", false, works)}, "unhealthy", 503},
		{"both fail, the required one first", []health.Dependency{dependency("a", true, fails), dependency("b", false, fails)}, "unhealthy", 503},
		{"both fail, the required one last", []health.Dependency{dependency("b", false, fails), dependency("a", true, fails)}, "unhealthy", 503},
	}
	for _, tt := range tests {
		for _, details := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, details %t", tt.name, details), func(t *testing.T) {
				t.Parallel()
				w := get(t, (&service{dependencies: tt.dependencies, details: details}).health(), "/health")
				a := read(t, w)
				if w.Code != tt.code || a.Data["status"] != tt.status || a.Success != (tt.code == 200) {
					t.Errorf("%d %s, want %d and %s", w.Code, w.Body, tt.code, tt.status)
				}
				if tt.code == 503 && (a.Error == nil || *a.Error != "unhealthy" || w.Header().Get("Retry-After") == "") {
					t.Errorf("%s, Retry-After %q", w.Body, w.Header().Get("Retry-After"))
				}
				if !details {
					if diff := cmp.Diff(a.Data, map[string]any{"status": tt.status}); diff != "" {
						t.Errorf("the public sees more than the status (-got +want):\n%s", diff)
					}
				}
				for _, upstream := range []string{"rpc", "secret-project", "10.0.0.7"} {
					if strings.Contains(w.Body.String(), upstream) {
						t.Errorf("the answer holds the upstream's words: %s", w.Body)
					}
				}
			})
		}
	}
}

func TestTheDetails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &service{details: true, dependencies: []health.Dependency{
			{Name: "session_store", Required: true, Probe: func(context.Context) error { time.Sleep(7 * time.Millisecond); return nil }},
			{Name: "model", Probe: fails},
		}}
		h := s.health()
		time.Sleep(90*time.Second + 900*time.Millisecond)
		a := read(t, get(t, h, "/health"))
		want := map[string]any{
			"status": "degraded", "service": "gatehouse", "version": version.Version, "revision": "gatehouse-00007", "environment": "production",
			"uptime_seconds": 90.0, "agent": map[string]any{"name": "cloud-agent", "model": "gemini-2.5-flash"},
			"dependencies": map[string]any{
				"session_store": map[string]any{"status": "healthy", "latency_ms": 7.0, "checked_at": "2000-01-01T00:01:30.9Z"},
				"model":         map[string]any{"status": "unhealthy", "latency_ms": 0.0, "checked_at": "2000-01-01T00:01:30.9Z", "error": "does not answer as it should"},
			},
		}
		if diff := cmp.Diff(a.Data, want); diff != "" {
			t.Errorf("(-got +want):\n%s", diff)
		}
	})
}

func TestTheProbes(t *testing.T) {
	t.Parallel()
	problem := &api.Error{Code: api.NotReady, Message: "Not set up.", Details: []api.Detail{{Field: "AUTH", Issue: "is not set as it must be"}}, Cause: errors.New("secret")}
	probed := func(context.Context) error { t.Error("the platform's probes ask a dependency"); return nil }
	tests := []struct {
		name    string
		problem error
		path    string
		code    int
		status  string
		error   string
	}{
		{"live", nil, "/health/live", 200, "live", ""},
		{"live, with a problem", problem, "/health/live", 200, "live", ""},
		{"ready", nil, "/health/ready", 200, "ready", ""},
		{"not ready", problem, "/health/ready", 503, "", "not_ready"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &service{problem: tt.problem, dependencies: []health.Dependency{{Name: "a", Required: true, Probe: probed}}}
			w := get(t, s.health(), tt.path)
			a := read(t, w)
			if w.Code != tt.code || strings.Contains(w.Body.String(), "secret") {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			if tt.error != "" {
				if a.Error == nil || *a.Error != tt.error || len(a.Details) != 1 || a.Details[0].Field != "AUTH" {
					t.Errorf("%s, want %s that names the variable", w.Body, tt.error)
				}
				return
			}
			if a.Data["status"] != tt.status {
				t.Errorf("%s, want %s", w.Body, tt.status)
			}
		})
	}
}

func TestAServiceThatIsNotReadyIsUnhealthy(t *testing.T) {
	t.Parallel()
	for _, details := range []bool{false, true} {
		s := &service{problem: errors.New("secret"), details: details}
		s.dependencies = []health.Dependency{{Name: "a", Probe: func(context.Context) error { t.Error("a dependency is asked"); return nil }}}
		w := get(t, s.health(), "/health")
		a := read(t, w)
		if w.Code != 503 || a.Error == nil || *a.Error != "unhealthy" || a.Data["status"] != "unhealthy" || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("details %t: %d %s", details, w.Code, w.Body)
		}
	}
}

func TestAProbeThatHangsIsCutOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		s := &service{details: true, dependencies: []health.Dependency{
			{Name: "hangs", Required: true, Probe: hang}, {Name: "hangs too", Required: true, Probe: hang}, {Name: "works", Probe: works},
		}}
		h := s.health()
		begin := time.Now()
		report := h.Report(t.Context())
		if took := time.Since(begin); took != 2*time.Second {
			t.Errorf("took %v, want 2s", took)
		}
		if got := report.Dependencies["hangs"]; got.Status != health.Unhealthy || got.Error != "did not answer in time" || got.LatencyMS != 2000 {
			t.Errorf("%+v", got)
		}
		if got := report.Dependencies["works"]; got.Status != health.Healthy || got.LatencyMS != 0 {
			t.Errorf("one that works waits for one that hangs: %+v", got)
		}
		// Known to hang: nobody waits for it again.
		begin = time.Now()
		h.Report(t.Context())
		if took := time.Since(begin); took != 0 {
			t.Errorf("the next one took %v", took)
		}
	})
}

// Also a probe that does not look at its context: what it asks may hang below it.
func TestAProbeThatIgnoresItsContextIsCutOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := &service{dependencies: []health.Dependency{
			{Name: "deaf", Required: true, Probe: func(context.Context) error { <-release; return nil }},
		}}
		h := s.health()
		done := make(chan health.Report, 1)
		go func() { done <- h.Report(t.Context()) }()
		select {
		case report := <-done:
			if report.Status != health.Unhealthy {
				t.Errorf("status %s", report.Status)
			}
		case <-time.After(3 * time.Second):
			t.Error("no report after 3s")
		}
		close(release)
		synctest.Wait()
	})
}

func TestProbesRunSideBySide(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := func(context.Context) error { time.Sleep(time.Second); return nil }
		s := &service{}
		for i := range 5 {
			s.dependencies = append(s.dependencies, health.Dependency{Name: fmt.Sprint(i), Required: true, Probe: slow})
		}
		begin := time.Now()
		if report := s.health().Report(t.Context()); report.Status != health.Healthy || time.Since(begin) != time.Second {
			t.Errorf("%s after %v, want healthy after 1s", report.Status, time.Since(begin))
		}
	})
}

func TestAResultIsKeptFor10Seconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		probes := 0
		broken := false
		s := &service{dependencies: []health.Dependency{{Name: "a", Required: true, Probe: func(context.Context) error {
			probes++
			if broken {
				return errors.New("no")
			}
			return nil
		}}}}
		h := s.health()
		steps := []struct {
			wait   time.Duration
			broken bool
			status string
			probes int
		}{
			{0, false, "healthy", 1},
			{0, true, "healthy", 1},
			{10*time.Second - time.Nanosecond, true, "healthy", 1},
			{time.Nanosecond, true, "unhealthy", 2},
			{time.Second, false, "unhealthy", 2}, // a failure is kept as well
			{9 * time.Second, false, "healthy", 3},
			{time.Hour, false, "healthy", 4},
		}
		for i, step := range steps {
			time.Sleep(step.wait)
			broken = step.broken
			if report := h.Report(t.Context()); report.Status != step.status || probes != step.probes {
				t.Errorf("step %d: %s after %d probes, want %s after %d", i, report.Status, probes, step.status, step.probes)
			}
		}
	})
}

func TestAStormOfPingsCostsOneProbe(t *testing.T) {
	t.Parallel()
	var probes atomic.Int64
	release := make(chan struct{})
	s := &service{dependencies: []health.Dependency{{Name: "a", Required: true, Probe: func(context.Context) error {
		probes.Add(1)
		<-release
		return nil
	}}}}
	h := s.health()
	var begun, ended sync.WaitGroup
	for range 1000 {
		begun.Add(1)
		ended.Go(func() {
			begun.Done()
			if report := h.Report(t.Context()); report.Status != health.Healthy {
				t.Errorf("status %s", report.Status)
			}
		})
	}
	begun.Wait()
	close(release)
	ended.Wait()
	if n := probes.Load(); n != 1 {
		t.Errorf("%d probes, want 1", n)
	}
}

// Others wait for the result: it must not fail with the request that asked first.
func TestAPingThatIsGivenUpSpoilsNoResult(t *testing.T) {
	t.Parallel()
	s := &service{dependencies: []health.Dependency{{Name: "a", Required: true, Probe: func(ctx context.Context) error { return ctx.Err() }}}}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if report := s.health().Report(ctx); report.Status != health.Healthy {
		t.Errorf("status %s", report.Status)
	}
}
