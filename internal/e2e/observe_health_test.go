package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"example.com/gatehouse/internal/geminitest"
)

// A healthReport is what operators see of GET /health.
type healthReport struct {
	Status       string `json:"status"`
	Agent        struct{ Name string }
	ErrorRate    *float64          `json:"error_rate"`
	RequestCount *int              `json:"request_count"`
	ErrorCount   *int              `json:"error_count"`
	Breakers     map[string]string `json:"breakers"`
	Dependencies map[string]struct {
		Status    string    `json:"status"`
		LatencyMS *int      `json:"latency_ms"`
		CheckedAt time.Time `json:"checked_at"`
	} `json:"dependencies"`
}

// The function "health" reports on "invoke", which is another process, and no caller
// can make it look worse than it is.
func TestHealthOfTheWholeService(t *testing.T) {
	t.Parallel()
	emulatorHost(t)
	const mistake, wellDone, ourFault = "mistake", "well done", "our fault"
	tests := []struct {
		name     string
		env      []string
		requests map[string]int
		away     bool // the model answers 503
		status   string
		code     int
		rate     float64
		breaker  string
	}{
		{name: "all well", requests: map[string]int{wellDone: 12}, status: "healthy", code: 200, breaker: "closed"},
		{name: "callers' mistakes alone", requests: map[string]int{mistake: 40}, status: "healthy", code: 200, breaker: "closed"},
		{name: "mistakes among others", requests: map[string]int{mistake: 40, wellDone: 10}, status: "healthy", code: 200, breaker: "closed"},
		{name: "5 % of errors", requests: map[string]int{wellDone: 19, ourFault: 1}, status: "healthy", code: 200, rate: 0.05, breaker: "closed"},
		{name: "10 % of errors", requests: map[string]int{wellDone: 18, ourFault: 2}, status: "degraded", code: 200, rate: 0.1, breaker: "closed"},
		{name: "50 % of errors", requests: map[string]int{wellDone: 6, ourFault: 6}, status: "degraded", code: 200, rate: 0.5, breaker: "closed"},
		{name: "more than 50 % of errors", requests: map[string]int{wellDone: 5, ourFault: 7}, status: "unhealthy", code: 503, rate: 7. / 12, breaker: "closed"},
		{name: "errors that mistakes do not hide", requests: map[string]int{mistake: 60, ourFault: 10}, status: "unhealthy", code: 503, rate: 1, breaker: "closed"},
		{name: "few requests, all errors", requests: map[string]int{ourFault: 9}, status: "healthy", code: 200, rate: 1, breaker: "closed"},
		{name: "a breaker that is open", env: []string{"BREAKER_FAILURES=1"}, away: true, requests: map[string]int{ourFault: 1}, status: "degraded", code: 200, rate: 1, breaker: "open"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			env, gemini := deployment(t)
			gemini.Handle(func(r geminitest.Request) geminitest.Reply {
				switch {
				case r.Prompt() != ourFault:
					return geminitest.Text("Well.")
				case test.away:
					return geminitest.Error(http.StatusServiceUnavailable, "away")
				}
				return geminitest.Error(http.StatusBadRequest, "no")
			})
			invoke := startDeployed(t, "invoke", append(env, test.env...)...)
			health := startDeployed(t, "health", env...)
			ann := []string{"Authorization", bearer(t, "ann", nil)}
			mistakes := []func() answer{
				func() answer { return invoke.do(t, http.MethodPost, "/", map[string]any{"query": "hello"}) },
				func() answer { return invoke.do(t, http.MethodPost, "/", "nonsense", ann...) },
				func() answer { return invoke.do(t, http.MethodPost, "/", map[string]any{"query": ""}, ann...) },
				func() answer { return invoke.do(t, http.MethodGet, "/sessions/"+unknownSession, nil, ann...) },
				func() answer { return invoke.do(t, http.MethodGet, "/nothing", nil, ann...) },
			}
			total := 0
			for kind, n := range test.requests {
				total += n
				for i := range n {
					if kind == mistake {
						if a := mistakes[i%len(mistakes)](); a.Status < 400 || a.Status > 499 {
							t.Fatalf("a mistake: status %d: %s", a.Status, a.Body)
						}
						continue
					}
					a := invoke.do(t, http.MethodPost, "/", map[string]any{"query": kind}, ann...)
					if failed := a.Status >= 500; failed != (kind == ourFault) {
						t.Fatalf("%s: status %d: %s", kind, a.Status, a.Body)
					}
				}
			}
			for range 20 { // counted nowhere
				invoke.do(t, http.MethodGet, "/health/ready", nil)
			}
			if code := invoke.end(t, syscall.SIGTERM); code != 0 { // and so its figures are written now
				t.Errorf("exit code %d", code)
			}

			a := health.do(t, http.MethodGet, "/", nil, ann...)
			if a.Status != test.code {
				t.Errorf("status %d, want %d: %s", a.Status, test.code, a.Body)
			}
			e := wantEnvelope(t, a)
			var got healthReport
			if err := json.Unmarshal(e.Data, &got); err != nil {
				t.Fatal(err)
			}
			if got.Agent.Name != "fruit-stand" { // which only invoke's figures name
				t.Errorf("the agent is %q", got.Agent.Name)
			}
			errors := test.requests[ourFault]
			if got.Status != test.status || got.ErrorRate == nil || *got.ErrorRate != test.rate || *got.RequestCount != total || *got.ErrorCount != errors {
				t.Errorf("want %s, rate %v, %d errors of %d: %s", test.status, test.rate, errors, total, a.Body)
			}
			if got.Breakers["gemini-3.5-flash-lite"] != test.breaker {
				t.Errorf("breakers: %v, want %s", got.Breakers, test.breaker)
			}
			for _, name := range []string{"session_store", "model"} {
				if d := got.Dependencies[name]; d.Status != "healthy" || d.LatencyMS == nil || time.Since(d.CheckedAt) > limit {
					t.Errorf("%s: %+v", name, d)
				}
			}
			anybody := health.do(t, http.MethodGet, "/health", nil)
			if data := string(wantEnvelope(t, anybody).Data); data != fmt.Sprintf(`{"status":%q}`, test.status) || anybody.Status != test.code {
				t.Errorf("anybody sees status %d: %s", anybody.Status, data)
			}
		})
	}
}

// A storm of pings costs one probe of each dependency.
func TestPingStorm(t *testing.T) {
	t.Parallel()
	env, gemini := deployment(t)
	health := startDeployed(t, "health", env...)
	ctx := bounded(t)
	begin := time.Now()
	const pings, workers = 1000, 40
	var group sync.WaitGroup
	var left atomic.Int64
	left.Store(pings)
	for range workers {
		group.Go(func() {
			for left.Add(-1) >= 0 {
				a, err := health.try(ctx, http.MethodGet, "/health", nil)
				if err != nil || a.Status != http.StatusOK {
					t.Errorf("%v, status %d: %s", err, a.Status, a.Body)
					return
				}
			}
		})
	}
	group.Wait()
	took := time.Since(begin)
	probes := gemini.MetadataReads()
	t.Logf("%d pings in %v: %d probes", pings, took, probes)
	if most := 1 + int(took/(10*time.Second)); probes < 1 || probes > most {
		t.Errorf("%d probes of the model, want at most %d", probes, most)
	}
}
